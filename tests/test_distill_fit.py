"""A student is fitted to published factors: what it has learnt, how it goes on, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

import bigsvd
from bigsvd.distill import network
from bigsvd.distill.basis import Basis
from bigsvd.distill.fit_plan import plan_fit
from bigsvd.distill.fitting import fit, fit_order_of, plan_of
from bigsvd.distill.gaussians import fit_flops
from bigsvd.distill.observed import observe
from bigsvd.distill.panels import RowPanels
from bigsvd.distill.student import Student, open_student
from bigsvd.distill.teacher import Teacher
from bigsvd.distill.training import Course
from bigsvd.errors import (
    DeviceError,
    MemoryBudgetError,
    OutputExistsError,
    RankError,
    RequestError,
    TeacherError,
)
from bigsvd.events import EpochEnded, Event, GivenUp, PassStarted
from bigsvd.sources.open import open_source
from bigsvd.units import round_up

M, N, R = 300, 24, 6
CHEAP = ("ridge", "mixture")
few_epochs = partial(fit, stages=("network",), epochs=3, masks="uniform:0.2..0.6")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, their factors, and other data with gaps."""
    folder = tmp_path_factory.mktemp("taught")
    random = np.random.default_rng(8)
    A = random.standard_normal((M, R)) @ random.standard_normal((R, N)) * 2 + random.standard_normal((M, N))
    np.save(folder / "a.npy", A)
    np.save(folder / "new.npy", np.where(random.random((50, N)) < 0.3, A[:50], np.nan))
    bigsvd.svd(str(folder / "a.npy"), R, center=True, out=folder / "teacher.zarr", tol=1e-6)
    return folder


def same(one: Student, other: Student) -> bool:
    return one.learnt.keys() == other.learnt.keys() and all(
        np.array_equal(values, other.learnt[stage][name])
        for stage, arrays in one.learnt.items()
        for name, values in arrays.items()
    )


def test_a_student_has_what_its_teacher_knows(home: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    student = fit(home / "teacher.zarr", tmp_path / "s.zarr", stages=CHEAP, progress=heard.append)
    teacher = Teacher.open(home / "teacher.zarr")
    assert same(student, open_student(tmp_path / "s.zarr"))
    assert student.stages == CHEAP
    for name in ("V", "s", "noise"):
        np.testing.assert_allclose(getattr(student.basis, name), getattr(teacher.basis, name), rtol=1e-12)
    np.testing.assert_array_equal(student.standard.mean, teacher.standard.mean)
    assert (student.basis.samples, student.columns.shape) == (M, (N,))
    assert student.masks == "uniform:0.02..0.6"
    assert student.provenance["teacher"] == str(home / "teacher.zarr")
    assert student.provenance["fit"]["stages"] == list(CHEAP)
    assert [event.kind for event in heard][-1] == "done"
    assert not (tmp_path / "s.zarr.scratch").exists()


def test_what_a_student_predicts_needs_no_teacher(home: Path, tmp_path: Path) -> None:
    A = np.load(home / "a.npy")
    bigsvd.svd(A, R, center=True, out=tmp_path / "t.zarr")
    student = fit(tmp_path / "t.zarr", tmp_path / "s.zarr", source=A, stages=CHEAP, components=4)
    assert isinstance(student.basis, Basis)
    assert student.basis.r == 4
    [rows] = RowPanels(open_source(home / "new.npy"), student.standard, 50)
    means = np.sqrt(np.mean((A[:50] - A.mean(axis=0))[~rows.seen] ** 2))
    for name in student.stages:
        z = student.stage(name).infer(observe(student.basis, rows)).mean
        errors = A[:50] - A.mean(axis=0) - z @ student.basis.V.T
        assert np.sqrt(np.mean(errors[~rows.seen] ** 2)) < 0.8 * means


def test_gaps_are_those_of_the_data_to_be_predicted(home: Path) -> None:
    by_path = fit_order_of(home / "teacher.zarr", target=str(home / "new.npy"))
    assert by_path.masks.text == f"empirical:{home}/new.npy"
    in_memory = fit_order_of(home / "teacher.zarr", target=np.load(home / "new.npy"))
    assert in_memory.masks.text == "empirical:<in memory>"
    np.testing.assert_array_equal(by_path.masks.draw(0, 0, 0, 9, N), in_memory.masks.draw(0, 0, 0, 9, N))
    zeros = np.nan_to_num(np.load(home / "new.npy"))
    by_zero = fit_order_of(home / "teacher.zarr", target=zeros, missing="zero")
    np.testing.assert_array_equal(by_zero.masks.draw(0, 0, 0, 9, N), in_memory.masks.draw(0, 0, 0, 9, N))


class KilledError(Exception):
    """What stands for a kill."""


def test_a_fit_that_was_killed_goes_on_with_the_same_bits(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    heard: list[Event] = []

    def kill(event: Event) -> None:
        if isinstance(event, EpochEnded) and event.epoch == 2:
            raise KilledError

    with pytest.raises(KilledError):
        few_epochs(home / "teacher.zarr", tmp_path / "s.zarr", progress=kill)
    student = few_epochs(home / "teacher.zarr", tmp_path / "s.zarr", progress=heard.append)
    assert [event.epoch for event in heard if isinstance(event, EpochEnded)] == [3]
    assert not any(isinstance(event, PassStarted) for event in heard)  # the noise is not measured again
    assert same(student, few_epochs(home / "teacher.zarr", tmp_path / "whole.zarr"))
    assert student.stages == ("ridge", "network")


def test_what_another_fit_has_done_is_given_up_for_overwrite_only(home: Path, tmp_path: Path) -> None:
    def kill(event: Event) -> None:
        if isinstance(event, PassStarted):
            raise KilledError

    with pytest.raises(KilledError):
        fit(home / "teacher.zarr", tmp_path / "s.zarr", stages=CHEAP, progress=kill)
    with pytest.raises(OutputExistsError, match=r"another fit has done: seed=0 \(now 1\)"):
        fit(home / "teacher.zarr", tmp_path / "s.zarr", stages=CHEAP, seed=1)
    heard: list[Event] = []
    fit(
        home / "teacher.zarr",
        tmp_path / "s.zarr",
        stages=CHEAP,
        seed=1,
        overwrite=True,
        progress=heard.append,
    )
    assert any(isinstance(event, GivenUp) for event in heard)


def test_gaps_of_other_data_in_memory_are_another_fit(home: Path) -> None:
    gone = np.random.default_rng(3).random((2, 50, N)) < 0.4
    one, other = (
        fit_order_of(home / "teacher.zarr", target=np.where(each, np.nan, 1.0), stages=CHEAP) for each in gone
    )
    assert one.masks.text == other.masks.text
    assert one.problem != other.problem


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"components": R + 1}, RankError, f"k={R + 1} is not in the allowed range 1..{R}"),
        ({"stages": ("ridge", "forest")}, RequestError, "are not known"),
        ({"stages": "ridge"}, RequestError, "are not known"),
        ({"masks": "stripes:0.1..0.2"}, RequestError, "is not known"),
        ({"epochs": 0}, RequestError, "epochs=0"),
        ({"epochs": 3, "stages": CHEAP}, RequestError, "of a network, which is no stage"),
        ({"seed": -1}, RequestError, "seed=-1 is not an integer >= 0"),
        ({"missing": "zero"}, RequestError, "say what a target lacks"),
        ({"missing_value": -9.0}, RequestError, "say what a target lacks"),
        ({"memory": "1MB"}, MemoryBudgetError, "but the budget is"),
        ({"source": np.ones((3, N))}, TeacherError, "cannot be had"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    home: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said.replace("(", r"\(")):
        fit(home / "teacher.zarr", tmp_path / "s.zarr", **options)
    assert not any(tmp_path.iterdir())


