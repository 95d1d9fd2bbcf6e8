"""What a device computes for data that lie on the host."""

from __future__ import annotations

from typing import Any

import numpy as np

from bigsvd.devices.base import Array, Device

# Multiplications and additions below which a product is done on the host before a device has received it.
_WORTH_SENDING_FLOPS = 2e9
# Bytes of a product's rows that are sent to a device at a time.
_SENT_BYTES = 2**28


def multiply(device: Device, left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
    """left·right of arrays on the host into `out`: by a GPU where there is much to do, else here.

    Some rows at a time, so that the device holds `right` and little else; here where even that is too much.
    """
    rows, inner = left.shape
    if not device.has_own_memory or 2.0 * rows * inner * right.shape[1] < _WORTH_SENDING_FLOPS:
        np.matmul(left, right, out=out)
        return
    step = max(1, _SENT_BYTES // max(1, (inner + right.shape[1]) * right.itemsize))
    try:
        there = device.to_device(np.ascontiguousarray(right))
        for start in range(0, rows, step):
            part = device.to_device(np.ascontiguousarray(left[start : start + step])) @ there
            out[start : start + step] = device.to_host(part)
    except Exception as error:
        if not device.is_out_of_memory(error):
            raise
        np.matmul(left, right, out=out)


def stacked(device: Device, parts: list[Array]) -> np.ndarray:
    """Blocks of rows on the device as one array on the host."""
    return np.concatenate([device.to_host(part) for part in parts])


def as_numpy(block: Any) -> np.ndarray:
    """A block of another library's array as NumPy; CuPy copies to the host only where it is told to."""
    if type(block).__module__.split(".")[0] == "cupy":
        return np.asarray(block.get())
    return np.asarray(block)
