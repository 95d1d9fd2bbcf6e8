"""The pass that most methods are made of: Y = B·P and Z = BᵀY for a block P, in one read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bigsvd.device import Array, Device, stacked
from bigsvd.matrix import Matrix
from bigsvd.passes import PassResult, run_pass
from bigsvd.scratch import Scratch


@dataclass(frozen=True)
class ProductKernel:
    """Y = B·P and Z = BᵀY for `block` (N×c) of scratch; the first `keep` columns of Y are stored, if any."""

    block: str
    y: str
    keep: int

    def start(self, scratch: Scratch, device: Device, dtype: str) -> Product:
        """The operator of one lane."""
        return Product(scratch, device, dtype, self)


class Product:
    """`ProductKernel` at work in one lane."""

    def __init__(self, scratch: Scratch, device: Device, dtype: str, kernel: ProductKernel) -> None:
        self._device = device
        block = scratch.read(kernel.block)
        self._block = device.to_device(block.astype(dtype))
        self._total = device.to_device(np.zeros(block.shape[::-1]))
        self._y = scratch.open(kernel.y) if kernel.keep else None
        self._keep = kernel.keep

    def forward(self, slab: Array, cols: slice) -> Array:
        """B·P of a slab."""
        return slab @ self._block[cols, :]

    def backward(self, slab: Array, y: Array | None, rows: slice, cols: slice) -> None:
        """Add Yᵀ·B of a slab to float64 sums; as the transpose, which BLAS finds easier than BᵀY."""
        del rows
        if y is not None:
            self._total[:, cols] += y.T @ slab

    def finish_panel(self, y: list[Array], rows: slice) -> None:
        """Store the kept columns of Y."""
        if self._y is not None:
            self._y[rows] = stacked(self._device, [part[:, : self._keep] for part in y])

    def sums(self) -> dict[str, np.ndarray]:
        """Z (N, c)."""
        return {"z": np.ascontiguousarray(self._device.to_host(self._total).T)}


def product_pass(
    matrix: Matrix, name: str, columns: np.ndarray, *, keep: int, sample: bool, look: bool = False
) -> PassResult:
    """BᵀB·P in `sums["z"]` for P = `columns` (N, c), and the first `keep` columns of B·P in `<name>/y`.

    Over all panels or the sample's, with a `look` at what they hold; replayed if scratch has it, and then for
    the very columns it had.
    """
    context = matrix.context
    scratch, plan = context.scratch, context.plan
    if not matrix.holds(name, block=columns):
        scratch.remove(name)
        matrix.prepare(name, sample=sample)
        if keep:
            scratch.create(f"{name}/y", (plan.rows, keep), (plan.panel_rows, keep), matrix.dtype)
        scratch.write(f"{name}/block", columns)
    kernel = ProductKernel(f"{name}/block", f"{name}/y", keep)
    result = run_pass(context, matrix.spec(name, kernel, sample=sample, look=look))
    matrix.charge(result, sample=sample)
    return result
