"""`Learners`: what the stages of a student become on new data, some of whose rows they learn from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bigsvd.distill import adapting, prior
from bigsvd.distill.gate import Candidate

if TYPE_CHECKING:
    from bigsvd.distill.rows import Rows
    from bigsvd.distill.stage import Stage
    from bigsvd.distill.student import Student

_ALIKE = 2.0  # times more or less variance than the teacher's: of other data a network was taught nothing


@dataclass(frozen=True, eq=False)
class Learners:
    """Stages that have seen no more of the new data than some rows.

    `map` learns a prior of coordinates, `mixture` its scale, `adapt` components; the others learn nothing.

    Attributes:
        student: that has the stages. rows: of the new data. seed: of what is hidden to choose by.

    """

    student: Student
    rows: Sequence[Rows]
    seed: int = 0

    def candidate(self, name: str, every: Iterable[Rows]) -> Candidate:
        """A stage by its name; components move by a pass over `every` row, which no other stage reads."""
        if name == adapting.NAME:
            return self._adapted(every)
        return Candidate(name, self.student.basis, self._stage(name))

    @property
    def alike(self) -> bool:
        """Whether coordinates vary about as much as the teacher's."""
        return 1 / _ALIKE <= self._scale <= _ALIKE

    @property
    def _scale(self) -> float:
        """How much more coordinates vary than the teacher's, in the mean."""
        return float(np.mean(np.diag(self._prior.prior) / self.student.basis.prior))

    @cached_property
    def _prior(self) -> prior.Reestimate:
        return prior.fit_prior(self.student.basis, self.rows, self.seed)

    def _stage(self, name: str) -> Stage:
        if name == prior.NAME:
            return self._prior.stage
        if name == "mixture":
            return self._mixture
        return self.student.stage(name)

    @property
    def _mixture(self) -> Stage:
        """As the teacher's coordinates lie, or moved to the new data's scale where that pays."""
        as_it_was = self.student.mixture
        moved = as_it_was.moved(self._prior.prior)
        return prior.first_of_best((as_it_was, moved), self.student.basis, self.rows, self.seed)

    def _adapted(self, every: Iterable[Rows]) -> Candidate:
        basis, stage = self.student.basis, self._prior.stage
        kappa = adapting.kappa_of(basis, stage, self.rows, self.seed)
        moved = adapting.moved_by(basis, stage, every, kappa)
        return Candidate(adapting.NAME, moved, adapting.ridge_of(moved))
