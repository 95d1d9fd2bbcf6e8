"""CUDA GPUs by CuPy; the only module that imports it."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bigsvd.devices.base import Array, FreshSpace, Gaps, Queue, Space
from bigsvd.errors import MemoryBudgetError
from bigsvd.units import human_bytes

# How CUDA's errors are called, and what of their text says that the GPU's memory does not suffice.
_CUDA_ERRORS = ("CUDARuntimeError", "CUDADriverError", "CUBLASError", "CUSOLVERError")
_NO_MEMORY = ("MemoryAllocation", "OUT_OF_MEMORY", "out of memory", "ALLOC_FAILED")
# Limits of CuPy's pool in this process, by run; and its limit and use before the first of them.
_LIMITS: dict[str, int] = {}
_BEFORE: dict[str, int] = {}
_POOL_LOCK = threading.Lock()


class CupyQueue:
    """Two CUDA streams of one lane: products in one, copies to the device in the other.

    A block that was copied is complete before it is used, and products that read it are awaited before it is
    let go: so neither stream ever touches memory that CuPy's pool has given to the other.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._products = cupy.cuda.Stream(non_blocking=True)
        self._copies = cupy.cuda.Stream(non_blocking=True)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The stream of products is the calling thread's."""
        with self._products:
            yield

    def send(self, host: np.ndarray) -> Array:
        """By the stream of copies; directly from pinned memory, see `CupyDevice.host_memory`."""
        with self._copies:
            array = self._cupy.empty(host.shape, host.dtype)
            array.set(np.ascontiguousarray(host), stream=self._copies)
        self._copies.synchronize()
        return array

    def wait(self) -> None:
        """Until the stream of products is empty."""
        self._products.synchronize()


@dataclass(frozen=True)
class CupyDevice:
    """CuPy on the current CUDA device."""

    name: str
    has_own_memory: ClassVar[bool] = True

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

    def pieces(self, array: Array) -> list[tuple[slice, slice]]:
        """The whole."""
        return [(slice(0, array.shape[0]), slice(0, array.shape[1]))]

    def gaps(self, mask: Array) -> Gaps | None:
        """By their mask."""
        count = int(self.xp.count_nonzero(mask))
        return Gaps(mask, count) if count else None

    def filled(self, array: Array, gaps: Gaps, fill: Array | float) -> Array:
        """A new array."""
        return self.xp.where(gaps.mask, self.xp.asarray(fill, dtype=array.dtype), array)

    def space(self) -> Space:
        """CuPy's pool gives the memory of the slab before by itself."""
        return FreshSpace(self.xp)

    def free_bytes(self) -> int:
        """What is free, and what CuPy's pool in this process holds without using it."""
        return int(self.xp.cuda.Device().mem_info[0]) + int(self.xp.get_default_memory_pool().free_bytes())

    def identity(self) -> str:
        """Its UUID."""
        here = self.xp.cuda.Device().id
        return str(self.xp.cuda.runtime.getDeviceProperties(here)["uuid"])

    def host_memory(self, size: int) -> np.ndarray:
        """Pinned memory, not of CuPy's pool: that rounds up to powers of two and gives nothing back."""
        cuda = self.xp.cuda
        try:
            pinned = cuda.PinnedMemoryPointer(cuda.PinnedMemory(max(1, size)), 0)
        except cuda.runtime.CUDARuntimeError as error:
            raise MemoryBudgetError(
                f"{human_bytes(size)} of pinned host memory are not to be had ({error})",
                "give less memory, or raise the limit of locked memory",
            ) from error
        return np.frombuffer(pinned, np.uint8, size)

    def queue(self) -> Queue:
        """See `CupyQueue`."""
        return CupyQueue(self.xp)

    def limit(self, run: str, size: int) -> None:
        """The limit of CuPy's pool, one for the whole process: what was in use before, and all its runs."""
        with _POOL_LOCK:
            if not _LIMITS:
                pool = self.xp.get_default_memory_pool()
                _BEFORE.update(limit=int(pool.get_limit()), used=int(pool.used_bytes()))
            _LIMITS[run] = size
            self._apply(_BEFORE["used"] + sum(_LIMITS.values()))

    def unlimit(self, run: str) -> None:
        """After the last run the limit is what it was before the first."""
        with _POOL_LOCK:
            if _LIMITS.pop(run, None) is not None:
                self._apply(_BEFORE["used"] + sum(_LIMITS.values()) if _LIMITS else _BEFORE["limit"])

    def _apply(self, size: int) -> None:
        self.clean()
        self.xp.get_default_memory_pool().set_limit(size=size)

    def clean(self) -> None:
        """Free blocks of CuPy's pool, which a limited pool does not free by itself when it is full."""
        self.xp.get_default_memory_pool().free_all_blocks()

    def is_out_of_memory(self, error: BaseException) -> bool:
        """CuPy's own error, which its pool raises too at its limit, or one of CUDA's libraries."""
        if isinstance(error, self.xp.cuda.memory.OutOfMemoryError):
            return True
        return type(error).__name__ in _CUDA_ERRORS and any(word in str(error) for word in _NO_MEMORY)


def find_gpu() -> tuple[CupyDevice | None, str]:
    """The GPU that CuPy uses, None where there is none that works; and what was found, in words."""
    try:
        cupy = importlib.import_module("cupy")
        properties = cupy.cuda.runtime.getDeviceProperties(0)
    except ImportError:
        return None, "CuPy is not installed"
    except Exception as error:  # noqa: BLE001 - CuPy raises its own runtime errors; without CuPy they have no name here
        return None, f"no usable CUDA device ({type(error).__name__})"
    return CupyDevice(properties["name"].decode()), "a CUDA device is usable"
