"""`python -m benchmarks …`: thin commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks import accuracy as accuracy_suite
from benchmarks import cells as cells_suite
from benchmarks import climate as climate_suite
from benchmarks import cpu_gpu as cpu_gpu_suite
from benchmarks import faults as faults_suite
from benchmarks import floor as floor_suite
from benchmarks import left as left_suite
from benchmarks import memory as memory_suite
from benchmarks import memory_sweep as sweep_suite
from benchmarks import pca as pca_suite
from benchmarks import readers as readers_suite
from benchmarks import recommend as recommend_suite
from benchmarks import scaling as scaling_suite
from benchmarks import small as small_suite
from benchmarks.cells_data import SIZES as CELLS_SIZES
from benchmarks.climate_data import SIZES as CLIMATE_SIZES
from benchmarks.contenders import CONTENDERS
from benchmarks.cpu_gpu_runs import BY_NAME as CPU_GPU_ROWS
from benchmarks.data import SIZES, ensure_data
from benchmarks.families import FAMILIES, SHAPES, problems
from benchmarks.passes import Targets, run_passes
from benchmarks.pca_child import WHAT as PCA_CONTENDERS
from benchmarks.pca_data import SIZES as PCA_SIZES
from benchmarks.peers import PEERS, SEED
from benchmarks.recommend_data import SIZES as RECOMMEND_SIZES
from benchmarks.reference import ensure_reference
from benchmarks.report import regenerate, write_report
from benchmarks.service import service
from benchmarks.simulation import Cluster
from benchmarks.suite import Machine, run_suite

# Calls after the first of each shape, and calls in a row.
SMALL_CALLS = {"tiny": (1, 5), "small": (9, 200), "full": (25, 1_000)}
LEFT_CASES = {"tiny": 27, "small": 300, "full": 2_000}
TRUST_CASES = {"tiny": 20, "small": 500, "full": 20_000}
DISTILL_CASES = ("gaussian", "bumps", "mnist", "hapmap3", "sigma", "interval", "gaps", "speed")
size_option = click.option("--size", type=click.Choice(sorted(SIZES)), default="tiny", show_default=True)
data_option = click.option(
    "--data", "folder", type=click.Path(path_type=Path), default=Path("benchmarks/data"), show_default=True
)
out_option = click.option(
    "--out", type=click.Path(path_type=Path), default=Path("benchmarks/results"), show_default=True
)
timeout_option = click.option(
    "--timeout", default=900.0, show_default=True, help="Seconds after which a run is stopped."
)


@click.group()
def main() -> None:
    """Benchmarks of bigsvd."""


main.add_command(service)


@main.command()
@size_option
@data_option
def data(size: str, folder: Path) -> None:
    """Write a dataset and its float64 reference; what is there already is checked and kept."""
    dataset = SIZES[size]
    ensure_data(dataset, folder)
    reference = ensure_reference(dataset, folder)
    sigma = reference.raw.sigma
    shown = ", ".join(f"s{i} {sigma[i - 1]:.6g}" for i in (1, dataset.k, dataset.k + 1))
    click.echo(f"{dataset.stem}: {shown}")


@main.command()
@size_option
@data_option
@out_option
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--only", multiple=True, type=click.Choice([peer.name for peer in PEERS]), help="This peer only."
)
@click.option("--slow", default=60.0, show_default=True, help="Seconds from which a peer is not repeated.")
@timeout_option
@click.option("--memory-limit", default=8.0, show_default=True, help="GB; what needs more is refused.")
@click.option(
    "--scarce", type=float, help="GB that a process may hold, files in the page cache included; needs root."
)
def peers(
    *,
    size: str,
    folder: Path,
    out: Path,
    repeat: int,
    only: tuple[str, ...],
    slow: float,
    timeout: float,
    memory_limit: float,
    scarce: float | None,
) -> None:
    """Time, memory, passes and errors of bigsvd, Dask and scikit-learn on one stored matrix."""
    scarce_bytes = None if scarce is None else int(scarce * 1e9)
    limits = Machine(repeat, slow, timeout, int(memory_limit * 1e9), scarce_bytes)
    results = run_suite(SIZES[size], folder, only, limits, _tell)
    options = f"--repeat {repeat} --slow {slow:g} --timeout {timeout:g} --memory-limit {memory_limit:g}"
    options += f" --scarce {scarce:g}" if scarce is not None else ""
    mark = "" if scarce is None else f"_{scarce:g}GB"
    _publish(results, out, "peers", size, f"{options}{_chosen(only)} --data DATA", mark)


@main.command()
@size_option
@out_option
@click.option("--tol", default=1e-2, show_default=True, help="Worst relative residual to reach.")
@click.option("--excess", default=1e-3, show_default=True, help="Relative error above the best to reach.")
@click.option("--max-passes", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--only", multiple=True, type=click.Choice([row.name for row in FAMILIES]), help="This family only."
)
@click.option(
    "--method", "methods", multiple=True, type=click.Choice([row.name for row in CONTENDERS]),
    help="This method only.",
)  # fmt: skip
@click.option(
    "--hapmap", type=click.Path(path_type=Path), help="Zarr array of allele counts, -1 where missing."
)
@click.option("--counts", type=click.Path(path_type=Path), help="Zarr array of counts, cells × genes.")
def passes(
    *,
    size: str,
    out: Path,
    tol: float,
    excess: float,
    max_passes: int,
    only: tuple[str, ...],
    methods: tuple[str, ...],
    hapmap: Path | None,
    counts: Path | None,
) -> None:
    """Passes to a given accuracy by family of matrices: bigsvd and the methods of others."""
    chosen = problems(SHAPES[size], SEED, only, hapmap, counts)
    contenders = [row for row in CONTENDERS if not methods or row.name in methods]
    results = run_passes(chosen, contenders, Targets(tol, excess, max_passes), _tell)
    chosen_methods = "".join(f" --method {name}" for name in methods)
    given = "".join(f" --{name} PATH" for name, path in (("hapmap", hapmap), ("counts", counts)) if path)
    options = f"--tol {tol:g} --excess {excess:g} --max-passes {max_passes}"
    _publish(results, out, "passes", size, f"{options}{_chosen(only)}{chosen_methods}{given}")


@main.command()
@size_option
@data_option
@out_option
@timeout_option
@click.option("--only", multiple=True, type=click.Choice(memory_suite.NAMES), help="This shape of data only.")
def memory(*, size: str, folder: Path, out: Path, timeout: float, only: tuple[str, ...]) -> None:
    """Peak memory of `bigsvd svd` against the bound of its plan, by shape of the data and budget."""
    results = memory_suite.run_memory(memory_suite.SIZES[size], folder, only, timeout, _tell)
    _publish(results, out, "memory", size, f"--timeout {timeout:g}{_chosen(only)} --data DATA")


@main.command("memory-sweep")
@data_option
@out_option
@click.option("--count", type=click.IntRange(1), default=200, show_default=True, help="Random requests.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--timeout", default=120.0, show_default=True, help="Seconds after which a run is stopped.")
def memory_sweep(*, folder: Path, out: Path, count: int, seed: int, timeout: float) -> None:
    """Peak memory against the plan's bound for random requests of random matrices."""
    results = sweep_suite.run_sweep(count, seed, folder, timeout, _tell)
    options = f"--count {count} --seed {seed} --timeout {timeout:g} --data DATA"
    results["command"] = f"python -m benchmarks memory-sweep {options} --out OUT"
    _, table, _ = write_report(results, out, f"memory-sweep-{count}")
    click.echo(table.read_text(encoding="utf-8"))


