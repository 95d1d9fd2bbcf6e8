"""The contenders, one row each: iterations that give a better answer for every further pass over the data.

Each is a generator of answers with the passes they took, and is judged by its answers, never by its word.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import MemoryStore

from benchmarks.data import THREADS
from benchmarks.families import Problem, in_memory
from benchmarks.peers import OVERSAMPLING, SEED, CountingStore

MEMORY = "1GB"
WINDOW_BLOCKS = 64
_DASK_CHUNKS = 10


@dataclass(frozen=True)
class Task:
    """What a contender is given.

    Attributes:
        matrix: what is decomposed, (m, n) float32; `problem` has it as stored.
        tol, max_passes: for one that stops by itself.

    """

    problem: Problem
    matrix: np.ndarray
    tol: float
    max_passes: int

    @property
    def tall(self) -> bool:
        """Whether the right singular vectors are along the short side."""
        return bool(self.matrix.shape[0] >= self.matrix.shape[1])


@dataclass(frozen=True)
class Answer:
    """After `passes` over the data: sigma (k,) and the singular vectors along the short side, rows of (k, N).

    Attributes:
        claimed: the worst residual that the contender itself states, None where it states none.
        resampled: how much of the data it multiplied beyond those passes: a sample, gone over again.

    """

    passes: float
    sigma: np.ndarray
    vectors: np.ndarray
    claimed: float | None = None
    resampled: float = 0.0


@dataclass(frozen=True)
class Contender:
    """One row of the table; `answers` may go on for ever."""

    name: str
    label: str
    family: str
    answers: Callable[[Task], Iterator[Answer]]


def bigsvd_krylov(task: Task) -> Iterator[Answer]:
    """`bigsvd.svd` stopped after 1, 2, … passes, up to the answer that it stops at by itself.

    Each goes on from the one before, to the bits of a run of its own. Where it is stopped early it may make
    further passes to certify what it has; such an answer is left out if it takes as many passes as the last.
    """
    with tempfile.TemporaryDirectory(prefix="passes-") as name:
        last = bigsvd_answer(task, task.max_passes, Path(name) / "last")
        for passes in range(1, task.max_passes):
            answer = bigsvd_answer(task, passes, Path(name) / "stopped")
            if answer.passes >= last.passes:
                break
            yield answer
    yield last


def bigsvd_answer(task: Task, max_passes: int, out: Path) -> Answer:
    """The answer after so many passes; goes on from a run that was stopped at `out`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # which repeat the certificate
        factors = import_module("bigsvd").svd(
            task.problem.stored, task.problem.k, out, method="krylov", max_passes=max_passes, tol=task.tol,
            seed=SEED, device="cpu", memory=MEMORY, overwrite=True, **task.problem.options,
        )  # fmt: skip
    costs = factors.provenance["costs"]
    multiplied = (costs["bytes_read"] + costs["cached_bytes"]) / task.problem.stored.nbytes
    return Answer(
        float(costs["passes"]),
        np.asarray(factors.s),
        np.asarray(factors.Vt[:] if task.tall else factors.U[:].T),
        float(factors.certificate.max_residual),
        max(0.0, multiplied - costs["passes"]),
    )


def dask_compressed(task: Task, *, width: Callable[[int], int]) -> Iterator[Answer]:
    """`dask.array.linalg.svd_compressed`, iterator QR, n_power_iter = 0, 1, …; chunk reads are counted."""
    da, dask = import_module("dask.array"), import_module("dask")
    memory = MemoryStore()
    in_memory(task.matrix, _DASK_CHUNKS, memory)
    k = task.problem.k
    for iterations in count():
        store = CountingStore(memory.with_read_only(True))
        array = zarr.open_array(store, mode="r")
        with dask.config.set(scheduler="threads", num_workers=THREADS):
            U, s, Vt = dask.compute(
                *da.linalg.svd_compressed(
                    da.from_zarr(array), k, iterator="QR", n_power_iter=iterations,
                    n_oversamples=width(k) - k, seed=SEED, compute=True,
                )
            )  # fmt: skip
        yield Answer(store.chunk_reads / array.nchunks, s, Vt if task.tall else U.T)


