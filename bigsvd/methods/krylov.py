"""Block Krylov SVD, started and preconditioned by a sample of the data: the usual method.

Musco & Musco 2015, Alg. 2, with a complete answer after every pass (`iteration.BlockIteration`) and Stewart's
thick restart where the basis outgrows its budget.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bigsvd.catalog.table import load
from bigsvd.catalog.widths import BEYOND, CORRECTION_TERMS, PROBES, SAMPLE_BLOCKS, SPECTRAL_GAP, whole_columns
from bigsvd.methods.anytime import iterate
from bigsvd.methods.base import Method
from bigsvd.methods.foretold import Foreseen, Probes, foresee, publish
from bigsvd.methods.goal import Goal, Solution
from bigsvd.methods.iteration import BASIS_PARTS, BlockIteration
from bigsvd.methods.matrix import Correction, Matrix
from bigsvd.methods.revision import revise
from bigsvd.methods.starts import Sample, gaussian_block, sample_block, warm_block
from bigsvd.methods.subspace import Ritz, Subspace, orthonormal_complement
from bigsvd.planning.cost import Cost, Prospect, besides
from bigsvd.planning.layout import Layout
from bigsvd.planning.plan import Plan
from bigsvd.request import Request
from bigsvd.results.factors import open_factors

if TYPE_CHECKING:
    from bigsvd.methods.estimate import Estimate
    from bigsvd.methods.result import Finish, Triplets

# A correction has failed where it leaves more than this part of the residual; there is no other after it.
_CORRECTION_FAILED = 0.3
# A correction takes a residual ρ to about ρ²: it is made where that is at most so many times the tolerance.
_CORRECTION_SLACK = 2.0
# Where ρ² is below this part of the tolerance, a step along the residuals themselves does (1.5 ρ² on a slow
# decay), and no product with the sample is needed.
_PLAIN_SLACK = 0.5
# Ritz vectors with a residual below this part of the tolerance need none.
_GOOD_PART = 1 / 3
# The tolerance that two passes usually reach, and by which factor each further pass lowers the residual,
# where the sample resembles the data (benchmarks/results/passes-small.md).
_USUAL_TOL = 1e-2
_GAIN_A_PASS = 20.0


class Preconditioner(Protocol):
    """Something cheap that knows BᵀB roughly."""

    def correct(self, name: str, R: np.ndarray, theta: np.ndarray, K: np.ndarray) -> np.ndarray:
        """Directions (N, c) outside span K in which Ritz vectors with residuals R, values θ (c,) err."""

    def complement(self, name: str, Q: np.ndarray, K: np.ndarray) -> np.ndarray:
        """Of QᵀBᵀB·Q (c, c) what products with K do not tell."""


class KrylovRun(BlockIteration):
    """Takes as next block the residuals of the wanted Ritz vectors, preconditioned, where one step should do.

    Else it takes all that the last products have outside the subspace, with `spare_vectors` (N, c) of the
    sample beside them if the first block was narrow. See `_PLAIN_SLACK` and `_GOOD_PART` for the parts of the
    tolerance below which it does less.
    """

    kind = "krylov"
    plain_slack, good_part = _PLAIN_SLACK, _GOOD_PART

    def __init__(
        self,
        matrix: Matrix,
        block: np.ndarray,
        seed: int,
        sample: Preconditioner | None = None,
        spare_vectors: np.ndarray | None = None,
    ) -> None:
        super().__init__(matrix, block, seed)
        self.sample = sample
        self._spare_vectors = spare_vectors
        self._before_correction: float | None = None
        self._corrected = False

    def extend(self, k: int | None, tol: float) -> None:
        """Q of the next pass, for k Ritz vectors to reach `tol`; restart when K would outgrow the plan."""
        plan, space, ritz = self.context.plan, self.subspace, self.ritz
        W = self._directions(ritz, k, tol)
        if self.matrix.rough and self._before_correction is not None:
            self._correct_in_full(W)
            return
        room = min(plan.width, plan.cols - space.width)
        Q = orthonormal_complement(W, space.K, room, self.matrix.eps)
        self.exhausted = Q.shape[1] == 0
        if not self.exhausted and space.width + Q.shape[1] > plan.max_width:
            self.full = True
            kept = ritz.coordinates[:, : plan.max_width - plan.width]
            space.rotate(kept)
            self.parts = self.parts.times(kept, f"{BASIS_PARTS}-{self.matrix.passes}")
        self.block = Q

    def restart_in_float64(self) -> None:
        """Begin again in float64; the sample, whose products were float32, corrects no more."""
        super().restart_in_float64()
        self.sample, self._corrected = None, False

    def restart_in_full(self, k: int | None, tol: float) -> None:
        """See `Iteration`; from corrected vectors, where they can be corrected."""
        W = self._correction(self.subspace, self.ritz, k, tol)
        if W is None:
            super().restart_in_full(k, tol)
        else:
            self._correct_in_full(W)

    def _correct_in_full(self, W: np.ndarray) -> None:
        """Begin again by products in full, from the leading Ritz vectors and their corrections W (N, c)."""
        self.restart_from(self.subspace.K @ self.ritz.coordinates[:, : W.shape[1]] + W)
        self.matrix.rough = False

    def _directions(self, ritz: Ritz, k: int | None, tol: float) -> np.ndarray:
        """Where to go on from the subspace (N, c).

        The residuals lie in the span of the latest products as long as each block took all that the products
        before it had outside the subspace. A correction does not, and from then on the residuals are taken:
        what they have of older products would else never get smaller.
        """
        W = self._correction(self.subspace, ritz, k, tol)
        if W is not None:
            self._corrected = True
            return W
        W = self._latest
        if self._corrected:
            W = _residuals(
                self.subspace, ritz, list(range(min(self.context.plan.width, self.subspace.width)))
            )
        if self._spare_vectors is not None:
            scale = np.linalg.norm(W) / np.sqrt(W.shape[1])
            W, self._spare_vectors = np.concatenate([W, self._spare_vectors * scale], axis=1), None
        return W

    def _rough_step(self, P: np.ndarray, Z: np.ndarray, by: Correction) -> np.ndarray:
        """The Ritz vectors that rough products give, and beside them the directions in which these err.

        In one exact pass both together then give what two passes give otherwise; what that leaves of the
        rough residuals then tells whether corrections by the sample are of use, as after any other.
        """
        plan, rough = self.context.plan, Subspace(*P.shape)
        Q, R = np.linalg.qr(P)
        rough.append(Q, Z @ np.linalg.inv(R))
        count = min(plan.k + BEYOND, plan.width // 2, rough.width)
        ritz, tol = rough.ritz(rough.width), plan.request.tol
        W = self._correction(rough, ritz, min(plan.k, count), tol) if by.close else None
        if W is None:
            return super()._rough_step(P, Z, by)
        V = rough.K @ ritz.coordinates[:, :count]
        return np.concatenate([V, orthonormal_complement(W, V, plan.width - count, self.matrix.eps)], axis=1)

    def _correction(self, space: Subspace, ritz: Ritz, k: int | None, tol: float) -> np.ndarray | None:
        """Preconditioned residuals (N, c), where they should do; None where the whole block must go on.

        A step takes the worst residual ρ to about ρ² while the sample resembles the data and the values fall
        off behind the k-th; a step that has not shown that is the last. A few Ritz vectors behind the k-th
        come along: one may be on its way up. After rough products none is left out, since all are multiplied
        again.
        """
        if self.sample is None or k is None or ritz.residuals.size < k:
            return None
        worst = float(np.max(ritz.residuals[:k]))
        before, self._before_correction = self._before_correction, None
        failed = before is not None and worst > _CORRECTION_FAILED * before
        beyond = ritz.theta[min(self.context.plan.narrow, ritz.theta.size - 1)]
        flat = beyond > SPECTRAL_GAP * ritz.theta[k - 1]
        if failed or flat or not worst**2 <= _CORRECTION_SLACK * tol:
            self.sample = None if failed else self.sample
            return None
        count = min(whole_columns(k + BEYOND), ritz.residuals.size)
        every = self.matrix.rough
        enough = self.good_part * tol
        wanted = [i for i in range(count) if every or i >= k or ritz.residuals[i] > enough]
        theta = ritz.theta[wanted]
        if theta.min() <= 0:
            return None
        self._before_correction = worst
        R = _residuals(space, ritz, wanted)
        if worst**2 <= self.plain_slack * tol:
            return np.asarray(R / theta)
        return self.sample.correct(f"correct-{self.next_name}", R, theta, space.K)


class ForetellingRun(KrylovRun):
    """Ends where the short factor and the values are foretold to be good enough, before a pass proves it.

    What it publishes else, and where it goes on to, is what a `KrylovRun` would.
    """

    plain_slack, good_part = 0.0, 0.0  # it is the sample that makes each of the estimates good

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._seen: Foreseen | None = None
        self._corrections: dict[int, np.ndarray | None] = {}

    def estimate(self, k: int | None, enough: float) -> Estimate:
        """The proved one; with residuals foretold of the short factor alone where these suffice first."""
        found, self._seen = super().estimate(k, enough), None
        if k is None or self.left is None or found.sigma.size < k:
            return found
        if np.all(found.residuals[:k] + found.rounding[:k] <= enough):
            return found
        seen = self._foresee(k, enough)
        if seen is None or not np.all(seen.residuals <= enough):
            return found
        self._seen = seen
        residuals = np.append(seen.residuals - found.rounding[:k], found.residuals[k:])
        return replace(found, residuals=residuals, foretold=True)

    def _foresee(self, k: int, tol: float) -> Foreseen | None:
        """The estimate after this pass; None where no correction is to be had."""
        space, ritz, eps, plan = self.subspace, self.ritz, self.matrix.eps, self.context.plan
        W, room = self._correction(space, ritz, k, tol), min(plan.width, plan.max_width - space.width)
        if W is None or room < 1 or self.probes is None:
            return None
        Q = orthonormal_complement(W, space.K, room, eps)
        if Q.shape[1] == 0 or self.sample is None:
            return None
        behind = self.sample.complement(f"foretell-{self.next_name}", Q, space.K)
        probes = Probes(*self.probes, self.probe_level, eps)
        return foresee(space, ritz, Q, behind, k, probes)

    def _correction(self, space: Subspace, ritz: Ritz, k: int | None, tol: float) -> np.ndarray | None:
        """See `KrylovRun`; made once after a pass, since the next block is what the estimate was made of."""
        after = self.matrix.passes
        if after not in self._corrections:
            self._corrections = {after: super()._correction(space, ritz, k, tol)}
        return self._corrections[after]

    def extend(self, k: int | None, tol: float) -> None:
        """See `KrylovRun`."""
        self._seen = None
        super().extend(k, tol)

    def finish(self, finish: Finish) -> Triplets:
        """What was foretold, if that was enough."""
        if self._seen is None or self.left is None:
            return super().finish(finish)
        return publish(self._basis(), self.left, self._seen, finish)


def _residuals(space: Subspace, ritz: Ritz, wanted: list[int]) -> np.ndarray:
    """BᵀB·v − θ·v of some Ritz vectors, (N, c)."""
    E = ritz.coordinates[:, wanted]
    return np.asarray(space.Z @ E - (space.K @ E) * ritz.theta[wanted])


class Krylov(Method):
    """See the module."""

    name = "krylov"
    takes_tiles = True
    starts_from_sample = True
    starts_from_factors = True
    takes_rough_products = True

    def expected_passes(self, request: Request, layout: Layout, share: float) -> float:
        """Two and the sample at the usual tolerance, four from a random block; one less that is not proved.

        One more to find the means that fill gaps, except where the sample has shown them nearly.
        """
        first = 0.0 if share else self.passes_for_means(request, layout)
        if layout.width >= layout.N:
            return first + 1.0
        further = max(0, math.ceil(math.log(_USUAL_TOL / request.tol) / math.log(_GAIN_A_PASS)))
        if request.warm_start is not None:
            return first + further + 1.0
        usual = 2.0 + share if share else 4.0
        return first + further + usual - (request.stop == "estimate")

    def seconds(self, cost: Cost, layout: Layout, prospect: Prospect) -> tuple[float, float]:
        """The sample is read once and gone over again; with it later passes are narrow.

        They read what is not kept. The basis that the driver works on after each pass has grown by a block.
        """
        lanes, share = prospect.lanes, prospect.share
        kept, resident, further = prospect.kept, prospect.resident, prospect.full_passes - 1
        correcting = layout.k + BEYOND
        later = correcting if share else layout.width
        full, cost = cost, cost.rough
        passes = cost.of_pass(layout, lanes, layout.narrow + PROBES, kept=min(kept, share))
        again = cost.of_pass(layout, lanes, later, kept=kept, resident=resident)
        last = full.of_last_pass(layout, lanes, later, kept, resident)
        passes += further * again + min(1, further) * (last - again) + prospect.full_passes * besides(layout)
        widths = (layout.narrow + number * later for number in range(prospect.full_passes))
        passes += sum(cost.of_ritz(layout, min(width, layout.max_width)) for width in widths)
        more = max(0.0, prospect.kept - share) * layout.M * layout.N * layout.itemsize
        passes += more * cost.rates.fresh_seconds / min(cost.cores, lanes)
        if share == 0:
            return 0.0, passes
        again = cost.of_pass(layout, lanes, layout.narrow, share, 1.0) + besides(layout, share)
        correction = cost.of_pass(layout, lanes, correcting, share, 1.0) + besides(layout, share)
        start = cost.of_pass(layout, lanes, 0, share) + SAMPLE_BLOCKS * again + CORRECTION_TERMS * correction
        return start + cost.of_ritz(layout, min(layout.N, SAMPLE_BLOCKS * layout.narrow)), passes

    def describe_start(self, plan: Plan) -> str:
        """The sample's share, the factors to start from, or that the block is random."""
        if plan.request.warm_start is not None:
            return f"the factors {plan.request.warm_start}"
        return f"{100 * plan.sample_share:.1f} % sample" if plan.sample else "Gaussian block"

    def run(self, matrix: Matrix, goal: Goal) -> Solution:
        """From the sample, unless it shows another method to be faster; from other factors; or at random."""
        request, plan = goal.request, matrix.context.plan
        sample, spare_vectors = Sample(matrix) if plan.sample else None, None
        if request.warm_start is not None:
            factors = open_factors(request.warm_start)
            block = warm_block(matrix, factors, request.seed, goal.test.resolution)
        elif plan.sample:
            start = sample_block(matrix, request.seed, goal.test.resolution)
            revise(matrix, start.seen)
            if matrix.context.plan.method != self.name:
                solution: Solution = load(matrix.context.plan.method).run(matrix, goal)
                return solution
            block, spare_vectors = start.block, start.behind
        else:
            block = gaussian_block(matrix, request.seed)
        kind = ForetellingRun if request.stop == "estimate" else KrylovRun
        return iterate(kind(matrix, block, request.seed, sample, spare_vectors), goal)


METHOD = Krylov()
