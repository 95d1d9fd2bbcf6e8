"""`Plan`: one decomposition, decided; JSON for files, text for people.

The plan fixes everything that decides the bits of the answer: orientation, panels, lanes, sample, block
width, precision. Running a saved plan gives the same answer on any number of workers.

Throughout, B is the matrix as it is streamed: A, or Aᵀ when `transposed`; it is M×N, panels are rows of B,
the basis has N rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from bigsvd.catalog.table import METHODS, load, runs_on_dask
from bigsvd.described import described
from bigsvd.errors import BigsvdError, PlanError
from bigsvd.facts import LINES, Machine, Rates, SourceFacts
from bigsvd.request import ROUGH, Request
from bigsvd.units import counted_as, human_bytes

PLAN_VERSION = 13
# A codec that decodes fast, gigabytes a second of it on a core, and those below which another is told of it.
# Measured on chunks of float32 of which it made as few bytes as zstd, which did 1.4.
_FAST_CODEC, _FAST_CODEC_GB_A_SECOND = "lz4", 4.0
_SLOW_CODEC_GB_A_SECOND = 2.0
# From which ratio of wall to processor time of a read another thread is to read ahead. Chosen, not measured.
_WAITING_RATIO = 1.25
# Tasks, at most, that share the panels of the sample.
_SAMPLE_LANES = 4
# Passes to the usual tolerance that were seen, by family of data (benchmarks/results/passes-small.md).
_LEAST_SEEN, _MOST_SEEN = 2, 8
# Terms of memory: for the method that a run may turn to, and what its first one leaves when it has.
ROOM_TO_TURN, LEFT_BY_TURN = "room to change the method", "held before the method changed"
# Scratch of a run that cannot be continued, as far as it is held in memory.
HELD_SCRATCH = "scratch held in memory"


@dataclass(frozen=True)
class Turn:
    """Another method that a run may turn to when it has seen its sample, within the memory of its plan.

    Attributes:
        method: its name. passes, seconds: over all data, from there to the end of the passes.
        cache_bytes: decoded panels that it leaves room for, see `Plan.cache_bytes`.
        memory: bytes by term that it holds, these among them.

    """

    method: str
    passes: float
    seconds: float
    cache_bytes: int
    memory: dict[str, int]

    def memory_after(self, before: Mapping[str, int]) -> dict[str, int]:
        """The terms of a plan that has turned: those of this method, and what the bound leaves beyond them.

        The bound is of the whole run: what was held `before` counts as long as the run lasts.
        """
        terms = self.memory | {name: before[name] for name in (HELD_SCRATCH,) if name in before}
        beyond = sum(before.values()) - sum(terms.values())
        return terms | ({LEFT_BY_TURN: beyond} if beyond > 0 else {})


@dataclass(frozen=True)
class PassSeconds:
    """Predicted time of a pass: the first, a later one with a whole block, one with a correction alone.

    `totals`: of one before all these that sums samples, where such a one is made.
    """

    first: float
    whole: float
    narrow: float
    totals: float = 0.0

    def of(self, passes: int, *, corrects: bool) -> float:
        """Of so many passes, the last of several being one that `corrects` what the others have found."""
        further = max(0, passes - 1)
        last = min(1, further) * corrects
        return self.totals + self.first + (further - last) * self.whole + last * self.narrow


@dataclass(frozen=True)
class Plan:
    """One decomposition, decided. `str(plan)` is for people, `to_json` for files.

    Attributes:
        request, facts: what was asked and of what.
        method, reason: the method and the arithmetic that chose it.
        transposed: whether Aᵀ is streamed.
        rows, cols: M and N of the streamed matrix B.
        panel_rows, tile_cols: a panel is `panel_rows`×N; where that does not fit it is read in tiles of
            `tile_cols` columns, `reads_per_pass` times.
        lanes: (first, last+1) panel of each task; partial sums are combined in this order.
        sample: panels for the warm start, one from each of as many equal stretches of the data.
        width, narrow, max_width: columns of one block at most (l), of the first where the sample shows that
            fewer serve, and of all blocks held at once (L).
        compute_dtype: precision of the panel products; their sums are float64. rough_dtype: that of those on
            which no answer rests, of the sample and of all passes but the last; mostly the same.
        expected_passes: passes over B, sample included, at which the tolerance asked for is usual.
        rates: what reading and multiplying were taken to cost, see `Rates`.
        predicted_seconds: of the warm start, the passes and the rest, at these rates. pass_seconds: of each
            kind of pass. turn: the method that the run turns to where the sample shows that it is faster.
        memory: bytes by term; their sum is `memory_bytes`, which is held within `budget_bytes`.
        cache_bytes: decoded panels that each worker process keeps between passes, one of these terms.
        forming_bytes: what tasks that form the long factor may hold together, when lanes hold nothing more.
        threads, readers: lanes at a time, and threads that read for each.
        device, device_reason: where is multiplied, and why there.
        has_own_memory: whether the device has memory of its own; device_memory, device_budget_bytes,
            device_cache_bytes: as `memory`, `budget_bytes` and `cache_bytes`, of that.

    """

    request: Request
    facts: SourceFacts
    method: str
    reason: str
    transposed: bool
    rows: int
    cols: int
    panel_rows: int
    tile_cols: int
    reads_per_pass: int
    lanes: tuple[tuple[int, int], ...]
    sample: tuple[int, ...]
    k: int
    width: int
    narrow: int
    max_width: int
    max_passes: int
    compute_dtype: str
    rough_dtype: str
    expected_passes: float
    rates: Rates
    predicted_seconds: dict[str, float]
    pass_seconds: PassSeconds
    turn: Turn | None
    memory: dict[str, int]
    cache_bytes: int
    forming_bytes: int
    budget_bytes: int
    threads: int
    readers: int
    device: str
    device_reason: str
    has_own_memory: bool
    device_memory: dict[str, int]
    device_budget_bytes: int
    device_cache_bytes: int
    scratch_bytes: int
    output_bytes: int
    version: int = PLAN_VERSION

    @property
    def features_axis(self) -> int:
        """The axis of B that numbers the features, which have means and divisors."""
        return self.facts.samples_axis if self.transposed else self.facts.features_axis

    @property
    def sums_apart(self) -> bool:
        """Whether functions need totals of samples that no panel holds whole: then a pass sums them."""
        whole = self.features_axis == 1 and self.tile_cols >= self.cols
        return self.request.needs_totals and not whole

    @property
    def panels(self) -> int:
        """Number of panels of a pass."""
        return -(-self.rows // self.panel_rows)

    @property
    def memory_bytes(self) -> int:
        """Bound on the working set beyond the bare interpreter."""
        return sum(self.memory.values())

    @property
    def device_bytes(self) -> int:
        """Bound on what is held of the device's own memory."""
        return sum(self.device_memory.values())

    @property
    def held_scratch_bytes(self) -> int:
        """Scratch that a run in one process which cannot be continued holds in memory, at most."""
        return self.memory.get(HELD_SCRATCH, 0)

    @property
    def seconds(self) -> float:
        """Predicted time of the run."""
        return sum(self.predicted_seconds.values())

    @property
    def bytes_per_pass(self) -> int:
        """Uncompressed bytes that one pass reads."""
        return self.facts.block_bytes * self.reads_per_pass

    @property
    def bytes_to_read(self) -> int:
        """Uncompressed bytes that the expected passes read."""
        return int(self.bytes_per_pass * self.expected_passes)

    @property
    def rough(self) -> bool:
        """Whether the run begins with products in a lower precision."""
        return self.rough_dtype != self.compute_dtype

    @property
    def by_dask(self) -> bool:
        """Whether the method is Dask's own, which needs a cluster."""
        return runs_on_dask(self.method)

    def fits_device(self, machine: Machine) -> bool:
        """Whether the machine has the kind of device that the plan is for, and as much of its memory."""
        return (
            self.has_own_memory == machine.has_own_memory and self.device_bytes <= machine.device_budget_bytes
        )

    @property
    def stays_on_device(self) -> bool:
        """Whether the device's own memory keeps the whole matrix between passes."""
        return self.device_cache_bytes >= self.facts.block_bytes

    @property
    def keeps_on_host(self) -> bool:
        """Whether any panel is kept between passes in host memory or on a disk."""
        in_memory = self.facts.reader == "memory"
        return not in_memory and (self.cache_bytes > 0 or self.request.stage is not None)

    @property
    def keeps_panels(self) -> bool:
        """Whether any panel is kept between passes."""
        return self.keeps_on_host or self.device_cache_bytes > 0

    @property
    def reads_in_turn(self) -> bool:
        """Whether the thread of a lane reads its panels itself, since a read hardly waits for its storage.

        A thread that reads ahead for it would only take the core from those that multiply.
        """
        waits = self.rates.read_seconds > _WAITING_RATIO * self.rates.read_cpu_seconds
        return not (self.has_own_memory or waits)

    @property
    def past_page_cache(self) -> bool:
        """Whether files are read past the system's cache, too small to keep them till they are read again."""
        return self.rates.past_page_cache

    @property
    def sample_share(self) -> float:
        """Rows of the sample, of all."""
        return sum(stop - start for start, stop in map(self.panel, self.sample)) / self.rows

    @property
    def reading(self) -> str:
        """What decoding the source costs, where that was measured, and a codec that would cost less."""
        if not self.rates.measured or not self.facts.codec:
            return ""
        rate = 1e-9 / max(self.rates.read_cpu_seconds, 1e-15)
        told = f"{self.facts.codec} decodes at {rate:.1f} GB/s a core"
        if rate > _SLOW_CODEC_GB_A_SECOND or _FAST_CODEC in self.facts.codec:
            return told
        return f"{told}; blosc {_FAST_CODEC} with shuffle would do about {_FAST_CODEC_GB_A_SECOND:g}"

    def sample_lanes(self) -> tuple[tuple[int, ...], ...]:
        """The sample's panels as even runs, each for one task."""
        count = max(1, min(len(self.sample), _SAMPLE_LANES))
        edges = [len(self.sample) * i // count for i in range(count + 1)]
        return tuple(self.sample[first:last] for first, last in pairwise(edges))

    def panel(self, index: int) -> tuple[int, int]:
        """Rows (start, stop) of B in one panel."""
        return index * self.panel_rows, min(self.rows, (index + 1) * self.panel_rows)

    def tiles(self) -> tuple[tuple[int, int], ...]:
        """Column ranges in which a panel is read; one where the panel fits."""
        return tuple((c, min(self.cols, c + self.tile_cols)) for c in range(0, self.cols, self.tile_cols))

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values, with the derived totals that readers want."""
        values = {
            "request": self.request.to_dict(),
            "facts": self.facts.to_dict(),
            "rates": self.rates.to_dict(),
        }
        derived = {
            "memory_bytes": self.memory_bytes,
            "bytes_to_read": self.bytes_to_read,
            "panels": self.panels,
        }
        return asdict(self) | values | derived

    def to_json(self) -> str:
        """The plan as JSON text, readable again by `from_json`."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """The inverse of `to_dict`; `PlanError` for anything that is not a plan of this version."""
        known = {field.name for field in fields(cls)}
        lacking = sorted(known - set(values))
        if lacking or values["version"] != PLAN_VERSION:
            found = (
                f"lacks {lacking[0]!r}" if lacking else f"has version {values['version']}, not {PLAN_VERSION}"
            )
            raise PlanError(f"this is not a plan: it {found}", "make one with `bigsvd plan DATA -k K --json`")
        chosen = {name: values[name] for name in known}
        try:
            chosen["request"] = Request.from_dict(values["request"])
            chosen["facts"] = SourceFacts.from_dict(values["facts"])
            chosen["rates"] = Rates.from_dict(values["rates"])
            chosen["pass_seconds"] = PassSeconds(**values["pass_seconds"])
            chosen["turn"] = values["turn"] and Turn(**values["turn"])
            chosen["lanes"] = tuple((int(first), int(last)) for first, last in values["lanes"])
            chosen["sample"] = tuple(map(int, values["sample"]))
            plan = cls(**chosen)
            wrong = plan.contradiction()
        except (TypeError, ValueError, KeyError, ZeroDivisionError, AttributeError, BigsvdError) as error:
            raise PlanError(f"this is not a plan ({error})", "make one with `bigsvd plan --json`") from error
        if wrong:
            raise PlanError(f"the plan contradicts itself: {wrong}", "make one with `bigsvd plan --json`")
        return plan

    def contradiction(self) -> str:
        """What in the plan cannot be, in words; empty for a plan that this module made."""
        streamed = self.facts.shape[::-1] if self.transposed else self.facts.shape
        edges = [edge for lane in self.lanes for edge in lane]
        covered = edges[:1] == [0] and edges[-1:] == [self.panels] and edges[1:-1:2] == edges[2::2]
        sizes = (
            self.panel_rows,
            self.tile_cols,
            self.width,
            self.narrow,
            self.max_width,
            self.max_passes,
            self.threads,
            self.readers,
            self.k,
        )
        checks = {
            f"rows {self.rows} and cols {self.cols} are not {streamed}": streamed == (self.rows, self.cols),
            f"k={self.k} is not the request's {self.request.k}": self.request.k in ("auto", self.k),
            f"method {self.method!r} is not known": self.method in METHODS,
            f"{self.compute_dtype} is no precision": self.compute_dtype in ("float32", "float64"),
            f"{self.rough_dtype} is no precision": self.rough_dtype in (self.compute_dtype, ROUGH),
            "a size is below 1": all(isinstance(size, int) and size >= 1 for size in sizes),
            "the lanes are not a division of the panels": covered and edges == sorted(edges),
            "past_page_cache is missing": isinstance(self.rates.past_page_cache, bool),
            "the sample is not of its panels": all(0 <= panel < self.panels for panel in self.sample),
        }
        return next((text for text, holds in checks.items() if not holds), "")

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The inverse of `to_json`."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise PlanError(
                f"the plan is not JSON ({error})", "make one with `bigsvd plan --json`"
            ) from error
        if not isinstance(values, dict):
            raise PlanError("the plan is not a JSON object", "make one with `bigsvd plan --json`")
        return cls.from_dict(values)

    def check_source(self, facts: SourceFacts) -> None:
        """`PlanError` unless the plan was made for this very source."""
        for name in ("shape", "dtype", "chunks", "fingerprint", "packing"):
            expected, found = getattr(self.facts, name), getattr(facts, name)
            if expected != found:
                raise PlanError(
                    f"the plan is for a source with {name} {expected}, this one has {found}",
                    "make a new plan",
                )

    def __str__(self) -> str:
        return _describe(self)


def _describe_range(plan: Plan) -> str:
    """How many passes are seen in practice, where that hangs on a spectrum that nobody knows beforehand."""
    if not load(plan.method).starts_from_sample or plan.width >= plan.cols:
        return ""
    least = min(_LEAST_SEEN, math.floor(plan.expected_passes))
    most = min(plan.max_passes, max(_MOST_SEEN, math.ceil(2 * plan.expected_passes)))
    return f" (the spectrum is unknown: {least} to {most})" if least < most else ""


def _describe_products(plan: Plan) -> str:
    """In which precision they are."""
    if not plan.rough:
        return plan.compute_dtype
    return f"{plan.rough_dtype}, in {plan.compute_dtype} in the last pass"


def _describe(plan: Plan) -> str:
    facts = plan.facts
    m, n = facts.shape
    rates = "measured" if plan.rates.measured else "nominal"
    line_of_A = LINES[plan.transposed]
    panel = f"{counted_as(plan.panels, 'panel')} of {counted_as(plan.panel_rows, line_of_A)}"
    if plan.tile_cols < plan.cols:
        panel += (
            f", read {plan.reads_per_pass} times a pass in tiles of {plan.tile_cols:,}: whole ones do not fit"
        )
    method = load(plan.method)
    lines = [
        f"source        {facts.name}: {m:,} x {n:,} {facts.dtype}, "
        f"chunks {facts.chunks[0]} x {facts.chunks[1]}, {human_bytes(facts.nbytes)}",
        *([f"reading       {plan.reading}"] if plan.reading else []),
        *described(plan.request, facts),
        f"method        {plan.method} ({plan.reason})",
        f"orientation   {line_of_A}s of A are streamed, the basis has {counted_as(plan.cols, 'row')}",
        f"panels        {panel}; {counted_as(len(plan.lanes), 'lane')}, {plan.threads} at a time"
        + (f", {plan.readers} threads reading for each" if plan.readers > 1 else "")
        + (", past the page cache" if plan.past_page_cache else ""),
        f"device        {plan.device} ({plan.device_reason})",
        f"start         {method.describe_start(plan)}",
        f"block         {counted_as(plan.width, 'column')} for k = {plan.k}, "
        f"products in {_describe_products(plan)}",
        *["totals        one more read sums the samples, which panels hold in part"] * plan.sums_apart,
        f"passes        about {plan.expected_passes:.2f} expected{_describe_range(plan)}, "
        f"at most {plan.max_passes}",
        f"time          about {plan.seconds:.2g} s at {rates} rates: "
        + ", ".join(f"{part} {seconds:.2g} s" for part, seconds in plan.predicted_seconds.items()),
        f"bytes to read {human_bytes(plan.bytes_to_read)} uncompressed",
        f"scratch       about {human_bytes(plan.scratch_bytes)}; output {human_bytes(plan.output_bytes)}",
        f"peak memory   {human_bytes(plan.memory_bytes)} of a budget of {human_bytes(plan.budget_bytes)}:",
    ]
    lines += [f"  {term:<38}{human_bytes(size):>10}" for term, size in plan.memory.items()]
    if plan.has_own_memory:
        lines.append(
            f"device memory {human_bytes(plan.device_bytes)} of a budget of "
            f"{human_bytes(plan.device_budget_bytes)}:"
        )
        lines += [f"  {term:<38}{human_bytes(size):>10}" for term, size in plan.device_memory.items()]
    if facts.reader == "foreign":
        lines.append("measured      memory of reading this source, once the run starts; refused if too much")
    return "\n".join(lines)
