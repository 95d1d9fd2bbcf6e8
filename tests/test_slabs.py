"""Slabs stand for the matrix as decomposed, whatever was stored and however it is standardised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigsvd.devices.base import Device
from bigsvd.devices.cpu import CpuDevice
from bigsvd.orientation import Rows
from bigsvd.scratch import Scratch
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.moments import ColumnMoments, WeightedSums
from bigsvd.slabs.standardize import Standardization, written_out
from bigsvd.slabs.statistics import LINE_SUMS, StatisticsKernel
from bigsvd.slabs.transform import Given, MeansAndDivisors, Transform
from tests.devices import StrictDevice
from tests.laws import MadeSlab, SlabLaws

M, N = 30, 14
ROWS = slice(10, 18)
GAP = 4.0
STORED = np.random.default_rng(0).integers(0, 5, (M, N)).astype(np.float32)


def standardised(transform: Transform) -> np.ndarray:
    """The whole matrix as decomposed, by NumPy."""
    A = STORED.astype(np.float64)
    across = 1 - transform.axis
    if transform.missing == "mean":
        A[STORED == GAP] = np.nan
        A = np.where(np.isnan(A), np.nanmean(A, axis=across, keepdims=True), A)
    if transform.missing == "zero":
        A[STORED == GAP] = 0
    mean, deviation = A.mean(axis=across, keepdims=True), A.std(axis=across, keepdims=True)
    return np.asarray((A - mean * transform.center) / np.where(transform.scale == "std", deviation, 1.0))


def exact_lines(transform: Transform) -> MeansAndDivisors:
    """Means of observed entries, and deviations, of the columns of A that B has as columns or as rows."""
    A, across = STORED.astype(np.float64), 1 - transform.axis
    if transform.missing == "zero":
        A[STORED == GAP] = 0
    if transform.missing == "mean":
        A[STORED == GAP] = np.nan
    mean = np.nanmean(A, axis=across)
    filled = np.where(np.isnan(A), np.expand_dims(mean, across), A)
    return MeansAndDivisors(mean, np.zeros_like(mean), filled.std(axis=across))


def entries(device: Device, transform: Transform, cols: slice) -> Entries:
    raw = device.to_device(np.ascontiguousarray(STORED[ROWS, cols]))
    return Entries(device, transform, raw, STORED.dtype, ROWS, cols)


def standardization(device: Device, transform: Transform, *, known: bool) -> Standardization:
    """By lines of B's columns, or by those of its rows, which are known or learned."""
    lines, row_lines = MeansAndDivisors.neutral(N), None
    if transform.by_columns:
        lines = exact_lines(transform)
    elif known:
        row_lines = Rows(exact_lines(transform).stacked(), 1)
    return written_out(transform, "float64", device.space(), N, lines, row_lines)


KINDS = [{}, {"center": True}, {"center": True, "scale": "std"}, {"scale": "std"}]


@pytest.fixture(params=[CpuDevice(), StrictDevice()], ids=["cpu", "strict"])
def device(request: pytest.FixtureRequest) -> Device:
    device: Device = request.param
    return device


