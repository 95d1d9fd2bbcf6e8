"""The numbers of other programs, from the command line: of eofs with land and weights, sgkit and flashpca.

Those of eofs come with it (`eofs.tests.data`), computed by another program; it is under the GPL and only
installed for tests. Those of flashpca are of the genotypes HapMap3 (957 x 14,079, -1 where missing), no part
of this project: where BIGSVD_HAPMAP3 in the environment names a Zarr array of them, they are compared.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner

import bigsvd
from bigsvd.cli import main
from bigsvd.results.factors import Factors

DATA = files("eofs") / "tests" / "data"
EXAMPLES = files("eofs") / "examples" / "example_data"
HAPMAP3 = os.environ.get("BIGSVD_HAPMAP3", "")
FLASHPCA = ("--center", "--scale", "binom2", "--missing", "mean", "--missing-value", "-1")
K = 3
OPTIONS = ("--center", "--tol", "1e-7", "--dim", "time")  # places on land are missing throughout


def of_eofs(name: str) -> np.ndarray:
    return np.asarray(np.load(str(DATA / f"{name}.npy")))


def decomposed(data: Path, out: Path, *options: str) -> Factors:
    """What the command line makes of it."""
    ended = CliRunner().invoke(main, ["svd", str(data), str(out), "-k", str(K), "--quiet", *options])
    assert ended.exit_code == 0, ended.output
    return bigsvd.open(out)


def signed(vectors: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The rows of `vectors` (k, c) with the signs that they have in `like`."""
    return np.asarray(vectors * np.sign(np.nansum(vectors * like, axis=1))[:, np.newaxis])


def stored(path: Path, field: np.ndarray, **attributes: Any) -> Path:
    """A field (time, y, x), or of one level (time, 1, y, x), in chunks that fit no axis."""
    field = field.reshape(len(field), *field.shape[-2:])
    names = ("time", "y", "x")
    zarr.create_array(path, data=field, chunks=(7, 5, 4), attributes=attributes, dimension_names=names)
    return path


@pytest.mark.parametrize("weights", ["equal", "latitude", "area"])
def test_the_numbers_of_eofs(tmp_path: Path, weights: str) -> None:
    """Sea surface temperature, 21 of 198 places on land: λ, shares, North's errors, scores and modes."""
    data, options = stored(tmp_path / "sst.zarr", of_eofs("sst")), list(OPTIONS)
    if weights != "equal":
        np.save(tmp_path / "w.npy", of_eofs(f"weights.{weights}").reshape(-1))
        options += ["--weights", str(tmp_path / "w.npy")]
    factors = decomposed(data, tmp_path / "u", *options)
    wanted = {name: of_eofs(f"{name}.{weights}")[:K] for name in ("eigenvalues", "variance", "errors")}
    np.testing.assert_allclose(factors.explained_variance(), wanted["eigenvalues"], rtol=1e-6)
    np.testing.assert_allclose(100 * factors.explained_variance_ratio, wanted["variance"], rtol=1e-6)
    np.testing.assert_allclose(factors.north(), wanted["errors"], rtol=1e-6)
    scaled = of_eofs(f"scaled_errors.{weights}")[:K]
    np.testing.assert_allclose(factors.north() / factors.total_variance(), scaled, rtol=1e-6)
    scores = of_eofs(f"pcs.{weights}")[:, :K].T
    np.testing.assert_allclose(signed(factors.scores.T, scores), scores, atol=1e-5 * np.abs(scores).max())
    modes = of_eofs(f"eofs.{weights}")[:K]
    assert factors.components.shape == modes.shape == (K, *of_eofs("sst").shape[1:])
    flat, modes = factors.components.reshape(K, -1), modes.reshape(K, -1)
    np.testing.assert_allclose(signed(np.nan_to_num(flat), modes), np.nan_to_num(modes), atol=1e-5)
    land = np.isnan(of_eofs("sst")[0]).reshape(-1)
    np.testing.assert_array_equal(np.isnan(flat), np.tile(land, (K, 1)))


