"""The values that a plan is made of: facts about the data, about the machine, and about its speed.

They are plain values with a JSON form. The modules that open data, look at a machine or measure it make these
values; the planner only calculates with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from bigsvd.sentinels import Number, matches, outside

ALLELES = "ploidy"  # VCF-Zarr's name of the axis of a genotype's alleles
LINES = ("row", "column")  # what a matrix's lines are called, by the axis that numbers them
# The share of entries that are not 0 up to which products of these alone are faster than of dense rows.
# Of 30,000 columns and a block of 60, dense rows in float32, one core: 1.9 times as fast at
# 3 %, 1.6 at 5 %, 0.9 at 10 %, 0.4 at 20 %. Few columns, narrow blocks and float64 gain more.
FEW = 0.05
SPARSE = "sparse"  # the rate at which dense products would have to be made, to take as long as of these
_PLACE_BYTES = 4  # of where an entry of a sparse row is
_TUPLES = ("shape", "chunks", "piece", "dims", "array_shape", "full_shape")


@dataclass(frozen=True)
class Packing:
    """How stored entries stand for numbers: number = stored · scale + offset (CF conventions, section 8.1).

    Attributes:
        scale, offset: CF's `scale_factor` and `add_offset`.
        fills: stored values that stand for no number at all (CF's `_FillValue` and `missing_value`).
        least, most: stored values below and above which entries stand for no number either (CF's `valid_min`,
            `valid_max` and `valid_range`); None where there is no such limit.

    """

    scale: float = 1.0
    offset: float = 0.0
    fills: tuple[Number, ...] = ()
    least: Number | None = None
    most: Number | None = None

    @property
    def marks_gaps(self) -> bool:
        """Whether some stored values stand for no number."""
        return bool(self.fills) or self.least is not None or self.most is not None

    @property
    def packed(self) -> bool:
        """Whether a stored entry and its number differ."""
        return self.scale != 1.0 or self.offset != 0.0

    def gaps_in(self, xp: Any, raw: Any, stored: np.dtype[Any], more: Sequence[Number] = ()) -> Any:
        """A mask of the entries of `raw`, stored as `stored`, that stand for no number; None if none can.

        `more`: further values that stand for none. The array may be of any array namespace `xp`.
        """
        found = matches(xp, raw, stored, (*self.fills, *more))
        invalid = outside(raw, self.least, self.most)
        if found is None:
            return invalid
        if invalid is None:
            return found
        return found | invalid

    def __str__(self) -> str:
        parts = []
        if self.packed:
            parts.append(f"stored · {self.scale:g} + {self.offset:g}")
        if self.marks_gaps:
            parts.append(f"{self.gaps} for no value")
        return ", ".join(parts)

    @property
    def gaps(self) -> str:
        """The stored values that stand for no number, in words."""
        parts = [f"{fill:g}" for fill in self.fills]
        if self.least is not None:
            parts.append(f"less than {self.least:g}")
        if self.most is not None:
            parts.append(f"more than {self.most:g}")
        return " and ".join(parts)


AS_STORED = Packing()


@dataclass(frozen=True)
class SourceFacts:
    """What is known of A before any of it is read.

    Attributes:
        name: path, URL or description.
        shape: (m, n).
        dtype: NumPy name of the element type, in native byte order.
        chunks: numbers of rows and columns that are stored together and so are best read together; those of a
            shard if the array has shards.
        fingerprint: hash of the metadata; two sources with unlike fingerprints are different sources.
        reader: how rectangles are read, which decides how much memory reading takes. "memory": as a view.
            "direct": one chunk after another is decoded straight into place (`ChunkReader`). "pipeline":
            another library decodes several chunks at a time. "foreign": another library reads or computes
            the entries, in an amount of memory that is unknown. "measured": the same, after a `Rehearsal` has
            measured that amount.
        stored_bytes: decoded bytes of a chunk or shard, which may reach beyond the matrix; 0 if that is the
            size of `chunks`.
        piece: numbers of rows and columns of a single chunk, in a shard too; (0, 0) if they are `chunks`.
        spare_bytes: memory that reading a chunk takes besides the chunk: copies that stores and codecs make.
            If `reader` is "measured": memory that reading any rectangle takes besides the result.
        spare_ratio: further memory for each byte of the result, if `reader` is "measured".
        held_bytes: memory that a process holds all the time in order to read at all.
        masked: whether masked entries were turned into NaN, so that NaN means a missing entry.
        packing: how stored entries stand for the numbers of A.
        samples_axis: the axis of A that numbers the samples; means are taken along it, one for each line of
            the other axis, which are the features.
        dims: the names of the axes of A, or of the array that A is made of; empty where they have none.
        array_shape: lengths of the axes of that array, where A is made by stacking some; else empty.
        array_axis: the axis of that array that numbers the samples.
        full_shape: that of the matrix of which A is some rows and columns; empty where it is all of it.
        codec: the compressors of a chunk, by name; empty where there are none or they are not known.
        sparse_bytes: bytes of all blocks of A, where it is sparse and they hold what is not 0; else 0. Then
            lines along the longer side of `chunks` are read whole.
        crowding: by which factor a chunk has more of these than the average, at most. heaviest: the same of
            a line.

    """

    name: str
    shape: tuple[int, int]
    dtype: str
    chunks: tuple[int, int]
    fingerprint: str
    reader: str = "pipeline"
    stored_bytes: int = 0
    piece: tuple[int, int] = (0, 0)
    spare_bytes: int = 0
    spare_ratio: float = 0.0
    held_bytes: int = 0
    masked: bool = False
    packing: Packing = AS_STORED
    samples_axis: int = 0
    dims: tuple[str, ...] = ()
    array_shape: tuple[int, ...] = ()
    array_axis: int = 0
    full_shape: tuple[int, ...] = ()
    codec: str = ""
    sparse_bytes: int = 0
    crowding: float = 1.0
    heaviest: float = 1.0

    @property
    def is_sparse(self) -> bool:
        """Whether only entries that are not 0 are stored."""
        return self.sparse_bytes > 0

    @property
    def lines_axis(self) -> int:
        """The axis that numbers the lines of a sparse A which are read whole."""
        return int(self.chunks[1] < self.shape[1])

    @property
    def block_bytes(self) -> int:
        """Bytes of all blocks that are read of A together."""
        return self.sparse_bytes or self.nbytes

    @property
    def entry_bytes(self) -> float:
        """Bytes of a block for each entry of it, those that are 0 too, where the most are."""
        if not self.is_sparse:
            return self.itemsize
        return self.crowding * self.sparse_bytes / (self.shape[0] * self.shape[1])

    @property
    def density(self) -> float:
        """The share of entries that are stored, on average; 1 where all are."""
        if not self.is_sparse:
            return 1.0
        return min(1.0, self.sparse_bytes / (self.shape[0] * self.shape[1] * (self.itemsize + _PLACE_BYTES)))

    @property
    def has_few(self) -> bool:
        """Whether so few entries are not 0, in all chunks, that products of these alone are faster."""
        return self.is_sparse and self.crowding * self.density <= FEW

    @property
    def marks_gaps(self) -> bool:
        """Whether the source itself says which entries have no value."""
        return self.masked or self.packing.marks_gaps

    @property
    def stacks_alleles(self) -> bool:
        """Whether features are alleles of genotypes, as VCF-Zarr has them: their gaps are negative."""
        alleles = bool(self.array_shape) and self.dims[-1:] == (ALLELES,)
        return alleles and np.dtype(self.dtype).kind == "i" and not self.marks_gaps

    @property
    def features_axis(self) -> int:
        """The axis that numbers the features."""
        return 1 - self.samples_axis

    @property
    def sample(self) -> str:
        """What a sample is called, as a line of A."""
        return LINES[self.samples_axis]

    @property
    def feature(self) -> str:
        """What a feature is called, as a line of A."""
        return LINES[self.features_axis]

    def stacked_shape(self, axis: int) -> tuple[int, ...]:
        """The lengths of the axes of the data that the lines of A along an axis are made of, or are among."""
        lengths, own = self.array_shape, self.array_axis
        if axis == 0 or not lengths:
            return ((self.full_shape or self.shape)[axis],)
        return (*lengths[:own], *lengths[own + 1 :])

    def stacked_dims(self, axis: int) -> tuple[str, ...]:
        """The names of these axes; empty where they have none."""
        names, own = self.dims, self.array_axis
        if not self.array_shape:
            return names[axis : axis + 1]
        return (names[own : own + 1], (*names[:own], *names[own + 1 :]))[axis]

    def place(self, row: int, column: int) -> str:
        """Where an entry of A is, in words: by row and column, or by its place in the array of more axes."""
        if not self.array_shape:
            return f"row {row}, column {column}"
        places = [int(place) for place in np.unravel_index(column, self.stacked_shape(1))]
        places.insert(self.array_axis, row)
        names = self.dims or tuple(f"axis {axis}" for axis in range(len(places)))
        return ", ".join(f"{name} {place}" for name, place in zip(names, places, strict=True))

    @property
    def itemsize(self) -> int:
        """Bytes of one entry."""
        return np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of A, uncompressed."""
        return self.shape[0] * self.shape[1] * self.itemsize

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON values."""
        lists = {name: list(getattr(self, name)) for name in _TUPLES}
        packing = asdict(self.packing) | {"fills": list(self.packing.fills)}
        return asdict(self) | lists | {"packing": packing}

    def same_data(self, other: SourceFacts) -> bool:
        """Whether both describe the same data; the memory that a rehearsal measured may differ."""
        return self._as_opened() == other._as_opened()

    def _as_opened(self) -> SourceFacts:
        """The facts as they were before a rehearsal."""
        if self.reader != "measured":
            return replace(self, masked=False)
        return replace(self, reader="foreign", spare_bytes=0, spare_ratio=0.0, held_bytes=0, masked=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SourceFacts:
        """The inverse of `to_dict`."""
        tuples = {name: tuple(values[name]) for name in _TUPLES if name in values}
        packing = values.get("packing", {})
        packing = Packing(**{**packing, "fills": tuple(packing.get("fills", ()))})
        return cls(**{**values, **tuples, "packing": packing})


@dataclass(frozen=True)
class Machine:
    """What the machine, or each worker of a cluster, allows this run.

    Attributes:
        budget_bytes: host memory that this run's working set may take.
        threads: number of lanes that work at the same time; each multiplies one panel at a time.
        device, device_reason: where products are computed, "cpu" or the name of a GPU, and why there.
        has_own_memory: whether the device has memory of its own.
        device_budget_bytes: the device's own memory that this run may take.
        device_free_bytes: the device's own memory that is free.
        readers: number of threads that read for each lane.
        rough_dtypes: precisions below float32 in which the device can make products.

    """

    budget_bytes: int
    threads: int
    device: str = "cpu"
    device_reason: str = "no other was looked for"
    has_own_memory: bool = False
    device_budget_bytes: int = 0
    device_free_bytes: int = 0
    readers: int = 1
    rough_dtypes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rates:
    """The seconds and the speed of one thread, or of a device that several threads share.

    Attributes:
        read_seconds: wall time to read an uncompressed byte.
        read_cpu_seconds: processor time to read an uncompressed byte.
        fresh_seconds: time to touch a byte of memory that is new to the process. Keeping a panel pays only if
            this is less than reading the byte again.
        flops: multiplications and additions per second in products of a panel with a block, by the precision
            and by the number of columns of the block. `SPARSE` is there if only what is not 0 is multiplied.
        measured: whether the rates were measured on this machine; otherwise they are nominal.
        copy_seconds: time to copy a byte from the host to a device with memory of its own; 0 for any other.
        past_page_cache: whether files are read past the system's page cache, because memory cannot hold them
            until they are read again.
        making_seconds: time to make an entry of a slab of one of the source: to widen and standardise it.
        looking_seconds: time that the statistics of a first pass take for an entry.

    """

    read_seconds: float
    read_cpu_seconds: float
    fresh_seconds: float
    flops: dict[str, dict[int, float]]
    measured: bool
    copy_seconds: float = 0.0
    past_page_cache: bool = False
    making_seconds: float = 0.0
    looking_seconds: float = 0.0

    def flops_at(self, dtype: str, columns: int) -> float:
        """The rate for a block of `columns` columns, interpolated between the nearest known widths."""
        known = sorted(self.flops[dtype].items())
        return float(np.interp(columns, [c for c, _ in known], [rate for _, rate in known]))

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {
            "flops": {
                dtype: {str(c): rate for c, rate in rates.items()} for dtype, rates in self.flops.items()
            }
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Rates:
        """The inverse of `to_dict`."""
        flops = {
            dtype: {int(c): float(rate) for c, rate in rates.items()}
            for dtype, rates in values["flops"].items()
        }
        return cls(**{**values, "flops": flops})


# Rates of a common processor core, for a plan where nothing was measured: 0.7 GB/s read, 1 GB/s of new memory
# touched, 60 and 30 Gflop/s with a block of 64 columns, no more in bfloat16. They are chosen, not measured.
_NOMINAL_FLOPS = {"float32": {64: 6e10}, "float64": {64: 3e10}, "bfloat16": {64: 6e10}}
NOMINAL = Rates(1 / 7e8, 1 / 7e8, 1 / 1e9, _NOMINAL_FLOPS, measured=False)

# The same for a GPU in a data centre: 20 GB/s over a PCIe bus, 10 and 5 Tflop/s in products of tall panels.
# They are chosen, not measured.
NOMINAL_ON_GPU = replace(NOMINAL, flops={"float32": {64: 1e13}, "float64": {64: 5e12}}, copy_seconds=1 / 2e10)
