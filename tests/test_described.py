"""The words in which a plan and a result say which data they are of and what is done to these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import bigsvd
from bigsvd.cli import main
from bigsvd.described import described
from bigsvd.facts import Packing, SourceFacts
from bigsvd.request import Request
from bigsvd.results.rank import percent

PLAIN = SourceFacts("a", (30, 20), "float32", (10, 20), "f")
FIELD = SourceFacts(
    "sst", (12, 40), "int16", (12, 40), "f", packing=Packing(0.01, 3.0, (-999,)),
    dims=("time", "lat", "lon"), array_shape=(12, 5, 8),
)  # fmt: skip
CALLS = SourceFacts(
    "gt", (30, 20), "int16", (30, 20), "f", samples_axis=1, packing=Packing(fills=(-1,)),
    dims=("variants", "samples"),
)  # fmt: skip
SOME = SourceFacts(
    "u", (6, 9), "float64", (6, 9), "f", array_shape=(4, 12, 3), array_axis=1, full_shape=(12, 12)
)


def lines_of(facts: SourceFacts, left_out: int = 0, **asked: Any) -> dict[str, str]:
    """What is said, by its label."""
    told = described(Request.of("a", 2, **asked), facts, left_out)
    return {line[:14].rstrip(): line[14:] for line in told}


def test_nothing_is_said_that_does_not_apply() -> None:
    assert lines_of(PLAIN) == {"samples": "30 rows", "features": "20 columns"}


@pytest.mark.parametrize(
    ("facts", "asked", "label", "said"),
    [
        (CALLS, {"samples": "samples"}, "samples", "20 columns (samples)"),
        (CALLS, {"samples": "samples"}, "features", "30 rows (variants)"),
        (CALLS, {"sum": "ploidy"}, "sum",
         "entries are summed over ploidy; missing where one of them is missing or negative"),
        (CALLS, {"sum": "-1"}, "sum",
         "entries are summed over axis -1; missing where one of them is missing or negative"),
        (SOME, {"sum": 2}, "sum", "entries are summed over axis 2; missing where one of them is missing"),
        (FIELD, {}, "samples", "12 along time"),
        (FIELD, {}, "features", "40 places of lat x lon (5 x 8)"),
        (FIELD, {"left_out": 7}, "features",
         "40 places of lat x lon (5 x 8), 7 of them missing throughout and left out"),
        (SOME, {}, "samples", "6 of 12 along axis 1"),
        (SOME, {}, "features", "9 of 12 places of axis 0 x axis 2 (4 x 3)"),
        (SOME, {"rows": "0:6", "cols": "sha256:ab"}, "selection", "rows by 0:6, columns by values in memory"),
        (FIELD, {}, "decoding", "stored · 0.01 + 3, -999 for no value (CF attributes)"),
        (PLAIN, {"decode": False}, "decoding", "none: entries are taken as they are stored"),
        (PLAIN, {"functions": ("sqrt", "clip:3")}, "functions",
         "sqrt, clip:3; what is reconstructed is f(A)"),
        (FIELD, {}, "missing", "features without any value are left out; gaps in others are refused"),
        (FIELD, {"missing": "mean"}, "missing",
         "entries without a value are filled by the mean of their feature; features without any value are "
         "left out"),
        (PLAIN, {"missing": "zero"}, "missing", "entries of NaN are filled by 0"),
        (PLAIN, {"missing": "zero", "missing_value": (-9, 1e20)}, "missing",
         "entries of -9 or 1e+20 are filled by 0"),
        (PLAIN, {"center": True}, "centring", "the mean of each feature over the samples is subtracted"),
        (PLAIN, {"offset": "m.npy"}, "offset", "subtracted from features: m.npy"),
        (PLAIN, {"scale": True, "ddof": 1}, "scale",
         "features are divided by their standard deviation, of a sample (ddof 1)"),
        (CALLS, {"scale": "binom2"}, "scale",
         "features are divided by sqrt(2p(1-p)), p being half their mean"),
        (PLAIN, {"scale": "sd.npy"}, "scale", "features are divided by sd.npy"),
        (PLAIN, {"weights": "w.npy"}, "weights", "features are multiplied at last by w.npy"),
        (PLAIN, {"row_weights": "w.npy"}, "row weights", "samples are multiplied at last by w.npy"),
    ],
)  # fmt: skip
def test_what_is_done_is_said(facts: SourceFacts, asked: dict[str, Any], label: str, said: str) -> None:
    assert lines_of(facts, **asked)[label] == said


def test_of_sums_no_attributes_are_told() -> None:
    assert "decoding" not in lines_of(CALLS, sum="ploidy")


def test_a_plan_and_its_result_say_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    calls = rng.integers(0, 2, (40, 12, 2)).astype(np.int8)
    calls[3, 4] = -1
    zarr.create_array(tmp_path / "gt", data=calls, chunks=(20, 6, 2), dimension_names=("v", "samples", "p"))
    asked = "--samples samples --sum p --center --scale patterson --missing mean --rows 0:30"
    options = ["-k", "2", *asked.split()]
    plan = CliRunner().invoke(main, ["plan", str(tmp_path / "gt"), *options])
    assert plan.exit_code == 0, plan.output
    made = CliRunner().invoke(main, ["svd", str(tmp_path / "gt"), str(tmp_path / "u"), *options, "--quiet"])
    assert made.exit_code == 0, made.output
    told = CliRunner().invoke(main, ["info", str(tmp_path / "u")]).output.splitlines()
    planned = plan.output.splitlines()
    own = planned[1 : next(i for i, line in enumerate(planned) if line.startswith("method"))]
    assert own[0] == "samples       12 columns (samples)"
    assert own[1] == "features      30 of 40 rows (v)"
    assert told[1 : 1 + len(own)] == own
    assert len(own) == 7


@pytest.mark.parametrize(("center", "word"), [(True, "variance"), (False, "mean square")])
def test_a_result_says_what_each_triplet_explains(tmp_path: Path, center: bool, word: str) -> None:
    A = np.random.default_rng(1).standard_normal((30, 12)) + 2.0
    factors = bigsvd.svd(A, 3, tmp_path / "u", center=center)
    told = CliRunner().invoke(main, ["info", str(tmp_path / "u")]).output.splitlines()
    [values] = [line[14:] for line in told if line.startswith(f"{word} ")]
    np.testing.assert_allclose(
        [float(value) for value in values.split(", ")], factors.explained_variance(), rtol=1e-5
    )
    [shares] = [line[14:] for line in told if line.startswith("share ")]
    ratios = factors.explained_variance_ratio
    assert shares == ", ".join(map(percent, ratios)) + f"; {percent(ratios.sum())} in all 3"
