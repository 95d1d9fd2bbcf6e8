"""The network that betters the ridge, and how it learns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bigsvd.distill import network as network_module
from bigsvd.distill.basis import Basis
from bigsvd.distill.lessons import Chapters, Lesson
from bigsvd.distill.network import Network, Shape, device_named
from bigsvd.distill.observed import Observed, observe
from bigsvd.distill.ridge import Ridge
from bigsvd.distill.rows import Rows
from bigsvd.distill.stage import Coordinates, Move
from bigsvd.distill.training import FOLDER, Course, Trained, _Class, train
from bigsvd.errors import DeviceError
from bigsvd.events import EpochEnded, Event, event_from_dict
from bigsvd.scratch import Scratch

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
N, R = 24, 6
QUICK = Course(steps=2, hidden=24, epochs=4, batch=64, rate=3e-3)


@dataclass(frozen=True)
class Shares:
    """Each entry is seen with a probability between the two that is drawn for its row."""

    low: float = 0.1
    high: float = 0.6

    def draw(self, seed: int, epoch: int, start: int, b: int, n: int) -> np.ndarray:
        random = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, start, epoch]))
        return np.asarray(random.random((b, n)) < random.uniform(self.low, self.high, (b, 1)))


@dataclass(frozen=True, eq=False)
class Taught:
    """A teacher's rows in panels."""

    basis: Basis
    matrix: np.ndarray
    panel: int = 100

    def __iter__(self) -> Iterator[Lesson]:
        for start in range(0, len(self.matrix), self.panel):
            values = self.matrix[start : start + self.panel]
            rows = Rows(start, values, np.ones(values.shape, dtype=bool))
            yield Lesson(rows, values @ self.basis.V)


def on_a_curve(rows: int, seed: int) -> np.ndarray:
    """Rows of which a phase says everything: no Gaussian knows that."""
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, (rows, 1))
    distance = np.abs((phase - np.linspace(0, 2 * np.pi, N, endpoint=False) + np.pi) % (2 * np.pi) - np.pi)
    noise = np.random.default_rng(seed + 1).standard_normal((rows, N))
    found = np.exp(-(distance**2) / 0.5) + 0.05 * noise
    return np.asarray(found - found.mean(axis=0))


def normal(rows: int, seed: int) -> np.ndarray:
    """Rows of a Gaussian of six components, and noise."""
    loadings = np.linalg.qr(np.random.default_rng(3).standard_normal((N, R)))[0] * np.linspace(3, 1, R)
    random = np.random.default_rng(seed)
    return np.asarray(
        random.standard_normal((rows, R)) @ loadings.T + 0.5 * random.standard_normal((rows, N))
    )


def teacher_of(matrix: np.ndarray) -> Taught:
    _, s, Vt = np.linalg.svd(matrix, full_matrices=False)
    noise = np.mean((matrix - matrix @ Vt[:R].T @ Vt[:R]) ** 2, axis=0)
    return Taught(Basis(Vt[:R].T, s[:R], Basis.floored(noise, s[:R], len(matrix)), len(matrix)), matrix)


def learnt(taught: Taught, course: Course, **options: object) -> Trained:
    return train(taught.basis, taught, len(taught.matrix), Shares(), course, **options)  # type: ignore[arg-type]


def with_gaps(matrix: np.ndarray, share: float) -> Rows:
    seen = np.random.default_rng(9).random(matrix.shape) < share
    return Rows(0, matrix * seen, seen)


def untrained(basis: Basis, *, answers: bool = False) -> Network:
    """As it is before training; with `answers` its last layers say something, at random."""
    weights = Shape(R, 2, 16).initial(0)
    random = np.random.default_rng(8)
    if answers:
        weights = {
            name: values + np.float32(0.05) * random.standard_normal(values.shape).astype(np.float32)
            for name, values in weights.items()
        }
    return Network(basis.prior, N, weights)


@pytest.fixture(scope="module")
def curved() -> Taught:
    return teacher_of(on_a_curve(600, 0))


@needs_torch
@pytest.mark.parametrize("shared", [False, True])
def test_before_training_it_is_the_ridge(curved: Taught, shared: bool) -> None:
    observed = observe(curved.basis, with_gaps(curved.matrix[:20], 0.3))
    if shared:
        observed = Observed(observed.G[:1], observed.t, observed.energy, observed.count)
    found, closed = untrained(curved.basis).infer(observed), Ridge(curved.basis.prior).infer(observed)
    np.testing.assert_array_equal(found.mean, closed.mean)
    np.testing.assert_array_equal(found.covariance, np.broadcast_to(closed.covariance, (20, R, R)))


@needs_torch
def test_the_laws_of_a_stage(curved: Taught) -> None:
    """A row of which nothing was seen has the prior; no row's answer depends on the rows beside it."""
    rows = with_gaps(curved.matrix[:20], 0.3)
    hidden = np.zeros(rows.seen.shape, dtype=bool)
    hidden[3] = True
    network, rows = untrained(curved.basis, answers=True), rows.hide(hidden)
    found = network.infer(observe(curved.basis, rows))
    np.testing.assert_array_equal(found.mean[3], 0)
    np.testing.assert_allclose(found.covariance[3], np.diag(curved.basis.prior), rtol=1e-12)
    alone = network.infer(observe(curved.basis, Rows(5, rows.values[5:6], rows.seen[5:6])))
    np.testing.assert_allclose(alone.mean[0], found.mean[5], rtol=1e-4, atol=1e-5)
    assert np.all(np.linalg.eigvalsh(found.covariance) > 0)


