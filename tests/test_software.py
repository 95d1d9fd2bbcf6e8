"""Versions that must be the same on all workers, and what the last bits of a result depend on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from bigsvd.errors import VersionsError
from bigsvd.events import Event, MachinesDiffer
from bigsvd.execution.cluster import Workers
from bigsvd.machine.software import (
    check_versions,
    differences,
    joined,
    kinds_of,
    machine_here,
    versions_asked,
)
from tests.clusters import worker_processes

HERE = versions_asked()()


@pytest.fixture(scope="module")
def worker() -> Iterator[Client]:
    with worker_processes(1) as client:
        yield client


def test_workers_tell_their_versions(worker: Client) -> None:
    assert list(Workers(worker).ask(versions_asked()).values()) == [HERE]
    assert HERE["bigsvd"] == bigsvd.__version__
    assert HERE["zarr"] == zarr.__version__
    check_versions(HERE, {"w": HERE | {"dask": "1", "python": "3.1"}})


@pytest.mark.parametrize("package", ["bigsvd", "zarr", "numcodecs", "numpy"])
def test_others_are_refused(package: str) -> None:
    said = rf"worker w2 has {package} none, this process {HERE[package]}; install {package}=={HERE[package]}"
    with pytest.raises(VersionsError, match=said):
        check_versions(HERE, {"w1": HERE, "w2": HERE | {package: "none"}})


def test_a_run_is_refused_before_it_makes_anything(
    worker: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=np.ones((9, 5)))
    monkeypatch.setattr(bigsvd, "__version__", "9.9")
    with pytest.raises(VersionsError, match=r"worker tcp://\S+ has bigsvd \S+, this process 9\.9; install"):
        bigsvd.svd(tmp_path / "a.zarr", 2, tmp_path / "u", client=worker)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_a_result_says_what_computed_it(worker: Client, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=np.random.default_rng(0).standard_normal((90, 15)))
    factors = bigsvd.svd(tmp_path / "a.zarr", 2, tmp_path / "u", client=worker)
    assert factors.provenance["machines"] == [machine_here() | {"processes": 1}]
    assert machine_here()["blas"] != "unknown"


OLD = {"cpu": "old", "blas": "openblas Haswell", "python": "3.11", "dask": "1", "distributed": "1"}
NEW = OLD | {"cpu": "new", "blas": "openblas SkylakeX"}


def test_equal_kernels_are_not_spoken_of() -> None:
    several = kinds_of([OLD, OLD | {"cpu": "other"}, OLD])
    assert several == [OLD | {"processes": 2}, OLD | {"cpu": "other", "processes": 1}]
    assert differences([], several) == []
    assert joined(several, kinds_of([OLD])) == several


def test_a_run_continued_on_other_kernels_says_so() -> None:
    old, new = kinds_of([OLD]), kinds_of([NEW])
    [said] = differences(old, new)
    assert said.startswith("the run was begun with openblas Haswell, it goes on with openblas SkylakeX")
    assert differences(joined(old, new), old) == []
    assert [kind["cpu"] for kind in joined(old, new)] == ["old", "new"]


def test_kernels_and_versions_that_differ_between_workers_are_said() -> None:
    kernels, python = differences([], kinds_of([OLD, NEW | {"python": "3.12"}]))
    assert "some processes multiply with openblas Haswell, others with openblas SkylakeX" in kernels
    assert python == "some processes have python 3.11, others python 3.12"


def test_a_run_that_is_stopped_remembers_on_what_it_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    A, told = np.random.default_rng(0).standard_normal((400, 80)), list[Event]()
    options: dict[str, Any] = {"method": "krylov", "memory": "100MB", "tol": 1e-8}
    monkeypatch.setattr("bigsvd.solve.machine_here", lambda: OLD)
    with pytest.warns(UserWarning, match="not reached"):
        bigsvd.svd(A, 5, tmp_path / "u", max_passes=1, **options)
    monkeypatch.setattr("bigsvd.solve.machine_here", lambda: NEW)
    factors = bigsvd.svd(A, 5, tmp_path / "u", overwrite=True, progress=told.append, **options)
    assert [kind["cpu"] for kind in factors.provenance["machines"]] == ["old", "new"]
    [said] = [event.said for event in told if isinstance(event, MachinesDiffer)]
    assert "it goes on with openblas SkylakeX" in said
