"""Masks are drawn by a counter: by seed, epoch and panel, whatever was drawn before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigsvd.distill.gap_laws import Masks, PatternMasks
from bigsvd.distill.masks import parse_masks
from bigsvd.distill.panels import RowPanels
from bigsvd.distill.rows import Rows
from bigsvd.errors import RequestError
from bigsvd.results.standard import Standard
from bigsvd.sources.open import open_source

SHAPE = (6, 10)
N = 60


def parsed(text: str, standard: Standard | None = None) -> Masks:
    def rows_of(path: str) -> RowPanels:
        return RowPanels(open_source(path), Standard(N), 4)

    return parse_masks(text, standard or Standard(N, data_features=N), SHAPE, rows_of)


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    data = np.arange(9.0 * N).reshape(9, N)
    data[:, ::3] = np.nan
    data[4] = np.nan
    np.save(tmp_path / "new.npy", data)
    np.save(tmp_path / "some.npy", np.array([2, 5, 59]))
    places = [f"empirical:{tmp_path}/new.npy", f"columns:{tmp_path}/some.npy"]
    return ["uniform:0.05..0.6", "blocks:0.2..0.5:7", "blocks:0..0.9:2x3", *places]


def test_what_is_drawn_depends_on_seed_epoch_and_panel_alone(texts: list[str]) -> None:
    for text in texts:
        masks, again = parsed(text), parsed(text)
        first = masks.draw(3, 2, 40, 50, N)
        assert first.shape == (50, N)
        assert first.dtype == bool
        again.draw(3, 2, 90, 10, N)
        np.testing.assert_array_equal(first, again.draw(3, 2, 40, 50, N))
        assert parsed(masks.text).text == masks.text
        if not text.startswith("columns"):
            for other in ((4, 2, 40), (3, 1, 40), (3, 2, 41)):
                assert np.any(first != masks.draw(*other, 50, N))


def test_uniform_shares_lie_between_the_limits() -> None:
    shares = parsed("uniform:0.1..0.3").draw(0, 0, 0, 500, 2000).mean(axis=1)
    assert 0.07 < shares.min() < 0.13
    assert 0.27 < shares.max() < 0.33


def test_blocks_are_seen_or_not_as_wholes() -> None:
    seen = parsed("blocks:0.3..0.7:2x3").draw(1, 0, 0, 400, N).reshape(400, *SHAPE)
    assert 0.4 < seen.mean() < 0.6
    # Neighbours along a side of 3 lie in one block two times in three, and else agree by chance.
    agree = [np.mean(seen[:, :, 1:] == seen[:, :, :-1]), np.mean(seen[:, 1:] == seen[:, :-1])]
    assert 0.79 < agree[0] < 0.9
    assert 0.71 < agree[1] < 0.82
    far = np.mean(seen[:, :, 3:] == seen[:, :, :-3])
    assert far < 0.6


def test_blocks_of_some_of_the_features() -> None:
    ids = np.array([0, 1, 2, 10, 11, 12, 59])
    some = parsed("blocks:0.5..0.5:2x3", Standard(7, ids=ids, data_features=N))
    whole = parsed("blocks:0.5..0.5:2x3")
    np.testing.assert_array_equal(some.draw(0, 1, 2, 30, 7), whole.draw(0, 1, 2, 30, N)[:, ids])


def test_patterns_are_rows_that_there_are(texts: list[str]) -> None:
    seen = parsed(texts[3]).draw(0, 0, 0, 100, N)
    pattern = np.arange(N) % 3 != 0
    expected = {tuple(pattern.tolist()), (False,) * N}
    assert {tuple(row) for row in seen.tolist()} == expected
    sensors = parsed(texts[4]).draw(0, 0, 0, 5, N)
    np.testing.assert_array_equal(np.flatnonzero(sensors.all(axis=0)), [2, 5, 59])
    assert sensors.sum() == 15


def test_a_row_is_seen_no_more_than_it_was() -> None:
    random = np.random.default_rng(0)
    seen = random.random((30, N)) < 0.5
    rows = Rows(8, random.standard_normal((30, N)) * seen, seen)
    masks = parsed("uniform:0.5..0.5")
    found = masks.of(1, 0, rows)
    np.testing.assert_array_equal(found.seen, seen & masks.draw(1, 0, 8, 30, N))
    np.testing.assert_array_equal(found.values, rows.values * found.seen)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("uniform", "is not known"),
        ("uniform:0.1..0.5:3", "is not known"),
        ("uniform:0.5..0.1", "shares from 0.5 to 0.1"),
        ("uniform:0..0", "shares from 0 to 0"),
        ("uniform:1..2", "shares from 1 to 2"),
        ("uniform:1.2.3..2", "is not known"),
        ("blocks:0.1..0.5", "is not known"),
        ("blocks:0.1..0.5:0", "is not known"),
        ("blocks:0.1..0.5:2x2x2", "blocks along 3 axes, the features lie along 6x10"),
        ("gaps:1..2", "is not known"),
    ],
)
def test_what_is_no_mask_is_refused(text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        parsed(text)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([1, N]), f"indices beyond the {N} features"),
        (np.array([-1]), "indices beyond"),
        (np.ones(3, dtype=bool), f"3 truth values, 3 of them true; give one for each of the {N} features"),
        (np.zeros(N, dtype=bool), f"{N} truth values, 0 of them true"),
    ],
)
def test_columns_that_there_are_not_are_refused(tmp_path: Path, values: Any, said: str) -> None:
    np.save(tmp_path / "c.npy", values)
    with pytest.raises(RequestError, match=said):
        parsed(f"columns:{tmp_path}/c.npy")


def test_gaps_of_nothing_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", np.full((3, N), np.nan))
    with pytest.raises(RequestError, match="no observed entry"):
        parsed(f"empirical:{tmp_path}/none.npy")


def test_a_bit_an_entry_is_kept(texts: list[str]) -> None:
    masks = parsed(texts[3])
    assert isinstance(masks, PatternMasks)
    assert masks.packed.nbytes == 9 * 8
