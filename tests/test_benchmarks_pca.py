"""PCA of genotypes: what is simulated and stored, the exact values, and rows that cannot be run."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import bigsvd
from benchmarks import report_pca
from benchmarks.__main__ import main
from benchmarks.data import open_store
from benchmarks.genotypes import GROUPS, MISSING, Population
from benchmarks.pca import Limits, Others, checkouts, contenders, sigma_errors
from benchmarks.pca_child import by_bigsvd
from benchmarks.pca_data import (
    SIZES,
    by_deviation,
    by_frequency,
    ensure_bed,
    ensure_genotypes,
    exact_sigma,
    packed,
)
from tests.benchmark_runs import results_of

CHECKOUT = Path(bigsvd.__file__).parent.parent
TINY = replace(SIZES["tiny"], missing=0.02)
LIMITS = Limits(1, 60.0, 300.0, int(1e9), "1GB")
# A program that is called like PCAone, and decomposes the .bed file by NumPy. It divides all values by 7.
PROGRAM = f"""#!{sys.executable}
import sys
import numpy as np
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
prefix, out, k = given["-b"], given["-o"], int(given["-k"])
samples = len(open(prefix + ".fam").readlines())
variants = len(open(prefix + ".bim").readlines())
raw = np.fromfile(prefix + ".bed", np.uint8)
assert raw[:3].tolist() == [0x6C, 0x1B, 0x01]
codes = raw[3:].reshape(variants, -1)[:, :, None] >> np.array([0, 2, 4, 6]) & 3
counts = np.array([2, np.nan, 1, 0])[codes.reshape(variants, -1)[:, :samples]].T
mean = np.nanmean(counts, axis=0)
values = (np.where(np.isnan(counts), mean, counts) - mean) / np.sqrt(mean * (1 - mean / 2))
np.savetxt(out + ".sigvals", np.linalg.svd(values, compute_uv=False)[:k] / 7)
print("stops at epoch = 9")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def results(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("out")
    program = out / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    words = ["pca", "--size", "tiny", "--repeat", "1", "--missing", str(TINY.missing)]
    words += ["--stop", "residual", "--stop", "nonsense"]
    words += ["--against", str(CHECKOUT), "--pcaone", str(program)]
    path = out / "pca-tiny_missing0.02.json"
    found = results_of(words, path, data, 10_000)
    assert str(out) not in path.read_text(encoding="utf-8")
    return found


def row_of(results: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in results["contenders"] if row["name"] == name)
    return found


@pytest.mark.parametrize("name", ["bigsvd-residual", "before-residual"])
def test_bigsvd_of_either_checkout_is_held_against_lapack(results: dict[str, Any], name: str) -> None:
    row = row_of(results, name)
    assert row["status"] == "done"
    assert row["leading_error"] <= row["error"] < 1e-5
    [run] = row["runs"]
    assert run["converged"]
    assert row["passes"] == run["passes"] >= 1
    assert row["seconds"] > row["seconds_in_run"] > 0
    assert row["peak_memory_bytes"] > 0
    assert row["predicted_seconds"] > 0


def test_both_checkouts_give_the_same_values_where_they_are_the_same(results: dict[str, Any]) -> None:
    ours, theirs = (row_of(results, name)["runs"][0] for name in ("bigsvd-residual", "before-residual"))
    assert ours["sigma"] == theirs["sigma"]


def test_a_test_of_stop_that_is_not_known_fails_alone(results: dict[str, Any]) -> None:
    for name in ("bigsvd-nonsense", "before-nonsense"):
        status = row_of(results, name)["status"]
        assert "stop='nonsense' is not known" in status
        assert status in report_pca.markdown(results)


def test_scikit_learn_decomposes_the_same_matrix(results: dict[str, Any]) -> None:
    assert row_of(results, "sklearn-incremental")["error"] < 1e-5  # one batch holds all samples
    assert row_of(results, "sklearn-randomized")["leading_error"] < 0.1


def test_pcaone_reads_the_bed_file_and_is_held_against_its_own_standardising(results: dict[str, Any]) -> None:
    row = row_of(results, "pcaone")
    assert row["error"] < 1e-6
    assert row["passes"] == 9
    assert row["peak_memory_bytes"] > 1e6


def test_the_report_is_made_again_from_its_file(results: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "pca-tiny.json"
    path.write_text(json.dumps(results), encoding="utf-8")
    ended = CliRunner().invoke(main, ["report", str(path)])
    assert ended.exit_code == 0, ended.output
    assert results["command"] in path.with_suffix(".md").read_text(encoding="utf-8")


def test_what_does_not_fit_the_limit_is_refused_or_told_to_use_the_disk(data: Path) -> None:
    limits, others = replace(LIMITS, memory_limit_bytes=100_000), Others(pcaone=Path("pcaone"))
    rows = {row.name: row for row in contenders(TINY, data, others, limits, {"bigsvd": CHECKOUT})}
    assert rows["bigsvd-residual"].refusal == ""
    assert rows["sklearn-randomized"].refusal == "refused: it needs about 0.0 GB, the limit is 0.0 GB"
    assert rows["pcaone"].job["options"] == ["-m", "1"]
    roomy = {row.name: row for row in contenders(TINY, data, others, LIMITS, {"bigsvd": CHECKOUT})}
    assert roomy["sklearn-randomized"].refusal == ""
    assert roomy["pcaone"].job["options"] == []


def test_a_checkout_shows_its_package_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "bigsvd").mkdir()
    (tmp_path / "benchmarks").mkdir()
    with checkouts(tmp_path) as homes:
        assert homes["bigsvd"] == CHECKOUT
        assert [entry.name for entry in homes["before"].iterdir()] == ["bigsvd"]
        assert (homes["before"] / "bigsvd").resolve() == (tmp_path / "bigsvd").resolve()


def test_bigsvd_from_elsewhere_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match="bigsvd was imported from"):
        by_bigsvd(tmp_path, "store", 2, str(tmp_path), missing=False, options={})


