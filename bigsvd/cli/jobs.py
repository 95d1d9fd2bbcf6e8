"""The commands on jobs: submit, status, wait, stop, cancel, resume, jobs, logs and prune."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import click

from bigsvd.cli.commands import main, request_options, show_result
from bigsvd.cli.console import Console
from bigsvd.cli.here import records_in
from bigsvd.cli.job_words import Board, described, state_of, table
from bigsvd.cli.options import json_option, request_of, storage_option, tell
from bigsvd.cli.place import Place, at_place
from bigsvd.client.order import Order
from bigsvd.errors import JobError, OutputExistsError
from bigsvd.jobs.job import Job
from bigsvd.jobs.record import Launch, Record, labels_of
from bigsvd.jobs.status import JobStatus, State

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
@at_place
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
    place: Place,
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
    cluster, with --service whatever that has. The same request to the same OUT is the same job: submitted
    again, it goes on.
    """
    request = request_of(data, out, options, overwrite=overwrite)
    order = Order(name, labels_of(labels, "give such as --label lab=blue"), attempts, max_runtime)
    if attach:
        here = place.here
        attached, waits = here.take_in(request, order)
        _attach(attached, here.cluster.launch, here.secrets, waits=waits, as_json=as_json)
        return
    job, waits = place.submit(request, order)
    if as_json:
        click.echo(json.dumps(job.status.to_dict()))
        return
    click.echo(job.id)
    if not waits:
        click.echo(f"this job is there already: {state_of(job.status)}", err=True)
        return
    click.echo(f"watch it: bigsvd status {out} --watch; wait, stop, cancel and logs take {out} too", err=True)


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
@at_place
@json_option
def status(job: str, place: Place, *, watch: bool, as_json: bool) -> None:
    """Print how a job stands; no cluster is asked."""
    watched = place.job(job)
    found = watched.status
    if not watch:
        _tell_status(found, as_json=as_json)
        return
    show = partial(_tell_status, as_json=True) if as_json else Board(sys.stdout).show
    with _goes_on():
        show(found)
        while not found.has_ended:
            time.sleep(_LOOK_SECONDS)
            found = watched.status
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
@at_place
@json_option
def wait(job: str, timeout: float | None, place: Place, *, as_json: bool) -> None:
    """Wait until a job has ended, and exit as `svd` would have."""
    found = place.job(job)
    with _goes_on():
        factors = found.wait(timeout)
    show_result(factors, str(found.out), as_json=as_json)


@main.command()
@job_argument
@at_place
@json_option
def stop(job: str, place: Place, *, as_json: bool) -> None:
    """Have a job publish what it has, after the present pass."""
    found = place.job(job)
    found.stop()
    _tell_status(found.status, as_json=as_json)


@main.command()
@job_argument
@click.option("--drop", is_flag=True, help="Delete what it has finished, too.")
@at_place
@json_option
def cancel(job: str, place: Place, *, drop: bool, as_json: bool) -> None:
    """End a job at once, without a result.

    It is "cancelled" when its last lane has stopped.
    """
    found = place.job(job)
    found.cancel(drop=drop)
    _tell_status(found.status, as_json=as_json)


@main.command()
@job_argument
@launch_options
@click.option("--scheduler", default=None, metavar="ADDRESS", help="Another than it was submitted to.")
@at_place
@json_option
def resume(job: str, place: Place, *, attach: bool, as_json: bool) -> None:
    """Go on with a job that was interrupted, failed or cancelled.

    It begins with what is finished.
    """
    if attach:
        here = place.here
        attached, launch = here.made_ready(job)
        _attach(attached, launch, here.secrets, waits=True, as_json=as_json)
        return
    found = place.resume(job)
    _tell_status(found.status, as_json=as_json)


@main.command()
@click.argument("folders", nargs=-1, metavar="[DIR]...")
@click.option("--state", type=click.Choice(get_args(State)), default=None, help="Only those in this state.")
@at_place
@json_option
def jobs(folders: tuple[str, ...], state: str | None, place: Place, *, as_json: bool) -> None:
    """List your jobs, or those with outputs in DIRs or below.

    Without DIR those are listed that were submitted from this account, or with this token.
    """
    rows = [row for row in place.jobs(folders) if state is None or row["state"] == state]
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


@main.command()
@job_argument
@click.option("--follow", is_flag=True, help="Go on until the job has ended.")
@click.option(
    "--events", is_flag=True, help="What happened, a line of JSON each, instead of what was printed."
)
@at_place
def logs(job: str, place: Place, *, follow: bool, events: bool) -> None:
    """Print what a job's drivers have printed."""
    found = place.job(job)
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
    for record in records_in(folders):
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
