"""`trust`: many random decompositions, each held against exact statistics and LAPACK.

Cases are drawn by hypothesis, so that corners come up often: one row, one column, chunks of one row, all
missing, constant, flat, means of 1e9, tiles.
"""

from __future__ import annotations

import gc
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from benchmarks.machine import provenance
from benchmarks.trust_case import DTYPES, METHODS, SPECTRA, STORES, Case, findings

_LONG, _SHORT = 260, 160
_MOST_CHUNKS = 4
_PIECE = 250
_PIECES_A_PROCESS = 4
_METHODS = (*METHODS, "auto", "krylov", "krylov", "gram", "gram")  # Dask's own two are a fifth: they are slow
_FEATURES = (
    "dtype",
    "store",
    "spectrum",
    "level",
    "gappy",
    "missing",
    "method",
    "center",
    "scale",
    "ddof",
    "offset",
    "weights",
    "row_weights",
    "tiles",
    "verified",
)

_MISSING: st.SearchStrategy[Literal["none", "mean", "zero"]] = st.sampled_from(
    ("none", "mean", "mean", "zero")
)


_SCALES: st.SearchStrategy[bool | str] = st.sampled_from((False, False, True, "std-observed", "given"))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any case; tall and wide ones alike."""
    sides = (draw(st.integers(1, _LONG)), draw(st.integers(1, _SHORT)))
    m, n = sides if draw(st.booleans()) else sides[::-1]
    dtype = draw(st.sampled_from(DTYPES))
    sentinels = ("nan", "least", "greatest") if dtype.startswith("float") else ("least", "greatest")
    centering = draw(st.sampled_from(("", "center", "center", "offset")))
    scale = draw(_SCALES)
    weights = st.sampled_from(("", "", "positive", "zeros"))
    return Case(
        shape=(m, n),
        chunks=(_chunk(m, draw(st.integers(1, _MOST_CHUNKS))), _chunk(n, draw(st.integers(1, _MOST_CHUNKS)))),
        dtype=dtype,
        store=draw(st.sampled_from(STORES)),
        spectrum=draw(st.sampled_from(SPECTRA)),
        level=draw(st.sampled_from((0.0, 1.0, 1e3, 1e6, 1e9))),
        constant=draw(st.integers(0, 3)),
        gaps=draw(st.sampled_from((0.0, 0.01, 0.2, 0.9))),
        gappy=draw(st.sampled_from(("scattered", "top", "column"))),
        sentinel=draw(st.sampled_from(sentinels)),
        missing=draw(_MISSING),
        center=centering == "center",
        scale=scale,
        method=draw(st.sampled_from(_METHODS)),
        k=draw(st.integers(1, min(m, n, 12))),
        tol=draw(st.sampled_from((1e-2, 1e-2, 1e-4, 1e-8))),
        tiles=draw(st.integers(0, 4)) == 0,
        verified=draw(st.integers(0, 9)) == 0,
        seed=draw(st.integers(0, 2**32 - 1)),
        ddof=draw(st.integers(0, 1)) * (scale in (True, "std-observed")),
        offset=centering == "offset",
        weights=draw(weights),
        row_weights=draw(weights),
    )


def _chunk(length: int, count: int) -> int:
    """The length of so many chunks, the last of which may be shorter."""
    return -(-length // count)


def holds(case: Case) -> list[str]:
    """What of the case's outcome is not true."""
    with tempfile.TemporaryDirectory(prefix="bigsvd-trust-") as folder:
        try:
            return findings(case, Path(folder))
        except Exception:  # noqa: BLE001 - whatever it is; hypothesis would look whether it comes a second time
            return [f"ended with {traceback.format_exc()}"]


def _many(seed_and_count: tuple[int, int]) -> dict[str, Any]:
    """So many cases from one seed, in this process; none is left out for another's fault."""
    number, count = seed_and_count
    counted: Counter[str] = Counter()
    wrong: list[dict[str, Any]] = []
    with threadpool_limits(1):
        gc.freeze()  # what the libraries have made by now is not looked through again in each collection

        def body(case: Case) -> None:
            counted.update(f"{name}: {getattr(case, name)}" for name in _FEATURES)
            counted.update(["cases"])
            found = holds(case)
            if found:
                wrong.append({"case": asdict(case), "findings": found})

        _drawn(body, number, count)()
    return {"counted": dict(counted), "wrong": wrong}


def _drawn(body: Callable[[Case], None], number: int, count: int) -> Callable[[], None]:
    chosen = settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    return seed(number)(chosen(given(cases())(body)))


def run_trust(
    count: int,
    processes: int,
    first_seed: int,
    tell: Callable[[str], None],
    before: dict[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """`count` cases over some processes, in pieces with a seed each; the results after each piece.

    Where `before`, the results of a run that was stopped, are given, its pieces are not made again; `commits`
    says how many cases were tried with each commit.
    """
    measured_with = provenance()
    commit = str(measured_with["git"]["commit"])
    before = before or {"cases": 0, "counted": {}, "wrong": [], "commits": {}}
    counted = Counter({"cases": before["cases"], **before["counted"]})
    wrong: list[dict[str, Any]] = [*before["wrong"]]
    commits = Counter(before["commits"])
    done = before["cases"] // _PIECE
    sizes = [min(_PIECE, count - start) for start in range(done * _PIECE, count, _PIECE)]
    # Not concurrent.futures: its pool waits forever when all processes have made their most tasks at a time.
    with get_context("spawn").Pool(processes, maxtasksperchild=_PIECES_A_PROCESS) as pool:
        for outcome in pool.imap(_many, enumerate(sizes, first_seed + done)):
            counted.update(outcome["counted"])
            commits[commit] += outcome["counted"]["cases"]
            wrong += outcome["wrong"]
            cases = counted["cases"]
            tell(f"{cases:,} cases, {len(wrong)} wrong")
            kinds = {name: counted[name] for name in sorted(counted) if name != "cases"}
            yield measured_with | {
                "cases": cases,
                "seed": first_seed,
                "counted": kinds,
                "wrong": wrong,
                "commits": dict(commits),
            }
