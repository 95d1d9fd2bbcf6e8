"""`evaluate`: every way fills the same gaps; rows that the teacher has seen are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bigsvd
from bigsvd.distill.evaluating import evaluate
from bigsvd.distill.evaluation import Evaluation
from bigsvd.distill.student import Student
from bigsvd.errors import OutputExistsError, RequestError, TeacherError
from bigsvd.events import Event, PhaseStarted
from tests.commands import done, refused
from tests.students import Law, N, R, by_hand, write_student

OLD, COMPLETE, K = 600, 90, 3
LAW = Law.of()
QUICK: dict[str, Any] = {"shares": (0.3,), "seeds": (0,), "k": K}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of which the first rows are the teacher's, its factors, and a student of them."""
    folder = tmp_path_factory.mktemp("evaluated")
    data = LAW.rows(OLD + COMPLETE, 1)
    zarr.create_array(folder / "data.zarr", data=data, chunks=(100, N))
    bigsvd.svd(folder / "data.zarr", R, out=folder / "teacher.zarr", center=True, rows=f"0:{OLD}", tol=1e-6)
    made = by_hand(data[:OLD], folder / "by-hand.zarr")
    provenance = {"teacher": str(folder / "teacher.zarr")}
    write_student(
        folder / "student.zarr",
        Student(made.basis, made.standard, made.columns, dtype="float32", provenance=provenance),
    )
    return folder


@pytest.fixture(scope="module")
def outcome(home: Path) -> Evaluation:
    return evaluate(
        home / "student.zarr", home / "data.zarr", rows=f"{OLD}:{OLD + COMPLETE}", shares=(0.1, 0.4),
        patterns=("uniform", "blocks:5", "columns"), seeds=(0, 1), k=K, out=home / "out",
    )  # fmt: skip


def test_every_way_is_there_in_every_setting(outcome: Evaluation) -> None:
    assert outcome.methods == (
        "column mean", "zero-filled projection", "gappy least squares", "ridge, equal noise", "SoftImpute",
        "kernel regression", "plain network", "ridge", "map", "adapt", "oracle",
    )  # fmt: skip
    assert len(outcome.records) == 11 * 3 * 2 * 2
    assert (outcome.rows, outcome.features, outcome.k, outcome.s_whole) == (COMPLETE, N, K, True)
    assert outcome.left_out == {}


def test_the_oracle_is_best_and_the_ridge_better_than_what_ignores_the_prior(outcome: Evaluation) -> None:
    for pattern in outcome.patterns:
        for share in outcome.shares:
            of = {name: outcome.mean(name, pattern, share, "rmse") for name in outcome.methods}
            assert min(of, key=of.__getitem__) == "oracle"
            assert of["ridge"] < of["zero-filled projection"]
            assert of["ridge"] < of["gappy least squares"]
            assert of["map"] < 1.1 * of["ridge"]


def test_what_was_found_is_written(home: Path, outcome: Evaluation) -> None:
    folder = home / "out"
    values = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert values == json.loads(json.dumps(outcome.to_dict()))
    assert (folder / "evaluation.txt").read_text(encoding="utf-8") == f"{outcome.text}\n"
    assert "The gate" in outcome.text
    assert {path.name for path in folder.glob("*.png")} == {
        "error.png", "sigma.png", "calibration.png", "example.png",
    }  # fmt: skip
    with pytest.raises(OutputExistsError, match="holds something"):
        evaluate(home / "student.zarr", home / "data.zarr", rows=f"{OLD}:", out=folder, **QUICK)


def test_rows_of_the_teacher_are_refused_by_their_ids(home: Path) -> None:
    with pytest.raises(TeacherError, match=r"made of 50 of the 140 rows, the first of them 550"):
        evaluate(home / "student.zarr", home / "data.zarr", rows="550:690", **QUICK)


def test_copies_of_rows_of_the_teacher_are_refused(home: Path) -> None:
    copies = np.asarray(zarr.open_array(home / "data.zarr")[:100])
    with pytest.raises(TeacherError, match=r"100 of 100 rows .* are rows of the teacher"):
        evaluate(home / "student.zarr", copies, **QUICK)
    few = np.vstack([copies[:10], LAW.rows(50, 7)])
    assert "10 of 60 rows" in evaluate(home / "student.zarr", few, **QUICK).text


def test_without_its_teacher_what_learns_from_its_rows_is_left_out(home: Path) -> None:
    found = evaluate(home / "by-hand.zarr", LAW.rows(60, 8), **QUICK)
    assert set(found.left_out) == {"kernel regression", "plain network"}
    assert "is not known" in found.text


def test_what_does_not_fit_is_left_out_and_said(home: Path) -> None:
    found = evaluate(home / "student.zarr", LAW.rows(60, 8), memory=20_000, **QUICK)
    assert set(found.left_out) == {"SoftImpute", "kernel regression", "plain network"}
    assert "cannot be streamed" in found.text


def test_progress_says_what_is_filled(home: Path) -> None:
    events: list[Event] = []
    evaluate(home / "by-hand.zarr", LAW.rows(60, 8), progress=events.append, **QUICK)
    told = [event.doing for event in events if isinstance(event, PhaseStarted)]
    assert "filling uniform, 30 % seen, seed 0" in told


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"shares": (1.5,)}, "between 0 and 1"),
        ({"shares": ()}, "no pattern, share or seed"),
        ({"seeds": (-1,)}, "seed=-1 is not an integer"),
        ({"stage": "ridge"}, "stage has no effect on an evaluation"),
        ({"device": "gpu"}, "device has no effect on an evaluation"),
        ({"patterns": ("clouds",)}, "not known"),
        ({"patterns": ("blocks",)}, "not known"),
    ],
)
def test_settings_that_mean_nothing_are_refused(home: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        evaluate(home / "by-hand.zarr", LAW.rows(60, 8), **(QUICK | asked))


def test_the_same_masks_for_the_same_seed(home: Path) -> None:
    def errors() -> Iterator[float]:
        found = evaluate(home / "by-hand.zarr", LAW.rows(60, 8), **QUICK)
        return (record.rmse for record in found.records)

    assert list(errors()) == list(errors())


def test_the_command_line_says_the_same(home: Path) -> None:
    options = ("--share", 0.3, "--seed", 0, "-k", K, "--rows", f"{OLD}:{OLD + 60}")
    out = home / "typed"
    text = done("distill", "evaluate", home / "student.zarr", home / "data.zarr", out, *options).out
    assert text == (out / "evaluation.txt").read_text(encoding="utf-8")
    said = refused(2, "distill", "evaluate", home / "student.zarr", home / "data.zarr", "--share", 0.3)
    assert "E_TEACHER" in said
    bad = refused(2, "distill", "evaluate", home / "student.zarr", home / "data.zarr", "--sample-shape=2by3")
    assert "28x28" in bad
