"""The peers, one row each: other ways to the k leading right singular triplets of a matrix stored in Zarr.

A row's function runs in a fresh process after `modules` are imported; everything it does, opening and reading
the store included, is timed. Adding a peer is one row.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from benchmarks.data import THREADS, open_store, row_blocks

OVERSAMPLING = 10
SEED = 0
_CHUNK_PREFIX = "c/"  # of Zarr v3; metadata lies beside it


@dataclass(frozen=True)
class Job:
    """The stored matrix, the rank asked for, and a folder to write into."""

    store: Path
    k: int
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """sigma (k,), Vt (k, n), passes over the store, and what else the peer says of itself (JSON values)."""

    sigma: np.ndarray
    Vt: np.ndarray
    passes: float
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """One row of the table.

    Attributes:
        family: which library, for the plot.
        modules: what it imports before memory and time count.
        threads: its own threads times BLAS threads, as words; `blas_threads` is what BLAS is limited to.
        memory_factor: it is refused where this multiple of the matrix exceeds the memory limit.
        centred: whether it decomposes A − 1·meanᵀ, and so is compared with that matrix's reference.
        note: what is compared, where that is not plain.

    """

    name: str
    label: str
    family: str
    run: Callable[[Job], Outcome]
    modules: tuple[str, ...]
    threads: str
    blas_threads: int
    memory_factor: float = 0.0
    centred: bool = False
    note: str = ""


class CountingStore(WrapperStore[Store]):
    """A store that counts how often a chunk is read."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.chunk_reads = 0
        self._lock = threading.Lock()

    @property
    def _supports_sync_io(self) -> bool:
        """No: every read of Zarr >= 3.3 must come through `get`, which counts."""
        return False

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value of `key`, counted."""
        if key.startswith(_CHUNK_PREFIX):
            with self._lock:
                self.chunk_reads += 1
        return await self._store.get(key, prototype, byte_range)


def bare_read(job: Job, threads: int) -> Outcome:
    """Every chunk read and decoded once by some threads with zarr-python, nothing done with it."""
    array = open_store(job.store)

    def read(start: int) -> int:
        return int(np.asarray(array[start : start + array.chunks[0]]).nbytes)

    with ThreadPoolExecutor(threads) as pool:
        total = sum(pool.map(read, range(0, array.shape[0], array.chunks[0])))
    return Outcome(np.zeros(0), np.zeros((0, array.shape[1])), 1.0, {"decoded_bytes": total})


def bigsvd_svd(job: Job, share: float, *, stage: bool = False, **options: Any) -> Outcome:
    """`bigsvd.svd`: cluster start, passes, writing, checking and publishing U, s and Vt, certificate.

    Its memory is `share` of the data's bytes, and no less than `_LEAST_MEMORY`.
    """
    memory = max(_LEAST_MEMORY, int(share * open_store(job.store).nbytes))
    if stage:
        options["stage"] = job.folder / "stage"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a run of one pass did not reach its tolerance
        factors = import_module("bigsvd.solve").svd(
            job.store, job.k, job.folder / "factors", memory=memory, device="cpu", seed=SEED, **options
        )
    costs, certificate = factors.provenance["costs"], factors.certificate
    facts = {
        "seconds_in_run": costs["seconds"],
        "pass_seconds": costs["pass_seconds"],
        "predicted_seconds": costs["predicted_seconds"],
        "seconds_by_part": costs["seconds_by_part"],
        "cache_hit_rate": costs["cache_hit_rate"],
        "bytes_read": costs["bytes_read"],
        "planned_memory_bytes": costs["planned_memory_bytes"],
        "max_residual": certificate.max_residual,
        "converged": certificate.converged,
        "block_width": factors.provenance["plan"]["width"],
    }
    return Outcome(np.asarray(factors.s), np.asarray(factors.Vt[:]), float(costs["passes"]), facts)


def dask_compressed(job: Job, *, iterator: str, power_iterations: int) -> Outcome:
    """`dask.array.linalg.svd_compressed`, compute=True, on `da.from_zarr`; U, s and Vt computed together."""
    da = import_module("dask.array")
    with _dask_matrix(job) as (matrix, store, chunks):
        factors = da.linalg.svd_compressed(
            matrix,
            job.k,
            iterator=iterator,
            n_power_iter=power_iterations,
            n_oversamples=OVERSAMPLING,
            seed=SEED,
            compute=True,
        )
        _, sigma, Vt = import_module("dask").compute(*factors)
    return Outcome(sigma, Vt, store.chunk_reads / chunks, {"chunk_reads": store.chunk_reads})


def dask_svd(job: Job) -> Outcome:
    """`dask.array.linalg.svd` (direct TSQR), cut to k; U, s and Vt computed together."""
    da = import_module("dask.array")
    with _dask_matrix(job) as (matrix, store, chunks):
        U, s, Vt = da.linalg.svd(matrix)
        _, sigma, Vt = import_module("dask").compute(U[:, : job.k], s[: job.k], Vt[: job.k])
    return Outcome(sigma, Vt, store.chunk_reads / chunks, {"chunk_reads": store.chunk_reads})


@contextmanager
def _dask_matrix(job: Job) -> Iterator[tuple[Any, CountingStore, int]]:
    """The stored matrix as a Dask array on the threaded scheduler, its store, its number of chunks."""
    store = CountingStore(LocalStore(job.store, read_only=True))
    array = zarr.open_array(store, mode="r")
    with import_module("dask").config.set(scheduler="threads", num_workers=THREADS):
        yield import_module("dask.array").from_zarr(array), store, array.nchunks


def sklearn_randomized(job: Job, *, n_iter: int | str) -> Outcome:
    """`sklearn.utils.extmath.randomized_svd` on the matrix loaded into memory."""
    extmath = import_module("sklearn.utils.extmath")
    matrix = np.asarray(open_store(job.store)[:])
    _, sigma, Vt = extmath.randomized_svd(
        matrix, job.k, n_oversamples=OVERSAMPLING, n_iter=n_iter, random_state=SEED
    )
    iterations = n_iter if isinstance(n_iter, int) else _auto_iterations(job.k, matrix.shape)
    return Outcome(sigma, Vt, 1.0, {"sweeps_in_memory": 2 * iterations + 2})


def _auto_iterations(k: int, shape: tuple[int, ...]) -> int:
    """What `n_iter="auto"` means in scikit-learn."""
    return 7 if k < 0.1 * min(shape) else 4


def sklearn_incremental(job: Job) -> Outcome:
    """`sklearn.decomposition.IncrementalPCA`, one `partial_fit` for each chunk's rows."""
    estimator = import_module("sklearn.decomposition").IncrementalPCA(n_components=job.k, copy=False)
    for block in row_blocks(open_store(job.store)):
        estimator.partial_fit(block)
    return Outcome(estimator.singular_values_, estimator.components_, 1.0)


