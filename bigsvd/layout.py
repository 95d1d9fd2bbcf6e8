"""Orientation, panels and block widths of a plan, and the memory they take: pure arithmetic.

B is the matrix as it is streamed: A, or Aᵀ when `transposed`; it is M×N, panels are rows of B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from bigsvd.errors import MemoryBudgetError, RankError
from bigsvd.facts import Machine, Packing, SourceFacts
from bigsvd.request import DASK_METHODS, Request
from bigsvd.text import human_bytes, round_up

PROBES = 10
_AUTO_WIDTH_K = 64
_PANEL_BYTES = 32 * 2**20
_DEVICE_PANEL_BYTES = 128 * 2**20  # a copy and a product of as much are worth the time they take to begin
_PANELS = 64
_SLAB_BYTES = 8 * 2**20
_DEVICE_SLAB_BYTES = 256 * 2**20
_DEVICE_LIBRARY_BYTES = 64 * 2**20  # what cuBLAS takes for a thread that multiplies
_DEVICE_SLACK = 0.25
_BLAS_COLUMNS = 16
_MAX_DENSE_WIDTH = 768
_ZARR_CONCURRENCY = 10
_SLACK = 0.18
_LEAST_CHUNK_ENTRIES = 2**12  # below which chunks are not worth a file
# Measured, whatever the data: Dask's and Python's growth in a run; stack, arena, BLAS buffers of a thread.
_SERVICE_BYTES = 6 * 2**20
_THREAD_BYTES = 3 * 2**20
_PANEL_RECORD_BYTES = 200  # of a panel in the driver: its checksum in lists, tasks and JSON
PIECE_BYTES = 4 * 2**20  # of the long factor, handled at a time
_LEAST_PIECE_BYTES = 2 * 2**20
_PIECE_SHARE = 1 / 16  # of the budget, for the pieces of all tasks that run at a time
_LANES = (
    "block and its partial sums (lanes)",
    "panels being read and multiplied",
    "chunks being decoded",
    "widened slabs",
    "rows of Y",
)
_FORMING = "forming U at the end, beyond lanes"
DEFAULT_MAX_PASSES = 20
AUTO_SHARE = 0.75  # of the values that are known, the most that a rank rule chooses
SAMPLE_BLOCKS = 4  # of the subspace in which the warm start finds the sample's leading vectors


@dataclass(frozen=True)
class Layout:
    """One orientation with its panels and block widths.

    Attributes:
        M, N: rows and columns of B; k: triplets to find; itemsize: bytes of an entry of the source.
        unit_rows, unit_cols: chunks of B, which are never cut.
        panel_rows, tile_cols, reads_per_pass, width, narrow, max_width: as in `Plan`.
        stored_bytes, reader, piece, spare_bytes, spare_ratio, held_bytes, packing: as in `SourceFacts`; the
            piece as rows and columns of B.
        readers, apart: as in `Machine`.
        fits: whether the memory it takes is within the budgets.

    """

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
    narrow: int
    max_width: int
    stored_bytes: int
    reader: str
    piece: tuple[int, int]
    spare_bytes: int
    spare_ratio: float
    held_bytes: int
    packing: Packing
    readers: int
    apart: bool
    fits: bool

    @property
    def panel_bytes(self) -> int:
        """Bytes of a panel, or of a tile of it, as stored."""
        return self.panel_rows * min(self.tile_cols, self.N) * self.itemsize

    @property
    def tiled(self) -> bool:
        """Whether a panel is read in several tiles, and so more than once a pass."""
        return self.tile_cols < self.N


def choose_layout(
    method: str, request: Request, facts: SourceFacts, machine: Machine, dtype: str
) -> tuple[Layout, int]:
    """The layout that reads least, then has the smaller basis; and how many lanes of it fit at a time.

    What one lane with one reader allows decides orientation and tiling, so that they do not depend on the
    number of threads; more of either are then taken as memory allows.
    """
    alone = replace(machine, threads=1, readers=1)
    single = min(
        (
            _lay_out(method, request, facts, alone, dtype, transposed=transposed)
            for transposed in (False, True)
        ),
        key=lambda layout: (not layout.fits, layout.reads_per_pass, layout.N),
    )
    for threads in range(machine.threads, 0, -1):
        for readers in _halvings(machine.readers):
            more = replace(machine, threads=threads, readers=readers)
            layout = _lay_out(method, request, facts, more, dtype, transposed=single.transposed)
            if layout.fits and layout.tiled == single.tiled:
                return layout, threads
    return single, 1


def _lay_out(
    method: str, request: Request, facts: SourceFacts, machine: Machine, dtype: str, *, transposed: bool
) -> Layout:
    """The first candidate of this orientation that fits, else the one that needs least."""

    def needed(layout: Layout) -> int:
        return sum(memory_terms(method, request, layout, machine, dtype).values())

    def lacking(layout: Layout) -> int:
        on_device = sum(device_terms(method, request, layout, machine.threads, dtype).values())
        return max(0, needed(layout) - machine.budget_bytes) + max(0, on_device - machine.device_budget_bytes)

    tried = []
    for layout in _candidates(method, request, facts, machine, dtype, transposed=transposed):
        if lacking(layout) == 0:
            return layout
        tried.append(layout)
    return replace(min(tried, key=lambda layout: (lacking(layout), needed(layout))), fits=False)


def _candidates(
    method: str, request: Request, facts: SourceFacts, machine: Machine, dtype: str, *, transposed: bool
) -> Iterator[Layout]:
    """Panels of whole rows, large ones first, then tiles; each with a large basis before a small one.

    The last of each kind do not depend on the budget: a larger one refuses nothing that a smaller accepts.
    """
    M, N = facts.shape[::-1] if transposed else facts.shape
    unit_rows, unit_cols = facts.chunks[::-1] if transposed else facts.chunks
    piece = facts.piece if any(facts.piece) else facts.chunks
    piece = piece[::-1] if transposed else piece
    k = _wanted_rank(request, (M, N), dtype)
    width = _block_width(max(3 * k, k + 40), N)
    narrow = min(width, _block_width(max(k + k // 2, k + 32), N))
    basis_share = int(0.3 * machine.budget_bytes / (16 * N))
    least_width = min(N, 2 * width)
    most_width = min(N, max(4 * width, _MAX_DENSE_WIDTH), max(2 * width, basis_share))
    between = (most_width - least_width) // 3
    max_widths = (most_width, least_width + 2 * between, least_width + between, least_width)
    base = Layout(
        transposed, M, N, k, facts.itemsize, unit_rows, unit_cols, M, N, 1, width, narrow, least_width,
        facts.stored_bytes, facts.reader, piece, facts.spare_bytes, facts.spare_ratio, facts.held_bytes,
        facts.packing, machine.readers, machine.apart, fits=True,
    )  # fmt: skip
    panel_bytes = _DEVICE_PANEL_BYTES if base.apart else _PANEL_BYTES
    wanted = min(panel_bytes // (N * facts.itemsize) + 1, -(-M // _PANELS))
    for max_width in dict.fromkeys(max_widths):
        for units in _halvings(max(1, wanted // unit_rows)):
            yield replace(base, panel_rows=min(M, units * unit_rows), max_width=max_width)
    if method != "krylov":  # the other methods need whole rows
        return
    reads = 3 if transposed and request.by_line else 2
    tiled = replace(base, panel_rows=min(M, unit_rows), reads_per_pass=reads)
    for max_width in dict.fromkeys(max_widths):
        for units in _halvings(-(-N // unit_cols) // 2):
            yield replace(tiled, tile_cols=units * unit_cols, max_width=max_width)


def _block_width(least: int, N: int) -> int:
    """Columns that make up, with the probes, a multiple of what BLAS kernels handle at a time; at most N."""
    return min(N, -(-(least + PROBES) // _BLAS_COLUMNS) * _BLAS_COLUMNS - PROBES)


def _wanted_rank(request: Request, shape: tuple[int, int], dtype: str) -> int:
    """k, or for ``k="auto"`` what the block is sized for."""
    if isinstance(request.k, int):
        return request.k
    if request.max_bytes is None:
        return min(_AUTO_WIDTH_K, *shape)
    one = np.dtype(dtype).itemsize * sum(shape) + 8
    k = min(*shape, request.max_bytes // one)
    if k == 0:
        raise RankError(
            f"max_bytes={request.max_bytes} holds no triplet: one takes {one} bytes", "allow at least that"
        )
    return k


def _halvings(count: int) -> list[int]:
    """count, count/2, ..., 1; nothing for 0."""
    return [count >> shift for shift in range(count.bit_length())]


def memory_terms(
    method: str, request: Request, layout: Layout, machine: Machine, dtype: str
) -> dict[str, int]:
    """Bytes of the working set by what they hold, for as many lanes at a time as there are threads."""
    threads = machine.threads
    lanes = _lane_memory(request, layout, threads, dtype)
    terms = _basis_memory(request, layout) | lanes
    beyond = _forming_memory(request, layout, machine) - sum(lanes.values())
    terms[_FORMING] = max(0, beyond)
    terms |= _method_memory(method, request, layout, threads, dtype)
    if layout.reader == "measured":
        terms["the source's graph and shared results"] = layout.held_bytes
    terms["cluster and threads"] = _SERVICE_BYTES + threads * _THREAD_BYTES
    taken_once = terms["panels being read and multiplied"] + terms["chunks being decoded"]
    reused = taken_once if layout.reader == "direct" and layout.spare_bytes == 0 else 0
    terms["allocator slack"] = int(_SLACK * (sum(terms.values()) - reused))
    return terms


def forming_bytes(terms: dict[str, int]) -> int:
    """What tasks that form the long factor may hold together: what lanes have left, and some more."""
    return sum(terms[name] for name in (*_LANES, _FORMING))


def _lane_memory(request: Request, layout: Layout, threads: int, dtype: str) -> dict[str, int]:
    """What lanes hold, and leave when the last pass has ended."""
    columns = layout.width + PROBES
    panels = (layout.readers + 1) * threads if layout.apart or layout.reader != "memory" else 0
    sizes = (
        threads * layout.N * columns * 40,
        panels * layout.panel_bytes,
        layout.readers * threads * _decoding_memory(layout),
        0 if layout.apart else threads * _slab_memory(request, layout, dtype),
        2 * threads * layout.panel_rows * columns * 8,
    )
    return dict(zip(_LANES, sizes, strict=True))


def _method_memory(method: str, request: Request, layout: Layout, threads: int, dtype: str) -> dict[str, int]:
    """Bytes that one method alone holds."""
    wide = np.dtype(dtype).itemsize
    columns = layout.width + PROBES
    terms = {}
    if method == "gram":
        terms["Gram matrices"] = layout.N**2 * (threads * 16 + 3 * 8)
    if method == "tall_skinny":
        stacked = min(layout.M, -(-layout.M // layout.panel_rows) * layout.N)
        terms["whole matrix held by Dask"] = 2 * layout.M * layout.N * wide
        terms["QR of Dask's stacked triangles"] = max(32 * stacked * layout.N, 72 * layout.N**2)
    if method == "compressed" and request.compute is False:
        terms["whole matrix held by Dask"] = 3 * layout.M * layout.N * wide
    if method == "compressed":
        terms["Dask's tall blocks"] = (
            4 * layout.M * columns * wide + 2 * threads * layout.panel_bytes * wide // layout.itemsize
        )
    return terms


def device_terms(method: str, request: Request, layout: Layout, threads: int, dtype: str) -> dict[str, int]:
    """Bytes of the device's own memory by what they hold, for `threads` lanes at a time; none on a CPU."""
    if not layout.apart:
        return {}
    columns = layout.width + PROBES
    lane = {
        "panels sent to the device": (layout.readers + 2) * layout.panel_bytes,
        "widened slabs": _slab_memory(request, layout, dtype),
        "basis and its partial sums": layout.N * columns * 40,
        "rows of Y": 2 * layout.panel_rows * columns * 8,
        "CUDA libraries (cuBLAS)": _DEVICE_LIBRARY_BYTES,
    }
    if method == "gram":
        lane["Gram matrices"] = layout.N**2 * (16 + np.dtype(dtype).itemsize)
    terms = {term: threads * size for term, size in lane.items()}
    if method == "gram":  # at the end one and its eigenvectors, and what finding them takes
        terms["Gram matrices"] = max(terms["Gram matrices"], 40 * layout.N**2)
    if method in DASK_METHODS:
        terms["whole matrix held by Dask"] = 3 * layout.M * layout.N * np.dtype(dtype).itemsize
    terms["slack of the memory pool"] = int(_DEVICE_SLACK * sum(terms.values()))
    return terms


