"""`python -m benchmarks …`: thin commands."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.data import SIZES, ensure_data
from benchmarks.peers import PEERS
from benchmarks.reference import ensure_reference
from benchmarks.report import write_report
from benchmarks.suite import Limits, run_suite

size_option = click.option("--size", type=click.Choice(sorted(SIZES)), default="tiny", show_default=True)
data_option = click.option(
    "--data", "folder", type=click.Path(path_type=Path), default=Path("benchmarks/data"), show_default=True
)


@click.group()
def main() -> None:
    """Benchmarks of bigsvd."""


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
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results"), show_default=True)
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--only", multiple=True, type=click.Choice([peer.name for peer in PEERS]), help="This peer only."
)
@click.option("--slow", default=60.0, show_default=True, help="Seconds from which a peer is not repeated.")
@click.option("--timeout", default=900.0, show_default=True, help="Seconds after which a peer is stopped.")
@click.option("--memory-limit", default=8.0, show_default=True, help="GB; what needs more is refused.")
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
) -> None:
    """Time, memory, passes and errors of bigsvd, Dask and scikit-learn on one stored matrix."""
    limits = Limits(repeat, slow, timeout, int(memory_limit * 1e9))
    results = run_suite(SIZES[size], folder, only, limits, lambda line: click.echo(line, err=True))
    chosen = "".join(f" --only {name}" for name in only)
    options = f"--repeat {repeat} --slow {slow:g} --timeout {timeout:g} --memory-limit {memory_limit:g}"
    results["command"] = f"python -m benchmarks peers --size {size} {options}{chosen} --data DATA --out OUT"
    _, table, _ = write_report(results, out, f"peers-{size}")
    click.echo(table.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
