"""What a run of a layout holds, by term: pure arithmetic."""

from __future__ import annotations

import math

import numpy as np

from bigsvd.catalog.widths import AUTO_SHARE, DEFAULT_MAX_PASSES, PROBES, SAMPLE_BLOCKS
from bigsvd.planning.demands import Question
from bigsvd.planning.layout import Layout
from bigsvd.planning.pieces import FormingTask, forming_rows, slab_rows
from bigsvd.request import VECTORS, Request

# Bytes that grow in every run, whatever the data: of Dask and Python, and for each thread its stack, its
# arena and the buffers of BLAS. Measured.
_SERVICE_BYTES = 6 * 2**20
_THREAD_BYTES = 3 * 2**20
# Bytes that the leading process holds for each panel: its checksum in lists, tasks and JSON. Measured.
_PANEL_RECORD_BYTES = 200
# What an allocator holds beyond what is asked of it, as a share of that, on the host and in a GPU's pool.
_SLACK = 0.18
_DEVICE_SLACK = 0.25
# Bytes for an entry of a slab that a GPU makes whole: masks, a float64 residue and its square.
_DEVICE_MAKING_BYTES = 20
# Entries, at least a line of a slab, that a processor has in hand at a time while it makes one. Bytes of each
# as a number with its mask; and where sums over lines are made, for its residue and that squared.
_PIECE_ENTRIES = 2**18
_NUMBER_BYTES = 14
_SUMMED_BYTES = 32
# What a slab of a whole sparse panel takes, as so many of these: its entries in float64, and their squares.
_SPARSE_COPIES = 2
# Bytes of an entry of a slab that is rounded for rough products, and those that a process grows by when it
# imports torch for them and multiplies: 206 MB were measured.
_ROUGH_ITEMSIZE = 2
_TORCH_BYTES = 240 * 2**20
# Bytes that cuBLAS takes on a GPU for each thread that multiplies.
_DEVICE_LIBRARY_BYTES = 64 * 2**20
# Bytes for each entry of a vector that is given. Counted: four copies in float64.
_GIVEN_BYTES = 32
# Chunks that zarr-python decodes at a time (its setting async.concurrency).
_ZARR_CONCURRENCY = 10
_LANES = (
    "block and its partial sums (lanes)",
    "panels being read and multiplied",
    "chunks being decoded",
    "widened slabs",
    "rows of Y",
)
_FORMING = "forming U at the end, beyond lanes"


def memory_terms(question: Question, layout: Layout) -> dict[str, int]:
    """Bytes of the working set by what they hold, for as many lanes at a time as there are threads."""
    threads = question.machine.threads
    lanes = _lane_memory(question, layout)
    terms = _basis_memory(question.request, layout) | lanes
    beyond = _forming_memory(question, layout) - sum(lanes.values())
    terms[_FORMING] = max(0, beyond)
    terms |= question.method.memory(question, layout)
    if layout.reader == "measured":
        terms["the source's graph and shared results"] = layout.held_bytes
    if question.rough_dtype:
        terms["torch, once it is imported"] = _TORCH_BYTES
    terms["cluster and threads"] = _SERVICE_BYTES + threads * _THREAD_BYTES
    taken_once = terms["panels being read and multiplied"] + terms["chunks being decoded"]
    reused = taken_once if layout.reader == "direct" and layout.spare_bytes == 0 else 0
    terms["allocator slack"] = int(_SLACK * (sum(terms.values()) - reused))
    return terms


def forming_bytes(terms: dict[str, int]) -> int:
    """What tasks that form the long factor may hold together: what lanes have left, and some more."""
    return sum(terms[name] for name in (*_LANES, _FORMING))


def _lane_memory(question: Question, layout: Layout) -> dict[str, int]:
    """What lanes hold, and leave when the last pass has ended."""
    threads, columns = question.machine.threads, layout.width + PROBES
    panels = (layout.readers + 1) * threads if layout.has_own_memory or layout.reader != "memory" else 0
    sizes = (
        threads * layout.N * columns * 40,
        panels * layout.panel_bytes,
        layout.readers * threads * _decoding_memory(layout),
        0 if layout.has_own_memory else threads * _slab_memory(question, layout),
        2 * threads * layout.panel_rows * columns * 8,
    )
    return dict(zip(_LANES, sizes, strict=True))


