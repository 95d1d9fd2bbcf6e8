"""`distill`: what a student predicts of new rows with gaps, beside its rivals, by kind of data.

Each case makes its data anew for every seed, decomposes the training rows, learns, takes entries of the new
rows away, and lets every way of filling see the same rest. A case has bars: what the project promised.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.distill_bars import (
    Bar,
    at_least,
    at_most,
    holds,
    picked,
    ratios,
    settings,
    values,
    within,
    worst_at_least,
    worst_at_most,
)
from benchmarks.distill_data import (
    Clouds,
    Gaps,
    Hole,
    Problem,
    Scattered,
    digits,
    genotypes,
    linear_gaussian,
    ostia,
    scaled,
    scaled_gaussian,
    sea_surface,
    travelling_bumps,
    waves,
)
from benchmarks.distill_lab import PUBLISHED, Lab, recovered
from benchmarks.distill_ways import DINEOF, OPTIMAL, stages_alone, ways, with_dineof
from benchmarks.machine import provenance
from benchmarks.pictures import mnist
from bigsvd.distill.baselines import Baseline

Row = dict[str, Any]
ALL = ("ridge", "mixture", "network")
CLOSED = ("ridge", "mixture")  # forms, which need no network


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        rows, new: of data that are made. stages: that are learnt. epochs: of the network; its own by default.
        hapmap: Zarr group of HapMap3, where it is to be had.

    """

    rows: int
    new: int
    stages: tuple[str, ...]
    epochs: int | None = None
    hapmap: Path | None = None


SIZES = {
    "tiny": Size(400, 60, ("ridge", "mixture")),
    "full": Size(4_000, 500, ALL),
}


@dataclass(frozen=True)
class Case:
    """One kind of data.

    Attributes:
        title: of the report. problems: of one seed; those of a tuple have the same training rows, and one
            student. gaps: of each problem. shown: the measure in the plot. ways: of filling.
        bars: what the rows are to show. notes: what a reader has to know. stages: that are learnt, of those
            of the size.

    """

    title: str
    problems: Callable[[Size, int], Iterator[tuple[Problem, ...]]]
    gaps: tuple[Gaps, ...]
    shown: str
    bars: Callable[[Sequence[Row]], Iterator[Bar]]
    notes: tuple[str, ...]
    ways: Callable[[Lab], list[Baseline]] = ways
    stages: tuple[str, ...] = ALL


