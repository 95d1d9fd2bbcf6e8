"""Dask's randomized SVD, `svd_compressed` (Halko, Martinsson & Tropp 2011, Alg. 4.3–4.4, 5.1)."""

from __future__ import annotations

from typing import Any

import dask.array as da

from bigsvd.catalog.widths import PROBES
from bigsvd.devices.base import Device
from bigsvd.methods.by_dask import DaskMethod
from bigsvd.methods.choosing import Shortfall
from bigsvd.methods.matrix import Matrix
from bigsvd.planning.demands import Question
from bigsvd.planning.layout import Layout
from bigsvd.request import Request


class Compressed(DaskMethod):
    """See the module; `catalog.options.CompressedOptions` are its parameters."""

    name = "compressed"

    def memory(self, question: Question, layout: Layout) -> dict[str, int]:
        """Its tall blocks, and where it does not compute each stage at once the whole matrix."""
        columns, threads = layout.width + PROBES, question.machine.threads
        panels = int(2 * threads * layout.panel_bytes * question.itemsize / layout.itemsize)
        terms = {"Dask's tall blocks": 4 * layout.M * columns * question.itemsize + panels}
        if question.request.method_options.compute:
            return terms
        return {"whole matrix held by Dask": 3 * layout.M * layout.N * question.itemsize} | terms

    def reads(self, request: Request) -> float:
        """Two, and two for each power iteration."""
        return 2.0 * float(request.method_options.power_iterations) + 2.0

    def factors(self, B: Any, matrix: Matrix, request: Request) -> tuple[Any, Any, Any]:
        """By `svd_compressed` with its own parameters."""
        options, context = request.method_options, matrix.context
        U, s, Vt = da.linalg.svd_compressed(
            B,
            context.plan.k,
            iterator=options.iterator,
            n_power_iter=options.power_iterations,
            n_oversamples=options.oversampling,
            seed=_random_state(request.seed, context.device),
            compute=options.compute,
            coerce_signs=False,
        )
        return U, s, Vt

    def lack(self, matrix: Matrix, request: Request) -> Shortfall:
        """More power iterations would do."""
        del matrix
        made = request.method_options.power_iterations
        remedy = f"ask for power_iterations={made + 2}, or method='krylov', which goes on until it is reached"
        return Shortfall(f"{made} power iterations do not reach it", remedy)


def _random_state(seed: int, device: Device) -> Any:
    """Dask's source of random chunks, which must be of the device's own kind."""
    if device.has_own_memory:
        return da.random.RandomState(seed, RandomState=device.xp.random.RandomState)
    return da.random.RandomState(seed)


METHOD = Compressed()
