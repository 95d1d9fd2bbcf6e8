"""How far predicted factors are from data, which no certificate promises anything of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bigsvd.distill.lines import components, coordinates
from bigsvd.distill.panels import RowPanels
from bigsvd.distill.teacher import absence_of
from bigsvd.errors import FactorStoreError
from bigsvd.events import BytesRead, PassEnded, PassStarted, Progress
from bigsvd.floats import silent
from bigsvd.results.check import check_store
from bigsvd.results.verification import Verification
from bigsvd.verify import verify

if TYPE_CHECKING:
    from bigsvd.distill.rows import Rows
    from bigsvd.results.factors import Factors
    from bigsvd.results.prediction import Prediction
    from bigsvd.sources.base import Source

NAME = "two-sided-000"  # the pass, which the console calls checking
_ROWS = 1024  # of a panel


@dataclass(frozen=True)
class _Squares:
    """Over entries that the data have: their number, Σ x², and Σ (x − x̂)²."""

    count: int = 0
    whole: float = 0.0
    missed: float = 0.0

    def __add__(self, other: _Squares) -> _Squares:
        return _Squares(self.count + other.count, self.whole + other.whole, self.missed + other.missed)

    @property
    def error(self) -> float:
        """‖B − U·S·Vᵀ‖/‖B‖ over these entries; 0 where they are all 0."""
        return float(np.sqrt(self.missed / self.whole)) if self.whole else 0.0


def verification_of(
    factors: Factors,
    source: Source | None,
    progress: Progress,
    client: Any = None,
    device: Literal["auto", "cpu", "gpu"] = "auto",
) -> Verification:
    """`verify` of factors that were computed; `verify_predicted` of others, where data are given."""
    if factors.predicted is not None and source is not None:
        return verify_predicted(factors, source, progress)
    return verify(factors, source, progress, client, device)


@silent
def verify_predicted(factors: Factors, source: Source, progress: Progress) -> Verification:
    """Check a predicted store by itself, and measure it on the entries that `source` has, in one pass.

    That it is no SVD of these is no finding: it never said so.

    Raises:
        FactorStoreError: the data have another shape.

    """
    findings = check_store(factors)
    _check_shape(factors, source)
    panels = RowPanels(source, factors.standard, _ROWS, absence_of(factors, source))
    found = _measured(factors, panels, progress)
    told = "" if factors.predicted is None else _told(factors.predicted, found, factors)
    return replace(Verification(tuple(findings), None, found.error), predicted=told)


def _check_shape(factors: Factors, source: Source) -> None:
    axis = factors.samples_axis
    if source.facts.samples_axis != axis or source.facts.shape[axis] != factors.shape[axis]:
        raise FactorStoreError(
            f"the factors are of {factors.shape[axis]} samples, the {factors.samples}; {source.facts.name} "
            f"is {source.facts.shape} with {source.facts.sample}s as samples",
            "give the data that were predicted",
        )


def _measured(factors: Factors, panels: RowPanels, progress: Progress) -> _Squares:
    size, found, Vt = panels.source.facts.nbytes, _Squares(), components(factors).T
    progress(PassStarted(NAME, size, sample=False, resumed_lanes=0))
    for rows in panels:
        found += _missed(rows, coordinates(factors, rows.span) @ Vt)
        progress(BytesRead(size * len(rows) // panels.samples))
    progress(PassEnded(NAME, size, sample=False))
    return found


def _missed(rows: Rows, predicted: np.ndarray) -> _Squares:
    values, missed = rows.values[rows.seen], (rows.values - predicted)[rows.seen]
    return _Squares(values.size, float(values @ values), float(missed @ missed))


def _told(predicted: Prediction, found: _Squares, factors: Factors) -> str:
    """What was measured, beside what the student expected."""
    return (
        f"{predicted.said}; measured on the {found.count:,} entries that the data have: relative error "
        f"{found.error:.4g} (of all entries {factors.certificate.relative_error:.4g} was expected)"
    )