def run_distill(case: Case, size: Size, seeds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Every problem of every seed, with all its gaps."""
    measured_with = provenance()
    rows: list[Row] = []
    for seed in range(seeds):
        for problems in case.problems(size, seed):
            for found in run_problems(case, problems, size, seed):
                rows += found
                tell(f"seed {seed}, {found[0]['problem']}, {found[0]['setting']}: {_summary(found)}")
    return {
        **measured_with,
        "parameters": {"seeds": seeds, "rows": size.rows, "new": size.new, "stages": size.stages},
        "title": case.title,
        "shown": case.shown,
        "rows": rows,
        "bars": [bar.to_dict() for bar in case.bars(rows)],
        "notes": [*case.notes, *_said(rows)],
    }


def _summary(rows: Sequence[Row]) -> str:
    return ", ".join(f"{row['method']} {row['rmse']:.4f}" for row in rows)


def _said(rows: Sequence[Row]) -> Iterator[str]:
    """What the gate said, a sentence for each problem and setting, of the first seed."""
    for row in rows:
        if row["method"] == PUBLISHED and row["seed"] == 0:
            said = " ".join(part for part in (row["said"], row["outside"]) if part)
            yield f"The gate, {row['problem']}, {row['setting']}, seed 0: {said}"


def run_problems(case: Case, problems: Sequence[Problem], size: Size, seed: int) -> Iterator[list[Row]]:
    """The rows of each problem and each kind of gaps; one student learns for all."""
    stages = tuple(name for name in size.stages if name in case.stages)
    options: dict[str, Any] = {"stages": stages}
    if size.epochs is not None and "network" in stages:
        options["epochs"] = size.epochs
    with tempfile.TemporaryDirectory(prefix="bigsvd-benchmark-") as folder:
        learnt = Lab.of(problems[0], Path(folder), seed, **options)
        for problem in problems:
            lab = replace(learnt, problem=problem)
            for gaps in case.gaps:
                seen = lab.seen(gaps)
                rows = lab.tried(seen, case.ways(lab), gaps.name)
                rows.append(_with_its_stage(lab.published(seen, gaps.name), rows))
                yield list(recovered(rows))


def _with_its_stage(published: Row, rows: Sequence[Row]) -> Row:
    """What is published, and the seconds of its stage alone; of one that was not tried, of the whole call."""
    alone = [row["seconds"] for row in rows if row["method"] == published["stage"]]
    return published | {"stage_seconds": alone[0] if alone else published["seconds"]}


def _gaussian(size: Size, seed: int) -> Iterator[tuple[Problem, ...]]:
    for spread in (0.0, 1.0):
        yield (linear_gaussian(seed, spread, size.rows, size.new),)


def _gaussian_bars(rows: Sequence[Row]) -> Iterator[Bar]:
    for problem, setting in settings(rows):
        where = f"{problem}, {setting}"
        yield at_most(f"map ÷ optimal, {where}", ratios(rows, problem, setting, ("map", OPTIMAL)), 1.01)
        if problem.endswith("unequal"):
            worse = ratios(rows, problem, setting, ("ridge, equal noise", "ridge"), "coordinate_error")
            yield at_least(f"equal noise assumed ÷ ridge, coordinates, {where}", worse, 1.05)
        published = picked(rows, problem, setting, PUBLISHED)
        helped = ["did not help" in row["said"] or row["stage"] != "network" for row in published]
        yield holds(f"the gate: the network did not help, {where}", "every seed", helped)


def _bumps(size: Size, seed: int) -> Iterator[tuple[Problem, ...]]:
    yield (travelling_bumps(seed, size.rows, size.new),)


def _bumps_bars(rows: Sequence[Row]) -> Iterator[Bar]:
    for problem, setting in settings(rows):
        yield at_most(
            f"mixture ÷ ridge, {setting}", ratios(rows, problem, setting, ("mixture", "ridge")), 0.8
        )
        networks = values(rows, problem, setting, "network", "rmse")
        mixtures = values(rows, problem, setting, "mixture", "rmse")
        stages = [row["stage"] for row in picked(rows, problem, setting, PUBLISHED)]
        fine = [n <= m or stage != "network" for n, m, stage in zip(networks, mixtures, stages, strict=True)]
        yield holds(f"network ≤ mixture, or not published, {setting}", "every seed", fine)


def _mnist(size: Size, seed: int) -> Iterator[tuple[Problem, ...]]:
    del size  # there are 5,000 digits
    yield (digits(seed),)


def _mnist_bars(rows: Sequence[Row]) -> Iterator[Bar]:
    at = ("MNIST", Scattered(0.1).name)
    yield at_most("published, RMSE, 10 % seen", values(rows, *at, PUBLISHED, "rmse"), 0.179)
    yield at_most("network, RMSE, 10 % seen", values(rows, *at, "network", "rmse"), 0.177)


def _hapmap(size: Size, seed: int) -> Iterator[tuple[Problem, ...]]:
    if size.hapmap is None:
        raise FileNotFoundError("HapMap3 is not in the repository: give --hapmap PATH of its Zarr group")
    yield (genotypes(seed, size.hapmap),)


def _hapmap_bars(rows: Sequence[Row]) -> Iterator[Bar]:
    at = ("HapMap3", Scattered(0.1).name)
    yield at_most("mixture, coordinates, 10 % seen", values(rows, *at, "mixture", "coordinate_error"), 0.27)
    yield at_least("published, share recovered, 10 % seen", values(rows, *at, PUBLISHED, "recovered"), 0.9)


def _sigma(size: Size, seed: int) -> Iterator[tuple[Problem, ...]]:
    drawn = linear_gaussian(seed, 0.5, size.rows, size.new)
    tilt = np.geomspace(2, 0.5, len(drawn.truth.variances)) if drawn.truth else 1.0
    yield (
        replace(drawn, name="Gaussian ×1"),
        scaled_gaussian(drawn, 0.4, "Gaussian ×0.4", seed),
        scaled_gaussian(drawn, 2.5, "Gaussian ×2.5", seed),
        scaled_gaussian(drawn, tilt, "Gaussian, tilted ×2 … ×0.5", seed),
    )
    if mnist() is not None:
        pictures = digits(seed)
        yield (
            replace(pictures, name="MNIST ×1"),
            scaled(pictures, 2.5, "MNIST ×2.5"),
            scaled(pictures, 0.4, _OUTSIDE),
        )


def _sigma_bars(rows: Sequence[Row]) -> Iterator[Bar]:
    for problem, setting in settings(rows):
        if problem == _OUTSIDE:
            alarmed = [bool(row["outside"]) for row in picked(rows, problem, setting, PUBLISHED)]
            yield holds(f"the span alarm, {problem}", "every seed", alarmed)
            continue
        mean, worst = (values(rows, problem, setting, PUBLISHED, name) for name in ("s_mean", "s_worst"))
        yield at_most(f"σ, mean error, {problem}", mean, 0.03, "{:.1%}")
        yield worst_at_most(f"σ, worst of all seeds, {problem}", worst, 0.10)


def _interval(size: Size, seed: int) -> Iterator[tuple[Problem, ...]]:
    yield from _gaussian(size, seed)
    yield from _bumps(size, seed)
    if mnist() is not None:
        yield from _mnist(size, seed)
    if size.hapmap is not None:
        yield from _hapmap(size, seed)


def _interval_bars(rows: Sequence[Row]) -> Iterator[Bar]:
    for problem, setting in settings(rows):
        covered = values(rows, problem, setting, PUBLISHED, "coverage")
        yield within(f"published, {problem}, {setting}", covered, 0.87, 0.93)


def _gaps(size: Size, seed: int) -> Iterator[tuple[Problem, ...]]:
    yield (sea_surface(seed),)
    if find_spec("iris_sample_data") is not None:
        yield (ostia(seed),)
    yield (waves(seed, size.rows // 5, size.new),)


def _gaps_bars(rows: Sequence[Row]) -> Iterator[Bar]:
    for problem, setting in settings(rows):
        where = f"{problem}, {setting}"
        published = picked(rows, problem, setting, PUBLISHED)
        dineof = picked(rows, problem, setting, DINEOF)
        errors = [one["rmse"] / other["rmse"] for one, other in zip(published, dineof, strict=True)]
        yield at_most(f"published ÷ DINEOF, RMSE, {where}", errors, 1.0, "{:.3f}")
        faster = list(map(_times_as_fast, published, dineof))
        said = f"DINEOF ÷ the published stage, seconds, least of all seeds, {where}"
        yield worst_at_least(said, faster, 20.0, "{:.1f}")


def _times_as_fast(published: Row, dineof: Row) -> float:
    """Seconds of DINEOF by those that the chosen stage takes, what it learns from the new rows included."""
    return float(dineof["seconds"] / published["stage_seconds"])


_OUTSIDE = "MNIST ×0.4, the rest as it was"
_ONE = (
    "RMSE is of the entries that were taken away, in units of the data; recovered is the share of what lies "
    "between the column mean and the oracle, which projects the complete rows on the k components. Figures "
    "are mean ± standard deviation of the seeds; of σ, worst is the worst of all. Seconds are those of "
    "filling these rows, with what a way learns from them and without what it learnt from the teacher. "
    "“Published” is what `predict` writes, with the stage that its gate chose; its seconds are those of the "
    "whole call, judging and writing included."
)
CASES = {
    "gaussian": Case(
        "Linear-Gaussian rows: nothing beats the linear optimum",
        _gaussian, (Scattered(0.1), Scattered(0.3)), "rmse", _gaussian_bars, (_ONE,),
    ),
    "bumps": Case(
        "Travelling bumps: rows on a curved sheet",
        _bumps, (Scattered(0.05), Scattered(0.1)), "rmse", _bumps_bars, (_ONE,),
    ),
    "mnist": Case(
        "MNIST: 500 pictures of which some pixels are seen",
        _mnist, (*map(Scattered, (0.05, 0.1, 0.3, 0.5)), Hole(14)), "rmse", _mnist_bars, (_ONE,),
    ),
    "hapmap3": Case(
        "HapMap3: people of whom some SNPs are called",
        _hapmap, (*map(Scattered, (0.02, 0.1, 0.5)), Clouds(0.1, 25, "in runs of SNPs")), "coordinate_error",
        _hapmap_bars,
        (_ONE,),
    ),
    "sigma": Case(
        "Singular values of new rows that are spread otherwise than the teacher's, a tenth seen",
        _sigma, (Scattered(0.1),), "s_mean", _sigma_bars, (_ONE,), stages_alone, CLOSED,
    ),
    "interval": Case(
        "How many entries lie in their 90 % interval",
        _interval, (Scattered(0.1),), "coverage", _interval_bars, (_ONE,), stages_alone, CLOSED,
    ),
    "gaps": Case(
        "Fields of the sea below clouds, beside DINEOF",
        _gaps, (Clouds(0.5, 3), Clouds(0.2, 3)), "rmse", _gaps_bars, (_ONE,), with_dineof, CLOSED,
    ),
}  # fmt: skip
