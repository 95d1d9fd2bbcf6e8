"""Jobs: their records, what may be asked of them, and what becomes of them when processes die."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import zarr

import bigsvd
from bigsvd import solve
from bigsvd.errors import (
    BigsvdError,
    CancelledError,
    JobError,
    JobLostError,
    NonFiniteError,
    NoWorkersError,
    OutputBusyError,
    OutputExistsError,
    RequestError,
    RuntimeLimitError,
    SourceError,
    StorageError,
    SupersededError,
)
from bigsvd.events import Certified, Event, WaitingForCluster, unheard
from bigsvd.jobs import driver as driving
from bigsvd.jobs.attempt import LEASE_SECONDS, Attempt
from bigsvd.jobs.driver import Driver, Tries
from bigsvd.jobs.files import append_line, create_json, read_json, shorten, write_json
from bigsvd.jobs.index import below, of_this_user
from bigsvd.jobs.job import Job
from bigsvd.jobs.launch import Secrets
from bigsvd.jobs.record import Launch, Record, Terms
from bigsvd.jobs.recorder import Recorder
from bigsvd.jobs.status import status_of
from bigsvd.jobs.submit import take_in
from bigsvd.jobs.tail import Tail
from bigsvd.paths import now_at
from bigsvd.planning.plan import Plan
from bigsvd.process import Process
from bigsvd.request import Request
from bigsvd.results.store import mark_of
from bigsvd.sources.open import open_source
from tests.commands import done, refused, run
from tests.waiting import wait_until

LIMIT_SECONDS = 120
NOISE = np.random.default_rng(0).standard_normal((2_000, 1_600)).astype(np.float32)
EASY: dict[str, Any] = {"method": "krylov", "memory": 200_000_000}
# Of noise no pass reaches this tolerance: such a run goes on until it is told to end.
ENDLESS: dict[str, Any] = {**EASY, "tol": 1e-14, "max_passes": 2_000}
HANDLED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ids of jobs in a folder of the test's own; no driver outlives the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    for record in below(tmp_path):
        last = Attempt.last_of(record)
        for number in range(1, 1 + (0 if last is None else last.number)):
            process = Attempt(record, number).process
            if process is not None and process.pid != os.getpid():
                end_process(process.pid)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("noise") / "a.zarr"
    zarr.create_array(str(path), data=NOISE, chunks=(100, 1_600))
    return path


@pytest.fixture
def data(noise: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(noise, tmp_path / "a.zarr"))


def end_process(pid: int, number: int = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def until(true: Callable[[], Any]) -> Any:
    return wait_until(true, LIMIT_SECONDS, "the state has come")


def in_pass(job: Job, number: int) -> JobDriver:
    """Wait until the job is in that pass; its driver."""
    until(lambda: job.status.state == "running" and job.status.phase.passes_done >= number - 1 > 0)
    last = Attempt.last_of(job.record)
    assert last is not None
    assert last.process is not None
    return JobDriver(last.process.pid)


class JobDriver:
    """The process that drives a job."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def end(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, and wait until it is gone."""
        end_process(self.pid, number)
        until(lambda: not psutil.pid_exists(self.pid) or is_dead(self.pid))


