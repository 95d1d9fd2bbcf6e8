"""Scratch keeps what was written, says what is complete, and names what is wrong."""

from __future__ import annotations

import math
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bigsvd.errors import DamagedScratchError, StorageError, SupersededError
from bigsvd.results.output import Output
from bigsvd.scratch import MARK, PLAN, HeldScratch, Scratch, storage_errors


def bytes_below(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path / "out.scratch")


@pytest.fixture(params=["in files", "in memory", "in both"])
def any_scratch(tmp_path: Path, request: pytest.FixtureRequest) -> Scratch:
    """Also one that is held in memory, and one whose memory suffices for a few numbers only."""
    path = tmp_path / "out.scratch"
    if request.param == "in files":
        return Scratch(path)
    return HeldScratch(path, "", 10**6 if request.param == "in memory" else 100)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    return Scratch(tmp_path_factory.mktemp("shared"))


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(
        st.sampled_from([np.float64, np.float32, np.int64]),
        arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=7),
    )
)
def test_what_is_written_is_read(shared: Scratch, values: np.ndarray) -> None:
    shared.write("a/b", values)
    read = shared.read("a/b")
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read, values)


def test_writing_again_replaces(any_scratch: Scratch) -> None:
    any_scratch.write("x", np.ones((4, 3)))
    any_scratch.write("x", np.zeros(2))
    np.testing.assert_array_equal(any_scratch.read("x"), np.zeros(2))


def test_what_was_never_written_is_nan(any_scratch: Scratch) -> None:
    array = any_scratch.create("y", (5, 3), (2, 99), "float32")
    assert array.chunks == (2, 3)
    array[:2] = 1
    np.testing.assert_array_equal(any_scratch.open("y")[...], [[1] * 3] * 2 + [[math.nan] * 3] * 3)


def test_an_opened_array_is_written_in_place(any_scratch: Scratch) -> None:
    any_scratch.create("y", (4, 2), (2, 2), "float64")[...] = 0
    any_scratch.open("y")[1:3] = 7
    assert any_scratch.read("y").tolist() == [[0, 0], [7, 7], [7, 7], [0, 0]]


def test_zeros_are_stored_like_everything_else(scratch: Scratch) -> None:
    scratch.write("zeros", np.zeros((4, 2)))
    assert (scratch.path / "zeros/c/0/0").exists()


@pytest.mark.parametrize("facts", [{}, {"sums": ["z"], "seconds": 0.5, "deep": {"list": [1, None]}}])
def test_a_record_keeps_its_facts(any_scratch: Scratch, facts: dict[str, Any]) -> None:
    assert any_scratch.recorded("pass-000/done") is None
    any_scratch.record("pass-000/done", facts)
    assert any_scratch.recorded("pass-000/done") == facts


def test_a_record_made_again_holds_the_latest_facts(any_scratch: Scratch) -> None:
    any_scratch.record("done", {"a": 1, "b": 2})
    any_scratch.record("done", {"a": 3})
    assert any_scratch.recorded("done") == {"a": 3}


def test_an_array_is_no_record_and_a_folder_neither(any_scratch: Scratch) -> None:
    any_scratch.write("lane/x", np.ones(2))
    assert any_scratch.has("lane/x")
    assert not any_scratch.has("lane/y")
    assert any_scratch.recorded("lane/y") is None


def test_removing_takes_all_below_and_nothing_else(any_scratch: Scratch) -> None:
    any_scratch.write("lane-0/x", np.ones(2))
    any_scratch.record("lane-0/done", {})
    any_scratch.write("lane-1/x", np.ones(2))
    any_scratch.remove("lane-0")
    any_scratch.remove("lane-0")
    assert not any_scratch.has("lane-0/x")
    assert any_scratch.recorded("lane-0/done") is None
    assert not (any_scratch.path / "lane-0").exists()
    assert any_scratch.has("lane-1/x")


def test_a_pickled_copy_sees_the_same(any_scratch: Scratch) -> None:
    any_scratch.write("x", np.arange(3))
    copy = pickle.loads(pickle.dumps(any_scratch))  # noqa: S301 - our own
    copy.record("done", {"n": 3})
    np.testing.assert_array_equal(copy.read("x"), np.arange(3))
    assert any_scratch.recorded("done") == {"n": 3}