@main.command()
@size_option
@data_option
@out_option
@click.option("--repeat", type=click.IntRange(1), default=5, show_default=True)
@click.option("--timeout", default=300.0, show_default=True, help="Seconds after which a reader is stopped.")
@click.option("--only", multiple=True, type=click.Choice(readers_suite.NAMES), help="This store only.")
def readers(
    *, size: str, folder: Path, out: Path, repeat: int, timeout: float, only: tuple[str, ...]
) -> None:
    """Time and memory of bigsvd's own reader of Zarr chunks beside zarrs and zarr, by layout and codec."""
    results = readers_suite.run_readers(readers_suite.SIZES[size], folder, only, repeat, timeout, _tell)
    _publish(
        results, out, "readers", size, f"--repeat {repeat} --timeout {timeout:g}{_chosen(only)} --data DATA"
    )


@main.command()
@size_option
@data_option
@out_option
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Rounds.")
@timeout_option
@click.option("--only", multiple=True, type=click.Choice(floor_suite.NAMES), help="This shape only.")
def floor(*, size: str, folder: Path, out: Path, repeat: int, timeout: float, only: tuple[str, ...]) -> None:
    """Passes and runs of bigsvd beside an idealised loop that reads and multiplies, by shape of the data."""
    results = floor_suite.run_floor(floor_suite.SIZES[size], folder, only, repeat, timeout, _tell)
    _publish(
        results, out, "floor", size, f"--repeat {repeat} --timeout {timeout:g}{_chosen(only)} --data DATA"
    )


