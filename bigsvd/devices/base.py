"""`Device` and its `Queue`: what kernels are written against.

Kernels are written once against `Device.xp`, an array namespace; data enters through `to_device` or a `Queue`
and leaves through `to_host`, and nothing converts silently between the two.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

Array = Any
# What a Dask worker must offer (`dask worker --resources GPU=1`) to be given a GPU's lanes.
RESOURCE = "GPU"


class Queue(Protocol):
    """What one lane has under way on a device: its products, and beside them copies of what is next."""

    def computing(self) -> AbstractContextManager[Any]:
        """While this lasts, what the calling thread computes is put in this queue."""

    def send(self, host: np.ndarray) -> Array:
        """The block on the device, complete; from any thread, while products go on."""

    def wait(self) -> None:
        """Until all products so far are done; only then may what they read be let go."""


class Space(Protocol):
    """Memory of a device in which one lane makes its slabs, one after the other."""

    @property
    def takes_parts(self) -> bool:
        """Whether numbers are best widened right into parts of it, from memory of the same device."""

    def take(self, like: Array, dtype: str) -> Array:
        """An array of the shape and memory order of `like`, holding anything; the one before is gone."""


@dataclass(frozen=True)
class FreshSpace:
    """New memory for each slab, of an array namespace."""

    xp: Any
    takes_parts: ClassVar[bool] = False

    def take(self, like: Array, dtype: str) -> Array:
        """See `Space.take`; rows lie in memory one after the other."""
        return self.xp.empty(like.shape, dtype=getattr(self.xp, dtype))


@dataclass(frozen=True, eq=False)
class Gaps:
    """Which entries of a (r, c) array are missing; at least one is.

    Attributes:
        mask: (r, c), true where one is. count: of them.
        places: where they lie in memory, one after the other, if they are few and that is faster.

    """

    mask: Array
    count: int
    places: Array | None = None


class Device(Protocol):
    """An array namespace and its memory."""

    @property
    def name(self) -> str:
        """What a person calls it, for the plan and the report."""

    @property
    def has_own_memory(self) -> bool:
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

    def pieces(self, array: Array) -> list[tuple[slice, slice]]:
        """Rows and columns of the parts in which a (r, c) array is worked on, one after the other.

        A processor is fastest with what its cache holds, in the order of memory; a GPU with the whole.
        """

    def gaps(self, mask: Array) -> Gaps | None:
        """What a mask (r, c) says is missing; None where nothing is."""

    def filled(self, array: Array, gaps: Gaps, fill: Array | float) -> Array:
        """The array, which may be changed, with `fill` (what broadcasts to it) in the gaps."""

    def space(self) -> Space:
        """Memory for the slabs of one lane."""

    def free_bytes(self) -> int:
        """Bytes that are free of its own memory; 0 if it has none."""

    def identity(self) -> str:
        """The same in all processes that use the same GPU, and in no other."""

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
