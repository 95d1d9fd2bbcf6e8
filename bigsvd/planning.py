"""Request + source facts + limits -> `Plan`: pure arithmetic, nothing is read.

The plan fixes everything that decides the bits of the answer: orientation, panels, lanes, sample, block width,
precision. It is JSON; running a saved plan gives the same answer on any number of workers.

Throughout, B is the matrix as it is streamed: A, or Aᵀ when `transposed`; it is M×N, panels are rows of B, the
basis has N rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from bigsvd.errors import MemoryBudgetError, PlanError, RankError
from bigsvd.request import Request
from bigsvd.source import SourceFacts

PLAN_VERSION = 1
PROBES = 10
DEFAULT_MAX_PASSES = 20
_AUTO_WIDTH_K = 64
_PANEL_BYTES = 64 * 2**20
_SLAB_BYTES = 4 * 2**20
_SAMPLE_SHARE = 0.04
_MIN_SAMPLE_UNITS = 8
_MAX_DENSE_WIDTH = 768
_ZARR_CONCURRENCY = 10
_SLACK = 0.15
# Nominal rates for the choice of method; a calibration may replace them, the arithmetic stays.
_READ_BYTES_PER_SECOND = 5e8
_FLOPS_PER_SECOND_PER_THREAD = {"float32": 4e10, "float64": 2e10}
_DENSE_FLOPS_PER_SECOND = 1e10


@dataclass(frozen=True)
class Limits:
    """What the machine allows: bytes for this run's working set and panels multiplied at the same time."""

    budget_bytes: int
    threads: int
    device: str = "cpu"


@dataclass(frozen=True)
class Plan:
    """One decomposition, decided. `str(plan)` is for people, `to_json` for files.

    Attributes:
        request, facts: what was asked and of what (JSON values).
        method, reason: the method and the arithmetic that chose it.
        transposed: whether Aᵀ is streamed.
        rows, cols: M and N of the streamed matrix B.
        panel_rows, tile_cols: a panel is `panel_rows`×N; where that does not fit it is read in tiles of
            `tile_cols` columns, `reads_per_pass` times.
        lanes: (first, last+1) panel of each Dask task; partial sums are combined in this order.
        sample: row ranges of B for the warm start.
        width, max_width: columns of one block, and of all blocks held at once (l and L).
        compute_dtype: precision of the panel products; their sums are float64.
        expected_passes: passes over B, sample included, at which the default tolerance is usual.
        memory: bytes by term; their sum is `memory_bytes`, which is held within `budget_bytes`.
    """

    request: dict[str, Any]
    facts: dict[str, Any]
    method: str
    reason: str
    transposed: bool
    rows: int
    cols: int
    panel_rows: int
    tile_cols: int
    reads_per_pass: int
    lanes: tuple[tuple[int, int], ...]
    sample: tuple[tuple[int, int], ...]
    k: int
    width: int
    max_width: int
    max_passes: int
    compute_dtype: str
    expected_passes: float
    memory: dict[str, int]
    budget_bytes: int
    threads: int
    device: str
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
    def bytes_per_pass(self) -> int:
        """Uncompressed bytes that one pass reads."""
        return SourceFacts.from_dict(self.facts).nbytes * self.reads_per_pass

    @property
    def bytes_to_read(self) -> int:
        """Uncompressed bytes that the expected passes read."""
        return int(self.bytes_per_pass * self.expected_passes)

    def panel(self, index: int) -> tuple[int, int]:
        """Rows (start, stop) of B in one panel."""
        return index * self.panel_rows, min(self.rows, (index + 1) * self.panel_rows)

    def tiles(self) -> tuple[tuple[int, int], ...]:
        """Column ranges in which a panel is read; one where the panel fits."""
        return tuple((c, min(self.cols, c + self.tile_cols)) for c in range(0, self.cols, self.tile_cols))

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values, with the derived totals that readers want."""
        derived = {"memory_bytes": self.memory_bytes, "bytes_to_read": self.bytes_to_read, "panels": self.panels}
        return asdict(self) | derived

    def to_json(self) -> str:
        """The plan as JSON text, readable again by `from_json`."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """The inverse of `to_dict`; `PlanError` for anything that is not a plan of this version."""
        known = {field.name for field in fields(cls)}
        lacking = sorted(known - set(values))
        if lacking or values["version"] != PLAN_VERSION:
            found = f"lacks {lacking[0]!r}" if lacking else f"has version {values['version']}, not {PLAN_VERSION}"
            raise PlanError(f"this is not a plan: it {found}", "make one with `bigsvd plan DATA -k K --json`")
        chosen = {name: values[name] for name in known}
        chosen["lanes"] = tuple(tuple(lane) for lane in values["lanes"])
        chosen["sample"] = tuple(tuple(rows) for rows in values["sample"])
        return cls(**chosen)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The inverse of `to_json`."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise PlanError(f"the plan is not JSON ({error})", "make one with `bigsvd plan --json`") from error
        if not isinstance(values, dict):
            raise PlanError("the plan is not a JSON object", "make one with `bigsvd plan --json`")
        return cls.from_dict(values)

    def check_source(self, facts: SourceFacts) -> None:
        """`PlanError` unless the plan was made for this very source."""
        planned = SourceFacts.from_dict(self.facts)
        for name in ("shape", "dtype", "chunks", "fingerprint"):
            if getattr(planned, name) != getattr(facts, name):
                raise PlanError(
                    f"the plan is for a source with {name} {getattr(planned, name)}, this one has {getattr(facts, name)}",
                    "make a new plan",
                )

    def __str__(self) -> str:
        return _describe(self)


def human_bytes(count: float) -> str:
    """``1.5 GB``: decimal units, as disks and budgets are sold."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} PB"


