"""The house: imports go downwards only, every foreign library has its owners, `import bigsvd` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import bigsvd

ROOT = Path(bigsvd.__file__).parent

# From the bottom up. A room is a folder, or a module beside the folders. It imports only from rooms above it
# in this list. Inside a room modules import each other in no circle.
ROOMS = (
    "floats",
    "errors",
    "units",
    "orientation",
    "sentinels",
    "counters",
    "functions",
    "facts",
    "paths",
    "process",
    "vectors",
    "nodes",
    "catalog",
    "request",
    "described",
    "devices",
    "chunks",
    "scratch",
    "results",
    "planning",
    "report",
    "slabs",
    "events",
    "sources",
    "machine",
    "execution",
    "methods",
    "certify",
    "solve",
    "verify",
    "anndata",
    "fluids",
    "gaps",
    "projecting",
    "originals",
    "distill",
    "estimators",
    "climate",
    "recommend",
    "genetics",
    "jobs",
    "client",
    "service",
    "cli",
    "dask_command",
    "__main__",
    "__init__",
)
# The folders, and which of the others each imports.
FOLDERS: dict[str, frozenset[str]] = {
    "catalog": frozenset(),
    "chunks": frozenset(),
    "devices": frozenset(),
    "results": frozenset({"chunks", "devices"}),
    "report": frozenset({"results"}),
    "planning": frozenset({"catalog", "results"}),
    "slabs": frozenset({"devices", "results"}),
    "sources": frozenset({"chunks", "devices", "slabs"}),
    "machine": frozenset({"chunks", "devices", "planning", "slabs", "sources"}),
    "execution": frozenset({"chunks", "devices", "machine", "planning", "results", "slabs", "sources"}),
    "methods": frozenset({"catalog", "devices", "execution", "planning", "results", "slabs", "sources"}),
    "distill": frozenset({"chunks", "devices", "machine", "results", "sources"}),
    "estimators": frozenset({"distill", "results", "sources"}),
    "climate": frozenset({"report", "results"}),
    "recommend": frozenset({"chunks", "report", "results", "slabs", "sources"}),
    "genetics": frozenset({"chunks", "distill", "report", "results", "sources"}),
    "jobs": frozenset({"execution", "machine", "results", "sources"}),
    "client": frozenset({"catalog", "jobs", "planning", "results"}),
    "service": frozenset(
        {"catalog", "distill", "execution", "jobs", "machine", "planning", "results", "sources"}
    ),
    "cli": frozenset(
        {
            "catalog",
            "client",
            "distill",
            "execution",
            "jobs",
            "machine",
            "planning",
            "recommend",
            "report",
            "results",
            "service",
            "sources",
        }
    ),
}

OWNERS: dict[str, frozenset[str]] = {
    "cupy": frozenset({"devices.cuda"}),
    "zarr": frozenset(
        {
            "chunks.guard",
            "chunks.reader",
            "anndata",
            "genetics.labels",
            "sources.groups",
            "sources.names",
            "sources.local",
            "sources.sparse_group",
            "sources.zarr_dense",
            "sources.zarr_vector",
            "sources.zarr_packing",
            "sources.open",
            "sources.by_path",
            "sources.zipped",
            "sources.remote",
            "sources.urls",
            "results.export",
            "results.factors",
            "results.store",
            "results.virtual_store",
            "client.arrays",
            "client.result",
            "client.client",
            "cli.demo",
            "recommend.ratings",
            "recommend.recommender",
        }
    ),
    "numcodecs": frozenset({"chunks.reader"}),
    "dask": frozenset(
        {
            "climate.fields",
            "estimators.samples",
            "execution.dask_executor",
            "execution.threads",
            "methods.by_dask",
            "methods.tall_skinny",
            "methods.compressed",
            "methods.prepared",
            "results.reconstruct",
            "sources.graph",
        }
    ),
    "distributed": frozenset(
        {
            "execution.cluster",
            "jobs.launch",
            "execution.dask_executor",
            "execution.sent",
            "execution.tasks",
            "sources.graph",
            "sources.dask_array",
        }
    ),
    "click": frozenset(
        {
            "cli.distill",
            "cli.evaluation",
            "cli.serve",
            "cli.commands",
            "cli.jobs",
            "cli.options",
            "cli.place",
            "cli.recommend",
            "cli.spelling",
            "dask_command",
        }
    ),
    "fastapi": frozenset(
        {
            "service.routes.arrays",
            "service.http.base_url",
            "service.app",
            "service.http.auth",
            "service.http.bodies",
            "service.results.lookup",
            "service.http.dependencies",
            "service.http.array_bodies",
            "service.http.problems",
            "service.routes.events",
            "service.routes.jobs",
            "service.routes.links",
            "service.routes.operations",
            "service.routes.page",
            "service.routes.plans",
            "service.routes.regions",
            "service.routes.results",
            "service.routes.session",
            "service.routes.sources",
            "service.routes.verifications",
            "service.http.ranges",
        }
    ),
    "httpx": frozenset({"client.wire"}),
    "matplotlib": frozenset(
        {
            "distill.figures",
            "distill.plots",
            "report.dynamics",
            "report.gains",
            "report.genome",
            "report.modes",
            "report.plots",
            "report.scores",
        }
    ),
    "h5py": frozenset({"sources.hdf5"}),
    "bed_reader": frozenset({"sources.bed"}),
    "sklearn": frozenset({"estimators.base"}),
    "scipy": frozenset({"slabs.sparse"}),
    "sqlalchemy": frozenset(
        {
            "service.queue.admission",
            "service.store.database",
            "service.queue.index",
            "service.queue.leases",
            "service.queue.line",
            "service.store.tables",
            "service.store.tokens",
            "service.queue.wishes",
            "service.store.writer",
        }
    ),
    "prometheus_client": frozenset({"service.operations.metrics"}),
    "xarray": frozenset(
        {
            "climate.fields",
            "climate.forms",
            "climate.variable",
            "climate.eof",
            "climate.pictures",
        }
    ),
    "uvicorn": frozenset({"service.http.punctual", "service.server"}),
    "torch": frozenset({"devices.bfloat16", "distill.network", "distill.plain_network", "distill.training"}),
}
# The folders of the service, and its modules beside them, from the bottom up.
SERVICE = (
    "settings",
    "users",
    "logs",
    "roots",
    "store",
    "arrays",
    "queue",
    "verification",
    "service",
    "operations",
    "http",
    "results",
    "commands",
    "routes",
    "routers",
    "app",
    "server",
)
LAZY = (
    ("results.reconstruct", "dask"),
    ("devices.cuda", "cupy"),
    ("devices.bfloat16", "torch"),
    ("distill.network", "torch"),
    ("distill.training", "torch"),
    ("sources.graph", "dask"),
    ("sources.graph", "distributed"),
    ("sources.dask_array", "distributed"),
    ("sources.hdf5", "h5py"),
    ("sources.bed", "bed_reader"),
    ("slabs.sparse", "scipy"),
    ("climate.fields", "dask"),
    ("client.client", "zarr"),
    ("client.result", "zarr"),
)
READERS = ("zarr", "numcodecs", "distributed", "dask", "obstore")
HEAVY = (
    "bed_reader",
    "sklearn",
    "h5py",
    "scipy",
    "httpx",
    "dask",
    "distributed",
    "cupy",
    "torch",
    "matplotlib",
    "click",
    "sqlalchemy",
)


@dataclass(frozen=True)
class Import:
    """One import: who imports what, and whether already when it is itself imported."""

    importer: str
    name: str
    at_import: bool


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def named(node: ast.AST) -> list[str]:
    """What an import statement, or a call of `import_module` with a literal, names."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), names=names, level=0):
            return [f"{module}.{alias.name}" for alias in names]
        case ast.Call(
            func=ast.Attribute(attr="import_module") | ast.Name(id="import_module"),
            args=[ast.Constant(value=str(module)), *_],
        ):
            return [module]
    return []