def test_an_output_that_is_there_stays(home: Path, tmp_path: Path) -> None:
    fit(home / "teacher.zarr", tmp_path / "s.zarr", stages=("ridge",))
    with pytest.raises(OutputExistsError):
        fit(home / "teacher.zarr", tmp_path / "s.zarr", stages=("ridge",))
    with pytest.raises(OutputExistsError):
        fit(home / "teacher.zarr", home / "teacher.zarr", stages=("ridge",), overwrite=True)
    assert fit(home / "teacher.zarr", tmp_path / "s.zarr", stages=CHEAP, overwrite=True).stages == CHEAP


def test_gaps_are_those_of_one_thing(home: Path) -> None:
    with pytest.raises(RequestError, match="target and masks both"):
        fit_order_of(home / "teacher.zarr", target=home / "new.npy", masks="uniform:0.1..0.2", stages=CHEAP)


def test_a_plan_says_what_will_be_read_and_held(home: Path) -> None:
    order = fit_order_of(home / "teacher.zarr", epochs=5)
    plan = plan_of(order, "1GB")
    plan.check()
    assert (plan.samples, plan.features, plan.components, plan.passes) == (M, N, R, 2)
    assert plan.memory_bytes == sum(plan.terms.values()) <= 10**9
    assert "up to 2 times" in str(plan)
    assert plan.to_dict()["memory_bytes"] == plan.memory_bytes
    cheap = plan_of(fit_order_of(home / "teacher.zarr", stages=CHEAP))
    assert cheap.passes == 1
    assert "once, from" in str(cheap)
    assert cheap.held_bytes == 0


def test_what_a_plan_asks_for_suffices(home: Path) -> None:
    facts = replace(fit_order_of(home / "teacher.zarr").material.source.facts, shape=(10**6, N))
    plan_for = partial(plan_fit, "teacher", facts, R, ("ridge", "network"), epochs=1)
    least = round_up(plan_for(memory=10**6).memory_bytes)
    held = [plan_for(memory=budget) for budget in (least, least * 5 // 4, least * 5)]
    for plan in held:
        plan.check()
    assert held[0].held_bytes < held[1].held_bytes < held[2].held_bytes == 10**6 * (9 * N + 8 * R)


def test_a_plan_says_how_long_each_stage_learns(home: Path) -> None:
    plan = plan_of(fit_order_of(home / "teacher.zarr", epochs=5))
    twice = plan_of(fit_order_of(home / "teacher.zarr", epochs=10))
    assert list(plan.seconds) == ["reading", "the mixture", "the network"]
    assert twice.seconds["the network"] == pytest.approx(2 * plan.seconds["the network"])
    assert (
        twice.seconds["the mixture"] == plan.seconds["the mixture"] == pytest.approx(fit_flops(M, R) / 3e10)
    )
    assert f"the network {plan.seconds['the network']:.2g} s" in str(plan)
    assert list(plan_of(fit_order_of(home / "teacher.zarr", stages=("ridge",))).seconds) == ["reading"]


def test_a_network_multiplies_about_as_much_as_is_said(home: Path, tmp_path: Path) -> None:
    with FlopCounterMode(display=False) as counter:
        few_epochs(home / "teacher.zarr", tmp_path / "s.zarr")
    said = Course(epochs=3).flops_for(M, N, R)["float32"]
    assert 1 / 3 < said / counter.get_total_flops() < 3


def test_a_network_without_torch_is_refused_before_anything_is_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "is_installed", lambda: False)
    with pytest.raises(DeviceError, match=r"bigsvd\[distill\]"):
        fit_order_of(home / "teacher.zarr")
    assert fit_order_of(home / "teacher.zarr", stages=CHEAP).stages == CHEAP
