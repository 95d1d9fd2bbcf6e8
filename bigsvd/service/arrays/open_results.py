"""Results as Zarr groups: their factors, reconstructions at any rank and zoom levels of these.

What is decoded of U and Vt, and what is pooled of them, is kept for all requests, up to a limit of bytes. A
result that was deleted or overwritten is no longer served, and nothing of it is: its file of metadata is
looked at before each answer, and after each read.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from anyio import CapacityLimiter

from bigsvd.errors import FactorStoreError
from bigsvd.jobs.record import answers
from bigsvd.machine.software import machine_here
from bigsvd.request import Request
from bigsvd.results.blocks import Blocked, Keep
from bigsvd.results.factors import Factors, Leading, check_rank, open_factors
from bigsvd.results.pooled import level, level_shapes
from bigsvd.results.store import damage_errors, mark_of, versions
from bigsvd.results.virtual_group import (
    ARRAY_NAME,
    DIMENSION_NAMES,
    METADATA,
    VirtualArray,
    VirtualGroup,
)
from bigsvd.service.arrays.background import Background
from bigsvd.service.arrays.block_cache import BlockCache
from bigsvd.service.arrays.recent import Recent

LEVELS = "levels"
TILE = 512  # the longest side of the last level, and of its chunks where both are as long
BULK = 1024  # the same of `reconstruction`, which is read in bulk: to ask for a chunk costs something, too
_LINE_ENTRIES = 2**17  # of a chunk of means, scales and weights
_MOST_OPEN = 64
_MOST_RANKS = 32  # of one result, of which the documents are kept
# Chunks for each processor, of which some wait for a disk; short answers wait for the others.
_AT_ONCE = 2
_RECENT_SECONDS = 1.0
_MOST_RECENT = 1000
_LAYOUT = 1  # of the keys and of what they hold; in the ETag
_IMAGE_AXES = ("y", "x")  # by which readers of OME-Zarr know an image


@dataclass(frozen=True)
class Chunked:
    """An array as it is read in chunks."""

    array: Any
    chunk_shape: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its entries."""
        found: np.dtype[Any] = np.dtype(self.array.dtype)
        return found

    def __getitem__(self, key: Any) -> Any:
        return self.array[key]


class Arrays:
    """The results that a server has opened, and what it keeps of them.

    Attributes:
        cache: of decoded and pooled factors. limiter: how many chunks are computed at a time.
        reading: how many read the data, whose chunks may be as large as a panel, and their disk slow.
        recent: which result requests like the last ones meant, and of how many triplets.

    """

    def __init__(self, cache_bytes: int) -> None:
        self.cache = BlockCache(cache_bytes)
        self.background = Background(_AT_ONCE * (os.cpu_count() or 1))
        self.reading = CapacityLimiter(1)
        self.recent: Recent[tuple[OpenResult, int]] = Recent(_RECENT_SECONDS, _MOST_RECENT)
        self._opened: OrderedDict[Path, OpenResult] = OrderedDict()
        self._lock = threading.Lock()
        self._opening = threading.Lock()

    def close(self) -> None:
        """Compute no more."""
        self.background.close()

    def factors(self, path: Path, asked: Mapping[str, Any] | None = None) -> Factors:
        """The factors at `path`, of which blocks of U and Vt come from the cache; see `opened`.

        Whoever is to judge a store by what lies on the disk opens it by `open_factors`.
        """
        return self.opened(path, asked).factors

    def opened(self, path: Path, asked: Mapping[str, Any] | None = None) -> OpenResult:
        """The result at `path`, as it is now.

        Args:
            path: of a factor store.
            asked: the request of the job whose result it is; None where any is meant.

        Raises:
            FactorStoreError: it is gone, damaged, or another job's by now.

        """
        found = self._seen(path) or self._open(path)
        if asked is not None and not found.answers(asked):
            raise FactorStoreError(
                f"the result at {path} was overwritten by that of another request", "submit its job again"
            )
        return found

    def forget(self, path: Path) -> None:
        """Keep nothing of a result that is being deleted."""
        with self._lock:
            before = self._opened.pop(path, None)
        if before is not None:
            self.cache.forget(before.number)

    def _seen(self, path: Path) -> OpenResult | None:
        """The result that was opened, if it is there yet."""
        with self._lock:
            found = self._opened.get(path)
            if found is not None:
                self._opened.move_to_end(path)
        return found if found is not None and found.is_there() else None

    def _open(self, path: Path) -> OpenResult:
        """Open what is there now, and forget all of what was; one thread at a time, the others find it."""
        with self._opening:
            found = self._seen(path)
            if found is not None:
                return found
            self.forget(path)
            found = OpenResult(path, self.cache)
            with self._lock:
                self._opened[path] = found
                oldest = list(self._opened)[:-_MOST_OPEN]
        for each in oldest:
            self.forget(each)
        return found


