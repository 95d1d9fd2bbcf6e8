"""The examples run as they stand."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from tests.commands import done

EXAMPLES = Path(__file__).parent.parent / "examples"
PNG = b"\x89PNG"


def test_components_of_a_store_in_a_pipeline(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "pca.py"), run_name="__main__")
    explained, accuracy = (line.split()[-1] for line in capsys.readouterr().out.splitlines())
    assert explained == "89.4%"
    assert float(accuracy) > 0.88
    assert (tmp_path / "pca.png").read_bytes().startswith(PNG)


def test_components_of_cells_tell_their_kinds_apart(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "cells.py"), run_name="__main__")
    told = capsys.readouterr().out
    variances = [float(part) for part in told.partition("[")[2].partition("]")[0].split()]
    assert variances[3] > 2 * variances[4]  # four kinds differ in three directions, all cells by their totals
    assert (tmp_path / "cells.png").read_bytes().startswith(PNG)


def test_films_are_of_the_genre_that_a_user_likes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "recommend.py"), run_name="__main__")
    first, second, _, _, *rows = capsys.readouterr().out.splitlines()
    liked = "genre" + first.split()[3]
    assert sum(film.startswith(liked) for film in first.split()[-5:]) >= 4
    genre = second.split()[1].partition("-")[0]
    assert sum(film.startswith(genre) for film in second.split()[-3:]) >= 2
    ndcg = {row[:16].strip(): float(row.split()[-1]) for row in rows}
    assert max(ndcg["PureSVD k=8"], ndcg["PureSVD k=16"]) == max(
        v for k, v in ndcg.items() if k.startswith("Pure")
    )
    assert ndcg["PureSVD k=8"] > 1.2 * ndcg["TopPopular"]
    assert (tmp_path / "recommend.png").read_bytes().startswith(PNG)


def test_ancestry_of_people_old_and_new(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "genetics.py"), run_name="__main__")
    tests, simple, oadp = (line.split() for line in capsys.readouterr().out.splitlines())
    p_values = [float(text) for text in tests[3:]]
    assert max(p_values[:5]) < 1e-10  # five populations differ in four directions, an inversion is the fifth
    assert p_values[5] > 1e-3
    assert float(simple[5]) < 0.88
    assert 0.9 < float(oadp[5]) < 1.1
    for name in ("genetics.png", "loadings.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)


def test_el_nino_is_the_first_mode(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "eof.py"), run_name="__main__")
    explained, correlation, _ = capsys.readouterr().out.splitlines()
    assert explained == "mode 1 explains 48.99% of the variance"
    assert float(correlation.split()[-1]) > 0.9
    assert (tmp_path / "eof.png").read_bytes().startswith(PNG)


def test_digits_are_told_apart_best_by_some_of_their_components(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.delitem(sys.modules, "choose_k", raising=False)
    runpy.run_path(str(EXAMPLES / "choose_k.py"), run_name="__main__")
    table = {int(line[2]): float(line[-1]) for line in map(str.split, capsys.readouterr().out.splitlines())}
    best = max(table, key=table.__getitem__)
    assert 10 <= best <= 22
    assert table[best] > table[64] + 0.03
    score = f"{EXAMPLES}/choose_k.py:accuracy"
    shown = done("rank", "digits.factors", "--score", score, "--plot", "choose_k.png").out
    [line] = [line for line in shown.splitlines() if "best accuracy" in line]
    assert int(line.split()[0]) == best
    assert (tmp_path / "choose_k.png").read_bytes().startswith(PNG)


def test_the_frequencies_of_a_wake_are_those_that_it_was_made_of(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "wake.py"), run_name="__main__")
    _, _, *rows, _, _, error = capsys.readouterr().out.splitlines()
    frequencies = [float(row.split()[0]) for row in rows]
    assert frequencies == pytest.approx([1.6, -1.6, 3.2, -3.2], abs=2e-3)
    assert float(error.split()[4]) < 0.2 * float(error.split()[-1])
    assert (tmp_path / "wake.png").read_bytes().startswith(PNG)


def test_a_network_at_half_its_bytes_is_about_as_accurate(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "compress_network.py"), run_name="__main__")
    _, whole, *thinner = [line.split() for line in capsys.readouterr().out.splitlines()]
    table = {int(k): (int(size.replace(",", "")), float(accuracy)) for k, size, accuracy in [whole, *thinner]}
    size, accuracy = table[256]
    assert accuracy > 0.88
    assert table[32][0] < size / 2
    assert table[32][1] > accuracy - 0.02
    assert table[4][1] < accuracy - 0.2
    assert [sizes for sizes, _ in table.values()] == sorted(
        (sizes for sizes, _ in table.values()), reverse=True
    )
