"""Whether rows are new to a teacher: an evaluation on rows that it has seen says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bigsvd.distill.teacher import Material
from bigsvd.errors import TeacherError
from bigsvd.sources.base import KeptLines, Source

_LOOKED_AT = 256  # rows whose coordinates are looked for among the teacher's
_PANEL = 4096  # rows of the teacher that are held at a time
_SAME = 1e-4  # relative difference of coordinates up to which rows are the same: stored ones are float32
_FEWEST = 4  # components, of fewer of which unlike rows may agree by chance
_REMEDY = "give rows that the teacher was not made of, such as rows=START:STOP of data of which it had others"


@dataclass(frozen=True)
class Known:
    """How many rows have the coordinates of a row of the teacher, of those that were looked at."""

    count: int
    looked_at: int

    def __str__(self) -> str:
        return f"{self.count:,} of {self.looked_at:,} rows"

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a reader has to know of it."""
        if not self.count:
            return ()
        return (f"{self} that were looked at are as rows of the teacher.",)

    def refuse(self, name: str) -> None:
        """`TeacherError` where most rows are those of the teacher, wherever they were copied to."""
        if 2 * self.count > self.looked_at:
            raise TeacherError(f"{self} of {name} that were looked at are rows of the teacher", _REMEDY)


def refuse_selected(teacher: Material, source: Source) -> None:
    """`TeacherError` where a source has samples that the factors were computed from, by their ids."""
    factors = teacher.factors
    if not _is_same_place(factors.source.name, source.facts.name):
        return
    asked = _ids(source.kept, source.facts.shape, source.facts.samples_axis)
    shared = np.intersect1d(_ids(factors.kept.lines, factors.kept.shape, factors.samples_axis), asked)
    if shared.size:
        raise TeacherError(
            f"{source.facts.name} is the teacher's data, which was made of {shared.size:,} of the "
            f"{asked.size:,} rows, the first of them {shared[0]}",
            _REMEDY,
        )


def _ids(kept: KeptLines, shape: tuple[int, int], axis: int) -> np.ndarray:
    """Which samples of the data there are, ascending."""
    found = kept[axis]
    if found is None:
        return np.arange(shape[axis])
    return found


def _is_same_place(one: str, other: str) -> bool:
    """Whether two names of data are of one path or URL; of arrays in memory nothing is known by name."""
    if one.startswith("<"):
        return False
    return one == other or Path(one).resolve() == Path(other).resolve()


def count_known(teacher: Material, z: np.ndarray) -> Known:
    """Look for coordinates (b, r) of rows, all of the teacher's, among those of its own rows.

    Rows of which nothing lies in the span are not looked at. Where the teacher has few components nothing is.
    """
    z = z[np.any(z != 0, axis=1)][:_LOOKED_AT]
    if teacher.factors.k < _FEWEST:
        return Known(0, len(z))
    near = [_nearest(z, known) for known in _panels(teacher)]
    same = np.min(near, axis=0) <= _SAME**2 * np.sum(z**2, axis=1)
    return Known(int(np.sum(same)), len(z))


def _nearest(z: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The squared distance of each row of z from the nearest one that is known, (b,)."""
    squares = _lengths(z)[:, None] + _lengths(known) - 2 * z @ known.T
    return np.asarray(squares.min(axis=1))


def _lengths(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.sum(z**2, axis=1))


def _panels(teacher: Material) -> Iterator[np.ndarray]:
    samples = teacher.factors.shape[teacher.factors.samples_axis]
    for start in range(0, samples, _PANEL):
        yield teacher.coordinates(slice(start, min(samples, start + _PANEL)))
