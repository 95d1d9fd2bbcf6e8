"""Predicted factors: what they are worth where the law is known, and that they say what they are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bigsvd
from bigsvd.distill import panels, plan, predicting
from bigsvd.distill.columns import Columns
from bigsvd.distill.fitting import fit
from bigsvd.distill.order import order_of
from bigsvd.distill.student import open_student
from bigsvd.errors import (
    ColumnsError,
    FactorStoreError,
    MemoryBudgetError,
    OutputExistsError,
    RankError,
    RequestError,
    StoppedError,
    TeacherError,
)
from bigsvd.events import Event
from bigsvd.results.check import check_store
from bigsvd.results.folders import attributes_of, scratch_path
from bigsvd.results.judged import judged
from bigsvd.results.leading import publish_leading
from tests.commands import done, refused, run
from tests.students import NEW, Law, N, R, by_hand, gaps, write_student

K = 4
predict = partial(predicting.predict, stage="ridge")  # the cheapest, where the stage does not matter
LAW = Law.of()
OLD, COMPLETE = LAW.rows(3000, 1), LAW.rows(NEW, 2)
GONE = gaps(COMPLETE.shape, 0.3)
GONE[7] = True  # a sample of which nothing is seen
DATA = np.where(GONE, np.nan, COMPLETE)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a student, new data, and what is predicted of them."""
    folder = tmp_path_factory.mktemp("predicted")
    by_hand(OLD, folder / "student.zarr")
    zarr.create_array(folder / "new.zarr", data=DATA, chunks=(100, N))
    predict(folder / "student.zarr", folder / "new.zarr", folder / "out.zarr", k=K)
    return folder


