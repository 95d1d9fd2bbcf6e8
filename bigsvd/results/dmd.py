"""Dynamic mode decomposition of snapshots from their factors alone: nothing of the data is read again.

Snapshots D ≈ Z·Vt, a row each, with Z = U·diag(s). All but the last, X, and all but the first, X', both lie
in the span of the k rows of Vt, so that their DMD is that of Z[:-1] and Z[1:], which have k columns. It is
exactly the DMD of the data of rank k that the factors are: what these leave out, it knows nothing of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from bigsvd.errors import RankError, RequestError
from bigsvd.floats import silent
from bigsvd.request import Request
from bigsvd.results.certificate import Certificate
from bigsvd.results.kept import Kept
from bigsvd.results.steps import step_of

_TIMES = ("time", "t")  # what an axis of time is called
_MOST_TOLD = 8  # of the modes

Which = Literal["exact", "projected"]


class Snapshots(Protocol):
    """Factors whose samples are snapshots in the order of their time."""

    s: np.ndarray
    mean: Any
    row_weights: Any
    kept: Kept
    certificate: Certificate
    provenance: dict[str, Any]

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the axes of the data."""

    @property
    def array_axis(self) -> int:
        """Of these, which numbers the samples."""

    @property
    def samples_axis(self) -> int:
        """The axis of the matrix that numbers them."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the factors."""

    @property
    def scores(self) -> np.ndarray:
        """Z, (samples, k)."""

    @property
    def modes(self) -> np.ndarray:
        """(k, features), in the units of the data."""

    def unstacked(self, values: Any) -> np.ndarray:
        """Values (n,) or (r, n) of the features along the axes of the data."""


@dataclass(frozen=True, eq=False)
class Dynamics:
    """z(j) = Σ coordinates·amplitudes·eigenvaluesʲ: linear dynamics of k coordinates, with r modes.

    Attributes:
        eigenvalues: (r,) complex128, of one step. coordinates: (k, r) complex128, of modes of norm 1, with
            the phase that they have at the start. amplitudes: (r,) float64, 0 or more.

    """

    eigenvalues: np.ndarray
    coordinates: np.ndarray
    amplitudes: np.ndarray

    def at(self, steps: np.ndarray) -> np.ndarray:
        """Coordinates (t, k) float64 after so many steps (t,), which need not be whole."""
        growth = self.eigenvalues ** steps[:, np.newaxis].astype(np.complex128)
        return np.asarray((growth * self.amplitudes @ self.coordinates.T).real)

    def strengths(self, count: int) -> np.ndarray:
        """(r,) float64: the root mean square of each mode's part in the first `count` states."""
        growth = 2 * np.log(np.abs(self.eigenvalues))
        sums = np.where(growth == 0, count, np.expm1(count * growth) / np.expm1(growth))
        return np.asarray(self.amplitudes * np.sqrt(sums / count))

    def ordered(self, count: int) -> Dynamics:
        """The strongest over the first `count` states first, of a conjugate pair the positive frequency."""
        values = self.eigenvalues
        _, pairs = np.unique(values.real + 1j * np.abs(values.imag), return_inverse=True)
        strongest = np.zeros(len(values))
        np.maximum.at(strongest, pairs, self.strengths(count))
        order = np.lexsort((-values.imag, pairs, -strongest[pairs]))
        return Dynamics(values[order], self.coordinates[:, order], self.amplitudes[order])


