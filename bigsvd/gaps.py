"""Reconstructions that show no more than the data did: NaN where these have no value.

A factor store does not hold which entries were missing. A mask of one bit an entry is no less than the
factors for most matrices, and as large as 1-bit data. So the mask is read from the data again, of the region
that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np

from bigsvd.errors import RequestError
from bigsvd.request import Request
from bigsvd.results.factors import Factors
from bigsvd.slabs.transform import Transform
from bigsvd.sources.base import Source
from bigsvd.sources.open import open_source


@dataclass(frozen=True)
class SourceGaps:
    """`Gaps` of a source, read when they are asked for."""

    source: Source
    transform: Transform

    def among(self, rows: np.ndarray, cols: np.ndarray) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
        """See `Gaps.among`: chunk by chunk."""
        source, stored = self.source.fresh(), np.dtype(self.source.facts.dtype)
        runs = (_runs(*one) for one in zip((rows, cols), source.facts.chunks, strict=True))
        for down, across in product(*runs):
            lines, columns = rows[down], cols[across]
            box = (slice(lines[0], lines[-1] + 1), slice(columns[0], columns[-1] + 1))
            raw = source.read(*box)[np.ix_(lines - lines[0], columns - columns[0])]
            missing = self.transform.mask(np, raw, stored)
            if missing is not None and missing.any():
                yield (down, across), missing


def _runs(positions: np.ndarray, chunk: int) -> list[slice]:
    """The parts of ascending positions that lie in one chunk each."""
    cuts = np.flatnonzero(np.diff(positions // chunk)) + 1
    edges = [0, *cuts.tolist(), len(positions)]
    return [slice(start, stop) for start, stop in pairwise(edges) if start < stop]


def with_gaps(
    factors: Factors, data: Any = None, *, storage_options: Mapping[str, Any] | None = None
) -> Factors:
    """The same factors; what is reconstructed of them is NaN where `data`, of which they are, has no value.

    Args:
        factors: of a matrix (m, n) with missing entries.
        data: what that matrix was taken from, as `svd` takes it; the path or URL that they were computed from
            where it is None.
        storage_options: for the store of a URL; kept nowhere.

    Raises:
        RequestError: `data` are needed, since the factors are of an array in memory; or are other data.
        SourceError: nothing is there.

    """
    source = data_of(factors, data, storage_options=storage_options)
    request = Request.from_dict(factors.provenance["request"])
    return factors.showing(SourceGaps(source, Transform.of(request, source.facts)))


def data_of(
    factors: Factors, data: Any = None, *, storage_options: Mapping[str, Any] | None = None
) -> Source:
    """The data that factors are of, opened as their request reads them; see `with_gaps`."""
    request = Request.from_dict(factors.provenance["request"])
    if data is None:
        data = _stored_data(request.source)
    rows, cols = factors.kept.lines  # the request may only have the digests of what selected them
    reading = request.reading | {"rows": rows, "cols": cols, "storage_options": storage_options}
    source = open_source(data, **reading)
    _check_same(source, factors)
    return source


def _stored_data(name: str) -> str:
    """What a request calls its source; `RequestError` for what was an array in memory."""
    if name.startswith("<"):
        raise RequestError(f"the factors are of {name}, an array in memory", "give it as data")
    return name


def _check_same(source: Source, factors: Factors) -> None:
    """`RequestError` unless entries of the source lie and are stored as those that the factors are of."""
    then, now = factors.provenance["source"], source.facts.to_dict()
    for name in ("shape", "dtype", "packing"):
        if then[name] != now[name]:
            raise RequestError(
                f"the factors are of data with {name} {then[name]}, {source.facts.name} has {now[name]}",
                "give the data they were computed from",
            )
