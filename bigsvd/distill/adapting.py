"""A basis that has moved to new data: how far it may, and the pass over all of them that moves it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bigsvd.distill.adapt import NAME as _ADAPT
from bigsvd.distill.adapt import AdaptSums
from bigsvd.distill.holdout import Holdout
from bigsvd.distill.observed import observe
from bigsvd.distill.ridge import Ridge
from bigsvd.events import BytesRead, PassEnded, PassStarted, Progress

if TYPE_CHECKING:
    from bigsvd.distill.basis import Basis
    from bigsvd.distill.rows import Rows
    from bigsvd.distill.stage import Stage

NAME = _ADAPT
RUN_NAME = "adapt-000"
_KAPPAS = (0.25, 1.0, 4.0)  # that are tried: as many further rows as the teacher would be, by those in hand
_INNER = 2**21  # added to a seed, so that what is hidden here is not what another use of the seed hides


def moved_by(basis: Basis, stage: Stage, panels: Iterable[Rows], kappa: float) -> Basis:
    """The basis after one step of all rows, whose coordinates a stage has inferred."""
    return _sums(basis, stage, panels).basis(kappa)


def _sums(basis: Basis, stage: Stage, panels: Iterable[Rows]) -> AdaptSums:
    sums = AdaptSums(basis)
    for rows in panels:
        sums.add(rows, stage.infer(observe(basis, rows)))
    return sums


def kappa_of(basis: Basis, stage: Stage, sample: Sequence[Rows], seed: int) -> float:
    """How stiff the components are to be: that which predicts hidden entries of the sample best."""
    holdout, count = Holdout(seed + _INNER), sum(map(len, sample))
    shown = (
        rows.hide(holdout.hidden(rows)) for rows in sample
    )  # of few at a time: all are half as much again
    sums = _sums(basis, stage, shown)
    kappas = [max(1.0, part * count) for part in _KAPPAS]
    errors = [_error(sums.basis(kappa), sample, holdout) for kappa in kappas]
    return kappas[int(np.argmin(errors))]


def ridge_of(basis: Basis) -> Ridge:
    """The stage of a basis that has moved: its own prior is that of the new data."""
    return Ridge(basis.prior, NAME)


def _error(basis: Basis, sample: Sequence[Rows], holdout: Holdout) -> float:
    """Σ (x − x̂)² over the hidden entries."""
    return sum(_missed(basis, rows, holdout.hidden(rows)) for rows in sample)


def _missed(basis: Basis, rows: Rows, hidden: np.ndarray) -> float:
    found = ridge_of(basis).infer(observe(basis, rows.hide(hidden)))
    missed = (rows.values - found.mean @ basis.V.T)[hidden]
    return float(missed @ missed)


def told(panels: Iterable[Rows], size: int, samples: int, progress: Progress) -> Iterable[Rows]:
    """The panels of a pass, of which progress is told."""
    progress(PassStarted(RUN_NAME, size, sample=False, resumed_lanes=0))
    for rows in panels:
        yield rows
        progress(BytesRead(size * len(rows) // samples))
    progress(PassEnded(RUN_NAME, size, sample=False))