def dynamics(scores: np.ndarray, rank: int, which: Which) -> Dynamics:
    """The DMD of states (m, k), a row each, by the `rank` leading singular triplets of all but the last.

    Tu, Rowley, Luchtenburg, Brunton & Kutz 2014, Algorithm 2: with X = P·S·Qᵀ and Ã = Pᵀ·X'·Q·S⁻¹ = W·Λ·W⁻¹
    "exact" modes are X'·Q·S⁻¹·W·Λ⁻¹ (P·W where λ is 0), "projected" ones P·W. Amplitudes b are those of the
    first state on either: W·b = Pᵀ·x.
    """
    P, S, Qt = np.linalg.svd(scores[:-1].T, full_matrices=False)
    P, S, Qt = P[:, :rank], S[:rank], Qt[:rank]
    image = scores[1:].T @ (Qt.T / S)
    values, W = (each.astype(np.complex128) for each in np.linalg.eig(P.T @ image))
    weights = np.linalg.lstsq(W, P.T @ scores[0], rcond=None)[0]
    found = P @ W
    if which == "exact":
        held = np.abs(values) > np.finfo(float).eps * np.linalg.norm(image)
        found[:, held] = image @ W[:, held] / values[held]
    norms = np.linalg.norm(found, axis=0)
    amplitudes = np.abs(weights) * norms
    return Dynamics(values, found / norms * np.exp(1j * np.angle(weights)), amplitudes)


@dataclass(frozen=True, eq=False)
class DMD:
    """x(t) ≈ mean + Re Σ amplitudes·modes·exp(2πi·frequencies·t + growth_rates·t), t = 0 being the first.

    Modes are in order of their part in the snapshots, the root mean square over their time. Each has norm 1
    as the factors measure it, weights included, and the phase that it has at the start.

    Attributes:
        dt: time between snapshots, in whatever unit it was given.
        dynamics: what they follow, in the coordinates of the factors.
        notes: what it is the DMD of, in sentences.

    """

    dt: float
    dynamics: Dynamics
    notes: tuple[str, ...]
    snapshots: Snapshots

    @property
    def rank(self) -> int:
        """r, the number of modes."""
        return len(self.eigenvalues)

    @property
    def eigenvalues(self) -> np.ndarray:
        """(r,) complex128: what each mode is multiplied by in a step of `dt`."""
        return self.dynamics.eigenvalues

    @property
    def amplitudes(self) -> np.ndarray:
        """(r,) float64, 0 or more: the part of each mode in the first snapshot."""
        return self.dynamics.amplitudes

    @property
    def frequencies(self) -> np.ndarray:
        """(r,) float64: cycles in a unit of time, from −1/(2·dt) to 1/(2·dt); what is faster is aliased."""
        return np.asarray(np.angle(self.eigenvalues) / (2 * np.pi * self.dt))

    @property
    @silent
    def growth_rates(self) -> np.ndarray:
        """(r,) float64: log|λ|/dt, negative of what decays; −inf where the eigenvalue is 0."""
        return np.asarray(np.log(np.abs(self.eigenvalues)) / self.dt)

    @property
    def modes(self) -> np.ndarray:
        """(r, features) complex128, read: in the units of the data and the shape of their axes, (r, y, x)."""
        basis = self.snapshots.modes
        found = np.tensordot(self.dynamics.coordinates.T, basis, axes=1)
        return np.asarray(found)

    @silent
    def at(self, times: Any) -> np.ndarray:
        """States at times (t,) since the first snapshot, in the units of `dt` and of the data.

        Between and after snapshots too. Their axes are those of the data, with one for the times in place of
        that of the samples; of a matrix they are (t, features).

        Raises:
            RequestError: the times are no finite numbers along one axis.

        """
        since = np.asarray(times)
        if since.ndim != 1 or since.dtype.kind not in "iuf" or not np.isfinite(since).all():
            raise RequestError(
                f"times of shape {since.shape} and type {since.dtype}", "give finite numbers along one axis"
            )
        basis = self.snapshots.modes
        states = self.dynamics.at(since / self.dt) @ basis.reshape(len(basis), -1)
        if self.snapshots.mean is not None:
            states += self.snapshots.unstacked(self.snapshots.mean).reshape(-1)
        return self.snapshots.unstacked(states)

    def __str__(self) -> str:
        """The strongest modes, and what they are of."""
        lines = [f"{'frequency':>12} {'growth rate':>12} {'amplitude':>12}"]
        rows = zip(self.frequencies, self.growth_rates, self.amplitudes, strict=True)
        lines += [f"{f:>12.6g} {g:>12.4g} {b:>12.4g}" for f, g, b in rows][:_MOST_TOLD]
        if self.rank > _MOST_TOLD:
            lines.append(f"... {self.rank} modes in all")
        return "\n".join([*lines, *self.notes])


