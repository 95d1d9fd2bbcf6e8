"""Means, divisors and counts are recomputed by another way; a wrong one is caught, and by `verify` too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from bigsvd import certify as solution
from bigsvd.errors import BigsvdError, NonFiniteError, VerifyError
from bigsvd.facts import Packing
from bigsvd.methods.matrix import Matrix
from bigsvd.slabs.census import Census
from bigsvd.slabs.moments import ColumnMoments
from bigsvd.slabs.second_opinion import Opinion, chosen_columns, disagreements
from bigsvd.slabs.transform import MeansAndDivisors, Transform
from bigsvd.sources.open import open_source
from bigsvd.verify import verify
from tests.test_verify import reseal

SENTINEL = -9


def entries(m: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    found = rng.integers(0, 50, (m, n)).astype("i2")
    found[rng.random((m, n)) < 0.1] = SENTINEL
    return found


@pytest.fixture(params=[(160, 24), (24, 160)], ids=["tall", "wide"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "a.zarr"
    stored = entries(*request.param)
    zarr.create_array(str(path), data=stored, chunks=(stored.shape[0] // 4, stored.shape[1] // 4))
    return path


def decompose(data: Path, out: Path, client: Client) -> bigsvd.Factors:
    return bigsvd.svd(
        data, 3, out, client=client, center=True, scale=True, missing="mean", missing_value=SENTINEL
    )


def wrong_mean(patch: pytest.MonkeyPatch) -> None:
    right = ColumnMoments.lines

    def lines(self: ColumnMoments, *how: Any) -> MeansAndDivisors:
        found = right(self, *how)
        return MeansAndDivisors(found.high, found.low + 1e-3, found.divisor)

    patch.setattr(ColumnMoments, "lines", lines)


def wrong_divisor(patch: pytest.MonkeyPatch) -> None:
    right = ColumnMoments.lines

    def lines(self: ColumnMoments, *how: Any) -> MeansAndDivisors:
        found = right(self, *how)
        return MeansAndDivisors(found.high, found.low, found.divisor * (1 + 1e-5))

    patch.setattr(ColumnMoments, "lines", lines)


def wrong_count(patch: pytest.MonkeyPatch) -> None:
    right = Census.add

    def add(self: Census, other: Census) -> None:
        right(self, other)
        self.missing += 1

    patch.setattr(Census, "add", add)


def wrong_mask(patch: pytest.MonkeyPatch) -> None:
    right = Transform.mask

    def mask(self: Transform, xp: Any, raw: Any, stored: np.dtype[Any]) -> Any:
        return right(self, xp, raw, stored) | (raw == 7)

    patch.setattr(Transform, "mask", mask)


@pytest.mark.parametrize("wrong", [wrong_mean, wrong_divisor, wrong_count, wrong_mask])
def test_a_wrong_statistic_is_caught_before_publishing(
    client: Client, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., None]
) -> None:
    wrong(monkeypatch)
    with pytest.raises(VerifyError, match="statistics of the data do not hold"):
        decompose(data, tmp_path / "f", client)
    assert not (tmp_path / "f").exists()


def test_a_statistic_spoilt_while_it_is_written_is_caught(
    client: Client, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Matrix.feature_lines

    def spoilt(self: Matrix) -> np.ndarray | None:
        lines = right(self)
        return None if lines is None else lines * (1 + 1e-6)

    monkeypatch.setattr(Matrix, "feature_lines", spoilt)
    with pytest.raises(BigsvdError, match=r"failed their own check .*the mean of column"):
        decompose(data, tmp_path / "f", client)
    assert not (tmp_path / "f").exists()


def test_a_wrong_count_in_the_certificate_is_caught(
    client: Client, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = solution.counts_of
    monkeypatch.setattr(
        solution, "counts_of", lambda known: replace(right(known), missing=right(known).missing + 1)
    )
    with pytest.raises(BigsvdError, match=r"failed their own check .*counted as missing"):
        decompose(data, tmp_path / "f", client)


@pytest.mark.parametrize("name", ["mean", "scale"])
def test_verify_catches_a_stored_line_that_was_altered_and_sealed(
    client: Client, data: Path, tmp_path: Path, name: str
) -> None:
    decompose(data, tmp_path / "f", client)
    group = zarr.open_group(str(tmp_path / "f"), mode="r+")
    altered = np.asarray(group[name][:]) * (1 + 1e-5)  # type: ignore[index]
    group[name][:] = altered  # type: ignore[index]
    reseal(tmp_path / "f")
    outcome = verify(bigsvd.open(tmp_path / "f"), open_source(data), lambda _: None, client)
    word = "mean" if name == "mean" else "divisor"
    assert any(f"the {word} of column" in finding for finding in outcome.findings)


def test_verify_catches_wrong_counts(client: Client, data: Path, tmp_path: Path) -> None:
    factors = decompose(data, tmp_path / "f", client)
    assert verify(factors, open_source(data), lambda _: None, client).findings == ()
    group = zarr.open_group(str(tmp_path / "f"), mode="r+")
    attributes = dict(group.attrs.asdict())
    attributes["bigsvd"]["certificate"]["counts"]["missing"] += 1  # type: ignore[index, operator, call-overload]
    group.attrs.put(attributes)
    reseal(tmp_path / "f")
    outcome = verify(bigsvd.open(tmp_path / "f"), open_source(data), lambda _: None, client)
    assert any("missing, the data has" in finding for finding in outcome.findings)


@pytest.mark.parametrize("shape", [(160, 24), (24, 160)], ids=["tall", "wide"])
@pytest.mark.parametrize("scale", [True, False])
def test_verify_accepts_gaps_that_were_filled_and_not_centred(
    client: Client, tmp_path: Path, shape: tuple[int, int], *, scale: bool
) -> None:
    """The means that filled them are not stored: they were taken as 0 in its one pass."""
    zarr.create_array(str(tmp_path / "a.zarr"), data=entries(*shape), chunks=(24, 24))
    factors = bigsvd.svd(
        tmp_path / "a.zarr", 3, tmp_path / "f", client=client, scale=scale, missing="mean",
        missing_value=SENTINEL,
    )  # fmt: skip
    assert verify(factors, open_source(tmp_path / "a.zarr"), lambda _: None, client).findings == ()


@pytest.mark.parametrize("missing", ["none", "mean", "zero"])
def test_an_opinion_in_pieces_is_that_of_the_whole(missing: str) -> None:
    raw = entries(90, 3)
    transform = Transform(2, missing, (SENTINEL,), packing=Packing(0.5, 100.0))
    claimed = np.zeros(3, np.int64)
    pieces = [Opinion.of((4, 5, 6), raw[part], claimed, transform) for part in (slice(0, 7), slice(7, 90))]
    merged = Opinion.from_dict(Opinion.nothing((4, 5, 6)).merged(pieces[0]).merged(pieces[1]).to_dict())
    numbers, gone = 4 * (raw * 0.5 + 100.0), raw == SENTINEL
    if missing == "zero":
        numbers[gone] = 0
    kept = [
        column[~out] if missing == "mean" else column for column, out in zip(numbers.T, gone.T, strict=True)
    ]
    assert np.allclose(merged.mean.astype(float), [np.mean(column) for column in kept], rtol=1e-14)
    spread = [np.sqrt(np.sum((column - np.mean(column)) ** 2) / 90) for column in kept]
    assert np.allclose(merged.deviation.astype(float), spread, rtol=1e-13)
    assert merged.missing.tolist() == (gone.sum(axis=0) * (missing != "none")).tolist()


def test_a_nearly_constant_column_may_be_either() -> None:
    opinion = Opinion.of(
        (0,), np.array([[1.0], [1.0 + 60 * np.finfo(float).eps]]), np.zeros(1, int), Transform()
    )
    for divisor in (1.0, float(opinion.deviation[0])):
        assert not disagreements(opinion, None, np.array([divisor]), Transform(scale="std"))
    assert disagreements(opinion, None, np.array([0.5]), Transform(scale="std"))


def test_extreme_columns_are_looked_at() -> None:
    mean, divisor = np.ones(1000), np.ones(1000)
    divisor[123], divisor[456], mean[789] = 1e-9, 1e9, 1e12
    assert {123, 456, 789} <= set(chosen_columns(1000, 0, mean, divisor))
    assert chosen_columns(3, 0, None, None) == [0, 1, 2]


WIDE = np.random.default_rng(0).standard_normal((30, 200))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("scale", [True, False])
def test_data_that_are_to_be_refused_are_no_defect(client: Client, value: float, *, scale: bool) -> None:
    """The look at rows of a slab came before it was known that entries are not finite."""
    broken = WIDE.copy()
    broken[7, 11] = value
    with pytest.raises(NonFiniteError, match="row 7, column 11"):
        bigsvd.svd(broken, 3, client=client, center=True, scale=scale)


@pytest.mark.parametrize("factor", [1e200, 1e-200])
def test_data_that_are_yet_to_be_prescaled_are_no_defect(client: Client, factor: float) -> None:
    wanted = np.linalg.svd(WIDE / WIDE.std(axis=0), compute_uv=False)[:3]
    assert np.allclose(bigsvd.svd(WIDE * factor, 3, client=client, scale=True).s, wanted, rtol=1e-8)


@pytest.mark.parametrize("shape", [(40, 300), (300, 40)], ids=["wide", "tall"])
@pytest.mark.filterwarnings("ignore:.*integers beyond")
def test_integers_that_float64_rounds_are_counted_and_no_defect(
    client: Client, shape: tuple[int, int]
) -> None:
    times = 1_700_000_000_000_000_000 + np.random.default_rng(0).integers(-(10**5), 10**5, shape)
    factors = bigsvd.svd(times, 2, client=client, center=True, scale=True)
    assert factors.certificate.counts is not None
    assert factors.certificate.counts.rounded == times.size
