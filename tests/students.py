"""Students made by hand of small matrices with a known law, and new data of the same law with gaps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bigsvd.distill.basis import Basis
from bigsvd.distill.columns import Columns
from bigsvd.distill.student import Student, publish_student
from bigsvd.functions import AS_THEY_ARE
from bigsvd.results.folders import STUDENT
from bigsvd.results.output import Output
from bigsvd.results.standard import Standard
from bigsvd.scratch import Scratch

N, R, M, NEW = 40, 6, 3000, 700


@dataclass(frozen=True, eq=False)
class Law:
    """Rows μ + z·diag(scale)·Vᵀ + noise, with deviations of the noise per column (n,)."""

    V: np.ndarray
    scale: np.ndarray
    noise: np.ndarray
    mean: np.ndarray

    @classmethod
    def of(cls, seed: int = 0) -> Law:
        random = np.random.default_rng(seed)
        V = np.linalg.qr(random.standard_normal((N, R)))[0]
        return cls(V, 5.0 / np.arange(1, R + 1), random.uniform(0.1, 0.5, N), random.standard_normal(N))

    def rows(self, count: int, seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        z = random.standard_normal((count, R)) * self.scale
        noise = random.standard_normal((count, N)) * self.noise
        return np.asarray(self.mean + z @ self.V.T + noise)


def gaps(shape: tuple[int, int], share_seen: float, seed: int = 5) -> np.ndarray:
    """Which entries are missing."""
    return np.random.default_rng(seed).random(shape) >= share_seen


def write_student(out: Path, student: Student) -> Student:
    """Publish a student at `out`."""
    with Output(out, overwrite=False, kind=STUDENT) as output:
        return publish_student(output, Scratch(output.scratch, output.begin()), student)


def by_hand(A: np.ndarray, path: Path, *, r: int = R, dtype: str = "float32") -> Student:
    """A student of centred rows, of which all was computed by LAPACK."""
    mean = A.mean(axis=0)
    _, s, Vt = np.linalg.svd(A - mean, full_matrices=False)
    s, V = s[:r], Vt[:r].T
    noise = Basis.floored((((A - mean) ** 2).sum(0) - (s**2 * V**2).sum(1)) / len(A), s, len(A))
    standard = Standard(A.shape[1], AS_THEY_ARE, mean=mean, data_features=A.shape[1])
    student = Student(
        Basis(V, s, noise, len(A)), standard, Columns((A.shape[1],)), dtype=dtype,
        provenance={"teacher": "teacher.zarr"},
    )  # fmt: skip
    return write_student(path, student)
