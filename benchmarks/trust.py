"""`trust`: many random decompositions, each held against exact statistics and LAPACK.

Cases are drawn by hypothesis, so that corners come up often: one row, one column, chunks of one row, all
missing, constant, flat, means of 1e9, tiles, samples along any axis, a few lines of many, packed entries,
functions of entries, sums of parts, numbers of alleles, columns that are missing throughout.
"""

from __future__ import annotations

import gc
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from benchmarks.machine import provenance
from benchmarks.trust_case import (
    ALLELES,
    DTYPES,
    METHODS,
    OF_ALL,
    OF_COUNTS,
    OF_TOTALS,
    SPECTRA,
    STORES,
    Case,
    findings,
)
from benchmarks.trust_layout import PACKINGS, SELECTIONS, VALID, Layout

_LONG, _SHORT = 260, 160
_SIDE = 14  # of an array with two axes of features
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
    "drops",
)
_LAYOUT_FEATURES = (
    "samples",
    "by_dim",
    "dim",
    "of_samples",
    "of_features",
    "packing",
    "filled",
    "valid",
    "unsigned",
    "parts",
)

_MISSING: st.SearchStrategy[Literal["none", "mean", "zero"]] = st.sampled_from(
    ("none", "mean", "mean", "zero")
)


_SCALES: tuple[bool | str, ...] = (False, False, True, "std-observed", "given")


