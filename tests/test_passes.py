"""One pass: the products of the whole matrix, whatever the panels; a lane done is never done again."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client, scheduler
from distributed.batched import BatchedSend
from threadpoolctl import threadpool_info, threadpool_limits
from tornado import gen

import bigsvd
from bigsvd.devices.cpu import CpuDevice
from bigsvd.errors import ChunkMissingError, StorageError, SupersededError
from bigsvd.events import Event
from bigsvd.execution import dask_executor
from bigsvd.execution.cluster import workers_of
from bigsvd.execution.dask_executor import DaskExecutor, local_client
from bigsvd.execution.lane import LaneRun, run_lane
from bigsvd.execution.panel_cache import _CACHES, close_cache
from bigsvd.execution.pass_spec import Lane, PassSpec
from bigsvd.execution.passes import Context, add_parts, panels_kept, run_pass
from bigsvd.facts import NOMINAL, Machine
from bigsvd.machine.blas import BlasLimit
from bigsvd.planning.plan import Plan
from bigsvd.planning.planner import make_plan
from bigsvd.request import Request
from bigsvd.results.output import Output
from bigsvd.scratch import Scratch
from bigsvd.slabs.kernels import ProductKernel
from bigsvd.slabs.statistics import StatisticsKernel
from bigsvd.slabs.transform import Transform
from bigsvd.sources.open import open_source
from bigsvd.sources.zarr_dense import ZarrSource
from tests.clusters import worker_processes

M, N, WIDTH = 240, 70, 5
A = np.random.default_rng(0).standard_normal((M, N))
BLOCK = np.random.default_rng(1).standard_normal((N, WIDTH))
KERNELS = StatisticsKernel(Transform(), (M, N), A.dtype), ProductKernel("block", "y", WIDTH)
SPEC = PassSpec("pass", KERNELS, Transform(), None, None, "float64", None)


@dataclass
class Events:
    """What a run reported."""

    seen: list[Event]

    def __call__(self, event: Event) -> None:
        self.seen.append(event)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    zarr.create_array(tmp_path / "data.zarr", data=A, chunks=(20, 30))
    return tmp_path / "data.zarr"


def context(data: Path, client: Client, folder: str, **changes: Any) -> Context:
    """A place for one pass over the data, its operands in scratch; `changes` of the plan."""
    source = open_source(data)
    plan = replace(make_plan(Request(str(data), 3), source.facts, Machine(10**9, 2)), **changes)
    scratch = Scratch(data.with_name(folder))
    scratch.write("block", BLOCK)
    scratch.create("y", (M, WIDTH), (plan.panel_rows, WIDTH), "float64")
    return Context(DaskExecutor(client), plan, source, scratch, CpuDevice(), Events([]))


@pytest.fixture(autouse=True)
def no_caches(client: Client) -> Iterator[None]:
    """What runs without `panels_kept` leaves its caches; none of them outlives its test."""
    yield
    for token in list(_CACHES):
        client.run(close_cache, token)


def lane(place: Context, index: int) -> Lane:
    panels = tuple(range(*place.plan.lanes[index]))
    return Lane(index, panels, place.token, SPEC, place.plan, place.source, place.scratch, place.device, None)


CUTS: list[dict[str, Any]] = [
    {},
    {"panel_rows": 20, "lanes": tuple((i, i + 1) for i in range(12))},
    {"panel_rows": 100, "lanes": ((0, 2), (2, 3))},
    {"panel_rows": M, "lanes": ((0, 1),)},
    {"panel_rows": 40, "lanes": ((0, 6),), "tile_cols": 30, "reads_per_pass": 2},
]


@pytest.mark.parametrize(("waiting", "readers"), [(1.0, {"lane"}), (3.0, {"bigsvd-read_0"})])
def test_a_lane_reads_in_turn_unless_its_store_lets_it_wait(
    data: Path, client: Client, monkeypatch: pytest.MonkeyPatch, waiting: float, readers: set[str]
) -> None:
    seen, read = set(), LaneRun._read

    def noted(self: LaneRun, *wanted: Any) -> Any:
        seen.add(threading.current_thread().name)
        return read(self, *wanted)

    monkeypatch.setattr(LaneRun, "_read", noted)
    rates = replace(NOMINAL, read_seconds=waiting * NOMINAL.read_cpu_seconds)
    place = context(data, client, "scratch", rates=rates)
    thread = threading.Thread(target=run_lane, args=(lane(place, 0),), name="lane")
    thread.start()
    thread.join()
    assert seen == readers


@pytest.mark.parametrize("changes", CUTS, ids=str)
def test_products_do_not_depend_on_how_the_matrix_is_cut(
    data: Path, client: Client, changes: dict[str, Any]
) -> None:
    place = context(data, client, "scratch", **changes)
    with panels_kept(place):
        result = run_pass(place, SPEC)
    assert not _CACHES
    np.testing.assert_allclose(place.scratch.read("y"), A @ BLOCK, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.sums["z"], A.T @ (A @ BLOCK), rtol=0, atol=1e-10)
    assert result.census.squares == pytest.approx(np.sum(A**2))
    assert result.census.peak == np.abs(A).max()
    assert result.counters.streamed_bytes == place.plan.bytes_per_pass
    assert result.counters.bytes_read == A.nbytes
    assert len(result.checksums) == place.plan.panels


def test_a_pass_done_is_only_read_back(data: Path, client: Client) -> None:
    place = context(data, client, "scratch")
    first = run_pass(place, SPEC)
    assert isinstance(place.progress, Events)
    told = len(place.progress.seen)
    again = run_pass(replace(place, source=open_source(np.zeros((M, N)))), SPEC)
    assert len(place.progress.seen) == told
    np.testing.assert_array_equal(again.sums["z"], first.sums["z"])
    assert again.resumed
    assert replace(again, sums={}, resumed=False) == replace(first, sums={})


def test_a_resumed_pass_has_the_bits_of_one_never_stopped(data: Path, client: Client) -> None:
    cut = {"panel_rows": 20, "lanes": tuple((i, i + 2) for i in range(0, 12, 2))}
    whole = run_pass(context(data, client, "whole", **cut), SPEC)
    place = context(data, client, "resumed", **cut)
    for index in (4, 1):
        client.submit(run_lane, lane(place, index), pure=False).result()
    resumed = run_pass(place, SPEC)
    np.testing.assert_array_equal(resumed.sums["z"], whole.sums["z"])
    assert resumed.census == whole.census
    assert resumed.checksums == whole.checksums
    assert isinstance(place.progress, Events)
    assert place.progress.seen[0]["resumed_lanes"] == 2


FINE: dict[str, Any] = {"panel_rows": 20, "lanes": tuple((i, i + 1) for i in range(12))}


@pytest.fixture
def few_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees of twelve lanes: 12, 4, then 2 parts."""
    monkeypatch.setattr("bigsvd.execution.passes.PARTS_A_SUM", 3)


