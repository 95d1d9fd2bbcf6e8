"""The runner of the service: jobs are begun in turn, looked after, resumed, cancelled, and end saying why."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

import bigsvd
from bigsvd.jobs import launch
from bigsvd.jobs.attempt import Attempt
from bigsvd.jobs.job import Job
from bigsvd.jobs.record import Record
from bigsvd.results.door import Place
from bigsvd.results.factors import open_factors
from bigsvd.results.lock import RunLock
from bigsvd.service.queue import reconciler, transitions
from bigsvd.service.queue.reconciler import Reconciler
from bigsvd.service.queue.rows import JobQuery, JobRow
from bigsvd.service.service import Service
from bigsvd.service.settings import Settings
from bigsvd.service.store.tables import jobs
from tests.clusters import worker_processes
from tests.forked import forked_drivers
from tests.service_jobs import (
    EASY,
    ENDLESS,
    LIMIT_SECONDS,
    add,
    end_drivers,
    end_of,
    in_pass,
    kill,
    last_of,
    make_noise,
    new,
    until,
)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ids of jobs in a folder of the test's own; no driver outlives the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    with forked_drivers():
        yield
    end_drivers(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_noise(tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "state", (tmp_path,), jobs_at_once=2, memory_bytes=400_000_000)


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    with Service(settings) as running:
        yield running


def test_jobs_are_done_two_at_a_time(service: Service, data: Path) -> None:
    given = [add(service, new(data, f"u{number}")) for number in range(3)]
    at_once = set()

    def all_ended() -> bool:
        rows = service.index.jobs(JobQuery()).rows
        at_once.add(sum(row.place is None and not row.has_ended for row in rows))
        return all(row.has_ended for row in rows)

    until(all_ended)
    assert max(at_once) == 2
    for job in given:
        row = end_of(service, job)
        assert (row.state, row.error, row.attempt, row.reason) == ("done", None, 1, "")
        record = Record(row.out)
        assert (record.asked().id, record.asked().owner) == (job, "u1")
        assert record.asked().terms.memory_bytes == 200_000_000
        assert record.asked().request.memory is None
        assert open_factors(row.out).provenance["request"]["memory"] == 200_000_000


def test_a_server_that_ends_leaves_its_jobs_at_work_and_starts_none_twice(
    settings: Settings, data: Path
) -> None:
    with Service(settings) as first:
        job = add(first, new(data, "u", **ENDLESS))
        waiting = [add(first, new(data, f"v{number}", **ENDLESS)) for number in range(2)]
        attempt = last_of(in_pass(first, job))
        # As if it had been killed before it could write down that it has started the driver.
        claimed = update(jobs).values(stage="claimed").where(jobs.c.id == job)
        first.runner.pause()
        first.database.writer.write(lambda turn: turn.change(claimed))
    assert attempt.is_alive(attempt.record.now())
    with Service(settings) as second:
        passes = in_pass(second, job).phase["passes_done"]
        assert in_pass(second, job, passes + 2).attempt == 1
        assert second.index.job(waiting[1]).place == 1
        second.index.wish(job, "stop")
        row = end_of(second, job)
        assert (row.state, row.attempt) == ("done", 1)
        for each in waiting:
            second.index.wish(each, "cancel")
            assert end_of(second, each).state == "cancelled"


def attempt_of(out: Path, number: int) -> Attempt:
    """That attempt, when it has begun."""
    record = Record(out)
    until(lambda: number in record.attempt_numbers())
    return Attempt(record, number)


def test_a_lost_driver_is_replaced_but_not_for_ever(
    service: Service, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transitions, "_FIRST_PAUSE_SECONDS", 0.01)
    job = add(service, new(data, "u", terms={"attempts": 2}, **ENDLESS))
    kill(last_of(in_pass(service, job)))  # a pass was finished: this is the first of two tries in vain
    kill(attempt_of(data.parent / "u", 2))
    row = end_of(service, job)
    assert (row.state, row.attempt) == ("failed", 2)
    assert row.error is not None
    assert row.error["code"] == "E_INTERRUPTED"
    assert Job(row.out).status.state == "failed"
    resumed = service.index.wish(job, "resume")
    assert (resumed.state, resumed.error) == ("queued", None)
    until(lambda: service.index.job(job).attempt == 4)
    service.index.wish(job, "stop")
    row = end_of(service, job)
    assert (row.state, row.error) == ("done", None)


def files_below(folder: Path) -> dict[Path, int]:
    """When each file was written last."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_cancelled_is_said_when_the_last_lane_has_stopped(service: Service, data: Path) -> None:
    job = add(service, new(data, "u", **ENDLESS))
    attempt = last_of(in_pass(service, job))
    asked = service.index.wish(job, "cancel")
    assert asked.state in ("running", "cancelled")
    row = end_of(service, job)
    assert (row.state, row.error and row.error["code"]) == ("cancelled", "E_CANCELLED")
    assert attempt.why == "cancelled"
    left = files_below(data.parent / "u.scratch")
    until(lambda: attempt.process is not None and attempt.process.has_ended)
    assert files_below(data.parent / "u.scratch") == left  # nothing was written any more
    assert (data.parent / "u.scratch").exists()
    service.index.wish(job, "resume")
    until(lambda: service.index.job(job).attempt == 2)
    service.index.wish(job, "stop")
    row = end_of(service, job)
    assert (row.state, row.attempt) == ("done", 2)
    begun = [event for event in Job(row.out).events() if event["event"] == "plan"]
    assert begun[1]["passes_done"] >= 1


