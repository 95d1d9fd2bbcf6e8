"""The rank table as text: what each number of singular values keeps of A and costs, and what rules chose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bigsvd.floats import silent
from bigsvd.results.rank import (
    Choice,
    RankRow,
    Spectrum,
    break_even,
    marks,
    percent,
    rank_table,
    unmarked,
)
from bigsvd.results.scoring import UNSCORED, Scored
from bigsvd.results.tracy_widom import TracyWidom
from bigsvd.units import human_bytes

_SHOWN_ERROR = 0.05  # of a statistic whose law has the standard deviation 1.27


@silent
def format_table(
    spectrum: Spectrum, choices: Sequence[Choice], *, max_rows: int = 30, scored: Scored = UNSCORED
) -> str:
    """The rank table as aligned text, every chosen k marked, with what no row can say in lines below it.

    With scores there is a column of them, and rows for the k that have one.

    More than `max_rows` rows are thinned to the first, the last, every marked one and others in geometric
    progression. Energies are rounded down, so that a row never seems to reach a share that it misses.
    """
    chosen = marks(choices, spectrum.known)
    rows = rank_table(spectrum)
    shown = {k for k in scored.k if k <= spectrum.known}
    kept = _thinned(spectrum.known, frozenset(chosen) | shown, max_rows)
    header = ("k", "sigma", "energy", "rel. error", "next sigma", "factors", "ratio", "residual")
    columns = [
        *zip(header, *(_cells(rows[k - 1]) for k in kept), strict=True),
        _scores(scored, kept),
        *_tested(spectrum.tests, kept),
    ]
    aligned = [_right_aligned(column) for column in columns if any(column[1:])]
    notes = ["chosen by", *(", ".join(chosen.get(k, ())) for k in kept)]
    lines = ["  ".join(cells).rstrip() for cells in zip(*aligned, notes, strict=True)]
    elsewhere = unmarked(choices, spectrum.known)
    return "\n".join([*lines, "", _break_even_line(spectrum), *elsewhere])


def _thinned(known: int, marked: frozenset[int], max_rows: int) -> list[int]:
    """Ascending k to show: 1, `known` and `marked` always, filled up geometrically to at most `max_rows`."""
    if known <= max_rows:
        return list(range(1, known + 1))
    always = marked | {1, known}
    for count in range(3 * max_rows, 0, -1):
        shown = always | {round(k) for k in np.geomspace(1, known, count)}
        if len(shown) <= max_rows:
            return sorted(shown)
    return sorted(always)


def _tested(tests: Sequence[TracyWidom] | None, kept: Sequence[int]) -> list[tuple[str, ...]]:
    """The columns of the test of Tracy & Widom, where it is one of these data."""
    if tests is None:
        return []
    some = [tests[k - 1] for k in kept]
    statistics = (f"{test.statistic:.3f}{_plus_minus(test.error)}" for test in some)
    return [("Tracy-Widom", *statistics), ("p-value", *(f"{test.p_value:.2g}" for test in some))]


def _plus_minus(error: float) -> str:
    return f" ± {error:.1f}" if error > _SHOWN_ERROR else ""


def _right_aligned(column: Sequence[str]) -> list[str]:
    width = max(map(len, column))
    return [cell.rjust(width) for cell in column]


def _cells(row: RankRow) -> tuple[str, ...]:
    return (
        str(row.k),
        _four_digits(row.sigma),
        percent(row.energy),
        f"{row.relative_error:.2e}",
        "" if row.next_sigma is None else _four_digits(row.next_sigma),
        human_bytes(row.bytes),
        f"{row.compression_ratio:.2f}x",
        "" if row.residual is None else f"{row.residual:.1e}",
    )


def _scores(scored: Scored, kept: Sequence[int]) -> tuple[str, ...]:
    """The column of scores."""
    return (scored.name, *map(scored.text, kept))


def _four_digits(value: float) -> str:
    return f"{value:#.4g}".removesuffix(".")


def _break_even_line(spectrum: Spectrum) -> str:
    k, size = break_even(spectrum), human_bytes(spectrum.matrix_bytes)
    if k > spectrum.most:
        return f"The factors never take more bytes than the matrix ({size}), up to k = {spectrum.most}."
    return f"From k = {k} on the factors take more bytes than the matrix ({size})."
