"""`RowPanels`: a source as panels of samples in the units of B; `Absence`: which entries were not seen."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.distill.rows import Rows
from bigsvd.errors import NonFiniteError, RequestError, ShapeError
from bigsvd.facts import SourceFacts
from bigsvd.results.standard import Standard
from bigsvd.sentinels import Number
from bigsvd.sources.base import Rectangle, Source
from bigsvd.sources.open import open_source

_PANELS_HELD = 2  # the one that is being worked on, and the one that is being read
# Bytes of a panel for each entry: the number and its truth value, and what making them takes besides.
_BYTES_HELD, _BYTES_MAKING = 9, 18
# Of a panel's numbers, about. The allocator gives larger arrays back to the system each time (glibc: 32 MiB),
# and their pages are made anew: 8,192 samples of 1,000 features took 0.18 s of a processor, halves 0.11 s.
_PANEL_BYTES = 2**25


@dataclass(frozen=True, eq=False)
class Absence:
    """Which entries of a source were not observed.

    Attributes:
        sentinels: stored values that stand for none. What the source itself marks (CF) is none either.
        mask: a source of truth values in the shape of the data, true where there is none; None where there
            is no such.

    """

    sentinels: tuple[Number, ...] = (math.nan,)
    mask: Source | None = None

    @classmethod
    def of(
        cls, source: Source, *, missing: str = "none", missing_value: Any = None, mask: Any = None
    ) -> Absence:
        """NaN, and what is asked for: 0 by ``missing="zero"``, values, a mask (array, path, Zarr).

        Raises:
            ShapeError: the mask has another shape than the data.
            RequestError: it has no truth values.

        """
        sentinels: tuple[Number, ...] = (math.nan,)
        if missing == "zero":
            sentinels = (*sentinels, 0)
        if missing_value is not None:
            sentinels = (*sentinels, *np.atleast_1d(missing_value).tolist())
        return cls(sentinels, None if mask is None else _open_mask(mask, source.facts))

    def among(self, raw: np.ndarray, facts: SourceFacts, rectangle: Rectangle) -> np.ndarray:
        """Which entries of a rectangle of the source were not observed, bool, as the rectangle lies."""
        found = facts.packing.gaps_in(np, raw, np.dtype(facts.dtype), self.sentinels)
        if found is None:
            found = np.zeros(raw.shape, dtype=bool)
        if self.mask is not None:
            found = found | np.asarray(self.mask.fresh().read(*rectangle), dtype=bool)
        return np.asarray(found)

    def stamp(self, rectangle: Rectangle) -> Hashable:
        """What changes when somebody writes into a rectangle of the mask; see `Source.stamp`."""
        return None if self.mask is None else self.mask.stamp(*rectangle)


def _open_mask(mask: Any, facts: SourceFacts) -> Source:
    """The mask as a matrix that lies as the data do."""
    dim = facts.array_axis if facts.array_shape else None
    # Zarr stores no chunks that hold nothing but the fill value, which in a mask is the rule: all was seen.
    opened = open_source(mask, dim=dim, decode=False, missing_chunks="fill")
    if opened.facts.shape != facts.shape:
        raise ShapeError(
            f"the mask is {opened.facts.shape}, {facts.name} is {facts.shape}",
            "give a truth value for each entry, true where it is missing",
        )
    if np.dtype(opened.facts.dtype).kind not in "bu":
        raise RequestError(
            f"the mask {opened.facts.name} has entries of {opened.facts.dtype}",
            "give truth values (bool), true where an entry is missing",
        )
    return opened


class RowPanels:
    """The samples of a source, panel by panel, the next one read by a thread while one is worked on.

    Samples are rows whatever the orientation of the source. A panel can be made again by its number, with the
    same bits.
    """

    def __init__(
        self, source: Source, standard: Standard, rows_per_panel: int, absence: Absence | None = None
    ) -> None:
        """`source` may have all features of the data, or only those of A.

        Raises:
            ShapeError: it has another number of features.

        """
        self.source = source
        self.standard = standard
        self.rows_per_panel = rows_per_panel
        self.absence = absence or Absence()
        self._taken = _which(source.facts, standard)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.source.facts.shape[self.source.facts.samples_axis]

    def __len__(self) -> int:
        return math.ceil(self.samples / self.rows_per_panel)

    def __iter__(self) -> Iterator[Rows]:
        return self.some(range(len(self)))

    def some(self, numbers: Iterable[int], leading: int | None = None) -> Iterator[Rows]:
        """The panels of these numbers, in this order; of each no more than so many `leading` samples."""
        source, space = self.source.fresh(), ReadBuffers()
        with ThreadPoolExecutor(1, thread_name_prefix="bigsvd-panel") as reader:
            ahead: Future[Rows] | None = None
            try:
                for number in numbers:
                    following = reader.submit(self._made, source, space, self.span(number, leading))
                    if ahead is not None:
                        yield ahead.result()
                    ahead = following
                if ahead is not None:
                    yield ahead.result()
            finally:
                reader.shutdown(cancel_futures=True)

    def panel(self, number: int) -> Rows:
        """The panel of this number."""
        return self._made(self.source.fresh(), ReadBuffers(), self.span(number))

    def span(self, number: int, leading: int | None = None) -> slice:
        """The samples of a panel, or no more than so many `leading` ones."""
        start, rows = number * self.rows_per_panel, self.rows_per_panel
        return slice(start, min(self.samples, start + min(rows, leading or rows)))

    @staticmethod
    def bytes_for(facts: SourceFacts, rows: int) -> int:
        """The memory that panels of so many samples take while they are streamed."""
        n = facts.shape[facts.features_axis]
        chunk = facts.stored_bytes or math.ceil(math.prod(facts.chunks) * facts.entry_bytes)
        if facts.is_sparse and facts.lines_axis != facts.samples_axis:
            chunk = facts.block_bytes  # samples lie across the lines that are stored: all of these are read
        held = _PANELS_HELD * _BYTES_HELD + _BYTES_MAKING + facts.itemsize
        return rows * n * held + 2 * chunk + facts.spare_bytes + facts.held_bytes

    @classmethod
    def rows_fitting(cls, facts: SourceFacts, budget_bytes: int) -> int:
        """Samples of a panel: whole chunks of them, of about 32 MiB; less where that does not fit."""
        n, samples = facts.shape[facts.features_axis], facts.shape[facts.samples_axis]
        chunk = min(samples, facts.chunks[facts.samples_axis])
        rows = min(samples, chunk * max(1, _PANEL_BYTES // (8 * n * chunk)))
        while rows > 1 and cls.bytes_for(facts, rows) > budget_bytes:
            rows = (rows + 1) // 2
        return rows

    def stamp(self, number: int) -> Hashable:
        """What changes when somebody writes into a panel, or into the mask of its entries."""
        rectangle = self._rectangle(self.span(number))
        return self.source.stamp(*rectangle), self.absence.stamp(rectangle)

    def _made(self, source: Source, space: ReadBuffers, span: slice) -> Rows:
        rectangle = self._rectangle(span)
        raw = source.read(rectangle[0], rectangle[1], space)
        gone = self._lying(self.absence.among(raw, source.facts, rectangle))
        seen = ~gone & self.standard.informative
        values = self.standard.rows(_numbers(self._lying(raw), source.facts), gone)
        values[~seen] = 0.0
        self._refuse_nonfinite(values, span)
        return Rows(span.start, values, seen)

    def _rectangle(self, span: slice) -> Rectangle:
        """Where samples lie in the source."""
        return (self._features, span) if self._by_columns else (span, self._features)

    @property
    def _by_columns(self) -> bool:
        return self.source.facts.samples_axis == 1

    @property
    def _features(self) -> slice:
        facts = self.source.facts
        return slice(0, facts.shape[facts.features_axis])

    def _lying(self, read: np.ndarray) -> np.ndarray:
        """What was read, with samples as rows and the features of A."""
        if self._by_columns:
            read = np.ascontiguousarray(read.T)
        return read if self._taken is None else read[:, self._taken]

    def _refuse_nonfinite(self, values: np.ndarray, span: slice) -> None:
        """`NonFiniteError` for what is there and no number: infinite, or undefined by a function."""
        finite = np.isfinite(values)
        if not finite.all():
            raise self._nonfinite(~finite, span)

    def _nonfinite(self, bad: np.ndarray, span: slice) -> NonFiniteError:
        sample, feature = np.argwhere(bad)[0].tolist()
        return NonFiniteError(
            f"{self.source.facts.name} has {np.count_nonzero(bad)} entries among samples {span.start} to "
            f"{span.stop - 1} that are observed and not finite, first sample {span.start + sample}, feature "
            f"{feature}",
            "mark them as missing by a mask or missing_value",
        )


def _numbers(raw: np.ndarray, facts: SourceFacts) -> np.ndarray:
    """The numbers that entries stand for, float64."""
    values = np.asarray(raw, dtype=np.float64)
    if facts.packing.packed:
        return np.asarray(values * facts.packing.scale + facts.packing.offset)
    return values


def _which(facts: SourceFacts, standard: Standard) -> np.ndarray | None:
    """Which features of the source are those of A, by number; None where all are."""
    n = facts.shape[facts.features_axis]
    if n == standard.n:
        return None
    if standard.ids is not None and n == standard.data_features:
        return standard.ids
    raise ShapeError(
        f"{facts.name} has {n} features, the teacher {standard.n}",
        "give the features that the teacher was made of, in their order",
    )
