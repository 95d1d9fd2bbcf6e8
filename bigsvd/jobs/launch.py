"""Starts the driver of a job: a process of this machine that outlives its parent, or one beside a worker.

On a cluster a task starts it. The process is no child of the task's fate: it goes on where its worker or the
scheduler dies, and where it dies with its machine, Dask makes the task again on another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bigsvd.errors import NoWorkersError, StorageError
from bigsvd.jobs.attempt import Attempt
from bigsvd.jobs.record import Launch, Record
from bigsvd.scratch import storage_errors

_LOOK_SECONDS = 1.0
_ACCEPT_SECONDS = 20.0


def start(record: Record, launch: Launch, secrets: Mapping[str, Any]) -> None:
    """Have the job of the record driven, from now on by another process."""
    record.hand_to(launch)
    try:
        if launch.scheduler:
            _start_on_cluster(record, launch, secrets)
        else:
            process = start_here(record, launch, secrets)
            threading.Thread(target=process.wait, daemon=True).start()  # or it would stay as a zombie
    except BaseException as error:
        _say_unstarted(record, error)
        raise


def _say_unstarted(record: Record, error: BaseException) -> None:
    """An attempt that has ended before it began: else the job would seem to wait for its driver."""
    with suppress(StorageError):  # the error that is under way says more
        attempt = Attempt.begin(record)
        if attempt is not None:
            attempt.close("unstarted", error)


def start_here(record: Record, launch: Launch, secrets: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    """A driver as a process of this machine, in a session of its own.

    What only it may know goes through its standard input: others can read a process's arguments.
    """
    given = json.dumps({"launch": asdict(launch), "secrets": dict(secrets)})
    command = [sys.executable, "-m", "bigsvd", "drive", str(record.out)]
    with storage_errors(f"writing {record.log}"), record.log.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - this interpreter
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    with process.stdin or _no_pipe() as pipe:
        pipe.write(given.encode())
    return process


@dataclass(frozen=True)
class Secrets:
    """Options that no log may show: a worker prints the arguments of what fails there."""

    options: dict[str, Any] = field(repr=False)


def _start_on_cluster(record: Record, launch: Launch, secrets: Mapping[str, Any]) -> None:
    """A task that starts the driver, which nobody waits for here.

    Handed over again before any driver has begun, the job has the same task still.
    """
    from distributed import fire_and_forget  # noqa: PLC0415 - only where a cluster is named

    from bigsvd.execution.cluster import Tls, reached  # noqa: PLC0415 - imports Dask

    key = f"bigsvd-job-{record.asked().id}-{record.launched_after}"
    with reached(launch.scheduler, Tls.of(launch.tls)) as client:
        hidden = Secrets(dict(secrets))
        future = client.submit(supervise, str(record.out), launch.tls, hidden, key=key, pure=False)
        fire_and_forget(future)
        _await_acceptance(client, key, launch.scheduler)


def _await_acceptance(client: Any, key: str, scheduler: str) -> None:
    """Return when the scheduler knows of the task, which then is its own."""
    until = time.monotonic() + _ACCEPT_SECONDS
    while not client.run_on_scheduler(_knows, key):
        if time.monotonic() > until:
            raise NoWorkersError(
                f"{scheduler} has not taken the job within {_ACCEPT_SECONDS:g} s",
                "look after it, and submit again",
            )
        time.sleep(0.02)


def _knows(key: str, dask_scheduler: Any) -> bool:
    return key in dask_scheduler.tasks


def supervise(out: str, tls: tuple[str, ...], secrets: Secrets) -> None:
    """In a worker: start the driver, and stay until the job needs it no more.

    A driver that dies without a word is started again, as often as the job may fail. Made again on another
    worker, this finds an attempt that lives, or waits until its lease has run out.
    """
    from distributed import get_worker, secede  # noqa: PLC0415 - only in a worker

    address = str(get_worker().scheduler.address)
    secede()  # a lane may have this place
    record = Record(out)
    launch = replace(record.launch(), scheduler=address, tls=tls)
    for _ in range(record.asked().terms.attempts):
        _await_silence(record)
        if _has_spoken(record):
            return
        start_here(record, launch, secrets.options).wait()


def _await_silence(record: Record) -> None:
    """Wait until no driver of the job lives."""
    while True:
        last = Attempt.last_of(record)
        if last is None or not last.is_alive(record.now()):
            return
        time.sleep(_LOOK_SECONDS)


def _has_spoken(record: Record) -> bool:
    """Whether the job's last driver has said why it ended, so that none is to follow by itself."""
    last = Attempt.last_of(record)
    return last is not None and not last.is_past and last.why not in (None, "infrastructure")


def _no_pipe() -> Any:
    raise NoWorkersError("the driver was started without a pipe", "start it again")