def only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@cache
def imports_of(importer: str) -> list[Import]:
    """Every import in a module, those in functions and for the type checker included."""
    found: list[Import] = []

    def visit(node: ast.AST, *, at_import: bool) -> None:
        found.extend(Import(importer, name, at_import) for name in named(node))
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or only_for_types(node)
        for child in ast.iter_child_nodes(node):
            visit(child, at_import=at_import and not inside)

    visit(parsed(importer), at_import=True)
    return found


def own_module(name: str) -> str | None:
    """The module of the package that an imported name stands for or lies in; None for a foreign one."""
    package, *parts = name.split(".")
    if package != "bigsvd":
        return None
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts) or "__init__"


def room_of(module: str) -> str:
    """The folder that a module lies in; its own name where it lies beside the folders."""
    return module.partition(".")[0]


def own_imports(importer: str) -> set[str]:
    """The modules of the package that a module imports."""
    targets = (own_module(found.name) for found in imports_of(importer))
    return {target for target in targets if target is not None}


def test_the_tables_name_every_room_once() -> None:
    assert sorted(ROOMS) == sorted({room_of(module) for module in MODULES})
    assert sorted(FOLDERS) == sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))


@pytest.mark.parametrize("importer", sorted(MODULES))
def test_imports_go_downwards_only(importer: str) -> None:
    place, room = {name: place for place, name in enumerate(ROOMS)}, room_of(importer)
    upwards = [
        f"{importer} imports {target}"
        for target in own_imports(importer)
        if room_of(target) != room and place[room_of(target)] > place[room]
    ]
    assert upwards == []


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_a_folder_imports_those_of_the_table(folder: str) -> None:
    within = [module for module in MODULES if room_of(module) == folder]
    found = {room_of(target) for module in within for target in own_imports(module)}
    assert found & FOLDERS.keys() - {folder} == FOLDERS[folder]