def is_dead(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def same_bits(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(np.asarray(getattr(one, name)[...]), np.asarray(getattr(other, name)[...]))
        for name in ("U", "s", "Vt")
    )


def undisturbed(job: Job, out: Path) -> Any:
    """The result of the plan that the job began with, by one run."""
    begun = next(event for event in job.events() if event["event"] == "plan")
    plan = Plan.from_dict(begun["plan"])
    request = replace(plan.request, out=str(out))
    return solve.run(request, open_source(request.source, **request.reading), plan=plan)


def record_of(data: Path, out: Path, terms: Terms | None = None, **options: Any) -> Record:
    """The record of a job that was submitted and that nobody drives yet."""
    request = Request.of(str(data), 4, out=str(out), **EASY | options)
    job, waits = take_in(request, terms or Terms(), secrets={})
    assert waits
    return job.record


def driver_of(record: Record) -> Driver:
    return Driver(record, Launch(), {}, unheard)


def test_what_has_come_to_an_output_since_a_job_was_taken_in_is_not_overwritten(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "u"
    record = record_of(data, out, Terms(replaces=""), overwrite=True)
    bigsvd.svd(data, 2, out, **EASY)
    with pytest.raises(OutputExistsError, match="another result has come"):
        driver_of(record).drive()
    with pytest.raises(OutputExistsError, match="another result has come"):
        take_in(replace(record.asked().request, tol=0.5), Terms(replaces=""), secrets={})
    assert bigsvd.open(out).k == 2
    known = record_of(data, out, Terms(replaces=mark_of(out)), overwrite=True)
    known.hand_to(Launch())
    assert driver_of(known).drive().k == 4


def test_to_overwrite_gives_up_passes_of_another_request_where_no_result_is(
    data: Path, tmp_path: Path
) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Certified) and event.passes == 2:
            raise KeyboardInterrupt

    out = tmp_path / "u"
    with pytest.raises(KeyboardInterrupt):
        bigsvd.svd(data, 3, out, progress=interrupt, **ENDLESS)
    record = record_of(data, out, Terms(replaces=""), overwrite=True)
    record.hand_to(Launch())
    assert driver_of(record).drive().k == 4


def test_the_same_request_is_the_same_job_until_it_is_done(data: Path, tmp_path: Path) -> None:
    job = bigsvd.submit(data, 4, tmp_path / "u", **ENDLESS)
    process = in_pass(job, 2)
    assert bigsvd.submit(data, 4, tmp_path / "u", **ENDLESS).id == job.id
    with pytest.raises(OutputBusyError, match=job.id):
        bigsvd.submit(data, 5, tmp_path / "u", **ENDLESS)
    with pytest.raises(JobError, match="is at work"):
        job.resume()
    with pytest.raises(RuntimeLimitError, match=r"pass \d+ of about"):
        job.wait(0.1)
    job.cancel()
    with pytest.raises(CancelledError):
        job.wait(LIMIT_SECONDS)
    until(lambda: is_dead(process.pid))
    assert not job.out.exists()
    again = bigsvd.submit(data, 4, tmp_path / "u", **ENDLESS)
    assert again.id == job.id
    in_pass(again, 3).end(signal.SIGUSR1)
    assert not job.wait(LIMIT_SECONDS).certificate.converged
    ended = bigsvd.submit(data, 4, tmp_path / "u", **ENDLESS)
    assert (ended.id, ended.status.state, ended.status.attempt) == (job.id, "done", 2)
    with pytest.raises(JobError, match="nothing to stop"):
        job.stop()
    with pytest.raises(JobError, match="is done"):
        job.resume()
    with pytest.raises(OutputExistsError):
        bigsvd.submit(data, 5, tmp_path / "u", **EASY)


def test_a_job_whose_drivers_end_loses_nothing_even_if_it_is_moved(data: Path, tmp_path: Path) -> None:
    job = bigsvd.submit(data, 4, tmp_path / "u", **{**ENDLESS, "max_passes": 9})
    in_pass(job, 2).end(signal.SIGTERM)
    told_to = job.status
    assert (told_to.state, told_to.error and told_to.error.code) == ("interrupted", "E_INTERRUPTED")
    job.resume()
    in_pass(job, 4).end()  # the third pass may have ended and not be recorded yet
    killed = job.status
    assert (killed.state, "has ended" in killed.reason) == ("interrupted", True)
    with pytest.raises(JobError, match="resume it first"):
        job.stop()
    with pytest.raises(JobLostError, match="bigsvd resume"):
        job.wait(LIMIT_SECONDS)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("u.job", "u.scratch"):
        (tmp_path / name).rename(moved / name)
    again = Job(moved / "u")
    again.resume()
    resumed = again.wait(LIMIT_SECONDS)
    assert (resumed.path, again.status.attempt) == (moved / "u", 3)
    assert not (tmp_path / "u").exists()
    plans = [event for event in again.events() if event["event"] == "plan"]
    assert [plan["passes_done"] >= plan["attempt"] - 1 for plan in plans] == [True] * 3
    assert same_bits(resumed, undisturbed(again, tmp_path / "v"))


def test_a_user_without_a_name_has_a_number(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs as some user, of whom its system knows nothing."""

    def nobody(number: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    record = record_of(data, tmp_path / "u")
    assert record.asked().owner == str(os.getuid())
    for name in ("XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    homeless = record_of(data, tmp_path / "v")
    assert list(of_this_user()) == []
    with pytest.raises(JobError, match="by this user"):
        Job(homeless.asked().id)
    Job(homeless.out).cancel()
    Job(homeless.out).forget()
    assert not homeless.folder.exists()


def test_a_job_that_was_just_cancelled_is_resumed_when_its_driver_has_ended(
    data: Path, tmp_path: Path
) -> None:
    job = bigsvd.submit(data, 4, tmp_path / "u", **{**ENDLESS, "max_passes": 4})
    in_pass(job, 2)
    job.cancel()
    job.resume()
    assert job.wait(LIMIT_SECONDS).k == 4
    assert job.status.attempt == 2


def test_a_job_without_a_driver_is_cancelled_at_once(data: Path, tmp_path: Path) -> None:
    record = record_of(data, tmp_path / "u")
    job = Job(record.out)
    job.cancel(drop=True)
    assert job.status.state == "cancelled"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"k": 0}, BigsvdError),
        ({"source": "nowhere.zarr"}, SourceError),
        ({"source": NOISE}, RequestError),
        ({"weights": NOISE[0]}, RequestError),
        ({"attempts": 0}, JobError),
        ({"max_runtime": -1.0}, JobError),
        ({"max_runtime": np.inf}, JobError),
        ({"out": "x" * 300}, RequestError),
        ({"out": "a\0b"}, RequestError),
        ({"out": "/"}, RequestError),
        ({"name": "two\nlines"}, RequestError),
        ({"labels": {"colour": "\x1b[31m"}}, RequestError),
    ],
)
def test_what_can_be_refused_is_refused_before_there_is_a_record(
    data: Path, tmp_path: Path, given: dict[str, Any], error: type[BigsvdError]
) -> None:
    options = {"source": data, "k": 4, "out": tmp_path / "u", **EASY, **given}
    with pytest.raises(error):
        bigsvd.submit(**options)
    assert list(below(tmp_path)) == []


def test_a_job_has_no_more_than_its_time(data: Path, tmp_path: Path) -> None:
    record = record_of(data, tmp_path / "u", Terms(max_runtime_seconds=1.0), **ENDLESS)
    with pytest.raises(RuntimeLimitError, match="max_runtime=1"):
        driver_of(record).drive()
    assert status_of(record).state == "failed"


def test_an_error_of_the_data_ends_the_job(tmp_path: Path) -> None:
    bad = NOISE.copy()
    bad[7, 9] = np.nan
    zarr.create_array(str(tmp_path / "b.zarr"), data=bad, chunks=(100, 1_600))
    record = record_of(tmp_path / "b.zarr", tmp_path / "u")
    with pytest.raises(NonFiniteError):
        driver_of(record).drive()
    status = status_of(record)
    assert (status.state, status.attempt) == ("failed", 1)
    assert status.error is not None
    assert status.error.code == "E_NONFINITE"
    with pytest.raises(NonFiniteError, match="row 7"):
        Job(record.out).wait(1.0)


def test_errors_of_the_cluster_are_attempts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two in a row, then a run; a job that has fewer left fails by the last."""
    monkeypatch.setattr(driving, "_FIRST_PAUSE_SECONDS", 0.01)
    failures = iter([True, True, False] + [True] * 3)

    def failing(*args: Any, **options: Any) -> Any:
        if next(failures):
            raise NoWorkersError("0 workers after 1 s where 1 is needed", "start one")
        return solve.run(*args, **options)

    monkeypatch.setattr(driving, "run", failing)
    record = record_of(data, tmp_path / "u")
    assert driver_of(record).drive().k == 4
    assert status_of(record).attempt == 3
    assert [Attempt(record, number).why for number in (1, 2, 3)] == [
        "infrastructure",
        "infrastructure",
        "done",
    ]
    scarce = record_of(data, tmp_path / "v", Terms(attempts=2))
    with pytest.raises(NoWorkersError):
        driver_of(scarce).drive()
    assert status_of(scarce).state == "failed"
    assert status_of(scarce).attempt == 2


def test_attempts_are_counted_anew_after_a_finished_pass() -> None:
    tries = Tries().after(OSError("first"), 0).after(OSError("second"), 0)
    assert (tries.failed, tries.pause_seconds) == (2, 2.0)
    assert tries.after(OSError("third"), 1).failed == 1


def test_a_result_that_nobody_lived_to_announce_is_found(data: Path, tmp_path: Path) -> None:
    record = record_of(data, tmp_path / "u")
    published = bigsvd.svd(data, 4, tmp_path / "u", **EASY)
    stamp = (record.out / "zarr.json").stat().st_mtime_ns
    factors = driver_of(record).drive()
    assert same_bits(factors, published)
    assert (record.out / "zarr.json").stat().st_mtime_ns == stamp
    assert status_of(record).state == "done"


def test_a_result_that_nobody_lived_to_announce_is_found_when_the_job_is_submitted_again(
    data: Path, tmp_path: Path
) -> None:
    record = record_of(data, tmp_path / "u")
    driver_of(record).drive()
    attempt = Attempt(record, 1)
    attempt.ended.unlink()  # as if it had been killed just before
    facts = attempt.facts
    facts["process"]["started"] = 0.0
    write_json(attempt.file, facts)
    published = (record.out / "zarr.json").stat().st_mtime
    os.utime(attempt.file, (published - 1,) * 2)  # it was begun before
    again, waits = take_in(record.asked().request, Terms(attempts=2), secrets={})
    assert (again.id, waits) == (record.asked().id, True)
    assert driver_of(record).drive().k == 4
    assert status_of(record).state == "done"


def test_no_folder_of_somebody_elses_is_taken_for_a_record(data: Path, tmp_path: Path) -> None:
    precious = tmp_path / "u.job" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("ten years")
    with pytest.raises(OutputExistsError, match="no record of a job"):
        bigsvd.submit(data, 4, tmp_path / "u", **EASY)
    (tmp_path / "v.job").write_text("a file")
    with pytest.raises(OutputExistsError, match="no record of a job"):
        bigsvd.submit(data, 4, tmp_path / "v", **EASY)
    (tmp_path / "w.job").symlink_to(precious.parent)
    with pytest.raises(OutputExistsError, match="no record of a job"):
        bigsvd.submit(data, 4, tmp_path / "w", **EASY)
    assert precious.read_text() == "ten years"
    assert (tmp_path / "v.job").read_text() == "a file"


def test_what_somebody_has_put_into_a_record_stays(data: Path, tmp_path: Path) -> None:
    record = record_of(data, tmp_path / "u")
    driver_of(record).drive()
    notes = record.folder / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(OutputExistsError, match=r"also holds notes\.txt"):
        bigsvd.submit(data, 5, tmp_path / "u", overwrite=True, **EASY)
    with pytest.raises(OutputExistsError, match=r"also holds notes\.txt"):
        Job(record.out).forget()
    assert run("prune", tmp_path, "--older-than", 0).code == 0
    assert notes.read_text() == "mine"
    notes.unlink()
    Job(record.out).forget()
    assert not record.folder.exists()


def test_of_many_who_submit_at_a_time_each_has_its_job_or_is_refused(data: Path, tmp_path: Path) -> None:
    """No record is replaced by that of somebody who was a moment later."""
    record = record_of(data, tmp_path / "u")
    driver_of(record).drive()
    barrier = threading.Barrier(8)
    got: list[tuple[int, str]] = []
    refused: list[int] = []

    def submit(number: int) -> None:
        rank = 5 + number % 2
        request = Request.of(str(data), rank, out=str(tmp_path / "u"), overwrite=True, **EASY)
        barrier.wait()
        try:
            got.append((rank, take_in(request, Terms(), secrets={})[0].id))
        except OutputBusyError:
            refused.append(rank)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner = record.asked()
    assert {job for _, job in got} == {winner.id}
    assert {rank for rank, _ in got} == {winner.request.k}
    assert len(got) + len(refused) == 8
    assert sum(rank != winner.request.k for rank in refused) == 4  # a twin of the winner may come too soon
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "state", "u", "u.job"]


def test_what_a_killed_submission_has_left_is_swept_by_the_next(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr("bigsvd.jobs.record.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            record_of(data, tmp_path / "u")
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".u.job")]
    record_of(data, tmp_path / "u")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".u.job")]


