"""Kernels are written once against an array namespace: NumPy, strict arrays and CuPy give the same sums.

`array_api_strict` refuses silent conversion to NumPy as CuPy does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bigsvd.devices.base import Device
from bigsvd.devices.choose import choose_device
from bigsvd.devices.cpu import CpuDevice
from bigsvd.errors import DeviceError
from bigsvd.results.factor_array import FactorArray
from bigsvd.scratch import Scratch
from bigsvd.slabs.census import Census, census_of
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.kernels import GramKernel, ProductKernel, TwoSidedKernel
from bigsvd.slabs.moments import ColumnMoments
from bigsvd.slabs.operator import Kernel
from bigsvd.slabs.standardize import AsStored
from bigsvd.slabs.standardizer import Standardizer
from bigsvd.slabs.transform import MeansAndDivisors, Transform
from tests.devices import StrictDevice

M, N, K = 37, 11, 4


def _has_gpu() -> bool:
    try:
        choose_device("gpu")
    except DeviceError:
        return False
    return True


@pytest.fixture(
    params=[
        "strict",
        pytest.param(
            "gpu", marks=[pytest.mark.gpu, pytest.mark.skipif(not _has_gpu(), reason="no CUDA GPU")]
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> Device:
    return StrictDevice() if request.param == "strict" else choose_device("gpu")[0]


def entries_of(device: Device, raw: np.ndarray, transform: Transform, top: int = 0, left: int = 0) -> Entries:
    """Entries of B on a device, from what is stored at this place."""
    rows, cols = slice(top, top + raw.shape[0]), slice(left, left + raw.shape[1])
    there = device.to_device(np.ascontiguousarray(raw))
    return Entries(device, transform, there, raw.dtype, rows, cols)


def counted(entries: Entries) -> Census:
    """The census of all pieces."""
    found = Census()
    for piece in entries.pieces():
        found.add(census_of(entries, piece))
    return found


def run_kernel(
    kernel: Kernel, scratch: Scratch, device: Device, A: np.ndarray, dtype: str
) -> dict[str, np.ndarray]:
    operator = kernel.start(scratch, device, dtype)
    standardization, parts = AsStored(dtype, device.space()), []
    for start in range(0, A.shape[0], 10):
        slab = standardization.slab(entries_of(device, A[start : start + 10], Transform(), start))
        y = operator.forward(slab)
        operator.backward(slab, y)
        if y is not None:
            parts.append(y)
    if parts:
        operator.finish_panel(parts, slice(0, A.shape[0]))
    return operator.sums()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_agree_with_numpy_and_with_algebra(device: Device, dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    A, P, U, s = (
        rng.standard_normal((M, N)),
        rng.standard_normal((N, K)),
        rng.standard_normal((M, K)),
        np.ones(K),
    )
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for where in (CpuDevice(), device):
        scratch = Scratch(tmp_path / where.name.replace(" ", "-"))
        scratch.write("p", P)
        scratch.write("u", U)
        scratch.write("s", s)
        scratch.create("y", (M, K), (M, K), dtype)
        product = run_kernel(ProductKernel("p", "y", K), scratch, where, A, dtype)
        assert np.allclose(product["z"], A.T @ A @ P, rtol=tolerance, atol=100 * tolerance)
        assert np.allclose(scratch.read("y"), A @ P, rtol=tolerance, atol=10 * tolerance)
        gram = run_kernel(GramKernel(N), scratch, where, A, dtype)
        assert np.allclose(gram["gram"], A.T @ A, atol=100 * tolerance)
        both = run_kernel(TwoSidedKernel("p", FactorArray("u"), "s"), scratch, where, A, dtype)
        assert np.allclose(both["back"], A.T @ U, atol=100 * tolerance)
        assert np.allclose(both["core"], U.T @ A @ P, atol=100 * tolerance)
        assert np.allclose(both["left"], np.sum((A @ P - U * s) ** 2, axis=0), rtol=1e3 * tolerance)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("missing", ["none", "mean", "zero"])
@pytest.mark.parametrize("dtype", ["int8", "float32", "float64"])
def test_transform_agrees_with_numpy(device: Device, dtype: str, missing: str, axis: int) -> None:
    rng = np.random.default_rng(1)
    raw = rng.integers(0, 5, (M, N)).astype(dtype)
    missing_value = 4.0
    transform = Transform(3, missing, (missing_value,), center=True, scale="std", axis=axis)
    results = []
    for where in (CpuDevice(), device):
        values, found = transform.widen(where, where.to_device(raw), raw.dtype)
        sums = ColumnMoments(np.zeros((M, N)[axis]), (M, N)[1 - axis], axis)
        gaps = found if transform.fills_with_mean else None
        sums.add(where, values, gaps, at=slice(None))
        standardizer = Standardizer.of(where, transform, sums.lines(Transform()), raw.dtype, "float64")
        results.append(where.to_host(standardizer.apply(values, gaps)))
    wanted = raw.astype(np.float64) * 8
    gone = raw == missing_value
    across = 1 - axis
    if missing == "zero":
        wanted[gone] = 0
    if missing == "mean":
        wanted = np.where(gone, np.nan, wanted)
        wanted = np.where(gone, np.nanmean(wanted, axis=across, keepdims=True), wanted)
    wanted = wanted - wanted.mean(axis=across, keepdims=True)
    wanted = wanted / wanted.std(axis=across, keepdims=True)
    assert np.allclose(results[0], wanted, atol=1e-12)
    assert np.allclose(results[1], results[0], atol=1e-12)


def test_a_census_finds_what_is_not_finite(device: Device) -> None:
    raw = np.ones((M, N), dtype=np.float32)
    raw[5, 3], raw[5, 2], raw[20, 1] = np.nan, np.inf, -np.inf
    for axis, first in ((1, (105, 12)), (0, (11, 120))):
        found = counted(entries_of(device, raw, Transform(axis=axis), 100, 10))
        assert found.nonfinite == (1, 1, 1)
        assert found.first == first
    clean = np.full((M, N), -7.5, dtype=np.float32)
    assert counted(entries_of(device, clean, Transform())).peak == 7.5


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_a_census_counts_integers_that_float64_cannot_hold(device: Device, dtype: str) -> None:
    raw = np.array([[2**53 + 2, 3], [2**53, 2**60]]).astype(dtype)
    if dtype == "int64":
        raw[0, 1] = -(2**60)
    found = counted(entries_of(device, raw, Transform()))
    assert found.inexact == (3 if dtype == "int64" else 2)


def test_constant_lines_are_divided_by_one() -> None:
    sums = ColumnMoments(np.array([0.1, 0.0]), 3)
    column = np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 3.0]])
    sums.add(CpuDevice(), column, None, at=slice(None))
    lines: MeansAndDivisors = sums.lines(Transform())
    assert lines.divisor[0] == 1
    assert lines.divisor[1] == pytest.approx(np.std([1, 2, 3]))


def test_a_gpu_that_is_not_there_is_refused_with_the_reason() -> None:
    if _has_gpu():
        assert choose_device("auto")[0].name != "cpu"
        return
    with pytest.raises(DeviceError, match=r"CuPy is not installed|no usable CUDA device"):
        choose_device("gpu")
    assert choose_device("auto")[0].name == "cpu"