@pytest.mark.usefixtures("few_a_sum")
def test_many_partial_sums_are_combined_in_a_tree_of_one_shape(data: Path, client: Client) -> None:
    place = context(data, client, "by-hand", **FINE)
    for index in range(12):
        client.submit(run_lane, lane(place, index), pure=False).result()
    parts = [place.scratch.read(f"pass/parts/lane-{index:05d}/z") for index in range(12)]
    while len(parts) > 1:
        parts = [add_up(parts[start : start + 3]) for start in range(0, len(parts), 3)]
    result = run_pass(place, SPEC)
    np.testing.assert_array_equal(result.sums["z"], parts[0])
    assert not place.scratch.has("pass/parts/lane-00000/done")


def add_up(parts: list[np.ndarray]) -> np.ndarray:
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


FAILING_AT = ""


def failing_in_the_tree(*arguments: Any) -> None:
    """Known by its name, as what is sent to workers must be."""
    add_parts(*arguments)
    if arguments[-1].endswith(FAILING_AT):
        raise StorageError("no room", "make some")


LOSSES: dict[str, tuple[list[str], int]] = {
    "nothing": ([], 12),
    "the record of a lane": (["parts/lane-00003/done/zarr.json"], 11),
    "sums of a lane": (["parts/lane-00003/z/c/0/0"], 11),
    "metadata of sums": (["parts/lane-00003/z/zarr.json"], 11),
    "rows of two lanes": (["y/c/4/0", "y/c/7/0"], 10),
    "something of each of three lanes": (
        ["parts/lane-00003/done/zarr.json", "parts/lane-00009/z/c/0/0", "y/c/7/0"], 9,
    ),
}  # fmt: skip
TORN: dict[str, Any] = {"gone": Path.unlink, "empty": lambda file: file.write_bytes(b"")}
STORED = replace(SPEC, kernels=(KERNELS[0], ProductKernel("block", "pass/y", WIDTH)), rows=(("pass/y", 0),))


def place_of_rows(data: Path, client: Client, folder: str) -> Context:
    place = context(data, client, folder, **FINE)
    place.scratch.create("pass/y", (M, WIDTH), (20, WIDTH), "float64")
    return place


