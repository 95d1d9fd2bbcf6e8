"""The commands on jobs: submit, status, wait, stop, cancel, resume, jobs, logs and prune."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from bigsvd.cli.commands import (
    ClusterOptions,
    json_option,
    main,
    request_of,
    request_options,
    secrets_of,
    show_result,
    storage_option,
    tell,
)
from bigsvd.cli.console import Console
from bigsvd.cli.job_words import Board, described, progress_of, state_of, table
from bigsvd.errors import BigsvdError, JobError, OutputExistsError, RequestError
from bigsvd.jobs.files import date_of
from bigsvd.jobs.index import below, find, of_this_user
from bigsvd.jobs.job import Job
from bigsvd.jobs.launch import start
from bigsvd.jobs.record import Launch, Record, Terms
from bigsvd.jobs.status import JobStatus, State, status_of
from bigsvd.jobs.submit import take_in

if TYPE_CHECKING:
    from bigsvd.jobs.driver import Driver

_LOOK_SECONDS = 1.0
_DAY_SECONDS = 86400.0

job_argument = click.argument("job", metavar="JOB|OUT")


def _tell_status(status: JobStatus, *, as_json: bool) -> None:
    tell(json.dumps(status.to_dict()) if as_json else described(status))


def launch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how a job is driven: here, or by its own process."""
    options = [
        click.option("--attach", is_flag=True, help="Drive it here, as `svd` would, and stay until it ends."),
        storage_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@click.argument("data")
@click.argument("out")
@request_options
@launch_options
@click.option("--overwrite", is_flag=True, help="Replace a published result, once the new one is verified.")
@click.option("--name", default="", metavar="TEXT", help="What to call it by.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Repeatable.")
@click.option(
    "--attempts",
    type=int,
    default=5,
    show_default=True,
    metavar="N",
    help="Tries in a row without a finished pass, where workers, scheduler or storage fail.",
)
@click.option(
    "--max-runtime", type=float, default=None, metavar="SECONDS", help="From now, after which it has failed."
)
@json_option
def submit(
    data: str,
    out: str,
    storage_options: tuple[str, ...],
    labels: tuple[str, ...],
    name: str,
    attempts: int,
    max_runtime: float | None,
    *,
    attach: bool,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Decompose DATA into OUT as a job that outlives this terminal.

    Prints its id. Without --scheduler a process of this machine does it, with it the workers of a Dask
    cluster. The same request to the same OUT is the same job: submitted again, it goes on.
    """
    secrets = secrets_of(storage_options)
    cluster = ClusterOptions.taken(options)
    launch = _launch(cluster)
    request = request_of(data, out, options, overwrite=overwrite)
    terms = Terms(attempts, max_runtime, cluster.wait_workers)
    job, waits = take_in(request, terms, name=name, labels=_labels(labels), secrets=secrets)
    if attach:
        _attach(job, launch, secrets, waits=waits, as_json=as_json)
        return
    if waits:
        start(job.record, launch, secrets)
    if as_json:
        click.echo(json.dumps(job.status.to_dict()))
        return
    click.echo(job.id)
    if not waits:
        click.echo(f"this job is there already: {state_of(job.status)}", err=True)
        return
    click.echo(f"watch it: bigsvd status {out} --watch; wait, stop, cancel and logs take {out} too", err=True)


def _launch(cluster: ClusterOptions) -> Launch:
    """Where a job is to be driven; files are named so that other processes find them."""
    return Launch(cluster.scheduler or "", tuple(str(path.absolute()) for path in cluster.tls))


def _labels(pairs: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise RequestError(f"label={pair!r} is not KEY=VALUE", "give such as --label lab=blue")
        labels[key] = value
    return labels


def _attach(job: Job, launch: Launch, secrets: dict[str, str], *, waits: bool, as_json: bool) -> None:
    """Drive the job in this process; where another does that already, wait for it, or for its loss."""
    if waits or _is_lost(job):
        from bigsvd.jobs.driver import Driver  # noqa: PLC0415 - imports Dask

        job.record.hand_to(launch)
        driver = Driver(job.record, launch, secrets, Console(sys.stderr, quiet=as_json))
        with _signals(driver, job.record):
            factors = driver.drive()
    else:
        factors = job.wait()
    show_result(factors, str(job.out), as_json=as_json)


def _is_lost(job: Job) -> bool:
    """Whether the one who drives the job is gone, once that is known or the job has ended.

    A container that is started again comes before the lease of the one that was killed has run out.
    """
    while (state := job.status.state) in ("queued", "running"):
        time.sleep(_LOOK_SECONDS)
    return state == "interrupted"


class _signals:  # noqa: N801 - read as a statement: with _signals(driver, record)
    """What signals ask of a driver.

    SIGTERM: to end at once, and be resumed. SIGUSR1, and Ctrl-C once: to publish after this pass.
    """

    def __init__(self, driver: Driver, record: Record) -> None:
        self._driver, self._record = driver, record
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        meanings: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self._driver.interrupt,
            signal.SIGUSR1: self._stop,
            signal.SIGINT: self._again,
        }
        for number, meaning in meanings.items():
            self._before[number] = signal.signal(number, lambda *_, meaning=meaning: meaning())

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self) -> None:
        self._record.ask(self._record.stop)

    def _again(self) -> None:
        if self._asked:
            self._driver.interrupt()
            return
        self._asked = True
        self._stop()
        click.echo("\nstopping after this pass; Ctrl-C again stops at once, to be resumed", err=True)


@main.command(hidden=True)
@click.argument("out")
def drive(out: str) -> None:
    """Drive the job that writes OUT, as whoever starts this process says on its standard input."""
    from bigsvd.jobs.driver import Driver  # noqa: PLC0415 - imports Dask

    given = json.loads(sys.stdin.read() or "{}")
    record = Record(out)
    said = given.get("launch")
    launch = record.launch() if said is None else Launch.from_dict(said)
    driver = Driver(record, launch, given.get("secrets", {}), Console(sys.stderr))
    with _signals(driver, record):
        driver.drive()


@main.command()
@job_argument
@click.option("--watch", is_flag=True, help="Follow it until it has ended; Ctrl-C leaves it alone.")
@json_option
def status(job: str, *, watch: bool, as_json: bool) -> None:
    """Print how a job stands; no cluster is asked."""
    record = find(job)
    found = status_of(record)
    if not watch:
        _tell_status(found, as_json=as_json)
        return
    show = partial(_tell_status, as_json=True) if as_json else Board(sys.stdout).show
    with _goes_on():
        show(found)
        while not found.has_ended:
            time.sleep(_LOOK_SECONDS)
            found = status_of(record)
            show(found)


@contextmanager
def _goes_on() -> Iterator[None]:
    """Say, to whoever presses Ctrl-C while waiting, that this ends no job."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("\nthe job goes on", err=True)
        raise


@main.command()
@job_argument
@click.option("--timeout", type=float, default=None, metavar="SECONDS", help="Wait no longer; then exit 3.")
@json_option
def wait(job: str, timeout: float | None, *, as_json: bool) -> None:
    """Wait until a job has ended, and exit as `svd` would have."""
    found = Job(job)
    with _goes_on():
        factors = found.wait(timeout)
    show_result(factors, str(found.out), as_json=as_json)


@main.command()
@job_argument
@json_option
def stop(job: str, *, as_json: bool) -> None:
    """Have a job publish what it has, after the present pass."""
    found = Job(job)
    found.stop()
    _tell_status(found.status, as_json=as_json)


@main.command()
@job_argument
@click.option("--drop", is_flag=True, help="Delete what it has finished, too.")
@json_option
def cancel(job: str, *, drop: bool, as_json: bool) -> None:
    """End a job at once, without a result.

    It is "cancelled" when its last lane has stopped.
    """
    found = Job(job)
    found.cancel(drop=drop)
    _tell_status(found.status, as_json=as_json)


@main.command()
@job_argument
@launch_options
@click.option("--scheduler", default=None, metavar="ADDRESS", help="Another than it was submitted to.")
@json_option
def resume(
    job: str, scheduler: str | None, storage_options: tuple[str, ...], *, attach: bool, as_json: bool
) -> None:
    """Go on with a job that was interrupted, failed or cancelled.

    It begins with what is finished.
    """
    found = Job(job)
    launch = found.record.launch()
    if scheduler is not None:
        launch = replace(launch, scheduler=scheduler)
    secrets = secrets_of(storage_options)
    found.check_resumable()
    found.record.withdraw()
    if attach:
        _attach(found, launch, secrets, waits=True, as_json=as_json)
        return
    start(found.record, launch, secrets)
    _tell_status(found.status, as_json=as_json)


@main.command()
@click.argument("folders", nargs=-1, metavar="[DIR]...")
@click.option("--state", type=click.Choice(get_args(State)), default=None, help="Only those in this state.")
@json_option
def jobs(folders: tuple[str, ...], state: str | None, *, as_json: bool) -> None:
    """List your jobs, or those with outputs in DIRs or below.

    Without DIR those are listed that were submitted from this account.
    """
    rows = [row for row in map(_row, _records(folders)) if state is None or row["state"] == state]
    if as_json:
        click.echo(json.dumps(rows))
        return
    if rows:
        click.echo(table(rows, sys.stdout))
    else:
        click.echo(_none(folders, state), err=True)


def _none(folders: tuple[str, ...], state: str | None) -> str:
    """That there are no such jobs, and where they were looked for."""
    which = "no jobs" if state is None else f"no job is {state}"
    if folders:
        return f"{which} in {', '.join(folders)}"
    return f"{which} among those you have submitted from this account; give a folder to look into"


def _records(folders: tuple[str, ...]) -> list[Record]:
    if not folders:
        return list(of_this_user())
    for folder in folders:
        if not Path(folder).is_dir():
            raise JobError(f"{folder} is no folder", "name one in which outputs lie")
    return [record for folder in folders for record in below(Path(folder))]


def _row(record: Record) -> dict[str, Any]:
    """One line of the list; a damaged record has one, too."""
    try:
        found = status_of(record)
    except BigsvdError as error:
        nothing = {"id": "?", "state": "damaged", "name": "", "out": str(record.out)}
        return nothing | {"submitted": date_of(record.job) or 0.0, "progress": str(error)}
    return found.to_dict() | {"progress": progress_of(found)}


@main.command()
@job_argument
@click.option("--follow", is_flag=True, help="Go on until the job has ended.")
@click.option(
    "--events", is_flag=True, help="What happened, a line of JSON each, instead of what was printed."
)
def logs(job: str, *, follow: bool, events: bool) -> None:
    """Print what a job's drivers have printed."""
    found = Job(job)
    if events:
        for event in found.events():
            click.echo(json.dumps(event))
        return
    ended = not follow or found.status.has_ended  # asked before each look, which then has the last words
    shown = found.log()
    click.echo(shown, nl=False)
    while not ended:
        time.sleep(_LOOK_SECONDS)
        ended, text = found.status.has_ended, found.log()
        click.echo(text.removeprefix(shown), nl=False)
        shown = text


@main.command()
@click.argument("folders", nargs=-1, metavar="DIR...", required=True)
@click.option(
    "--older-than", type=float, default=30.0, show_default=True, metavar="DAYS", help="Since their end."
)
@click.option("--dry-run", is_flag=True, help="Only say which.")
@json_option
def prune(folders: tuple[str, ...], older_than: float, *, dry_run: bool, as_json: bool) -> None:
    """Delete records of jobs that ended long ago; results stay."""
    gone = []
    for record in _records(folders):
        with suppress(JobError, OutputExistsError):  # what is damaged, or not ours alone, stays
            job = Job(record.out)
            if job.status.has_ended and job.ended_seconds_ago > older_than * _DAY_SECONDS:
                gone.append({"id": job.id, "out": str(job.out)})
                if not dry_run:
                    job.forget()
    if as_json:
        click.echo(json.dumps(gone))
        return
    for row in gone:
        click.echo(f"{row['id']}  {row['out']}")