def sklearn_randomized(task: Task) -> Iterator[Answer]:
    """`sklearn.utils.extmath.randomized_svd`, n_iter = 0, 1, …; 2 + 2·n_iter sweeps in memory."""
    randomized_svd = import_module("sklearn.utils.extmath").randomized_svd
    for iterations in count():
        U, s, Vt = randomized_svd(
            task.matrix, task.problem.k, n_oversamples=OVERSAMPLING, n_iter=iterations, random_state=SEED
        )
        yield Answer(2.0 + 2.0 * iterations, s, Vt if task.tall else U.T)


def block_krylov(task: Task, *, width: Callable[[int], int]) -> Iterator[Answer]:
    """Block Krylov from a Gaussian start (Musco & Musco 2015, Alg. 2), a fused pass Y = B·Q, Z = BᵀY a block.

    B is the matrix with its short side across. Rayleigh-Ritz of BᵀB on all blocks; blocks are orthogonalised
    against each other twice.
    """
    B = task.matrix if task.tall else task.matrix.T
    k = task.problem.k
    N = B.shape[1]
    Q = np.linalg.qr(np.random.default_rng(SEED).standard_normal((N, min(N, width(k)))))[0]
    K, Z = np.zeros((N, 0)), np.zeros((N, 0))
    for passes in count(1):
        new = (B.T @ (B @ Q.astype(np.float32))).astype(np.float64)
        K, Z = np.hstack([K, Q]), np.hstack([Z, new])
        theta, E = np.linalg.eigh((K.T @ Z + Z.T @ K) / 2)
        leading = E[:, ::-1][:, :k]
        yield Answer(float(passes), np.sqrt(np.maximum(theta[::-1][:k], 0.0)), (K @ leading).T)
        room = min(Q.shape[1], N - K.shape[1])
        if room == 0:
            return
        for _ in range(2):
            new = np.linalg.qr(new - K @ (K.T @ new))[0]
        Q = new[:, :room]


def pcaone_windows(task: Task, *, width: Callable[[int], int]) -> Iterator[Answer]:
    """PCAone's randomized SVD with windows (Li, Meisner & Albrechtsen 2023, Alg. 2), p = 1, 2, … epochs.

    Up to six renew the basis within the pass, see `renew_in_windows`; the others, and always the last, are
    plain, and the answer is the SVD of Qᵀ·B, B·Ω = Q·R, formed as R⁻ᵀ·Hᵀ from H = Bᵀ·B·Ω. From p = 7 that is
    the published schedule, which answers no sooner. The long side is permuted, which is not counted.
    """
    rng = np.random.default_rng(SEED)
    B = task.matrix if task.tall else task.matrix.T
    B = B[rng.permutation(B.shape[0])]
    N, k = B.shape[1], task.problem.k
    omega = rng.standard_normal((N, min(N, width(k))))
    sums = np.zeros((2, *omega.shape))
    for epoch in count():
        G = B @ omega.astype(np.float32)
        H = (B.T @ G).astype(np.float64)
        R = np.linalg.qr(G.astype(np.float64))[1]
        _, s, Vt = np.linalg.svd(np.linalg.lstsq(R.T, H.T)[0], full_matrices=False)
        yield Answer(epoch + 1.0, s[:k], Vt[:k])
        if 2**epoch < WINDOW_BLOCKS:
            omega = renew_in_windows(np.array_split(B, WINDOW_BLOCKS), omega, sums, epoch)
        else:
            omega = np.linalg.qr(H)[0]


