"""Dask's randomized SVD, `svd_compressed` (Halko, Martinsson & Tropp 2011, Alg. 4.3–4.4, 5.1)."""

from __future__ import annotations

from typing import Any

import dask.array as da

from bigsvd.device import Device
from bigsvd.matrix import Matrix
from bigsvd.methods.result import Triplets, zero_triplets
from bigsvd.methods.statistics import prepared_array, statistics_pass
from bigsvd.methods.tall_skinny import store
from bigsvd.request import Request


def compressed(matrix: Matrix, k: int, request: Request) -> Triplets:
    """The k leading triplets by `svd_compressed` with its own parameters, certified by a two-sided pass."""
    statistics_pass(matrix)
    if matrix.norm_squared == 0:
        return zero_triplets(matrix, k)
    context = matrix.context
    with context.executor.dask_client() as client, client.as_current():
        U, s, Vt = da.linalg.svd_compressed(
            prepared_array(matrix),
            k,
            iterator=request.iterator or "QR",
            n_power_iter=request.power_iterations or 0,
            n_oversamples=10 if request.oversampling is None else request.oversampling,
            seed=_random_state(request.seed, context.device),
            compute=request.compute is not False,
            coerce_signs=False,
        )
        return store(matrix, client, U, s, Vt)


def _random_state(seed: int, device: Device) -> Any:
    """Dask's source of random chunks, which must be of the device's own kind."""
    if device.apart:
        return da.random.RandomState(seed, RandomState=device.xp.random.RandomState)
    return da.random.RandomState(seed)