def test_a_request_is_the_same_however_its_paths_are_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, matrix in ((here, NOISE), (there, -2 * NOISE)):
        folder.mkdir()
        zarr.create_array(str(folder / "a.zarr"), data=matrix, chunks=(100, 1_600))
    monkeypatch.chdir(here)
    record = record_of(Path("a.zarr"), Path("u"))
    for source, out in (("a.zarr", "./u"), (str(here / "a.zarr"), str(here / "u")), ("../here/a.zarr", "u")):
        again, _ = take_in(Request.of(source, 4, out=out, **EASY), Terms(), secrets={})
        assert again.id == record.asked().id
    monkeypatch.chdir(there)
    with pytest.raises(OutputBusyError, match="of another request"):
        bigsvd.submit("a.zarr", 4, here / "u", **EASY)


def test_an_output_may_be_named_as_records_are(data: Path, tmp_path: Path) -> None:
    record = record_of(data, tmp_path / "u.job")
    assert record.folder.name == "u.job.job"
    for name in ("u.job", "u.job/", "u.job.job", "u.job.job/"):
        assert Job(f"{tmp_path}/{name}").out == tmp_path / "u.job"
    assert [found.out.name for found in below(tmp_path)] == ["u.job"]


@pytest.mark.parametrize("name", ["", "/", ".job", "..", "x" * 300, "a\0b", "f" * 10])
def test_what_names_no_job_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JobError):
        Job(name)