@pytest.mark.parametrize("damage", TORN)
@pytest.mark.parametrize("lost", LOSSES)
@pytest.mark.usefixtures("few_a_sum")
def test_lanes_of_which_something_is_lost_run_again_and_no_others(
    data: Path, client: Client, monkeypatch: pytest.MonkeyPatch, lost: str, damage: str
) -> None:
    whole = run_pass(place := place_of_rows(data, client, "whole"), STORED)
    rows = place.scratch.read("pass/y")
    place = place_of_rows(data, client, "cut")
    with monkeypatch.context() as patch:
        patch.setattr("bigsvd.execution.passes._combine", no_room)
        with pytest.raises(StorageError):
            run_pass(place, STORED)
    place = replace(place, progress=Events([]))
    names, kept = LOSSES[lost]
    for name in names:
        TORN[damage](place.scratch.path / "pass" / name)
    resumed = run_pass(place, STORED)
    np.testing.assert_array_equal(resumed.sums["z"], whole.sums["z"])
    np.testing.assert_array_equal(place.scratch.read("pass/y"), rows)
    assert resumed_lanes(place) == [kept]


def no_room(*_: Any) -> None:
    raise StorageError("no room", "make some")


def resumed_lanes(place: Context) -> list[int]:
    assert isinstance(place.progress, Events)
    return [event["resumed_lanes"] for event in place.progress.seen if event.kind == "pass"]


@pytest.mark.parametrize(
    ("name", "lanes"), [("y/c/4/0", [11]), ("z/c/0/0", [0]), ("done/zarr.json", [0]), ("nothing", [])]
)
@pytest.mark.parametrize("damage", TORN)
def test_of_a_pass_that_is_done_only_rows_or_all_is_made_again(
    data: Path, client: Client, damage: str, name: str, lanes: list[int]
) -> None:
    """A lane where its rows are lost; all lanes where their sums are, of which nothing else is left."""
    place = place_of_rows(data, client, "cut")
    whole, rows = run_pass(place, STORED), place.scratch.read("pass/y")
    place = replace(place, progress=Events([]))
    if lanes:
        TORN[damage](place.scratch.path / "pass" / name)
    again = run_pass(place, STORED)
    np.testing.assert_array_equal(again.sums["z"], whole.sums["z"])
    np.testing.assert_array_equal(place.scratch.read("pass/y"), rows)
    assert resumed_lanes(place) == lanes
    assert not (place.scratch.path / "pass/parts").exists()


@pytest.mark.usefixtures("few_a_sum")
@pytest.mark.parametrize("damage", TORN)
def test_a_sum_of_lanes_that_is_lost_costs_only_these(
    data: Path, client: Client, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    whole = run_pass(context(data, client, "whole", **FINE), SPEC)
    place = context(data, client, "failed", **FINE)
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "FAILING_AT", "sum-0-00003")
        patch.setattr("bigsvd.execution.passes.add_parts", failing_in_the_tree)
        with pytest.raises(StorageError, match="no room"):
            run_pass(place, SPEC)
    TORN[damage](place.scratch.path / "pass/parts/sum-0-00001/z/c/0/0")
    place = replace(place, progress=Events([]))
    np.testing.assert_array_equal(run_pass(place, SPEC).sums["z"], whole.sums["z"])
    assert resumed_lanes(place) == [9]