def make_plan(request: Request, facts: SourceFacts, limits: Limits) -> Plan:
    """The plan for `request`, or why there is none.

    Raises:
        RankError: k is greater than min(m, n).
        MemoryBudgetError: names the term that is too big and what to change.
    """
    _check_rank(request.k, facts.shape)
    for threads in range(limits.threads, 1, -1):
        try:
            return _plan_with(request, facts, Limits(limits.budget_bytes, threads, limits.device))
        except MemoryBudgetError:
            continue  # fewer lanes at a time need less; one lane gives the final word
    return _plan_with(request, facts, Limits(limits.budget_bytes, 1, limits.device))


def _plan_with(request: Request, facts: SourceFacts, limits: Limits) -> Plan:
    dtype = _compute_dtype(request, facts)
    layout = min(
        (_layout(request, facts, limits, dtype, transposed=transposed) for transposed in (False, True)),
        key=lambda choice: (not choice.fits, choice.reads_per_pass, choice.N),
    )
    method, reason = _choose_method(request, layout, limits)
    memory = _memory(method, request, layout, limits, dtype)
    _check_budget(memory, layout, limits, method)
    sample = _sample(request, layout, limits) if method == "krylov" else ()
    m, n = facts.shape
    itemsize = np.dtype(dtype).itemsize
    k = min(layout.k, layout.N)
    expected = _expected_passes(method, request, layout, sample)
    max_passes = request.max_passes or DEFAULT_MAX_PASSES
    streamed_width = k if method in ("tall_skinny", "compressed") else math.ceil(expected) * layout.width + PROBES
    output = k * (m + n) * itemsize + 8 * k
    return Plan(
        request=request.to_dict(),
        facts=facts.to_dict() | {"shape": list(facts.shape), "chunks": list(facts.chunks)},
        method=method,
        reason=reason,
        transposed=layout.transposed,
        rows=layout.M,
        cols=layout.N,
        panel_rows=layout.panel_rows,
        tile_cols=layout.tile_cols,
        reads_per_pass=layout.reads_per_pass,
        lanes=_lanes(layout, limits),
        sample=sample,
        k=k,
        width=layout.width,
        max_width=layout.max_width,
        max_passes=max_passes,
        compute_dtype=dtype,
        expected_passes=min(expected, max_passes + len(sample) * layout.unit_rows / layout.M),
        memory=memory,
        budget_bytes=limits.budget_bytes,
        threads=limits.threads,
        device=limits.device,
        scratch_bytes=int(layout.M * streamed_width * itemsize) + output,
        output_bytes=output,
    )


