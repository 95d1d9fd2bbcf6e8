"""Block Krylov SVD that has a complete, certified answer after every pass.

State after pass j: orthonormal K = [Q0 … Qj] (N×L), Z = BᵀB·K (N×L), and Y = B·K (M×L) in scratch. One pass
reads each panel once and does both products. After it, without the data, G = KᵀZ = E·Λ·Eᵀ gives Ritz pairs
θ = Λ, v = K·e, and their exact residuals ‖Z·e − θ·v‖ (Musco & Musco 2015, Alg. 2; Saad 2011, §6.1 for the
residual; Stewart's thick restart where K outgrows its budget).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bigsvd.certificate import Audit
from bigsvd.device import Array, Device, stacked
from bigsvd.forming import FORMING, Parts
from bigsvd.layout import PROBES
from bigsvd.matrix import Correction, Matrix
from bigsvd.passes import PassResult, run_pass
from bigsvd.planning import BEYOND
from bigsvd.scratch import Scratch

_PARTS = "parts"  # in scratch: how Y of the passes combines to B·K
_FILLING = 1000  # a tag of random numbers that no pass's probes have
_CORRECTION_FAILED = 0.3  # of the residual left after a correction, from which there is no other
_CORRECTION_SLACK = 2.0  # by which ρ² may exceed the tolerance
# Of the tolerance: with ρ² below it a step along the residuals themselves does, to 1.5 ρ² on a slow decay.
_PLAIN_SLACK = 0.5
RESIDUALS_AT_ONCE = 64
_ROTATED_ROWS = 4096
EASY = 0.8  # of the k-th value: where values behind it are below, few more columns resolve it


@dataclass(frozen=True)
class ProductKernel:
    """Y = B·P and Z = BᵀY for `block` (N×c) of scratch; the first `keep` columns of Y are stored, if any."""

    block: str
    y: str
    keep: int

    def start(self, scratch: Scratch, device: Device, dtype: str) -> Product:
        """The operator of one lane."""
        return Product(scratch, device, dtype, self)


class Product:
    """`ProductKernel` at work in one lane."""

    def __init__(self, scratch: Scratch, device: Device, dtype: str, kernel: ProductKernel) -> None:
        self._device = device
        block = scratch.read(kernel.block)
        self._block = device.to_device(block.astype(dtype))
        self._total = device.to_device(np.zeros(block.shape[::-1]))
        self._y = scratch.open(kernel.y) if kernel.keep else None
        self._keep = kernel.keep

    def forward(self, slab: Array, cols: slice) -> Array:
        """B·P of a slab."""
        return slab @ self._block[cols, :]

    def backward(self, slab: Array, y: Array | None, rows: slice, cols: slice) -> None:
        """Add Yᵀ·B of a slab to float64 sums; as the transpose, which BLAS finds easier than BᵀY."""
        del rows
        if y is not None:
            self._total[:, cols] += y.T @ slab

    def finish_panel(self, y: list[Array], rows: slice) -> None:
        """Store the kept columns of Y."""
        if self._y is not None:
            self._y[rows] = stacked(self._device, [part[:, : self._keep] for part in y])

    def sums(self) -> dict[str, np.ndarray]:
        """Z (N, c)."""
        return {"z": np.ascontiguousarray(self._device.to_host(self._total).T)}


def product_pass(
    matrix: Matrix, name: str, columns: np.ndarray, *, keep: int, sample: bool, look: bool = False
) -> PassResult:
    """BᵀB·P in `sums["z"]` for P = `columns` (N, c), and the first `keep` columns of B·P in `<name>/y`.

    Over all panels or the sample's, with a `look` at what they hold; replayed if scratch has it, and then for
    the very columns it had.
    """
    context = matrix.context
    scratch, plan = context.scratch, context.plan
    if not matrix.holds(name, block=columns):
        scratch.remove(name)
        matrix.prepare(name, sample=sample)
        if keep:
            scratch.create(f"{name}/y", (plan.rows, keep), (plan.panel_rows, keep), matrix.dtype)
        scratch.write(f"{name}/block", columns)
    kernel = ProductKernel(f"{name}/block", f"{name}/y", keep)
    result = run_pass(context, matrix.spec(name, kernel, sample=sample, look=look))
    matrix.charge(result, sample=sample)
    return result


@dataclass(frozen=True)
class Ritz:
    """Ritz values θ (L,) descending, coordinates E (L, L), and relative residuals ρ of the first `count`."""

    theta: np.ndarray
    coordinates: np.ndarray
    residuals: np.ndarray


class Subspace:
    """K and Z = BᵀB·K, both (N, L) float64.

    Both grow in memory that is taken once, for as many columns as they may ever have: column by column, so
    that none of it is touched before it is used.
    """

    def __init__(self, rows: int, most: int) -> None:
        self._K = np.empty((rows, most), order="F")
        self._Z = np.empty((rows, most), order="F")
        self.width = 0

    @property
    def K(self) -> np.ndarray:  # noqa: N802
        """The orthonormal basis (N, L)."""
        return self._K[:, : self.width]

    @property
    def Z(self) -> np.ndarray:  # noqa: N802
        """BᵀB·K (N, L)."""
        return self._Z[:, : self.width]

    def append(self, Q: np.ndarray, Z: np.ndarray) -> None:
        """Add an orthonormal block with Z = BᵀB·Q."""
        new = slice(self.width, self.width + Q.shape[1])
        self._K[:, new] = Q
        self._Z[:, new] = Z
        self.width = new.stop

    def ritz(self, count: int) -> Ritz:
        """Rayleigh-Ritz of BᵀB on span K, with residuals of the first `count` pairs."""
        gram = self.K.T @ self.Z
        theta, E = np.linalg.eigh((gram + gram.T) / 2)
        theta, E = np.maximum(theta[::-1], 0.0), E[:, ::-1]
        norms = np.zeros(min(count, self.width))
        for start in range(0, norms.size, RESIDUALS_AT_ONCE):  # all at once would be as large as K and Z
            some = slice(start, min(norms.size, start + RESIDUALS_AT_ONCE))
            R = self.Z @ E[:, some] - (self.K @ E[:, some]) * theta[some]
            norms[some] = np.sqrt(np.einsum("ij,ij->j", R, R))
        with np.errstate(divide="ignore", invalid="ignore"):
            residuals = np.where(norms == 0, 0.0, norms / theta[: norms.size])
        return Ritz(theta, E, residuals)

    def rotate(self, E: np.ndarray) -> None:
        """Keep only the span of K·E (thick restart), some rows at a time in place."""
        kept = E.shape[1]
        for array in (self._K, self._Z):
            for start in range(0, len(array), _ROTATED_ROWS):
                rows = slice(start, start + _ROTATED_ROWS)
                array[rows, :kept] = array[rows, : self.width] @ E
        self.width = kept


def orthonormal_complement(W: np.ndarray, K: np.ndarray, width: int, eps: float) -> np.ndarray:
    """An orthonormal basis of the strongest `width` directions of W outside span K (N, ≤width).

    Orthogonalised against K twice (Giraud et al. 2005: twice is enough), and once after normalising, which
    enlarges what rounding left in span K; drops directions below rounding.
    """
    scale = np.linalg.norm(W)
    if scale == 0 or not np.isfinite(scale):
        return W[:, :0]
    for _ in range(2):
        W = W - K @ (K.T @ W)
    Q, R = np.linalg.qr(W)
    left, values, _ = np.linalg.svd(R)
    keep = int(np.sum(values[:width] > 10 * eps * scale))
    if keep == 0:
        return W[:, :0]
    Q = Q @ left[:, :keep]
    return np.asarray(np.linalg.qr(Q - K @ (K.T @ Q))[0])


def gaussian(seed: int, tag: int, shape: tuple[int, int]) -> np.ndarray:
    """Standard normal entries that depend only on the seed and the use."""
    return np.random.default_rng([seed, tag]).standard_normal(shape)


class Preconditioner(Protocol):
    """Something cheap that knows BᵀB roughly."""

    def correct(self, name: str, R: np.ndarray, theta: np.ndarray, K: np.ndarray) -> np.ndarray:
        """Directions (N, c) outside span K in which Ritz vectors with residuals R, values θ (c,) err."""


class KrylovRun:
    """The anytime iteration: `advance` makes one pass, `subspace.ritz` is the answer so far.

    `extend` chooses the next block: the residuals of the wanted Ritz vectors, preconditioned, where one such
    step should end the iteration, else all that the last products have outside the subspace, with vectors
    `behind` (N, c) the first block if that was narrow. The matrix is
    exact only after its first pass. Where that pass's products cannot be corrected to the exact matrix they
    serve as a power step and are dropped.
    """

    def __init__(
        self,
        matrix: Matrix,
        block: np.ndarray,
        seed: int,
        sample: Preconditioner | None = None,
        behind: np.ndarray | None = None,
    ) -> None:
        self.matrix = matrix
        self.context = matrix.context
        self.block = block
        self.seed = seed
        self.sample = sample
        self.subspace, self.parts = self._empty()
        self.exhausted = False
        self.full = False
        self.probes: tuple[np.ndarray, np.ndarray] | None = None
        self._latest = np.zeros((self.context.plan.cols, 0))
        self._before_correction: float | None = None
        self._behind = behind

    def _empty(self) -> tuple[Subspace, Parts]:
        """No basis yet, and where B times it will lie."""
        plan, most = self.context.plan, max(self.context.plan.max_width, self.block.shape[1])
        return Subspace(plan.cols, most), Parts(self.context.scratch, _PARTS)

    @property
    def next_name(self) -> str:
        """Where `advance` will leave its pass in scratch."""
        return self.matrix.next_name("krylov")

    def advance(self) -> None:
        """One pass over the data. `NonFiniteError` in the first."""
        matrix, scratch = self.matrix, self.context.scratch
        name, keep = self.next_name, self.block.shape[1]
        first = not matrix.known
        stored = 0 if self.context.plan.stays_on_device else keep
        result = product_pass(matrix, name, self._columns(), keep=stored, sample=False)
        columns = scratch.read(f"{name}/block")  # those of a killed run may differ in the last bits
        if not first:
            self._absorb(f"{name}/y", columns, result.sums["z"], keep)
            return
        correction = matrix.learn(name, result)
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
            self.probes = columns[:, keep:].copy(), Z[:, keep:].copy()
        self.subspace.append(columns[:, :keep], Z[:, :keep])
        self.parts.append(name, np.zeros(keep), np.eye(keep))
        self._latest = Z[:, :keep]

    def _absorb_corrected(
        self, name: str, columns: np.ndarray, Z: np.ndarray, keep: int, by: Correction
    ) -> None:
        """Append the first block, corrected: for P̂ = Γ⁻¹P, B·P̂ = Y − 1·(δᵀP) and BᵀB·P̂ = Γ(Z − M·δ(δᵀP))."""
        along = by.delta @ columns
        Z = by.ratio[:, None] * (Z - self.context.plan.rows * np.outer(by.delta, along))
        if not by.benign:
            step = orthonormal_complement(Z[:, :keep], self.subspace.K, keep, self.matrix.eps)
            more = gaussian(self.seed, _FILLING, (Z.shape[0], keep - step.shape[1]))  # for what rounding hid
            self.block = np.linalg.qr(np.concatenate([step, more], axis=1))[0]
            return
        columns = columns / by.ratio[:, None]
        if by.ratio.max() <= 2 * by.ratio.min():  # else no longer close to isotropic: audit in the next pass
            level = np.sqrt(np.mean(by.ratio**2))  # of P̂ = Γ⁻¹P, which makes them standard normal again
            self.probes = columns[:, keep:] * level, Z[:, keep:] * level
        Q, R = np.linalg.qr(columns[:, :keep])
        mixing = np.linalg.inv(R)
        Z = Z[:, :keep] @ mixing
        self.subspace.append(Q, Z)
        self.parts.append(name, along[:keep], mixing)
        self._latest = Z

    def extend(self, ritz: Ritz, k: int | None, tol: float) -> None:
        """Q of the next pass, for k Ritz vectors to reach `tol`; restart when K would outgrow the plan."""
        plan, space = self.context.plan, self.subspace
        corrected = self._before_correction is not None
        W = self._correction(ritz, k, tol)
        if W is None:  # after a correction, whose block was narrow, the residuals span what its products lack
            W = (
                self._residuals(ritz, list(range(min(plan.width, space.width))))
                if corrected
                else self._latest
            )
            if self._behind is not None:  # the block was narrow, which did not do
                scale = np.linalg.norm(W) / np.sqrt(W.shape[1])
                W, self._behind = np.concatenate([W, self._behind * scale], axis=1), None
        room = min(plan.width, plan.cols - space.width)
        Q = orthonormal_complement(W, space.K, room, self.matrix.eps)
        self.exhausted = Q.shape[1] == 0
        if not self.exhausted and space.width + Q.shape[1] > plan.max_width:
            self.full = True
            kept = ritz.coordinates[:, : plan.max_width - plan.width]
            space.rotate(kept)
            self.parts = self.parts.times(kept, f"{_PARTS}-{self.matrix.passes}")
        self.block = Q

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

    def _correction(self, ritz: Ritz, k: int | None, tol: float) -> np.ndarray | None:
        """Preconditioned residuals (N, c), where they should do; None where the whole block must go on.

        A step takes the worst residual ρ to about ρ² while the sample resembles the data and the values fall
        off behind the k-th; a step that has not shown that is the last. A few Ritz vectors behind the k-th
        come along: one may be on its way up.
        """
        if self.sample is None or k is None or ritz.residuals.size < k:
            return None
        worst = float(np.max(ritz.residuals[:k]))
        before, self._before_correction = self._before_correction, None
        failed = before is not None and worst > _CORRECTION_FAILED * before
        beyond = ritz.theta[min(self.context.plan.narrow, ritz.theta.size - 1)]
        flat = beyond > EASY * ritz.theta[k - 1]
        if failed or flat or not worst**2 <= _CORRECTION_SLACK * tol:
            self.sample = None if failed else self.sample
            return None
        count = min(k + BEYOND, ritz.residuals.size)
        wanted = [i for i in range(count) if i >= k or ritz.residuals[i] > tol / 3]
        theta = ritz.theta[wanted]
        if theta.min() <= 0:
            return None
        self._before_correction = worst
        R = self._residuals(ritz, wanted)
        if worst**2 <= _PLAIN_SLACK * tol:
            return np.asarray(R / theta)
        return self.sample.correct(f"correct-{self.next_name}", R, theta, self.subspace.K)

    def _residuals(self, ritz: Ritz, wanted: list[int]) -> np.ndarray:
        """BᵀB·v − θ·v of some Ritz vectors, (N, c)."""
        E, space = ritz.coordinates[:, wanted], self.subspace
        return np.asarray(space.Z @ E - (space.K @ E) * ritz.theta[wanted])

    def long_parts(self, combine: np.ndarray) -> Parts:
        """What B·K·C is the sum of, for C = `combine` (L, c): rows of Y in scratch and their coefficients.

        The passes have stored them; where the whole matrix stays on a device none has, since to multiply it
        once more, in a pass for each block, takes less there.
        """
        if not self.context.plan.stays_on_device:
            return self.parts.times(combine, FORMING)
        found, block_width = Parts(self.context.scratch, FORMING), self.context.plan.width
        for start in range(0, combine.shape[1], block_width):
            columns = self.subspace.K @ combine[:, start : start + block_width]
            name, width = self.matrix.next_name("long"), columns.shape[1]
            product_pass(self.matrix, name, columns, keep=width, sample=False)
            found.append(f"{name}/y", np.zeros(width), np.eye(width))
        return found

    def restart_in_float64(self) -> None:
        """Begin again in float64 from the best directions so far: float32 cannot resolve what is asked."""
        best = self.subspace.ritz(0).coordinates[:, : self.context.plan.width]
        self.block = np.linalg.qr(self.subspace.K @ best)[0]
        self.subspace, self.parts = self._empty()
        self.matrix.dtype = "float64"
        self.sample = None
        self.probes = None
        self.exhausted = False

    def audit(self, ritz: Ritz, k: int) -> Audit | None:
        """See `Audit`; None before the probes went through a pass."""
        if self.probes is None or self.matrix.norm_squared == 0:
            return None
        W, ZW = self.probes
        space = self.subspace
        V = space.K @ ritz.coordinates[:, :k]
        ZV = space.Z @ ritz.coordinates[:, :k]
        inside = V.T @ W
        X, HX = W - V @ inside, ZW - ZV @ inside
        energies = np.maximum(np.einsum("ij,ij->j", X, HX), 0.0)
        missing, expected = (
            float(np.mean(energies)),
            max(0.0, self.matrix.norm_squared - float(np.sum(ritz.theta[:k]))),
        )
        spread = float(np.std(energies)) / np.sqrt(PROBES)
        floor = 1e3 * self.matrix.eps * self.matrix.norm_squared
        unseen = self._unseen(W, ZW)
        direction = unseen**2 > ritz.theta[k - 1] * 1.01 + floor
        return Audit(
            PROBES,
            missing / self.matrix.norm_squared,
            expected / self.matrix.norm_squared,
            float(10 * np.sqrt(2 / np.pi) * np.sqrt(energies.max())),
            unseen,
            bool(direction),
            bool(direction or abs(missing - expected) > 8 * spread + floor),
        )

    def _unseen(self, W: np.ndarray, ZW: np.ndarray) -> float:
        """√ of the largest value of the pencil (XᵀH²X, XᵀHX), X the probes outside span K."""
        K, Z = self.subspace.K, self.subspace.Z
        inside = K.T @ W
        X, HX = W - K @ inside, ZW - Z @ inside
        HX = HX - K @ (K.T @ HX)
        first, second = X.T @ HX, HX.T @ HX
        values, vectors = np.linalg.eigh((first + first.T) / 2)
        solid = values > 1e3 * self.matrix.eps * max(self.matrix.norm_squared, 0.0)
        if not solid.any():
            return 0.0
        half = vectors[:, solid] / np.sqrt(values[solid])
        return float(np.sqrt(max(0.0, np.linalg.eigvalsh(half.T @ second @ half)[-1])))
