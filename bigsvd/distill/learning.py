"""What a student learns beside the ridge: each stage from the teacher's lessons, resumed from scratch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bigsvd.distill.basis import Basis
from bigsvd.distill.gap_laws import Masks
from bigsvd.distill.lessons import Lesson
from bigsvd.distill.mixture import Mixture, fit_mixture, rows_to_fit
from bigsvd.distill.network import Network
from bigsvd.distill.stage import Stage
from bigsvd.distill.teacher import Material, noise_of
from bigsvd.distill.training import Course, train
from bigsvd.events import PhaseStarted, Progress
from bigsvd.scratch import Scratch

__all__ = ["Course", "Learning"]

_NOISE = "noise"
_COORDINATES = 4096  # samples whose coordinates are read at a time


@dataclass(frozen=True, eq=False)
class Learning:
    """One run of a fit: what is taught, and where what was learnt is kept until all of it is."""

    material: Material
    masks: Masks
    rows_per_panel: int
    seed: int
    scratch: Scratch
    progress: Progress

    def basis(self) -> Basis:
        """The teacher's, with the noise that a pass over its data has measured, in this run or before."""
        if not self.scratch.whole(_NOISE):
            panels = self.material.panels(self.rows_per_panel)
            self.scratch.write(_NOISE, noise_of(self.material.factors, panels, self.progress))
        return self.material.basis(self.scratch.read(_NOISE))

    def mixture(self, basis: Basis) -> Mixture:
        """From the teacher's coordinates, or those of some rows at random where there are very many."""
        self.progress(PhaseStarted("fitting the mixture to the teacher's coordinates"))
        return fit_mixture(self._coordinates(rows_to_fit(basis.samples, self.seed)), basis, self.seed)

    def network(self, basis: Basis, tutor: Stage | None, course: Course, device: str) -> Network:
        """From the teacher's rows with gaps, and the mixture if there is one; an epoch that ended is kept."""
        trained = train(
            basis, self, basis.samples, self.masks, course,
            tutor=tutor, device=device, scratch=self.scratch, progress=self.progress,
        )  # fmt: skip
        return trained.network

    def __iter__(self) -> Iterator[Lesson]:
        """Each panel of the teacher's data, and its coordinates."""
        for rows in self.material.panels(self.rows_per_panel):
            yield Lesson(rows, self.material.coordinates(rows.span))

    def _coordinates(self, rows: np.ndarray) -> np.ndarray:
        """Of these samples, ascending, (c, r)."""
        parts = []
        for start in range(0, int(rows[-1]) + 1, _COORDINATES):
            within = rows[(rows >= start) & (rows < start + _COORDINATES)]
            if within.size:
                span = slice(start, int(within[-1]) + 1)
                parts.append(self.material.coordinates(span)[within - start])
        return np.concatenate(parts)