def test_the_numbers_of_sgkit(tmp_path: Path) -> None:
    """The example in the docstring of `sgkit.pca`, three populations; its explained variances have ddof 0."""
    random, sizes = np.random.RandomState(0), [25, 50, 75]
    frequencies = [np.stack([random.uniform(0.1, 0.9, size=100)] * size) for size in sizes]
    counts = random.binomial(2, np.concatenate(frequencies).T).astype("int8")
    zarr.create_group(tmp_path / "a.vcz", zarr_format=2).create_array(
        "call_alternate_allele_count", data=counts, chunks=(30, 40),
        attributes={"_ARRAY_DIMENSIONS": ["variants", "samples"]},
    )  # fmt: skip
    options = ("--samples", "samples", "--center", "--scale", "patterson", "--tol", "1e-6")
    factors = decomposed(tmp_path / "a.vcz", tmp_path / "u", *options)
    np.testing.assert_allclose(factors.explained_variance(ddof=0)[:2], [44.242146, 23.492842], rtol=1e-6)
    np.testing.assert_allclose(factors.explained_variance_ratio[:2], [0.191536, 0.101707], rtol=1e-5)
    assert (factors.scores.shape, factors.components.shape) == ((150, K), (K, 100))
    np.testing.assert_allclose(np.var(factors.scores, axis=0), factors.explained_variance(0), rtol=1e-5)


def test_the_convention_of_flashpca(tmp_path: Path) -> None:
    """Eigenvalues s²/p of p variants, scores X·v/√p; X is 0 where a genotype is missing."""
    random = np.random.default_rng(3)
    frequency = random.uniform(0.2, 0.8, (2, 300)).repeat([40, 50], axis=0)
    counts = random.binomial(2, frequency).astype(np.int8)
    missing = random.random(counts.shape) < 0.03
    zarr.create_array(
        tmp_path / "a.zarr", data=np.where(missing, -1, counts).astype(np.int8), chunks=(20, 70)
    )
    p = np.ma.array(counts, mask=missing).mean(axis=0).filled(np.nan) / 2
    X = np.where(missing, 0.0, (counts - 2 * p) / np.sqrt(2 * p * (1 - p)))
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    factors = decomposed(tmp_path / "a.zarr", tmp_path / "u", *FLASHPCA, "--tol", "1e-7")
    np.testing.assert_allclose(factors.s**2 / 300, s[:K] ** 2 / 300, rtol=1e-6)
    np.testing.assert_allclose(factors.explained_variance_ratio, s[:K] ** 2 / np.sum(s**2), rtol=1e-6)
    scores = (U[:, :K] * s[:K]).T / np.sqrt(300)
    np.testing.assert_allclose(signed(factors.scores.T / np.sqrt(300), scores), scores, atol=1e-5)


@pytest.mark.skipif(not HAPMAP3, reason="BIGSVD_HAPMAP3 names no genotypes of HapMap3")
def test_the_numbers_of_flashpca(tmp_path: Path) -> None:
    factors = decomposed(Path(HAPMAP3), tmp_path / "u", *FLASHPCA, "-k", "10", "--tol", "1e-4")
    eigenvalues = [26.160628, 23.393817, 6.915728, 6.049832, 4.402505, 2.651956, 2.466051, 2.309858, 2.264242]
    found = factors.s**2 / factors.shape[1]
    np.testing.assert_allclose(found, [*eigenvalues, 2.213107], rtol=1e-5)
    np.testing.assert_allclose(
        factors.explained_variance_ratio[:3], [0.026496, 0.023693, 0.007004], atol=6e-7
    )


@pytest.mark.parametrize(
    ("file", "variances", "shares"),
    [
        ("hgt_djf.nc", [509264.595, 225552.212, 131043.643], [40.69, 18.02, 10.47]),
        ("sst_ndjfm_anom.nc", [58.1937, 15.3469, 8.4715], [48.99]),
    ],
)
def test_the_examples_of_eofs(tmp_path: Path, file: str, variances: list[float], shares: list[float]) -> None:
    """Geopotential height over the North Atlantic; sea surface temperature of the Pacific, land as 1e20."""
    with xr.open_dataset(str(EXAMPLES / file), engine="scipy", decode_cf=False) as data:
        field = data[{"hgt_djf.nc": "z", "sst_ndjfm_anom.nc": "sst"}[file]]
        path = stored(tmp_path / "a.zarr", field.to_numpy(), missing_value=field.attrs["missing_value"])
        cosine = np.cos(np.deg2rad(data["latitude"].to_numpy().astype(float)))
        np.save(tmp_path / "w.npy", np.repeat(np.sqrt(np.clip(cosine, 0, 1)), data.sizes["longitude"]))
    factors = decomposed(path, tmp_path / "u", *OPTIONS, "--weights", str(tmp_path / "w.npy"))
    np.testing.assert_allclose(factors.explained_variance(), variances, rtol=1e-5)
    np.testing.assert_allclose(100 * factors.explained_variance_ratio[: len(shares)], shares, atol=6e-3)