def test_a_damaged_chunk_is_noticed_and_only_the_run_that_has_scratch_removes_it(scratch: Scratch) -> None:
    scratch.write("x", np.arange(100.0))
    chunk = scratch.path / "x/c/0"
    content = bytearray(chunk.read_bytes())
    content[50] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(DamagedScratchError, match=r"x is damaged .*c/0 has another checksum"):
        scratch.read("x")
    assert chunk.exists()
    (scratch.path / MARK / "this-run").mkdir()
    with pytest.raises(DamagedScratchError, match="is damaged"):
        Scratch(scratch.path, "this-run").read("x")
    assert not chunk.exists()


def test_a_torn_record_is_none_but_the_plan_is_asked_for(scratch: Scratch) -> None:
    for name in ("lane/done", PLAN):
        scratch.record(name, {"sums": []})
        (scratch.path / name / "zarr.json").write_text("")
    assert scratch.recorded("lane/done") is None
    with pytest.raises(StorageError, match="run is damaged") as caught:
        scratch.recorded(PLAN)
    assert f"delete {scratch.path}" in caught.value.remedy


def test_what_a_former_run_still_writes_or_deletes_has_no_effect(tmp_path: Path) -> None:
    """Where another has taken its folder away, also if that was between a look and the act."""
    with Output(tmp_path / "out", overwrite=False) as output:
        former = Scratch(output.scratch, output.begin())
        array = former.create("y", (4, 2), (2, 2), "float64")
        array[:2] = 1
        former.record("kept", {"by": "former"})
        now = Scratch(output.scratch, output.resume())
        before = bytes_below(now.path)
        for late in (
            lambda: former.record("kept", {}),
            lambda: former.record("new/done", {}),
            lambda: former.write("z", np.ones(3)),
            lambda: former.create("y", (4, 2), (2, 2), "float64"),
            lambda: former.remove("y"),
            lambda: former.seal("factors", {}),
            lambda: array.__setitem__(slice(2, 4), 2),
            lambda: array.__setitem__(slice(0, 2), 2),
        ):
            with pytest.raises(SupersededError):
                late()
        assert bytes_below(now.path) == before
        assert not (now.path / "new").exists()
        now.remove("y")
        with pytest.raises(SupersededError):
            array[:2] = 3
        assert not now.has("y")


def test_tasks_that_are_the_same_may_write_one_array_at_a_time(scratch: Scratch) -> None:
    values = np.arange(20.0)
    (scratch.path / MARK / "this-run").mkdir(parents=True)
    mine = Scratch(scratch.path, "this-run")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: mine.write("pass/z", values), range(400)))
    np.testing.assert_array_equal(mine.read("pass/z"), values)
    assert list((scratch.path / MARK / "this-run").iterdir()) == []


def test_sizes_tell_whether_all_was_written(any_scratch: Scratch) -> None:
    any_scratch.write("z", np.arange(10.0))
    assert any_scratch.whole("z")
    assert not any_scratch.whole("nothing")
    if isinstance(any_scratch, HeldScratch):
        return
    array = any_scratch.create("y", (7, 2), (2, 2), "float64")
    array[:4] = 0
    assert any_scratch.whole("y", (slice(0, 4),))
    assert not any_scratch.whole("y", (slice(2, 5),))
    (any_scratch.path / "z/c/0").write_bytes(b"")
    assert not any_scratch.whole("z")
    any_scratch.settle("y")


