"""`bigsvd.genetics`: the numbers of sgkit and flashpca from stores and matrices; where new people lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bigsvd
from bigsvd.errors import RankError, RequestError
from bigsvd.genetics import pca
from bigsvd.sources.open import open_source
from bigsvd.verify import verify
from tests.commands import done, refused
from tests.populations import as_calls, drawn, standardised, stored

HAPMAP3 = os.environ.get("BIGSVD_HAPMAP3", "")
SIZES = (30, 40, 30)
K = 3


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    found = drawn(SIZES, 600, fst=0.1, missing=0.03)
    found[7] = np.where(found[7] < 0, -1, 0)  # a variant that nobody has
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, counts: np.ndarray) -> Path:
    return stored(tmp_path_factory.mktemp("store") / "a.vcz", counts)


@pytest.mark.parametrize(("scale", "factor"), [("patterson", 1.0), ("binom2", 2.0)])
def test_components_of_a_store(
    tmp_path: Path, store: Path, counts: np.ndarray, scale: Any, factor: float
) -> None:
    found = pca(store, K, tmp_path / "u", scale=scale, tol=1e-7)
    X = standardised(counts, factor)
    U, s, Vt = np.linalg.svd(X, full_matrices=False)
    np.testing.assert_allclose(found.factors.s, s[:K], rtol=1e-7)
    scores = found.sample_pca_projection
    signs = np.sign(np.sum(scores * Vt[:K].T, axis=0))
    np.testing.assert_allclose(scores * signs, Vt[:K].T * s[:K], atol=1e-5 * s[0])
    np.testing.assert_allclose(found.sample_pca_component[:] * signs, U[:, :K], atol=1e-5)
    variances = s[:K] ** 2 / X.shape[1]
    np.testing.assert_allclose(found.sample_pca_explained_variance, variances, rtol=1e-6)
    loadings = U[:, :K] * np.sqrt(variances)
    np.testing.assert_allclose(found.sample_pca_loading[:] * signs, loadings, atol=1e-5)
    shares = s[:K] ** 2 / np.sum(s**2)
    np.testing.assert_allclose(found.sample_pca_explained_variance_ratio, shares, rtol=1e-6)
    np.testing.assert_allclose(found.pve, shares, rtol=1e-6)
    assert found.polymorphic == 599
    np.testing.assert_allclose(found.eigenvalues, s[:K] ** 2 / 599, rtol=1e-6)
    np.testing.assert_allclose(found.pcs, scores / np.sqrt(599), rtol=1e-12)
    assert found.sample_id is not None
    assert found.sample_id[3] == "NA3"
    assert bigsvd.open(tmp_path / "u").certificate == found.factors.certificate
    assert verify(found.factors, open_source(store / "call_genotype", samples="samples", sum="ploidy",
                                             missing="mean"), lambda _: None).findings == ()  # fmt: skip


def test_rare_variants_and_people_are_left_out(store: Path, counts: np.ndarray) -> None:
    people = np.arange(counts.shape[1]) % 3 > 0
    taken = counts[:, people]
    seen = np.where(taken < 0, np.nan, taken)
    p = np.nanmean(seen, axis=1) / 2
    kept = np.flatnonzero(np.minimum(p, 1 - p) >= 0.2)
    found = pca(store, K, maf=0.2, people=people, tol=1e-7)
    assert found.labels.variant_id is not None
    assert found.labels.variant_id.tolist() == [f"rs{i}" for i in kept]
    assert found.sample_id is not None
    assert found.sample_id.tolist() == [f"NA{i}" for i in np.flatnonzero(people)]
    s = np.linalg.svd(standardised(taken[kept], 1.0), compute_uv=False)
    np.testing.assert_allclose(found.factors.s, s[:K], rtol=1e-7)


def test_variants_are_chosen_by_name(store: Path, counts: np.ndarray) -> None:
    pruned = [f"rs{i}" for i in range(0, 600, 3)]
    found = pca(store, K, variants=pruned, tol=1e-7)
    s = np.linalg.svd(standardised(counts[::3], 1.0), compute_uv=False)
    np.testing.assert_allclose(found.factors.s, s[:K], rtol=1e-7)
    with pytest.raises(RequestError, match="1 of 2 variants are not in the store, such as 'rs600'"):
        pca(store, K, variants=["rs1", "rs600"])


def test_variants_of_three_alleles_are_left_out(tmp_path: Path, counts: np.ndarray) -> None:
    path = stored(tmp_path / "a.vcz", counts[:100])
    alleles = np.full((100, 3), "", dtype="U1")
    alleles[:, :2], alleles[40, 2] = ["A", "C"], "G"
    zarr.open_group(path, mode="r+").create_array("variant_allele", data=alleles)
    found = pca(path, K, tol=1e-7)
    s = np.linalg.svd(standardised(np.delete(counts[:100], 40, axis=0), 1.0), compute_uv=False)
    np.testing.assert_allclose(found.factors.s, s[:K], rtol=1e-7)


def test_a_matrix_may_have_its_samples_as_rows(counts: np.ndarray) -> None:
    ours, turned = pca(counts, K), pca(counts.T.copy(), K, samples="rows")
    np.testing.assert_allclose(ours.factors.s, turned.factors.s, rtol=1e-5)
    assert ours.sample_pca_projection.shape == turned.sample_pca_projection.shape == (100, K)
    assert ours.sample_id is None


def test_new_people_may_lie_otherwise_than_the_matrix(tmp_path: Path, counts: np.ndarray) -> None:
    """As many of them as variants, so that no shape tells."""
    square = np.ascontiguousarray(counts[:100])
    found = pca(square.T.copy(), K, samples="rows")
    group = zarr.create_group(tmp_path / "square.vcz")
    group.create_array("call_genotype", data=as_calls(square))
    there = found.project(tmp_path / "square.vcz", "simple")
    np.testing.assert_allclose(there, found.project(square.T, "simple"))


def test_other_than_two_alleles_are_refused(tmp_path: Path, counts: np.ndarray) -> None:
    group = zarr.create_group(tmp_path / "haploid.vcz")
    group.create_array("call_genotype", data=as_calls(counts)[..., :1])
    with pytest.raises(RequestError, match="has 1 alleles for a genotype, scales are for 2"):
        pca(tmp_path / "haploid.vcz", K)


def test_what_is_decided_is_refused(store: Path) -> None:
    with pytest.raises(RequestError, match="'center' is decided by pca"):
        pca(store, K, center=False)
    with pytest.raises(RequestError, match=r"maf=0.7 is not in \[0, 0.5\]"):
        pca(store, K, maf=0.7)
    with pytest.raises(RequestError, match="has no array call_GT"):
        pca(store, K, array="call_GT")
    with pytest.raises(RequestError, match="chosen by names, which the store does not have"):
        pca(as_calls(np.ones((3, 3)))[..., 0], 1, people=["a"])


def test_new_people_lie_among_those_like_them() -> None:
    """Products with components shrink; OADP does not (Zhang, Dey & Lee 2020)."""
    sizes = (60, 60, 60)
    genotypes = drawn(sizes, 3000, fst=0.01, seed=1)
    held = np.arange(180) % 3 == 0
    found = pca(genotypes[:, ~held], 2, tol=1e-4)
    groups = np.repeat(range(3), sizes)

    def spread(scores: np.ndarray, of: np.ndarray) -> float:
        """How far the means of populations are apart."""
        return float(np.linalg.norm([scores[of == group].mean(axis=0) for group in range(3)]))

    reference = spread(found.sample_pca_projection, groups[~held])
    simple, oadp = (
        spread(found.project(genotypes[:, held], method), groups[held]) / reference
        for method in ("simple", "oadp")
    )
    assert simple < 0.8
    assert 0.9 < oadp < 1.1
    with pytest.raises(RequestError, match="method='procrustes' is not known"):
        found.project(genotypes[:, held], "procrustes")


def test_oadp_of_rows_of_the_matrix_is_where_they_are() -> None:
    """Augmented by one of its own rows, a matrix of low rank keeps its directions."""
    random = np.random.default_rng(0)
    A = random.standard_normal((400, 2)) @ random.standard_normal((2, 50))
    factors = bigsvd.svd(A, 2, tol=1e-8)
    found = factors.project(A[:9], "oadp")
    np.testing.assert_allclose(found, factors.scores[:9], rtol=2e-2, atol=1e-2)
    A[4, 0] = np.nan
    with_gap = factors.project(A[:9], "oadp")
    assert np.isnan(with_gap[4]).all()
    np.testing.assert_allclose(np.delete(with_gap, 4, 0), np.delete(found, 4, 0), rtol=1e-12)


@pytest.mark.skipif(not HAPMAP3, reason="BIGSVD_HAPMAP3 names no genotypes of HapMap3")
def test_hapmap3_has_the_numbers_of_flashpca() -> None:
    found = pca(HAPMAP3, 10, scale="binom2", samples="rows", tol=1e-4)
    eigenvalues = [26.160628, 23.393817, 6.915728, 6.049832, 4.402505, 2.651956, 2.466051, 2.309858, 2.264242]
    np.testing.assert_allclose(found.eigenvalues, [*eigenvalues, 2.213107], rtol=1e-5)
    np.testing.assert_allclose(found.pve[:3], [0.026496, 0.023693, 0.007004], atol=6e-7)


def test_new_people_of_a_store_are_projected_a_few_at_a_time(tmp_path: Path, counts: np.ndarray) -> None:
    """By the command too; a PLINK file or a matrix of the same alleles would do as well."""
    old = stored(tmp_path / "old.vcz", counts[:, :80])
    new = stored(tmp_path / "new.vcz", counts[:, 80:])
    found = pca(old, K, tmp_path / "u", variants=slice(0, 500))
    whole = found.project(as_calls(counts[:, 80:]))
    assert whole.shape == (20, K)
    for memory in ("200kB", "2kB", None):
        np.testing.assert_allclose(found.project(new, memory=memory), whole, rtol=1e-9, atol=1e-9)
    for method in ("oadp", "simple"):
        out = tmp_path / f"{method}.npy"
        done("project", tmp_path / "u", new / "call_genotype", out, "--method", method)
        np.testing.assert_allclose(np.load(out), found.project(new, method), rtol=1e-9)
    facts = done(
        "project", tmp_path / "u", new / "call_genotype", tmp_path / "v.zarr", "-k", 2, "--json"
    ).facts
    assert facts["shape"] == [20, 2]
    two = bigsvd.open(tmp_path / "u").truncate(2).project(as_calls(counts[:, 80:]), "oadp")
    np.testing.assert_allclose(np.asarray(zarr.open_array(tmp_path / "v.zarr", mode="r")[:]), two, rtol=1e-9)
    assert "already exists" in refused(
        2, "project", tmp_path / "u", new / "call_genotype", tmp_path / "v.zarr"
    )
    zarr.create_array(tmp_path / "m.zarr", data=counts[:, 80:], chunks=(100, 7))
    np.testing.assert_allclose(found.project(tmp_path / "m.zarr"), whole, rtol=1e-9, atol=1e-9)


def test_pictures(tmp_path: Path, store: Path) -> None:
    found = pca(store, K)
    found.plot(tmp_path / "people.png", ["A"] * 30 + ["B"] * 70, (1, 3))
    found.plot(tmp_path / "plain.png")
    found.plot_loadings(tmp_path / "loadings.png", (1, 2))
    for name in ("people", "plain", "loadings"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(RequestError, match=r"populations of shape \(3,\) for 100 people"):
        found.plot(tmp_path / "people.png", ["A"] * 3)
    with pytest.raises(RankError, match="k=4 is not in the allowed range"):
        found.plot_loadings(tmp_path / "loadings.png", (1, 4))
    with pytest.raises(RequestError, match="no variant_contig"):
        pca(np.eye(6, dtype=np.int8), 2).plot_loadings(tmp_path / "loadings.png", (1,))


def test_the_numbers_of_sgkit(tmp_path: Path) -> None:
    """The example in the docstring of `sgkit.pca`: three populations, 100 variants, 150 people."""
    random, sizes = np.random.RandomState(0), [25, 50, 75]
    frequencies = [np.stack([random.uniform(0.1, 0.9, size=100)] * size) for size in sizes]
    alleles = random.binomial(2, np.concatenate(frequencies).T).astype("int8")
    group = zarr.create_group(tmp_path / "a.vcz", zarr_format=2)
    group.create_array("call_alternate_allele_count", data=alleles, chunks=(30, 40))
    found = pca(tmp_path / "a.vcz", 2, tol=1e-6)
    np.testing.assert_allclose(found.sample_pca_explained_variance, [44.242146, 23.492842], rtol=1e-6)
    np.testing.assert_allclose(found.sample_pca_explained_variance_ratio, [0.191536, 0.101707], rtol=1e-5)


def test_new_people_of_other_variants_are_refused(tmp_path: Path, counts: np.ndarray) -> None:
    found = pca(stored(tmp_path / "old.vcz", counts[:, :80]), K)
    new = stored(tmp_path / "new.vcz", counts[:, 80:])
    found.project(new)
    names: Any = zarr.open_group(new, mode="r+")["variant_id"]
    names[:2] = names[:2][::-1]
    with pytest.raises(RequestError, match=r"2 of 600 variants .*variant 1 has the id rs1, and not rs0"):
        found.project(new)
    with pytest.raises(RequestError, match=r"300 variants are given, the components are of 600"):
        found.project(stored(tmp_path / "few.vcz", counts[:300, 80:]))


def test_a_missing_call_is_no_count(tmp_path: Path, counts: np.ndarray) -> None:
    """Where the cohort has a type without -1, nothing says how it is filled: nobody guesses coordinates."""
    whole = np.maximum(counts, 0)
    new = whole[:, 80:].astype(np.int8)
    new[::7, 3] = -1
    zarr.create_array(tmp_path / "new.zarr", data=new, chunks=(100, 7))
    found = pca(whole[:, :80].astype(np.uint8), K)
    coordinates, complete = found.project(tmp_path / "new.zarr"), found.project(whole[:, 80:])
    assert np.isnan(coordinates[3]).all()
    others = np.arange(20) != 3
    np.testing.assert_allclose(coordinates[others], complete[others], rtol=1e-9, atol=1e-9)
