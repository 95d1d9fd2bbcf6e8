"""Drives a job to its end: attempt after attempt, as long as what failed was the cluster or the storage.

Each attempt opens the source and the cluster anew and runs the request, which goes on from what scratch
holds. Errors of the data or of the request end the job: they would only come again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bigsvd.errors import FactorStoreError, JobError, OutputBusyError
from bigsvd.events import Progress
from bigsvd.execution.cluster import Tls, connected
from bigsvd.jobs.attempt import Attempt
from bigsvd.jobs.record import Asked, Launch, Record, answers
from bigsvd.jobs.recorder import Recorder, why_of
from bigsvd.jobs.sparing import sparing
from bigsvd.request import Request
from bigsvd.results.factors import Factors, open_factors
from bigsvd.solve import run
from bigsvd.sources.open import open_source
from bigsvd.sources.vectors import vectors_of

_FIRST_PAUSE_SECONDS = 1.0
_MOST_PAUSE_SECONDS = 60.0


@dataclass(frozen=True)
class Tries:
    """How often in a row a job has failed for want of a cluster or of storage, with no finished pass between.

    Attributes:
        failed: how often. passes_done: by then. why: what the last said.

    """

    failed: int = 0
    passes_done: int = 0
    why: str = ""

    def after(self, error: BaseException, passes_done: int) -> Tries:
        """When one more has failed."""
        failed = self.failed + 1
        if passes_done > self.passes_done:
            failed = 1
        return Tries(failed, passes_done, getattr(error, "message", str(error)))

    @property
    def pause_seconds(self) -> float:
        """Before the next: each twice as long as the one before."""
        if not self.failed:
            return 0.0
        return min(_MOST_PAUSE_SECONDS, math.ldexp(_FIRST_PAUSE_SECONDS, self.failed - 1))


class Driver:
    """Whoever drives the job of a record: a process of its own, or one that a person watches.

    `launch` says where the cluster is, and `secrets` are options for the stores of URLs: neither is kept.
    """

    def __init__(self, record: Record, launch: Launch, secrets: Mapping[str, Any], listen: Progress) -> None:
        self._record = record
        self._asked = record.asked()
        self._launch = launch
        self._secrets = secrets
        self._listen = listen
        self._recorder: Recorder | None = None
        self._told_to_end = False

    def interrupt(self) -> None:
        """End at once, with all that is finished kept: what a signal handler calls."""
        self._told_to_end = True
        if self._recorder is not None:
            self._recorder.interrupt()

    def drive(self) -> Factors:
        """Work until the job has ended.

        Raises:
            BigsvdError: what it failed by, was cancelled or interrupted by; `JobError` if another drives it.

        """
        _go_to(Path(self._asked.folder))
        tries = Tries()
        while True:
            attempt = _next_attempt(self._record)
            with Recorder(
                attempt, self._asked.terms, self._listen, passes_done=tries.passes_done
            ) as recorder:
                self._attend(recorder)
                try:
                    factors = self._attempt(recorder, tries)
                except BaseException as error:
                    tries = tries.after(error, recorder.phase.passes_done)
                    if not self._goes_on(recorder, error, tries):
                        raise
                else:
                    recorder.close("done")
                    return factors

    def _goes_on(self, recorder: Recorder, error: BaseException, tries: Tries) -> bool:
        """Whether another attempt follows the one that has ended by this error; the record is told why."""
        why = why_of(error)
        if why == "infrastructure" and tries.failed >= self._asked.terms.attempts:
            why = "failed"
        if why != "superseded":
            recorder.close(why, error)
        return why == "infrastructure"

    def _attend(self, recorder: Recorder) -> None:
        """Let signals reach this attempt, one that came a moment ago among them."""
        self._recorder = recorder
        if self._told_to_end:
            recorder.interrupt()

    def _attempt(self, recorder: Recorder, tries: Tries) -> Factors:
        """One try."""
        if tries.failed:
            recorder.pause(tries.pause_seconds, f"another attempt in {tries.pause_seconds:g} s: {tries.why}")
        published = _published(self._record, self._asked)
        if published is not None:
            return published
        recorder.heed()
        return self._run(recorder)

    def _run(self, recorder: Recorder) -> Factors:
        """The request on the cluster or here, from what scratch holds."""
        request = self._asked.given
        here = replace(request, out=str(self._record.out))  # which may have been moved
        request = sparing(self._asked, here)
        self._check_bounds(request, ())
        source = open_source(request.source, **request.reading, storage_options=dict(self._secrets))
        vectors = vectors_of(request, source.facts, {}, dict(self._secrets))
        self._check_bounds(request, source.places)  # again: links may have been changed meanwhile
        terms, launch = self._asked.terms, self._launch
        recorder.wait_for(f"connects to {launch.scheduler}" if launch.scheduler else "begins")
        with connected(
            launch.scheduler or None, tls=Tls.of(launch.tls), wait_workers_seconds=terms.wait_workers_seconds,
            tell=recorder.wait_for,
        ) as client:  # fmt: skip
            try:
                return run(
                    request, source, vectors=vectors, client=client, progress=recorder,
                    should_stop=recorder.should_stop,
                )  # fmt: skip
            except OutputBusyError as error:
                raise HeldMeanwhileError(error.message, error.remedy) from error

    def _check_bounds(self, request: Request, places: Iterable[Path]) -> None:
        """`PathError` where a path leads elsewhere than when the job was submitted to a service."""
        if self._launch.bounds is not None:
            self._launch.bounds.check_same(request)
            self._launch.bounds.check_places(places)


class HeldMeanwhileError(OutputBusyError):
    """The output is held by another run: perhaps by one that is taken for dead in a moment."""

    infrastructure = True


def _next_attempt(record: Record) -> Attempt:
    """A new attempt of this process; `JobError` where another is at work."""
    last = Attempt.last_of(record)
    if last is not None and last.is_alive(record.now()):
        raise JobError(
            f"attempt {last.number} at {record.out} is at work ({last.process})",
            "wait for it, or cancel it",
        )
    if last is not None and last.has_settled:
        raise JobError(
            f"the job at {record.out} is {last.why} since it was handed over", "resume it to go on"
        )
    attempt = Attempt.begin(record)
    if attempt is None:
        raise JobError(f"another has just begun an attempt at {record.out}", "wait for it")
    return attempt


def _go_to(folder: Path) -> None:
    """To where relative paths of the request begin."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise JobError(
            f"the folder {folder}, where the job was submitted, is not here ({error.strerror})",
            "resume it where that is, or submit it again",
        ) from error


def _published(record: Record, asked: Asked) -> Factors | None:
    """The job's result, if it was published by an attempt that did not live to say so."""
    try:
        factors = open_factors(record.out)
    except FactorStoreError:
        return None
    own = record.may_have_published and answers(factors.provenance, asked.request, asked.folder)
    return factors if own else None