def test_genotypes_have_the_frequencies_of_their_ancestry() -> None:
    population = Population(3_000, 1)
    theta, beta = population.ancestry(), population.frequencies(40)
    assert theta.shape == (3_000, GROUPS)
    assert np.allclose(theta.sum(axis=1), 1)
    assert beta.min() > 0.05
    assert beta.max() < 0.95
    counts = population.counts(0, theta, beta)
    assert counts.dtype == np.int8
    assert set(np.unique(counts)) == {0, 1, 2}
    p = theta @ beta
    expected, spread = 2 * p.mean(axis=0), np.sqrt((2 * p * (1 - p)).mean(axis=0) / 3_000)
    assert np.all(np.abs(counts.mean(axis=0) - expected) < 5 * spread)
    heterozygous = (counts == 1).mean()
    assert heterozygous == pytest.approx((2 * p * (1 - p)).mean(), abs=0.01)
    assert np.array_equal(Population(3_000, 1).counts(0, theta, beta), counts)
    assert not np.array_equal(population.counts(1, theta, beta), counts)


def test_as_many_calls_are_missing_as_asked_for() -> None:
    population = Population(2_000, 0, missing=0.1)
    counts = population.counts(0, population.ancestry(), population.frequencies(100))
    assert np.mean(counts == MISSING) == pytest.approx(0.1, abs=0.005)


def test_standardised_variants_are_filled_with_their_mean() -> None:
    counts = np.array([[0, 1, 2], [2, -1, 2], [1, 1, 2], [-1, 2, 2]], np.int8)
    observed = np.where(counts < 0, np.nan, counts.astype(np.float64))
    mean = np.nanmean(observed, axis=0)
    filled = np.where(np.isnan(observed), mean, observed) - mean
    deviation = np.where(filled.std(axis=0) > 0, filled.std(axis=0), 1.0)
    assert np.allclose(by_deviation(counts), filled / deviation)
    variance = np.array([0.5, 4 / 3 * (1 - 2 / 3), 1.0])  # 2f(1−f), 1 where that is 0
    assert np.allclose(by_frequency(counts), filled / np.sqrt(variance))


@pytest.mark.parametrize("samples", [1, 4, 6, 7])
def test_bed_holds_two_bits_a_genotype_of_one_variant_after_the_other(samples: int) -> None:
    counts = np.random.default_rng(samples).integers(-1, 3, (samples, 5)).astype(np.int8)
    found = packed(counts)
    assert found.shape == (5, -(-samples // 4))
    for sample in range(samples):
        codes = found[:, sample // 4] >> 2 * (sample % 4) & 3
        assert codes.tolist() == [{-1: 1, 0: 3, 1: 2, 2: 0}[count] for count in counts[sample].tolist()]


def test_what_is_stored_is_kept(data: Path) -> None:
    path = ensure_genotypes(TINY, data)
    counts = np.asarray(open_store(path)[:])
    assert counts.shape == (TINY.samples, TINY.variants)
    prefix = ensure_bed(TINY, data)
    bed = Path(f"{prefix}.bed")
    assert bed.stat().st_size == 3 + TINY.variants * -(-TINY.samples // 4)
    sigma = exact_sigma(TINY, data, by_deviation)
    exact = np.linalg.svd(by_deviation(counts), compute_uv=False)
    assert np.allclose(sigma[:-1], exact[:-1])  # the last is 0, whose square drowns in rounding
    assert np.array_equal(exact_sigma(TINY, data, by_deviation), sigma)
    assert (ensure_genotypes(TINY, data), ensure_bed(TINY, data)) == (path, prefix)


def test_values_known_up_to_a_factor_are_compared_without_it() -> None:
    exact = np.array([5.0, 3.0, 1.0])
    assert np.allclose(sigma_errors([5.0, 3.3, 1.0], exact, up_to_factor=False), [0, 0.1, 0])
    assert np.allclose(sigma_errors(list(exact / 7), exact, up_to_factor=True), 0)