@needs_torch
def test_rows_with_one_mask_are_answered_as_any(curved: Taught) -> None:
    matrix, network = curved.matrix[:10], untrained(curved.basis, answers=True)
    seen = np.broadcast_to(np.random.default_rng(2).random(N) < 0.4, matrix.shape)
    each = observe(curved.basis, Rows(0, matrix * seen, seen))
    shared = Observed(each.G[:1], each.t, each.energy, each.count)
    np.testing.assert_allclose(network.infer(shared).mean, network.infer(each).mean, atol=1e-5)
    np.testing.assert_allclose(network.infer(shared).covariance, network.infer(each).covariance, atol=1e-5)


@needs_torch
def test_its_arrays_make_it_again(curved: Taught) -> None:
    observed = observe(curved.basis, with_gaps(curved.matrix[:5], 0.3))
    network = replace(untrained(curved.basis, answers=True), spread=1.7)
    again = Network.from_arrays(network.to_arrays())
    np.testing.assert_array_equal(again.infer(observed).mean, network.infer(observed).mean)
    np.testing.assert_array_equal(again.infer(observed).covariance, network.infer(observed).covariance)
    assert Shape.of(network.weights) == Shape(R, 2, 16)
    assert sum(values.size for values in network.weights.values()) == Shape(R, 2, 16).numbers


@needs_torch
def test_it_learns_what_no_gaussian_knows_and_its_intervals_cover(curved: Taught) -> None:
    torch = pytest.importorskip("torch")
    before, events = torch.get_num_threads(), list[Event]()
    found = learnt(
        curved, replace(QUICK, epochs=20, hidden=64, batch=16, held_out=0.2), progress=events.append
    )
    assert torch.get_num_threads() == before
    assert found.error < 0.95 * found.ridge
    told = [event for event in events if isinstance(event, EpochEnded)]
    assert [event.epoch for event in told] == list(range(1, len(told) + 1))
    assert min(event.best for event in told) == found.error
    assert event_from_dict(told[0].to_dict()) == told[0]
    new = on_a_curve(300, 7)
    rows, basis = with_gaps(new, 0.3), curved.basis
    ridge, better = (stage.infer(observe(basis, rows)) for stage in (Ridge(basis.prior), found.network))
    hidden = ~rows.seen
    errors = [np.sqrt(np.mean((new - each.mean @ basis.V.T)[hidden] ** 2)) for each in (ridge, better)]
    assert errors[1] < 0.98 * errors[0]
    variances = basis.noise + np.einsum("jk,bkl,jl->bj", basis.V, better.covariance, basis.V)
    inside = np.abs(new - better.mean @ basis.V.T) <= 1.645 * np.sqrt(variances)
    assert 0.82 < np.mean(inside[hidden]) < 0.97


@needs_torch
def test_where_a_gaussian_is_right_it_stays_with_the_ridge() -> None:
    taught = teacher_of(normal(600, 0))
    found, new = learnt(taught, QUICK), normal(300, 7)
    observed = observe(taught.basis, with_gaps(new, 0.3))
    errors = [
        np.mean((stage.infer(observed).mean - new @ taught.basis.V) ** 2)
        for stage in (Ridge(taught.basis.prior), found.network)
    ]
    assert errors[1] < 1.03 * errors[0]
    assert found.error <= found.ridge


@dataclass(frozen=True)
class Knowing:
    """A tutor that says the same of every row."""

    answer: np.ndarray
    name: str = "knowing"

    def on(self, move: Move) -> Knowing:
        del move
        return self

    def infer(self, observed: Observed) -> Coordinates:
        mean = np.broadcast_to(self.answer, observed.t.shape)
        return Coordinates(mean, np.broadcast_to(np.eye(R), (1, R, R)))


@needs_torch
def test_half_of_what_is_told_is_the_tutor_s(curved: Taught) -> None:
    taught = _Class(curved.basis, Shares(), QUICK, "cpu", 600, Knowing(np.zeros(R)))
    observed = observe(curved.basis, with_gaps(curved.matrix[:5], 0.3))
    np.testing.assert_allclose(taught.told(observed, np.ones((5, R))), 0.5)


@needs_torch
def test_it_learns_from_what_is_told(curved: Taught) -> None:
    """Of a tutor that says the same of every row it learns what is worse for rows held out."""
    events: list[EpochEnded] = []
    for tutor in (None, Knowing(3 * np.sqrt(curved.basis.prior))):
        learnt(curved, QUICK, tutor=tutor, progress=events.append)
    assert events[-1].error > 1.1 * events[QUICK.epochs - 1].error


class StoppedError(Exception):
    """Ends a training from outside."""