_numbers = itertools.count()


class OpenResult:
    """A factor store that is served.

    Attributes:
        number: of this opening; whose the blocks in the cache are. digest: of its manifest, hexadecimal.

    """

    def __init__(self, path: Path, cache: BlockCache) -> None:
        self.path = path
        self.number = next(_numbers)
        self._seen = _identity(path)
        self.digest = mark_of(path)
        stored = open_factors(path)
        self.check()
        self._keep = cache.of(self.number)
        self._read = stored.read_by(_Checked(stored.U, self), _Checked(stored.Vt, self))
        U, Vt = (_kept(name, each, axis, self._keep) for axis, (name, each) in enumerate(self._factors))
        self.factors = self._read.read_by(U, Vt)
        self.group = lru_cache(_MOST_RANKS)(self._group)
        self._answered: set[str] = set()

    @property
    def _factors(self) -> tuple[tuple[str, Any], tuple[str, Any]]:
        return ("U", self._read.U), ("Vt", self._read.Vt)

    def is_there(self) -> bool:
        """Whether what was opened is still what lies there."""
        try:
            return _identity(self.path) == self._seen
        except FactorStoreError:
            return False

    def check(self) -> None:
        """`FactorStoreError` where what was opened is gone, or something else is in its place."""
        if not self.is_there():
            raise FactorStoreError(
                f"the result {self.path} was deleted or overwritten while it was read", "open it again"
            )

    def answers(self, asked: Mapping[str, Any]) -> bool:
        """Whether the factors are of that request."""
        text = json.dumps(asked, sort_keys=True, default=str)
        if text not in self._answered:
            if not answers(self.factors.provenance, Request.from_dict(dict(asked)), os.sep):
                return False
            self._answered.add(text)
        return True

    def tag(self, k: int, key: str) -> str:
        """The strong ETag of a key: what tells its bytes from all others.

        Last bits of products are those of a BLAS on a processor.
        """
        parts = (self.digest, str(_LAYOUT), _computed_by(), str(k), key)
        return f'"{hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]}"'

    def value(self, k: int, key: str) -> bytes | memoryview:
        """The bytes of a key of the group of the leading k triplets.

        Raises:
            KeyError: there is no such key. FactorStoreError: the result is damaged, or gone by now.

        """
        found = self.group(k).value(key)
        if found is None:
            raise KeyError(key)
        return found

    def _group(self, k: int) -> VirtualGroup:
        """The group of the leading k triplets.

        Raises:
            RankError: there are not so many.

        """
        check_rank(k, self.factors.k)
        shape, about = self.factors.kept.shape, self._attributes(k)
        shapes = level_shapes(shape, TILE)
        whole, pooled = (
            replace(each.low_rank(), s=each.s[:k], chunks=tile(shape, TILE))
            for each in (self.factors, self._read)
        )
        levels = {f"{LEVELS}/0": VirtualArray(whole, _IMAGE_AXES, about)}
        for number, each in enumerate(shapes[1:], 1):
            means = level(pooled, number, tile(each, TILE), self._keep)
            levels[f"{LEVELS}/{number}"] = VirtualArray(means, _IMAGE_AXES, about)
        in_bulk = VirtualArray(replace(whole, chunks=tile(shape, BULK)), DIMENSION_NAMES, about)
        arrays = {ARRAY_NAME: in_bulk, **self._stored(k)}
        return VirtualGroup(arrays | levels, {"": about, LEVELS: about | multiscales(len(shapes))})

    def _attributes(self, k: int) -> dict[str, Any]:
        """What a reader is told of the array; no path of this machine."""
        certificate = self.factors.truncate(k).certificate
        told: dict[str, Any] = {"k": k, "relative_error": certificate.relative_error}
        if certificate.predicted is not None:
            told["predicted"] = certificate.predicted.short
        return {"bigsvd": told}

    def _stored(self, k: int) -> dict[str, VirtualArray]:
        """The factors and what was done to the data, as arrays."""
        factors = self.factors
        rows, cols = (
            f"kept_{name}" if ids is not None else name
            for name, ids in zip(DIMENSION_NAMES, factors.kept.lines, strict=True)
        )
        features, samples = ((cols, rows), (rows, cols))[factors.samples_axis]
        U, Vt = Leading(factors.U, k, 1), Leading(factors.Vt, k, 0)
        found = {
            "U": VirtualArray(Chunked(U, U.chunks), (rows, "component")),
            "s": VirtualArray(Chunked(factors.s[:k], (k,)), ("component",)),
            "Vt": VirtualArray(Chunked(Vt, Vt.chunks), ("component", cols)),
        }
        if factors.uncertainty is not None:
            uncertainty = _Checked(factors.uncertainty, self)
            found["uncertainty"] = VirtualArray(_by_lines(uncertainty), (samples,))
        for name, values in factors.lines.items():
            along = samples if name == "row_weights" else features
            found[name] = VirtualArray(_by_lines(values), (along,))
        return found


