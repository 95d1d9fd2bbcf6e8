"""`Lesson`: rows of the teacher and what is to be learnt of them; `Chapters`: as many as memory holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bigsvd.distill.rows import Rows


class Masks(Protocol):
    """Draws gaps."""

    def draw(self, seed: int, epoch: int, panel_start: int, b: int, n: int) -> np.ndarray:
        """Which entries are seen, (b, n) bool; always the same for the same arguments."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """A panel of the teacher's rows, with what is to be learnt: their rows of U·diag(s), (b, r)."""

    rows: Rows
    coordinates: np.ndarray

    @property
    def bytes(self) -> int:
        """In memory."""
        return int(self.rows.values.nbytes + self.rows.seen.nbytes + self.coordinates.nbytes)


class Lessons(Protocol):
    """The teacher's rows, in an order that is always the same; they may be read anew each time."""

    def __iter__(self) -> Iterator[Lesson]:
        """Each panel once."""


class Chapters:
    """Lessons, as many at a time as memory is given for; held if that is all of them."""

    def __init__(self, lessons: Lessons, held_bytes: int) -> None:
        """At most `held_bytes` are held, or one panel."""
        self._lessons = lessons
        self._held_bytes = held_bytes
        self._held: list[Lesson] | None = None

    def __iter__(self) -> Iterator[list[Lesson]]:
        """All lessons, in their order. A chapter is empty once the next is asked for, unless it is all."""
        if self._held is not None:
            yield self._held
            return
        chapters = 0
        for chapter in self._read():
            yield chapter
            chapters += 1
        if chapters == 1:
            self._held = chapter

    def _read(self) -> Iterator[list[Lesson]]:
        chapter: list[Lesson] = []
        room = self._held_bytes
        for lesson in self._lessons:
            if chapter and lesson.bytes > room:
                yield chapter
                chapter.clear()  # whoever still has the list: two chapters would be held at a time
                room = self._held_bytes
            chapter.append(lesson)
            room -= lesson.bytes
        yield chapter
