"""What the processes of a run compute with: versions that must agree, kernels on which bits depend."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from bigsvd.errors import VersionsError, travels

_MUST_AGREE = ("bigsvd", "zarr", "numcodecs", "numpy")
_SHOULD_AGREE = ("python", "dask", "distributed")
_NONE = "none"

Versions = dict[str, str]
Kind = dict[str, Any]


def versions_asked() -> Callable[[], Versions]:
    """A function that tells the versions of a process, which may be a worker that has no bigsvd.

    It is a closure, which is sent whole; a function of a module is sent by its name.
    """
    packages, none = (*_MUST_AGREE, *_SHOULD_AGREE), _NONE

    def versions() -> Versions:
        found = {"python": ".".join(platform.python_version_tuple()[:2])}
        for package in packages:
            try:
                found.setdefault(package, version(package))
            except PackageNotFoundError:
                found[package] = none
        try:
            found[packages[0]] = import_module(packages[0]).__version__  # which may run from a folder
        except ImportError:
            found[packages[0]] = none
        return found

    return versions


def check_versions(here: Versions, there: Mapping[str, Versions]) -> None:
    """`VersionsError` where a worker, by its name, computes with other versions than this process."""
    for worker, versions in there.items():
        for package in _MUST_AGREE:
            if versions[package] != here[package]:
                raise VersionsError(
                    f"worker {worker} has {package} {versions[package]}, this process {here[package]}",
                    f"install {package}=={here[package]} there, or the worker's version here",
                )


@travels
def machine_here() -> dict[str, str]:
    """The processor of this process, which may be a worker's, what multiplies on it, and some versions."""
    return dict(_machine())


@cache
def _machine() -> dict[str, str]:
    versions = versions_asked()()
    return {"cpu": _cpu(), "blas": _blas(), **{name: versions[name] for name in _SHOULD_AGREE}}


def _cpu() -> str:
    """The model of this machine's processor, as far as it says so."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def _blas() -> str:
    """NumPy's BLAS, and the kernel that it has chosen for this processor."""
    loaded = [library for library in threadpool_info() if library["user_api"] == "blas"]
    own = [library for library in loaded if "numpy" in library["filepath"]] or loaded
    said = [
        [str(library.get(key, "")) for key in ("internal_api", "version", "architecture")] for library in own
    ]
    return ", ".join(sorted({" ".join(filter(None, words)) for words in said})) or "unknown"


def kinds_of(machines: Iterable[Mapping[str, str]]) -> list[Kind]:
    """Each kind of machine once, with the number of `processes` that are of it."""
    counted = Counter(tuple(sorted(machine.items())) for machine in machines)
    return [{**dict(kind), "processes": count} for kind, count in sorted(counted.items())]


def joined(before: Sequence[Kind], now: Sequence[Kind]) -> list[Kind]:
    """Kinds of which processes of a run were before, and are now."""
    known = [{**kind, "processes": 0} for kind in before]
    return [*before, *(kind for kind in now if {**kind, "processes": 0} not in known)]


def differences(before: Sequence[Kind], now: Sequence[Kind]) -> list[str]:
    """In what the processes of a run differ, or from those that it had before."""
    return [said for said in (_kernels_differ(before, now), *_libraries_differ(now)) if said]


def _kernels_differ(before: Sequence[Kind], now: Sequence[Kind]) -> str:
    """That results are right and yet not to the last bit those of a run on equal machines."""
    then, kernels = {str(kind["blas"]) for kind in before}, {str(kind["blas"]) for kind in now}
    last = "the last bits of results depend on that"
    if then and kernels - then:
        begun, goes_on = (" and ".join(sorted(names)) for names in (then, kernels))
        return f"the run was begun with {begun}, it goes on with {goes_on}: {last}"
    if len(kernels) > 1:
        return f"some processes multiply with {', others with '.join(sorted(kernels))}: {last}"
    return ""


def _libraries_differ(now: Sequence[Kind]) -> list[str]:
    """That processes have several versions of what need not be the same."""
    versions = {name: sorted({str(kind[name]) for kind in now}) for name in _SHOULD_AGREE}
    return [
        f"some processes have {name} {f', others {name} '.join(several)}"
        for name, several in versions.items()
        if len(several) > 1
    ]