@pytest.mark.usefixtures("few_a_sum")
@pytest.mark.parametrize("where", ["sum-0-00002", "sum-1-00001"])
def test_a_pass_that_failed_while_its_sums_are_combined_has_the_same_bits(
    data: Path, client: Client, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    whole = run_pass(context(data, client, "whole", **FINE), SPEC)
    place = context(data, client, "failed", **FINE)

    with monkeypatch.context() as patch:
        patch.setitem(globals(), "FAILING_AT", where)
        patch.setattr("bigsvd.execution.passes.add_parts", failing_in_the_tree)
        with pytest.raises(StorageError, match="no room"):
            run_pass(place, SPEC)
    parts = place.scratch.path / "pass/parts"
    assert (parts / where / "done").exists()
    assert not (parts / "lane-00006/z").exists()
    resumed = run_pass(place, SPEC)
    np.testing.assert_array_equal(resumed.sums["z"], whole.sums["z"])
    assert resumed.resumed
    assert resumed.counters.bytes_read == whole.counters.bytes_read


@pytest.mark.parametrize("when", ["before it has read", "when it has read"])
def test_a_slow_copy_of_a_sum_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Of a worker that was frozen while another did its task: what it then reads is no longer there."""
    scratch = Scratch(tmp_path / "s")
    for part in ("a", "b"):
        scratch.write(f"{part}/z", np.ones(3))
    read, done = Scratch.read, threading.Event()

    def overtaken(self: Scratch, name: str) -> np.ndarray:
        if done.is_set() or name != "b/z":
            return read(self, name)
        done.set()
        early = read(self, name)
        add_parts(scratch, ("z",), ("other", 1), ("a", "b"), "sum")
        return early if when == "when it has read" else read(self, name)

    monkeypatch.setattr(Scratch, "read", overtaken)
    add_parts(scratch, ("z",), ("run", 1), ("a", "b"), "sum")
    np.testing.assert_array_equal(read(scratch, "sum/z"), np.full(3, 2.0))


def test_a_sum_of_a_damaged_part_is_refused(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "s")
    scratch.write("a/z", np.ones(3))
    (scratch.path / "a/z/c/0").unlink()
    with pytest.raises(StorageError, match="a/z is damaged"):
        add_parts(scratch, ("z",), ("run", 1), ("a",), "sum")
    assert not scratch.has("sum")


def test_sums_of_a_run_that_has_ended_are_not_touched(data: Path, client: Client) -> None:
    place = context(data, client, "scratch")
    place.scratch.write("a/z", np.ones(3))
    ended = Scratch(place.scratch.path, "another run")
    with pytest.raises(SupersededError, match="has ended"):
        add_parts(ended, ("z",), ("run", 1), ("a",), "b")
    assert place.scratch.has("a/z")
    assert not place.scratch.has("b")


def test_a_lane_that_dask_runs_again_gives_its_record(data: Path, client: Client) -> None:
    place = context(data, client, "scratch")
    zarr.create_array(data.with_name("other.zarr"), data=A + 1, chunks=(20, 30))
    first = client.submit(run_lane, lane(place, 0), pure=False).result()
    elsewhere = replace(lane(place, 0), source=open_source(data.with_name("other.zarr")))
    again = client.submit(run_lane, elsewhere, pure=False).result()
    assert json.dumps(again, sort_keys=True) == json.dumps(first, sort_keys=True)


@pytest.mark.parametrize("when", ["before", "while it reads", "after its record"])
def test_a_lane_whose_scratch_another_run_has_records_nothing(
    data: Path, client: Client, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    place = context(data, client, "scratch", panel_rows=M, lanes=((0, 1),))
    reads: list[str] = []
    read = ZarrSource.read
    with Output(data.with_name("u"), overwrite=False) as output:

        def begin() -> Scratch:
            scratch = Scratch(output.scratch, output.begin())
            scratch.write("block", BLOCK)
            scratch.create("y", (M, WIDTH), (M, WIDTH), "float64")
            return scratch

        def disturbed(self: ZarrSource, *where: Any) -> np.ndarray:
            reads.append("read")
            if when == "while it reads":
                begin()
            return read(self, *where)

        late = replace(lane(place, 0), scratch=begin())
        monkeypatch.setattr(ZarrSource, "read", disturbed)
        if when != "while it reads":
            begin()
        if when == "after its record":
            Scratch(output.scratch).record("pass/parts/lane-00000/done", {"of": "another run"})
        with pytest.raises(SupersededError, match="has ended"):
            client.submit(run_lane, late, pure=False).result()
        assert (output.scratch / "pass").exists() == (when == "after its record")
        assert len(reads) == (when == "while it reads")


def test_no_more_lanes_run_at_once_than_the_plan_has_memory_for(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, crowd, most, at_once = threading.Lock(), threading.Event(), 2, [0]
    run = LaneRun.run

    def counted(self: LaneRun) -> dict[str, Any]:
        with lock:
            at_once.append(at_once[-1] + 1)
            if at_once[-1] > most:
                crowd.set()
        if len(at_once) < 6:
            crowd.wait(0.2)  # for a crowd that must not come
        try:
            return run(self)
        finally:
            with lock:
                at_once.append(at_once[-1] - 1)

    monkeypatch.setattr(LaneRun, "run", counted)
    with local_client(8) as many:
        cut = {"panel_rows": 20, "lanes": tuple((i, i + 1) for i in range(12)), "threads": most}
        place = context(data, many, "scratch", **cut)
        with panels_kept(place):
            run_pass(place, SPEC)
    assert max(at_once) == most


@pytest.mark.parametrize("kept_bytes", [0, 10_000, A.nbytes])
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_each_absent_chunk_is_counted_once(
    data: Path, client: Client, cut: dict[str, Any], kept_bytes: int
) -> None:
    """In each pass, whether a sample was read before, and however often it is read."""
    for row, column in ((0, 0), (0, 2), (3, 1), (6, 0), (11, 2)):
        (data / "c" / str(row) / str(column)).unlink()
    place = replace(
        context(data, client, "scratch", **cut, sample=(0,), cache_bytes=kept_bytes),
        source=open_source(data, missing_chunks="fill"),
    )
    look = replace(SPEC, name="look", kernels=(ProductKernel("block", "", 0),), sample=True)
    with panels_kept(place):
        in_sample = run_pass(place, look).counters.filled_chunks
        counted = [
            run_pass(place, replace(SPEC, name=name)).counters.filled_chunks for name in ("one", "two")
        ]
    assert in_sample == sum(row < place.plan.panel_rows // 20 for row in (0, 0, 3, 6, 11))
    assert counted == [5, 5]


def test_a_pass_over_the_sample_returns_its_sums_and_records_nothing(data: Path, client: Client) -> None:
    """From threads of this process and from others: the same bits, and each time all of it anew."""
    cut: dict[str, Any] = {"panel_rows": 20, "lanes": ((0, 6), (6, 12)), "sample": (1, 3, 4, 7, 10, 11)}
    look = replace(SPEC, name="look", kernels=(ProductKernel("block", "", 0),), sample=True)
    rows = np.concatenate([A[20 * panel : 20 * panel + 20] for panel in cut["sample"]])
    found = []
    with worker_processes(2) as others:
        for number, whose in enumerate((client, client, others)):
            place = context(data, whose, f"scratch-{number // 2}", **cut)
            with panels_kept(place):
                result = run_pass(place, look)
            assert not result.resumed
            assert not (place.scratch.path / "look").exists()
            np.testing.assert_allclose(result.sums["z"], rows.T @ (rows @ BLOCK), rtol=0, atol=1e-10)
            found.append(result.sums["z"].tobytes())
    assert len(set(found)) == 1


def test_one_blas_thread_is_held_as_long_as_anyone_holds_it() -> None:
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    limit = BlasLimit()
    with threadpool_limits(limits=2):
        with limit:
            with limit:
                assert threads() <= {1}
            assert threads() <= {1}
        assert threads() <= {2}


@pytest.mark.parametrize("center", [False, True])
def test_a_wide_stored_matrix_is_sampled_and_streamed_by_columns(
    tmp_path: Path, client: Client, center: bool
) -> None:
    wide = A.T @ np.diag(0.9 ** np.arange(M))
    zarr.create_array(tmp_path / "wide.zarr", data=wide, chunks=(N, 20))
    factors = bigsvd.svd(tmp_path / "wide.zarr", 3, client=client, center=center, tol=1e-8, method="krylov")
    plan = Plan.from_dict(factors.provenance["plan"])
    assert plan.transposed
    assert plan.sample
    expected = np.linalg.svd(wide - wide.mean(axis=0) * center, compute_uv=False)[:3]
    np.testing.assert_allclose(factors.s, expected, rtol=1e-12)


class SlowStream(BatchedSend):  # type: ignore[misc] # it has no types
    """One that waits so long between two messages that a cluster has closed meanwhile."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"interval": "500ms"})


def test_no_wait_outlasts_the_event_loop(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What asyncio has to say of a run that fails is nothing, whenever its loop ends."""
    waits: list[Any] = []
    said: list[Any] = []
    usual = gen.with_timeout

    def noted(*arguments: Any, **options: Any) -> Any:
        waits.append(usual(*arguments, **options))
        return waits[-1]

    monkeypatch.setattr(gen, "with_timeout", noted)
    monkeypatch.setattr(scheduler, "BatchedSend", SlowStream)
    monkeypatch.setattr(dask_executor, "_LAST_WAIT_SECONDS", 0.6)
    monkeypatch.setattr(
        asyncio.BaseEventLoop, "call_exception_handler", lambda _, context: said.append(context)
    )
    (data / "c/2/1").unlink()
    with local_client(2) as own, pytest.raises(ChunkMissingError):
        bigsvd.svd(data, 3, data.with_name("out"), client=own)
    assert waits
    assert all(wait.done() for wait in waits)
    waits.clear()
    gc.collect()
    assert not said


def test_what_the_client_asks_in_the_background_hides_no_worker(
    data: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every two seconds Dask's client remembers an answer of the scheduler that names no worker."""
    update = client._update_scheduler_info

    async def then_in_the_background(n_workers: int = 0) -> None:
        await update(n_workers)
        await update()

    monkeypatch.setattr(client, "_update_scheduler_info", then_in_the_background)
    assert client.scheduler_info(n_workers=-1)["workers"] == {}
    assert DaskExecutor(client).machines(Request(str(data), 3))[0].machine.threads == 2
    assert len(workers_of(client)) == 1