def stop_after(epoch: int) -> object:
    def told(event: Event) -> None:
        if isinstance(event, EpochEnded) and event.epoch == epoch:
            raise StoppedError

    return told


def assert_same(one: Trained, other: Trained) -> None:
    assert (one.error, one.epochs, one.network.spread) == (other.error, other.epochs, other.network.spread)
    for name, values in one.network.weights.items():
        np.testing.assert_array_equal(values, other.network.weights[name])


@needs_torch
def test_a_training_whose_scratch_is_damaged_begins_anew_with_the_same_bits(
    curved: Taught, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        learnt(curved, QUICK, scratch=Scratch(tmp_path), progress=stop_after(2))
    (file,) = (tmp_path / FOLDER / "epoch-2" / "second").glob("c/*")
    file.write_bytes(file.read_bytes()[:-9] + b"x" * 9)
    events: list[Event] = []
    again = learnt(curved, QUICK, scratch=Scratch(tmp_path), progress=events.append)
    assert len(events) == QUICK.epochs
    assert_same(again, learnt(curved, QUICK))


@needs_torch
def test_another_course_begins_anew(curved: Taught, tmp_path: Path) -> None:
    learnt(curved, replace(QUICK, epochs=1), scratch=Scratch(tmp_path))
    other = replace(QUICK, epochs=1, seed=1)
    assert_same(learnt(curved, other, scratch=Scratch(tmp_path)), learnt(curved, other))


KILLED = """
import os, signal, sys
from bigsvd.events import EpochEnded
from bigsvd.scratch import Scratch
from tests.test_distill_network import QUICK, learnt, on_a_curve, teacher_of

def told(event):
    if event.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)

learnt(teacher_of(on_a_curve(600, 0)), QUICK, scratch=Scratch(sys.argv[1]), progress=told)
"""


@needs_torch
def test_a_training_that_was_killed_goes_on_with_the_same_bits(curved: Taught, tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert ended.returncode == -signal.SIGKILL
    events: list[Event] = []
    resumed = learnt(curved, QUICK, scratch=Scratch(tmp_path), progress=events.append)
    assert len(events) == 2
    assert_same(resumed, learnt(curved, QUICK))


def test_rows_that_memory_does_not_hold_are_read_again(curved: Taught) -> None:
    size = next(iter(curved)).bytes
    few, all_of_them = Chapters(curved, 2 * size), Chapters(curved, 6 * size)
    assert [len(chapter) for chapter in few] == [2, 2, 2]
    assert [len(chapter) for chapter in all_of_them] == [6]
    assert next(iter(few)) is not next(iter(few))
    assert next(iter(all_of_them)) is next(iter(all_of_them))


def test_no_two_chapters_are_held_at_a_time(curved: Taught) -> None:
    chapters = iter(Chapters(curved, 2 * next(iter(curved)).bytes))
    first = next(chapters)
    lessons = [*map(weakref.ref, first)]
    assert all(lesson() for lesson in lessons)
    next(chapters)
    assert not any(lesson() for lesson in lessons), first


@needs_torch
def test_it_learns_from_rows_that_memory_does_not_hold(curved: Taught) -> None:
    course = replace(QUICK, held_bytes=1, epochs=6, rows_per_epoch=400, batch=16)
    found = learnt(curved, course)
    assert found.error < found.ridge


@needs_torch
def test_weights_that_are_no_numbers_are_never_kept(curved: Taught) -> None:
    found = learnt(curved, replace(QUICK, rate=1e20))
    assert all(np.isfinite(values).all() for values in found.network.weights.values())
    assert found.error <= found.ridge


@needs_torch
def test_variances_stay_numbers_whatever_the_head_says(curved: Taught) -> None:
    network, observed = untrained(curved.basis), observe(curved.basis, with_gaps(curved.matrix[:9], 0.3))
    weights = dict(network.weights) | {"step-0-bias-2": np.full(2 * R, -1e3, np.float32)}
    narrow = replace(network, weights=weights).infer(observed).covariance
    ratio = narrow / network.infer(observed).covariance
    np.testing.assert_allclose(ratio, np.exp(-4), rtol=1e-5)


@needs_torch
def test_too_few_rows_to_hold_any_out_leave_the_ridge(curved: Taught) -> None:
    taught = replace(curved, matrix=curved.matrix[:50])
    found = learnt(taught, replace(QUICK, held_out=0.0))
    observed = observe(curved.basis, with_gaps(curved.matrix[:20], 0.3))
    np.testing.assert_array_equal(
        found.network.infer(observed).mean, Ridge(curved.basis.prior).infer(observed).mean
    )
    assert found.epochs == 0


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("torch") is not None:
        torch = pytest.importorskip("torch")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert device_named("auto") == "cpu"
        for gpu in ("cuda", "gpu"):
            with pytest.raises(DeviceError, match="no GPU"):
                device_named(gpu)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert {device_named(each) for each in ("auto", "cuda", "gpu")} == {"cuda"}
    monkeypatch.setattr(network_module, "is_installed", lambda: False)
    with pytest.raises(DeviceError, match=r"bigsvd\[distill\]"):
        device_named("cpu")