def test_a_cancelled_job_leaves_nothing_where_that_is_wished(
    service: Service, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, other = (add(service, new(data, name, **ENDLESS)) for name in "uv")
    in_pass(service, job)
    service.index.wish(job, "cancel", drop=True)
    assert end_of(service, job).state == "cancelled"
    assert not (data.parent / "u.scratch").exists()
    monkeypatch.setattr(reconciler, "_DROP_SECONDS", 0.0)
    in_pass(service, other)
    service.index.wish(other, "cancel")
    end_of(service, other)
    lock = RunLock(Place.of(data.parent / "v").lock, "v")
    lock.acquire()
    service.index.wish(other, "cancel", drop=True)
    until(lambda: "its scratch is kept" in service.index.job(other).reason)
    lock.release()
    service.index.wish(other, "cancel", drop=True)
    until(lambda: not (data.parent / "v.scratch").exists())
    assert service.index.job(other).state == "cancelled"


def test_a_record_that_is_gone_or_damaged_ends_the_job(
    service: Service, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "LEASE_SECONDS", 0.5)
    damaged = add(service, new(data, "u", **ENDLESS))
    in_pass(service, damaged)
    (data.parent / "u.job" / "job.json").write_text("{}")
    kill(last_of(service.index.job(damaged)))
    assert "damaged" in message(end_of(service, damaged))
    folder = data.parent / "folder"
    folder.mkdir()
    gone = add(service, new(data, "folder/v", **ENDLESS))
    in_pass(service, gone)
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    assert "is gone" in message(end_of(service, gone))


def message(row: JobRow) -> str:
    assert (row.state, row.error is None) == ("failed", False)
    return str((row.error or {})["message"])


def test_a_cluster_that_was_started_anew_is_given_its_jobs_again(
    settings: Settings, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "_CLUSTER_SECONDS", 0.5)
    handed = []
    with worker_processes(1) as client, Service(replace(settings, scheduler=address_of(client))) as service:
        hand_over = launch._start_on_cluster

        def lost_at_first(*given: Any) -> None:
            handed.append(given)
            if len(handed) > 1:
                hand_over(*given)

        monkeypatch.setattr(launch, "_start_on_cluster", lost_at_first)
        row = end_of(service, add(service, new(data, "u")))
        assert (row.state, row.attempt) == ("done", 1)
        assert Record(row.out).asked().terms.memory_bytes is None
    assert len(handed) > 1


def address_of(client: Any) -> str:
    return str(client.scheduler.address)


def test_what_the_data_show_to_be_impossible_is_said(service: Service, data: Path) -> None:
    wrong = add(service, new(data, "u", k=5_000))
    row = end_of(service, wrong)
    assert (row.state, (row.error or {})["code"]) == ("failed", "E_K")
    nowhere = add(service, new(data, "v", source=data.parent / "nowhere"))
    assert (end_of(service, nowhere).error or {})["code"] == "E_SOURCE"


def test_a_result_that_another_submission_has_made_is_this_job_s_too(service: Service, data: Path) -> None:
    bigsvd.submit(data, 4, data.parent / "u", **EASY).wait(LIMIT_SECONDS)
    row = end_of(service, add(service, new(data, "u")))
    assert (row.state, row.attempt) == ("done", 1)
    other = add(service, new(data, "u", k=5))
    assert (end_of(service, other).error or {})["code"] == "E_OUTPUT_EXISTS"


def test_a_record_that_is_lost_after_the_result_was_published_loses_no_job(
    service: Service, data: Path
) -> None:
    row = end_of(service, add(service, new(data, "u")))
    assert open_factors(row.out).provenance["request"]["memory"] is not None
    shutil.rmtree(Record(row.out).folder)
    with service.database.reading() as turn:
        known = turn.first(select(jobs).where(jobs.c.id == row.id))
    assert known is not None
    assert Reconciler().look(known | {"stage": "begun"})["state"] == "done"
    other = known["request"] | {"k": 5}
    assert "state" not in Reconciler().look(known | {"stage": "begun", "request": other})


def test_a_job_that_another_has_submitted_is_left_alone(service: Service, data: Path) -> None:
    theirs = bigsvd.submit(data, 4, data.parent / "u", **ENDLESS)
    row = end_of(service, add(service, new(data, "u", **ENDLESS)))
    assert (row.state, (row.error or {})["code"]) == ("failed", "E_OUTPUT_BUSY")
    assert theirs.status.asked.id == theirs.id
    theirs.cancel()


def test_paths_are_checked_again_when_they_are_used(settings: Settings, data: Path) -> None:
    root = data.parent / "root"
    (root / "before").mkdir(parents=True)
    (root / "after").symlink_to("before")
    (root / "a.zarr").symlink_to(data)
    with Service(replace(settings, roots=(root,))) as service:
        outside, moved = new(root / "a.zarr", "u"), new(root / "a.zarr", "after/u", source=root / "before")
        assert "outside" in message(end_of(service, add(service, outside)))
        assert "leads to" in message(end_of(service, add(service, moved)))
    assert not list(root.rglob("*.job"))
