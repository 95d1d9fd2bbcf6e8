"""`python -m benchmarks service …`: the service under kills, load, time and malice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.report import write_report
from benchmarks.service_chunks import SIZES as CHUNKS
from benchmarks.service_chunks import run_chunks
from benchmarks.service_kills import run_kills
from benchmarks.service_load import SIZES as LOADS
from benchmarks.service_load import run_load
from benchmarks.service_soak import run_soak

out_option = click.option(
    "--out", type=click.Path(path_type=Path), default=Path("benchmarks/results"), show_default=True
)


@click.group()
def service() -> None:
    """The service: whether it keeps its word."""


@service.command()
@click.option("--jobs", type=click.IntRange(2), default=200, show_default=True)
@click.option(
    "--kills", type=click.IntRange(0), default=20, show_default=True, help="Of servers, by SIGKILL."
)
@click.option("--database", default="", help="URL of an empty PostgreSQL; else one is started, if installed.")
@click.option("--seed", default=1, show_default=True, help="Of the moments.")
@out_option
def kills(*, jobs: int, kills: int, database: str, seed: int, out: Path) -> None:
    """Servers killed over and over; exit 1 unless each acknowledged job is made and done exactly once."""
    results = run_kills(jobs, kills, database, seed, _tell)
    options = f"--jobs {jobs} --kills {kills} --seed {seed}" + (" --database URL" if database else "")
    publish(results, out, "kills", str(jobs), options)
    if results["right"] != jobs:
        raise SystemExit(1)


@service.command()
@click.option("--size", type=click.Choice(sorted(CHUNKS)), default="tiny", show_default=True)
@click.option("--seed", default=1, show_default=True, help="Of the matrix and of the chunks.")
@out_option
def chunks(*, size: str, seed: int, out: Path) -> None:
    """Results read by URL while readers are cut off, and what a chunk costs; exit 1 where one is wrong."""
    results = run_chunks(CHUNKS[size], seed, _tell)
    publish(results, out, "chunks", size, f"--size {size} --seed {seed}")
    if results["wrong"]:
        raise SystemExit(1)


@service.command()
@click.option("--size", type=click.Choice(sorted(LOADS)), default="tiny", show_default=True)
@out_option
def load(*, size: str, out: Path) -> None:
    """Many clients that create jobs beside readers of chunks; exit 1 where one key makes several jobs."""
    results = run_load(LOADS[size], _tell)
    publish(results, out, "load", size, f"--size {size}")
    if results["jobs_of_one_key"] != 1:
        raise SystemExit(1)


@service.command()
@click.option("--jobs", type=click.IntRange(1), default=500, show_default=True)
@click.option(
    "--workers", type=click.IntRange(0), default=0, show_default=True, help="Of a Dask cluster; 0 for none."
)
@out_option
def soak(*, jobs: int, workers: int, out: Path) -> None:
    """Hundreds of small jobs: what the server holds meanwhile; exit 1 where one is not done."""
    results = run_soak(jobs, workers, _tell)
    publish(results, out, "soak", f"{jobs}", f"--jobs {jobs} --workers {workers}")
    if results["states"] != {"done": jobs}:
        raise SystemExit(1)


@service.command()
@click.option("--cases", type=click.IntRange(1), default=10_000, show_default=True, help="Requests, about.")
@click.option("--seed", default=0, show_default=True, help="Of everything random.")
@out_option
def fuzz(*, cases: int, seed: int, out: Path) -> None:
    """Random requests by the OpenAPI document; exit 1 where an answer is not as that says."""
    from benchmarks.service_fuzzed import run_fuzz  # noqa: PLC0415 - schemathesis is in the test extra

    results = run_fuzz(cases, seed, _tell)
    publish(results, out, "fuzz", f"{cases}", f"--cases {cases} --seed {seed}")
    if results["failures"]:
        raise SystemExit(1)


def _tell(line: str) -> None:
    click.echo(line, err=True)


def publish(results: dict[str, Any], out: Path, name: str, size: str, options: str) -> None:
    """Write the report of a command, with what makes it again, and print its table."""
    results["command"] = f"python -m benchmarks service {name} {options} --out OUT"
    _, table, _ = write_report(results, out, f"service-{name}-{size}")
    click.echo(table.read_text(encoding="utf-8"))