def test_all_that_is_damaged_is_found(scratch: Scratch) -> None:
    (scratch.path / MARK / "this-run").mkdir(parents=True)
    mine = Scratch(scratch.path, "this-run")
    for name in ("a/z", "b/z", "c/z"):
        mine.write(name, np.arange(10.0))
    mine.record("a/done", {})
    mine.record("b/done", {})
    (mine.path / "a/z/c/0").write_bytes(bytes(84))  # zeros of the right size
    (mine.path / "b/done/zarr.json").write_bytes(b"")
    (mine.path / "c/z/zarr.json").write_bytes(b"{}")
    mine.discard_damaged()
    assert not (mine.path / "a/z/c/0").exists()
    assert [mine.has(name) for name in ("a/z", "a/done", "b/z", "b/done", "c/z")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_a_lost_chunk_of_what_was_written_whole_is_noticed(scratch: Scratch) -> None:
    """Else a run that is continued would take its numbers for NaN, or for zeros."""
    for values in (np.arange(100.0), np.arange(100)):
        scratch.write("x", values)
        (scratch.path / "x/c/0").unlink()
        with pytest.raises(StorageError, match=r"x is damaged .*c/0 does not exist"):
            scratch.read("x")


def test_what_is_not_there_is_named(any_scratch: Scratch) -> None:
    with pytest.raises(StorageError, match="nothing is gone"):
        any_scratch.read("nothing")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"writing .*file/x.* failed: Not a directory"):
        Scratch(tmp_path / "file").write("x", np.ones(2))


def test_only_errors_of_the_system_become_storage_errors() -> None:
    with (
        pytest.raises(StorageError, match="copying failed: No space left on device"),
        storage_errors("copying"),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(ZeroDivisionError), storage_errors("copying"):
        raise ZeroDivisionError


def test_looking_for_what_is_not_there_leaves_nothing(tmp_path: Path) -> None:
    """A task that comes late must not make of the scratch of a run that is over somebody else's folder."""
    scratch = Scratch(tmp_path / "swept")
    for look in (scratch.read, scratch.open):
        with pytest.raises(StorageError, match="is gone"):
            look("pass/block")
    assert scratch.recorded("pass/done") is None
    assert not scratch.path.exists()


def test_a_node_is_written_without_groups_above_it(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    scratch.write("pass/parts/lane-0/z", np.ones(3))
    scratch.record("pass/parts/lane-0/done", {})
    assert {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("zarr.json")} == {
        "pass/parts/lane-0/z",
        "pass/parts/lane-0/done",
    }


def test_what_is_held_does_not_change_with_what_it_was_written_from_or_read_to(tmp_path: Path) -> None:
    scratch = HeldScratch(tmp_path, "", 10**6)
    values = np.ones(3)
    scratch.write("x", values)
    for mine in (values, scratch.read("x"), scratch.open("x")[:2]):
        mine[0] = 7
        assert scratch.read("x").tolist() == [1, 1, 1]
    assert list(tmp_path.iterdir()) == []


def test_no_more_is_held_than_there_is_memory_for_and_never_the_factors(tmp_path: Path) -> None:
    scratch = HeldScratch(tmp_path, "", 100)
    scratch.write("factors/s", np.ones(3))
    scratch.write("large", np.ones(20))
    scratch.create("half", (10,), (10,), "float64")[...] = 2
    scratch.write("rest", np.ones(10))
    scratch.remove("half")
    scratch.write("again", np.ones(10))
    files = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("zarr.json")}
    assert files == {"factors/s", "large", "rest"}
    for name, value in (("factors/s", 1.0), ("large", 1.0), ("rest", 1.0), ("again", 1.0)):
        assert set(scratch.read(name).tolist()) == {value}


def test_an_opened_array_gives_rows_into_memory_that_is_there(any_scratch: Scratch) -> None:
    any_scratch.create("y", (5, 2), (2, 2), "float32")[...] = np.arange(10).reshape(5, 2)
    found = np.empty((3, 2), np.float32)
    any_scratch.open("y").read_into(slice(1, 4), found)
    assert found.tolist() == [[2, 3], [4, 5], [6, 7]]


def test_many_threads_may_work_in_held_scratch(tmp_path: Path) -> None:
    """Names came in while another thread looked for what it was to remove."""
    held = HeldScratch(tmp_path / "s", "", 2**24)

    def work(number: int) -> None:
        for turn in range(200):
            held.write(f"lane-{number}/a-{turn}", np.full(4, float(number)))
            held.record(f"lane-{number}/done-{turn}", {})
            held.remove(f"lane-{number}/a-{turn - 2}")

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
    finally:
        sys.setswitchinterval(before)
    assert all(held.read(f"lane-{number}/a-199").tolist() == [number] * 4 for number in range(8))