def test_the_service_s_imports_go_downwards_only() -> None:
    within = {module: module.split(".")[1] for module in MODULES if module.startswith("service.")}
    assert sorted(set(within.values())) == sorted(SERVICE)
    upwards = [
        f"{importer} imports {target}"
        for importer, room in within.items()
        for target in own_imports(importer) & within.keys()
        if SERVICE.index(within[target]) > SERVICE.index(room)
    ]
    assert upwards == []


def test_imports_form_no_circle() -> None:
    TopologicalSorter({module: own_imports(module) for module in MODULES}).prepare()


@pytest.mark.parametrize("importer", sorted(MODULES))
def test_imports_are_absolute(importer: str) -> None:
    nodes = ast.walk(parsed(importer))
    assert [node.lineno for node in nodes if isinstance(node, ast.ImportFrom) and node.level] == []


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_each_library_is_imported_by_its_owners_only(library: str) -> None:
    importers = {
        importer
        for importer in MODULES
        if any(found.name.split(".")[0] == library for found in imports_of(importer))
    }
    assert importers == OWNERS[library]


@pytest.mark.parametrize(("importer", "library"), LAZY)
def test_lazily_imported(importer: str, library: str) -> None:
    at_import = [found.at_import for found in imports_of(importer) if found.name.split(".")[0] == library]
    assert at_import
    assert not any(at_import)


def test_importing_the_package_imports_no_heavy_library() -> None:
    script = f"import sys, bigsvd; print([name for name in {HEAVY!r} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_the_planner_imports_values_only() -> None:
    """Whoever plans on another machine than the data's needs neither its stores nor a cluster."""
    script = (
        f"import sys, bigsvd.planning.planner; print([name for name in {READERS!r} if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_public_names_are_those_listed_and_nothing_else() -> None:
    for name in bigsvd.__all__:
        assert getattr(bigsvd, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'pinv'"):
        bigsvd.pinv  # noqa: B018
