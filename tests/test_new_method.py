"""A method that is one file and one row is planned, run, certified and resumed as the package's own are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bigsvd
from bigsvd.catalog.table import METHODS
from bigsvd.errors import RequestError
from bigsvd.events import Certified, Event, PlanMade
from bigsvd.request import Request
from bigsvd.sources.open import open_source
from bigsvd.verify import verify
from tests.spectra import with_values
from tests.subspace_iteration import ROW

K = 5
A = with_values(np.random.default_rng(3), 0.97 ** np.arange(160), 900, 160)


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "subspace_iteration", ROW)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    zarr.create_array(tmp_path / "a.zarr", data=A, chunks=(50, 160))
    return tmp_path / "a.zarr"


@pytest.mark.parametrize("transposed", [False, True])
def test_its_answer_is_lapacks_and_certified(tmp_path: Path, *, transposed: bool) -> None:
    matrix = A.T if transposed else A
    zarr.create_array(tmp_path / "b.zarr", data=np.ascontiguousarray(matrix), chunks=(50, 40))
    factors = bigsvd.svd(tmp_path / "b.zarr", K, method="subspace_iteration", tol=1e-6, center=True)
    centred = matrix - matrix.mean(axis=0)
    np.testing.assert_allclose(factors.s, np.linalg.svd(centred, compute_uv=False)[:K], rtol=1e-9)
    assert factors.certificate.converged
    assert factors.provenance["plan"]["method"] == "subspace_iteration"
    assert verify(factors, open_source(tmp_path / "b.zarr"), lambda _: None).findings == ()


def test_the_planner_asks_it(data: Path) -> None:
    plan = bigsvd.plan(data, K, method="subspace_iteration", usual_passes=7)
    assert plan.expected_passes == 7
    assert f"Gaussian block of {plan.width} columns" in str(plan)
    assert Request.from_dict(plan.request.to_dict()) == plan.request
    assert plan.request.to_dict()["usual_passes"] == 7


def test_its_options_are_no_other_methods(data: Path) -> None:
    with pytest.raises(RequestError, match="usual_passes=7 with method='gram', which has no such parameter"):
        bigsvd.plan(data, K, method="gram", usual_passes=7)
    with pytest.raises(RequestError, match="warm_start='u' with method='subspace_iteration'"):
        bigsvd.plan(data, K, method="subspace_iteration", warm_start="u")


def test_a_run_that_was_stopped_goes_on(data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "subspace_iteration", "tol": 1e-6, "seed": 4}
    whole = bigsvd.svd(data, K, tmp_path / "whole", **options)

    class StoppedError(Exception):
        """Raised in the middle of the run."""

    def stop(event: Event) -> None:
        if isinstance(event, Certified) and event.passes == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        bigsvd.svd(data, K, tmp_path / "resumed", progress=stop, **options)
    events: list[Event] = []
    resumed = bigsvd.svd(data, K, tmp_path / "resumed", progress=events.append, **options)
    assert next(event for event in events if isinstance(event, PlanMade)).resumed
    for name in ("U", "s", "Vt"):
        found, expected = (np.asarray(getattr(factors, name)[:]) for factors in (resumed, whole))
        np.testing.assert_array_equal(found, expected)
