"""`Drawing`: which entries of complete rows an evaluation leaves to be seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bigsvd.distill.gap_laws import Masks
from bigsvd.distill.masks import parse_masks
from bigsvd.distill.records import Setting
from bigsvd.distill.rows import Rows
from bigsvd.distill.student import Student
from bigsvd.errors import RequestError

_COLUMNS = "columns"


@dataclass(frozen=True, eq=False)
class Drawing:
    """The masks of settings, for the features of a student."""

    student: Student

    def __call__(self, setting: Setting, rows: Rows) -> np.ndarray:
        """What of complete rows is seen, (b, n)."""
        if setting.pattern == _COLUMNS:
            return np.broadcast_to(self._drawn(setting, 0, 1), rows.seen.shape)
        return self._drawn(setting, rows.start, len(rows))

    def _drawn(self, setting: Setting, start: int, rows: int) -> np.ndarray:
        return self.masks(setting).draw(setting.seed, 0, start, rows, self.student.basis.n)

    def masks(self, setting: Setting) -> Masks:
        """The law of gaps of a setting; `RequestError` for a pattern that is not known."""
        return parse_masks(_text(setting), self.student.standard, self.student.columns.shape, _no_rows)


def _text(setting: Setting) -> str:
    """As `parse_masks` has it. What is the same for all rows is drawn as for one."""
    kind, _, size = setting.pattern.replace(_COLUMNS, "uniform").partition(":")
    return ":".join(filter(None, [kind, f"{setting.share}..{setting.share}", size]))


def _no_rows(path: str) -> Any:
    raise RequestError(f"pattern={path!r} is not known", "use uniform, columns or blocks:SIZE")