def device_terms(question: Question, layout: Layout) -> dict[str, int]:
    """Bytes of the device's own memory by what they hold, for all lanes at a time; none on a CPU."""
    if not layout.has_own_memory:
        return {}
    columns = layout.width + PROBES
    lane = {
        "panels sent to the device": (layout.readers + 2) * layout.panel_bytes,
        "widened slabs": _slab_memory(question, layout),
        "basis and its partial sums": layout.N * columns * 40,
        "rows of Y": 2 * layout.panel_rows * columns * 8,
        "CUDA libraries (cuBLAS)": _DEVICE_LIBRARY_BYTES,
    }
    terms = {term: question.machine.threads * size for term, size in lane.items()}
    terms |= question.method.device_memory(question, layout)
    terms["slack of the memory pool"] = int(_DEVICE_SLACK * sum(terms.values()))
    return terms


def _decoding_memory(layout: Layout) -> int:
    """Files and decoded chunks of a thread that reads: one of each at a time, or as many as Zarr takes."""
    if layout.reader == "memory":
        return 0
    if layout.reader == "measured":
        return layout.spare_bytes + int(layout.spare_ratio * layout.panel_bytes)
    stored_bytes = max(math.ceil(layout.unit_rows * layout.unit_cols * layout.itemsize), layout.stored_bytes)
    if layout.reader == "direct":
        piece_bytes = math.ceil(layout.piece[0] * layout.piece[1] * layout.itemsize)
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
    answer = 40 * N * _most_values(request, layout)
    panels = -(-layout.M // layout.panel_rows)
    lines_of_rows = layout.features_axis == 0 and request.standardized
    return {
        "basis K and products Z (driver)": 16 * N * (basis + PROBES),
        "small dense work (driver)": max(48 * N * columns, answer) + 48 * basis**2,
        "checksums of panels (driver)": _PANEL_RECORD_BYTES * panels,
        "given vectors": _given_memory(request, layout),
        "means and divisors (driver)": 48 * layout.M * lines_of_rows,
    }


def _given_memory(request: Request, layout: Layout) -> int:
    """Vectors that were given: as they came, as B has them, on their way to and from scratch."""
    axes = layout.M, layout.N
    lengths = {"samples": axes[1 - layout.features_axis], "features": axes[layout.features_axis]}
    vectors = [VECTORS[option] for option in request.named] + ["samples"] * request.needs_totals
    return sum(_GIVEN_BYTES * lengths[kind] for kind in vectors)


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


def _forming_memory(question: Question, layout: Layout) -> int:
    """Bytes of one task that forms the long factor, or of the driver's products between these tasks.

    At the most it is the R of the whole subspace, of float64, to which a run may have to change.
    """
    request, machine = question.request, question.machine
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


def _slab_memory(question: Question, layout: Layout) -> int:
    """The slab in the precision of the products, with what it takes to make it of the entries as stored."""
    itemsize = np.dtype(question.dtype).itemsize
    steps = slab_rows(layout.tile_cols, question.dtype, has_own_memory=layout.has_own_memory)
    rows = min(layout.panel_rows, steps)
    if layout.has_own_memory:
        return rows * layout.tile_cols * (2 * itemsize + _DEVICE_MAKING_BYTES)
    piece = min(rows * layout.tile_cols, max(_PIECE_ENTRIES, rows, layout.tile_cols))
    request = question.request
    summed = request.standardized or layout.packing.packed or bool(request.functions)
    if question.rough_dtype:
        itemsize += _ROUGH_ITEMSIZE
    sparse = _SPARSE_COPIES * layout.panel_bytes * question.facts.has_few
    return itemsize * rows * layout.tile_cols + (_NUMBER_BYTES, _SUMMED_BYTES)[summed] * piece + sparse