def _check_rank(k: int | str, shape: tuple[int, int]) -> None:
    if isinstance(k, int) and k > min(shape):
        raise RankError(f"k={k} is not in the allowed range 1..{min(shape)} for shape {shape}", "give a smaller k")


def _compute_dtype(request: Request, facts: SourceFacts) -> str:
    """float32 products for float16/32, bool and 8/16-bit integers, unless the tolerance is beyond them."""
    dtype = np.dtype(facts.dtype)
    small = dtype.itemsize <= 2 or dtype == np.float32
    return "float32" if small and request.tol >= 1e-5 else "float64"


@dataclass(frozen=True)
class _Layout:
    """One orientation with its panels and block widths."""

    transposed: bool
    M: int
    N: int
    k: int
    itemsize: int
    unit_rows: int
    unit_cols: int
    panel_rows: int
    tile_cols: int
    reads_per_pass: int
    width: int
    max_width: int
    fits: bool

    @property
    def tiled(self) -> bool:
        return self.tile_cols < self.N


def _layout(request: Request, facts: SourceFacts, limits: Limits, dtype: str, *, transposed: bool) -> _Layout:
    """The largest panels of this orientation that fit the budget, else tiles of one panel, else what fits least."""
    M, N = facts.shape[::-1] if transposed else facts.shape
    unit_rows, unit_cols = facts.chunks[::-1] if transposed else facts.chunks
    k = request.k if isinstance(request.k, int) else min(_AUTO_WIDTH_K, N)
    if request.max_bytes is not None:
        k = max(1, min(N, M, request.max_bytes // (np.dtype(dtype).itemsize * (M + N) + 8)))
    width = min(N, max(3 * k, k + 40))
    basis_share = int(0.3 * limits.budget_bytes / (16 * N))
    max_width = min(N, max(4 * width, _MAX_DENSE_WIDTH), max(2 * width, basis_share))
    wanted = min(_PANEL_BYTES // (N * facts.itemsize) + 1, -(-M // (2 * limits.threads)))
    by_line = request.center or request.scale or request.missing == "mean"
    tiled_reads = 3 if transposed and by_line else 2
    layout = _Layout(
        transposed, M, N, k, facts.itemsize, unit_rows, unit_cols, M, N, 1, width, max_width, fits=True
    )
    for units in _halvings(max(1, wanted // unit_rows)):
        layout = replace(layout, panel_rows=min(M, units * unit_rows))
        if _total("krylov", request, layout, limits, dtype) <= limits.budget_bytes:
            return layout
    for units in _halvings(-(-N // unit_cols) // 2):
        layout = replace(layout, tile_cols=units * unit_cols, reads_per_pass=tiled_reads)
        if _total("krylov", request, layout, limits, dtype) <= limits.budget_bytes:
            return layout
    return replace(layout, fits=False)


def _halvings(count: int) -> list[int]:
    """count, count/2, ..., 1; nothing for 0."""
    return [count >> shift for shift in range(count.bit_length())]


def _total(method: str, request: Request, layout: _Layout, limits: Limits, dtype: str) -> int:
    return sum(_memory(method, request, layout, limits, dtype).values())


def _basis_memory(N: int, width: int, max_width: int, dtype: str, threads: int) -> dict[str, int]:
    columns = width + PROBES
    wide = np.dtype(dtype).itemsize
    return {
        "basis K and products Z (driver)": 16 * N * (max_width + PROBES),
        "small dense work (driver)": 8 * (4 * N * columns + 6 * max_width**2),
        "block and its partial sums (lanes)": threads * N * columns * (8 + 2 * wide) + N * columns * (8 + wide),
    }


def slab_rows(cols: int, dtype: str) -> int:
    """Rows of B that are widened and multiplied at a time, so that they stay in cache."""
    return max(16, _SLAB_BYTES // (cols * np.dtype(dtype).itemsize))


def _slab_memory(M: int, N: int, dtype: str) -> int:
    """The widened slab, and in the first pass its float64 copy and their temporaries."""
    return min(M, slab_rows(N, dtype)) * N * (2 * np.dtype(dtype).itemsize + 16)


def _memory(method: str, request: Request, layout: _Layout, limits: Limits, dtype: str) -> dict[str, int]:
    wide = np.dtype(dtype).itemsize
    columns = layout.width + PROBES
    terms = _basis_memory(layout.N, layout.width, layout.max_width, dtype, limits.threads)
    panel_bytes = layout.panel_rows * min(layout.tile_cols, layout.N) * layout.itemsize
    chunks = max(1, layout.panel_rows // layout.unit_rows) * max(1, layout.tile_cols // layout.unit_cols)
    in_flight = min(_ZARR_CONCURRENCY, chunks)
    terms["panels, two a lane"] = 2 * limits.threads * panel_bytes
    terms["chunks being decoded"] = 2 * limits.threads * in_flight * layout.unit_rows * layout.unit_cols * layout.itemsize
    terms["widened slabs"] = limits.threads * _slab_memory(layout.M, layout.tile_cols, dtype)
    terms["rows of Y"] = 2 * limits.threads * layout.panel_rows * columns * wide
    if method == "gram":
        terms["Gram matrices"] = layout.N**2 * (limits.threads * (8 + wide) + 3 * 8)
    if method == "tall_skinny" or (method == "compressed" and request.compute is False):
        terms["whole matrix held by Dask"] = 3 * layout.M * layout.N * wide
    if method == "compressed":
        terms["Dask's tall blocks"] = 4 * layout.M * columns * wide + 2 * limits.threads * panel_bytes * wide // layout.itemsize
    terms["allocator slack"] = int(_SLACK * sum(terms.values()))
    return terms


def _check_budget(memory: dict[str, int], layout: _Layout, limits: Limits, method: str) -> None:
    total = sum(memory.values())
    if total <= limits.budget_bytes and layout.fits:
        return
    largest = max(memory, key=lambda term: memory[term])
    parts = ", ".join(f"{term} {human_bytes(size)}" for term, size in sorted(memory.items(), key=lambda t: -t[1])[:3])
    cures = {
        "whole matrix held by Dask": "use method='krylov', which streams",
        "Dask's tall blocks": "use method='krylov', which keeps them on disk",
        "Gram matrices": "use method='krylov'",
        "basis K and products Z (driver)": "ask for a smaller k",
        "block and its partial sums (lanes)": "ask for a smaller k",
    }
    cure = cures.get(largest, f"rechunk to smaller chunks (now {layout.unit_rows}x{layout.unit_cols})")
    raise MemoryBudgetError(
        f"method {method} needs {human_bytes(total)} ({parts}) but the budget is {human_bytes(limits.budget_bytes)}",
        f"{cure}, or raise memory to {human_bytes(1.01 * total)}",
    )


def _choose_method(request: Request, layout: _Layout, limits: Limits) -> tuple[str, str]:
    if request.method != "auto":
        return request.method, "asked for"
    rate = _FLOPS_PER_SECOND_PER_THREAD[_compute_dtype_of(layout, request)] * limits.threads
    read = layout.M * layout.N * layout.itemsize * layout.reads_per_pass / _READ_BYTES_PER_SECOND
    krylov_pass = max(read, 4 * layout.M * layout.N * layout.width / rate)
    krylov = _expected_passes("krylov", request, layout, ()) * krylov_pass
    gram = max(read, 2 * layout.M * layout.N**2 / rate) + krylov_pass + 10 * layout.N**3 / _DENSE_FLOPS_PER_SECOND
    fits = layout.N**2 * 8 * (2 * limits.threads + 3) < 0.3 * limits.budget_bytes and not layout.tiled
    reason = f"krylov about {krylov:.2g} s, gram about {gram:.2g} s at nominal rates"
    if layout.N <= layout.width:
        return "krylov", f"the block spans all {layout.N} columns: one pass is exact"
    if gram < krylov and fits:
        return "gram", reason
    return "krylov", reason if fits else f"{reason}; a {layout.N}x{layout.N} Gram matrix does not fit"


def _compute_dtype_of(layout: _Layout, request: Request) -> str:
    return "float32" if layout.itemsize <= 4 and request.tol >= 1e-5 else "float64"


def _expected_passes(method: str, request: Request, layout: _Layout, sample: tuple[tuple[int, int], ...]) -> float:
    if method == "tall_skinny":
        return 2.0
    if method == "compressed":
        return 2.0 * (request.power_iterations or 0) + 3.0
    first = 1.0 if request.missing == "mean" and not layout.transposed else 0.0
    if method == "gram":
        return 2.0 + first
    if layout.N <= layout.width:
        return 1.0 + first
    share = sum(stop - start for start, stop in sample) / layout.M
    return first + (3.0 + share if sample else 4.0)


def _lanes(layout: _Layout, limits: Limits) -> tuple[tuple[int, int], ...]:
    """Even runs of panels; at least two a thread, more for long passes, fewer where partial sums are large."""
    panels = -(-layout.M // layout.panel_rows)
    partial_share = layout.N * (layout.width + PROBES) * 8 / (layout.M * layout.N * layout.itemsize)
    wanted = max(16, -(-panels // 256))
    if partial_share > 0:
        wanted = min(wanted, max(2 * limits.threads, int(0.2 / partial_share)))
    count = max(1, min(panels, wanted))
    edges = [panels * i // count for i in range(count + 1)]
    return tuple(zip(edges[:-1], edges[1:], strict=True))


def _sample(request: Request, layout: _Layout, limits: Limits) -> tuple[tuple[int, int], ...]:
    """Chunk rows for the warm start, chosen at random: about 4 %, none where that would be most of the data."""
    units = -(-layout.M // layout.unit_rows)
    if units < _MIN_SAMPLE_UNITS or layout.tiled or layout.N <= layout.width:
        return ()
    bytes_per_unit = layout.unit_rows * layout.N * np.dtype(_compute_dtype_of(layout, request)).itemsize
    affordable = int(0.4 * limits.budget_bytes / bytes_per_unit)  # held before the passes need their panels
    enough = -(-2 * layout.width // layout.unit_rows)
    count = min(affordable, max(math.ceil(_SAMPLE_SHARE * units), min(enough, units // _MIN_SAMPLE_UNITS)))
    chosen = np.random.default_rng([request.seed, 1]).choice(units, size=max(count, 0), replace=False)
    return tuple(
        (int(u) * layout.unit_rows, min(layout.M, (int(u) + 1) * layout.unit_rows)) for u in np.sort(chosen)
    )


def _describe(plan: Plan) -> str:
    facts = SourceFacts.from_dict(plan.facts)
    m, n = facts.shape
    panel = f"{plan.panels} panels of {plan.panel_rows} {'columns' if plan.transposed else 'rows'}"
    if plan.tile_cols < plan.cols:
        panel += f", read {plan.reads_per_pass} times a pass in tiles of {plan.tile_cols}: a whole panel does not fit"
    sampled = sum(stop - start for start, stop in plan.sample) / plan.rows
    start = {"krylov": f"{100 * sampled:.1f} % sample" if plan.sample else "Gaussian block", "gram": "Gram matrix"}
    lines = [
        f"source        {facts.name}: {m:,} x {n:,} {facts.dtype}, chunks {facts.chunks[0]} x {facts.chunks[1]}, "
        f"{human_bytes(facts.nbytes)}",
        f"method        {plan.method} ({plan.reason})",
        f"orientation   {'columns' if plan.transposed else 'rows'} of A are streamed, the basis has {plan.cols:,} rows",
        f"panels        {panel}; {len(plan.lanes)} lanes, {plan.threads} at a time on {plan.device}",
        f"start         {start.get(plan.method, 'Dask')}",
        f"block         {plan.width} columns for k = {plan.k}, products in {plan.compute_dtype}",
        f"passes        about {plan.expected_passes:.2f} expected, at most {plan.max_passes}",
        f"bytes to read {human_bytes(plan.bytes_to_read)} uncompressed",
        f"scratch       about {human_bytes(plan.scratch_bytes)}; output {human_bytes(plan.output_bytes)}",
        f"peak memory   {human_bytes(plan.memory_bytes)} of a budget of {human_bytes(plan.budget_bytes)}:",
    ]
    lines += [f"  {term:<38}{human_bytes(size):>10}" for term, size in plan.memory.items()]
    return "\n".join(lines)
