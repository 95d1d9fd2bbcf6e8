"""Request + source facts + machine -> `Plan`: pure arithmetic, nothing is read.

The plan fixes everything that decides the bits of the answer: orientation, panels, lanes, sample, block
width, precision. It is JSON; running a saved plan gives the same answer on any number of workers.

Throughout, B is the matrix as it is streamed: A, or Aᵀ when `transposed`; it is M×N, panels are rows of B,
the basis has N rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np

from bigsvd.errors import BigsvdError, PlanError, RankError, RequestError
from bigsvd.facts import AS_STORED, NOMINAL, NOMINAL_ON_GPU, Machine, Rates, SourceFacts
from bigsvd.floats import silent
from bigsvd.layout import (
    DEFAULT_MAX_PASSES,
    PROBES,
    SAMPLE_BLOCKS,
    Layout,
    choose_layout,
    device_terms,
    forming_bytes,
    memory_terms,
    refusal,
)
from bigsvd.rank import Rule
from bigsvd.request import DASK_METHODS, METHODS, Request
from bigsvd.sentinels import held
from bigsvd.text import human_bytes

PLAN_VERSION = 7
# The sample, chosen on the families of `benchmarks passes`.
_SAMPLE_SHARE = 0.1
_LARGEST_SAMPLE_SHARE = 1 / 3
_SAMPLE_ROWS_A_COLUMN = 160
_SAMPLE_LANES = 4
_PANELS_WORTH_SAMPLING = 8
_LEAST_SAMPLE_PANELS = 4
_GRAM_BUDGET = 0.3  # of memory that Gram matrices may take for `auto` to choose them
_CACHE_SHARE = 0.95  # of memory that is left
_DENSE_FLOPS_PER_SECOND = 1e10  # of an eigendecomposition
_DEVICE_DENSE_FLOPS_PER_SECOND = 2e11
_MOST_LANES_A_CORE = 4
_IO_BOUND_RATIO = 2.5  # of wall to processor time of a read, from which lanes are added
_WIDTH_MATTERS_RATIO = 1.1  # of a pass with the wide block to one with the narrow
# Seconds that a run takes besides its passes, and a pass besides its panels, and what checksums, sums and
# two threads sharing one memory add to reading and multiplying; measured on two cores.
_RUN_SECONDS = 1.0
_PASS_SECONDS = 0.15
_CROWDING = 1.25
_FORMING_BYTES_PER_SECOND = 2.5e8
_GAIN_A_PASS = 20.0  # of the residual, where the sample resembles the data
_USUAL_TOL = 1e-2
_LEAST_SEEN, _MOST_SEEN = 2, 8  # passes to the usual tolerance, by family of data in `benchmarks passes`
_FLOAT32_SHARE = 16 * float(np.finfo(np.float32).eps)  # of the squared norm, which its rounding can hide
# Products with the sample for each correction.
CORRECTION_TERMS = 2
# Ritz vectors behind the k-th that corrections take along.
BEYOND = 10


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
        compute_dtype: precision of the panel products; their sums are float64.
        expected_passes: passes over B, sample included, at which the tolerance asked for is usual.
        rates: what reading and multiplying were taken to cost, see `Rates`.
        predicted_seconds: of the warm start, the passes and the rest, at these rates.
        memory: bytes by term; their sum is `memory_bytes`, which is held within `budget_bytes`.
        cache_bytes: decoded panels that each worker process keeps between passes, one of these terms.
        forming_bytes: what tasks that form the long factor may hold together, when lanes hold nothing more.
        threads, readers: lanes at a time, and threads that read for each.
        device, device_reason: where is multiplied, and why there.
        apart: whether the device has memory of its own; device_memory, device_budget_bytes,
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
    expected_passes: float
    rates: Rates
    predicted_seconds: dict[str, float]
    memory: dict[str, int]
    cache_bytes: int
    forming_bytes: int
    budget_bytes: int
    threads: int
    readers: int
    device: str
    device_reason: str
    apart: bool
    device_memory: dict[str, int]
    device_budget_bytes: int
    device_cache_bytes: int
    scratch_bytes: int
    output_bytes: int
    version: int = PLAN_VERSION

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
    def seconds(self) -> float:
        """Predicted time of the run."""
        return sum(self.predicted_seconds.values())

    @property
    def bytes_per_pass(self) -> int:
        """Uncompressed bytes that one pass reads."""
        return self.facts.nbytes * self.reads_per_pass

    @property
    def bytes_to_read(self) -> int:
        """Uncompressed bytes that the expected passes read."""
        return int(self.bytes_per_pass * self.expected_passes)

    @property
    def stays_on_device(self) -> bool:
        """Whether the device's own memory keeps the whole matrix between passes."""
        return self.device_cache_bytes >= self.facts.nbytes

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
    def past_page_cache(self) -> bool:
        """Whether files are read past the system's cache, too small to keep them till they are read again."""
        return self.rates.past_page_cache

    @property
    def sample_share(self) -> float:
        """Rows of the sample, of all."""
        return sum(stop - start for start, stop in map(self.panel, self.sample)) / self.rows

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
            f"method {self.method!r} is not known": self.method in METHODS[1:],
            f"{self.compute_dtype} is no precision": self.compute_dtype in ("float32", "float64"),
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