@main.command()
@click.option("--size", type=click.Choice(list(PCA_SIZES)), default="tiny", show_default=True)
@data_option
@out_option
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Rounds.")
@click.option("--slow", default=120.0, show_default=True, help="Seconds from which a run is not repeated.")
@timeout_option
@click.option("--memory-limit", default=8.0, show_default=True, help="GB; what needs more is refused.")
@click.option("--memory", default="1GB", show_default=True, help="bigsvd's budget.")
@click.option("-k", "rank", type=click.IntRange(1), help="Components; those of the size by default.")
@click.option("--missing", default=0.0, show_default=True, help="Share of calls that failed, stored as -1.")
@click.option(
    "--stop", "stops", multiple=True, default=("residual",), show_default=True, help="bigsvd's test; several."
)
@click.option("--only", multiple=True, type=click.Choice(list(PCA_CONTENDERS)), help="This contender only.")
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True),
    help="Another checkout of bigsvd, run in turns.",
)
@click.option("--pcaone", type=click.Path(path_type=Path, exists=True), help="The program PCAone.")
def pca(
    *,
    size: str,
    folder: Path,
    out: Path,
    repeat: int,
    slow: float,
    timeout: float,
    memory_limit: float,
    memory: str,
    rank: int | None,
    missing: float,
    stops: tuple[str, ...],
    only: tuple[str, ...],
    against: Path | None,
    pcaone: Path | None,
) -> None:
    """PCA of simulated genotypes: bigsvd, scikit-learn, PCAone and another commit of bigsvd."""
    genotypes = PCA_SIZES[size]
    genotypes = replace(genotypes, k=rank or genotypes.k, missing=missing)
    limits = pca_suite.Limits(repeat, slow, timeout, int(memory_limit * 1e9), memory)
    others = pca_suite.Others(stops, against, pcaone)
    results = pca_suite.run_pca(genotypes, folder, only, others, limits, _tell)
    options = (
        f"--repeat {repeat} --slow {slow:g} --timeout {timeout:g} --memory-limit {memory_limit:g} "
        f"--memory {memory} -k {genotypes.k} --missing {missing:g}"
    )
    options += "".join(f" --stop {stop}" for stop in stops) + _chosen(only)
    options += "".join(f" --{name} PATH" for name, path in (("against", against), ("pcaone", pcaone)) if path)
    mark = (f"_k{rank}" if rank else "") + (f"_missing{missing:g}" if missing else "")
    _publish(results, out, "pca", size, f"{options} --data DATA", mark)


@main.command()
@size_option
@data_option
@out_option
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True)
@click.option("--cluster-workers", default=Cluster.workers, show_default=True, help="Simulated workers.")
@click.option("--network", default=25.0, show_default=True, help="Simulated: Gbit/s of one machine.")
@click.option(
    "--store-rate", default=1.0, show_default=True, help="Simulated: GB/s from the store, a machine."
)
@click.option(
    "--driver-memory", default=64.0, show_default=True, help="Simulated: GB of driver and scheduler."
)
@click.option("--scratch", default=100.0, show_default=True, help="Simulated: TB of scratch.")
@click.option("--pass-hours", default=24.0, show_default=True, help="Simulated: longest bearable pass.")
def scaling(
    *,
    size: str,
    folder: Path,
    out: Path,
    repeat: int,
    cluster_workers: int,
    network: float,
    store_rate: float,
    driver_memory: float,
    scratch: float,
    pass_hours: float,
) -> None:
    """Overhead of panels and lanes, planning, weak scaling, and a simulated petabyte on a cluster."""
    cluster = Cluster(
        workers=cluster_workers,
        network_bytes_per_second=network * 1e9 / 8,
        store_bytes_per_second=store_rate * 1e9,
        driver_bytes=driver_memory * 1e9,
        scratch_bytes=scratch * 1e12,
        pass_seconds=pass_hours * 3600,
    )
    results = scaling_suite.run_scaling(scaling_suite.SIZES[size], folder, repeat, cluster, _tell)
    options = (
        f"--repeat {repeat} --cluster-workers {cluster_workers} --network {network:g} "
        f"--store-rate {store_rate:g} --driver-memory {driver_memory:g} --scratch {scratch:g} "
        f"--pass-hours {pass_hours:g}"
    )
    _publish(results, out, "scaling", size, f"{options} --data DATA")


