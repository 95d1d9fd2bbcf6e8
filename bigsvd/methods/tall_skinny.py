"""Dask's direct tall-and-skinny SVD (`dask.array.linalg.svd`, TSQR of Benson, Gleich & Demmel 2013).

Full precision, one read, but Dask holds the Q of every panel until R is known: the matrix must fit in memory.
"""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np

from bigsvd.device import Device
from bigsvd.matrix import Matrix
from bigsvd.methods.result import (
    Triplets,
    certify_two_sided,
    long_target,
    noise_floor,
    rounding_of,
    zero_triplets,
)
from bigsvd.methods.statistics import prepared_array, statistics_pass


def tall_skinny(matrix: Matrix, k: int) -> Triplets:
    """The k leading triplets by `dask.array.linalg.svd`, certified by a two-sided pass."""
    statistics_pass(matrix)
    if matrix.norm_squared == 0:
        return zero_triplets(matrix, k)
    U, s, Vt = da.linalg.svd(prepared_array(matrix), coerce_signs=False)
    with matrix.context.executor.dask_client() as client:
        return store(matrix, client, U[:, :k], s[:k], Vt[:k])


def store(matrix: Matrix, client: Any, U: Any, s: Any, Vt: Any) -> Triplets:
    """Compute Dask factors of B with the contract's signs, the long one right into scratch; certify them."""
    context = matrix.context
    U, s, Vt = (_on_host(factor, context.device) for factor in (U, s, Vt))
    asked = int(U.shape[1])
    s, Vt, extremes = dask.compute(s, Vt, _extremes(U) if context.plan.transposed else None, scheduler=client)
    s = np.asarray(s, dtype=np.float64)
    floor = noise_floor(matrix, float(s[0]), rounding_of(matrix))
    k = max(1, int(np.sum(s > floor)))
    s, U, short = s[:k], U[:, :k], np.asarray(Vt, dtype=np.float64).T[:, :k]
    if not context.plan.transposed:
        extremes = short[np.argmax(np.abs(short), axis=0), np.arange(k)]
    signs = np.where(extremes[:k] < 0, -1.0, 1.0)
    target, chunk_rows = long_target(context, k, matrix.dtype)
    U = (U * signs).astype(matrix.dtype).rechunk({0: chunk_rows, 1: k})
    da.store(
        U.T if target.transposed else U,
        context.scratch.open(target.name),
        lock=False,
        compute=True,
        scheduler=client,
    )
    found = Triplets(s, short * signs, np.zeros(0), np.zeros(k), "two-sided", None, asked - k, floor)
    return certify_two_sided(matrix, found, target)


def _on_host(factor: Any, device: Device) -> Any:
    """A factor with its blocks on the host."""
    if not device.apart:
        return factor
    empty = np.empty((0,) * factor.ndim, factor.dtype)
    return factor.map_blocks(device.to_host, dtype=factor.dtype, meta=empty)


def _extremes(U: Any) -> Any:
    """The entry of largest magnitude in each column of a Dask array."""
    largest, smallest = U.max(axis=0), U.min(axis=0)
    return da.where(abs(largest) >= abs(smallest), largest, smallest)