def test_a_record_that_may_not_be_looked_at_hides_no_other(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, shared = record_of(data, tmp_path / "u"), record_of(data, tmp_path / "v")
    exists = Path.exists

    def denied(path: Path) -> bool:
        if path == private.job:
            raise PermissionError(13, "Permission denied")
        return exists(path)

    monkeypatch.setattr(Path, "exists", denied)
    assert [record.out for record in below(tmp_path)] == [private.out, shared.out]
    assert status_of(shared).state == "queued"
    with pytest.raises(JobError, match="cannot be looked at"):
        Job(private.out)


def test_a_record_of_another_version_is_read_as_none(data: Path, tmp_path: Path) -> None:
    record = record_of(data, tmp_path / "u")
    write_json(record.job, read_json(record.job) | {"version": 2})
    with pytest.raises(JobError, match=r"another version \(2, here 1\)"):
        status_of(record)
    with pytest.raises(OutputBusyError, match="another version"):
        bigsvd.submit(data, 4, record.out, **EASY)


def test_a_job_that_could_not_be_handed_over_says_so_and_can_be_submitted_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigsvd.execution.cluster._CONNECT_SECONDS", 0.3)
    with pytest.raises(NoWorkersError):
        bigsvd.submit(data, 4, tmp_path / "u", scheduler="tcp://127.0.0.1:9", **EASY)
    status = Job(tmp_path / "u").status
    assert (status.state, status.reason) == ("interrupted", "no driver could be started")
    assert status.error is not None
    assert status.error.code == "E_NO_WORKERS"
    again = bigsvd.submit(data, 4, tmp_path / "u", **EASY)
    assert again.id == status.asked.id
    assert again.wait(LIMIT_SECONDS).k == 4


def test_a_job_that_no_worker_has_begun_is_handed_over_again(data: Path, tmp_path: Path) -> None:
    """Its scheduler may be gone, or whoever submitted it was killed before that knew of it."""
    record = record_of(data, tmp_path / "u")
    record.hand_to(Launch("tcp://nowhere:8786"))
    request = record.asked().request
    job, waits = take_in(request, Terms(), secrets={})
    assert (job.id, waits) == (record.asked().id, True)
    attempt = Attempt.begin(record)
    assert attempt is not None
    assert not take_in(request, Terms(), secrets={})[1]


def test_a_driver_that_comes_after_the_job_was_cancelled_leaves_it(data: Path, tmp_path: Path) -> None:
    record = record_of(data, tmp_path / "u")
    record.hand_to(Launch())
    Job(record.out).cancel(drop=True)
    with pytest.raises(JobError, match="is cancelled since"):
        driver_of(record).drive()
    assert status_of(record).state == "cancelled"
    assert not (tmp_path / "u.scratch").exists()
    record.withdraw()
    record.hand_to(Launch())
    assert driver_of(record).drive().k == 4


def test_a_wish_that_came_before_the_driver_is_heeded_before_anything_is_done(
    data: Path, tmp_path: Path
) -> None:
    record = record_of(data, tmp_path / "u")
    record.ask(record.cancel)
    with pytest.raises(CancelledError):
        driver_of(record).drive()
    assert status_of(record).state == "cancelled"
    assert not (tmp_path / "u").exists()
    assert not (tmp_path / "u.scratch").exists()


def test_a_job_that_goes_on_at_once_is_not_what_it_was(data: Path, tmp_path: Path) -> None:
    """Where the file system's clock gives the end and the next launch one date."""
    record = record_of(data, tmp_path / "u")
    job = Job(record.out)
    job.cancel()
    record.withdraw()
    record.hand_to(Launch())
    last = Attempt.last_of(record)
    assert last is not None
    for file in (last.file, last.heartbeat, last.ended, record.launched):
        os.utime(file, (now_at(record.folder),) * 2)
    date = record.launched.stat().st_mtime
    os.utime(last.ended, (date, date))
    assert job.status.state == "queued"


def test_a_disk_that_fails_for_a_moment_costs_no_heartbeat(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(data, tmp_path / "u")
    attempt = Attempt.begin(record)
    assert attempt is not None
    failures = iter(range(2))
    check = Attempt.check

    def failing(self: Attempt) -> None:
        if threading.current_thread() is not threading.main_thread() and next(failures, None) is not None:
            raise OSError(116, "Stale file handle")
        check(self)

    monkeypatch.setattr(Attempt, "check", failing)
    with Recorder(attempt, Terms(), unheard) as recorder:
        until(lambda: next(failures, None) is None)
        record.ask(record.cancel)
        until(lambda: recorder._ending is not None)


def test_storage_options_are_in_no_argument_that_a_log_shows(data: Path, tmp_path: Path) -> None:
    hidden = Secrets({"secret": "hunter2"})
    assert "hunter2" not in f"{hidden} {hidden!r} {(hidden,)}"
    with pytest.raises(RequestError, match="another process"):
        bigsvd.submit(data, 4, tmp_path / "u", storage_options={"session": object()}, **EASY)
    assert list(below(tmp_path)) == []


def test_whoever_follows_a_log_reads_its_last_words(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(data, tmp_path / "u")
    record.log.write_text("first words\n")

    def status(job: Job) -> Any:
        """The job ends while it is looked at."""
        if Attempt.last_of(record) is None:
            record.log.write_text("first words\nlast words\n")
            job.cancel()
        return status_of(job.record)

    with monkeypatch.context() as ending:
        ending.setattr(Job, "_refuse_ended", lambda *_: None)
        ending.setattr(Job, "status", property(status))
        assert done("logs", record.out, "--follow").out == "first words\nlast words\n"


def test_one_of_many_drivers_takes_the_attempt(data: Path, tmp_path: Path) -> None:
    record = record_of(data, tmp_path / "u")
    got: list[Attempt | None] = []
    barrier = threading.Barrier(8)

    def begin() -> None:
        barrier.wait()
        got.append(Attempt.begin(record))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [attempt.number for attempt in got if attempt is not None]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert [attempt.superseded for attempt in got if attempt is not None].count(False) == 1
    with pytest.raises(JobError, match="is at work"):
        driver_of(record).drive()


def test_a_job_that_waits_for_another_says_so_and_can_be_cancelled(data: Path, tmp_path: Path) -> None:
    record = record_of(data, tmp_path / "u")
    attempt = Attempt.begin(record)
    assert attempt is not None
    with Recorder(attempt, Terms(), unheard) as recorder:
        recorder(WaitingForCluster("/x/other", 2))
        status = status_of(record)
        assert (status.state, status.reason) == (
            "queued",
            "waits for /x/other, which has the cluster, as number 2 in line",
        )
        assert not recorder.should_stop()
        record.ask(record.cancel)
        until(lambda: recorder._ending is not None)
        with pytest.raises(CancelledError):
            recorder.should_stop()


def test_an_attempt_that_was_superseded_writes_nothing_more(data: Path, tmp_path: Path) -> None:
    record = record_of(data, tmp_path / "u")
    old = Attempt.begin(record)
    assert old is not None
    with Recorder(old, Terms(), unheard) as recorder:
        recorder.wait_for("old")
        new = Attempt.begin(record)
        assert new is not None
        with pytest.raises(SupersededError):
            recorder.wait_for("after the other")
        with pytest.raises(SupersededError):
            recorder.close("done")
        until(lambda: recorder._ending is not None)
    assert read_json(record.phase)["doing"] == "old"
    assert not old.ended.exists()
    record.remove()
    assert new.superseded


def test_a_driver_that_was_frozen_beyond_its_lease_leaves_the_job_to_the_next(
    data: Path, tmp_path: Path
) -> None:
    options = {**ENDLESS, "max_passes": 9}
    job = bigsvd.submit(data, 4, tmp_path / "u", **options)
    frozen = in_pass(job, 2)
    end_process(frozen.pid, signal.SIGSTOP)
    until(lambda: job.status.state == "interrupted")
    assert "silent for" in job.status.reason
    job.resume()
    in_pass(job, 4)
    end_process(frozen.pid, signal.SIGCONT)
    until(lambda: is_dead(frozen.pid))
    assert "E_SUPERSEDED" in job.log()
    assert same_bits(job.wait(LIMIT_SECONDS), undisturbed(job, tmp_path / "v"))
    events = list(job.events())
    taken_over = next(place for place, event in enumerate(events) if event["attempt"] == 2)
    assert all(event["attempt"] == 2 for event in events[taken_over:])


def test_a_driver_elsewhere_is_known_by_its_heartbeat_alone(data: Path, tmp_path: Path) -> None:
    """Whatever its host's clock says, and this one's."""
    record = record_of(data, tmp_path / "u")
    record.hand_to(Launch("tcp://nowhere:8786"))
    attempt = Attempt.begin(record)
    assert attempt is not None
    facts = attempt.facts
    facts["process"]["machine"] = "elsewhere pid:[1]"
    write_json(attempt.file, facts)
    now = now_at(record.folder)
    assert status_of(record, now).state == "queued"
    assert status_of(record, now + LEASE_SECONDS - 1).state == "queued"
    late = status_of(record, now + LEASE_SECONDS + 1)
    assert late.state == "interrupted"
    assert re.search(r"silent for \d+ s, and the cluster starts another if it can$", late.reason)
    assert now == pytest.approx(time.time(), abs=2.0)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux counts from the start of the machine")
def test_a_clock_that_is_set_ends_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Process.here()
    boot_time = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot_time - 3600)
    assert psutil.Process().create_time() < time.time() - 3000
    assert not before.has_ended


def test_a_driver_that_never_began_is_no_queue(data: Path, tmp_path: Path) -> None:
    record = record_of(data, tmp_path / "u")
    record.hand_to(Launch())
    now = now_at(record.folder)
    assert status_of(record, now).state == "queued"
    assert status_of(record, now + 60).state == "interrupted"
    record.hand_to(Launch("tcp://nowhere:8786"))
    assert status_of(record, now + 60).reason == "waits for a worker of tcp://nowhere:8786"


def test_a_torn_file_costs_that_file_alone(data: Path, tmp_path: Path) -> None:
    record = record_of(data, tmp_path / "u")
    driver_of(record).drive()
    for content in ("", "{", "[]", "null", "\x00\x01"):
        for file in (record.phase, record.launched, record.events, Attempt(record, 1).file):
            file.write_text(content)
            os.utime(file, (0, 0))  # it was torn long ago
            assert status_of(record).state == "done"
        assert Tail(record).new() == []
    for content in ("", "{", "[]", "null", "\x00\x01"):
        record.job.write_text(content)
        with pytest.raises(JobError, match="damaged"):
            status_of(record)
    row = done("jobs", tmp_path, "--json").facts[0]
    assert row["state"] == "damaged"


def test_files_are_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert create_json(tmp_path / "x", {"a": 1})
    assert not create_json(tmp_path / "x", {"a": 2})
    assert read_json(tmp_path / "x") == {"a": 1}
    write_json(tmp_path / "x", {"a": 3})
    assert read_json(tmp_path / "x") == {"a": 3}

    def no_links(*_: object, **__: object) -> None:
        raise OSError(95, "not supported")

    link = os.link

    def answered_twice(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError

    with monkeypatch.context() as retried:
        retried.setattr(os, "link", answered_twice)
        assert create_json(tmp_path / "z", {"a": 1})
    (tmp_path / "z").unlink()
    monkeypatch.setattr(os, "link", no_links)
    assert create_json(tmp_path / "y", {"a": 1})
    assert not create_json(tmp_path / "y", {"a": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]


def test_events_and_logs_do_not_grow_for_ever(tmp_path: Path) -> None:
    record = Record(tmp_path / "u")
    record.folder.mkdir()
    for number in range(100):
        append_line(record.events, {"number": number}, 400)
    numbers = [line["number"] for line in Tail(record).new()]
    assert numbers == list(range(numbers[0], 100))
    assert 10 < len(numbers) < 70
    with (tmp_path / "log").open("a") as log:  # as a driver has it
        for number in range(1000):
            log.write(f"line {number}\n")
            log.flush()
            shorten(tmp_path / "log", 1_000)
    text = (tmp_path / "log").read_text()
    assert len(text) <= 1_100
    assert text.startswith("(what was here")
    assert text.endswith("line 999\n")
    assert "\0" not in text


def test_a_disk_that_takes_no_record_refuses_the_job(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bigsvd.jobs.record.write_json", full)
    with pytest.raises(StorageError, match="No space left"):
        bigsvd.submit(data, 4, tmp_path / "u", **EASY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr"]


def test_a_full_disk_is_not_filled_with_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (write_json, create_json):
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path / "x", {"a": 1})
    assert list(tmp_path.iterdir()) == []


def test_the_state_of_a_thousand_jobs_is_seen_without_any_process(data: Path, tmp_path: Path) -> None:
    """A quarter of them here; `benchmarks faults` measures all."""
    record = record_of(data, tmp_path / "u0")
    driver_of(record).drive()
    for number in range(1, 250):
        other = Record(tmp_path / f"u{number}")
        shutil.copytree(record.folder, other.folder)
    start = time.perf_counter()
    states = [status_of(found).state for found in below(tmp_path)]
    took = time.perf_counter() - start
    assert states == ["done"] * 250
    assert took < 1.0


class TestCommands:
    """The verbs as they are typed."""

    def test_a_first_trial(self, data: Path, tmp_path: Path) -> None:
        """What it computes is what `svd` would have."""
        words = ("--method", "krylov", "--name", "first", "--label", "lab=blue", "--json")
        submitted = done("submit", data, tmp_path / "u", "-k", 4, *words)
        assert submitted.facts["state"] == "queued"
        job = Job(submitted.facts["id"])
        assert done("wait", job.id, "--json").facts["k"] == 4
        assert same_bits(bigsvd.open(job.out), undisturbed(job, tmp_path / "v"))
        told = done("status", job.out).out
        assert told.startswith(f"{job.id}  done\n")
        assert f"next    bigsvd info {job.out}" in told
        assert "tolerance reached" in told
        assert done("status", job.out, "--watch").out.count("\n") == 1
        facts = done("status", job.id, "--json").facts
        assert (facts["name"], facts["labels"], facts["k"]) == ("first", {"lab": "blue"}, 4)
        assert (facts["attempt"], facts["error"]) == (1, None)
        heading, line = done("jobs", tmp_path).out.splitlines()
        assert heading.split() == ["id", "state", "submitted", "name", "out", "progress"]
        assert line.split()[:2] == [job.id, "done"]
        assert str(job.out) in done("jobs", "--state", "done").out
        assert "pass 1" in done("logs", job.id).out
        kinds = [json.loads(line)["event"] for line in done("logs", job.id, "--events").out.splitlines()]
        assert (kinds[0], kinds[-2:]) == ("plan", ["done", "attempt-end"])
        assert "read" not in kinds
        assert Attempt(job.record, 1).facts["versions"]["bigsvd"] == bigsvd.__version__
        assert done("prune", tmp_path).out == ""
        assert job.id in done("prune", tmp_path, "--older-than", 0, "--dry-run").out
        assert job.status.state == "done"
        assert job.id in done("prune", tmp_path, "--older-than", 0).out
        assert "error[E_JOB]" in refused(2, "status", job.id)
        assert bigsvd.open(job.out).k == 4

    def test_attached_it_is_driven_here(self, data: Path, tmp_path: Path) -> None:
        words = ("submit", data, tmp_path / "u", "-k", 4, "--attach", "--json")
        before = [signal.getsignal(number) for number in HANDLED]
        assert done(*words).facts["k"] == 4
        assert [signal.getsignal(number) for number in HANDLED] == before
        assert done(*words).facts["k"] == 4
        process = Attempt(Record(tmp_path / "u"), 1).process
        assert process is not None
        assert (process.pid, Job(tmp_path / "u").status.attempt) == (os.getpid(), 1)

    def test_failures_have_the_codes_of_svd(self, tmp_path: Path) -> None:
        bad = NOISE.copy()
        bad[7, 9] = np.nan
        zarr.create_array(str(tmp_path / "b.zarr"), data=bad, chunks=(100, 1_600))
        request = (tmp_path / "b.zarr", tmp_path / "u", "-k", 4)
        assert run("submit", *request, "--attach").code == 2
        assert "error[E_NONFINITE]" in refused(2, "wait", tmp_path / "u")
        assert "nothing to stop" in refused(2, "stop", tmp_path / "u")
        assert "no job writes" in refused(2, "status", tmp_path / "v")
        assert "KEY=VALUE" in refused(2, "submit", *request, "--label", "x")
        assert "'lost' is not one of" in refused(2, "jobs", "--state", "lost")

    def test_dask_svd_is_the_same_and_costs_dask_little(self, tmp_path: Path) -> None:
        script = (
            "import sys; import bigsvd.dask_command as found; heavy = ['numpy', 'zarr', 'dask'];"
            "print([name for name in heavy if name in sys.modules]); found.svd.main(sys.argv[1:])"
        )
        ended = subprocess.run(
            [sys.executable, "-c", script, "jobs", str(tmp_path), "--json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert ended.stdout == "[]\n[]\n"