class TestDense(SlabLaws):
    """Written out, of whole rows and of a tile of them."""

    @pytest.fixture(params=KINDS, ids=lambda kind: "+".join(kind) or "plain")
    def kind(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        kind: dict[str, Any] = request.param
        return kind

    @pytest.fixture(params=["none", "zero", "mean"])
    def missing(self, request: pytest.FixtureRequest) -> str:
        missing: str = request.param
        return missing

    @pytest.fixture(
        params=[
            (axis, tiled, known)
            for axis, known in ((1, True), (0, False), (0, True))
            for tiled in (False, True)
        ],
        ids=str,
    )
    def made(
        self, request: pytest.FixtureRequest, kind: dict[str, Any], missing: str, device: Device
    ) -> MadeSlab:
        axis, tiled, known = request.param
        transform = Transform(missing=missing, sentinels=(GAP,), axis=axis, **kind)
        tiles = [slice(0, 9), slice(9, N)] if tiled else [slice(0, N)]
        standard = standardization(device, transform, known=known)
        standard.begin_panel(ROWS)
        for tile in tiles:
            entries(device, transform, tile).show(standard.lookers)
        slab = standard.slab(entries(device, transform, tiles[-1]))
        return MadeSlab(slab, standardised(transform)[ROWS, tiles[-1]])


class TestGiven(SlabLaws):
    """With an offset and a factor for each line, and weights across the lines, beside what is their own."""

    @pytest.fixture(
        params=[
            (axis, tiled, missing, scale)
            for axis in (0, 1)
            for tiled in (False, True)
            for missing, scale in (("none", ""), ("mean", "std"), ("zero", "std"))
        ],
        ids=str,
    )
    def made(self, request: pytest.FixtureRequest, device: Device) -> MadeSlab:
        axis, tiled, missing, scale = request.param
        lengths, across = (M, N), 1 - axis
        offset, factor = np.linspace(0, 3, lengths[axis]), np.linspace(0, 2, lengths[axis])
        given = Given(offset, factor, np.linspace(0, 1, lengths[across]))
        kind: dict[str, Any] = {"missing": missing, "sentinels": (GAP,), "axis": axis, "scale": scale}
        transform = Transform(given=("offset", "factor", "across"), **kind)
        own = Transform(**kind)
        lines, row_lines = exact_lines(own), None
        if axis == 0:
            lines = MeansAndDivisors.neutral(N)
        standard = written_out(transform, "float64", device.space(), N, lines, row_lines, given)
        tiles = [slice(0, 9), slice(9, N)] if tiled else [slice(0, N)]
        standard.begin_panel(ROWS)
        for tile in tiles:
            entries(device, transform, tile).show(standard.lookers)
        slab = standard.slab(entries(device, transform, tiles[-1]))
        off, factor, more = (
            np.expand_dims(line, side)
            for line, side in ((given.offset, across), (given.factor, across), (given.across, axis))
        )
        divisor = np.expand_dims(exact_lines(own).divisor, across) if scale else 1.0
        filled = standardised(Transform(missing=missing, sentinels=(GAP,), axis=axis))
        return MadeSlab(slab, ((filled - off) / divisor * factor * more)[ROWS, tiles[-1]])


@pytest.mark.parametrize("device", [CpuDevice(), StrictDevice()], ids=["cpu", "strict"])
def test_weighted_sums_are_those_around_any_mean(device: Device) -> None:
    weights, mean = np.linspace(0.5, 2, M), np.linspace(-1, 1, N)
    gaps = STORED == GAP
    sums = WeightedSums.nothing(np.full(N, 0.25))
    for rows in (slice(0, 11), slice(11, M)):
        values, mask = (device.to_device(np.ascontiguousarray(part[rows])) for part in (STORED, gaps))
        sums.add(device, values, device.gaps(mask), weights[rows], slice(0, N))
    rest = np.where(gaps, 0, STORED - mean)
    np.testing.assert_allclose(sums.sums_around(mean - 0.25), weights @ rest)
    np.testing.assert_allclose(sums.squares_around(mean - 0.25), weights @ rest**2)


def test_columns_are_summed_before_a_slab_is_made(tmp_path: Path) -> None:
    """Their sums take memory, which the plan does not count beside that of a slab."""
    transform = Transform(center=True, scale="std")
    operator = StatisticsKernel(transform, (M, N), STORED.dtype).start(
        Scratch(tmp_path / "s"), CpuDevice(), "float64"
    )
    entries(CpuDevice(), transform, slice(0, N)).show([operator])
    sums = ColumnMoments.from_stacked(np.zeros(N), ROWS.stop - ROWS.start, operator.sums()[LINE_SUMS])
    np.testing.assert_allclose(sums.lines(Transform()).mean, STORED[ROWS].mean(axis=0, dtype=np.float64))
