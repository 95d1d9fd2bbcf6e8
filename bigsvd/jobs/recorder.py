"""Writes down what an attempt does, and tells it what others wish: to stop, to end, or that it is superseded.

A thread gives the heartbeat and looks for wishes. What ends a run at once is raised by the progress callback,
which lanes call several times a second: so the run ends as after any other error, with its lanes stopped. A
run that calls nothing for too long, as one that waits for a cluster that does not answer, is left behind.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import singledispatchmethod

from bigsvd.errors import BigsvdError, CancelledError, JobLostError, RuntimeLimitError, SupersededError
from bigsvd.events import (
    BytesRead,
    Certified,
    Event,
    PassEnded,
    PassStarted,
    PhaseStarted,
    PlanMade,
    PlanRevised,
    Progress,
    WaitingForCluster,
    label_of,
)
from bigsvd.jobs.attempt import BEAT_SECONDS, Attempt, Why
from bigsvd.jobs.files import append_line, shorten, write_json
from bigsvd.jobs.phase import Phase, Quality
from bigsvd.jobs.record import Record, Terms
from bigsvd.jobs.tail import SEQ, last_number

_LOOK_SECONDS = 0.5
_WRITE_SECONDS = 1.0  # between two words about one pass
_GRACE_SECONDS = 30.0  # for a run to end, before it is left behind
_MOST_EVENT_BYTES = 2**20
_MOST_LOG_BYTES = 2**20


class Recorder:
    """The progress callback of one attempt; a context manager, which gives the heartbeat meanwhile.

    `listen` is called with each event too.
    """

    def __init__(self, attempt: Attempt, terms: Terms, listen: Progress, *, passes_done: int = 0) -> None:
        self.attempt = attempt
        self.phase = Phase(passes_done=passes_done)
        self._record: Record = attempt.record
        self._terms = terms
        self._listen = listen
        self._lock = threading.Lock()
        self._written = 0.0
        self._noted = last_number(attempt.record)
        self._ending: BigsvdError | None = None
        self._closed = threading.Event()
        self._pulse = threading.Thread(target=self._keep_alive, daemon=True)

    def __enter__(self) -> Recorder:
        self._write()
        self._look_for_wishes()
        self._pulse.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._pulse.join()

    def should_stop(self) -> bool:
        """Whether somebody has asked to publish after this pass.

        Raises:
            BigsvdError: what the run is to end by, also while it waits and has nothing to say.

        """
        self.heed()
        return self._record.stop.exists()

    def end_by(self, error: BigsvdError) -> None:
        """Have the run end by this error, at its next word; the first that is told counts."""
        self._ending = self._ending or error

    def interrupt(self) -> None:
        """Have the run end at once, to be resumed."""
        self.end_by(JobLostError("the driver was told to end", "resume the job: nothing finished is lost"))

    def pause(self, seconds: float, doing: str) -> None:
        """Wait, and say for what, also in the log; what ends a run ends this too."""
        self.wait_for(doing)
        self._listen(PhaseStarted(doing))
        until = time.monotonic() + seconds
        while time.monotonic() < until and self._ending is None:
            self._closed.wait(min(_LOOK_SECONDS, seconds))
        self.heed()

    def wait_for(self, doing: str) -> None:
        """Say what the run waits for."""
        with self._lock:
            self.phase = replace(self.phase, name="queued", doing=doing)
            self._write()

    def __call__(self, event: Event) -> None:
        """Write an event down.

        Raises:
            BigsvdError: what the run is to end by.

        """
        self.heed()
        with self._lock:
            before = self.phase
            self._follow(event)
            if self._is_news(before):
                self._write()
            if not isinstance(event, BytesRead):
                self._note(event.to_dict())
        self._listen(event)

    def close(self, why: Why, error: BaseException | None = None) -> None:
        """Say how the attempt ended."""
        with self._lock:
            self._note({"event": "attempt-end", "why": why, "error": None if error is None else str(error)})
            self.attempt.close(why, error)

    def heed(self) -> None:
        """Raise what the run is to end by, if anything."""
        if self._ending is not None:
            raise self._ending

    @singledispatchmethod
    def _follow(self, event: Event) -> None:
        """What changes no phase is no more than an event."""

    @_follow.register
    def _(self, event: WaitingForCluster) -> None:
        doing = f"waits for {event.holder}, which has the cluster, as number {event.place} in line"
        self.phase = replace(self.phase, name="queued", doing=doing)

    @_follow.register
    def _(self, event: PlanMade) -> None:
        expected = round(event.plan.expected_passes - event.plan.sample_share)
        self.phase = replace(
            self.phase, name="planned", doing="", of=max(1, expected), passes_done=event.passes_done
        )

    @_follow.register
    def _(self, event: PlanRevised) -> None:
        self.phase = replace(self.phase, of=max(1, round(event.passes_high)))

    @_follow.register
    def _(self, event: PassStarted) -> None:
        begun = replace(self.phase, bytes_done=0, bytes_total=event.total_bytes, doing="")
        label = label_of(event.name)
        if event.sample:
            self.phase = replace(begun, name="sample")
        elif label == "forming":
            self.phase = replace(begun, name="forming")
        elif label == "checking":
            self.phase = replace(begun, name="verifying")
        else:
            self.phase = replace(begun, name="pass", number=begun.passes_done + 1)

    @_follow.register
    def _(self, event: BytesRead) -> None:
        self.phase = replace(self.phase, bytes_done=self.phase.bytes_done + event.bytes)

    @_follow.register
    def _(self, event: PassEnded) -> None:
        if self.phase.name == "pass":
            self.phase = replace(self.phase, passes_done=self.phase.number, bytes_done=event.total_bytes)

    @_follow.register
    def _(self, event: Certified) -> None:
        quality = Quality(event.passes, event.relative_error, event.max_residual, event.converged)
        left = event.passes_left or 0
        of = self.phase.number + left if left or event.converged else self.phase.of
        self.phase = replace(self.phase, quality=quality, of=of)

    @_follow.register
    def _(self, event: PhaseStarted) -> None:
        self.phase = replace(self.phase, name="publishing", doing=event.doing)

    def _is_news(self, before: Phase) -> bool:
        """Whether to write the phase now: at once if it is another, and now and then within one."""
        another = replace(before, bytes_done=0) != replace(self.phase, bytes_done=0)
        return another or time.monotonic() - self._written > _WRITE_SECONDS

    def _write(self) -> None:
        self.attempt.check()
        self._written = time.monotonic()
        with suppress(OSError):  # a full disk ends the run where it needs the room
            write_json(self._record.phase, {"attempt": self.attempt.number, **self.phase.to_dict()})

    def _note(self, values: dict[str, object]) -> None:
        self.attempt.check()
        self._noted += 1
        line = {
            SEQ: self._noted,
            "attempt": self.attempt.number,
            "time": round(time.time(), 3),
            **values,
        }
        with suppress(OSError):
            append_line(self._record.events, line, _MOST_EVENT_BYTES)

    def _keep_alive(self) -> None:
        beaten = told = time.monotonic()
        while not self._closed.wait(_LOOK_SECONDS):
            now = time.monotonic()
            with suppress(OSError):  # of a disk that fails for a moment: it is looked at again
                self._look_for_wishes()
            if now - beaten > BEAT_SECONDS and not isinstance(self._ending, SupersededError):
                beaten = now
                with suppress(OSError):  # one that fails is not the last; without any the lease runs out
                    self.attempt.beat()
                    shorten(self._record.log, _MOST_LOG_BYTES)
            if self._ending is None:
                told = now
            elif now - told > _GRACE_SECONDS:
                self._leave_behind(self._ending)

    def _look_for_wishes(self) -> None:
        limit = self._terms.max_runtime_seconds
        try:
            self.attempt.check()
        except SupersededError as error:
            self.end_by(error)
        if self._record.cancel.exists():
            self.end_by(CancelledError("the job was cancelled", "submit it again to go on"))
        elif limit is not None and self._record.seconds_since_submission() > limit:
            self.end_by(
                RuntimeLimitError(
                    f"the job has not ended within max_runtime={limit:g} s",
                    "submit it again with a longer one: it goes on from there",
                )
            )

    def _leave_behind(self, error: BigsvdError) -> None:
        """End this process, whose run does not: its lanes are nobody's, since scratch will be another's."""
        with suppress(Exception):
            self.close(why_of(error), error)
        print(error, file=sys.stderr, flush=True)
        os._exit(error.exit_status)


def why_of(error: BaseException) -> Why:
    """What an attempt ended by, and whether the job is to go on."""
    kinds: tuple[tuple[type[BaseException], Why], ...] = (
        (SupersededError, "superseded"),
        (CancelledError, "cancelled"),
        (JobLostError, "interrupted"),
        (KeyboardInterrupt, "interrupted"),
    )
    for kind, why in kinds:
        if isinstance(error, kind):
            return why
    return "infrastructure" if getattr(error, "infrastructure", False) else "failed"