def _decoding_memory(layout: Layout) -> int:
    """Files and decoded chunks of a thread that reads: one of each at a time, or as many as Zarr takes."""
    if layout.reader == "memory":
        return 0
    if layout.reader == "measured":
        return layout.spare_bytes + int(layout.spare_ratio * layout.panel_bytes)
    stored_bytes = max(layout.unit_rows * layout.unit_cols * layout.itemsize, layout.stored_bytes)
    if layout.reader == "direct":
        piece_bytes = layout.piece[0] * layout.piece[1] * layout.itemsize
        return stored_bytes + layout.spare_bytes + (0 if _decodes_in_place(layout) else piece_bytes)
    chunks = max(1, layout.panel_rows // layout.unit_rows) * max(1, layout.tile_cols // layout.unit_cols)
    return 2 * min(_ZARR_CONCURRENCY, chunks) * stored_bytes


def _decodes_in_place(layout: Layout) -> bool:
    """Whether all chunks of all panels are decoded where they belong, as `ChunkReader` can if they are whole.

    That is where none reaches beyond the matrix, and each spans the lines of A in its panel.
    """
    (rows, cols), panel = layout.piece, (layout.panel_rows, min(layout.tile_cols, layout.N))
    whole = layout.M % rows == 0 and layout.N % cols == 0
    return whole and (rows == panel[0] if layout.transposed else cols == panel[1])


def _basis_memory(request: Request, layout: Layout) -> dict[str, int]:
    """What the driver holds from pass to pass, and its products of that.

    All counted as float64, to which a run may have to change.
    """
    N, columns = layout.N, layout.width + PROBES
    basis = max(layout.max_width, min(N, SAMPLE_BLOCKS * layout.narrow))
    answer = 24 * N * _most_values(request, layout)
    panels = -(-layout.M // layout.panel_rows)
    return {
        "basis K and products Z (driver)": 16 * N * (basis + PROBES),
        "small dense work (driver)": max(48 * N * columns, answer) + 48 * basis**2,
        "checksums of panels (driver)": _PANEL_RECORD_BYTES * panels,
        "means and divisors (driver)": 48 * layout.M if layout.transposed and request.by_line else 0,
    }


def _most_values(request: Request, layout: Layout) -> int:
    """The most triplets that a run may end with."""
    chosen = request.k == "auto" and request.max_bytes is None
    return max(1, int(AUTO_SHARE * layout.max_width)) if chosen else layout.k


def _stored_columns(request: Request, layout: Layout) -> int:
    """Columns of Y of all passes: more than the basis has where it is restarted.

    As many passes as are usual, at least: a run that was allowed fewer may go on.
    """
    if layout.max_width == layout.N:
        return layout.N
    passes = max(DEFAULT_MAX_PASSES, request.max_passes or 0)
    return max(layout.max_width, passes * layout.width)


def _forming_memory(request: Request, layout: Layout, machine: Machine) -> int:
    """Bytes of one task that forms the long factor, or of the driver's products between these tasks.

    At the most it is the R of the whole subspace, of float64, to which a run may have to change.
    """
    stored, block = _stored_columns(request, layout), layout.width + PROBES
    task = 0
    for columns in (layout.max_width, _most_values(request, layout)):
        pieces = (
            forming_rows(width, columns, machine.budget_bytes, machine.threads)
            for width in (max(columns, block), stored)
        )
        rows = min(layout.M, max(pieces))
        task = max(task, FormingTask(layout.panel_rows, rows, block, stored, columns, 8).bytes)
    return max(task, 24 * layout.max_width**2)


def forming_rows(stored: int, columns: int, budget_bytes: int, threads: int) -> int:
    """Rows of the long factor that a task handles at a time: enough for a QR of them to be worth its R.

    They are (r, columns), the sum of products of Y with `stored` columns in all.
    """
    width = stored + 2 * columns
    share = min(PIECE_BYTES, int(_PIECE_SHARE * budget_bytes / threads))
    least = max(columns, min(2 * width, _LEAST_PIECE_BYTES // (8 * columns)))
    return max(share // (8 * width), least)


@dataclass(frozen=True)
class FormingTask:
    """A task that forms rows of the long factor, which sums products of Y.

    Attributes:
        panel_rows: rows of a chunk of Y. piece_rows: rows handled at a time.
        block, stored: columns of one Y, and of all. columns: of the sum. itemsize: bytes of an entry of Y.

    """

    panel_rows: int
    piece_rows: int
    block: int
    stored: int
    columns: int
    itemsize: int

    @property
    def read_rows(self) -> int:
        """Rows read at a time: whole panels."""
        return max(1, self.piece_rows // self.panel_rows) * self.panel_rows

    @property
    def bytes(self) -> int:
        """What it holds: Y with a file and a chunk beside it, the sum, what is widened, a QR's two copies.

        Of the coefficients those of one Y, and of others that take little.
        """
        reading = self.read_rows * (3 * self.block * self.itemsize + 8 * self.columns)
        handling = 8 * self.piece_rows * (self.block + 2 * self.columns)
        stacked = 3 * (self.columns + self.piece_rows) + 2 * self.columns
        coefficients = min(PIECE_BYTES, 8 * self.columns * self.stored)
        return reading + handling + coefficients + 8 * self.columns * (stacked + 2 * self.block)


def slab_rows(cols: int, dtype: str, *, exact: bool, apart: bool) -> int:
    """Rows of B that are multiplied at a time; fewer where they are made `exact`, float64, first.

    So many that they stay in a CPU's cache, or that a device `apart` is busy while the next are prepared.
    """
    itemsize = 16 if exact else np.dtype(dtype).itemsize
    return max(16, (_DEVICE_SLAB_BYTES if apart else _SLAB_BYTES) // (cols * itemsize))


def _slab_memory(request: Request, layout: Layout, dtype: str) -> int:
    """The slab in the precision of the products, with what it takes to make it of the entries as stored.

    A device apart also squares it in float64.
    """
    exact = request.by_line or layout.packing.packed
    rows = min(layout.panel_rows, slab_rows(layout.tile_cols, dtype, exact=exact, apart=layout.apart))
    entry_bytes = 2 * np.dtype(dtype).itemsize + _widening_bytes(request, layout, dtype)
    entry_bytes += 8 if layout.apart else 0
    return rows * layout.tile_cols * entry_bytes


def _widening_bytes(request: Request, layout: Layout, dtype: str) -> int:
    """For an entry of a slab besides: float64 temporaries where it is centred or unpacked first.

    Else, where gaps are looked for, masks and a copy with the gaps filled.
    """
    if request.by_line or layout.packing.packed:
        return 24
    if request.missing != "none" or layout.packing.fills:
        return np.dtype(dtype).itemsize + 4
    return 0


def needed_bytes(method: str, request: Request, facts: SourceFacts, machine: Machine, dtype: str) -> int:
    """The least host memory that is accepted, to two digits.

    Somewhat more may be taken of a larger budget, so it is what a plan with that very budget needs.
    """
    budget_bytes = 1
    while True:
        given = replace(machine, budget_bytes=budget_bytes)
        layout, threads = choose_layout(method, request, facts, given, dtype)
        given = replace(given, threads=threads, readers=layout.readers)
        needed = sum(memory_terms(method, request, layout, given, dtype).values())
        if needed <= budget_bytes:
            return budget_bytes
        budget_bytes = round_up(needed)


def refusal(
    method: str, request: Request, facts: SourceFacts, layout: Layout, machine: Machine, dtype: str
) -> MemoryBudgetError:
    """Names the greatest terms, both numbers and what to change: on the device where that lacks memory."""
    on_device = device_terms(method, request, layout, machine.threads, dtype)
    if sum(on_device.values()) > machine.device_budget_bytes:
        return _device_refusal(method, on_device, machine)
    terms = memory_terms(method, request, layout, machine, dtype)
    cures = _cures(method, request, facts, machine, dtype)
    raised = human_bytes(needed_bytes(method, request, facts, machine, dtype))
    return MemoryBudgetError(
        f"method {method} needs {human_bytes(sum(terms.values()))} ({_greatest(terms)}) but the budget is "
        f"{human_bytes(machine.budget_bytes)}",
        ", or ".join([*cures, f"raise memory to {raised}"]),
    )


def _device_refusal(method: str, on_device: dict[str, int], machine: Machine) -> MemoryBudgetError:
    needed, free = sum(on_device.values()), machine.device_free_bytes
    cure = f"only {human_bytes(free)} of it are free: end what else uses it"
    if needed <= free:
        cure = f"raise device_memory to {human_bytes(round_up(needed))}"
    return MemoryBudgetError(
        f"method {method} needs {human_bytes(needed)} of {machine.device}'s memory "
        f"({_greatest(on_device)}) but the budget there is {human_bytes(machine.device_budget_bytes)}",
        f"{cure}, or use device='cpu'",
    )


def _cures(method: str, request: Request, facts: SourceFacts, machine: Machine, dtype: str) -> list[str]:
    """What would do instead of more memory: only what a plan for it shows to fit, with what it needs."""

    def enough(method: str, request: Request, facts: SourceFacts) -> str:
        """What is needed; empty where that is more than there is."""
        if not choose_layout(method, request, facts, machine, dtype)[0].fits:
            return ""
        size = needed_bytes(method, request, facts, machine, dtype)
        return human_bytes(size) if size <= machine.budget_bytes else ""

    cures = []
    streaming = replace(
        request, method="krylov", power_iterations=None, iterator=None, oversampling=None, compute=None
    )
    if method != "krylov" and (size := enough("krylov", streaming, facts)):
        cures.append(f"use method='krylov' (needs {size})")
    smallest = replace(request, k=1, energy=None, error=None, max_bytes=None)
    if request.k != 1 and (size := enough(method, smallest, facts)):
        cures.append(f"ask for a smaller k (k=1 needs {size})")
    return [*cures, *_chunk_cures(facts, lambda smaller: enough(method, request, smaller))]


def _chunk_cures(facts: SourceFacts, enough: Callable[[SourceFacts], str]) -> list[str]:
    """The largest chunks that would do, if any; `enough` says what is needed with them."""
    if facts.reader == "memory":
        return []
    computed = facts.reader in ("foreign", "measured")
    stored = facts
    if computed:
        stored = replace(facts, reader="direct", spare_bytes=0, spare_ratio=0.0, held_bytes=0)
    for smaller in _smaller_chunks(stored):
        if size := enough(smaller):
            (rows, cols), (m, n) = smaller.chunks, facts.chunks
            if computed:
                how = f"store it as Zarr in chunks of {rows}x{cols} (x.to_zarr(path) of Dask and xarray)"
                return [f"{how} and give that path (needs {size})"]
            return [f"rechunk to {rows}x{cols}, now {m}x{n} (needs {size})"]
    return []


def _smaller_chunks(facts: SourceFacts) -> Iterator[SourceFacts]:
    """The same matrix in chunks of half the longer side, again and again down to about a square kilobyte."""
    rows, cols = facts.chunks
    while rows * cols > _LEAST_CHUNK_ENTRIES:
        rows, cols = (-(-rows // 2), cols) if rows >= cols else (rows, -(-cols // 2))
        stored_bytes = rows * cols * facts.itemsize
        spare_bytes = min(facts.spare_bytes, 2 * stored_bytes)
        yield replace(
            facts, chunks=(rows, cols), piece=(rows, cols), stored_bytes=stored_bytes, spare_bytes=spare_bytes
        )


def _by_size(terms: dict[str, int]) -> list[str]:
    return sorted(terms, key=lambda term: -terms[term])


def _greatest(terms: dict[str, int]) -> str:
    return ", ".join(f"{term} {human_bytes(terms[term])}" for term in _by_size(terms)[:3])