@silent
def dmd(snapshots: Snapshots, dt: Any, rank: int | None, which: Which) -> DMD:
    """See `Factors.dmd`."""
    _check_order(snapshots)
    if which not in ("exact", "projected"):
        raise RequestError(f"modes={which!r} is not known", "use exact or projected")
    step = step_of(dt, snapshots.kept.shape[snapshots.samples_axis], _taken(snapshots))
    scores = snapshots.scores
    if len(scores) < 2:
        raise RequestError(f"{len(scores)} snapshot has no dynamics", "give two or more")
    chosen = _rank_of(scores, snapshots, rank)
    found = dynamics(scores, chosen, which).ordered(len(scores))
    return DMD(step, found, tuple(_notes(snapshots, chosen, len(scores) - 1)), snapshots)


def _taken(snapshots: Snapshots) -> np.ndarray | None:
    """Which samples of the data the snapshots are; None where all."""
    return snapshots.kept.lines[snapshots.samples_axis]


def _check_order(snapshots: Snapshots) -> None:
    """`RequestError` where the samples are no states that follow each other."""
    dims, axis = snapshots.dims, snapshots.array_axis
    times = [name for name in dims if name in _TIMES and name != dims[axis]]
    if times:
        raise RequestError(
            f"the samples lie along {dims[axis]!r}, and the data have an axis {times[0]!r}",
            f"decompose them with dim={times[0]!r}",
        )
    if snapshots.row_weights is not None:
        raise RequestError(
            "snapshots were multiplied by row_weights, so that one does not follow from the one before",
            "decompose them without",
        )


def _rank_of(scores: np.ndarray, snapshots: Snapshots, rank: int | None) -> int:
    """How many triplets of all snapshots but the last are taken: those asked for, or all above rounding.

    Raises:
        RankError: more than there are.
        RequestError: all is 0; or what was centred has as many directions as steps: its DMD is the Fourier
            transform, whatever the data (Chen, Tu & Rowley 2012, theorem 2).

    """
    values = np.linalg.svd(scores[:-1], compute_uv=False)
    most = int(np.count_nonzero(values > np.finfo(snapshots.dtype).eps * values[0]))
    if most == 0:
        raise RequestError("all snapshots but the last are 0", "there is nothing to follow")
    if rank is not None and not _is_rank(rank, most):
        raise RankError(f"rank={rank!r} is not in the allowed range 1..{most}", "give a smaller rank")
    chosen = rank or most
    if chosen == len(scores) - 1 and _is_centred(snapshots):
        raise RequestError(
            f"of {len(scores)} snapshots the mean was subtracted, and {chosen} directions are kept of them: "
            "their DMD is the discrete Fourier transform, whatever they are",
            f"give a rank below {chosen}, or decompose them without centring",
        )
    return chosen


def _is_rank(rank: object, most: int) -> bool:
    return _is_whole(rank) and rank in range(1, most + 1)


def _is_whole(rank: object) -> bool:
    return isinstance(rank, (int, np.integer)) and not isinstance(rank, bool)


def _is_centred(snapshots: Snapshots) -> bool:
    return Request.from_dict(snapshots.provenance["request"]).center


def _notes(snapshots: Snapshots, rank: int, steps: int) -> Iterator[str]:
    """What a DMD of these is, and is not."""
    c, k = snapshots.certificate, len(snapshots.s)
    error = f"from which what was decomposed differs by {c.relative_error:.2e}"
    yield f"{rank} modes of data of rank {k}, {error}."
    if snapshots.mean is not None:
        yield "They are of deviations from what was subtracted, which is added to states and is no mode."
    if rank == steps:
        yield f"As many modes as the {steps} steps follow each snapshot, noise too: try a smaller rank."
    if c.predicted is not None:
        yield f"The factors are {c.predicted.said}."
