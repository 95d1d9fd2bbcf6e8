"""Choosing k by a score of the user's own: the grid, the best, the command, and functions that are none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bigsvd
from bigsvd.errors import RankError, RequestError
from bigsvd.results.scoring import log_grid, scored
from tests.commands import done, refused
from tests.small_arrays import small_matrix

K = 12
USER = '''"""A score."""

import sys

from beside import PEAK

CONSTANT = 3


def peak(factors):
    """The best is in the middle."""
    print("k is", factors.k)
    assert factors.scores.shape[1] == factors.k
    return -abs(factors.k - PEAK)


def broken(factors):
    return 1 / (factors.k - 3)


def ended(factors):
    sys.exit(0)


def undefined(factors):
    return float("nan")


def wordy(factors):
    return "0.9"
'''


@pytest.fixture(scope="module")
def factors(tmp_path_factory: pytest.TempPathFactory) -> bigsvd.Factors:
    folder = tmp_path_factory.mktemp("scoring")
    (folder / "my.py").write_text(USER)
    (folder / "beside.py").write_text("PEAK = 5\n")
    return bigsvd.svd(small_matrix(), K, folder / "factors")


@pytest.fixture
def my(factors: bigsvd.Factors, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the user's, which leaves nothing in this process."""
    monkeypatch.setattr("sys.path", [*sys.path])
    for name in ("my", "beside"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return factors.path.parent / "my.py"


@pytest.mark.parametrize("most", [1, 2, 3, 9, 10, 100, 128, 4097])
def test_the_grid_is_even_in_the_logarithm_and_ends_at_all(most: int) -> None:
    grid = log_grid(most)
    assert grid[0] == 1
    assert grid[-1] == most
    assert list(grid) == sorted(set(grid))
    assert log_grid(100) == (1, 2, 3, 5, 7, 10, 15, 22, 32, 46, 68, 100)
    ratios = np.array(grid[1:]) / np.array(grid[:-1])
    assert ratios.max(initial=0) <= 2.0
    assert len(grid) <= 2 + 6 * np.log10(most)


def test_the_score_is_of_the_leading_triplets_and_the_smallest_best_k_is_chosen(
    factors: bigsvd.Factors,
) -> None:
    def kept(few: bigsvd.Factors) -> Any:
        return np.float32(min(np.linalg.norm(few.s), np.linalg.norm(factors.s[:5])))

    found = factors.rank_by(kept)
    assert found.k == (1, 2, 3, 5, 7, 10, 12)
    np.testing.assert_allclose(
        found.values[:3], [np.linalg.norm(factors.s[:k]) for k in (1, 2, 3)], rtol=1e-6
    )
    assert found.best == 5
    assert found.choice.rule == "best kept"
    assert factors.rank_by(lambda few: -few.k, [7, 4, 7]).by_k == {4: -4.0, 7: -7.0}


@pytest.mark.parametrize("value", [np.nan, np.inf, None, "0.9", 1j, [0.5, 0.6], object()])
def test_what_is_no_finite_number_is_refused(factors: bigsvd.Factors, value: Any) -> None:
    with pytest.raises(RequestError, match=r"at k=1; return one finite number"):
        factors.rank_by(lambda _: value)


def test_a_value_of_no_shape_is_refused(factors: bigsvd.Factors) -> None:
    with pytest.raises(RequestError, match="fails at k=1 with ValueError"):
        factors.rank_by(lambda _: [1, [2, 3]])


def test_k_out_of_range_and_none_are_refused(factors: bigsvd.Factors) -> None:
    with pytest.raises(RankError):
        factors.rank_by(lambda _: 1.0, [K + 1])
    with pytest.raises(RequestError, match="no k to score"):
        scored(factors, lambda _: 1.0, [])


def test_the_command_shows_scores_beside_errors_and_bytes(factors: bigsvd.Factors, my: Path) -> None:
    ended = done("rank", factors.path, "--score", f"{my}:peak")
    header, *rows = ended.out.splitlines()
    assert header.split()[-3:] == ["peak", "chosen", "by"]
    assert {"factors", "error"} < set(header.split())
    assert "k is 5" in ended.err
    assert "k is 5" not in ended.out
    [chosen] = [row for row in rows if "best peak" in row]
    assert chosen.split()[0] == "5"
    facts = done("rank", factors.path, "--score", f"{my}:peak", "--json").facts
    assert facts["score"]["values"] == [-4.0, -3.0, -2.0, 0.0, -2.0, -5.0, -7.0]
    assert facts["score"]["best"] == 5
    assert [choice["k"] for choice in facts["choices"] if choice["rule"] == "best peak"] == [5]
    assert "score" not in done("rank", factors.path, "--json").facts


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my.py:broken", "fails at k=3 with ZeroDivisionError: division by zero"),
        ("my.py:ended", "fails at k=1 with SystemExit"),
        ("my.py:undefined", "is nan at k=1"),
        ("my.py:wordy", "is '0.9' at k=1"),
        ("my.py:CONSTANT", "has no function 'CONSTANT'; it has peak, broken"),
        ("my.py:peek", "has no function 'peek'"),
        ("my.py", "names no function"),
        ("my.py:", "names no function"),
        (":peak", "names no function"),
        ("nowhere.py:peak", "there is no file"),
        ("factors:peak", "there is no file"),
        ("text.txt:peak", "is no Python file"),
        ("wrong.py:peak", "fails with SyntaxError"),
        ("lacking.py:peak", "fails with ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ],
)
def test_a_function_that_is_none_is_refused(factors: bigsvd.Factors, my: Path, name: str, said: str) -> None:
    folder = factors.path.parent
    (folder / "text.txt").write_text("peak = len\n")
    (folder / "wrong.py").write_text("def peak(:\n")
    (folder / "lacking.py").write_text("import nowhere_at_all\n")
    given = name if name.startswith(":") else f"{folder}/{name}"
    error = refused(2, "rank", factors.path, "--score", given)
    assert error.startswith("error[E_REQUEST]")
    assert said in error


def test_a_file_that_is_called_like_a_library_takes_its_place_nowhere(
    factors: bigsvd.Factors, my: Path, tmp_path: Path
) -> None:
    (tmp_path / "numpy.py").write_text("def first(factors):\n    return factors.s[0] / factors.k\n")
    facts = done("rank", factors.path, "--score", f"{tmp_path}/numpy.py:first", "--json").facts
    assert facts["score"]["best"] == 1
    assert sys.modules["numpy"] is np


def test_a_service_runs_no_function(my: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "spy.py").write_text(f"open({str(marker)!r}, 'w')\n\n\ndef f(factors):\n    return 1.0\n")
    address = "http://127.0.0.1:9"
    error = refused(2, "rank", "x", "--service", address, "--score", f"{tmp_path}/spy.py:f")
    assert "--score has no effect with --service" in error
    assert not marker.exists()
