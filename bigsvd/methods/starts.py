"""First blocks for the Krylov iteration: Gaussian, or from a sample of the rows."""

from __future__ import annotations

import numpy as np

from bigsvd.device import Array, Device
from bigsvd.matrix import Matrix
from bigsvd.methods.krylov import gaussian
from bigsvd.monitor import return_large_buffers
from bigsvd.passes import cluster_errors, one_blas_thread
from bigsvd.planning import Plan
from bigsvd.scratch import Scratch
from bigsvd.source import Source
from bigsvd.transform import Lines, LineSums, Transform

_GAUSSIAN_SHARE = 0.2
_ITERATIONS = 3


def gaussian_block(matrix: Matrix, seed: int) -> np.ndarray:
    """An orthonormalised Gaussian block (N, l)."""
    plan = matrix.context.plan
    return np.linalg.qr(gaussian(seed, 2, (plan.cols, plan.width)))[0]


def sample_block(matrix: Matrix, seed: int) -> np.ndarray:
    """The leading right vectors of the sampled rows, completed with Gaussian columns (N, l).

    Also gives the matrix its first estimates of means, divisors and prescaling. At least a fifth of the block
    is Gaussian, so that a biased sample cannot hide a direction.
    """
    context = matrix.context
    scratch = context.scratch
    if scratch.recorded("start/done") is None:
        context.progress({"event": "sample", "rows": sum(b - a for a, b in context.plan.sample)})
        arguments = (
            context.plan,
            context.source,
            scratch,
            context.device,
            matrix.transform,
            matrix.dtype,
            seed,
        )
        with cluster_errors():
            context.client.submit(read_sample, *arguments, pure=False).result()
    found = scratch.recorded("start/done")
    if found is None or not found["usable"]:
        return gaussian_block(matrix, seed)
    matrix.prescale(found["peak"])
    if scratch.has("start/lines"):
        matrix.lines = Lines(*np.ldexp(scratch.read("start/lines"), matrix.transform.exponent))
    return scratch.read("start/block")


def read_sample(
    plan: Plan, source: Source, scratch: Scratch, device: Device, transform: Transform, dtype: str, seed: int
) -> None:
    """In a worker: read the sampled rows of B; leave block, line estimates and a record in scratch."""
    return_large_buffers()
    with one_blas_thread, np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rows = sum(stop - start for start, stop in plan.sample)
        values = np.empty((rows, plan.cols), np.float64 if transform.by_line else dtype)
        masks: list[np.ndarray | None] = []
        at = 0
        for start, stop in plan.sample:
            span = slice(start, stop)
            raw = (
                source.read(slice(0, plan.cols), span).T
                if plan.transposed
                else source.read(span, slice(0, plan.cols))
            )
            wide, mask = transform.widen(device, raw)
            values[at : at + stop - start] = device.to_host(wide)
            masks.append(None if mask is None else device.to_host(mask))
            at += stop - start
        peak = float(np.max(np.abs(values)))
        if not 0 < peak < np.inf:
            scratch.record("start/done", {"usable": False, "peak": 0.0})
            return
        mask = None if masks[0] is None else np.concatenate([m for m in masks if m is not None])
        if transform.by_line:
            lines = _lines_of(device, values, mask, peak, rows=plan.transposed)
            values = transform.apply(device, values, mask, lines, rows=plan.transposed)
            if not plan.transposed:
                scratch.write("start/lines", lines.stacked())
        scale = float(np.max(np.abs(values)))
        block = _leading(
            device, (values / scale if scale else values).astype(dtype, copy=False), plan.width, seed
        )
        scratch.write("start/block", block)
        scratch.record("start/done", {"usable": True, "peak": peak})


def _lines_of(
    device: Device, values: np.ndarray, mask: np.ndarray | None, peak: float, *, rows: bool
) -> Lines:
    """Mean and divisor of the lines of the sample, whose largest entry is `peak`: its square may overflow."""
    exponent = int(np.log2(peak))
    values = np.ldexp(values, -exponent)
    sums = LineSums(np.mean(values, axis=1 if rows else 0), values.shape[1 if rows else 0])
    sums.add(device, values, mask, rows=rows, at=slice(None))
    return Lines(*np.ldexp(sums.lines(2.0**-exponent).stacked(), exponent))


def _leading(device: Device, sample: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Leading right vectors of the sample by subspace iteration (Halko et al. 2011, Alg. 4.4) + Gaussian."""
    narrow = min(width - int(np.ceil(_GAUSSIAN_SHARE * width)), *sample.shape)
    S = device.to_device(sample)
    Q = np.linalg.qr(gaussian(seed, 0, (sample.shape[1], narrow)))[0]
    for _ in range(_ITERATIONS):
        block: Array = device.to_device(Q.astype(sample.dtype))
        Q = np.linalg.qr(device.to_host(S.T @ (S @ block)).astype(np.float64))[0]
    rest = gaussian(seed, 2, (sample.shape[1], width - narrow))
    return np.linalg.qr(np.concatenate([Q, rest], axis=1))[0]
