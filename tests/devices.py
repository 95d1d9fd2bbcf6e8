"""Devices for tests that need no GPU: strict arrays, and a small memory of its own that can overflow."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

import array_api_strict
import numpy as np

from bigsvd.devices.base import FreshSpace, Gaps, Queue, Space
from bigsvd.devices.cpu import DirectQueue


class FullError(Exception):
    """What a fake device raises when its memory does not suffice."""


@dataclass
class Ledger:
    """What a fake device holds and has done; `capacity` in bytes."""

    capacity: float = float("inf")
    held: int = 0
    most: int = 0
    sent: list[int] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)
    seen_limits: set[int] = field(default_factory=set)
    refusals: int = 0

    def take(self, array: Any, size: int) -> Any:
        """Count an array for as long as it lives."""
        if self.held + size > self.capacity:
            self.refusals += 1
            raise FullError(f"{size} bytes asked for, {self.capacity - self.held} free")
        self.held += size
        self.most = max(self.most, self.held)
        weakref.finalize(array, self._release, size)
        return array

    def _release(self, size: int) -> None:
        self.held -= size


LEDGERS: dict[str, Ledger] = {}


@dataclass(frozen=True)
class StrictDevice:
    """Arrays in the host's memory that convert only through `to_device` and `to_host`, as CuPy's do."""

    name: str = "strict"

    @property
    def has_own_memory(self) -> bool:
        return False

    @property
    def xp(self) -> Any:
        return array_api_strict

    def to_device(self, host: np.ndarray) -> Any:
        return array_api_strict.asarray(host, copy=True)

    def to_host(self, array: Any) -> np.ndarray:
        return np.from_dlpack(array)

    def sum_of_squares(self, array: Any) -> float:
        wide = array_api_strict.astype(array, array_api_strict.float64)
        return float(array_api_strict.sum(array_api_strict.vecdot(wide, wide)))

    def pieces(self, array: Any) -> list[tuple[slice, slice]]:
        rows, cols = array.shape
        middle, height = cols // 2, max(3, rows // 7)
        return [
            (slice(top, min(rows, top + height)), part)
            for top in range(0, rows, height)
            for part in (slice(0, middle), slice(middle, cols))
            if part.stop > part.start
        ]

    def gaps(self, mask: Any) -> Gaps | None:
        count = int(array_api_strict.count_nonzero(mask))
        return Gaps(mask, count) if count else None

    def filled(self, array: Any, gaps: Gaps, fill: Any) -> Any:
        return array_api_strict.where(gaps.mask, array_api_strict.asarray(fill, dtype=array.dtype), array)

    def space(self) -> Space:
        return FreshSpace(array_api_strict)

    def free_bytes(self) -> int:
        return 0

    def identity(self) -> str:
        return ""

    def host_memory(self, size: int) -> np.ndarray:
        return np.empty(size, np.uint8)

    def queue(self) -> Queue:
        return DirectQueue()

    def limit(self, run: str, size: int) -> None:
        pass

    def unlimit(self, run: str) -> None:
        pass

    def clean(self) -> None:
        pass

    def is_out_of_memory(self, error: BaseException) -> bool:
        del error
        return False


@dataclass(frozen=True)
class CountedNamespace:
    """array_api_strict, its wide copies counted as memory of a device."""

    ledger: str

    def __getattr__(self, name: str) -> Any:
        return getattr(array_api_strict, name)

    def astype(self, array: Any, dtype: Any, *, copy: bool = True) -> Any:
        made = array_api_strict.astype(array, dtype, copy=copy)
        if made is array:
            return made
        return LEDGERS[self.ledger].take(made, int(np.prod(made.shape)) * np.from_dlpack(made).itemsize)


class SendingQueue(DirectQueue):
    """Copies to the fake device."""

    def __init__(self, device: ApartDevice) -> None:
        self._device = device

    def send(self, host: np.ndarray) -> Any:
        LEDGERS[self._device.ledger].sent.append(host.nbytes)
        return self._device.to_device(host)


@dataclass(frozen=True)
class ApartDevice(StrictDevice):
    """A device with a memory of its own, whose use stands in ``LEDGERS[ledger]``."""

    name: str = "fake GPU"
    ledger: str = ""
    free: int = 2**30
    uuid: str = "one"

    @property
    def has_own_memory(self) -> bool:
        return True

    @property
    def xp(self) -> Any:
        return CountedNamespace(self.ledger)

    def to_device(self, host: np.ndarray) -> Any:
        return LEDGERS[self.ledger].take(super().to_device(host), host.nbytes)

    def free_bytes(self) -> int:
        return self.free

    def identity(self) -> str:
        return self.uuid

    def queue(self) -> Queue:
        return SendingQueue(self)

    def limit(self, run: str, size: int) -> None:
        LEDGERS[self.ledger].limits[run] = size
        LEDGERS[self.ledger].seen_limits.add(size)

    def unlimit(self, run: str) -> None:
        del LEDGERS[self.ledger].limits[run]

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, FullError)