_LEAST_MEMORY = 200_000_000
_OURS: dict[str, Any] = {
    "family": "bigsvd",
    "modules": ("bigsvd.solve",),
    "threads": "2 lanes × 1 BLAS",
    "blas_threads": 1,
}
_DASK: dict[str, Any] = {
    "family": "Dask",
    "modules": ("dask.array",),
    "threads": "2 threads × 1 BLAS",
    "blas_threads": 1,
}
_SKLEARN: dict[str, Any] = {
    "family": "scikit-learn",
    "modules": ("sklearn.utils.extmath", "sklearn.decomposition"),
    "threads": "1 thread × 2 BLAS",
    "blas_threads": THREADS,
}

BARE_READ = Peer(
    "bare-read",
    "one bare read",
    "Zarr",
    partial(bare_read, threads=THREADS),
    ("zarr",),
    "2 threads",
    1,
    note="the unit of the ÷ read column",
)
BARE_LOOP = Peer(
    "bare-loop",
    "one bare read, panel by panel",
    "Zarr",
    partial(bare_read, threads=1),
    ("zarr",),
    "1 thread",
    1,
)
_VARIANTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("krylov", "krylov", {"share": 0.25}),
    ("krylov-5e-2", "krylov, tol 5e-2", {"share": 0.25, "tol": 5e-2}),
    ("krylov-one", "krylov, one pass", {"share": 0.25, "max_passes": 1}),
    ("krylov-stage", "krylov, staged", {"share": 0.25, "stage": True}),
    ("krylov-fits", "krylov, data fit", {"share": 1.5}),
)
PEERS = (
    *(
        Peer(
            f"bigsvd-{name}", f"bigsvd {label}", run=partial(bigsvd_svd, method="krylov", **options), **_OURS
        )
        for name, label, options in _VARIANTS
    ),
    Peer("bigsvd-gram", "bigsvd gram", run=partial(bigsvd_svd, method="gram", share=0.5), **_OURS),
    *(
        Peer(
            f"dask-{iterator.lower()}-q{q}",
            f"Dask svd_compressed {iterator} q={q}",
            run=partial(dask_compressed, iterator=iterator, power_iterations=q),
            **_DASK,
        )
        for iterator in ("power", "QR")
        for q in (0, 2, 4)
    ),
    Peer("dask-svd", "Dask linalg.svd", run=dask_svd, memory_factor=4.0, **_DASK),
    Peer(
        "sklearn-randomized-q4",
        "scikit-learn randomized_svd n_iter=4",
        run=partial(sklearn_randomized, n_iter=4),
        memory_factor=1.5,
        note="holds the matrix in memory; loading counts",
        **_SKLEARN,
    ),
    Peer(
        "sklearn-randomized",
        "scikit-learn randomized_svd (default)",
        run=partial(sklearn_randomized, n_iter="auto"),
        memory_factor=1.5,
        note="holds the matrix in memory; loading counts",
        **_SKLEARN,
    ),
    Peer(
        "sklearn-ipca",
        "scikit-learn IncrementalPCA",
        run=sklearn_incremental,
        centred=True,
        note="centres the columns: compared with the reference of the centred matrix",
        **_SKLEARN,
    ),
)
BY_NAME = {peer.name: peer for peer in (BARE_READ, BARE_LOOP, *PEERS)}
