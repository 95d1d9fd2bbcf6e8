"""Takes in a job: a request that is the same as one that is there is that job, and goes on."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bigsvd.errors import FactorStoreError, OutputBusyError, RequestError
from bigsvd.jobs.index import remember
from bigsvd.jobs.job import Job
from bigsvd.jobs.launch import start
from bigsvd.jobs.record import Asked, Launch, Record, Terms, new_id
from bigsvd.jobs.sparing import sparing
from bigsvd.request import VECTORS, Request
from bigsvd.results.door import Place
from bigsvd.results.factors import open_factors
from bigsvd.results.output import Inputs, Output
from bigsvd.sources.open import open_source
from bigsvd.sources.selected import name_of
from bigsvd.units import source_name

_ANY = ""  # the id of a job that takes that of an equal one, or else a new one
_PATHS = (*VECTORS, "rows", "cols", "stage", "warm_start")


def submit(
    source: str | Path,
    k: Any,
    out: str | Path,
    *,
    scheduler: str | None = None,
    tls: Sequence[str | Path] = (),
    name: str = "",
    labels: Mapping[str, str] | None = None,
    attempts: int = 5,
    max_runtime: float | None = None,
    wait_workers: float = 60.0,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Job:
    """The job that decomposes `source` into `out` as `bigsvd.svd` does, and goes on without this process.

    The same request to the same output is the same job: one that goes on is returned as it is, one that was
    interrupted, failed or cancelled goes on from what it had finished, one that is done has its result.

    Args:
        source: path or URL of the data.
        k: see `bigsvd.svd`.
        out: path of the factor store, on a file system that those who look and those who work share.
        scheduler: address of the Dask scheduler whose workers do it; None for a process of this machine.
        tls: paths of the cluster's authority, and of the certificate and the key that this user has for it.
        name: what people call it by.
        labels: further words for it, by their kind.
        attempts: tries in a row that may fail for want of workers, scheduler or storage without one finished
            pass between them.
        max_runtime: seconds from now, after which the job has failed; what is finished is kept.
        wait_workers: seconds for a first worker, at each attempt.
        storage_options: for the store of a URL; kept nowhere, so `Job.resume` has to be given them again.
        options: as for `bigsvd.svd`; vectors and selections are paths.

    Raises:
        BadInputError: what the data's metadata, the request or the output show to be impossible.
        OutputBusyError: a job of another request writes `out`.

    """
    _refuse_what_is_in_memory({"source": source, **{name: options.get(name) for name in _PATHS}})
    given = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    given |= {name: name_of(given.get(name)) for name in ("rows", "cols")}
    request = Request.of(source_name(str(source)), k, out=str(out), **given)
    secrets = storage_options or {}
    job, waits = take_in(
        request, Terms(attempts, max_runtime, wait_workers), name=name, labels=labels, secrets=secrets
    )
    if waits:
        start(job.record, Launch(scheduler or "", tuple(map(str, tls))), secrets)
    return job


def take_in(
    request: Request,
    terms: Terms,
    *,
    name: str = "",
    labels: Mapping[str, str] | None = None,
    secrets: Mapping[str, Any],
) -> tuple[Job, bool]:
    """The job of a request, which may be one that is there, and whether it waits for somebody to drive it."""
    if request.out is None:
        raise RequestError("a job without an output has no place for its result", "give one")
    Place.of(request.out)  # refused before anything looks for files of such names
    asked = Asked(_ANY, request, str(Path.cwd()), _user(), name, dict(labels or {}), terms)
    return admit(asked, secrets)


def admit(asked: Asked, secrets: Mapping[str, Any]) -> tuple[Job, bool]:
    """The same for a job that has a name already, as one has that waited in a queue.

    An equal one that has ended at its output takes its id, since it is the same job.

    Raises:
        BadInputError: see `submit`. OutputBusyError: a job of another request, or id, writes the output.

    """
    request = sparing(asked, asked.request)
    _refuse_unprintable(asked)
    _refuse_unportable(secrets)
    record = Record(str(request.out))
    before = None
    if record.exists:
        with record.turn():
            before = record.asked_before()
            known = None if before is None else _known(record, before, asked)
        if known is not None:
            return known
    source = open_source(request.source, **request.reading, storage_options=dict(secrets))
    Output(request.out, overwrite=request.overwrite, inputs=Inputs.of(request, source.places))
    fresh = asked if asked.id != _ANY else replace(asked, id=new_id())
    if not record.submit(fresh, before):
        return admit(asked, secrets)
    remember(fresh.id, record)
    return Job(record.out), True


def _known(record: Record, before: Asked, asked: Asked) -> tuple[Job, bool] | None:
    """The job that is there, if it is the same; None where it has ended and its record can go."""
    job = Job(record.out)
    status, same = job.status, before.digest == asked.digest
    named = asked.id in (_ANY, before.id)
    if not (same and named) and not status.has_ended:
        whose = f"of {before.owner}" if same else "of another request"
        raise OutputBusyError(
            f"job {before.id} ({status.state}) {whose} writes {record.out}",
            "wait for it, cancel it, or choose another output",
        )
    if not same or (status.state == "done" and (asked.request.overwrite or not _opens(record))):
        return None
    if status.state in ("queued", "running") and not job.awaits_cluster:
        return job, False
    done = status.state == "done"
    if not named or not done:
        owner = before.owner if done else asked.owner  # of a result: whoever had it made
        record.resubmit(replace(asked, id=asked.id or before.id, owner=owner))
    return job, not done


def _opens(record: Record) -> bool:
    try:
        open_factors(record.out)
    except FactorStoreError:
        return False
    return True


def _user() -> str:
    """The name of this user, or the number where it has no name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _refuse_unportable(secrets: Mapping[str, Any]) -> None:
    """`RequestError` where storage options are objects of this process; they are not shown."""
    try:
        json.dumps(dict(secrets))
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"storage_options hold what cannot be handed to another process ({error})",
            "give texts, numbers and truth values",
        ) from error


def _refuse_unprintable(asked: Asked) -> None:
    """See `check_words`."""
    check_words(asked.name, asked.labels)


def check_words(name: str, labels: Mapping[str, str]) -> None:
    """`RequestError` where a job's name or a label would not stay on its line of a list."""
    texts = {"name": name} | {f"label {key!r}": key + value for key, value in labels.items()}
    for what, text in texts.items():
        if not text.isprintable():
            raise RequestError(
                f"{what} is {text!r}, which cannot be printed", "give letters, digits and spaces"
            )


def _refuse_what_is_in_memory(given: Mapping[str, Any]) -> None:
    """`RequestError` where something has no name that another process could open it by."""
    for name, value in given.items():
        if not isinstance(value, (str, Path, bool, slice, type(None))):
            raise RequestError(
                f"{name} is in memory ({type(value).__name__}), where no other process can read it",
                "store it, and give its path",
            )
