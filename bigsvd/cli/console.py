"""What a person sees while a run goes on: a bar per pass with GB/s, and the certificate after it."""

from __future__ import annotations

import io
import shutil
import textwrap
import threading
import time
from functools import singledispatchmethod
from typing import TextIO

from bigsvd.events import (
    BytesRead,
    Certified,
    ChunksAbsent,
    Event,
    GivenUp,
    LaneRepeated,
    MachinesDiffer,
    PassEnded,
    PassStarted,
    PhaseStarted,
    PlanMade,
    PlanRevised,
    PredictionPlanned,
    SampleTaken,
    ScratchDamaged,
    StageChosen,
    WaitingForCluster,
    WarmStartInVain,
    label_of,
)
from bigsvd.units import human_bytes

_BAR = 24  # columns of the bar itself, at most
_BESIDE_BAR = 45  # of what stands beside it


def fitted(text: str, stream: TextIO | None) -> str:
    """`text` with its long lines broken between words where a terminal shows them; for a file as it is."""
    if stream is None or not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return "\n".join(_broken(line, width) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = " " * min(len(line) - len(line.lstrip()) + 2, width // 2)
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def cut(line: str, stream: TextIO) -> str:
    """A line that a terminal shows in one row; for a file as it is."""
    width = shutil.get_terminal_size().columns
    if not stream.isatty() or len(line) <= width:
        return line
    return line[: width - 3] + "..."


def rows_of(text: str) -> int:
    """How many rows of the terminal a text takes."""
    width = shutil.get_terminal_size().columns
    return sum(max(1, -(-len(line) // width)) for line in text.split("\n"))


class Console:
    """Renders progress events on a stream; a terminal gets a moving bar, a file one line a pass."""

    def __init__(self, stream: TextIO | None, *, quiet: bool = False) -> None:
        quiet = quiet or stream is None  # closed by who started this process: nobody looks
        stream = stream or io.StringIO()
        self._stream = stream
        self._quiet = quiet
        self._moving = stream.isatty()
        self._lock = threading.Lock()
        self._total = self._done = 0
        self._name = ""
        self._brief = False
        self._start = 0.0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            if not self._quiet:
                self._show(event)

    @singledispatchmethod
    def _show(self, event: Event) -> None:
        """What is not for people is not shown."""

    def say(self, text: str) -> None:
        """One line, also when quiet is off and a bar is moving."""
        if not self._quiet:
            self._stream.write(("\r\x1b[K" if self._moving else "") + fitted(text, self._stream) + "\n")
            self._stream.flush()

    @_show.register
    def _(self, event: PlanMade) -> None:
        plan = event.plan
        if event.resumed:
            done = event.passes_done
            count = "1 pass is" if done == 1 else f"{done} passes are"
            self.say(f"resuming the run kept in {event.scratch}: {count} done")
        rates = "measured" if plan.rates.measured else "nominal"
        self.say(
            f"plan     {plan.method} on {plan.device}, about {plan.expected_passes:.2f} passes over "
            f"{human_bytes(plan.bytes_per_pass)}, {plan.seconds:.2g} s at {rates} rates, "
            f"at most {human_bytes(plan.memory_bytes)}"
        )
        if plan.reading:
            self.say(f"         {plan.reading}")

    @_show.register
    def _(self, event: PredictionPlanned) -> None:
        self.say(event.said)
        if event.resumed:
            self.say(f"resumed  from {event.scratch}")

    @_show.register
    def _(self, event: StageChosen) -> None:
        self.say(event.said)

    @_show.register
    def _(self, event: ChunksAbsent) -> None:
        self.say(f"{event.count:,} chunks do not exist and are taken as the fill value")

    @_show.register
    def _(self, event: WaitingForCluster) -> None:
        self.say(f"waiting for {event.holder} on this cluster, number {event.place} in line")

    @_show.register
    def _(self, event: MachinesDiffer) -> None:
        self.say(f"note     {event.said}")

    @_show.register
    def _(self, event: GivenUp) -> None:
        self.say(f"{event.scratch} was of another request, and is begun anew: {', '.join(event.differences)}")

    @_show.register
    def _(self, event: SampleTaken) -> None:
        self.say(f"sample   {event.rows:,} rows for a warm start")

    @_show.register
    def _(self, event: PassStarted) -> None:
        self._name, self._total, self._done = label_of(event.name), event.total_bytes, 0
        self._brief = event.sample
        self._start = time.monotonic()

    @_show.register
    def _(self, event: BytesRead) -> None:
        self._done += event.bytes
        if self._moving:
            self._stream.write("\r\x1b[K" + self._line())
            self._stream.flush()

    @_show.register
    def _(self, event: WarmStartInVain) -> None:
        self.say(
            f"         the warm start did not pay: {event.passes:.2f} passes, without it about "
            f"{event.usual:.2f} are usual"
        )

    @_show.register
    def _(self, event: PhaseStarted) -> None:
        self.say(f"         {event.doing} ...")

    @_show.register
    def _(self, event: LaneRepeated) -> None:
        self.say(f"         lane {event.lane} again, with less on the device, which is full: {event.said}")

    @_show.register
    def _(self, event: ScratchDamaged) -> None:
        self.say(f"         {event.said}: what is lost is computed again")

    @_show.register
    def _(self, event: PassEnded) -> None:
        self._done = event.total_bytes
        if not self._brief:  # the many short passes over a sample leave no line behind
            self.say(self._line())

    def _line(self) -> str:
        share = min(1.0, self._done / self._total) if self._total else 1.0
        elapsed = max(1e-9, time.monotonic() - self._start)
        columns = shutil.get_terminal_size().columns if self._moving else _BAR + _BESIDE_BAR
        length = max(1, min(_BAR, columns - _BESIDE_BAR))
        bar = "#" * int(length * share) + "." * (length - int(length * share))
        rate = self._done / elapsed / 1e9
        line = f"{self._name:<10} [{bar}] {human_bytes(self._done):>9} {rate:6.2f} GB/s {elapsed:6.1f} s"
        return line[: columns - 1] if self._moving else line

    @_show.register
    def _(self, event: PlanRevised) -> None:
        low, high = event.passes_low, event.passes_high
        passes = f"about {low:.2f}" if low == high else f"between {low:.2f} and {high:.2f}"
        self.say(f"plan     {event.method}, {passes} passes, {event.seconds:.2g} s: {event.why}")

    @_show.register
    def _(self, event: Certified) -> None:
        rank = f", k={event.k}" if event.k else ""
        self.say(
            f"         error {event.relative_error:.6f}, worst residual {_foretold(event)}"
            f"{event.max_residual:.2e}{rank}{_counted(event)}: {_outlook(event)}"
        )


def _foretold(event: Certified) -> str:
    """That no pass has proved it, if so."""
    return "foretold as " if event.foretold else ""


def _counted(event: Certified) -> str:
    """How many triplets have arrived, and how many have to."""
    if event.reached is None or event.converged:
        return ""
    if event.above_noise is None:
        return f", {event.reached} within the tolerance"
    return f", {event.reached} of the {event.above_noise} above the noise within the tolerance"


def _outlook(event: Certified) -> str:
    """What waiting for the rest would cost."""
    if event.converged:
        return "reached"
    if not event.passes_left:
        return "more passes needed"
    took = "" if event.seconds_left is None else f" ({event.seconds_left:.2g} s)"
    return f"about {event.passes_left} more{took}"
