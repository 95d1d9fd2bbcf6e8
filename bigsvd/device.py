"""`Device`: where the arithmetic happens, as a value handed down; the only module that imports cupy.

Kernels are written once against `Device.xp`, an array namespace; data enters through `to_device` and leaves
through `to_host`, and nothing converts silently between the two.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import psutil

from bigsvd.errors import DeviceError

Array = Any
_CACHED_ENTRIES = 2**13


class Device(Protocol):
    """An array namespace and its memory."""

    @property
    def name(self) -> str:
        """What a person calls it, for the plan and the report."""

    @property
    def xp(self) -> Any:
        """The array namespace: numpy, cupy or a strict stand-in."""

    def to_device(self, host: np.ndarray) -> Array:
        """The array on the device; may share memory with `host`."""

    def to_host(self, array: Array) -> np.ndarray:
        """The array as NumPy; waits for the device."""

    def sum_of_squares(self, array: Array) -> float:
        """‖array‖²_F of a (r, c) array, summed in float64."""

    def memory_bytes(self) -> int:
        """Bytes of memory that are free for work."""


@dataclass(frozen=True)
class CpuDevice:
    """NumPy on this machine's cores."""

    name: str = "cpu"

    @property
    def xp(self) -> Any:
        """Numpy."""
        return np

    def to_device(self, host: np.ndarray) -> Array:
        """`host` itself."""
        return host

    def to_host(self, array: Array) -> np.ndarray:
        """`array` itself."""
        return np.asarray(array)

    def sum_of_squares(self, array: Array) -> float:
        """A few lines at a time in float64, so that the wide copy stays in cache: half the time."""
        array = array.T if array.strides[0] < array.strides[1] else array
        step = max(1, _CACHED_ENTRIES // array.shape[1])
        total = 0.0
        for start in range(0, array.shape[0], step):
            wide = array[start : start + step].astype(np.float64, copy=False)
            total += float(np.vdot(wide, wide))
        return total

    def memory_bytes(self) -> int:
        """Available memory as the operating system sees it."""
        return int(psutil.virtual_memory().available)


@dataclass(frozen=True)
class CupyDevice:
    """CuPy on the current CUDA device."""

    name: str

    @property
    def xp(self) -> Any:
        """Cupy."""
        return importlib.import_module("cupy")

    def to_device(self, host: np.ndarray) -> Array:
        """A copy of `host` in device memory."""
        return self.xp.asarray(host)

    def to_host(self, array: Array) -> np.ndarray:
        """A copy in host memory, after the device has finished."""
        return np.asarray(self.xp.asnumpy(array))

    def sum_of_squares(self, array: Array) -> float:
        """By one kernel that widens as it sums."""
        return float(self.xp.sum(self.xp.square(array, dtype=self.xp.float64)))

    def memory_bytes(self) -> int:
        """Free bytes of device memory."""
        return int(self.xp.cuda.Device().mem_info[0])


def choose_device(asked: Literal["auto", "cpu", "gpu"]) -> tuple[Device, str]:
    """The device for a request and why, in words; `DeviceError` if a GPU was asked for and none works."""
    if asked == "cpu":
        return CpuDevice(), "asked for"
    try:
        cupy = importlib.import_module("cupy")
        properties = cupy.cuda.runtime.getDeviceProperties(0)
    except ImportError:
        reason = "CuPy is not installed"
    except Exception as error:  # noqa: BLE001 - CuPy raises its own runtime errors; without CuPy they have no name here
        reason = f"no usable CUDA device ({type(error).__name__})"
    else:
        return CupyDevice(
            properties["name"].decode()
        ), "asked for" if asked == "gpu" else "a CUDA device is usable"
    if asked == "gpu":
        raise DeviceError(
            f"device='gpu' but {reason}", "install the gpu extra on a machine with a GPU, or use 'cpu'"
        )
    return CpuDevice(), reason
