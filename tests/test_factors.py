"""The factor store: published whole or not at all, read only if undamaged, equal to NumPy in every view."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

import bigsvd
from bigsvd.errors import (
    FactorStoreError,
    RankError,
    RequestError,
)
from bigsvd.results import store as store_module
from bigsvd.results.check import check_store, orthonormality
from bigsvd.results.factors import Factors, Leading, open_factors
from bigsvd.results.store import chunk_lines, digest

M, N, K = 60, 20, 4
A = np.random.default_rng(5).standard_normal((M, N)) @ np.diag(0.7 ** np.arange(N)) + 3
COSTS = ("method", "passes", "bytes_read", "seconds", "peak_memory_bytes")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, client: Client) -> Path:
    """A published store of A, centred and scaled."""
    path = tmp_path_factory.mktemp("original") / "factors"
    bigsvd.svd(A, K, path, client=client, center=True, scale=True)
    return path


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "factors"))


def entries(store: Path, name: str) -> Any:
    """An array of a store, to be damaged; its checksums of chunks stay right."""
    return zarr.open_array(store / name, mode="r+")


# What a store says


def test_a_store_is_the_decomposition_of_its_data(original: Path) -> None:
    factors = open_factors(original)
    scaled = (A - A.mean(axis=0)) / A.std(axis=0)
    assert factors.shape == (M, N)
    assert factors.k == K
    np.testing.assert_allclose(factors.s, np.linalg.svd(scaled, compute_uv=False)[:K], rtol=1e-10)
    np.testing.assert_allclose(factors.mean, A.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(factors.scale, A.std(axis=0), rtol=1e-12)
    assert orthonormality(factors.U, rows=False) < 1e-12
    assert orthonormality(factors.Vt, rows=True) < 1e-12
    assert check_store(factors) == []
    Vt = factors.Vt[:]
    assert np.all(Vt[np.arange(K), np.argmax(np.abs(Vt), axis=1)] > 0)


def test_info_has_the_facts_of_the_contract(original: Path) -> None:
    info = open_factors(original).info()
    json.dumps(info, allow_nan=False)
    assert info["shape"] == [M, N]
    assert info["k"] == len(info["s"]) == K
    assert set(COSTS) <= set(info)
    assert info["bytes_read"] >= A.nbytes
    assert info["passes"] >= 1
    assert info["peak_memory_bytes"] > 0
    assert {"relative_error", "max_residual", "tol", "converged"} <= set(info["certificate"])
    assert info["certificate"]["converged"] is True
    assert info["certificate"]["max_residual"] <= info["certificate"]["tol"]


def test_the_relative_error_is_that_of_the_reconstruction(original: Path) -> None:
    factors = open_factors(original)
    rest = (A - factors[:, :]) / factors.scale
    whole = (A - A.mean(axis=0)) / A.std(axis=0)
    assert factors.certificate.relative_error == pytest.approx(np.linalg.norm(rest) / np.linalg.norm(whole))


def test_opening_by_the_public_name_gives_the_same(original: Path) -> None:
    assert bigsvd.open(original).info() == open_factors(str(original)).info()
    assert f"{M}x{N} k={K}" in repr(bigsvd.open(original))


@pytest.mark.parametrize("k", [1, 50, 10_000])
@pytest.mark.parametrize("length", [1, 1_000, 10**7])
def test_chunks_of_factors_are_about_a_megabyte(k: int, length: int) -> None:
    lines = chunk_lines(k, length, "float32")
    assert 1 <= lines <= length
    assert lines * k * 4 <= 2**20
    assert lines == length or (lines + 1) * k * 4 > 2**20


# Fewer triplets, new rows


@pytest.mark.parametrize("k", range(1, K + 1))
def test_a_truncated_store_is_the_leading_part(original: Path, k: int) -> None:
    factors = open_factors(original)
    fewer = factors.truncate(k)
    U, s, Vt = np.asarray(factors.U), factors.s, np.asarray(factors.Vt)
    np.testing.assert_array_equal(np.asarray(fewer.U), U[:, :k])
    np.testing.assert_array_equal(fewer.s, s[:k])
    np.testing.assert_array_equal(np.asarray(fewer.Vt), Vt[:k])
    expected = (U[:, :k] * s[:k]) @ Vt[:k] * factors.scale + factors.mean
    np.testing.assert_allclose(fewer[:, :], expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(fewer.reconstruct().compute(scheduler="sync"), expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(np.asarray(fewer.as_zarr()[3:9, ::2]), expected[3:9, ::2], rtol=0, atol=1e-11)
    norm = factors.certificate.frobenius_norm
    assert fewer.certificate.relative_error == pytest.approx(np.sqrt(1 - np.sum((s[:k] / norm) ** 2)))
    assert len(fewer.certificate.residuals) == len(fewer.certificate.angle_bounds) == k
    assert len(fewer.rank_table()) == k
    json.dumps(fewer.info(), allow_nan=False)


@pytest.mark.parametrize("k", [0, -1, K + 1, 2.0, True, "2"])
def test_truncation_stays_within_what_there_is(original: Path, k: Any) -> None:
    with pytest.raises(RankError, match=rf"allowed range 1\.\.{K}"):
        open_factors(original).truncate(k)


def test_projecting_the_data_gives_its_own_coordinates(original: Path) -> None:
    factors = open_factors(original)
    coordinates = factors.project(A)
    np.testing.assert_allclose(coordinates, np.asarray(factors.U) * factors.s, rtol=0, atol=1e-10)
    np.testing.assert_allclose(factors.project(A[7]), coordinates[7], rtol=0, atol=1e-12)
    np.testing.assert_allclose(factors.truncate(2).project(A), coordinates[:, :2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(N + 1,), (3, N - 1), (2, 3, N), ()])
def test_rows_of_another_width_are_refused(original: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match=f"{N} features"):
        open_factors(original).project(np.zeros(shape))


# The leading lines of an array


def keys(length: int) -> st.SearchStrategy[int | slice]:
    ends = st.none() | st.integers(-length - 2, length + 2)
    return st.integers(-length, length - 1) | st.builds(slice, ends, ends, st.none() | st.integers(1, 3))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([0, 1]), st.integers(1, 6), st.booleans())
def test_leading_lines_index_like_numpy(data: st.DataObject, axis: int, k: int, on_disk: bool) -> None:
    base = np.arange(6 * 7.0).reshape(6, 7)
    expected = base[:k] if axis == 0 else base[:, :k]
    held = zarr.create_array(MemoryStore(), data=base, chunks=(2, 3)) if on_disk else base
    leading = Leading(held, k, axis)
    rows, cols = data.draw(keys(expected.shape[0])), data.draw(keys(expected.shape[1]))
    for key in ((rows, cols), rows, (rows,), (..., cols), (rows, ...), ..., (), (rows, ..., cols)):
        np.testing.assert_array_equal(leading[key], expected[key])
    assert leading.shape == expected.shape
    assert leading.ndim == 2
    assert leading.dtype == expected.dtype
    np.testing.assert_array_equal(np.asarray(leading), expected)
    assert np.asarray(leading, dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize("key", [(0, 0, 0), (..., ...), (0, ..., 0, 0)])
def test_too_many_keys_are_refused(key: Any) -> None:
    with pytest.raises(IndexError, match=r"too many indices|single ellipsis"):
        Leading(np.zeros((3, 3)), 2, 0)[key]


# The digest


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_the_digest_is_of_the_entries_chunk_by_chunk(m: int, n: int, rows: int, cols: int) -> None:
    values = np.random.default_rng(m * n).standard_normal((m, n))
    array: Any = zarr.create_array(MemoryStore(), data=values, chunks=(min(rows, m), min(cols, n)))
    corners = itertools.product(range(0, m, rows), range(0, n, cols))
    blocks = [np.ascontiguousarray(values[i : i + rows, j : j + cols]) for i, j in corners]
    assert digest(array) == google_crc32c.value(b"".join(block.tobytes() for block in blocks))
    array[m - 1, n - 1] += 1
    assert digest(array) != google_crc32c.value(b"".join(block.tobytes() for block in blocks))


# What a reader refuses


def damage_attributes(store: Path, change: Callable[[dict[str, Any]], None]) -> None:
    group = zarr.open_group(store, mode="r+")
    attributes: Any = group.attrs.asdict()
    change(attributes)
    if "bigsvd" in attributes:
        attributes["bigsvd"]["crc32c"] = store_module._checksum(attributes["bigsvd"])
    group.attrs.put(attributes)


def test_a_folder_without_manifest_is_no_store(store: Path) -> None:
    damage_attributes(store, lambda attributes: attributes.clear())
    with pytest.raises(FactorStoreError, match="no bigsvd manifest"):
        open_factors(store)


def test_a_changed_certificate_is_refused(store: Path) -> None:
    group = zarr.open_group(store, mode="r+")
    attributes: Any = group.attrs.asdict()
    attributes["bigsvd"]["certificate"]["relative_error"] = 0.0
    group.attrs.put(attributes)
    with pytest.raises(FactorStoreError, match="checksum"):
        open_factors(store)


@pytest.mark.parametrize("name", ["certificate", "manifest"])
def test_a_manifest_that_lacks_a_part_is_refused(store: Path, name: str) -> None:
    damage_attributes(store, lambda attributes: attributes["bigsvd"].pop(name))
    with pytest.raises(FactorStoreError, match=name):
        open_factors(store)


def test_a_store_of_another_format_is_refused(store: Path) -> None:
    damage_attributes(store, lambda attributes: attributes["bigsvd"].update(format_version=99))
    with pytest.raises(FactorStoreError, match="reads formats 1, 2 and 3"):
        open_factors(store)


@pytest.mark.parametrize("name", ["U", "s", "Vt", "mean"])
def test_a_store_that_lacks_an_array_is_refused(store: Path, name: str) -> None:
    shutil.rmtree(store / name)
    with pytest.raises(FactorStoreError, match="damaged"):
        open_factors(store)


def test_an_array_of_another_shape_is_refused(store: Path) -> None:
    entries(store, "U").resize((M - 1, K))
    with pytest.raises(FactorStoreError, match=rf"U is \({M - 1}, {K}\).*manifest says \[{M}, {K}\]"):
        open_factors(store)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_garbage_instead_of_metadata_is_refused(store: Path, text: str) -> None:
    (store / "zarr.json").write_text(text)
    with pytest.raises(FactorStoreError, match="factors"):
        open_factors(store)


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_what_is_no_store_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FactorStoreError, match="holds no factors"):
        open_factors(tmp_path / name)


READS: dict[str, Callable[[Factors], Any]] = {
    "region": lambda factors: factors[0:3, 0:3],
    "truncated region": lambda factors: factors.truncate(2)[0:3, 0:3],
    "check": check_store,
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("chunk", ["U/c/0/0", "Vt/c/0/0"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_chunk_is_never_read_as_numbers(store: Path, read: str, chunk: str, damage: str) -> None:
    factors = open_factors(store)
    whole = (store / chunk).read_bytes()
    if damage == "gone":
        (store / chunk).unlink()
    else:
        content = bytes([whole[0] ^ 1]) + whole[1:] if damage == "flipped" else whole[:-9]
        (store / chunk).write_bytes(content)
    with pytest.raises(FactorStoreError):
        READS[read](factors)


@pytest.mark.parametrize(("missing", "sentinel"), [("mean", -1), ("zero", -1), ("mean", np.nan)])
def test_missing_entries_of_new_samples_are_filled_as_those_of_the_run(missing: Any, sentinel: float) -> None:
    A = np.random.default_rng(2).binomial(2, 0.4, (90, 20)).astype(float)
    A[np.random.default_rng(3).random(A.shape) < 0.1] = sentinel
    factors = bigsvd.svd(A, 3, center=True, missing=missing, missing_value=sentinel, tol=1e-8)
    np.testing.assert_allclose(factors.project(A), factors.scores, atol=1e-8)
    np.testing.assert_allclose(factors.project(A[4]), factors.scores[4], atol=1e-8)
    marked = np.nan_to_num(A, nan=-1) == -1
    np.testing.assert_array_equal(factors.project(np.where(marked, np.nan, A)), factors.project(A))


def test_new_samples_with_gaps_need_stored_means() -> None:
    A = np.random.default_rng(2).standard_normal((60, 9))
    A[3, 4] = np.nan
    factors = bigsvd.svd(A, 3, missing="mean", missing_value=np.nan)
    with pytest.raises(RequestError, match="1 missing entries, and no means to fill them are stored"):
        factors.project(A[:5])
    assert np.isfinite(factors.project(A[4:])).all()


def test_a_damaged_chunk_is_never_projected_on(store: Path) -> None:
    chunk = store / "Vt/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(FactorStoreError, match="damaged"):
        open_factors(store).project(A)


# What a store says of itself


def test_changed_entries_are_found(store: Path) -> None:
    for name in ("U", "Vt"):
        array = entries(store, name)
        array[0, 0] += 1e-13
        assert any(f"{name} is not what was published" in text for text in check_store(open_factors(store)))


def test_factors_that_are_not_orthonormal_are_found(store: Path) -> None:
    entries(store, "U")[:, 0] *= 1.1
    assert any("U is not orthonormal" in text for text in check_store(open_factors(store)))


@pytest.mark.parametrize(
    "values", [[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, -1.0], [np.nan, 3, 2, 1], [np.inf, 3, 2, 1]]
)
def test_singular_values_out_of_order_are_found(store: Path, values: list[float]) -> None:
    entries(store, "s")[:] = np.asarray(values)
    findings = check_store(open_factors(store))
    assert any("s is not finite, non-negative and descending" in text for text in findings)


def test_singular_values_that_contradict_the_certificate_are_found(store: Path) -> None:
    s = entries(store, "s")
    s[:] = np.asarray(s[:]) * 0.99
    findings = check_store(open_factors(store))
    assert any("s is not what was published" in text for text in findings)
    assert any("the certificate says" in text for text in findings)


def test_versions_name_what_computed_the_result(original: Path) -> None:
    versions = store_module.versions()
    assert open_factors(original).provenance["versions"] == versions
    assert {"python", "bigsvd", "numpy", "zarr", "dask"} <= set(versions)


def test_factors_unpack_as_numpy_has_them_and_are_an_array_of_the_reconstruction(client: Client) -> None:
    A = np.random.default_rng(0).standard_normal((3, 60))
    factors = bigsvd.svd(A, 2, client=client)
    U, s, Vt = factors
    assert (U.shape, s.shape, Vt.shape) == ((3, 2), (2,), (2, 60))
    assert len(list(factors)) == 3
    assert bool(factors)
    np.testing.assert_allclose(np.asarray(factors), (U[:] * s) @ Vt[:], atol=1e-12)
    with pytest.raises(TypeError, match="no meaning"):
        0.0 in factors  # noqa: B015
    np.testing.assert_array_equal(list(factors.truncate(1).Vt), Vt[:1])
    np.testing.assert_allclose(list(factors.low_rank()), factors[:], atol=1e-12)
