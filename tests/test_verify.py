"""`verify` accepts what was published and catches every kind of damage, sealed or not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from bigsvd.execution.panel_cache import _CACHES
from bigsvd.results import store
from bigsvd.results.store import digest
from bigsvd.results.verification import Verification
from bigsvd.sources.open import open_source
from bigsvd.verify import verify
from tests.spectra import with_values


@pytest.fixture(scope="module", params=[(300, 60), (60, 300)], ids=["tall", "wide"])
def published(
    request: pytest.FixtureRequest, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Data and factors on disk."""
    folder = tmp_path_factory.mktemp("verify")
    m, n = request.param
    A = 5 + with_values(np.random.default_rng(0), 30 * 0.8 ** np.arange(60), m, n)
    array = zarr.create_array(str(folder / "a.zarr"), shape=(m, n), chunks=(50, 50), dtype="float64")
    array[:] = A
    stage = folder / "stage"
    bigsvd.svd(folder / "a.zarr", 5, folder / "f", client=client, center=True, method="krylov", stage=stage)
    stage.rmdir()
    return folder / "a.zarr", folder / "f"


def check(data: Path | None, factors: Path, client: Client) -> Verification:
    source = None if data is None else open_source(str(data))
    return verify(bigsvd.open(factors), source, lambda _: None, client)


def reseal(path: Path) -> None:
    """What a careful forger would do: make the manifest's digests agree with the altered arrays."""
    group = zarr.open_group(str(path), mode="r+")
    attributes: dict[str, Any] = dict(group.attrs.asdict())
    body: dict[str, Any] = attributes["bigsvd"]
    for name, entry in body["manifest"].items():
        entry["crc32c"] = digest(group[name])
    body[store._CHECKSUM] = store._checksum(body)
    group.attrs.put({"bigsvd": body})


def flip(group: zarr.Group) -> None:
    U = np.asarray(group["U"][:])  # type: ignore[index]
    U[:, 2] *= -1
    group["U"][:] = U  # type: ignore[index]


def swap(group: zarr.Group) -> None:
    s = np.asarray(group["s"][:])  # type: ignore[index]
    group["s"][:] = s[[0, 2, 1, 3, 4]]  # type: ignore[index]


def zero_chunk(group: zarr.Group) -> None:
    U = group["U"]
    U[: U.chunks[0] // 2 + 1] = 0  # type: ignore[index,union-attr]


def off_by_a_thousandth(group: zarr.Group) -> None:
    s = np.asarray(group["s"][:])  # type: ignore[index]
    s[3] *= 1.001
    group["s"][:] = s  # type: ignore[index]


DAMAGE: dict[str, Callable[[zarr.Group], None]] = {
    "sign of one column of U flipped": flip,
    "two singular values swapped": swap,
    "one chunk zeroed": zero_chunk,
    "one singular value off by 1e-3": off_by_a_thousandth,
}


def test_what_was_published_holds(published: tuple[Path, Path], client: Client) -> None:
    data, factors = published
    assert check(None, factors, client).findings == ()
    outcome = check(data, factors, client)
    assert outcome.findings == ()
    assert not _CACHES
    assert not data.with_name("stage").exists()  # one pass has no use for it
    certificate = bigsvd.open(factors).certificate
    assert outcome.relative_error == pytest.approx(certificate.relative_error, rel=1e-6)
    assert outcome.max_residual is not None
    assert 0 < outcome.max_residual <= certificate.max_residual


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_caught_by_the_store_alone_and_by_the_data(
    published: tuple[Path, Path], client: Client, tmp_path: Path, kind: str
) -> None:
    data, factors = published
    copy = tmp_path / "copy"
    shutil.copytree(factors, copy)
    DAMAGE[kind](zarr.open_group(str(copy), mode="r+"))
    assert check(None, copy, client).findings
    reseal(copy)
    assert check(data, copy, client).findings


def test_other_data_is_caught(published: tuple[Path, Path], client: Client, tmp_path: Path) -> None:
    data, factors = published
    other = tmp_path / "other.zarr"
    shutil.copytree(data, other)
    array = zarr.open_array(str(other), mode="r+")
    array[:, 0] = np.asarray(array[:, 0]) + 3
    assert check(other, factors, client).findings


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(300, 60), (60, 300)], ids=["tall", "wide"])
@pytest.mark.parametrize("method", ["krylov", "gram"])
def test_the_leading_triplets_are_judged_as_such(
    tmp_path: Path, dtype: str, shape: tuple[int, int], method: str
) -> None:
    A = 5 + with_values(np.random.default_rng(0), 30 * 0.8 ** np.arange(60), *shape)
    A, source = A.astype(dtype), open_source(A.astype(dtype))
    whole = bigsvd.svd(A, 6, tmp_path / "f", center=True, method=method)
    B = A.astype(float) - A.astype(float).mean(axis=0)
    values = np.linalg.svd(B, compute_uv=False)
    for k in (1, 4, 6):
        few = whole.truncate(6).truncate(k)
        assert verify(few, None, lambda _: None).findings == ()
        outcome = verify(few, source, lambda _: None)
        assert outcome.findings == ()
        exact = np.linalg.norm(values[k:]) / np.linalg.norm(values)
        assert outcome.relative_error == pytest.approx(exact, rel=1e-4)
        assert outcome.max_residual is not None
        assert outcome.max_residual <= 1.05 * few.certificate.max_residual + 1e-4
    wrong = whole.truncate(4)
    wrong.s = wrong.s * np.array([1, 1, 1.001, 1])
    assert any("triplet 2" in said for said in verify(wrong, source, lambda _: None).findings)
    off_by_a_thousandth(zarr.open_group(str(tmp_path / "f"), mode="r+"))
    [said] = verify(bigsvd.open(tmp_path / "f").truncate(2), None, lambda _: None).findings
    assert said.startswith("s is not what was published")


@pytest.mark.parametrize("seed", [3, 17, 31])
def test_divisors_that_are_summed_otherwise_are_no_finding(seed: int) -> None:
    """Two ways to sum a feature differ by more roundings than the products of float64 have."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(40, 600)), int(rng.integers(10, 200)))
    level = 10 ** rng.uniform(0, 4)
    A = level * rng.uniform(0.5, 1.5, shape[1])
    A = A + rng.standard_normal(shape) * 10 ** rng.uniform(-1, 1, shape[1])
    method = ("krylov", "gram")[seed // 2 % 2]
    factors = bigsvd.svd(A, 5, tol=1e-4, max_passes=60, center=True, scale=True, method=method)
    assert verify(factors, open_source(A), lambda _: None).findings == ()


def test_divisors_that_are_wrong_are_one(tmp_path: Path) -> None:
    A = np.random.default_rng(0).standard_normal((200, 30))
    bigsvd.svd(A, 3, tmp_path / "u", center=True, scale=True, tol=1e-6)
    stored = zarr.open_array(str(tmp_path / "u" / "scale"), mode="r+")
    stored[7] = np.asarray(stored[7]) * (1 + 1e-5)
    reseal(tmp_path / "u")
    findings = verify(bigsvd.open(tmp_path / "u"), open_source(A), lambda _: None).findings
    assert any("the stored scales differ" in finding for finding in findings)