def window_ends(epoch: int) -> set[int]:
    """After how many blocks the basis is renewed: windows of 2^(epoch+1), each half over the one before.

    Before the first is full, the blocks read and the end of the last epoch renew it once.
    """
    half = 2**epoch
    return set(range(2 * half, WINDOW_BLOCKS + 1, half)) | ({half // 2} if epoch else set())


def renew_in_windows(
    blocks: Sequence[np.ndarray], omega: np.ndarray, sums: np.ndarray, epoch: int
) -> np.ndarray:
    """One pass; Ω = qr(H) after each of `window_ends`, H = Σ AᵀA·Ω over the blocks A of the window.

    `sums` (2, N, l) has H in two halves and is carried from epoch to epoch: summed with different Ω, whose
    columns therefore keep their signs.
    """
    half, ends = 2**epoch, window_ends(epoch)
    for done, block in enumerate(blocks, 1):
        sums[(done - 1) // half % 2] += block.T @ (block @ omega.astype(np.float32))
        if done in ends:
            before, omega = omega, np.linalg.qr(sums.sum(axis=0))[0]
            turned = np.abs(before - omega).sum(axis=0) > 2 * np.abs(before + omega).sum(axis=0)
            omega = np.where(turned, -omega, omega)
            sums[1 if done % (2 * half) else 0] = 0.0
    return omega


def dash_svd(task: Task, *, width: Callable[[int], int]) -> Iterator[Answer]:
    """Dynamic shifts, dashSVD (Feng, Yu, Xie & Tang 2024, ACM Algorithm 1043), p = 0, 1, … power iterations.

    Those are p+2 passes: Q = orth(BᵀΩ), Ω Gaussian; p times Q = the left singular vectors of BᵀB·Q − α·Q, in
    one pass, where α moves half way to the least of its singular values if that is above α; the SVD of B·Q.
    Without the accuracy control; LAPACK's SVD in place of eigSVD.
    """
    B = task.matrix if task.tall else task.matrix.T
    (M, N), k = B.shape, task.problem.k
    omega = np.random.default_rng(SEED).standard_normal((M, min(N, width(k))), dtype=np.float32)
    Q = np.linalg.qr((B.T @ omega).astype(np.float64))[0]
    alpha = 0.0
    for iterations in count():
        Y = B @ Q.astype(np.float32)
        _, s, Wt = np.linalg.svd(Y.astype(np.float64), full_matrices=False)
        yield Answer(iterations + 2.0, s[:k], Wt[:k] @ Q.T)
        Q, S, _ = np.linalg.svd((B.T @ Y).astype(np.float64) - alpha * Q, full_matrices=False)
        if S[-1] > alpha:
            alpha = (alpha + float(S[-1])) / 2


def _narrow(k: int) -> int:
    return k + OVERSAMPLING


def _wide(k: int) -> int:
    return 3 * k


_ROWS: tuple[tuple[str, str, str, Callable[..., Iterator[Answer]], dict[str, Any]], ...] = (
    ("bigsvd", "bigsvd krylov", "bigsvd", bigsvd_krylov, {}),
    ("krylov-k+10", "plain block Krylov l=k+10", "plain", block_krylov, {"width": _narrow}),
    ("krylov-3k", "plain block Krylov l=3k", "plain", block_krylov, {"width": _wide}),
    ("dask-k+10", "Dask svd_compressed l=k+10", "Dask", dask_compressed, {"width": _narrow}),
    ("dask-3k", "Dask svd_compressed l=3k", "Dask", dask_compressed, {"width": _wide}),
    ("sklearn", "scikit-learn randomized_svd", "scikit-learn", sklearn_randomized, {}),
    ("pcaone-k+10", "PCAone windows l=k+10", "PCAone", pcaone_windows, {"width": _narrow}),
    ("pcaone-3k", "PCAone windows l=3k", "PCAone", pcaone_windows, {"width": _wide}),
    ("dashsvd-k+10", "dashSVD l=k+10", "dashSVD", dash_svd, {"width": _narrow}),
    ("dashsvd-3k", "dashSVD l=3k", "dashSVD", dash_svd, {"width": _wide}),
)
CONTENDERS = tuple(
    Contender(name, label, family, partial(run, **options)) for name, label, family, run, options in _ROWS
)
