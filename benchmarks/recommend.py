"""`recommend`: the best items of all users, in fresh processes with a budget; and how good they are.

Every answer of some users is held against the whole row of scores, sorted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import zarr

from benchmarks.cpu_gpu_child import in_process_of
from benchmarks.data import THREADS
from benchmarks.machine import limited_to, provenance
from benchmarks.measure import blas_limited_to
from benchmarks.recommend_data import Made, ensure_ratings
from bigsvd.errors import MemoryBudgetError
from bigsvd.recommend import Recommender, evaluate, from_table
from bigsvd.sources.open import open_source

N = 10
KS = (2, 5, 10, 13, 20, 30, 50, 100)
MEASURES = ("precision", "recall", "ndcg")
_MANY = 10_000  # items, of which EASE does not fit the gigabyte that an evaluation has
_CHECKED = 50  # users whose answer is held against all scores


@dataclass(frozen=True)
class Limits:
    """What is named on the command line.

    Attributes:
        table: of ratings that are evaluated; None for the made ones.
        memory, factors_memory: budgets of the best items and of the SVD, as options.
        seeds: how many, of what is hidden.
        timeout_seconds: a stage that takes longer is stopped.

    """

    table: Path | None
    memory: str
    factors_memory: str
    seeds: int
    timeout_seconds: float


def run_recommend(made: Made, data: Path, limits: Limits, tell: Callable[[str], None]) -> dict[str, Any]:
    """The evaluation, and then the stages one after the other."""
    measured_with = provenance()
    store = ensure_ratings(made, data).absolute()
    with limited_to(THREADS), tempfile.TemporaryDirectory(dir=data, prefix="recommend-") as name:
        work = Path(name).absolute()
        evaluated = _evaluated(_table(limits.table, store, work), limits.seeds, made.k, tell)
        stages = _stages(made, store, work, limits, tell)
    return {
        **measured_with,
        "parameters": {
            **asdict(made),
            "ratings": int(zarr.open_array(store / "data", mode="r").size),
            "n": N,
            "cpus": THREADS,
            "seeds": limits.seeds,
            "table": limits.table.stem if limits.table else "",
        },
        "stages": stages,
        "refused": _refusal(store),
        "evaluation": evaluated,
    }


def _table(table: Path | None, store: Path, work: Path) -> str:
    return str(store) if table is None else from_table(table, work / "table.zarr")


def _evaluated(ratings: str, seeds: int, least: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Means over the seeds, by what recommended, and each seed's nDCG."""
    shape = open_source(ratings).facts.shape
    ks = [k for k in KS if k <= max(least, min(shape) // 10)]
    runs = [evaluate(ratings, ks, seed=seed, n=N) for seed in range(seeds)]
    tell(runs[-1].text)
    rows = {
        name: {measure: mean(getattr(run.rows[name], measure) for run in runs) for measure in MEASURES}
        | {"all_ndcg": [run.rows[name].ndcg for run in runs]}
        for name in runs[0].rows
    }
    return {"shape": shape, "users": runs[0].users, "hidden": runs[0].hidden, "rows": rows}


def _stages(
    made: Made, store: Path, work: Path, limits: Limits, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    factors, top = str(work / "factors"), str(work / "top")
    jobs: Sequence[tuple[str, dict[str, Any]]] = (
        ("factors", {"ratings": str(store), "k": made.k, "out": factors, "memory": limits.factors_memory}),
        ("top", {"store": factors, "n": N, "out": top, "memory": limits.memory}),
    )
    rows = []
    for stage, job in jobs:
        with tempfile.TemporaryDirectory(prefix="recommend-") as folder:
            status, found = in_process_of(
                "benchmarks.recommend_child", "run", Path(folder), limits.timeout_seconds,
                blas_limited_to(THREADS), {"stage": stage, **job},
            )  # fmt: skip
        rows.append({"stage": stage, "status": status, "memory": job["memory"], **found})
        tell(f"{stage}: {status}, {found.get('seconds', 0):.1f} s")
    rows[-1]["wrong"] = _wrong(factors, top) if rows[-1]["status"] == "done" else None
    return rows


def _wrong(factors: str, top: str) -> int:
    """Of some users, how many have an answer whose scores are not the best of all their scores."""
    by, found = Recommender(factors), zarr.open_group(top, mode="r")
    users = np.linspace(0, by.factors.shape[0] - 1, _CHECKED).astype(int)
    answers = np.asarray(found["scores"])
    return sum(not _is_best(by, user, answers[user]) for user in map(int, users))


def _is_best(by: Recommender, user: int, answer: np.ndarray) -> bool:
    row = slice(user, user + 1)
    scores = (by.user_factors(row) @ by.item_factors.T)[0]
    scores[by.seen.entries(row).nonzero()[1]] = -np.inf
    return bool(np.allclose(answer, np.sort(scores)[::-1][:N], atol=1e-5 * np.abs(answer).max()))


def _refusal(store: Path) -> str:
    """What EASE says of all items of the made ratings; empty where it fits."""
    if open_source(str(store)).facts.shape[1] < _MANY:
        return ""
    try:
        evaluate(str(store), [1], n=N)
    except MemoryBudgetError as error:
        return str(error)
    return ""
