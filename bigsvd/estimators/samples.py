"""Samples as estimators take them: what is read where it lies, and how it is streamed through components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigsvd.distill.panels import Absence, RowPanels
from bigsvd.distill.rows import Rows
from bigsvd.errors import NonFiniteError, RequestError
from bigsvd.request import parse_bytes
from bigsvd.results.standard import Standard
from bigsvd.sources.arrays import maps_whole_file
from bigsvd.sources.base import Source
from bigsvd.sources.door import library

if TYPE_CHECKING:
    import dask.array

_READ_WHERE_THEY_LIE = ("zarr", "dask", "xarray", "h5py")  # libraries whose arrays need not fit memory
_PANEL_BUDGET_BYTES = 2**29  # of what a panel takes where the user gives no budget; chosen, not measured


def lies_elsewhere(X: Any) -> bool:
    """Whether X is read where it lies, part by part; anything else is an array in memory to scikit-learn."""
    return isinstance(X, (str, Path, Source)) or library(X) in _READ_WHERE_THEY_LIE or maps_whole_file(X)


def is_dask(X: Any) -> bool:
    """Whether X is of Dask, and so is what it is transformed to."""
    return library(X) == "dask"


@dataclass(frozen=True, eq=False)
class Projection:
    """Samples to coordinates: ((f(x) − mean)/scale·weights)·V.

    Attributes:
        standard: what is done to samples before they are multiplied.
        components: Vᵀ, (k, n).
        missing, missing_value: the rule for missing entries that the components were computed by.

    """

    standard: Standard
    components: np.ndarray
    missing: str = "none"
    missing_value: Any = None

    @classmethod
    def of(cls, standard: Standard, components: np.ndarray, options: Mapping[str, Any]) -> Projection:
        """With the rule for missing entries that the `options` of a decomposition have."""
        return cls(standard, components, options.get("missing", "none"), options.get("missing_value"))

    def of_source(self, source: Source, memory: int | str | None) -> np.ndarray:
        """Coordinates (m, k) of all rows of a source, read panel by panel.

        Raises:
            NonFiniteError: entries are missing, and no rule fills them, or they are infinite.

        """
        found = np.empty((source.facts.shape[0], len(self.components)))
        for rows in self.panels(source, memory):
            found[rows.start : rows.start + len(rows.values)] = rows.values @ self.components.T
        return found

    def panels(self, source: Source, memory: int | str | None) -> Iterator[Rows]:
        """The rows of a source as they are multiplied; see `of_source` for what is raised."""
        absence = Absence.of(source, missing_value=self.missing_value)
        height = RowPanels.rows_fitting(source.facts, _budget(memory))
        for rows in RowPanels(source, self.standard, height, absence):
            self._check_seen(rows, source.facts.name)
            np.copyto(rows.values, self._filling, where=~rows.seen)
            yield rows

    @cached_property
    def _filling(self) -> np.ndarray:
        """What missing entries of a sample are in B, (n,): their means there, which are 0, or a 0 of A."""
        n = self.components.shape[1]
        if self.missing != "zero":
            return np.zeros(n)
        return self.standard.rows(np.zeros((1, n)), np.ones((1, n), dtype=bool)).reshape(n)

    def _check_seen(self, rows: Rows, name: str) -> None:
        """`NonFiniteError` where entries are missing and no rule fills them."""
        gone = np.count_nonzero(~rows.seen[:, self.standard.informative])
        if gone and self.missing == "none":
            raise NonFiniteError(
                f"{name} has {gone} missing entries (NaN) in rows {rows.start} to "
                f"{rows.start + len(rows.values) - 1}",
                "fill them, or fit with svd_options={'missing': 'mean'}",
            )

    def of_dask(self, X: dask.array.Array, dtype: np.dtype[Any]) -> dask.array.Array:
        """The same of a Dask array, as one; blocks of rows are computed when they are asked for."""
        if self.missing_value is not None:
            raise RequestError(
                f"missing_value={self.missing_value!r} in a Dask array",
                "set such entries to NaN first, such as by x.where",
            )
        rows = X.rechunk({0: "auto", 1: -1})
        lengths = (rows.chunks[0], (len(self.components),))
        return rows.map_blocks(self._of_block, chunks=lengths, dtype=dtype, wanted=dtype)

    def _of_block(self, block: np.ndarray, wanted: np.dtype[Any]) -> np.ndarray:
        values = np.asarray(_dense(block), dtype=np.float64)
        gone = np.zeros(values.shape, dtype=bool)
        if self.missing != "none":
            gone = np.isnan(values)
        found = self.standard.rows(values, gone)
        np.copyto(found, self._filling, where=gone)
        return np.asarray(found @ self.components.T, dtype=wanted)


def _dense(block: Any) -> Any:
    """A block of rows, also of one of scipy.sparse."""
    return block.toarray() if hasattr(block, "toarray") else block


def _budget(memory: int | str | None) -> int:
    """Bytes that panels may take."""
    return _PANEL_BUDGET_BYTES if memory is None else parse_bytes(memory)
