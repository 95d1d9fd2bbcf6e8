"""What Dask's two methods share: what they demand, the check of what they found, and its way to scratch."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import dask
import dask.array as da
import numpy as np

from bigsvd.devices.base import Device
from bigsvd.errors import RequestError
from bigsvd.methods.anytime import within_tolerance
from bigsvd.methods.base import Method
from bigsvd.methods.choosing import Shortfall
from bigsvd.methods.goal import Goal, Solution
from bigsvd.methods.matrix import Matrix
from bigsvd.methods.prepared import prepared_array
from bigsvd.methods.result import (
    Triplets,
    certify_two_sided,
    long_target,
    noise_floor,
    rounding_of,
    zero_triplets,
)
from bigsvd.methods.statistics import statistics_pass
from bigsvd.orientation import largest_entries, signs
from bigsvd.planning.demands import Question
from bigsvd.planning.layout import Layout
from bigsvd.planning.plan import Plan
from bigsvd.request import Request


class DaskMethod(Method):
    """A pass before for exact statistics, Dask's own reads, and a pass after that certifies the answer."""

    @abstractmethod
    def reads(self, request: Request) -> float:
        """How often Dask's algorithm reads the data."""

    @abstractmethod
    def factors(self, B: Any, matrix: Matrix, request: Request) -> tuple[Any, Any, Any]:
        """U, s and Vt of the Dask array B, as Dask arrays."""

    @abstractmethod
    def lack(self, matrix: Matrix, request: Request) -> Shortfall:
        """Why an answer misses the tolerance, and what to do."""

    def check(self, request: Request) -> None:
        """Dask's methods have no passes to stop between."""
        super().check(request)
        given: dict[str, Any] = {"max_passes": request.max_passes, "deadline": request.deadline}
        if request.stop != "residual":
            given["stop"] = request.stop
        for name, value in given.items():
            if value is not None:
                raise RequestError(
                    f"{name}={value} ends an iteration, method={self.name!r} has none", f"drop {name}"
                )
        if request.k == "auto":
            raise RequestError(f"method={self.name!r} needs a number k", "give k, or use method='krylov'")

    def device_memory(self, question: Question, layout: Layout) -> dict[str, int]:
        """Dask keeps what it has computed until nothing needs it: the matrix, and as much again twice."""
        return {"whole matrix held by Dask": 3 * layout.M * layout.N * question.itemsize}

    def expected_passes(self, request: Request, layout: Layout, share: float) -> float:
        """With the pass before and the one after."""
        del layout, share
        return 2.0 + self.reads(request)

    def scratch_columns(self, layout: Layout, passes: float) -> int:
        """Those of the long factor: Dask's own reads leave nothing."""
        del passes
        return layout.k

    def describe_start(self, plan: Plan) -> str:
        """Nothing of ours."""
        del plan
        return "Dask"

    def run(self, matrix: Matrix, goal: Goal) -> Solution:
        """Dask's factors, certified by a two-sided pass."""
        request = goal.request
        triplets = self._triplets(matrix, request)
        converged = within_tolerance(matrix, triplets, request.tol, None)
        reads = self.reads(request)
        return Solution(
            matrix, triplets, converged, reads + matrix.passes, goal.budget.elapsed_seconds,
            None if converged else self.lack(matrix, request), reads_by_dask=reads,
        )  # fmt: skip

    def _triplets(self, matrix: Matrix, request: Request) -> Triplets:
        k = matrix.context.plan.k
        statistics_pass(matrix)
        if matrix.norm_squared == 0:
            return zero_triplets(matrix, k)
        with matrix.context.executor.dask_client() as client, client.as_current():
            U, s, Vt = self.factors(prepared_array(matrix), matrix, request)
            return _store(matrix, client, U[:, :k], s[:k], Vt[:k])


def _store(matrix: Matrix, client: Any, U: Any, s: Any, Vt: Any) -> Triplets:
    """Compute Dask factors of B with the contract's signs, the long one right into scratch; certify them."""
    context = matrix.context
    # Computed once: a graph that is computed again for U reads the data again, and Dask warns of its keys.
    U, s, Vt = client.persist([_on_host(factor, context.device) for factor in (U, s, Vt)])
    asked = int(U.shape[1])
    components = (U, Vt.T)[context.source.facts.features_axis]
    largest = _largest_entries(components)
    s, Vt, largest = dask.compute(s, Vt, largest, scheduler=client)
    s = np.asarray(s, dtype=np.float64)
    floor = noise_floor(matrix, float(s[0]), rounding_of(matrix))
    k = max(1, int(np.sum(s > floor)))
    s, U, short = s[:k], U[:, :k], np.asarray(Vt, dtype=np.float64).T[:, :k]
    both = signs(largest[:k])
    target, chunk_rows = long_target(context, k, matrix.dtype)
    U = (U * both).astype(matrix.dtype).rechunk({0: chunk_rows, 1: k})
    da.store(
        da.moveaxis(U, 0, target.axis),
        target.open(context.scratch).array,
        lock=False,
        compute=True,
        scheduler=client,
    )
    del U, Vt  # which the cluster would hold while they are certified
    found = Triplets(s, short * both, np.zeros(0), np.zeros(k), "two-sided", None, asked - k, floor)
    return certify_two_sided(matrix, found, target)


def _on_host(factor: Any, device: Device) -> Any:
    """A factor with its blocks on the host."""
    if not device.has_own_memory:
        return factor
    empty = np.empty((0,) * factor.ndim, factor.dtype)
    return factor.map_blocks(device.to_host, dtype=factor.dtype, meta=empty)


def _largest_entries(vectors: Any) -> Any:
    """`largest_entries` of a Dask array."""

    def largest(block: np.ndarray, axis: Any, keepdims: Any) -> np.ndarray:
        del axis, keepdims
        return largest_entries(block)[np.newaxis]

    def of_all(stacked: np.ndarray, axis: Any, keepdims: Any) -> np.ndarray:
        del axis, keepdims
        return largest_entries(stacked)

    return da.reduction(vectors, largest, of_all, combine=largest, axis=0, dtype=vectors.dtype)