@silent
def make_plan(request: Request, facts: SourceFacts, machine: Machine, rates: Rates | None = None) -> Plan:
    """The plan for `request`, or why there is none; `rates`, nominal ones by default, decide what pays.

    Raises:
        RankError: k is greater than min(m, n).
        MemoryBudgetError: names the term that is too big and what to change.

    """
    _check_rank(request.k, facts.shape)
    _check_sentinels(request, facts)
    dtype = _compute_dtype(request, facts)
    rates = rates or (NOMINAL_ON_GPU if machine.apart else NOMINAL)
    cost = Cost(rates, machine.threads * machine.readers, dtype, machine.readers, apart=machine.apart)
    machine = replace(machine, threads=machine.threads * cost.lanes_a_core)
    choice = _choose_method(request, facts, machine, cost)
    method, layout, threads = choice.method, choice.layout, choice.threads
    machine = replace(machine, threads=threads)
    if method == "krylov" and not cost.products_matter(layout, threads):
        wide = replace(layout, narrow=layout.width)
        needed = sum(memory_terms(method, request, wide, machine, dtype).values())
        on_device = sum(device_terms(method, request, wide, threads, dtype).values())
        fits = needed <= machine.budget_bytes and on_device <= machine.device_budget_bytes
        layout = wide if fits else layout
    memory = memory_terms(method, request, layout, machine, dtype)
    device_memory = device_terms(method, request, layout, threads, dtype)
    if not layout.fits:
        raise refusal(method, request, facts, layout, machine, dtype)
    resident = _resident_bytes(layout, machine, sum(device_memory.values()), method)
    cache = _cache_bytes(layout, sum(memory.values()), machine.budget_bytes, resident)
    sample = _sample(request, layout, cache + resident) if method == "krylov" else ()
    share = _share(sample, layout)
    expected = _expected_passes(method, request, layout, share)
    if not cost.keeping_pays(layout, expected):
        cache = min(cache, len(sample) * layout.panel_rows * layout.N * layout.itemsize)
    memory["decoded panels kept"] = cache
    device_memory |= {"data kept there between passes": resident} if layout.apart else {}
    m, n = facts.shape
    itemsize = np.dtype(dtype).itemsize
    k = layout.k
    max_passes = request.max_passes or DEFAULT_MAX_PASSES
    expected = min(expected, max_passes + share)
    stays = resident == facts.nbytes  # on a device: then one more pass multiplies the long factor
    passing = math.ceil(expected) * layout.width + PROBES
    streamed_width = k if method in DASK_METHODS or stays else passing
    output = k * (m + n) * itemsize + 8 * k
    return Plan(
        request=request,
        facts=facts,
        method=method,
        reason=choice.reason,
        transposed=layout.transposed,
        rows=layout.M,
        cols=layout.N,
        panel_rows=layout.panel_rows,
        tile_cols=layout.tile_cols,
        reads_per_pass=layout.reads_per_pass,
        lanes=_lanes(layout, machine),
        sample=sample,
        k=k,
        width=layout.width,
        narrow=layout.narrow,
        max_width=layout.max_width,
        max_passes=max_passes,
        compute_dtype=dtype,
        expected_passes=expected + (1 if stays else 0),
        rates=rates,
        predicted_seconds=cost.of_run(
            method,
            layout,
            threads,
            expected,
            0.0 if request.warm_start is not None else share,
            cache,
            resident,
        ),
        memory=memory,
        cache_bytes=cache,
        forming_bytes=forming_bytes(memory),
        budget_bytes=machine.budget_bytes,
        threads=machine.threads,
        readers=layout.readers,
        device=machine.device,
        device_reason=machine.device_reason,
        apart=machine.apart,
        device_memory=device_memory,
        device_budget_bytes=machine.device_budget_bytes,
        device_cache_bytes=resident,
        scratch_bytes=int(layout.M * streamed_width * itemsize) + output,
        output_bytes=output,
    )