@main.command("cpu-gpu")
@size_option
@data_option
@out_option
@click.option("--repeat", type=click.IntRange(1), default=2, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(sorted(CPU_GPU_ROWS)), help="This row only.")
@click.option(
    "--matrix",
    "numbers",
    multiple=True,
    type=click.IntRange(1),
    help="This matrix only, by its number in the size.",
)
@click.option("--slow", default=20.0, show_default=True, help="Seconds from which a run is not repeated.")
@timeout_option
@click.option("--budget", type=float, help="Seconds for everything; what they do not suffice for says so.")
def cpu_gpu(
    *,
    size: str,
    folder: Path,
    out: Path,
    repeat: int,
    only: tuple[str, ...],
    numbers: tuple[int, ...],
    slow: float,
    timeout: float,
    budget: float | None,
) -> None:
    """The same request on CPU and GPU, peers on either, and each pass against measured ceilings."""
    limits = cpu_gpu_suite.Machine(repeat, slow, timeout, budget)
    measured = cpu_gpu_suite.SIZES[size]
    if any(number > len(measured.matrices) for number in numbers):
        raise click.BadParameter(f"size {size} has {len(measured.matrices)} matrices", param_hint="--matrix")
    if numbers:
        measured = replace(measured, matrices=tuple(measured.matrices[number - 1] for number in numbers))
    options = f"--repeat {repeat} --slow {slow:g} --timeout {timeout:g}"
    options += f" --budget {budget:g}" if budget is not None else ""
    options += "".join(f" --matrix {number}" for number in numbers)
    mark = "".join(f"_{number}" for number in numbers)
    table = out
    for results in cpu_gpu_suite.run_cpu_gpu(measured, folder, only, limits, _tell):
        table = _write(results, out, "cpu-gpu", size, f"{options}{_chosen(only)} --data DATA", mark)
    click.echo(table.read_text(encoding="utf-8"))


@main.command()
@click.option(
    "--size",
    type=click.Choice(sorted(TRUST_CASES)),
    default="tiny",
    show_default=True,
    help="How many cases.",
)
@out_option
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the first of the pieces, each of 250 cases.")
@click.option("--resume", is_flag=True, help="Go on from the cases whose results are in OUT.")
def trust(*, size: str, out: Path, processes: int, seed: int, resume: bool) -> None:
    """Random decompositions against exact statistics and LAPACK; exit 1 where anything claimed is wrong."""
    from benchmarks.trust import run_trust  # noqa: PLC0415 - hypothesis is in the test extra

    before = None
    if resume:
        before = json.loads((out / f"trust-{size}.json").read_text(encoding="utf-8"))
        if before["seed"] != seed:
            raise click.BadParameter(f"the results in OUT are of seed {before['seed']}", param_hint="--seed")
    wrong, table = 0, out
    for results in run_trust(TRUST_CASES[size], processes, seed, _tell, before):
        table = _write(results, out, "trust", size, f"--processes {processes} --seed {seed}")
        wrong = len(results["wrong"])
    click.echo(table.read_text(encoding="utf-8"))
    if wrong:
        raise SystemExit(1)