@pytest.fixture
def many_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk is a panel."""
    monkeypatch.setattr(panels, "_PANEL_BYTES", 1)


def bits(path: Path) -> bytes:
    factors = bigsvd.open(path)
    parts = (factors.U, factors.s, factors.Vt, factors.uncertainty)
    return b"".join(np.asarray(part[:]).tobytes() for part in parts)


def test_what_is_predicted_is_near_what_an_svd_of_the_complete_data_gives(home: Path) -> None:
    factors, B = bigsvd.open(home / "out.zarr"), COMPLETE - OLD.mean(axis=0)
    s = np.linalg.svd(B, compute_uv=False)[:K]
    np.testing.assert_allclose(factors.s, s, rtol=0.03)
    found = factors[:]
    missed = np.sqrt(np.mean((found - COMPLETE)[GONE] ** 2))
    of_the_mean = np.sqrt(np.mean(B[GONE] ** 2))
    assert missed < 0.55 * of_the_mean
    true_error = np.linalg.norm(found - COMPLETE) / np.linalg.norm(B)
    assert factors.certificate.relative_error == pytest.approx(true_error, rel=0.05)
    assert factors.certificate.frobenius_norm == pytest.approx(np.linalg.norm(B), rel=0.03)


def test_vectors_are_shrunk_by_what_is_not_known_and_uncertainty_says_how_much(home: Path) -> None:
    factors = bigsvd.open(home / "out.zarr")
    assert factors.predicted is not None
    U, Vt = np.asarray(factors.U[:], np.float64), np.asarray(factors.Vt[:], np.float64)
    np.testing.assert_allclose(Vt @ Vt.T, np.eye(K), atol=1e-6)
    np.testing.assert_allclose(np.sum(U**2, axis=0), factors.predicted.captured, atol=1e-5)
    assert max(factors.predicted.captured) < 1
    spread = factors.uncertainty[:]
    seen = (~GONE).sum(axis=1)
    np.testing.assert_array_equal(U[7], 0)
    few, many = spread[seen <= np.quantile(seen, 0.25)], spread[seen >= np.quantile(seen, 0.75)]
    assert np.median(few) > 1.05 * np.median(many)
    assert spread[7] > np.quantile(spread, 0.99)
    missed = np.abs(factors[:] - COMPLETE)[GONE]
    within = missed <= 1.645 * np.broadcast_to(spread[:, None], GONE.shape)[GONE]
    assert 0.87 <= np.mean(within) <= 0.93
    assert factors.predicted.unseen_samples == 1
    assert factors.predicted.seen == np.sum(~GONE)


def test_a_predicted_store_says_so_wherever_it_is_read(home: Path) -> None:
    out = home / "out.zarr"
    factors = bigsvd.open(out)
    assert attributes_of(out)["bigsvd"]["format_version"] == 3
    assert factors.certificate.basis == "predicted"
    assert not factors.certificate.converged
    assert factors.info()["predicted"]["stage"] == "ridge"
    assert "PREDICTED, not computed: nothing here is certified" in done("info", out).out
    told = json.loads(done("info", out, "--json").out)
    assert told["predicted"]["share_seen"] == pytest.approx(np.mean(~GONE))
    assert told["certificate"]["max_residual"] is None
    assert "not computed" in done("rank", out).out
    assert "not computed" in json.loads(done("rank", out, "--json").out)["predicted"]
    title = judged(factors).title
    assert title is not None
    assert "PREDICTED" in title
    assert "not computed" in done("reconstruct", out, "--rows", "0:2", "--cols", "0:2").err
    assert "not computed" in str(factors.as_zarr().attrs["predicted"])
    assert "is undamaged; predicted by stage ridge" in done("verify", out).out


def test_features_of_weight_0_are_no_part_of_what_is_expected_or_seen(home: Path, tmp_path: Path) -> None:
    made, weights = open_student(home / "student.zarr"), np.repeat([1.0, 0.0], N // 2)
    V = np.linalg.qr(made.basis.V * weights[:, None])[0]
    noise = made.basis.noise * np.where(weights, 1, 100)  # of columns that the teacher did not have
    write_student(
        tmp_path / "student.zarr",
        replace(
            made,
            basis=replace(made.basis, V=V, noise=noise),
            standard=replace(made.standard, weights=weights),
        ),
    )
    factors = predict(tmp_path / "student.zarr", DATA, tmp_path / "out.zarr", k=K)
    true = np.linalg.norm((COMPLETE - OLD.mean(axis=0)) * weights)
    assert factors.certificate.frobenius_norm == pytest.approx(true, rel=0.1)
    assert factors.info()["predicted"]["share_seen"] == pytest.approx(np.mean(~GONE[:, : N // 2]))


def test_a_computed_store_says_nothing_of_it(home: Path) -> None:
    factors = bigsvd.svd(OLD[:50], 2, home / "computed.zarr")
    assert factors.predicted is None
    assert factors.uncertainty is None
    assert "PREDICTED" not in done("info", home / "computed.zarr").out
    assert done("rank", home / "computed.zarr", "--json").facts["predicted"] is None


def test_what_is_altered_is_found(home: Path, tmp_path: Path) -> None:
    factors = predict(home / "student.zarr", DATA, tmp_path / "out.zarr", k=K)
    assert check_store(factors) == []
    for name, found in (("U", "U is not what was published"), ("uncertainty", "uncertainty is not")):
        array = zarr.open_array(tmp_path / "out.zarr" / name, mode="r+")
        array[:10] = 0.5 * np.asarray(array[:10])
        assert any(found in finding for finding in check_store(bigsvd.open(tmp_path / "out.zarr")))


def test_the_leading_triplets_are_predicted_too(home: Path, tmp_path: Path) -> None:
    factors = bigsvd.open(home / "out.zarr")
    few = publish_leading(factors, 2, tmp_path / "few.zarr")
    assert few.predicted is not None
    assert factors.predicted is not None
    assert few.predicted.captured == factors.predicted.captured[:2]
    assert check_store(few) == []
    assert few.certificate.relative_error > factors.certificate.relative_error
    np.testing.assert_array_equal(few.uncertainty[:], factors.uncertainty[:])


def test_complete_samples_are_projected_as_they_were_inferred(home: Path) -> None:
    factors = bigsvd.open(home / "out.zarr")
    V = np.asarray(factors.Vt[:], np.float64).T
    np.testing.assert_allclose(
        factors.project(COMPLETE[:3]), (COMPLETE[:3] - OLD.mean(axis=0)) @ V, atol=1e-6
    )


Gap = Callable[[Path], tuple[np.ndarray, dict[str, Any]]]


def by_mask(folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    zarr.create_array(folder / "mask.zarr", data=GONE, chunks=(64, N))
    return COMPLETE, {"mask": folder / "mask.zarr"}


def by_value(folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    del folder
    return np.where(GONE, -999.0, COMPLETE), {"missing_value": -999.0}


def by_zero(folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    del folder
    return np.where(GONE, 0.0, COMPLETE), {"missing": "zero"}


@pytest.mark.parametrize("way", [by_mask, by_value, by_zero])
def test_gaps_are_the_same_however_they_are_marked(home: Path, tmp_path: Path, way: Gap) -> None:
    data, options = way(tmp_path)
    zarr.create_array(tmp_path / "new.zarr", data=data, chunks=(100, N))
    predict(home / "student.zarr", tmp_path / "new.zarr", tmp_path / "out.zarr", k=K, **options)
    assert bits(tmp_path / "out.zarr") == bits(home / "out.zarr")


def test_samples_may_be_the_columns(home: Path, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "new.zarr", data=DATA.T.copy(), chunks=(N, 100))
    found = predict(
        home / "student.zarr", tmp_path / "new.zarr", tmp_path / "out.zarr", k=K, samples="columns"
    )
    upright = bigsvd.open(home / "out.zarr")
    np.testing.assert_array_equal(np.asarray(found.U[:]), np.asarray(upright.Vt[:]).T)
    np.testing.assert_array_equal(found.scores, upright.scores)
    np.testing.assert_allclose(found[:5, :4], upright[:4, :5].T, rtol=1e-6)
    assert check_store(found) == []


def test_what_cannot_be_predicted_is_refused_in_one_line(home: Path, tmp_path: Path) -> None:
    student, out = home / "student.zarr", tmp_path / "out.zarr"
    with pytest.raises(ColumnsError, match="39 features, the student was learnt from 40"):
        predict(student, DATA[:, 1:], out)
    with pytest.raises(RequestError, match="no entry that was seen, of 400"):
        predict(student, np.full((10, N), np.nan), out)
    with pytest.raises(RankError, match=r"k=7 is not in 1\.\.6"):
        predict(student, DATA, out, k=R + 1)
    with pytest.raises(RequestError, match="adapt='maybe'"):
        predicting.predict(student, DATA, out, adapt="maybe")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="adapt='no' not to"):
        predicting.predict(student, DATA, out, stage="adapt", adapt="no")
    with pytest.raises(RequestError, match="seed=-1 is not an integer >= 0"):
        predict(student, DATA, out, seed=-1)
    with pytest.raises(RequestError, match="stage='mixture'"):
        predicting.predict(student, DATA, out, stage="mixture")
    with pytest.raises(MemoryBudgetError, match=r"the budget is 1\.0 MB"):
        predict(student, DATA, out, memory="1MB")
    with pytest.raises(FactorStoreError, match="is a factor store, not a student"):
        predict(home / "out.zarr", DATA, out)
    with pytest.raises(FactorStoreError, match="is a student, not a factor store"):
        bigsvd.open(student)
    with pytest.raises(TeacherError, match="was predicted by stage ridge from"):
        fit(home / "out.zarr", out, stages=("ridge",))
    with pytest.raises(OutputExistsError, match="would be deleted with it"):
        predict(student, DATA, student, overwrite=True)
    assert list(tmp_path.iterdir()) == []
    other = by_hand(OLD, tmp_path / "other.zarr")
    with pytest.raises(OutputExistsError, match=r"other\.zarr is a student"):
        predict(student, DATA, other.path or "", overwrite=True)


def test_the_command_line_says_the_same(home: Path, tmp_path: Path) -> None:
    student, new, out = home / "student.zarr", home / "new.zarr", home / "out.zarr"
    assert "E_OUTPUT_EXISTS" in refused(2, "distill", "predict", student, new, out, "--quiet")
    np.save(tmp_path / "narrow.npy", DATA[:, 1:])
    assert "E_COLUMNS" in refused(2, "distill", "predict", student, tmp_path / "narrow.npy", tmp_path / "o")
    assert "E_K" in refused(2, "distill", "predict", student, new, tmp_path / "o", "-k", "7")
    plan = done("distill", "predict", student, new, "--plan").out
    assert "holds" in plan
    assert done("distill", "predict", student, new, "--plan", "--json").facts["components"] == R
    ended = done("distill", "predict", student, new, tmp_path / "o", "-k", K, "--stage", "ridge")
    assert "PREDICTED" in ended.out
    assert "predicting" in ended.err
    assert bits(tmp_path / "o") == bits(out)
    assert (
        done(
            "distill", "predict", student, new, tmp_path / "o", "--overwrite", "--json", "--stage", "ridge"
        ).facts["k"]
        == R // 2
    )


def test_the_gate_chooses_what_learns_from_data_of_another_scale(home: Path, tmp_path: Path) -> None:
    """Coordinates that vary 3 times as much as the teacher's: the prior has to be learnt anew."""
    wider = Law(LAW.V, 3 * LAW.scale, LAW.noise, LAW.mean)
    complete = wider.rows(NEW, 3)
    few = gaps(complete.shape, 0.15)
    data = np.where(few, np.nan, complete)
    found = predicting.predict(home / "student.zarr", data, tmp_path / "out.zarr", k=K)
    by_ridge = predict(home / "student.zarr", data, tmp_path / "ridge.zarr", k=K)
    assert found.predicted is not None
    assert found.predicted.stage in ("map", "adapt")
    assert not found.predicted.outside
    verdict = found.predicted.verdict
    assert verdict is not None
    assert [row["name"] for row in verdict["table"]] == ["ridge", "map", "adapt"]
    s = np.linalg.svd(complete - OLD.mean(axis=0), compute_uv=False)[:K]
    off, by_ridge_off = np.abs(found.s / s - 1), np.abs(by_ridge.s / s - 1)
    assert off.max() < 0.05
    assert off.mean() < 0.5 * by_ridge_off.mean()