def _check_rank(k: int | str, shape: tuple[int, int]) -> None:
    if isinstance(k, int) and k > min(shape):
        raise RankError(
            f"k={k} is not in the allowed range 1..{min(shape)} for shape {shape}", "give a smaller k"
        )


def _check_sentinels(request: Request, facts: SourceFacts) -> None:
    """`RequestError` where entries of this type cannot be missing, so that nothing would ever be filled."""
    stored = np.dtype(facts.dtype)
    if request.missing == "none" or facts.marks_gaps:
        return
    if any(held(value, stored) is not None for value in request.sentinels):
        return
    given = "no missing_value" if request.missing_value is None else f"missing_value={request.missing_value}"
    raise RequestError(
        f"missing={request.missing!r} with {given}, but {stored.name} entries of {facts.name} cannot be "
        f"{' or '.join(str(value) for value in request.sentinels)}",
        "give the value that means missing, as it is stored, by missing_value, or leave missing out",
    )


def _compute_dtype(request: Request, facts: SourceFacts) -> str:
    """float32 products for float16/32, bool and 8/16-bit integers, unless what is asked is beyond them.

    That is a tolerance, or a share of the squared norm to be left that is near the rounding of such sums.
    """
    dtype = np.dtype(facts.dtype)
    small = dtype.itemsize <= 2 or dtype == np.float32
    left = Rule.of(request).share_left
    resolved = request.tol >= 1e-5 and (left is None or left >= _FLOAT32_SHARE)
    return "float32" if small and resolved else "float64"


@dataclass(frozen=True)
class _Choice:
    """A method with the layout that suits it and the lanes that fit at a time."""

    method: str
    reason: str
    layout: Layout
    threads: int


