"""A plan is pure arithmetic: it covers the data once, stays in its budget, says so, and survives JSON."""

from __future__ import annotations

import itertools
import json
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numcodecs
import numpy as np
import pytest
import zarr
from distributed import Client
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarr.storage import LocalStore, MemoryStore

import bigsvd
from bigsvd.catalog.widths import PROBES, block_width, first_block_width
from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.devices.cpu import CpuDevice
from bigsvd.errors import MemoryBudgetError, PlanError, RankError
from bigsvd.facts import NOMINAL, Machine, Packing, Rates, SourceFacts
from bigsvd.planning.pieces import slab_rows
from bigsvd.planning.plan import Plan
from bigsvd.planning.planner import make_plan
from bigsvd.request import Request, parse_bytes
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.standardize import written_out
from bigsvd.slabs.transform import MeansAndDivisors, Transform
from bigsvd.sources.open import open_source
from bigsvd.units import human_bytes, round_up

DTYPES = ("bool", "int8", "uint16", "int32", "int64", "float16", "float32", "float64")
FACTS = SourceFacts("data.zarr", (100_000, 2_000), "float32", (1_000, 500), "f")
LIMITS = Machine(10**9, 4)
SLOW = replace(NOMINAL, read_seconds=1e-7)  # to read; products matter little beside
SIZE = re.compile(r"([0-9.]+ [kMGTP]?B)")

unhurried = settings(deadline=None)  # the machines that run this are shared
quick = settings(deadline=None, max_examples=60)