def test_components_move_where_the_data_leave_the_span(home: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    away = np.linalg.qr(LAW.V + 0.35 * random.standard_normal((N, R)) / np.sqrt(N) * 2)[0]
    complete = Law(away, 2 * LAW.scale, LAW.noise, LAW.mean).rows(3 * NEW, 3)
    data = np.where(gaps(complete.shape, 0.5), np.nan, complete)
    found = predicting.predict(home / "student.zarr", data, tmp_path / "out.zarr", k=K)
    held = predicting.predict(home / "student.zarr", data, tmp_path / "held.zarr", k=K, adapt="no")
    assert found.predicted is not None
    assert held.predicted is not None
    assert found.predicted.stage == "adapt"
    assert held.predicted.stage != "adapt"
    assert "outside the teacher's span" in held.predicted.outside
    assert "warning: outside the teacher's span" in done("info", tmp_path / "held.zarr").out
    assert "components were moved to them" in found.predicted.outside
    B = complete - OLD.mean(axis=0)
    error, held_error = (
        np.linalg.norm(np.asarray(each[:]) - complete) / np.linalg.norm(B) for each in (found, held)
    )
    assert error < 0.9 * held_error


def test_verify_measures_predicted_factors_against_data_and_does_not_call_them_damaged(home: Path) -> None:
    np.save(home / "complete.npy", COMPLETE)
    factors, B = bigsvd.open(home / "out.zarr"), COMPLETE - OLD.mean(axis=0)
    ended = done("verify", home / "out.zarr", home / "complete.npy", "--json").facts
    assert ended["holds"]
    assert ended["findings"] == []
    assert ended["max_residual"] is None
    assert ended["relative_error"] == pytest.approx(np.linalg.norm(factors[:] - COMPLETE) / np.linalg.norm(B))
    seen = np.where(GONE, 0, factors[:] - COMPLETE)
    on_seen = done("verify", home / "out.zarr", home / "new.zarr", "--json").facts
    true_error = np.linalg.norm(seen) / np.linalg.norm(np.where(GONE, 0, B))
    assert on_seen["relative_error"] == pytest.approx(true_error)
    assert "measured on the 8," in done("verify", home / "out.zarr", home / "new.zarr").out
    np.save(home / "short.npy", COMPLETE[1:])
    assert "the factors are of 700 samples" in refused(2, "verify", home / "out.zarr", home / "short.npy")


def stop_after(panels: int) -> Callable[[], bool]:
    asked = iter(range(1000))
    return lambda: next(asked) + 1 >= panels


@pytest.mark.usefixtures("many_panels")
def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_bits(home: Path, tmp_path: Path) -> None:
    student, new, out = home / "student.zarr", home / "new.zarr", tmp_path / "out.zarr"
    predict(student, new, tmp_path / "whole.zarr", k=K)
    with pytest.raises(StoppedError, match="stopped after 3 of 7 panels"):
        predict(student, new, out, k=K, should_stop=stop_after(3))
    assert not out.exists()
    with pytest.raises(OutputExistsError, match="holds what another prediction has done: k=4 "):
        predict(student, new, out, k=3)
    heard: list[Event] = []
    predict(student, new, out, k=K, progress=heard.append)
    begun = next(event for event in heard if event.kind == "pass")
    assert begun["resumed_lanes"] == 3
    assert (
        sum(event.kind == "read" for event in heard) == 1 + 4
    )  # those done at once, then each of the others
    assert bits(out) == bits(tmp_path / "whole.zarr")
    assert not scratch_path(out).exists()


@pytest.mark.usefixtures("many_panels")
def test_a_panel_whose_data_were_written_into_is_inferred_again(home: Path, tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "new.zarr", data=DATA, chunks=(100, N))
    student, new, out = home / "student.zarr", tmp_path / "new.zarr", tmp_path / "out.zarr"
    with pytest.raises(StoppedError):
        predict(student, new, out, k=K, should_stop=stop_after(3))
    array[100:200] = DATA[100:200][::-1]
    predict(student, new, out, k=K)
    predict(student, new, tmp_path / "whole.zarr", k=K)
    assert bits(out) == bits(tmp_path / "whole.zarr")


@pytest.mark.usefixtures("many_panels")
def test_a_panel_whose_mask_was_written_into_is_inferred_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_SAMPLE_ROWS", 70)  # the first ten of each panel
    mask = zarr.create_array(tmp_path / "mask.zarr", data=GONE, chunks=(100, N))
    zarr.create_array(tmp_path / "new.zarr", data=COMPLETE, chunks=(100, N))
    given = partial(predict, home / "student.zarr", tmp_path / "new.zarr", mask=tmp_path / "mask.zarr", k=K)
    with pytest.raises(StoppedError):
        given(tmp_path / "out.zarr", should_stop=stop_after(3))
    mask[150:160] = True
    assert given(tmp_path / "out.zarr").info()["predicted"]["unseen_samples"] == 1 + 10
    given(tmp_path / "whole.zarr")
    assert bits(tmp_path / "out.zarr") == bits(tmp_path / "whole.zarr")


@pytest.mark.usefixtures("many_panels")
def test_panels_in_coordinates_of_components_that_have_moved_are_not_mixed_with_others(
    home: Path, tmp_path: Path
) -> None:
    elsewhere = (
        LAW.rows(NEW, 2) @ np.linalg.qr(np.eye(N) + 0.05 * np.random.default_rng(1).normal(size=(N, N)))[0]
    )
    zarr.create_array(tmp_path / "new.zarr", data=np.where(GONE, np.nan, elsewhere), chunks=(100, N))
    given = partial(predicting.predict, home / "student.zarr", tmp_path / "new.zarr", k=K)
    little = predicting.plan_of(order_of(home / "student.zarr", tmp_path / "new.zarr", k=K)).memory_bytes - 1
    with pytest.raises(StoppedError):
        given(tmp_path / "out.zarr", should_stop=stop_after(3))
    found = given(tmp_path / "out.zarr", memory=little)
    moved = given(tmp_path / "moved.zarr").info()
    assert (moved["predicted"]["stage"], moved["passes"]) == ("adapt", 2.0)
    assert found.info()["predicted"]["stage"] != "adapt"
    given(tmp_path / "whole.zarr", memory=little)
    assert bits(tmp_path / "out.zarr") == bits(tmp_path / "whole.zarr")


@pytest.mark.usefixtures("many_panels")
def test_stages_are_judged_in_the_memory_that_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_BATCH_BYTES", 2**20)  # few rows at a time: those to judge by are what is held
    A = np.random.default_rng(0).normal(size=(400, 3000))
    student, new = by_hand(A[:50], tmp_path / "student.zarr"), np.where(gaps(A.shape, 0.5), np.nan, A)
    zarr.create_array(tmp_path / "new.zarr", data=new, chunks=(50, 3000))
    order = order_of(student, tmp_path / "new.zarr", k=K)
    planned = predicting.plan_of(order, "1GB")
    tracemalloc.start()
    try:
        predicting.run(order, planned, tmp_path / "out.zarr")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert planned.adapts
    assert "once, and once more if components move" in str(planned)
    fixed = predicting.plan_of(order_of(student, tmp_path / "new.zarr", k=K, adapt="no"), "1GB")
    assert not fixed.adapts
    assert "sums by which components move" not in fixed.terms
    assert " once, in " in str(fixed)
    assert planned.terms["rows to judge by"] < peak < planned.memory_bytes - plan.SERVICE_BYTES


@pytest.mark.usefixtures("many_panels")
def test_what_is_damaged_in_scratch_is_inferred_again(home: Path, tmp_path: Path) -> None:
    student, new, out = home / "student.zarr", home / "new.zarr", tmp_path / "out.zarr"
    predict(student, new, tmp_path / "whole.zarr", k=K)
    with pytest.raises(StoppedError):
        predict(student, new, out, k=K, should_stop=stop_after(5))
    chunks = scratch_path(out) / "inferred" / "sums" / "c"
    (chunks / "1" / "0").write_bytes(bytes((chunks / "1" / "0").stat().st_size))
    (chunks / "2" / "0").unlink()
    predict(student, new, out, k=K)
    assert bits(out) == bits(tmp_path / "whole.zarr")


SCRIPT = """
import os, signal, sys
from bigsvd.distill import inference, panels
from bigsvd.cli import main
panels._PANEL_BYTES = 1
name = sys.argv.pop(1)
infer, calls = inference.infer, []
def struck(*given):
    calls.append(given)
    if len(calls) == 4:
        os.kill(os.getpid(), getattr(signal, name))
    return infer(*given)
inference.infer = struck
main(sys.argv[1:])
"""


def struck(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("many_panels")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_process_that_was_struck_goes_on(home: Path, tmp_path: Path, name: str) -> None:
    student, new, out = home / "student.zarr", home / "new.zarr", tmp_path / "out.zarr"
    ended = struck(name, "distill", "predict", student, new, out, "-k", K, "--stage", "ridge")
    if name == "SIGKILL":
        assert ended.returncode == -signal.SIGKILL
    else:
        assert ended.returncode == 3
        assert ended.stderr.splitlines()[-1].startswith("error[E_INTERRUPTED]: stopped after 4 of 7 panels;")
    assert not out.exists()
    heard: list[Event] = []
    predict(student, new, out, k=K, progress=heard.append)
    assert next(event for event in heard if event.kind == "pass")["resumed_lanes"] >= 3
    predict(student, new, tmp_path / "whole.zarr", k=K)
    assert bits(out) == bits(tmp_path / "whole.zarr")


def test_a_full_disk_ends_a_run_in_one_line(home: Path, tmp_path: Path) -> None:
    """On a file system of 256 kB, if this user may mount one; nothing is left that opens."""
    big = np.tile(DATA, (40, 1))
    zarr.create_array(tmp_path / "new.zarr", data=big, chunks=(1000, N))
    script = 'mount -t tmpfs -o size=256k none "$0" && exec "$@"'
    disk = tmp_path / "disk"
    disk.mkdir()
    given = [home / "student.zarr", tmp_path / "new.zarr", disk / "out.zarr", "--quiet", "--stage", "ridge"]
    command = ["unshare", "--mount", "sh", "-c", script, disk, sys.executable, "-m", "bigsvd", "distill"]
    ended = subprocess.run(
        list(map(str, [*command, "predict", *given])), capture_output=True, text=True, check=False,
        env={**os.environ},
    )  # fmt: skip
    if "unshare" in ended.stderr or "mount:" in ended.stderr:
        pytest.skip("this user may not mount a file system")
    assert ended.returncode == 3
    [line] = ended.stderr.splitlines()
    assert line.startswith("error[E_STORAGE]: writing ")
    assert "No space left on device" in line


@pytest.fixture
def student_copy(tmp_path: Path) -> Path:
    by_hand(OLD, tmp_path / "student.zarr")
    return tmp_path / "student.zarr"


@pytest.mark.parametrize("name", ["V", "noise", "s", "mean"])
def test_a_tampered_student_is_refused_by_the_name_of_its_array(student_copy: Path, name: str) -> None:
    array = zarr.open_array(student_copy / name, mode="r+")
    array[:1] = 2.0 * np.asarray(array[:1])
    assert f"is damaged: its array {name} has entries of checksum" in refused(
        2, "distill", "predict", student_copy, student_copy.parent / "new", student_copy.parent / "o"
    )


@pytest.mark.parametrize("harm", ["truncated", "gone", "flipped", "manifest"])
def test_a_damaged_student_is_refused(student_copy: Path, harm: str) -> None:
    chunk = student_copy / "noise" / "c" / "0"
    body = chunk.read_bytes()
    if harm == "truncated":
        chunk.write_bytes(body[:-9])
    elif harm == "gone":
        chunk.unlink()
    elif harm == "flipped":
        chunk.write_bytes(body[:8] + bytes([body[8] ^ 1]) + body[9:])
    else:
        text = (student_copy / "zarr.json").read_text()
        (student_copy / "zarr.json").write_text(text.replace('"samples": 3000', '"samples": 3001'))
    words = "its array noise" if harm != "manifest" else "zarr.json has checksum"
    said = refused(2, "distill", "predict", student_copy, "nowhere.npy", student_copy.parent / "o")
    assert "E_FACTORS" in said
    assert words in said


def test_a_student_is_replaced_by_a_student_only(student_copy: Path) -> None:
    np.save(student_copy.parent / "a.npy", OLD[:50])
    told = run("svd", student_copy.parent / "a.npy", student_copy, "-k", 2, "--overwrite", "--quiet")
    assert told.code == 2
    assert "is a student" in told.err
    with pytest.raises(OutputExistsError, match="already exists"):
        by_hand(OLD, student_copy)


def named_store(folder: Path, data: np.ndarray, names: list[str]) -> Path:
    """A matrix in a group with a coordinate for its columns, as xarray writes one."""
    group = zarr.create_group(folder)
    group.create_array("x", data=data, chunks=(100, N), dimension_names=("cell", "gene"))
    group.create_array("gene", data=np.array(names), dimension_names=("gene",))
    return folder / "x"


@pytest.mark.filterwarnings("ignore:The data type")
def test_columns_of_another_order_are_refused_where_both_have_names(home: Path, tmp_path: Path) -> None:
    genes = [f"gene {number}" for number in range(N)]
    old = bigsvd.svd(named_store(tmp_path / "old.zarr", OLD[:50], genes), 2, tmp_path / "old")
    student = open_student(home / "student.zarr")
    named = write_student(tmp_path / "named.zarr", replace(student, columns=Columns.of(old.source)))
    new = named_store(tmp_path / "new.zarr", DATA, genes)
    assert predict(named, new, tmp_path / "o", k=K).k == K
    other = named_store(tmp_path / "other.zarr", DATA[:, ::-1].copy(), genes[::-1])
    with pytest.raises(ColumnsError, match="other names along gene"):
        predict(named, other, tmp_path / "p", k=K)
    assert predict(named, DATA, tmp_path / "q", k=K).k == K  # of columns without names nothing is known
