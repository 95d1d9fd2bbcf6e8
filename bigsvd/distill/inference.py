"""The pass over new data: coordinates of every row into scratch, and the sums that their factors follow from.

A panel is done when its sums are there, which are written last. So a run that was killed goes on behind the
last panel, and ends with the same bits: sums of panels are added in their order, whoever made them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from bigsvd.devices.base import Array, Device, Queue
from bigsvd.distill.observed import Observed, observe
from bigsvd.errors import MemoryBudgetError, StoppedError
from bigsvd.events import BytesRead, PassEnded, PassStarted, Progress
from bigsvd.floats import silent
from bigsvd.machine.blas import one_blas_thread

if TYPE_CHECKING:
    from bigsvd.distill.basis import Basis
    from bigsvd.distill.choosing import Chosen
    from bigsvd.distill.panels import RowPanels
    from bigsvd.distill.rows import Rows
    from bigsvd.distill.stage import Coordinates
    from bigsvd.scratch import Scratch, ScratchArray

NAME = "infer-000"
_FOLDER = "inferred"
_COORDINATES, _UNCERTAINTY, _SUMS = (f"{_FOLDER}/{name}" for name in ("coordinates", "uncertainty", "sums"))
_COUNTS = 5


@dataclass(frozen=True, eq=False)
class Sums:
    """Over rows with posteriors (z, C) of their coordinates; what is added up of panels.

    Attributes:
        outer: Σ z·zᵀ, (r, r). covariance: Σ C, (r, r).
        seen: entries that were observed. unseen: rows of which nothing was.
        energy, residual: Σ x²/ψ and Σ (x − V·z)²/ψ over the entries that were observed.

    """

    outer: np.ndarray
    covariance: np.ndarray
    seen: float
    unseen: float
    energy: float
    residual: float

    def __add__(self, other: Sums) -> Sums:
        names = self.__dataclass_fields__
        return Sums(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def scatter(self) -> float:
        """Root of the mean of (x − V·z)²/ψ: about 1 where the noise is what the teacher's was."""
        return float(np.sqrt(max(0.0, self.residual) / max(1.0, self.seen)))

    def flat(self) -> np.ndarray:
        """All of it in one line, (2·r² + 4,)."""
        return np.concatenate([self.outer.ravel(), self.covariance.ravel(), self._counts])

    @property
    def _counts(self) -> list[float]:
        return [self.seen, self.unseen, self.energy, self.residual]

    @classmethod
    def of_flat(cls, line: np.ndarray, r: int) -> Sums:
        """The inverse of `flat`."""
        outer, covariance, counts = np.split(line, [r * r, 2 * r * r])
        return cls(outer.reshape(r, r), covariance.reshape(r, r), *map(float, counts))


@dataclass(frozen=True, eq=False)
class Inferred:
    """What was inferred of some rows: z (b, r), the standard deviation of entries of each (b,), and sums."""

    coordinates: np.ndarray
    uncertainty: np.ndarray
    sums: Sums


@silent
def infer(chosen: Chosen, rows: Rows, device: Device) -> Inferred:
    """The posterior of some rows, on the host, by the stage that was chosen; both lie on the device."""
    observed = observe(chosen.basis, rows)
    found = chosen.stage.infer(observed)
    z, uncertainty = device.to_host(found.mean), device.to_host(chosen.deviations(found))
    return Inferred(z, np.broadcast_to(uncertainty, len(z)), _sums(observed, found, device))


def _sums(observed: Observed, found: Coordinates, device: Device) -> Sums:
    """Over some rows, on the host."""
    z, C, xp = found.mean, found.covariance, device.xp
    repeated = len(found) // C.shape[0]  # one for all rows, or one for each
    outer, covariance = device.to_host(z.T @ z), device.to_host(repeated * xp.sum(C, axis=0))
    counts = map(float, (xp.sum(observed.count), xp.count_nonzero(observed.count == 0)))
    energies = map(float, (xp.sum(observed.energy), xp.sum(_residuals(observed, z, xp))))
    return Sums(outer, covariance, *counts, *energies)


def _residuals(observed: Observed, z: Array, xp: Any) -> Array:
    """Σ (x − V·z)²/ψ over what each row has, (b,): energy − 2·zᵀt + zᵀGz, no less than 0."""
    product = (observed.G @ z[:, :, None])[:, :, 0]
    fitted = xp.sum(z * (product - 2 * observed.t), axis=1)
    return xp.maximum(observed.energy + fitted, xp.zeros_like(fitted))


@dataclass(frozen=True, eq=False)
class _Lane:
    """What infers batches on a device: the stage, which lies there, and a queue of its own."""

    chosen: Chosen
    device: Device
    queue: Queue

    @classmethod
    def of(cls, chosen: Chosen, device: Device) -> _Lane:
        queue = device.queue()
        with queue.computing():
            return cls(chosen.on(device.to_device), device, queue)

    def inferred(self, rows: Rows) -> Inferred:
        """What `infer` gives of rows on the host; on a GPU from one thread at a time."""
        with self.queue.computing():
            return infer(self.chosen, rows.moved(self.device.to_device), self.device)


@contextmanager
def _refused_when_full(device: Device) -> Iterator[None]:
    """`MemoryBudgetError` where the device's memory does not suffice; what was held there is given back."""
    try:
        yield
    except Exception as error:
        if not device.is_out_of_memory(error):
            raise
        raise MemoryBudgetError(
            f"the memory of {device.name} is full, {device.free_bytes():,} bytes are free ({error})",
            "free memory there and run the same again, or use device='cpu'",
        ) from error
    finally:
        device.clean()


