"""How frequent the rarer allele of each variant is: one read of the genotypes, a chunk at a time."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.distill.panels import Absence
from bigsvd.errors import RequestError
from bigsvd.sources.base import Source
from bigsvd.sources.wrapped import cells

PLOIDY = 2
_MOST_FREQUENT = 0.5  # that the rarer of two alleles can be


def minor_frequencies(source: Source, missing_value: Any = None) -> np.ndarray:
    """min(p, 1 − p) of each variant, (variants,) float64; p over the genotypes that are there, NaN of none.

    Args:
        source: counts 0, 1, 2 of an allele, or expected ones, decoded.
        missing_value: stored values that stand for no genotype, besides those that the source marks.

    """
    facts = source.facts
    absence, space = Absence.of(source, missing_value=missing_value), ReadBuffers()
    totals, seen = np.zeros((2, facts.shape[facts.features_axis]))
    sides = (cells(slice(0, length), chunk) for length, chunk in zip(facts.shape, facts.chunks, strict=True))
    for rows, columns in product(*sides):
        rectangle = (rows, columns)
        raw = source.read(rows, columns, space)
        there, variants = ~absence.among(raw, facts, rectangle), rectangle[facts.features_axis]
        totals[variants] += np.sum(raw, axis=facts.samples_axis, where=there, dtype=np.float64)
        seen[variants] += np.count_nonzero(there, axis=facts.samples_axis)
    p = np.divide(totals, PLOIDY * seen, out=np.full(len(seen), np.nan), where=seen > 0)
    return np.asarray(np.minimum(p, 1 - p))


def check_threshold(maf: float) -> None:
    """`RequestError` where no variant has such a frequency of its rarer allele."""
    if not 0 <= maf <= _MOST_FREQUENT:
        raise RequestError(f"maf={maf!r} is not in [0, {_MOST_FREQUENT:g}]", "give such as 0.01")
