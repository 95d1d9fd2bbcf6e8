"""A teacher: its components by feature, its coordinates by sample, and the noise that it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bigsvd
from bigsvd.distill.basis import Basis
from bigsvd.distill.teacher import Teacher
from bigsvd.errors import TeacherError

M, N, R = 90, 16, 5


def data(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    noise = random.standard_normal((M, N)) * np.linspace(0.2, 2.0, N)
    return random.standard_normal((M, R)) @ random.standard_normal((R, N)) * 3 + noise + 5.0


def taught(tmp_path: Path, A: np.ndarray, **options: Any) -> Teacher:
    bigsvd.svd(A, R, out=tmp_path / "t.zarr", method="gram", tol=1e-6, **options)
    return Teacher.open(tmp_path / "t.zarr", A, rows_per_panel=32)


@pytest.mark.parametrize("samples", ["rows", "columns"])
def test_noise_is_what_the_components_leave(tmp_path: Path, samples: str) -> None:
    A = data()
    given = A if samples == "rows" else np.ascontiguousarray(A.T)
    teacher = taught(tmp_path, given, center=True, scale=True, samples=samples)
    B = (A - A.mean(axis=0)) / A.std(axis=0)
    U, s, Vt = np.linalg.svd(B, full_matrices=False)
    leverage = (Vt[:R] ** 2).sum(axis=0)
    left = ((B**2).sum(axis=0) - (s[:R, None] ** 2 * Vt[:R] ** 2).sum(axis=0)) / (M - R - 1) / (1 - leverage)
    basis = teacher.basis
    np.testing.assert_allclose(basis.noise, left, rtol=1e-5)
    np.testing.assert_allclose(basis.s, s[:R], rtol=1e-6)
    assert (basis.n, basis.r, basis.samples) == (N, R, M)
    expected = s[:R] ** 2 / M - (left[:, None] * Vt[:R].T ** 2).sum(axis=0)
    np.testing.assert_allclose(basis.prior, expected, rtol=1e-4)
    np.testing.assert_allclose(abs(basis.V), abs(Vt[:R].T), atol=1e-4)
    rows = teacher.coordinates(slice(40, 50))
    np.testing.assert_allclose(rows @ basis.V.T, (U[:, :R] * s[:R] @ Vt[:R])[40:50], atol=1e-4)


def test_noise_of_a_short_teacher_is_that_of_the_model(tmp_path: Path) -> None:
    """Twelve components of forty samples follow a third of the noise: the mean square left was .68 of it."""
    samples, r, features = 40, 12, 400
    random = np.random.default_rng(1)
    noise = random.uniform(0.5, 2.0, features)
    loadings = np.linalg.qr(random.standard_normal((features, r)))[0] * np.linspace(90, 60, r)
    data = random.standard_normal((samples, r)) @ loadings.T
    data += np.sqrt(noise) * random.standard_normal(data.shape)
    bigsvd.svd(data, r, tmp_path / "short", center=True)
    found = Teacher.open(tmp_path / "short", data).basis.noise
    assert np.mean(found / noise) == pytest.approx(1.0, abs=0.05)


def test_gaps_of_the_teacher_do_not_count(tmp_path: Path) -> None:
    A = data()
    A[np.random.default_rng(1).random(A.shape) < 0.2] = np.nan
    A[:, 7] = np.nan
    teacher = taught(tmp_path, A, center=True, missing="mean")
    whole = teacher.coordinates(slice(0, M)) @ teacher.basis.V.T
    squares = (A - np.asarray(teacher.factors.mean) - whole) ** 2
    kept = np.arange(N) != 7
    free = (M - R - 1) / M * (1 - (teacher.basis.V[kept] ** 2).sum(axis=1))
    means = np.nanmean(squares[:, kept], axis=0)
    np.testing.assert_allclose(teacher.basis.noise[kept], means / free, rtol=1e-6)
    assert teacher.basis.noise[7] == pytest.approx(np.mean(teacher.basis.noise[kept]))
    assert not any(rows.seen[:, 7].any() for rows in teacher.panels(20))


def test_noise_has_floors() -> None:
    s = np.array([30.0, 10.0])
    noise = Basis.floored(np.array([0.0, 1.0, 3.0]), s, 100)
    np.testing.assert_allclose(noise, [4 / 300, 1.0, 3.0])
    np.testing.assert_allclose(Basis.floored(np.zeros(3), s, 100), 9e-12)
    np.testing.assert_array_equal(Basis.floored(np.zeros(3), np.zeros(2), 100), 1.0)


def test_a_coordinate_that_varies_less_than_its_noise_stays_possible() -> None:
    basis = Basis(np.eye(4)[:, :2], np.array([20.0, 0.0]), np.full(4, 0.5), 100)
    np.testing.assert_allclose(basis.prior, [3.5, 0.005])


def test_what_cannot_teach_is_refused(tmp_path: Path) -> None:
    A = data()
    bigsvd.svd(A, R, out=tmp_path / "memory.zarr")
    with pytest.raises(TeacherError, match=r"cannot be had: .*in memory; give them by source="):
        Teacher.open(tmp_path / "memory.zarr")
    with pytest.raises(TeacherError, match="shape"):
        Teacher.open(tmp_path / "memory.zarr", A[:50])
    with pytest.raises(TeacherError, match=r"leave \d\.\d+ of the norm of these data, and 0\.\d+ of that"):
        Teacher.open(tmp_path / "memory.zarr", data(seed=1))
    np.save(tmp_path / "a.npy", A)
    bigsvd.svd(str(tmp_path / "a.npy"), R, out=tmp_path / "gone.zarr")
    assert Teacher.open(tmp_path / "gone.zarr").basis.samples == M
    (tmp_path / "a.npy").unlink()
    with pytest.raises(TeacherError, match=r"a\.npy"):
        Teacher.open(tmp_path / "gone.zarr")
    bigsvd.svd(A, R, out=tmp_path / "weighted.zarr", row_weights=np.ones(M))
    with pytest.raises(TeacherError, match="row_weights"):
        Teacher.open(tmp_path / "weighted.zarr", A)
    bigsvd.svd(A[:9, :12], 8, out=tmp_path / "whole.zarr", center=True)
    with pytest.raises(TeacherError, match="8 components of 9 samples, which leave nothing"):
        Teacher.open(tmp_path / "whole.zarr", A[:9, :12])
    assert Teacher.open(tmp_path / "whole.zarr", A[:9, :12], components=7).basis.r == 7
