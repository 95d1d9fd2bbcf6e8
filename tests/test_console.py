"""What a person sees of a run: one line a pass in a file, a moving bar on a terminal, nothing when quiet."""

from __future__ import annotations

import io
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client

import bigsvd
from bigsvd.cli.console import Console
from bigsvd.events import (
    BytesRead,
    Certified,
    Event,
    Formed,
    LaneRepeated,
    PassEnded,
    PassStarted,
    PlanMade,
    PlanRevised,
    SampleTaken,
    ScratchDamaged,
    label_of,
)

PLAN = bigsvd.plan(np.zeros((50, 20)), 3)
MADE = PlanMade(PLAN, resumed=False, scratch="u.scratch", passes_done=0)
PASS = PassStarted("pass-000", total_bytes=4000, sample=False, resumed_lanes=0)
READ = BytesRead(1000)
END = PassEnded("pass-000", total_bytes=4000, sample=False)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def certificate(**changes: Any) -> Certified:
    made = Certified(
        passes=1, relative_error=0.25, max_residual=0.5, excess_error=None, converged=False,
        passes_left=None, seconds_left=None, k=7, reached=None, above_noise=None,
    )  # fmt: skip
    return replace(made, **changes)


def shown(stream: io.StringIO, *events: Event, quiet: bool = False) -> str:
    console = Console(stream, quiet=quiet)
    for event in events:
        console(event)
    return stream.getvalue()


def test_a_full_device_is_told() -> None:
    event = LaneRepeated(3, "2 bytes asked for, 1 free")
    assert "lane 3 again, with less on the device, which is full: 2 bytes asked for" in shown(
        io.StringIO(), PASS, event
    )


def test_damage_to_scratch_is_told() -> None:
    event = ScratchDamaged("/here/out.scratch/pass/z is damaged (c/0/0 has another checksum)")
    said = shown(io.StringIO(), PASS, event)
    assert "/here/out.scratch/pass/z is damaged (c/0/0 has another checksum): what is lost is comp" in said


def test_a_file_gets_one_line_for_a_pass() -> None:
    text = shown(io.StringIO(), PASS, READ, READ, READ, READ, END)
    assert len(text.splitlines()) == 1
    assert "\r" not in text
    assert text.startswith("pass 1     [########################]")
    assert "4.0 kB" in text
    assert "GB/s" in text


def test_a_terminal_gets_a_bar_that_moves() -> None:
    text = shown(Terminal(), PASS, READ, READ, END)
    steps = text.split("\r\x1b[K")
    assert [step.count("#") for step in steps] == [0, 6, 12, 24]
    assert text.endswith("\n")
    assert text.count("\n") == 1


def test_the_bar_never_overflows() -> None:
    text = shown(Terminal(), PASS, *[READ] * 9)
    assert max(step.count("#") for step in text.split("\r")) == 24


def test_a_pass_of_nothing_is_full() -> None:
    assert "[########################]" in shown(
        io.StringIO(), replace(PASS, total_bytes=0), replace(END, total_bytes=0)
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"converged": True}, "k=7: reached"),
        ({"passes_left": 3}, "k=7: about 3 more"),
        (
            {"passes_left": 3, "seconds_left": 12.0, "reached": 5},
            "5 within the tolerance: about 3 more (12 s)",
        ),
        (
            {"reached": 4, "above_noise": 5},
            "k=7, 4 of the 5 above the noise within the tolerance: more passes needed",
        ),
        ({}, "k=7: more passes needed"),
        ({"k": None}, "5.00e-01: more passes needed"),
    ],
)
def test_the_certificate_follows_the_pass(changes: dict[str, Any], expected: str) -> None:
    text = shown(io.StringIO(), certificate(**changes))
    assert "error 0.250000, worst residual 5.00e-01" in text
    assert text.rstrip().endswith(expected)


@pytest.mark.parametrize(
    ("high", "told"), [(9.1, "between 4.10 and 9.10 passes"), (4.1, "about 4.10 passes")]
)
def test_what_the_sample_has_taught_is_told(high: float, told: str) -> None:
    text = shown(io.StringIO(), PlanRevised("gram", 4.1, high, 12.0, "the spectrum is flat"))
    assert text == f"plan     gram, {told}, 12 s: the spectrum is flat\n"


def test_resuming_and_sampling_are_told() -> None:
    text = shown(
        io.StringIO(),
        replace(MADE, resumed=True, passes_done=2),
        SampleTaken(12345),
    )
    assert "resuming the run kept in u.scratch: 2 passes are done" in text
    assert "12,345 rows" in text


def test_what_a_run_will_cost_is_told_before_it_starts() -> None:
    text = shown(io.StringIO(), MADE)
    assert f"{PLAN.method} on {PLAN.device}, about {PLAN.expected_passes:.2f} passes over 8.0 kB" in text
    assert "nominal rates" in text


def test_a_warm_start_that_did_not_pay_is_told(client: Client, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((400, 120))
    bigsvd.svd(values, 3, tmp_path / "of-other-data", client=client)
    for data, told in ((rng.standard_normal((400, 120)), True), (values, False)):
        stream = io.StringIO()
        options: dict[str, Any] = {"warm_start": tmp_path / "of-other-data", "method": "krylov", "tol": 1e-2}
        bigsvd.svd(data, 3, client=client, progress=Console(stream), **options)
        assert ("the warm start did not pay: " in stream.getvalue()) == told, stream.getvalue()


def test_quiet_is_quiet() -> None:
    stream = Terminal()
    console = Console(stream, quiet=True)
    console.say("text")
    assert shown(stream, PASS, READ, END, certificate(), quiet=True) == ""


def test_events_that_are_not_for_people_are_not_shown() -> None:
    assert shown(io.StringIO(), Formed()) == ""


def test_events_from_many_threads_are_all_counted() -> None:
    stream = io.StringIO()
    console = Console(stream)
    console(replace(PASS, total_bytes=8 * 500 * 1000))

    def tell() -> None:
        for _ in range(500):
            console(READ)

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert console._done == 8 * 500 * 1000


def test_a_real_run_is_told_from_its_passes_to_its_certificate(client: Client) -> None:
    stream = io.StringIO()
    values = np.random.default_rng(0).standard_normal((50, 20))
    bigsvd.svd(values, 3, client=client, progress=Console(stream))
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("plan     krylov on cpu, about ")
    assert lines[1].startswith("pass 1     [####")
    assert [line for line in lines if line.endswith("k=3: reached")]
    assert lines[-2:] == [
        "         forming the singular vectors ...",
        "         writing and verifying the factors ...",
    ]


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_no_line_on_a_terminal_is_wider_than_it(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    named = replace(PASS, name="correct-krylov-float32-002-0")
    plan = MADE
    text = shown(Terminal(), plan, named, READ, READ, END, certificate())
    lines = re.split(r"\r\x1b\[K|\n", text)
    assert max(map(len, lines)) <= columns
    assert " ".join(text.split()).count("nominal rates, at most") == 1  # no word is broken
    assert "correcting [####" in text


def test_a_file_gets_its_lines_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert len(shown(io.StringIO(), MADE).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("krylov-float32-000", "pass 1"),
        ("gram-float64-011", "pass 12"),
        ("two-sided-float64-002", "checking"),
        ("correct-krylov-float32-002-0", "correcting"),
        ("statistics-float64-000", "means"),
        ("something", "something"),
    ],
)
def test_passes_have_plain_names(name: str, label: str) -> None:
    assert label_of(name) == label
