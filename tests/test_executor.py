"""Every executor carries out calls by the same laws, and gives the same bits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from distributed import Client

import bigsvd
from bigsvd.execution.dask_executor import DaskExecutor
from bigsvd.execution.executor import Call, Executor, results_of
from bigsvd.execution.placement import executor_of
from bigsvd.execution.threads import LocalExecutor, ThreadExecutor
from tests.clusters import worker_processes
from tests.laws import ExecutorLaws
from tests.queue_executor import QueueExecutor

A = np.random.default_rng(0).standard_normal((900, 60)) @ np.diag(np.linspace(9, 0.1, 60))


@pytest.fixture(scope="module")
def processes() -> Iterator[Client]:
    with worker_processes(2) as client:
        yield client


class TestThreads(ExecutorLaws):
    """The specification."""

    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        with ThreadExecutor(2) as threads:
            yield threads


class TestDaskInThisProcess(ExecutorLaws):
    """Workers that are threads of this process."""

    @pytest.fixture
    def executor(self, client: Client) -> Executor:
        return DaskExecutor(client)


class TestDaskInProcesses(ExecutorLaws):
    """Workers that are processes."""

    @pytest.fixture
    def executor(self, processes: Client) -> Executor:
        return DaskExecutor(processes)


class TestAQueue(ExecutorLaws):
    """One that is a file of the tests."""

    @pytest.fixture
    def executor(self) -> Executor:
        return QueueExecutor(2)


def test_what_comes_before_a_run_can_be_interrupted() -> None:
    """The calling thread does it: another one would be waited for, however long a source takes to read."""
    assert results_of(LocalExecutor(), [Call(threading.get_ident, ())]) == [threading.get_ident()]
    with executor_of(None) as executor:
        assert isinstance(executor, LocalExecutor)
        assert not isinstance(executor, ThreadExecutor)


def test_an_executor_that_is_one_file_runs_a_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigsvd.solve.executor_in_turn", lambda *_: nullcontext(QueueExecutor()))
    options: dict[str, Any] = {"memory": "200MB", "center": True, "tol": 1e-6}
    there = bigsvd.svd(A, 3, **options)
    monkeypatch.undo()
    np.testing.assert_array_equal(there.s, bigsvd.svd(A, 3, **options).s)


@pytest.mark.parametrize("method", ["krylov", "gram", "tall_skinny", "compressed"])
def test_threads_give_the_bits_of_a_cluster(client: Client, method: str) -> None:
    options: dict[str, Any] = {"method": method, "memory": "200MB", "center": True, "tol": 1.0}
    here, there = bigsvd.svd(A, 3, **options), bigsvd.svd(A, 3, client=client, **options)
    for name in ("U", "s", "Vt"):
        np.testing.assert_array_equal(np.asarray(getattr(here, name)), np.asarray(getattr(there, name)))