@dataclass(frozen=True)
class Cost:
    """What things take at given rates on a number of cores, products in one precision.

    On a device `apart` reading, copying and multiplying go on side by side, and all lanes share it.
    """

    rates: Rates
    cores: int
    dtype: str
    readers: int = 1
    apart: bool = False

    @property
    def lanes_a_core(self) -> int:
        """Lanes at a time for each core: more where a reader mostly waits for its storage."""
        waiting = self.rates.read_seconds / max(self.rates.read_cpu_seconds, 1e-15)
        return max(1, min(_MOST_LANES_A_CORE, int(waiting) if waiting >= _IO_BOUND_RATIO else 1))

    def of_pass(
        self,
        layout: Layout,
        lanes: int,
        columns: int,
        share: float = 1.0,
        kept: float = 0.0,
        resident: float = 0.0,
    ) -> float:
        """Seconds of a pass over `share` of the panels, of which a fraction `kept` need not be read.

        Of a fraction `resident`, which is none of these, nothing need be copied to the device either.

        As many lanes run at a time as memory allows, which may be fewer than there are cores.
        """
        if layout.reader == "memory":
            kept = 1.0
        streamed = share * layout.M * layout.N * layout.itemsize * layout.reads_per_pass
        read_bytes = max(0.0, 1 - kept - resident) * streamed
        flops = 4.0 * share * layout.M * layout.N * columns
        products = flops / self.rates.flops_at(self.dtype, columns)
        if self.apart:
            waiting = read_bytes * self.rates.read_seconds / (lanes * self.readers)
            decoding = read_bytes * self.rates.read_cpu_seconds / self.cores
            copying = (1 - resident) * streamed * self.rates.copy_seconds
            return _CROWDING * max(waiting, decoding, copying, products)
        waiting = read_bytes * self.rates.read_seconds / lanes
        working = _CROWDING * (read_bytes * self.rates.read_cpu_seconds + products) / min(self.cores, lanes)
        return max(waiting, working)

    def products_matter(self, layout: Layout, lanes: int) -> bool:
        """Whether a pass with the narrow block takes noticeably less than one with the wide."""
        wide, narrow = (self.of_pass(layout, lanes, columns) for columns in (layout.width, layout.narrow))
        return layout.narrow < layout.width and wide > _WIDTH_MATTERS_RATIO * narrow

    def keeping_pays(self, layout: Layout, passes: float) -> bool:
        """Whether a panel in new memory costs less than reading it again in the passes after the first."""
        again = max(0, round(passes) - 1) * layout.reads_per_pass * self.rates.read_seconds
        return again > self.rates.fresh_seconds

    def of_gram(self, layout: Layout, lanes: int) -> float:
        """The pass for BᵀB, its eigenvectors, and the pass that forms and certifies the answer."""
        rate = _DEVICE_DENSE_FLOPS_PER_SECOND if self.apart else _DENSE_FLOPS_PER_SECOND
        dense = 10 * layout.N**3 / rate
        first, second = -(-layout.N // 2), layout.k + BEYOND
        return self.of_pass(layout, lanes, first) + dense + self.of_pass(layout, lanes, second)

    def of_run(
        self,
        method: str,
        layout: Layout,
        lanes: int,
        passes: float,
        share: float,
        cache_bytes: int,
        resident_bytes: int = 0,
    ) -> dict[str, float]:
        """Seconds of each part of a run of so many passes, a `share` of one in the sample.

        Where all data stay on a device another pass multiplies the long factor.
        """
        resident = min(1.0, resident_bytes / (layout.M * layout.N * layout.itemsize))
        kept = min(1.0 - resident, cache_bytes / (layout.M * layout.N * layout.itemsize))
        columns = layout.narrow + PROBES
        later = layout.k + BEYOND
        full = max(1, round(passes - share))
        if method == "gram":
            body = self.of_gram(layout, lanes)
        elif method == "krylov":
            body = self.of_pass(layout, lanes, columns, kept=min(kept, share)) + _PASS_SECONDS
            again = self.of_pass(layout, lanes, later, kept=kept, resident=resident)
            body += (full - 1) * (again + _PASS_SECONDS)
            more = max(0.0, kept - share) * layout.M * layout.N * layout.itemsize
            body += more * self.rates.fresh_seconds / min(self.cores, lanes)
        else:
            body = full * (self.of_pass(layout, lanes, layout.k) + _PASS_SECONDS)
        start = 0.0
        if share > 0:
            again = self.of_pass(layout, lanes, layout.narrow, share, 1.0) + _PASS_SECONDS
            fix = self.of_pass(layout, lanes, later, share, 1.0) + _PASS_SECONDS
            start = self.of_pass(layout, lanes, 0, share) + SAMPLE_BLOCKS * again + CORRECTION_TERMS * fix
        stays = resident == 1.0
        if stays:
            body += self.of_pass(layout, lanes, layout.k, resident=resident) + _PASS_SECONDS
        written = layout.k if stays else columns + later * (full - 1)
        stored = layout.M * written * np.dtype(self.dtype).itemsize
        rest = _RUN_SECONDS + stored / _FORMING_BYTES_PER_SECOND / self.cores
        return {"warm start": start, "passes": body, "the rest": rest}


def _choose_method(request: Request, facts: SourceFacts, machine: Machine, cost: Cost) -> _Choice:
    dtype = cost.dtype
    if request.method != "auto":
        return _Choice(
            request.method, "asked for", *choose_layout(request.method, request, facts, machine, dtype)
        )
    if request.warm_start is not None:
        return _Choice(
            "krylov", "it goes on from factors", *choose_layout("krylov", request, facts, machine, dtype)
        )
    layout, threads = choose_layout("krylov", request, facts, machine, dtype)
    if layout.width >= layout.N:
        reason = f"the block spans all {layout.N} columns: one pass is exact"
        return _Choice("krylov", reason, layout, threads)
    other, gram_threads = choose_layout("gram", request, facts, machine, dtype)
    krylov = _expected_passes("krylov", request, layout, _SAMPLE_SHARE) * cost.of_pass(
        layout, threads, layout.narrow
    )
    gram = cost.of_gram(other, gram_threads)
    how = "measured" if cost.rates.measured else "nominal"
    reason = f"krylov about {krylov:.2g} s, gram about {gram:.2g} s at {how} rates"
    matrices = other.N**2 * 8 * (2 * gram_threads + 3)
    if not other.fits or matrices > _GRAM_BUDGET * machine.budget_bytes:
        reason += f"; a {other.N}x{other.N} Gram matrix does not fit"
        return _Choice("krylov", reason, layout, threads)
    if gram < krylov and request.max_passes != 1:
        return _Choice("gram", reason, other, gram_threads)
    return _Choice("krylov", reason, layout, threads)


def dask_reads(method: str, request: Request) -> float:
    """Reads by Dask's own method: `svd` one, `svd_compressed` two and two a power iteration."""
    return 1.0 if method == "tall_skinny" else 2.0 * (request.power_iterations or 0) + 2.0


def _expected_passes(method: str, request: Request, layout: Layout, share: float) -> float:
    """Passes at which the tolerance is usual, with a sample of `share` of the rows or 0 without one."""
    if method in DASK_METHODS:
        return 2.0 + dask_reads(method, request)  # a pass before for statistics, one after to certify
    first = 1.0 if request.missing == "mean" and not layout.transposed else 0.0
    if method == "gram":
        return 2.0 + first
    if layout.width >= layout.N:
        return 1.0 + first
    further = max(0, math.ceil(math.log(_USUAL_TOL / request.tol) / math.log(_GAIN_A_PASS)))
    if request.warm_start is not None:
        return first + 1.0 + further
    return first + further + (2.0 + share if share else 4.0)


def _lanes(layout: Layout, machine: Machine) -> tuple[tuple[int, int], ...]:
    """Even runs of panels: 16, more for long passes, fewer where partial sums are large, but two a thread."""
    panels = -(-layout.M // layout.panel_rows)
    partial_share = (layout.width + PROBES) * 8 / (layout.M * layout.itemsize)
    wanted = max(16, -(-panels // 256))
    if partial_share > 0:
        wanted = min(wanted, max(2 * machine.threads, int(0.2 / partial_share)))
    count = max(1, min(panels, wanted))
    edges = [panels * i // count for i in range(count + 1)]
    return tuple(pairwise(edges))


def _cache_bytes(layout: Layout, needed_bytes: int, budget_bytes: int, resident_bytes: int) -> int:
    """What the budget leaves for decoded panels, at most those that are not resident."""
    if layout.reader == "memory":
        return 0
    return max(
        0,
        min(
            int(_CACHE_SHARE * (budget_bytes - needed_bytes)),
            layout.M * layout.N * layout.itemsize - resident_bytes,
        ),
    )


def _resident_bytes(layout: Layout, machine: Machine, needed_bytes: int, method: str) -> int:
    """What the device's memory leaves for panels that stay there between passes, at most all of them."""
    left = int(_CACHE_SHARE * (machine.device_budget_bytes - needed_bytes))
    return 0 if method in DASK_METHODS else max(0, min(left, layout.M * layout.N * layout.itemsize))


def _sample(request: Request, layout: Layout, kept_bytes: int) -> tuple[int, ...]:
    """Panels for the warm start, one at random from each of as many equal stretches; none of a few panels.

    A tenth of the data, and of small data up to a third: how well a sample shows directions depends on its
    rows, not on their share. No more than a tenth where that cannot be kept: it is gone over several times.
    """
    panels = -(-layout.M // layout.panel_rows)
    if panels < _PANELS_WORTH_SAMPLING or layout.tiled or layout.width >= layout.N:
        return ()
    panel_bytes = layout.panel_rows * layout.N * layout.itemsize
    kept = panels if layout.reader == "memory" else kept_bytes // panel_bytes
    enough = -(-_SAMPLE_ROWS_A_COLUMN * layout.narrow // layout.panel_rows)
    wanted = max(math.ceil(_SAMPLE_SHARE * panels), min(enough, int(_LARGEST_SAMPLE_SHARE * panels)))
    least = max(math.ceil(_SAMPLE_SHARE * panels), min(_LEAST_SAMPLE_PANELS, panels // 2))
    count = max(least, min(wanted, kept))
    edges = [panels * i // count for i in range(count + 1)]
    random = np.random.default_rng([request.seed, 1])
    return tuple(int(random.integers(first, last)) for first, last in pairwise(edges))


def _share(sample: tuple[int, ...], layout: Layout) -> float:
    return min(1.0, len(sample) * layout.panel_rows / layout.M)


def _describe_start(plan: Plan) -> str:
    if plan.request.warm_start is not None:
        return f"the factors {plan.request.warm_start}"
    return f"{100 * plan.sample_share:.1f} % sample" if plan.sample else "Gaussian block"


def _describe_range(plan: Plan) -> str:
    """How many passes are seen in practice, where that hangs on a spectrum that nobody knows beforehand."""
    if plan.method != "krylov" or plan.width >= plan.cols:
        return ""
    least = min(_LEAST_SEEN, math.floor(plan.expected_passes))
    most = min(plan.max_passes, max(_MOST_SEEN, math.ceil(2 * plan.expected_passes)))
    return f" (the spectrum is unknown: {least} to {most})" if least < most else ""


def _describe(plan: Plan) -> str:
    facts = plan.facts
    m, n = facts.shape
    rates = "measured" if plan.rates.measured else "nominal"
    lines_of_A = "columns" if plan.transposed else "rows"
    panel = f"{plan.panels} panels of {plan.panel_rows} {lines_of_A}"
    if plan.tile_cols < plan.cols:
        panel += (
            f", read {plan.reads_per_pass} times a pass in tiles of {plan.tile_cols}: whole ones do not fit"
        )
    start = {
        "krylov": _describe_start(plan),
        "gram": "Gram matrix",
    }
    lines = [
        f"source        {facts.name}: {m:,} x {n:,} {facts.dtype}, "
        f"chunks {facts.chunks[0]} x {facts.chunks[1]}, {human_bytes(facts.nbytes)}",
        *([f"packing       {facts.packing} (CF attributes)"] if facts.packing != AS_STORED else []),
        f"method        {plan.method} ({plan.reason})",
        f"orientation   {lines_of_A} of A are streamed, the basis has {plan.cols:,} rows",
        f"panels        {panel}; {len(plan.lanes)} lanes, {plan.threads} at a time"
        + (f", {plan.readers} threads reading for each" if plan.readers > 1 else "")
        + (", past the page cache" if plan.past_page_cache else ""),
        f"device        {plan.device} ({plan.device_reason})",
        f"start         {start.get(plan.method, 'Dask')}",
        f"block         {plan.width} columns for k = {plan.k}, products in {plan.compute_dtype}",
        f"passes        about {plan.expected_passes:.2f} expected{_describe_range(plan)}, "
        f"at most {plan.max_passes}",
        f"time          about {plan.seconds:.2g} s at {rates} rates: "
        + ", ".join(f"{part} {seconds:.2g} s" for part, seconds in plan.predicted_seconds.items()),
        f"bytes to read {human_bytes(plan.bytes_to_read)} uncompressed",
        f"scratch       about {human_bytes(plan.scratch_bytes)}; output {human_bytes(plan.output_bytes)}",
        f"peak memory   {human_bytes(plan.memory_bytes)} of a budget of {human_bytes(plan.budget_bytes)}:",
    ]
    lines += [f"  {term:<38}{human_bytes(size):>10}" for term, size in plan.memory.items()]
    if plan.apart:
        lines.append(
            f"device memory {human_bytes(plan.device_bytes)} of a budget of "
            f"{human_bytes(plan.device_budget_bytes)}:"
        )
        lines += [f"  {term:<38}{human_bytes(size):>10}" for term, size in plan.device_memory.items()]
    if facts.reader == "foreign":
        lines.append("measured      memory of reading this source, once the run starts; refused if too much")
    return "\n".join(lines)
