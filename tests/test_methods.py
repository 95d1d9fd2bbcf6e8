"""Every method gives the same decomposition: one row a method, over preprocessing, shapes and dtypes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from tests.clusters import if_on_dask
from tests.spectra import with_values

K = 6
METHODS: dict[str, dict[str, Any]] = {
    "krylov": {"method": "krylov", "tol": 1e-9},
    "gram": {"method": "gram", "tol": 1e-9},
    "tall_skinny": {"method": "tall_skinny", "tol": 1e-9},
    "compressed": {"method": "compressed", "power_iterations": 6, "iterator": "QR", "tol": 1e-6},
    "compressed_lazy": {
        "method": "compressed",
        "power_iterations": 6,
        "oversampling": 20,
        "compute": False,
        "tol": 1e-6,
    },
}


def asked(name: str, client: Client) -> dict[str, Any]:
    """A row's options, with the cluster where it needs one."""
    return METHODS[name] | if_on_dask(client, METHODS[name]["method"])


def decaying(m: int, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 3 + with_values(rng, 100 * 0.7 ** np.arange(min(m, n)), m, n)


def prepared(A: np.ndarray, *, center: bool, scale: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    B = A.astype(np.longdouble)
    mean = B.mean(axis=0) if center else np.zeros(A.shape[1])
    deviation = B.std(axis=0) if scale else np.ones(A.shape[1])
    divisor = np.where(deviation > 0, deviation, 1)
    return ((B - mean) / divisor).astype(np.float64), mean.astype(np.float64), divisor.astype(np.float64)


@pytest.mark.parametrize(("center", "scale"), [(False, False), (True, False), (True, True), (False, True)])
@pytest.mark.parametrize("shape", [(150, 40), (40, 150)])
@pytest.mark.parametrize("method", METHODS)
def test_method_agrees_with_lapack(
    client: Client, method: str, shape: tuple[int, int], *, center: bool, scale: bool
) -> None:
    A = decaying(*shape)
    factors = bigsvd.svd(A, K, center=center, scale=scale, **asked(method, client))
    B, mean, divisor = prepared(A, center=center, scale=scale)
    U, s, Vt = np.linalg.svd(B, full_matrices=False)
    tolerance = 1e-12 if method == "tall_skinny" else 1e-10
    assert np.max(np.abs(factors.s - s[:K])) <= tolerance * s[0]
    best = ((U[:, :K] * s[:K]) @ Vt[:K]) * divisor + mean
    assert np.max(np.abs(factors[:, :] - best)) <= 1e-5 * np.max(np.abs(best))
    assert factors.certificate.converged
    assert factors.certificate.relative_error == pytest.approx(
        np.linalg.norm(s[K:]) / np.linalg.norm(s), rel=1e-6, abs=factors.certificate.relative_error_floor
    )
    if center:
        assert np.allclose(factors.mean, mean, rtol=1e-12)
    if scale:
        assert np.allclose(factors.scale, divisor, rtol=1e-12)


@pytest.mark.parametrize("missing", ["mean", "zero"])
@pytest.mark.parametrize("shape", [(150, 40), (40, 150)])
@pytest.mark.parametrize("method", ["krylov", "gram", "tall_skinny", "compressed"])
def test_missing_entries(client: Client, method: str, shape: tuple[int, int], missing: str) -> None:
    A = decaying(*shape)
    A[np.random.default_rng(1).random(shape) < 0.05] = np.nan
    observed = np.nan_to_num(A) if missing == "zero" else np.where(np.isnan(A), np.nanmean(A, axis=0), A)
    for center in (True, False):
        factors = bigsvd.svd(A, 3, center=center, missing=missing, **asked(method, client))
        s = np.linalg.svd(observed - (observed.mean(axis=0) if center else 0), compute_uv=False)
        assert np.max(np.abs(factors.s - s[:3])) <= 1e-8 * s[0]


def test_auto_says_why_and_counts_passes() -> None:
    narrow = bigsvd.plan(np.zeros((100_000, 30), dtype=np.float32), 5)
    assert narrow.method == "krylov"
    assert "one pass is exact" in narrow.reason
    tall = bigsvd.plan(np.zeros((200_000, 200), dtype=np.float32), 60)
    assert tall.method == "gram"
    assert "krylov about" in tall.reason
    exact = bigsvd.svd(decaying(500, 30), 5)
    assert exact.provenance["costs"]["passes"] == 1


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize(("memory", "shape", "reads"), [("2GB", (900, 800), 1), ("35MB", (900, 800), 2)])
def test_tiles_and_panels_give_the_same_answer(
    tmp_path: Path, memory: str, shape: tuple[int, int], reads: int, *, center: bool
) -> None:
    """A panel of whole rows that does not fit is read in tiles, more than once a pass."""
    A = decaying(*shape)
    store = zarr.create_array(str(tmp_path / "a.zarr"), shape=shape, chunks=(450, 400), dtype="float64")
    store[:] = A
    factors = bigsvd.svd(store, 4, memory=memory, tol=1e-8, center=center, method="krylov")
    s = np.linalg.svd(A - (A.mean(axis=0) if center else 0), compute_uv=False)
    assert np.max(np.abs(factors.s - s[:4])) <= 1e-10 * s[0]
    assert factors.provenance["plan"]["reads_per_pass"] == reads


READS: list[int] = []  # first rows of blocks that were read, in this process, where the cluster is


def read_block(start: int) -> np.ndarray:
    READS.append(start)
    return decaying(160, 40)[start : start + 40]


@pytest.mark.parametrize("method", ["tall_skinny", "compressed"])
def test_dask_reads_the_data_as_often_as_is_said(client: Client, method: str) -> None:
    """Its graph was computed a second time for U, which read all data again."""
    starts = range(0, 160, 40)
    blocks = [da.from_delayed(dask.delayed(read_block)(start), (40, 40), np.float64) for start in starts]
    READS.clear()
    factors = bigsvd.svd(da.concatenate(blocks), K, **asked(method, client))
    said = factors.provenance["costs"]["passes"] * len(starts)
    looked_at = 2  # before the run: what the graph's blocks are, and what memory they take
    assert len(READS) <= said + looked_at
