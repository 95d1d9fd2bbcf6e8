"""What passes compute from slabs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bigsvd.devices.arithmetic import stacked
from bigsvd.devices.base import Array, Device
from bigsvd.results.factor_array import FactorArray
from bigsvd.scratch import Scratch
from bigsvd.slabs.operator import Operator
from bigsvd.slabs.slab import Slab


@dataclass(frozen=True)
class ProductKernel:
    """Y = B·P and Z = BᵀY for `block` (N×c) of scratch; the first `keep` columns of Y are stored, if any."""

    block: str
    y: str
    keep: int

    def start(self, scratch: Scratch, device: Device, dtype: str) -> Product:
        """The operator of one lane."""
        return Product(scratch, device, dtype, self)


class Product(Operator):
    """`ProductKernel` at work in one lane."""

    def __init__(self, scratch: Scratch, device: Device, dtype: str, kernel: ProductKernel) -> None:
        self._device = device
        block = scratch.read(kernel.block)
        self._block = device.to_device(block.astype(dtype))
        self._total = device.to_device(np.zeros(block.shape[::-1]))
        self._y = scratch.open(kernel.y) if kernel.keep else None
        self._keep = kernel.keep

    def forward(self, slab: Slab) -> Array:
        """B·P of a slab."""
        return slab.times(self._block[slab.cols, :])

    def backward(self, slab: Slab, y: Array | None) -> None:
        """Add Yᵀ·B of a slab to float64 sums."""
        if y is not None:
            self._total[:, slab.cols] += slab.transposed_adjoint_times(y)

    def finish_panel(self, y: list[Array], rows: slice) -> None:
        """Store the kept columns of Y."""
        if self._y is not None:
            self._y[rows] = stacked(self._device, [part[:, : self._keep] for part in y])

    def sums(self) -> dict[str, np.ndarray]:
        """Z (N, c)."""
        return {"z": np.ascontiguousarray(self._device.to_host(self._total).T)}


@dataclass(frozen=True)
class GramKernel:
    """G = BᵀB (N, N)."""

    cols: int

    def start(self, scratch: Scratch, device: Device, dtype: str) -> Gram:
        """The operator of one lane."""
        del scratch, dtype
        return Gram(device, self.cols)


class Gram(Operator):
    """`GramKernel` at work in one lane."""

    def __init__(self, device: Device, cols: int) -> None:
        self._device = device
        self._total = device.to_device(np.zeros((cols, cols)))

    def backward(self, slab: Slab, y: Array | None) -> None:
        """Add BᵀB of a slab to float64 sums; slabs are whole rows."""
        del y
        self._total += slab.gram()

    def sums(self) -> dict[str, np.ndarray]:
        """G."""
        return {"gram": self._device.to_host(self._total)}


@dataclass(frozen=True)
class TwoSidedKernel:
    """One pass for given factors of B: R = ‖B·V−U·S‖ by column, T = Bᵀ·U, C = Uᵀ·B·V.

    `short` names V (N, k) and `values` s (k,) in scratch; `long` is U (M, k).
    ‖B‖²_F comes with the pass's census.
    """

    short: str
    long: FactorArray
    values: str

    def start(self, scratch: Scratch, device: Device, dtype: str) -> TwoSided:
        """The operator of one lane."""
        return TwoSided(scratch, device, dtype, self)


class TwoSided(Operator):
    """`TwoSidedKernel` at work in one lane."""

    def __init__(self, scratch: Scratch, device: Device, dtype: str, kernel: TwoSidedKernel) -> None:
        self._device = device
        self._xp = device.xp
        self._dtype = getattr(device.xp, dtype)
        short = scratch.read(kernel.short)
        self._short = device.to_device(short.astype(dtype))
        self._values = scratch.read(kernel.values)
        self._long = kernel.long.open(scratch)
        k = short.shape[1]
        self._left = np.zeros(k)
        self._core = np.zeros((k, k))
        self._norms = np.zeros((k, k))
        self._back = np.zeros(short.shape)

    def forward(self, slab: Slab) -> Array:
        """B·V of a slab."""
        return slab.times(self._short[slab.cols, :])

    def backward(self, slab: Slab, y: Array | None) -> None:
        """Bᵀ·U of a slab."""
        del y
        u = self._xp.astype(self._device.to_device(self._long[slab.rows]), self._dtype, copy=False)
        self._back[slab.cols] += self._device.to_host(slab.adjoint_times(u))

    def finish_panel(self, y: list[Array], rows: slice) -> None:
        """The residual B·V − U·S and UᵀBV of a panel, in float64."""
        u = self._long[rows].astype(np.float64)
        wide = stacked(self._device, y).astype(np.float64)
        residue = wide - u * self._values
        self._left += np.einsum("ij,ij->j", residue, residue)
        self._core += u.T @ wide
        self._norms += u.T @ u

    def sums(self) -> dict[str, np.ndarray]:
        """Squared column norms (k,), UᵀBV (k, k), UᵀU (k, k), BᵀU (N, k)."""
        return {"left": self._left, "core": self._core, "gram": self._norms, "back": self._back}
