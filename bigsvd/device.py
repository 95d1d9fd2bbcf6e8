"""`Device`: where the arithmetic happens, as a value handed down; the only module that imports cupy.

Kernels are written once against `Device.xp`, an array namespace; data enters through `to_device` or a `Queue`
and leaves through `to_host`, and nothing converts silently between the two.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from bigsvd.errors import DeviceError, MemoryBudgetError
from bigsvd.text import human_bytes

Array = Any
RESOURCE = "GPU"  # what a Dask worker must offer (`dask worker --resources GPU=1`) to be given a GPU's lanes
_CACHED_ENTRIES = 2**16
_WORTH_SENDING_FLOPS = 2e9  # less is done here before it is there
_SENT_BYTES = 2**28
_CUDA_ERRORS = ("CUDARuntimeError", "CUDADriverError", "CUBLASError", "CUSOLVERError")
_NO_MEMORY = ("MemoryAllocation", "OUT_OF_MEMORY", "out of memory", "ALLOC_FAILED")
_LIMITS: dict[str, int] = {}  # of CuPy's pool in this process, by run
_BEFORE: dict[str, int] = {}  # the first of them: limit and use of the pool
_POOL_LOCK = threading.Lock()


class Queue(Protocol):
    """What one lane has under way on a device: its products, and beside them copies of what is next."""

    def computing(self) -> AbstractContextManager[Any]:
        """While this lasts, what the calling thread computes is put in this queue."""

    def send(self, host: np.ndarray) -> Array:
        """The block on the device, complete; from any thread, while products go on."""

    def wait(self) -> None:
        """Until all products so far are done; only then may what they read be let go."""


class Device(Protocol):
    """An array namespace and its memory."""

    @property
    def name(self) -> str:
        """What a person calls it, for the plan and the report."""

    @property
    def apart(self) -> bool:
        """Whether it has memory of its own, to which blocks are copied."""

    @property
    def xp(self) -> Any:
        """The array namespace: numpy, cupy or a strict stand-in."""

    def to_device(self, host: np.ndarray) -> Array:
        """The array on the device; may share memory with `host`."""

    def to_host(self, array: Array) -> np.ndarray:
        """The array as NumPy; waits for the device."""

    def sum_of_squares(self, array: Array) -> float:
        """‖array‖²_F of a (r, c) array, summed in float64."""

    def free_bytes(self) -> int:
        """Bytes that are free of its own memory; 0 if it has none."""

    def identity(self) -> str:
        """The same in all processes that use the same device apart, and in no other."""

    def host_memory(self, size: int) -> np.ndarray:
        """So many bytes (uint8) of the host's memory, from which copies to the device are fast."""

    def queue(self) -> Queue:
        """A new queue."""

    def limit(self, run: str, size: int) -> None:
        """Let a run take at most so many bytes of the device's memory in this process."""

    def unlimit(self, run: str) -> None:
        """The run is over."""

    def clean(self) -> None:
        """Give back what this process holds of the device's memory and does not use."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether that is how the device says that its memory does not suffice."""


class DirectQueue:
    """No queue: everything is done at once, and blocks are used where they lie."""

    def computing(self) -> AbstractContextManager[Any]:
        """Nothing to be done."""
        return nullcontext()

    def send(self, host: np.ndarray) -> Array:
        """`host` itself."""
        return host

    def wait(self) -> None:
        """Nothing to wait for."""


@dataclass(frozen=True)
class CpuDevice:
    """NumPy on this machine's cores."""

    name: ClassVar[str] = "cpu"
    apart: ClassVar[bool] = False

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

    def free_bytes(self) -> int:
        """None of its own."""
        return 0

    def identity(self) -> str:
        """Nothing: there is nothing to share."""
        return ""

    def host_memory(self, size: int) -> np.ndarray:
        """Ordinary memory."""
        return np.empty(size, np.uint8)

    def queue(self) -> Queue:
        """See `DirectQueue`."""
        return DirectQueue()

    def limit(self, run: str, size: int) -> None:
        """Nothing: the plan keeps to its budget of host memory."""

    def unlimit(self, run: str) -> None:
        """Nothing."""

    def clean(self) -> None:
        """Nothing."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Never: the host's memory is no memory of its own."""
        del error
        return False


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
    apart: ClassVar[bool] = True

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
            f"device='gpu' but {reason}", "install the gpu extra on a machine with a GPU, or use device='cpu'"
        )
    return CpuDevice(), reason


def multiply(device: Device, left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
    """left·right of arrays on the host into `out`: by a device apart where there is much to do, else here.

    Some rows at a time, so that the device holds `right` and little else; here where even that is too much.
    """
    rows, inner = left.shape
    if not device.apart or 2.0 * rows * inner * right.shape[1] < _WORTH_SENDING_FLOPS:
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
