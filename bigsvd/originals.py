"""Regions of the data that factors are of, as they stand beside a region of the reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bigsvd.devices.cpu import CpuDevice
from bigsvd.errors import SourceChangedError
from bigsvd.floats import silent
from bigsvd.functions import Functions
from bigsvd.request import Request
from bigsvd.results.factors import Factors
from bigsvd.slabs.transform import Transform
from bigsvd.sources.base import Rectangle, Source
from bigsvd.sources.open import open_source


@dataclass(frozen=True)
class Original:
    """f(A) in its own units, NaN where A has no value or nothing was taken: what is reconstructed, (m, n).

    Attributes:
        factors: of A. source: the data that they are of, as the request reads them, but for `rows` and `cols`
            of it: like the reconstruction this has the shape of the data.

    Raises:
        SourceChangedError: these are other data.

    """

    factors: Factors
    source: Source

    @classmethod
    def of(cls, factors: Factors, path: str) -> Original:
        """That at a path or URL, read as the request of the factors has it; see `open_source` for errors."""
        reading = _request_of(factors).reading | {"rows": None, "cols": None}
        return cls(factors, open_source(path, **reading))

    def __post_init__(self) -> None:
        then, now = self.factors.source, self.source.facts
        pairs = {
            "shape": (self.factors.kept.shape, now.shape),
            "dtype": (then.dtype, now.dtype),
            "packing": (then.packing, now.packing),
        }
        for name, (expected, found) in pairs.items():
            if expected != found:
                raise SourceChangedError(
                    f"the factors are of data with {name} {expected}, {now.name} has {found}",
                    "compute them again from what is there now",
                )

    @property
    def _functions(self) -> Functions:
        return Functions.of(_request_of(self.factors).functions)

    def read_for(self, rows: slice, cols: slice) -> Rectangle:
        """What of the data has to be read for a region: whole samples where functions need totals."""
        if not self._functions.by_totals:
            return rows, cols
        every = [slice(0, length) for length in self.source.facts.shape]
        axis = self.factors.samples_axis
        every[axis] = (rows, cols)[axis]
        return every[0], every[1]

    def chunks_for(self, rows: slice, cols: slice) -> int:
        """How many chunks of the data a region touches."""
        spans = zip(self.read_for(rows, cols), self.source.facts.chunks, strict=True)
        down, across = ((span.stop - 1) // chunk - span.start // chunk + 1 for span, chunk in spans)
        return int(down * across)

    @silent
    def region(self, rows: slice, cols: slice) -> np.ndarray:
        """Its entries, float64; the bounds are those of what is there."""
        read = self.read_for(rows, cols)
        raw = self.source.fresh().read(*read)
        transform = Transform.of(_request_of(self.factors), self.source.facts)
        mask = transform.mask(np, raw, np.dtype(self.source.facts.dtype))
        missing = np.zeros(raw.shape, dtype=bool) if mask is None else mask
        missing = missing | ~self._taken(read)
        found = self._changed(np.asarray(raw), np.asarray(missing), transform)
        found[missing] = np.nan
        return found[tuple(_within(own, all_read) for own, all_read in zip((rows, cols), read, strict=True))]

    def _changed(self, raw: np.ndarray, missing: np.ndarray, transform: Transform) -> np.ndarray:
        """Decoded entries with the functions of the request applied."""
        decoded = Transform(packing=transform.packing, axis=transform.axis)
        numbers, _ = decoded.widen(CpuDevice(), raw, np.dtype(self.source.facts.dtype))
        values = np.where(missing, 0.0, np.asarray(numbers, dtype=np.float64))
        if self.factors.samples_axis == 1:
            return np.asarray(self._functions.of_whole_samples(np, values.T, missing.T)).T
        return np.asarray(self._functions.of_whole_samples(np, values, missing))

    def _taken(self, read: Rectangle) -> np.ndarray:
        """Which entries of a rectangle belong to A, and to features that have any value."""
        kept, taken = self.factors.kept, []
        for axis, span in enumerate(read):
            numbers = np.arange(self.source.facts.shape[axis])[span]
            places, own = kept.among(axis, numbers)
            here = np.zeros(numbers.size, dtype=bool)
            here[places] = True
            if axis == self.factors.features_axis and kept.empty is not None:
                here[places[np.isin(own, kept.empty)]] = False
            taken.append(here)
        return np.asarray(taken[0][:, None] & taken[1])


def _within(own: slice, read: slice) -> slice:
    """A range, counted from the start of the one around it."""
    return slice(own.start - read.start, own.stop - read.start)


def _request_of(factors: Factors) -> Request:
    return Request.from_dict(factors.provenance["request"])


def source_of(factors: Factors) -> str:
    """The path or URL of the data that factors were computed from."""
    return _request_of(factors).source
