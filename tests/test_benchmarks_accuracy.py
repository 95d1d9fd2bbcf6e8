"""`benchmarks svd-accuracy` at a tiny size, and that no treatment sees what it must not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import accuracy as suite
from benchmarks.__main__ import main
from benchmarks.accuracy import Labels, Pictures, Spectral, noisy
from benchmarks.accuracy_data import Digits
from tests.benchmark_runs import check_report_is_made_again


def test_the_command_writes_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = replace(suite.SIZES["tiny"], labels=(Labels(100, 12, 1),))
    monkeypatch.setitem(suite.SIZES, "tiny", tiny)
    ended = CliRunner().invoke(main, ["svd-accuracy", "--seeds", "1", "--out", str(tmp_path)])
    assert ended.exit_code == 0, ended.output
    results = json.loads((tmp_path / "svd-accuracy-tiny.json").read_text(encoding="utf-8"))
    assert [(row["noise"], row["labels"]) for row in results["rows"]] == [(0.0, 100), (0.5, 100), (1.0, 100)]
    clear, middling, noisiest = (row["raw"] for row in results["rows"])
    assert clear > middling > noisiest > 0.1
    assert all(row["truncated"] == row["by_rank"][tiny.ranks.index(row["rank"])] for row in results["rows"])
    check_report_is_made_again(results, tmp_path / "svd-accuracy-tiny.json")


def test_the_decomposition_sees_training_pictures_alone() -> None:
    rng = np.random.default_rng(5)
    pictures = Pictures(*(rng.standard_normal((rows, 12)).astype(np.float32) for rows in (60, 9)))
    others = replace(pictures, test=np.full((9, 12), 100, dtype=np.float32))
    assert np.array_equal(Spectral.of(pictures, 3).V, Spectral.of(others, 3).V)
    treated = pictures.within(Spectral.of(pictures, 3).V)
    assert np.linalg.matrix_rank(treated.test - pictures.mean, tol=1e-4) == 3


def test_shrinkage_is_the_optimum_for_a_spike() -> None:
    """A spike x in noise is seen as y, and η(y) = x·c·c̃, its vectors' cosines (Gavish & Donoho 2017)."""
    samples, pixels, noise, x = 400, 100, 0.25, 2.0
    aspect = pixels / samples
    y = np.sqrt((x + 1 / x) * (x + aspect / x))
    cosines = (x**4 - aspect) / np.sqrt((x**4 + aspect * x**2) * (x**4 + x**2))
    below = 0.99 + np.sqrt(aspect)  # the edge of the bulk is 1 + √β
    s = np.array([y, below]) * np.sqrt(noise * samples)
    found = Spectral(np.zeros((pixels, 2), dtype=np.float32), s, noise, samples).shrinkage()
    assert found[0] * y == pytest.approx(x * cosines)
    assert found[1] == 0


def test_noise_of_one_seed_differs_in_size_only() -> None:
    digits = Digits(np.zeros((50, 7), dtype=np.float32), np.arange(50), "nothing").shuffled(1)
    weak, strong = noisy(digits, 40, 0.5, 1), noisy(digits, 40, 1.0, 1)
    assert np.allclose(2 * weak.training, strong.training)
    assert np.allclose(2 * weak.test, strong.test)
    assert strong.training.std() == pytest.approx(1, abs=0.2)
