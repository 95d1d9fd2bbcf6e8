"""`bigsvd.anndata.pca`: scanpy's numbers, from an AnnData store and back into it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bigsvd.anndata
from bigsvd.errors import BigsvdError, NonFiniteError, RequestError, SourceError
from bigsvd.results.factors import Factors
from bigsvd.sources.base import Source
from bigsvd.sources.normalized import NormalizedSource, gains_of
from bigsvd.sources.open import open_source
from tests.laws import SourceLaws
from tests.sparse_groups import counts, write_sparse

CELLS, GENES, K = 300, 50, 5
A = counts(CELLS, GENES)
A.data[A.indptr[7] : A.indptr[8]] = 0  # a cell without counts
A.eliminate_zeros()
VARIABLE = np.random.default_rng(3).random(GENES) < 0.5


def normalized() -> np.ndarray:
    """The logarithms of counts per ten thousand, of all genes; by NumPy in float64."""
    dense = A.toarray().astype(np.float64)
    totals = dense.sum(axis=1, keepdims=True)
    return np.asarray(np.log1p(dense * 1e4 / np.where(totals == 0, 1, totals)))


def store(path: Path, form: str = "csr", zarr_format: Any = 2) -> Path:
    """Cells in an AnnData store, with a column of `var` and consolidated metadata."""
    attributes = {"encoding-type": "anndata", "encoding-version": "0.1.0"}
    group = zarr.create_group(path, zarr_format=zarr_format, attributes=attributes)
    if form == "dense":
        group.create_array("X", data=A.toarray(), chunks=(64, 20))
    else:
        write_sparse(path / "X", A.asformat(form), zarr_format, 400)
        group.create_group("layers")
        write_sparse(path / "layers" / "counts", A.astype(np.int64).asformat(form), zarr_format, 400)
    group.create_array("var/highly_variable", data=VARIABLE)
    group.create_array("var/names", data=np.arange(GENES))
    for name, values in (("whole", VARIABLE.astype(np.int64)), ("mostly", VARIABLE)):
        group.create_array(f"var/{name}/values", data=values)
        group.create_array(f"var/{name}/mask", data=np.arange(GENES) == np.flatnonzero(VARIABLE)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(path)
    return path


def pca(path: Path, **options: Any) -> Factors:
    given: dict[str, Any] = {
        "normalize": 1e4,
        "log1p": True,
        "mask": "highly_variable",
        "tol": 1e-6,
        "memory": "300MB",
    }
    return bigsvd.anndata.pca(path, K, **given | options)


def found_in(path: Path, place: str) -> np.ndarray:
    array: Any = zarr.open_group(path, mode="r")[place]
    return np.asarray(array[...])


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_components_are_those_of_numpy(tmp_path: Path, form: str, zarr_format: int) -> None:
    path = store(tmp_path / "cells.zarr", form, zarr_format)
    factors = pca(path)
    B = normalized()[:, VARIABLE]
    _, s, Vt = np.linalg.svd(B - B.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(factors.s, s[:K], rtol=1e-7)
    components = found_in(path, "varm/PCs")
    assert components.shape == (GENES, K)
    assert not components[~VARIABLE].any()
    np.testing.assert_allclose(np.abs(np.sum(components[VARIABLE] * Vt[:K].T, axis=0)), 1, rtol=1e-5)
    scores = found_in(path, "obsm/X_pca")
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, (B - B.mean(axis=0)) @ components[VARIABLE], atol=1e-4 * s[0])
    np.testing.assert_allclose(found_in(path, "uns/pca/variance"), s[:K] ** 2 / (CELLS - 1), rtol=1e-6)
    total = np.sum(s**2)
    np.testing.assert_allclose(found_in(path, "uns/pca/variance_ratio"), s[:K] ** 2 / total, rtol=1e-6)
    assert found_in(path, "uns/pca/params/mask_var")[()] == "highly_variable"


def test_a_layer_of_integers_gives_the_same(tmp_path: Path) -> None:
    path = store(tmp_path / "cells.zarr")
    np.testing.assert_allclose(pca(path, layer="counts").s, pca(path, overwrite=True).s, rtol=1e-7)


def test_counts_as_they_are(tmp_path: Path) -> None:
    path = store(tmp_path / "cells.zarr")
    factors = pca(path, normalize=None, log1p=False, mask=None, center=False)
    np.testing.assert_allclose(factors.s, np.linalg.svd(A.toarray())[1][:K], rtol=1e-6)
    assert not found_in(path, "uns/pca/params/zero_center")[()]


def test_components_that_are_there_stay_unless_told(tmp_path: Path) -> None:
    path = store(tmp_path / "cells.zarr")
    pca(path)
    before = found_in(path, "obsm/X_pca")
    with pytest.raises(RequestError, match=r"has obsm/X_pca, varm/PCs, uns/pca already; .*overwrite=True"):
        pca(path)
    pca(path, seed=1, overwrite=True)
    np.testing.assert_allclose(found_in(path, "obsm/X_pca"), before, atol=1e-3)


def test_a_factor_store_is_kept_and_verified(tmp_path: Path) -> None:
    path = store(tmp_path / "cells.zarr")
    pca(path, out=tmp_path / "factors")
    factors = bigsvd.open(tmp_path / "factors")
    np.testing.assert_allclose(factors.explained_variance(), found_in(path, "uns/pca/variance"), rtol=1e-12)


REFUSED: dict[str, tuple[dict[str, Any], type[BigsvdError], str]] = {
    "no layer": ({"layer": "raw"}, SourceError, "no layers/raw; its layers are counts"),
    "no column": (
        {"mask": "variable"},
        SourceError,
        "no column variable; it has highly_variable, mostly, names, whole",
    ),
    "no truth values": ({"mask": "names"}, SourceError, "dtype int64"),
    "no target": ({"normalize": 0.0}, RequestError, "normalize=0.0"),
    "samples": ({"samples": "columns"}, RequestError, "'samples' is decided by pca"),
    "rows": ({"rows": "0:30"}, RequestError, "'rows' is decided by pca"),
    "integers with gaps": ({"mask": "whole"}, SourceError, "var/whole has dtype int64"),
    "too many": ({"mask": np.arange(3)}, BigsvdError, "k=5"),
}


@pytest.mark.parametrize(("options", "error", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_is_refused(
    tmp_path: Path, options: dict[str, Any], error: type[BigsvdError], said: str
) -> None:
    path = store(tmp_path / "cells.zarr")
    with pytest.raises(error, match=said):
        pca(path, **options)
    assert "obsm" not in zarr.open_group(path, mode="r")


@pytest.mark.parametrize(("value", "error"), [(np.nan, NonFiniteError), (-1e6, RequestError)])
def test_totals_that_mean_nothing_are_refused(tmp_path: Path, value: float, error: type[BigsvdError]) -> None:
    changed = A.copy()
    changed.data[0] = value
    with pytest.raises(error, match="the total of row 0"):
        gains_of(open_source(write_sparse(tmp_path / "a.zarr", changed)), 1e4)


@pytest.mark.parametrize("form", ["csr", "dense"])
def test_counts_below_0_are_refused(tmp_path: Path, form: str) -> None:
    path = store(tmp_path / "cells.zarr", form)
    group: Any = zarr.open_group(path)
    if form == "csr":
        group["X/data"][5] = -0.5
    else:
        group["X"][int(A.sum(axis=1).argmax()), 4] = -0.5
    for normalize, log1p in ((None, True), (1e4, True), (1e4, False)):
        with pytest.raises(RequestError, match=r"has entries below 0, such as -0.5; normalize and log1p"):
            pca(path, normalize=normalize, log1p=log1p)


def test_a_gene_of_which_it_is_not_known_is_left_out(tmp_path: Path) -> None:
    path = store(tmp_path / "cells.zarr")
    pca(path, mask="mostly")
    components = found_in(path, "varm/PCs")
    assert not components[np.flatnonzero(VARIABLE)[0]].any()
    assert components[np.flatnonzero(VARIABLE)[1]].any()


def test_options_of_reading_are_heeded(tmp_path: Path) -> None:
    path = store(tmp_path / "cells.zarr", "dense")
    (path / "X" / "0.0").unlink()
    with pytest.raises(BigsvdError, match=r"missing_chunks='fill'|missing"):
        pca(path)
    assert pca(path, missing_chunks="fill").k == K


def test_the_package_has_it_without_another_import() -> None:
    script = "import bigsvd; print(bigsvd.anndata.pca.__name__, bigsvd.estimators.PCA.__name__)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["pca", "PCA"]


def test_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no Zarr group"):
        pca(tmp_path / "nothing.zarr")


class TestNormalized(SourceLaws):
    """Normalised counts as a source."""

    @pytest.fixture(params=["csr", "csc", "dense"])
    def source(self, tmp_path: Path, request: pytest.FixtureRequest) -> Source:
        source = open_source(store(tmp_path / "cells.zarr", request.param) / "X").as_floats()
        return NormalizedSource(source, gains_of(source, 1e4), log1p=True)

    @pytest.fixture
    def entries(self) -> np.ndarray:
        dense = A.toarray().astype(np.float64)
        totals = dense.sum(axis=1, keepdims=True)
        gains = 1e4 / np.where(totals == 0, 1.0, totals)
        return np.asarray(np.log1p(dense * gains), np.float32)


def test_anndata_reads_what_was_written(tmp_path: Path) -> None:
    anndata: Any = pytest.importorskip("anndata")
    path = store(tmp_path / "cells.zarr")
    pca(path)
    group = zarr.open_group(path, mode="r")
    elements = {place: anndata.io.read_elem(group[place]) for place in ("obsm/X_pca", "varm/PCs", "uns/pca")}
    assert elements["obsm/X_pca"].shape == (CELLS, K)
    assert elements["varm/PCs"].shape == (GENES, K)
    assert elements["uns/pca"]["params"] == {
        "zero_center": True, "use_highly_variable": True, "mask_var": "highly_variable"
    }  # fmt: skip
