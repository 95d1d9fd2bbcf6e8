"""VCF-Zarr as bio2zarr and sgkit write it: what is said to who asks for the whole store, or for alleles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import BadInputError, RequestError

VARIANTS, SAMPLES, K = 120, 30, 3
AXES = ("variants", "samples", "ploidy")


def calls() -> np.ndarray:
    """Genotypes with some calls missing, and in one place one allele of two."""
    rng = np.random.default_rng(0)
    found = rng.binomial(1, rng.uniform(0.2, 0.8, (VARIANTS, 1, 1)), (VARIANTS, SAMPLES, 2)).astype("i1")
    found[rng.random((VARIANTS, SAMPLES)) < 0.02] = -1
    found[5, 7, 1] = -1
    return found


@pytest.fixture
def store(tmp_path: Path) -> Path:
    group = zarr.open_group(tmp_path / "calls.vcz", mode="w", zarr_format=2)
    genotypes = calls()
    for name, data, axes in (
        ("call_genotype", genotypes, AXES),
        ("call_genotype_mask", genotypes < 0, AXES),
        ("call_DP", np.full((VARIANTS, SAMPLES), 9, "i2"), AXES[:2]),
        ("variant_position", np.arange(VARIANTS), AXES[:1]),
    ):
        group.create_array(name, data=data, chunks=tuple(min(20, n) for n in data.shape)).attrs[
            "_ARRAY_DIMENSIONS"
        ] = axes
    return tmp_path / "calls.vcz"


def refused(*arguments: object) -> str:
    ended = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert ended.exit_code == 2, ended.output
    return ended.output


def test_of_a_store_the_genotypes_are_what_is_meant(store: Path) -> None:
    said = refused("plan", store, "-k", K)
    assert (
        "with the arrays call_genotype (120x30x2 int8), call_genotype_mask (120x30x2 bool), call_DP (120"
        in said
    )
    assert said.strip().endswith(
        f"name one of them, such as {store}/call_genotype with --sum ploidy and --samples samples"
    )
    advice = refused("plan", store / "call_genotype", "-k", K)
    assert "sum these by --sum ploidy" in advice
    assert "--samples AXIS: variants or samples" in advice


@pytest.mark.parametrize("axis", [("--samples", "samples"), ("--dim", "samples"), ("--dim", 1)])
def test_alleles_are_not_decomposed_with_what_marks_their_gaps(store: Path, axis: tuple[object, ...]) -> None:
    for command in (("plan",), ("svd",)):
        out = [store.parent / "u"] * (command == ("svd",))
        said = refused(*command, store / "call_genotype", *out, "-k", K, *axis)
        assert "missing ones of int8 are negative numbers; sum them to dosages by --sum ploidy" in said
    CliRunner().invoke(
        main, ["svd", f"{store}/call_genotype", f"{store.parent}/u", "-k", "3", "--samples", "samples",
               "--sum", "ploidy", "--center", "--missing", "mean", "--tol", "1e-6", "--quiet"],
        catch_exceptions=False,
    )  # fmt: skip
    doses = calls().sum(axis=2).astype(float)
    doses[(calls() < 0).any(axis=2)] = np.nan
    centred = np.nan_to_num(doses - np.nanmean(doses, axis=1, keepdims=True))
    exact = np.linalg.svd(centred, compute_uv=False)[:K]
    np.testing.assert_allclose(bigsvd.open(store.parent / "u").s, exact, rtol=1e-9)


def test_who_fills_gaps_of_alleles_without_a_value_is_told_of_the_sum(store: Path) -> None:
    said = refused("plan", store / "call_genotype", "-k", K, "--samples", "samples", "--missing", "mean")
    assert "sum alleles by --sum ploidy, or say by --missing-value -1" in said


def test_alleles_one_by_one_are_decomposed_for_who_says_what_is_missing(store: Path) -> None:
    factors = bigsvd.svd(
        store / "call_genotype", K, dim="samples", center=True, missing="mean", missing_value=-1, tol=1e-6
    )
    alleles = np.moveaxis(calls(), 1, 0).reshape(SAMPLES, -1).astype(float)
    alleles[alleles < 0] = np.nan
    centred = np.nan_to_num(alleles - np.nanmean(alleles, axis=0))
    np.testing.assert_allclose(factors.s, np.linalg.svd(centred, compute_uv=False)[:K], rtol=1e-9)


@pytest.mark.parametrize("orientation", [{"samples": "samples"}, {"samples": "columns"}], ids=str)
def test_new_people_are_projected_by_their_calls(store: Path, orientation: dict[str, Any]) -> None:
    """By dosages or by calls, as an array or by the names of its axes; gaps are filled as the run's were."""
    factors = bigsvd.svd(
        store / "call_genotype", K, sum="ploidy", center=True, scale="binom2", missing="mean", **orientation
    )
    dosages = np.where((calls() < 0).any(axis=2), -1, calls().sum(axis=2, dtype=int))
    named = xr.DataArray(calls(), dims=AXES)
    for given in (calls(), dosages.astype(float), named, named.transpose("samples", "ploidy", "variants")):
        found = factors.project(np.where(given < 0, np.nan, given) if given is dosages else given)
        np.testing.assert_allclose(found, factors.scores, atol=1e-5 * factors.s[0])
    with pytest.raises(RequestError, match="do not have 120 features"):
        factors.project(calls()[:50])


def test_only_what_may_be_negative_is_refused() -> None:
    """Numbers without a sign, or with gaps of their own, hide nothing; nor does an axis of another name."""
    data = np.abs(calls())
    kinds: list[tuple[Any, bool]] = [
        (xr.DataArray(data, dims=AXES), True),
        (xr.DataArray(data.astype("u1"), dims=AXES), False),
        (xr.DataArray(data.astype("f4"), dims=AXES), False),
        (xr.DataArray(data, dims=("variants", "samples", "band")), False),
    ]
    for given, wrong in kinds:
        if wrong:
            with pytest.raises(RequestError, match="alleles"):
                bigsvd.plan(given, K, dim="samples")
        else:
            bigsvd.plan(given, K, dim="samples")
    with pytest.raises(BadInputError, match="sum these by sum=ploidy"):
        bigsvd.plan(kinds[0][0], K)


def test_one_of_a_kind_is_not_many() -> None:
    text = str(bigsvd.plan(np.ones((40, 1)), 1))
    for said in (
        "1 column\n",
        "1 panel of 40 rows; 1 lane,",
        "the basis has 1 row\n",
        "block         1 column ",
    ):
        assert said in text
