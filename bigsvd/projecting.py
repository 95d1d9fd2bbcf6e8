"""Coordinates of new samples that need not fit memory: read and projected some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.facts import SourceFacts
from bigsvd.request import Request, parse_bytes
from bigsvd.results.factors import Factors, check_projection
from bigsvd.sentinels import Number
from bigsvd.sources.base import Rectangle, Source
from bigsvd.sources.bed import refuse_other_variants
from bigsvd.sources.open import open_source

_BUDGET_BYTES = 2**29  # of what is held at a time where the user gives no budget; chosen, not measured
_BYTES_AN_ENTRY = 48  # numbers, which of them are missing, and their rows of B, with copies on the way


def project(
    factors: Factors,
    data: Any,
    method: str = "simple",
    *,
    memory: int | str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    absent: Sequence[Number] = (),
    **otherwise: Any,
) -> np.ndarray:
    """Coordinates (samples, k) of all samples of `data`, (samples, features) or as the factors' own data lie.

    They are read as those were, by the request that the factors have: axes, sums, gaps and functions.

    Args:
        factors: what they are projected on.
        data: with the same features in the same order: path, URL or array, as `svd` takes it.
        method: "simple" or "oadp", see `Factors.project`.
        memory: bytes, or such as "1GB", that samples may take while they are projected.
        storage_options: for the store of a URL; kept nowhere.
        absent: stored integers that stand for no number, besides what the factors' own data have for that.
        otherwise: what is read in another way than the factors' own data: options such as sum or samples.

    Raises:
        RequestError: other features, or no such method.
        SourceError: nothing is there; PLINK files have other variants, or count other alleles.

    """
    check_projection(method)
    _refuse_other_variants(factors, data)
    request = Request.from_dict(factors.provenance["request"])
    reading = request.reading | {"rows": None, "cols": None} | otherwise
    source = open_source(data, storage_options=storage_options, **reading).fresh()
    budget = _BUDGET_BYTES if memory is None else parse_bytes(memory)
    space, rectangles = ReadBuffers(), _some_at_a_time(source.facts, budget)
    gone = (*request.sentinels, *absent)
    panels = (_numbers(source, rectangle, gone, space) for rectangle in rectangles)
    if source.facts.samples_axis != factors.samples_axis:  # `otherwise` says so
        panels = (panel.T for panel in panels)
    return np.concatenate([factors.project(panel, method) for panel in panels])


def _refuse_other_variants(factors: Factors, data: Any) -> None:
    """`SourceError` where PLINK files say that variants are others, as far as both are there."""
    new, old = str(data), Request.from_dict(factors.provenance["request"]).source
    if all(path.endswith(".bed") and Path(path).with_suffix(".bim").is_file() for path in (new, old)):
        refuse_other_variants(new, old)


def _some_at_a_time(facts: SourceFacts, budget: int) -> Iterator[Rectangle]:
    """Whole samples, as many as the budget holds; whole chunks of them where it holds any."""
    axis = facts.samples_axis
    (samples, features), chunk = (facts.shape[axis], facts.shape[1 - axis]), facts.chunks[axis]
    most = max(1, budget // (_BYTES_AN_ENTRY * features))
    step = most // chunk * chunk or most
    whole = slice(0, features)
    for start in range(0, samples, step):
        some = slice(start, min(samples, start + step))
        yield (some, whole) if axis == 0 else (whole, some)


def _numbers(
    source: Source, rectangle: Rectangle, sentinels: Sequence[Number], space: ReadBuffers
) -> np.ndarray:
    """The numbers that entries stand for, float64, NaN for those that stand for none."""
    raw, packing = source.read(*rectangle, space), source.facts.packing
    values = raw.astype(np.float64) * packing.scale + packing.offset
    gone = packing.gaps_in(np, raw, raw.dtype, sentinels)
    if gone is not None:
        values[gone] = np.nan
    return np.asarray(values)
