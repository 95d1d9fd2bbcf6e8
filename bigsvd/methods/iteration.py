"""What a method is that goes step by step, with an answer after each: `Iteration`; and the kind there is.

State of a `BlockIteration` after pass j: orthonormal K = [Q0 … Qj] (N×L), Z = BᵀB·K (N×L), and Y = B·K (M×L)
in scratch. One pass reads each panel once and does both products. After it, without the data, G = KᵀZ = EΛEᵀ
gives right Ritz pairs θ = Λ, v = K·e, their exact residuals ‖Z·e − θ·v‖ (Saad 2011, §6.1), and by them the
left Ritz triplets (`left`), which are the answer wherever the Gram matrix G resolves it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from bigsvd.catalog.widths import PROBES
from bigsvd.execution.long_factor import FORMING, BasisBlocks
from bigsvd.methods.estimate import COARSEST, Estimate
from bigsvd.methods.extraction import Basis, Resolved, extract, resolve
from bigsvd.methods.fourth import fourth_powers
from bigsvd.methods.left import LeftRitz, Outside, left_ritz, resolved_by_gram
from bigsvd.methods.matrix import Correction, Matrix
from bigsvd.methods.products import product_pass
from bigsvd.methods.result import Finish, Triplets
from bigsvd.methods.subspace import Ritz, Subspace, gaussian, orthonormal_complement
from bigsvd.results.certificate import Audit

# Where scratch says how Y of the passes combines to B·K.
BASIS_PARTS = "parts"
# A tag of random numbers that no pass's probes have.
_FILLING = 1000
# Roundings of ‖B‖²_F below which what probes show is rounding.
_PROBE_FLOOR = 1e3


class Iteration(ABC):
    """Any method of which `anytime.iterate` is the loop: step, estimate, stop or go on, finish.

    The matrix is exact only after the first pass over it. Passes are made by `products.product_pass`, which
    leaves its corrections to the iteration, or with any other kernel by `products.exact_pass`, which makes
    the first one anew where the matrix turns out to be another.

    Attributes:
        kind: prefix of the names of its passes in scratch, of which no other iteration has the same.
        passes_a_step: over all data; two where B·v and Bᵀ·u take a pass each.
        exhausted: whether no further direction is to be found. full: whether the basis has been restarted,
            since it had become as large as the plan allows.

    """

    kind: ClassVar[str]
    passes_a_step: ClassVar[int] = 1

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix
        self.context = matrix.context
        self.exhausted = False
        self.full = False

    @property
    def next_name(self) -> str:
        """Where `advance` will leave its first pass in scratch."""
        return self.matrix.next_name(self.kind)

    @abstractmethod
    def advance(self) -> None:
        """One step over the data. `NonFiniteError` in the first."""

    @abstractmethod
    def estimate(self, k: int | None, enough: float) -> Estimate:
        """What is known after the last step; without any value where that has given no answer.

        Of k triplets, if it is known how many are wanted; no residual need be below `enough`.
        """

    @abstractmethod
    def extend(self, k: int | None, tol: float) -> None:
        """Choose the next step, after `estimate`, for k triplets to reach `tol`; for all if k is None."""

    @abstractmethod
    def finish(self, finish: Finish) -> Triplets:
        """The triplets of the last estimate, the long factor written."""

    @abstractmethod
    def restart_in_float64(self) -> None:
        """Begin again in float64 from the best directions so far: float32 cannot resolve what is asked."""

    @abstractmethod
    def restart_in_full(self, k: int | None, tol: float) -> None:
        """Begin again by products as precise as the plan's, where those so far were rough (`Matrix.rough`).

        From the best directions so far, for k triplets to reach `tol`; all if k is None.
        """

    @abstractmethod
    def fine_sigma(self) -> np.ndarray:
        """The values of the last estimate, and any behind them, to rounding of σ₁ even if that was of σ₁²."""

    def audit(self, k: int) -> Audit | None:
        """What columns that the iteration never used say of its k triplets; None where there are none."""
        del k
        return None

    def fill(self) -> bool:
        """Whether it goes on with random directions where no other is to be found."""
        return False


class BlockIteration(Iteration):
    """`advance` makes one pass of product and adjoint product, `extend` chooses the next block.

    Where the products of the first pass cannot be corrected to the exact matrix they serve as a power step
    and are dropped.

    Attributes:
        block: of the next pass (N, c).
        ritz, left: of the last estimate; no left triplets where rounding or the lack of probes forbids it.
        outside: what the probes showed then of the rest; set once there are probes.
        probes: the Gaussian columns W and BᵀB·W, once they have been through an exact pass. probe_level: the
            least standard deviation of an entry of W.

    """

    ritz: Ritz
    left: LeftRitz | None
    outside: Outside

    def __init__(self, matrix: Matrix, block: np.ndarray, seed: int) -> None:
        super().__init__(matrix)
        self.block = block
        self.seed = seed
        self.forget()
        self.probes: tuple[np.ndarray, np.ndarray] | None = None
        self.probe_level = 1.0
        self._latest = np.zeros((self.context.plan.cols, 0))
        self._resolved: Resolved | None = None
        self._enough = 1.0

    def forget(self) -> None:
        """Begin with no basis; what scratch has of passes stays there."""
        plan, most = self.context.plan, max(self.context.plan.max_width, self.block.shape[1])
        self.subspace = Subspace(plan.cols, most)
        self.parts = BasisBlocks(self.context.scratch, BASIS_PARTS)

    def advance(self) -> None:
        """See `Iteration`."""
        matrix, scratch = self.matrix, self.context.scratch
        name, keep = self.next_name, self.block.shape[1]
        first = not matrix.known
        stored = keep
        if self.context.plan.stays_on_device or matrix.rough:
            stored = 0
        result = product_pass(matrix, name, self._columns(), keep=stored, sample=False)
        columns = scratch.read(f"{name}/block")  # those of a killed run may differ in the last bits
        if not first:
            self._absorb(f"{name}/y", columns, result.sums["z"], keep)
            return
        correction = matrix.absorb_first_pass(name, result)
        if correction is not None:
            self._absorb_corrected(f"{name}/y", columns, result.sums["z"], keep, correction)

    def _columns(self) -> np.ndarray:
        """The block, and beside it the probes until they have been through a pass."""
        if self.probes is not None:
            return self.block
        probes = gaussian(self.seed, 3 + self.matrix.passes, (self.context.plan.cols, PROBES))
        return np.concatenate([self.block, probes], axis=1)

    def _absorb(self, name: str, columns: np.ndarray, Z: np.ndarray, keep: int) -> None:
        """Append a block that was multiplied by the exact matrix."""
        if self.probes is None:
            self.probes, self.probe_level = (columns[:, keep:].copy(), Z[:, keep:].copy()), 1.0
        self.subspace.append(columns[:, :keep], Z[:, :keep])
        self.parts.append(name, np.zeros(keep), np.eye(keep))
        self._latest = Z[:, :keep]

    def _absorb_corrected(
        self, name: str, columns: np.ndarray, Z: np.ndarray, keep: int, by: Correction
    ) -> None:
        """Append the first block, corrected: for P̂ = Γ⁻¹P, B·P̂ = Y − r·(δᵀP); see `Correction`."""
        along = by.delta @ columns
        Z = by.adjoint(columns, Z)
        columns = columns / by.ratio[:, None]
        if not by.correctable:
            self.block = self._rough_step(columns[:, :keep], Z[:, :keep], by)
            return
        if by.ratio.max() <= 2 * by.ratio.min():  # else no longer close to isotropic: audit in the next pass
            level = np.sqrt(np.mean(by.ratio**2))  # of P̂ = Γ⁻¹P, which makes them standard normal again
            self.probes = columns[:, keep:] * level, Z[:, keep:] * level
            self.probe_level = float(level / by.ratio.max())
        Q, R = np.linalg.qr(columns[:, :keep])
        mixing = np.linalg.inv(R)
        Z = Z[:, :keep] @ mixing
        self.subspace.append(Q, Z)
        self.parts.append(name, along[:keep], mixing, by.across)
        self._latest = Z

    def _rough_step(self, P: np.ndarray, Z: np.ndarray, by: Correction) -> np.ndarray:
        """The block after a first pass whose products Z ≈ BᵀB·P (N, c) are not exact enough to be kept."""
        del by
        step = orthonormal_complement(Z, self.subspace.K, P.shape[1], self.matrix.eps)
        more = gaussian(self.seed, _FILLING, (len(Z), P.shape[1] - step.shape[1]))  # for what rounding hid
        return np.asarray(np.linalg.qr(np.concatenate([step, more], axis=1))[0])

    def fill(self) -> bool:
        """A block of random directions outside the subspace, where products show none; False if none fits.

        For values too small to be seen in BᵀB, which a subspace that is the whole space has all the same.
        """
        plan, space = self.context.plan, self.subspace
        room = min(plan.width, plan.cols - space.width)
        if room < 1 or plan.cols > plan.max_width:
            return False
        more = gaussian(self.seed, _FILLING + 1 + self.matrix.passes, (plan.cols, room))
        self.block = orthonormal_complement(more, space.K, room, self.matrix.eps)
        self.exhausted = self.block.shape[1] == 0
        return not self.exhausted

    def long_parts(self, combine: np.ndarray) -> BasisBlocks:
        """What B·K·C is the sum of, for C = `combine` (L, c): rows of Y in scratch and their coefficients.

        The passes have stored them; where the whole matrix stays on a device none has, since to multiply it
        once more, in a pass for each block, takes less there.
        """
        if not self.context.plan.stays_on_device:
            return self.parts.times(combine, FORMING)
        found, block_width = BasisBlocks(self.context.scratch, FORMING), self.context.plan.width
        for start in range(0, combine.shape[1], block_width):
            columns = self.subspace.K @ combine[:, start : start + block_width]
            name, width = self.matrix.next_name("long"), columns.shape[1]
            product_pass(self.matrix, name, columns, keep=width, sample=False)
            found.append(f"{name}/y", np.zeros(width), np.eye(width))
        return found

    def estimate(self, k: int | None, enough: float) -> Estimate:
        """By Rayleigh-Ritz, from the left where that is possible."""
        plan = self.context.plan
        most, complete = min(plan.rows, plan.cols), self.subspace.width == plan.cols
        self._enough = enough
        left = self._extract(k)
        sigma, residuals = self._sigma(), self.ritz.residuals
        growth = residuals
        if left is not None:
            residuals, growth = left.residuals(k or 1), left.growth(k or 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            rounding = self.matrix.eps * (sigma[:1] / sigma) ** 2
        return Estimate(sigma[:most], residuals[:most], rounding[:most], growth[:most], complete)

    def _extract(self, k: int | None) -> LeftRitz | None:
        """Set `ritz` and `left` for the subspace as it is."""
        self.ritz = self.subspace.ritz(self.subspace.width)
        solid = resolved_by_gram(self.ritz, self.matrix.eps, self._enough)
        self.left = None
        if self.probes is not None:
            self.outside = self._outside(*self.probes)
            if solid >= max(1, k or 1):
                self.left = left_ritz(self.ritz, solid, k, self.outside, self._enough)
        return self.left

    def _sigma(self) -> np.ndarray:
        """The values of the last estimate, (L,)."""
        return np.sqrt(self.ritz.theta) if self.left is None else self.left.sigma

    def _outside(self, W: np.ndarray, ZW: np.ndarray) -> Outside:
        """What the norm and the probes W tell of B outside the basis."""
        squares, eps = self.matrix.norm_squared, self.matrix.eps
        energy = max(0.0, squares - float(np.sum(self.ritz.theta)))
        return Outside(energy, eps * squares, self._unseen(W, ZW), _PROBE_FLOOR * eps * squares)

    def fine_sigma(self) -> np.ndarray:
        """See `Iteration`."""
        self._resolved = resolve(self._basis())
        return self._resolved.sigma

    def finish(self, finish: Finish) -> Triplets:
        """See `Iteration`; the subspace may have been rotated since."""
        return extract(self._basis(), finish, self._resolved, self._extract(finish.k))

    def _basis(self) -> Basis:
        return Basis(self.matrix, self.subspace, self.long_parts)

    def restart_in_float64(self) -> None:
        """See `Iteration`."""
        best = self.subspace.ritz(0).coordinates[:, : self.context.plan.width]
        self.restart_from(self.subspace.K @ best)
        self.matrix.dtype = "float64"

    def restart_in_full(self, k: int | None, tol: float) -> None:
        """See `Iteration`."""
        del k, tol
        self.restart_from(self.subspace.K @ self.ritz.coordinates[:, : self.context.plan.width])
        self.matrix.rough = False

    def restart_from(self, directions: np.ndarray) -> None:
        """Begin again from these directions (N, c), with nothing of the products so far."""
        self.block = np.linalg.qr(directions)[0]
        self.forget()
        self.probes = None
        self.exhausted = False

    def audit(self, k: int) -> Audit | None:
        """See `Audit`; None before the probes went through a pass."""
        if self.probes is None or self.matrix.norm_squared == 0:
            return None
        W, ZW = self.probes
        energies, expected = self._missing(W, ZW, k)
        missing, spread = float(np.mean(energies)), float(np.std(energies)) / np.sqrt(PROBES)
        squares, outside = self.matrix.norm_squared, self.outside
        floor = outside.floor
        direction = bool(outside.hides(self._sigma()[k - 1 : k]).any())
        return Audit(
            PROBES,
            missing / squares,
            expected / squares,
            float(10 * np.sqrt(2 / np.pi) * np.sqrt(energies.max())),
            outside.seen,
            direction,
            bool(direction or abs(missing - expected) > 8 * spread + floor),
            *self._fourth(W, ZW),
        )

    def _fourth(self, W: np.ndarray, ZW: np.ndarray) -> tuple[float, float]:
        """Σσ⁴/(Σσ²)² and its standard error: exact where BᵀB was summed, else as the probes W show it."""
        if self.matrix.fourth is not None:
            return self.matrix.fourth, 0.0
        squares = self.matrix.norm_squared
        found, error = fourth_powers(self.subspace.K, self.subspace.Z, W, ZW, squares)
        return found / squares**2, error / squares**2

    def _missing(self, W: np.ndarray, ZW: np.ndarray, k: int) -> tuple[np.ndarray, float]:
        """‖(B−U·S·Vᵀ)ω‖² of each probe ω, and ‖B−U·S·Vᵀ‖²_F, which they estimate."""
        space, squares = self.subspace, self.matrix.norm_squared
        if self.left is not None:
            k = min(k, resolved_by_gram(self.ritz, self.matrix.eps, COARSEST))
            left = self.left.widened(k)
            seen = left.coordinates(k).T @ (space.Z.T @ W)  # UᵀB·ω
            energies = np.einsum("ij,ij->j", W, ZW) - np.einsum("ij,ij->j", seen, seen)
            return np.maximum(energies, 0.0), max(0.0, squares - float(np.sum(left.sigma[:k] ** 2)))
        V, ZV = (array @ self.ritz.coordinates[:, :k] for array in (space.K, space.Z))
        inside = V.T @ W
        X, HX = W - V @ inside, ZW - ZV @ inside
        energies = np.einsum("ij,ij->j", X, HX)
        return np.maximum(energies, 0.0), max(0.0, squares - float(np.sum(self.ritz.theta[:k])))

    def _unseen(self, W: np.ndarray, ZW: np.ndarray) -> float:
        """√ of the largest value of the pencil (XᵀH²X, XᵀHX), X the probes outside span K."""
        K, Z = self.subspace.K, self.subspace.Z
        inside = K.T @ W
        X, HX = W - K @ inside, ZW - Z @ inside
        HX = HX - K @ (K.T @ HX)
        first, second = X.T @ HX, HX.T @ HX
        values, vectors = np.linalg.eigh((first + first.T) / 2)
        solid = values > _PROBE_FLOOR * self.matrix.eps * self.matrix.norm_squared
        if not solid.any():
            return 0.0
        half = vectors[:, solid] / np.sqrt(values[solid])
        return float(np.sqrt(max(0.0, np.linalg.eigvalsh(half.T @ second @ half)[-1])))