def _by_lines(values: Any) -> Chunked:
    """What has a value for each line, in chunks of many."""
    return Chunked(values, (min(len(values), _LINE_ENTRIES),))


class _Checked:
    """An array of an opened result, of which nothing is given that was read after that was replaced."""

    def __init__(self, array: Any, result: OpenResult) -> None:
        self._array, self._result = array, result
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.chunks = array.chunks

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: Any) -> np.ndarray:
        with damage_errors(self._result.path):
            found = np.asarray(self._array[key])
        self._result.check()
        return found


def _kept(name: str, array: Any, axis: int, keep: Keep) -> Blocked:
    """A factor, whose chunks are kept when they were read."""
    grain = array.chunks[axis]

    def block(b: int) -> np.ndarray:
        lines = slice(b * grain, (b + 1) * grain)
        return keep((name, b), lambda: array[(slice(None),) * axis + (lines,)])

    return Blocked(array.shape, array.dtype, axis, grain, block)


@cache
def _computed_by() -> str:
    """The versions and the processor that decide what a chunk's last bits are."""
    return json.dumps([versions(), machine_here()], sort_keys=True)


def _identity(path: Path) -> tuple[int, ...]:
    """What changes when another result is put there; `FactorStoreError` where none is."""
    try:
        found = os.stat(path / METADATA)  # noqa: PTH116 - asked of each chunk
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FactorStoreError(f"the result {path} is gone", "submit its job again") from error
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def tile(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """The chunks of a matrix: `side` by `side`, longer along one axis where the other is shorter."""
    m, n = shape
    rows, cols = min(m, side), min(n, side)
    return min(m, side * side // cols), min(n, side * side // rows)


def multiscales(count: int) -> dict[str, Any]:
    """What says of a group that its arrays 0, 1, ... are one matrix at several scales, in two conventions.

    OME-Zarr 0.5 (https://ngff.openmicroscopy.org/0.5), which viewers of images know, and the `multiscales`
    convention of Zarr (https://github.com/zarr-conventions/multiscales). A position is that of the middle of
    an entry: entry i of level l lies at 2^l·i + (2^l − 1)/2.
    """
    sides = [2.0**number for number in range(count)]
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": [
                {"type": "scale", "scale": [side, side]},
                {"type": "translation", "translation": [(side - 1) / 2] * 2},
            ],
        }
        for number, side in enumerate(sides)
    ]
    axes = [{"name": name, "type": "space"} for name in _IMAGE_AXES]
    layout: list[dict[str, Any]] = [{"asset": "0", "transform": {"scale": [1.0, 1.0]}}]
    layout += [
        {
            "asset": str(number),
            "derived_from": str(number - 1),
            "transform": {"scale": [2.0, 2.0], "translation": [0.5, 0.5]},
        }
        for number in range(1, count)
    ]
    return {
        "ome": {
            "version": "0.5",
            "multiscales": [{"name": ARRAY_NAME, "type": "mean", "axes": axes, "datasets": datasets}],
        },
        "zarr_conventions": [
            {
                "name": "multiscales",
                "uuid": "d35379db-88df-4056-af3a-620245f8e347",
                "spec_url": "https://github.com/zarr-conventions/multiscales/blob/v1/README.md",
            }
        ],
        "multiscales": {"layout": layout, "resampling_method": "average"},
    }