@st.composite
def sources(draw: st.DrawFn) -> SourceFacts:
    """Matrices of one entry up to half a terabyte, tall and wide, in chunks of any shape."""
    sides = st.one_of(st.integers(1, 40), st.integers(1, 3_000), st.integers(1, 600_000))
    m, n = draw(sides), draw(sides)
    chunks = draw(st.integers(1, m)), draw(st.integers(1, n))
    assume(m * n < 10**11)
    assume((m // chunks[0]) * (n // chunks[1]) < 10**6)
    return SourceFacts("data.zarr", (m, n), draw(st.sampled_from(DTYPES)), chunks, "f")


@st.composite
def requests(draw: st.DrawFn, facts: SourceFacts, method: str | None = None) -> Request:
    method = method or draw(
        st.sampled_from(["auto", "krylov", "krylov", "gram", "tall_skinny", "compressed"])
    )
    k: Any = draw(st.integers(1, min(*facts.shape, 300)))
    if method in ("auto", "krylov"):
        k = draw(st.sampled_from([k, k, "auto"]))
    may_lack: list[Literal["none", "mean"]] = ["none"] if facts.dtype == "bool" else ["none", "mean"]
    missing = draw(st.sampled_from(may_lack))
    return Request(
        "data.zarr",
        k,
        method=method,
        tol=draw(st.sampled_from([1e-2, 1e-8])),
        center=draw(st.booleans()),
        scale=draw(st.booleans()),
        missing=missing,
        missing_value=0 if missing == "mean" else None,
        max_passes=None if method in ("tall_skinny", "compressed") else draw(st.sampled_from([None, 2, 4])),
        seed=draw(st.integers(0, 3)),
    )


limits = st.builds(Machine, st.integers(10**5, 10**10), st.integers(1, 16))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A plan that there is: where a budget refuses, ten thousand times more does not."""
    facts, asked = draw(sources()), draw(limits)
    request = draw(requests(facts))
    try:
        return make_plan(request, facts, asked)
    except MemoryBudgetError:
        return make_plan(request, facts, replace(asked, budget_bytes=10**16))


def units(plan: Plan) -> tuple[int, int]:
    """Chunk rows and columns of B."""
    rows, cols = plan.facts.chunks
    return (cols, rows) if plan.transposed else (rows, cols)


def covers(spans: Any, length: int) -> bool:
    """Whether non-empty ranges follow one another from 0 to `length`."""
    spans = list(spans)
    joined = all(a[1] == b[0] for a, b in itertools.pairwise(spans))
    return bool(spans[0][0] == 0 and spans[-1][1] == length and joined and all(a < b for a, b in spans))


# What a plan covers


@unhurried
@given(plans())
def test_panels_tiles_and_lanes_cover_everything_once_and_in_order(plan: Plan) -> None:
    assert sorted([plan.rows, plan.cols]) == sorted(plan.facts.shape)
    assert (plan.cols, plan.rows)[:: 1 if plan.transposed else -1] == tuple(plan.facts.shape)
    assert covers((plan.panel(index) for index in range(plan.panels)), plan.rows)
    assert covers(plan.tiles(), plan.cols)
    assert covers(plan.lanes, plan.panels)


@pytest.mark.parametrize(
    ("m", "reader", "several"), [(2_000, "memory", False), (2_000, "direct", True), (60_000, "memory", True)]
)
def test_few_data_in_memory_are_streamed_by_one_lane(m: int, reader: str, several: bool) -> None:
    facts = SourceFacts("few", (m, 300), "float64", (100, 300), "f", reader=reader)
    plan = make_plan(Request("few", 10), facts, Machine(10**9, 2))
    assert (len(plan.lanes) > 1) == several


@unhurried
@given(plans())
def test_chunks_are_never_cut(plan: Plan) -> None:
    unit_rows, unit_cols = units(plan)
    assert plan.panel_rows == plan.rows or plan.panel_rows % unit_rows == 0
    assert plan.tile_cols == plan.cols or plan.tile_cols % unit_cols == 0
    assert all(0 <= panel < plan.panels for panel in plan.sample)
    assert all(a < b for a, b in itertools.pairwise(plan.sample))
    assert sum(plan.sample_lanes(), ()) == plan.sample


@unhurried
@given(plans())
def test_widths_fit_into_each_other(plan: Plan) -> None:
    assert 1 <= plan.k <= min(plan.rows, plan.cols)
    assert plan.k <= plan.narrow <= plan.width <= plan.max_width <= plan.cols
    assert plan.max_width >= min(plan.cols, 2 * plan.width)


@unhurried
@given(plans())
def test_bytes_are_those_of_the_passes(plan: Plan) -> None:
    m, n = plan.facts.shape
    assert (plan.reads_per_pass == 1) == (plan.tile_cols == plan.cols)
    assert plan.bytes_per_pass == m * n * np.dtype(plan.facts.dtype).itemsize * plan.reads_per_pass
    assert plan.bytes_to_read == int(plan.expected_passes * plan.bytes_per_pass)
    assert plan.expected_passes <= plan.max_passes + len(plan.sample) * plan.panel_rows / plan.rows
    itemsize = np.dtype(plan.compute_dtype).itemsize
    assert plan.output_bytes == plan.k * ((m + n) * itemsize + 8)
    assert plan.scratch_bytes >= plan.output_bytes


def test_a_sample_is_about_a_tenth_and_depends_on_the_seed() -> None:
    first, second = (make_plan(Request("d", 5, seed=seed, method="krylov"), FACTS, LIMITS) for seed in (0, 1))
    for plan in (first, second):
        assert plan.sample_share == pytest.approx(0.1, rel=0.3)
        stretch = plan.panels / len(plan.sample)
        assert [int(panel / stretch) for panel in plan.sample] == list(range(len(plan.sample)))
    assert first.sample != second.sample


def test_a_wide_matrix_is_streamed_by_columns() -> None:
    wide = replace(FACTS, shape=(2_000, 100_000), chunks=(500, 1_000))
    plan = make_plan(Request("d", 5), wide, LIMITS)
    assert plan.transposed
    assert (plan.rows, plan.cols) == (100_000, 2_000)
    assert replace(plan, facts=FACTS, transposed=False) == replace(
        make_plan(Request("d", 5), FACTS, LIMITS), facts=FACTS
    )


@pytest.mark.parametrize(
    ("dtype", "tol", "expected"),
    [
        ("float32", 1e-2, "float32"),
        ("float32", 1e-7, "float64"),
        ("float64", 1e-2, "float64"),
        ("int32", 1e-2, "float64"),
        ("uint64", 1e-2, "float64"),
        ("int16", 1e-2, "float32"),
        ("float16", 1e-2, "float32"),
        ("bool", 1e-2, "float32"),
    ],
)
def test_products_are_in_the_precision_of_the_data(dtype: str, tol: float, expected: str) -> None:
    plan = make_plan(Request("d", 5, tol=tol), replace(FACTS, dtype=dtype), LIMITS)
    assert plan.compute_dtype == expected


# The budget


def planned(request: Request, facts: SourceFacts, limit: Machine) -> Plan | MemoryBudgetError:
    try:
        return make_plan(request, facts, limit)
    except MemoryBudgetError as error:
        return error


@unhurried
@given(st.data(), sources(), limits)
def test_memory_stays_in_the_budget_or_is_refused_with_both_numbers(
    data: st.DataObject, facts: SourceFacts, asked: Machine
) -> None:
    request = data.draw(requests(facts))
    match planned(request, facts, asked):
        case Plan() as plan:
            assert all(size >= 0 for size in plan.memory.values())
            assert plan.memory_bytes == sum(plan.memory.values()) <= plan.budget_bytes == asked.budget_bytes
            assert 1 <= plan.threads <= asked.threads
        case error:
            terms = make_plan(request, facts, replace(asked, budget_bytes=10**16)).memory
            assert any(term in error.message for term in terms)
            assert human_bytes(asked.budget_bytes) in error.message
            assert parse_bytes(SIZE.findall(error.message)[0]) >= 0.9 * asked.budget_bytes
            assert error.exit_status == 2


@unhurried
@given(st.data(), sources(), limits, st.integers(1, 30))
def test_a_bigger_budget_never_refuses_what_a_smaller_accepts(
    data: st.DataObject, facts: SourceFacts, asked: Machine, percent: int
) -> None:
    request = data.draw(requests(facts))
    match planned(request, facts, asked):
        case Plan():
            budget = asked.budget_bytes * (100 + percent) // 100
        case error:
            budget = parse_bytes(error.remedy.rsplit("raise memory to ", 1)[1])
    assert make_plan(request, facts, replace(asked, budget_bytes=budget)).budget_bytes == budget


@unhurried
@given(st.data(), sources(), st.integers(10**5, 10**8), st.integers(1, 4))
def test_what_a_refusal_advises_is_accepted(
    data: st.DataObject, facts: SourceFacts, budget_bytes: int, threads: int
) -> None:
    """The budget that it names, and a smaller k or smaller chunks with the budget that there is."""
    request, limit = data.draw(requests(facts)), Machine(budget_bytes, threads)
    error = planned(request, facts, limit)
    assume(isinstance(error, MemoryBudgetError))
    assert isinstance(error, MemoryBudgetError)
    raised = parse_bytes(error.remedy.rsplit("raise memory to ", 1)[1])
    assert make_plan(request, facts, replace(limit, budget_bytes=raised)).memory_bytes <= raised
    for cure in error.remedy.split(", or ")[:-1]:
        said = parse_bytes(SIZE.findall(cure)[-1])
        assert said <= budget_bytes
        if "smaller k" in cure:
            assert make_plan(replace(request, k=1), facts, limit).k == 1
        elif "method='krylov'" in cure:
            streaming = request.by_method("krylov")
            assert make_plan(streaming, facts, limit).method == "krylov"
        else:
            wanted, now = re.findall(r"(\d+)x(\d+)", cure)
            assert tuple(map(int, now)) == facts.chunks
            chunks = int(wanted[0]), int(wanted[1])
            assert make_plan(request, replace(facts, chunks=chunks), limit).facts.chunks == chunks


def test_a_smaller_k_is_advised_only_where_it_needs_less() -> None:
    wide = SourceFacts("w", (600, 20_000), "float64", (50, 20_000), "f")
    for k in (1, 5):
        error = planned(Request("w", k), wide, Machine(80_000_000, 2))
        assert isinstance(error, MemoryBudgetError)
        assert "smaller k" not in error.remedy
        assert "now 50x20000" in error.remedy
    error = planned(Request("w", 100), FACTS, Machine(150_000_000, 2))
    assert isinstance(error, MemoryBudgetError)
    assert re.search(r"ask for a smaller k \(k=1 needs [0-9.]+ MB\)", error.remedy)


def mathematics(plan: Plan | MemoryBudgetError) -> Any:
    """What decides the answer of a plan up to rounding."""
    if isinstance(plan, MemoryBudgetError):
        return str(plan)
    names = ("transposed", "reads_per_pass", "k", "width", "narrow", "compute_dtype")
    return [getattr(plan, name) for name in names]


@unhurried
@given(st.data(), sources(), limits, st.integers(1, 64))
def test_threads_change_neither_block_nor_precision(
    data: st.DataObject, facts: SourceFacts, asked: Machine, threads: int
) -> None:
    request = data.draw(requests(facts, "krylov"))
    one, other = (planned(request, facts, limit) for limit in (asked, replace(asked, threads=threads)))
    assert mathematics(one) == mathematics(other)


def test_more_threads_are_used_where_they_fit() -> None:
    roomy = make_plan(Request("d", 5), FACTS, Machine(10**10, 8))
    tight = make_plan(Request("d", 5), FACTS, Machine(10**8, 8))
    assert roomy.threads == 8
    assert 1 <= tight.threads < 8


@pytest.mark.parametrize("budget_bytes", [120 * 10**6, 10**9])
def test_what_the_budget_leaves_keeps_panels_and_decides_the_sample(budget_bytes: int) -> None:
    facts = replace(FACTS, shape=(3_000_000, 2_000), reader="direct")
    plan = make_plan(Request("d", 5, center=True), facts, Machine(budget_bytes, 1))
    assert plan.memory["decoded panels kept"] == plan.cache_bytes > 0
    assert 0.9 * budget_bytes <= plan.memory_bytes <= budget_bytes
    assert plan.sample_share == pytest.approx(0.1, rel=0.3)
    roomy = make_plan(Request("d", 5), facts, Machine(10**11, 1))
    assert roomy.cache_bytes == facts.nbytes
    assert roomy.sample_share == pytest.approx(0.1, rel=0.3)


@pytest.mark.parametrize(("k", "megabytes"), [(5, 50), (5, 100), (5, 1000), (100, 200)])
def test_memory_is_that_of_the_block_that_is_used(k: int, megabytes: int) -> None:
    """Where reading is slow the first block is as wide as the others, if there is room."""
    plan = make_plan(Request("d", k, method="krylov"), FACTS, Machine(megabytes * 10**6, 4), SLOW)
    held = 16 * plan.cols * (min(plan.cols, 4 * plan.narrow) + 10)
    assert plan.memory["basis K and products Z (driver)"] >= held
    assert plan.memory_bytes <= plan.budget_bytes


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(
    "filters", [{}, {"filters": [TransposeCodec(order=(1, 0))]}], ids=["direct", "pipeline"]
)
def test_chunks_beyond_the_matrix_are_in_the_plan(
    tmp_path: Path, *, sharded: bool, filters: dict[str, Any]
) -> None:
    chunks: dict[str, Any] = (
        {"shards": (4000, 2000), "chunks": (100, 100)} if sharded else {"chunks": (4000, 2000)}
    )
    zarr.create_array(tmp_path, shape=(50, 50), dtype="float64", **chunks, **filters)
    facts, stored_bytes = open_source(tmp_path).facts, 4000 * 2000 * 8
    decoded_bytes = 100 * 100 * 8 if sharded and not filters else stored_bytes
    plan = make_plan(Request("d", 3), facts, LIMITS)
    assert plan.memory["chunks being decoded"] >= LIMITS.threads * (stored_bytes + decoded_bytes)
    with pytest.raises(MemoryBudgetError, match="chunks being decoded"):
        make_plan(Request("d", 3), facts, replace(LIMITS, budget_bytes=stored_bytes))


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(
    ("shape", "chunks", "has_own_memory"),
    [
        ((4000, 30), (100, 30), False),
        ((4000, 30), (100, 10), True),
        ((4010, 30), (100, 30), True),
        ((30, 4000), (30, 100), False),
        ((30, 4000), (10, 100), False),
        ((30, 4010), (30, 100), True),
    ],
    ids=["rows", "several a row", "ragged", "columns", "several a column", "ragged columns"],
)
def test_the_reader_takes_the_memory_for_decoding_that_is_planned(
    tmp_path: Path, shape: tuple[int, int], chunks: tuple[int, int], *, sharded: bool, has_own_memory: bool
) -> None:
    """Beside the file a chunk, but only where some chunk cannot be decoded into the panel."""
    shards = (4 * chunks[0], chunks[1]) if sharded else None
    array = zarr.create_array(tmp_path, shape=shape, chunks=chunks, shards=shards, dtype="float32")
    array[...] = 1
    source, space = open_source(tmp_path), ReadBuffers()
    plan = make_plan(Request("d", 3, method="krylov"), source.facts, Machine(10**9, 1))
    for panel in map(plan.panel, range(plan.panels)):
        rows, cols = (panel, (0, shape[1])) if not plan.transposed else ((0, shape[0]), panel)
        source.read(slice(*rows), slice(*cols), space)
    decoded = 4 * chunks[0] * chunks[1] if has_own_memory else 0
    assert space.chunk._memory.nbytes == decoded
    assert plan.memory["chunks being decoded"] == source.facts.stored_bytes + decoded


def test_panels_too_large_for_the_budget_are_read_in_tiles_and_the_plan_says_so() -> None:
    facts = replace(FACTS, shape=(50_000, 50_000), chunks=(1_000, 1_000))
    whole = make_plan(Request("d", 5), facts, Machine(4 * 10**9, 2))
    tiled = make_plan(Request("d", 5), facts, Machine(55 * 10**7, 2))
    assert whole.reads_per_pass == 1
    assert tiled.reads_per_pass == 2
    assert "tiles of" in str(tiled)
    assert tiled.bytes_per_pass == 2 * whole.bytes_per_pass


@pytest.mark.parametrize("method", ["gram", "tall_skinny", "compressed"])
def test_methods_that_need_whole_rows_never_get_tiles(method: Any) -> None:
    facts = replace(FACTS, shape=(50_000, 50_000), chunks=(1_000, 1_000))
    with pytest.raises(MemoryBudgetError, match=method):
        make_plan(Request("d", 5, method=method), facts, Machine(4 * 10**8, 2))


# What a plan refuses


@quick
@given(sources(), st.integers(1, 10**6))
def test_k_beyond_the_shape_is_refused_with_the_range(facts: SourceFacts, beyond: int) -> None:
    most = min(facts.shape)
    with pytest.raises(
        RankError, match=re.escape(f"k={most + beyond} is not in the allowed range 1..{most}")
    ):
        make_plan(Request("d", most + beyond), facts, LIMITS)


def test_a_size_too_small_for_one_triplet_is_refused() -> None:
    one = 4 * sum(FACTS.shape) + 8
    assert make_plan(Request("d", "auto", max_bytes=one), FACTS, LIMITS).k == 1
    with pytest.raises(RankError, match=f"one takes {one} bytes"):
        make_plan(Request("d", "auto", max_bytes=one - 1), FACTS, LIMITS)


@pytest.mark.parametrize(
    "other",
    [
        replace(FACTS, shape=(100_001, 2_000)),
        replace(FACTS, dtype="float64"),
        replace(FACTS, chunks=(1_000, 1_000)),
        replace(FACTS, fingerprint="g"),
    ],
)
def test_a_plan_is_for_one_source_only(other: SourceFacts) -> None:
    plan = make_plan(Request("d", 5), FACTS, LIMITS)
    plan.check_source(replace(FACTS, name="moved.zarr"))
    with pytest.raises(PlanError, match="the plan is for a source with"):
        plan.check_source(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "lacks"),
    ],
)
def test_what_is_no_plan_is_refused(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan.from_json(text)


@pytest.mark.parametrize("name", ["lanes", "method", "version", "memory"])
def test_a_plan_that_lacks_a_field_is_refused_by_name(name: str) -> None:
    values = make_plan(Request("d", 5), FACTS, LIMITS).to_dict()
    del values[name]
    with pytest.raises(PlanError, match=f"lacks '{name}'"):
        Plan.from_json(json.dumps(values))


def test_a_plan_of_another_version_is_refused() -> None:
    values = make_plan(Request("d", 5), FACTS, LIMITS).to_dict() | {"version": 99}
    with pytest.raises(PlanError, match="version 99"):
        Plan.from_json(json.dumps(values))


# What a plan is


@unhurried
@given(plans())
def test_json_round_trip_is_identical(plan: Plan) -> None:
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.to_json() == plan.to_json()
    assert str(again) == str(plan)


@quick
@given(st.data(), sources())
def test_a_plan_is_a_pure_function_of_its_arguments(data: st.DataObject, facts: SourceFacts) -> None:
    request = data.draw(requests(facts))
    roomy = Machine(10**16, 4)
    assert make_plan(request, facts, roomy) == make_plan(request, facts, roomy)


@given(st.integers(1, 2000))
def test_blocks_are_as_wide_as_products_handle_columns(k: int) -> None:
    """Sixteen at a time: the wide block by itself, the first with the probes that go with it."""
    width, first = block_width(k, 10**6), first_block_width(k, 10**6)
    assert (width % 16, (first + PROBES) % 16) == (0, 0)
    assert k < first <= width
    assert (block_width(k, k + 5), first_block_width(k, k + 5)) == (k + 5, k + 5)


def test_short_passes_have_fewer_lanes() -> None:
    facts = replace(FACTS, shape=(400_000, 1_000), chunks=(500, 1_000))
    count = {
        read_seconds: len(
            make_plan(
                Request("d", 10), facts, Machine(10**10, 2), replace(NOMINAL, read_seconds=read_seconds)
            ).lanes
        )
        for read_seconds in (1e-10, 1e-7)
    }
    assert count == {1e-10: 8, 1e-7: 16}
    assert len(make_plan(Request("d", 10), facts, Machine(10**10, 8)).lanes) == 16


def test_a_measured_plan_says_what_the_codec_costs() -> None:
    def told(codec: str, read_cpu_seconds: float, *, measured: bool = True) -> str:
        rates = replace(NOMINAL, read_cpu_seconds=read_cpu_seconds, measured=measured)
        return str(make_plan(Request("d", 10), replace(FACTS, codec=codec), LIMITS, rates))

    slow = "reading       zstd decodes at 1.2 GB/s a core; blosc lz4 with shuffle would do about 4"
    assert slow in told("zstd", 1 / 1.2e9)
    assert "reading       zstd decodes at 3.0 GB/s a core\n" in told("zstd", 1 / 3e9)
    assert "reading       blosc lz4 decodes at 1.2 GB/s a core\n" in told("blosc lz4", 1 / 1.2e9)
    assert "reading  " not in told("zstd", 1 / 1.2e9, measured=False)
    assert "reading  " not in told("", 1 / 1.2e9)


@pytest.mark.parametrize(
    ("zarr_format", "compressors", "told"),
    [
        (3, None, ""),
        (3, ZstdCodec(), "zstd"),
        (3, BloscCodec(cname="lz4"), "blosc lz4"),
        (2, numcodecs.Blosc(cname="zstd"), "blosc zstd"),
        (2, numcodecs.Zlib(), "zlib"),
    ],
    ids=["none", "zstd", "blosc lz4", "blosc zstd", "zlib"],
)
def test_a_source_names_its_codec(zarr_format: Any, compressors: Any, told: str) -> None:
    array = zarr.create_array(
        MemoryStore(),
        shape=(8, 8),
        chunks=(4, 4),
        dtype="f4",
        zarr_format=zarr_format,
        compressors=compressors,
    )
    assert open_source(array).facts.codec == told


def test_nan_as_the_missing_value_survives_json() -> None:
    plan = make_plan(Request("d", 5, missing="mean", missing_value=float("nan")), FACTS, LIMITS)
    assert Plan.from_json(plan.to_json()) == plan


@quick
@given(plans())
def test_a_printed_plan_has_its_parts(plan: Plan) -> None:
    text = str(plan)
    heads = {line.split("  ")[0].strip() for line in text.splitlines()}
    assert {"source", "method", "orientation", "panels", "start", "block", "passes", "scratch"} <= heads
    assert {"peak memory"} <= heads
    assert f"{plan.panels:,} panel" in text
    assert f"{len(plan.lanes)} lane" in text
    assert plan.method in text
    assert human_bytes(plan.bytes_to_read) in text
    assert human_bytes(plan.output_bytes) in text
    for term, size in plan.memory.items():
        assert re.search(rf"^ +{re.escape(term)} +{re.escape(human_bytes(size))}$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("n", "method"),
    [(4_000, "krylov"), (100, "gram")],
)
def test_the_method_is_the_cheaper_one_at_nominal_rates(n: int, method: str) -> None:
    facts = replace(FACTS, shape=(4_000_000, n), chunks=(1_000, 500))
    plan = make_plan(Request("d", 10), facts, Machine(10**10, 4))
    found = re.search(r"krylov about (\S+) s, gram about (\S+) s", plan.reason)
    assert found is not None
    krylov, gram = float(found[1]), float(found[2])
    assert plan.method == method
    assert (gram < krylov) == (method == "gram")


@pytest.mark.parametrize("rates", [NOMINAL, SLOW], ids=["products", "reading"])
def test_predicted_time_is_that_of_the_lanes_that_fit(rates: Rates) -> None:
    facts = replace(FACTS, shape=(10**6, 2_000))
    request = Request("d", 5, method="krylov")
    tight, alone, roomy = (
        make_plan(request, facts, Machine(budget_bytes, cores), rates)
        for budget_bytes, cores in ((5 * 10**7, 16), (5 * 10**7, 1), (10**10, 16))
    )
    assert (tight.threads, alone.threads) == (1, 1)
    assert roomy.threads >= 16
    assert tight.predicted_seconds["passes"] == alone.predicted_seconds["passes"]
    assert roomy.predicted_seconds["passes"] < tight.predicted_seconds["passes"] / 8


def test_factors_to_start_from_decide_the_method() -> None:
    facts = replace(FACTS, shape=(4_000_000, 100), chunks=(1_000, 100))
    assert make_plan(Request("d", 5, tol=1e-8), facts, LIMITS).method == "gram"
    assert make_plan(Request("d", 5, tol=1e-8, warm_start="u"), facts, LIMITS).method == "krylov"


def test_a_matrix_no_wider_than_the_block_takes_one_pass() -> None:
    plan = make_plan(Request("d", 5), replace(FACTS, shape=(100_000, 30), chunks=(1_000, 30)), LIMITS)
    assert plan.method == "krylov"
    assert plan.width == plan.cols
    assert plan.expected_passes == 1


# How sizes are written


@given(st.integers(1, 10**18))
def test_rounding_up_never_loses_and_prints_as_itself(count: int) -> None:
    rounded = round_up(count)
    assert count <= rounded <= count * 1.1 + 1
    if rounded < 10**15:
        assert parse_bytes(human_bytes(rounded)) == rounded


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lanes", 5, "not a plan"),
        ("lanes", [[0, 1]], "not a division of the panels"),
        ("request", [1], "not a plan"),
        ("facts", {"x": 1}, "not a plan"),
        ("panel_rows", 0, "not a plan|below 1"),
        ("k", 7, "k=7 is not the request's 5"),
        ("method", "guess", "method 'guess' is not known"),
        ("rows", 3, "rows 3"),
        ("sample", [-1, 4], "not of its panels"),
        ("sample", [10**6], "not of its panels"),
    ],
)
def test_an_edited_plan_that_cannot_be_is_refused(name: str, value: Any, message: str) -> None:
    values = json.loads(make_plan(Request("d", 5), FACTS, LIMITS).to_json())
    with pytest.raises(PlanError, match=message):
        Plan.from_dict(values | {name: value})


@pytest.mark.parametrize(("method", "passes"), [("gram", 2), ("tall_skinny", 3), ("compressed", 10)])
def test_expected_passes_are_those_that_are_made(client: Client, method: Any, passes: int) -> None:
    A = np.random.default_rng(0).standard_normal((300, 80)) * 0.8 ** np.arange(80)
    options: dict[str, Any] = {"power_iterations": 3} if method == "compressed" else {}
    plan = bigsvd.plan(A, 5, method=method, **options)
    costs = bigsvd.svd(A, 5, method=method, client=client, **options).provenance["costs"]
    assert plan.expected_passes == costs["passes"] == passes


@pytest.mark.parametrize(
    ("compressors", "copies"),
    [
        (None, 0),
        ([ZstdCodec()], 0),
        ([BloscCodec(), Crc32cCodec()], 0),
        ([GzipCodec()], 1),
        ([Crc32cCodec(), ZstdCodec()], 1),
        ([BloscCodec(), ZstdCodec()], 1),
    ],
    ids=["none", "zstd", "blosc, checked", "gzip", "checked, zstd", "blosc, zstd"],
)
@pytest.mark.parametrize("local", [True, False], ids=["local", "memory"])
def test_copies_that_codecs_and_stores_make_are_in_the_plan(
    tmp_path: Path, compressors: Any, copies: int, *, local: bool
) -> None:
    store = LocalStore(tmp_path) if local else MemoryStore()
    array = zarr.create_array(
        store, shape=(4000, 30), chunks=(100, 30), dtype="float32", compressors=compressors
    )
    plan = make_plan(Request("d", 3, method="krylov"), open_source(array).facts, Machine(10**9, 1))
    chunk_bytes = 4 * 100 * 30
    assert plan.memory["chunks being decoded"] == (1 + copies + (not local)) * chunk_bytes


def test_slack_is_for_all_but_memory_that_is_taken_once() -> None:
    """Which another library's decoding, or a store that is not of files, does not do."""
    files = replace(FACTS, chunks=(1_000, 2_000), reader="direct")
    for facts in (files, replace(files, spare_bytes=1), replace(files, reader="pipeline")):
        request = Request("d", 5, out="u", method="krylov")
        memory = dict(make_plan(request, facts, LIMITS).memory)
        slack, _ = memory.pop("allocator slack"), memory.pop("decoded panels kept")
        once = memory["panels being read and multiplied"] + memory["chunks being decoded"]
        others = sum(memory.values()) - (once if facts is files else 0)
        assert slack == pytest.approx(0.18 * others, rel=1e-6)


PACKINGS = {
    "as stored": Packing(),
    "packed": Packing(0.01, 280.0),
    "packed with gaps": Packing(0.01, 280.0, (7, 8)),
    "gaps": Packing(fills=(7, 8)),
}


@pytest.mark.parametrize("missing", ["none", "zero", "mean"])
@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(10_000, 2_000), (2_000, 10_000)], ids=["tall", "wide"])
def test_a_slab_takes_no_more_to_make_than_planned(
    shape: tuple[int, int], dtype: str, packing: str, missing: Any
) -> None:
    """It is made a piece at a time, unpacked entries by float64, whether or not a mean is subtracted."""
    facts = replace(FACTS, shape=shape, dtype=dtype, packing=PACKINGS[packing], chunks=(2_000, 2_000))
    value, standardized = None if missing == "none" else 9, missing == "mean"
    request = Request(
        "d", 5, method="krylov", missing=missing, missing_value=value, center=standardized, scale=standardized
    )
    plan = make_plan(request, facts, replace(LIMITS, threads=1))
    transform = replace(Transform.of(request, replace(facts, samples_axis=int(plan.transposed))), exponent=3)
    rows = slab_rows(plan.cols, plan.compute_dtype, has_own_memory=False)
    raw = np.ones((min(plan.panel_rows, rows), plan.cols), dtype)
    raw[::3, ::2] = 9
    whole = slice(0, raw.shape[0]), slice(0, plan.cols)
    neutral, device = MeansAndDivisors.neutral(plan.cols), CpuDevice()
    entries = Entries(device, transform, raw, raw.dtype, *whole)
    tracemalloc.start()
    standardization = written_out(transform, plan.compute_dtype, device.space(), plan.cols, neutral, None)
    entries.show(standardization.lookers)
    standardization.slab(entries)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.3 * plan.memory["widened slabs"] <= peak <= 1.001 * plan.memory["widened slabs"]


def test_a_plan_says_how_many_passes_an_unknown_spectrum_may_take() -> None:
    steep = str(bigsvd.plan(np.zeros((4_000, 400)), 5, method="krylov"))
    assert "(the spectrum is unknown: 2 to 8), at most 20" in steep
    assert "2 to 3), at most 3" in str(bigsvd.plan(np.zeros((4_000, 400)), 5, method="krylov", max_passes=3))
    assert "unknown" not in str(bigsvd.plan(np.zeros((4_000, 400)), 5, method="gram"))
    assert "unknown" not in str(bigsvd.plan(np.zeros((400, 8)), 5))