@main.command()
@click.option(
    "--size",
    type=click.Choice(sorted(LEFT_CASES)),
    default="tiny",
    show_default=True,
    help="How many random matrices.",
)
@out_option
@click.option("--seed", default=0, show_default=True)
def left(*, size: str, out: Path, seed: int) -> None:
    """What one read gives by left extraction, and whether `verify` contradicts it; exit 1 where it does."""
    results = left_suite.run_left(LEFT_CASES[size], seed, _tell)
    _publish(results, out, "left", size, f"--seed {seed}")
    if results["contradicted"]:
        raise SystemExit(1)


@main.command()
@click.option(
    "--size",
    type=click.Choice(sorted(SMALL_CALLS)),
    default="tiny",
    show_default=True,
    help="How many calls.",
)
@out_option
def small(*, size: str, out: Path) -> None:
    """Calls on matrices that fit many times over, beside NumPy, and what many of them leave behind."""
    results = small_suite.run_small(*SMALL_CALLS[size], _tell)
    _publish(results, out, "small", size, "")


@main.command()
@click.option(
    "--size",
    type=click.Choice(sorted(faults_suite.SIZES)),
    default="tiny",
    show_default=True,
    help="Of the data.",
)
@out_option
@click.option(
    "--kills", type=click.IntRange(1), default=6, show_default=True, help="Jobs, each with one death."
)
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
def faults(*, size: str, out: Path, kills: int, seed: int) -> None:
    """Jobs on a cluster whose processes are killed; exit 1 where one does not end with the same bits."""
    table, wrong = out, kills
    for results in faults_suite.run_faults(faults_suite.SIZES[size], kills, seed, _tell):
        table = _write(results, out, "faults", size, f"--kills {kills} --seed {seed}")
        wrong = kills - sum(row["same_bits"] for row in results["kills"])
    click.echo(table.read_text(encoding="utf-8"))
    if wrong:
        raise SystemExit(1)


@main.command("svd-accuracy")
@click.option(
    "--size",
    type=click.Choice(sorted(accuracy_suite.SIZES)),
    default="tiny",
    show_default=True,
    help="Of digits and network.",
)
@out_option
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
def svd_accuracy(*, size: str, out: Path, seeds: int) -> None:
    """Accuracy of a network trained on noisy pictures, and of the same on what an SVD leaves of them."""
    results = accuracy_suite.run_accuracy(accuracy_suite.SIZES[size], seeds, _tell)
    _publish(results, out, "svd-accuracy", size, f"--seeds {seeds}")


@main.command()
@click.option("--size", type=click.Choice(sorted(CLIMATE_SIZES)), default="tiny", show_default=True)
@data_option
@out_option
@click.option(
    "--python", type=click.Path(path_type=Path, exists=True), help="A Python that has xeofs and eofs."
)
@click.option("--memory", default="500MB", show_default=True, help="Budget of bigsvd.")
@click.option("--repeat", default=3, show_default=True, help="Rounds.")
@click.option("--slow", default=240.0, show_default=True, help="Seconds; a longer run is not repeated.")
@timeout_option
def climate(
    *,
    size: str,
    folder: Path,
    out: Path,
    python: Path | None,
    memory: str,
    repeat: int,
    slow: float,
    timeout: float,
) -> None:
    """Time, memory and singular values of EOFs of a field, beside xeofs and eofs."""
    beside = climate_suite.Beside(python, memory, repeat, slow, timeout)
    results = climate_suite.run_climate(CLIMATE_SIZES[size], folder, beside, _tell)
    given = " --python PYTHON" * (python is not None)
    limits = f"--memory {memory} --repeat {repeat} --slow {slow:g} --timeout {timeout:g}"
    options = f"{limits}{given} --data DATA"
    _publish(results, out, "climate", size, options)


@main.command()
@click.option("--size", type=click.Choice(sorted(CELLS_SIZES)), default="tiny", show_default=True)
@data_option
@out_option
@click.option("--scanpy", type=click.Path(path_type=Path, exists=True), help="A Python that has scanpy.")
@click.option("--store", type=click.Path(path_type=Path, exists=True), help="Another AnnData store.")
@click.option("--memory", default="500MB", show_default=True, help="Budget of bigsvd.")
@timeout_option
def cells(
    *,
    size: str,
    folder: Path,
    out: Path,
    scanpy: Path | None,
    store: Path | None,
    memory: str,
    timeout: float,
) -> None:
    """Time, memory and variances of components of single cells, beside scanpy's."""
    beside = cells_suite.Beside(scanpy, store, memory, timeout)
    results = cells_suite.run_cells(CELLS_SIZES[size], folder, beside, _tell)
    given = " --scanpy PYTHON" * (scanpy is not None) + " --store STORE" * (store is not None)
    _publish(results, out, "cells", size, f"--memory {memory} --timeout {timeout:g}{given} --data DATA")