@st.composite
def layouts(
    draw: st.DrawFn, lengths: tuple[int, int], sides: tuple[int, ...], dtype: str, *, zarr: bool
) -> Layout:
    """Any way in which so many samples and features can lie; `sides`: the axes that are stacked to these."""
    hows = [draw(st.sampled_from(("", "", *SELECTIONS))) for _ in lengths]
    left_out = [
        draw(st.integers(0, length // 2)) * bool(how) for length, how in zip(lengths, hows, strict=True)
    ]
    plain = Layout(
        samples="rows" if sides else draw(st.sampled_from(("rows", "columns"))),
        by_dim=not sides and draw(st.integers(0, 3)) == 0,
        dim=draw(st.integers(0, 2)) if sides else None,
        sides=sides,
        of_samples=hows[0],
        of_features=hows[1],
        left_out=(left_out[0], left_out[1]),
    )
    return replace(plain, **draw(_described(dtype, zarr=zarr)))


def _described(dtype: str, *, zarr: bool) -> st.SearchStrategy[dict[str, Any]]:
    """What entries stand for; only what is written to Zarr has attributes."""
    kinds: list[st.SearchStrategy[dict[str, Any]]] = [st.just({}), st.just({})]
    if zarr:
        valid = st.sampled_from(VALID)
        packing = st.sampled_from(((1.0, 0.0), *PACKINGS))
        kinds.append(st.fixed_dictionaries({"filled": st.just(True), "valid": valid, "packing": packing}))
        if dtype in ("int8", "int16", "int32"):  # float64 does not hold what the bits of int64 stand for
            kinds.append(st.just({"filled": True, "unsigned": True}))
    if zarr or not dtype.startswith("uint"):
        kinds.append(st.fixed_dictionaries({"filled": st.just(zarr), "parts": st.integers(1, 3)}))
    return st.one_of(*kinds)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any case; tall and wide ones alike."""
    long_and_short = (draw(st.integers(1, _LONG)), draw(st.integers(1, _SHORT)))
    samples, features = long_and_short if draw(st.booleans()) else long_and_short[::-1]
    sides: tuple[int, ...] = ()
    if draw(st.integers(0, 2)) == 0:
        sides = (draw(st.integers(1, _SIDE)), draw(st.integers(1, _SIDE)))
        features = sides[0] * sides[1]
    store = draw(st.sampled_from(STORES))
    dtype = draw(st.sampled_from(DTYPES))
    layout = draw(layouts((samples, features), sides, dtype, zarr=store not in ("numpy", "dask")))
    m, n = samples - layout.left_out[0], features - layout.left_out[1]
    centering = draw(st.sampled_from(("", "center", "center", "offset")))
    scale = draw(st.sampled_from((*_SCALES, *ALLELES) if _may_hold_alleles(layout, dtype) else _SCALES))
    weights = st.sampled_from(("", "", "positive", "zeros"))
    functions = () if scale in ALLELES else draw(_functions(layout))
    levels = (0.0,) if scale in ALLELES else (0.0, 1.0, 1e3) if functions else (0.0, 1.0, 1e3, 1e6, 1e9)
    return Case(
        shape=(m, n),
        chunks=tuple(
            _chunk(length, draw(st.integers(1, _MOST_CHUNKS)))
            for length in (samples, *(sides or (features,)))
        ),
        dtype=dtype,
        store=store,
        spectrum=draw(st.sampled_from(SPECTRA)),
        level=draw(st.sampled_from(levels)),
        constant=draw(st.integers(0, 3)),
        gaps=draw(st.sampled_from((0.0, 0.01, 0.2, 0.9))),
        gappy=draw(st.sampled_from(("scattered", "top", "column"))),
        sentinel=draw(st.sampled_from(_sentinels(layout, dtype))),
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
        layout=layout,
        functions=functions,
    )


def _may_hold_alleles(layout: Layout, dtype: str) -> bool:
    """Whether entries can be numbers of alleles, which sums of fractions would only nearly be."""
    fractions = layout.parts > 1 and dtype.startswith("float")
    return not (layout.packed or layout.unsigned or fractions)


def _sentinels(layout: Layout, dtype: str) -> tuple[str, ...]:
    """What can stand for a missing entry; of a sum, what is known to without being asked for."""
    if layout.parts and dtype.startswith("uint"):
        return ("greatest",)  # the least is 0, which parts may be
    if not dtype.startswith("float"):
        return ("least", "greatest")
    if layout.parts and not layout.filled:
        return ("nan",)
    return ("nan", "least", "greatest")


def _functions(layout: Layout) -> st.SearchStrategy[tuple[str, ...]]:
    """None in two cases of three; packed entries may be negative, some features of all have no totals."""
    known = set(OF_ALL if layout.packed else OF_COUNTS)
    if layout.of_features:
        known -= {OF_TOTALS}
    some = st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=2, unique=True)
    return st.one_of(st.just(()), st.just(()), some.map(tuple))


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
            counted.update(f"{name}: {getattr(case.layout, name)}" for name in _LAYOUT_FEATURES)
            counted.update(f"function: {function}" for function in case.functions)
            counted.update(["cases"])
            found = holds(case)
            if found:
                wrong.append({"case": asdict(case), "findings": found, "seed": number})

        _drawn(body, number, count)()
    return {"seed": number, "counted": dict(counted), "wrong": wrong}


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

    Where `before`, the results of a run that was stopped, are given, its pieces are not made again, but for
    those with a case that was wrong, since that may be mended now. `commits` says how many cases were tried
    with each commit.
    """
    measured_with = provenance()
    commit = str(measured_with["git"]["commit"])
    before = before or {"cases": 0, "counted": {}, "wrong": [], "commits": {}}
    counted = Counter({"cases": before["cases"], **before["counted"]})
    wrong: list[dict[str, Any]] = [*before["wrong"]]
    commits = Counter(before["commits"])
    done = before["cases"] // _PIECE
    sizes = [min(_PIECE, count - start) for start in range(done * _PIECE, count, _PIECE)]
    again = {entry["seed"]: entry["commit"] for entry in wrong}
    # Not concurrent.futures: its pool waits forever when all processes have made their most tasks at a time.
    with get_context("spawn").Pool(processes, maxtasksperchild=_PIECES_A_PROCESS) as pool:
        pieces = [*((number, _PIECE) for number in sorted(again)), *enumerate(sizes, first_seed + done)]
        for outcome in pool.imap(_many, pieces):
            if outcome["seed"] in again:  # the same cases, which are counted already
                commits[again[outcome["seed"]]] -= _PIECE
                wrong = [entry for entry in wrong if entry["seed"] != outcome["seed"]]
            else:
                counted.update(outcome["counted"])
            commits[commit] += outcome["counted"]["cases"]
            wrong += [{**entry, "commit": commit} for entry in outcome["wrong"]]
            cases = counted["cases"]
            tell(f"{cases:,} cases, {len(wrong)} wrong")
            kinds = {name: counted[name] for name in sorted(counted) if name != "cases"}
            yield measured_with | {
                "cases": cases,
                "seed": first_seed,
                "counted": kinds,
                "wrong": wrong,
                "commits": {name: tried for name, tried in commits.items() if tried},
            }
