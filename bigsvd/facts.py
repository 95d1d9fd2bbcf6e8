"""The values that a plan is made of: facts about the data, about the machine, and about costs there.

They are plain values with a JSON form. Whoever opens data, looks at a machine or measures it makes them; the
planner only calculates with them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from bigsvd.sentinels import Number

_PAIRS = ("shape", "chunks", "piece")


@dataclass(frozen=True)
class Packing:
    """How stored entries stand for numbers: number = stored · scale + offset (CF conventions, section 8.1).

    Attributes:
        scale, offset: CF's `scale_factor` and `add_offset`.
        fills: stored values that stand for no number at all (CF's `_FillValue` and `missing_value`).

    """

    scale: float = 1.0
    offset: float = 0.0
    fills: tuple[Number, ...] = ()

    @property
    def packed(self) -> bool:
        """Whether a stored entry and its number differ."""
        return self.scale != 1.0 or self.offset != 0.0

    def __str__(self) -> str:
        parts = [f"stored · {self.scale:g} + {self.offset:g}"] if self.packed else []
        if self.fills:
            parts.append(f"{' and '.join(f'{fill:g}' for fill in self.fills)} for no value")
        return ", ".join(parts)


AS_STORED = Packing()


@dataclass(frozen=True)
class SourceFacts:
    """What is known of A before any of it is read.

    Attributes:
        name: path, URL or description.
        shape: (m, n).
        dtype: NumPy name of the element type, in native byte order.
        chunks: rows and columns that are stored, and so best read, together (the shard where there is one).
        fingerprint: hash of the metadata; two sources that differ in it are different sources.
        reader: "memory" where reading is a view, "direct" where chunks are decoded one after another straight
            into place (`ChunkReader`), "pipeline" where another library decodes several at a time. "foreign"
            where another library reads or computes them in memory that nobody knows beforehand, "measured"
            once a `Rehearsal` has told.
        stored_bytes: of a chunk or shard, decoded, which may reach beyond the matrix; 0 if that is `chunks`.
        piece: rows and columns of a chunk, also where it lies in a shard; (0, 0) if that is `chunks`.
        spare_bytes: what this reader takes for a chunk besides: copies that stores and codecs make. Where it
            is "measured", what it takes besides the result for any rectangle, and
        spare_ratio: for each byte of the result in addition.
        held_bytes: what a process holds all the time to read at all.
        masked: whether masked entries were turned into NaN, which then mean missing.
        packing: how stored entries stand for the numbers of A.

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

    @property
    def marks_gaps(self) -> bool:
        """Whether the source itself says which entries have no value."""
        return self.masked or bool(self.packing.fills)

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
        lists = {name: list(getattr(self, name)) for name in _PAIRS}
        packing = asdict(self.packing) | {"fills": list(self.packing.fills)}
        return asdict(self) | lists | {"packing": packing}

    def same_data(self, other: SourceFacts) -> bool:
        """Whether both are of the same data, however much memory reading it was measured to take."""
        return self._as_opened() == other._as_opened()

    def _as_opened(self) -> SourceFacts:
        """The facts as they were before a rehearsal."""
        if self.reader != "measured":
            return replace(self, masked=False)
        return replace(self, reader="foreign", spare_bytes=0, spare_ratio=0.0, held_bytes=0, masked=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SourceFacts:
        """The inverse of `to_dict`."""
        pairs = {name: tuple(values[name]) for name in _PAIRS}
        packing = values.get("packing", {})
        packing = Packing(**{**packing, "fills": tuple(packing.get("fills", ()))})
        return cls(**{**values, **pairs, "packing": packing})


@dataclass(frozen=True)
class Machine:
    """What the machine, or each worker of a cluster, allows this run.

    Attributes:
        budget_bytes: for this run's working set in host memory.
        threads: lanes at the same time, and so panels multiplied. readers: threads that read for each.
        device, device_reason: where is multiplied, and why there.
        apart: whether the device has memory of its own; device_budget_bytes: for this run there, of
            device_free_bytes in all.

    """

    budget_bytes: int
    threads: int
    device: str = "cpu"
    device_reason: str = "no other was looked for"
    apart: bool = False
    device_budget_bytes: int = 0
    device_free_bytes: int = 0
    readers: int = 1


@dataclass(frozen=True)
class Rates:
    """Costs of one thread, or of a device that several threads share.

    Attributes:
        read_seconds: wall time per uncompressed byte. read_cpu_seconds: processor time of these.
        copy_seconds: of a byte from the host to a device that has memory of its own; 0 for any other.
        fresh_seconds: of a byte of memory that is new to the process, to be set against reading again.
        flops: multiplications and additions per second in products of a panel with a block, by precision and
            columns of the block.
        measured: whether here, else these are figures that are common.
        past_page_cache: whether files are to be read past the system's, since memory cannot hold them till
            they are read again.

    """

    read_seconds: float
    read_cpu_seconds: float
    fresh_seconds: float
    flops: dict[str, dict[int, float]]
    measured: bool
    copy_seconds: float = 0.0
    past_page_cache: bool = False

    def flops_at(self, dtype: str, columns: int) -> float:
        """The rate for a block of so many columns, between the nearest that are known."""
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


NOMINAL = Rates(1 / 7e8, 1 / 7e8, 1 / 1e9, {"float32": {64: 6e10}, "float64": {64: 3e10}}, measured=False)


# Of a GPU in a data centre: a PCIe bus, products of tall panels.
NOMINAL_ON_GPU = replace(NOMINAL, flops={"float32": {64: 1e13}, "float64": {64: 5e12}}, copy_seconds=1 / 2e10)