class Inference:
    """Infers panels of new data into scratch, on a device; `chosen` lies on the host."""

    def __init__(
        self, panels: RowPanels, chosen: Chosen, scratch: Scratch, dtype: str, device: Device
    ) -> None:
        self.panels = panels
        self.chosen = chosen
        self.scratch = scratch
        self._dtype = dtype
        self._device = device

    @property
    def basis(self) -> Basis:
        """Whose coordinates are inferred."""
        return self.chosen.basis

    def prepare(self) -> None:
        """Make the arrays of scratch that are not there."""
        samples, rows, r = self.panels.samples, self.panels.rows_per_panel, self.basis.r
        wanted = {
            _COORDINATES: ((samples, r), (rows, r), self._dtype),
            _UNCERTAINTY: ((samples,), (rows,), "float64"),
            _SUMS: ((len(self.panels), 2 * r * r + _COUNTS), (1, 2 * r * r + _COUNTS), "float64"),
        }
        for name, (shape, chunks, dtype) in wanted.items():
            if not self.scratch.opens(name):
                self.scratch.create(name, shape, chunks, dtype)

    def is_done(self, number: int) -> bool:
        """Whether scratch has all of a panel, and nobody has written into its data since."""
        span, line = self.panels.span(number), slice(number, number + 1)
        boxes = {_COORDINATES: (span,), _UNCERTAINTY: (span,), _SUMS: (line,)}
        if not all(self.scratch.whole(name, box) for name, box in boxes.items()):
            return False
        return bool(self.scratch.open(_SUMS)[line][0, -1] == self._stamp(number))

    def run(
        self,
        rows_per_batch: int,
        threads: int,
        progress: Progress,
        should_stop: Callable[[], bool],
    ) -> None:
        """Infer what is not done; on a GPU, which has its own threads, by one.

        Raises:
            StoppedError: after the panel at which that is asked for.
            MemoryBudgetError: the device has too little memory.

        """
        with _refused_when_full(self._device):
            self._run(rows_per_batch, threads, progress, should_stop)

    def _run(
        self, rows_per_batch: int, threads: int, progress: Progress, should_stop: Callable[[], bool]
    ) -> None:
        lane = _Lane.of(self.chosen, self._device)
        waiting = [number for number in range(len(self.panels)) if not self.is_done(number)]
        self._tell_begin(waiting, progress)
        with one_blas_thread, ThreadPoolExecutor(threads, "bigsvd-infer") as pool:
            stamps = {number: self._stamp(number) for number in waiting}  # before they are read
            for number, rows in zip(waiting, self.panels.some(waiting), strict=True):
                parts = list(pool.map(lane.inferred, rows.batches(rows_per_batch)))
                self._store(number, parts, stamps[number])
                progress(BytesRead(self._line_bytes * len(rows)))
                if number != waiting[-1] and should_stop():
                    raise self._stopped(number)
        progress(PassEnded(NAME, self._bytes, sample=False))

    @property
    def _bytes(self) -> int:
        """Of the new data."""
        return self.panels.source.facts.nbytes

    @property
    def _line_bytes(self) -> int:
        """Of a sample."""
        return self._bytes // max(1, self.panels.samples)

    def _tell_begin(self, waiting: list[int], progress: Progress) -> None:
        """Say that the pass begins, and how much of it is done already."""
        done = len(self.panels) - len(waiting)
        progress(PassStarted(NAME, self._bytes, sample=False, resumed_lanes=done))
        progress(BytesRead(self._line_bytes * self._samples_beside(waiting)))

    def _samples_beside(self, waiting: list[int]) -> int:
        """How many are in none of these panels."""
        return self.panels.samples - sum(map(self._length, waiting))

    def _stopped(self, number: int) -> StoppedError:
        return StoppedError(
            f"stopped after {number + 1:,} of {len(self.panels):,} panels",
            "run the same command again to resume",
        )

    def sums(self) -> Sums:
        """Those of all panels, added in their order."""
        lines, r = self.scratch.open(_SUMS), self.basis.r
        parts = (Sums.of_flat(_whole(lines, slice(i, i + 1))[0, :-1], r) for i in range(len(self.panels)))
        return reduce(Sums.__add__, parts)

    def pieces(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Panel by panel the samples, their coordinates (b, r) float64 and their uncertainty (b,)."""
        z, spread = self.scratch.open(_COORDINATES), self.scratch.open(_UNCERTAINTY)
        for number in range(len(self.panels)):
            span = self.panels.span(number)
            yield span, _whole(z, span).astype(np.float64), _whole(spread, span)

    def _length(self, number: int) -> int:
        return _size(self.panels.span(number))

    def _stamp(self, number: int) -> int:
        """A number that changes with a panel's data, as far as files tell, and with what was chosen."""
        stamp = self.panels.stamp(number)
        return int(google_crc32c.value(f"{stamp!r} {self.chosen.digest}".encode()))

    def _store(self, number: int, parts: list[Inferred], stamp: int) -> None:
        span = self.panels.span(number)
        z, spread, lines = (self.scratch.open(name) for name in (_COORDINATES, _UNCERTAINTY, _SUMS))
        z[span] = np.concatenate([part.coordinates for part in parts])
        spread[span] = np.concatenate([part.uncertainty for part in parts])
        sums = reduce(Sums.__add__, (part.sums for part in parts))
        line = np.append(sums.flat(), stamp)
        lines[slice(number, number + 1)] = line[None]  # last: by this the panel is done


def _size(span: slice) -> int:
    size: int = span.stop - span.start
    return size


def _whole(array: ScratchArray, span: slice) -> np.ndarray:
    """Lines of an array, all of which have been written; `DamagedScratchError` where they are not there."""
    found = np.empty((_size(span), *array.shape[1:]), array.dtype)
    array.read_into((span,), found)
    return found
