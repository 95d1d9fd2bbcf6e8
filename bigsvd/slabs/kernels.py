"""What passes compute from slabs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bigsvd.device import Array, Device, stacked
from bigsvd.factor_array import FactorArray
from bigsvd.scratch import Scratch


@dataclass(frozen=True)
class TwoSidedKernel:
    """One pass for given factors of B: R = ‖B·V−U·S‖ by column, T = Bᵀ·U, C = Uᵀ·B·V.

    `short` names V (N, k) and `values` s (k,) in scratch; `long` is U (M, k).
    ‖B‖²_F comes with the pass's moments.
    """

    short: str
    long: FactorArray
    values: str

    def start(self, scratch: Scratch, device: Device, dtype: str) -> TwoSided:
        """The operator of one lane."""
        return TwoSided(scratch, device, dtype, self)


class TwoSided:
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

    def forward(self, slab: Array, cols: slice) -> Array:
        """B·V of a slab."""
        return slab @ self._short[cols, :]

    def backward(self, slab: Array, y: Array | None, rows: slice, cols: slice) -> None:
        """Bᵀ·U of a slab."""
        del y
        u = self._xp.astype(self._device.to_device(self._long[rows]), self._dtype, copy=False)
        self._back[cols] += self._device.to_host(slab.T @ u)

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