@main.command()
@click.option("--size", type=click.Choice(list(RECOMMEND_SIZES)), default="tiny", show_default=True)
@data_option
@out_option
@click.option(
    "--ratings",
    type=click.Path(path_type=Path, exists=True),
    help="Table of ratings to evaluate on, such as ml-100k.inter; else the made ones.",
)
@click.option("--memory", default="500MB", show_default=True, help="Budget of the best items.")
@click.option("--factors-memory", default="1.5GB", show_default=True, help="Budget of the SVD.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Of what is hidden.")
@timeout_option
def recommend(
    *,
    size: str,
    folder: Path,
    out: Path,
    ratings: Path | None,
    memory: str,
    factors_memory: str,
    seeds: int,
    timeout: float,
) -> None:
    """Time and memory of all users' best items, and PureSVD beside TopPopular and EASE."""
    limits = recommend_suite.Limits(ratings, memory, factors_memory, seeds, timeout)
    results = recommend_suite.run_recommend(RECOMMEND_SIZES[size], folder, limits, _tell)
    given = " --ratings PATH" * (ratings is not None)
    budgets = f"--memory {memory} --factors-memory {factors_memory}"
    options = f"{budgets} --seeds {seeds} --timeout {timeout:g}{given} --data DATA"
    _publish(results, out, "recommend", size, options)


@main.command()
@click.argument("case", type=click.Choice(DISTILL_CASES))
@click.option("--size", type=click.Choice(["tiny", "full"]), default="tiny", show_default=True)
@data_option
@out_option
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Of all but speed.")
@click.option("--hapmap", type=click.Path(path_type=Path, exists=True), help="Zarr group of HapMap3.")
def distill(*, case: str, size: str, folder: Path, out: Path, seeds: int, hapmap: Path | None) -> None:
    """What a student predicts of new rows with gaps, beside its rivals; `speed`: of a large matrix."""
    from benchmarks import distill as suite  # noqa: PLC0415 - its data and rivals are in the test extra
    from benchmarks import distill_speed  # noqa: PLC0415 - the same

    if case == "speed":
        results = distill_speed.run_speed(distill_speed.SIZES[size], folder, _tell)
        options = "--data DATA"
    else:
        measured = replace(suite.SIZES[size], hapmap=hapmap)
        results = suite.run_distill(suite.CASES[case], measured, seeds, _tell)
        options = f"--seeds {seeds}" + (" --hapmap PATH" if hapmap else "")
    results["command"] = f"python -m benchmarks distill {case} --size {size} {options} --out OUT"
    _, table, _ = write_report(results, out, f"distill-{case}")
    click.echo(table.read_text(encoding="utf-8"))


@main.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def report(results: tuple[Path, ...]) -> None:
    """Make the table and the plot beside each RESULTS file (SUITE-SIZE.json) again."""
    for path in results:
        for made in regenerate(path):
            click.echo(made)


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _chosen(only: Sequence[str]) -> str:
    return "".join(f" --only {name}" for name in only)


def _publish(results: dict[str, Any], out: Path, suite: str, size: str, options: str, mark: str = "") -> None:
    """Write the report and print its table."""
    click.echo(_write(results, out, suite, size, options, mark).read_text(encoding="utf-8"))


def _write(results: dict[str, Any], out: Path, suite: str, size: str, options: str, mark: str = "") -> Path:
    """Write the report, with the command that makes it again; the path of its table.

    `mark` tells its files from those of another run of that size; it has no hyphen, behind which size begins.
    """
    results["command"] = " ".join(
        ["python -m benchmarks", suite, "--size", size, *options.split(), "--out OUT"]
    )
    _, table, _ = write_report(results, out, f"{suite}-{size}{mark}")
    return table


if __name__ == "__main__":
    main()
