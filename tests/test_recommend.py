"""`bigsvd recommend`: scores are products of the factors, what was seen is left out, ranks are measured."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from scipy.sparse import csr_matrix

import bigsvd
from bigsvd.cli import main
from bigsvd.distill.predicting import predict
from bigsvd.errors import BigsvdError, MemoryBudgetError, RankError, RequestError, SourceError
from bigsvd.recommend import top
from bigsvd.recommend.evaluation import evaluate
from bigsvd.recommend.measures import measured
from bigsvd.recommend.ratings import from_table, ids_of
from bigsvd.recommend.recommender import Recommender
from tests.sparse_groups import counts
from tests.students import Law, by_hand, gaps

USERS, ITEMS, K = 60, 30, 4
A = counts(USERS, ITEMS, 0.3).toarray()
A[np.arange(USERS), np.arange(USERS) % ITEMS] = 1  # every user and item is in the table


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of ratings, the matrix that is made of it, and factors of this at `out`."""
    folder = tmp_path_factory.mktemp("ratings")
    rows = [f"u{u}\ti{i}\t{A[u, i]:g}\t0" for u, i in zip(*A.nonzero(), strict=True)]
    (folder / "a.inter").write_text("\n".join(["user_id:token\titem_id:token\trating:float\tt:float", *rows]))
    bigsvd.svd(from_table(folder / "a.inter", folder / "a.zarr"), K, folder / "out", memory="500MB")
    return folder


@pytest.fixture(scope="module")
def by(store: Path) -> Recommender:
    return Recommender(store / "out")


def ratings(by: Recommender) -> np.ndarray:
    """The matrix in the order of the store, of the ids."""
    assert by.users is not None
    assert by.items is not None
    rows, cols = ([int(name[1:]) for name in names] for names in (by.users, by.items))
    return np.asarray(A[np.ix_(rows, cols)])


def test_the_best_are_those_of_the_truncated_matrix_without_what_was_seen(by: Recommender) -> None:
    given = ratings(by)
    U, s, Vt = np.linalg.svd(given, full_matrices=False)
    scores = np.where(given != 0, -np.inf, (U[:, :K] * s[:K]) @ Vt[:K])
    assert by.users is not None
    best = by.recommend(by.users[7], 5)
    np.testing.assert_allclose(best.scores[0], np.sort(scores[7])[::-1][:5], atol=1e-5)
    np.testing.assert_allclose(scores[7][best.items[0]], best.scores[0], atol=1e-5)


def test_a_user_folded_in_gets_what_the_same_user_of_the_training_gets(by: Recommender) -> None:
    np.testing.assert_allclose(
        by.fold_in(ratings(by)[7:9], 5).scores[0], by.recommend(7, 5).scores[0], atol=1e-5
    )


def test_new_users_of_items_in_another_order_are_refused(by: Recommender, store: Path) -> None:
    """Their answer would look like any other."""
    same = from_table(store / "a.inter", store / "same.zarr")
    assert len(by.fold_in(same).items) == by.factors.shape[0]
    index: Any = zarr.open_group(store / "same.zarr", mode="r+")["var/_index"]
    index[:] = np.asarray(index[:], object)[::-1]
    with pytest.raises(RequestError, match=r"30 of 30 items .* column 0 is '.*', and not '.*'; bring"):
        by.fold_in(same)


def test_all_users_in_blocks_are_as_one_by_one(by: Recommender, store: Path) -> None:
    by.write(store / "top", 5, memory_bytes=40_000)
    found: Any = zarr.open_group(store / "top", mode="r")
    assert len(list(by.blocks(5, 40_000))) > 1
    assert found.attrs["complete"] is True
    for row in (0, 33, USERS - 1):
        np.testing.assert_array_equal(found["items"][row], by.recommend(row, 5).items[0])
    seen = np.take_along_axis(ratings(by), np.maximum(found["items"][:], 0), axis=1)
    assert not seen[found["items"][:] >= 0].any()


def test_similar_items_are_those_of_greatest_cosine(by: Recommender) -> None:
    scaled = by.item_factors * by.factors.s
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    alike = np.delete(scaled @ scaled[3], 3)
    np.testing.assert_allclose(by.similar(3, 4).scores[0], np.sort(alike)[::-1][:4], atol=1e-5)


@pytest.mark.parametrize("way", ["random", "ascending", "ties"])
def test_tiles_of_items_give_the_best_of_all_of_them(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(top, "TILE_ITEMS", 7)
    monkeypatch.setattr(top, "TILE_USERS", 16)
    random = np.random.default_rng(0)
    scores = random.standard_normal((40, 60)).astype(np.float32)
    scores = {"random": scores, "ascending": np.sort(scores, axis=1), "ties": np.round(scores)}[way]
    seen = csr_matrix(random.random((40, 60)) < np.linspace(0, 1, 40)[:, np.newaxis])
    found = top.top_of_products(np.eye(40, dtype=np.float32), scores.T, seen, 9)
    scores[seen.nonzero()] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :9]
    best = np.take_along_axis(scores, order, axis=1)
    np.testing.assert_array_equal(found.scores, best)
    np.testing.assert_array_equal(found.items, np.where(np.isneginf(best), -1, order))


def test_scores_of_centred_and_scaled_ratings_are_what_is_reconstructed(store: Path, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a", data=A, chunks=(20, 10))
    factors = bigsvd.svd(str(tmp_path / "a"), K, tmp_path / "out", center=True, scale=True, memory="500MB")
    by = Recommender(factors)
    expected = np.where(A != 0, -np.inf, factors[:])
    np.testing.assert_allclose(by.recommend(7, 5).scores[0], np.sort(expected[7])[::-1][:5], atol=1e-5)
    np.testing.assert_allclose(by.fold_in(A[7:8], 5).scores, by.recommend(7, 5).scores, atol=1e-5)
    with pytest.raises(RequestError, match="NaN"):
        by.fold_in(np.full((1, ITEMS), np.nan))


def test_predicted_factors_say_so_and_leave_out_what_was_seen(tmp_path: Path) -> None:
    law = Law.of()
    by_hand(law.rows(500, 1), tmp_path / "student")
    complete = law.rows(100, 2)
    data = np.where(gaps(complete.shape, 0.3), np.nan, complete)
    zarr.create_array(tmp_path / "new", data=data, chunks=(100, 40))
    predicted = predict(tmp_path / "student", tmp_path / "new", tmp_path / "out", k=4, stage="ridge")
    found = Recommender(predicted).recommend(3, 40)
    assert set(found.items[0][found.items[0] >= 0]) == set(np.flatnonzero(np.isnan(data[3])))
    scores = predicted[3:4][0][found.items[0][:5]]
    np.testing.assert_allclose(found.scores[0][:5], scores, atol=1e-5)
    ended = CliRunner().invoke(main, ["recommend", str(tmp_path / "out"), "--user", "3"])
    assert "predicted by stage ridge" in ended.stderr
    ended = CliRunner().invoke(main, ["recommend", str(tmp_path / "out"), "--all", str(tmp_path / "top")])
    assert "predicted by stage ridge" in ended.stderr
    assert "not computed" in str(zarr.open_group(tmp_path / "top", mode="r").attrs["predicted"])


def test_measures_by_hand() -> None:
    hidden = csr_matrix(np.array([[1, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]))
    found = measured(np.array([[0, 3], [2, 3], [0, 1]]), hidden)
    first, second = 1 / (1 + 1 / np.log2(3)), 1 / np.log2(3)
    assert found.precision == 0.5
    assert found.recall == pytest.approx((1 / 3 + 1) / 2)
    assert found.ndcg == pytest.approx((first + second) / 2)


def test_commands_print_ids_and_a_table(store: Path) -> None:
    run = CliRunner().invoke
    best = run(main, ["recommend", str(store / "out"), "--user", "u7", "-n", "3", "--json"])
    assert [item[0] for item in json.loads(best.output)["items"]] == ["i"] * 3
    several = run(main, ["recommend", str(store / "out"), "--rows", str(store / "a.zarr/X"), "-n", "2"])
    assert [line.split("\t")[0] for line in several.stdout.splitlines()[:4]] == ["0", "0", "1", "1"]
    plot = store / "gains.png"
    table = run(main, ["recommend-evaluate", str(store / "a.zarr/X"), "-k", "2,4", "--plot", str(plot)])
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert [line.split()[0] for line in table.output.splitlines()[2:]] == [
        "TopPopular", "PureSVD", "PureSVD", "EASE"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda by, _: by.recommend(60), RequestError, "user 60 is not one of 60"),
        (lambda by, _: by.recommend("nobody"), RequestError, "'nobody'"),
        (lambda by, _: by.recommend(0, 31), RequestError, "n is 31, there are 30"),
        (lambda by, _: by.fold_in(np.ones((1, 29))), RequestError, "29 items, the factors 30"),
        (lambda by, _: list(by.blocks(5, 100)), MemoryBudgetError, "budget is"),
        (lambda _, store: Recommender(store / "out", store / "gone"), SourceError, "gone"),
        (lambda _, store: from_table(store / "a.inter", store / "a.zarr"), RequestError, "exists"),
        (
            lambda _, store: from_table(store / "a.inter", store, overwrite=True),
            RequestError,
            "exists",
        ),
        (lambda *_: evaluate(np.eye(10), [2]), RequestError, "10 users none are hidden at holdout=0.2"),
        (
            lambda *_: Recommender(bigsvd.svd(A, 2, memory="500MB")),
            RequestError,
            "in memory; give it as seen",
        ),
        (lambda _, store: Recommender(store / "out", users=["a"]), RequestError, "1 ids of 60"),
        (lambda _, store: evaluate(store / "a.zarr/X", [31]), RankError, "31"),
        (
            lambda _, store: evaluate(store / "a.zarr/X", memory_bytes=100),
            MemoryBudgetError,
            "EASE of 30 items",
        ),
        (lambda _, store: evaluate(store / "a.zarr/X", n=31, ks=[2]), RequestError, "n is 31"),
        (lambda _, store: evaluate(store / "a.zarr/X", []), RankError, "k of"),
        (lambda _, store: evaluate(store / "a.zarr/X", [2], holdout=-0.1), RequestError, "holdout=-0.1"),
        (lambda _, store: evaluate(store / "a.zarr/X", [2], ease=-200.0), RequestError, "ease=-200.0"),
        (lambda _, store: Recommender(store / "out", users=[]), RequestError, "0 ids of 60"),
        (lambda _, store: from_table(latin(store), store / "b.zarr"), SourceError, "cannot be read"),
        (lambda _, store: ids_of(latin(store)), SourceError, "cannot be read"),
        (
            lambda _, store: from_table(store / "a.inter", store / "b.zarr", separator="::"),
            SourceError,
            "one character",
        ),
    ],
)
def test_bad_input_is_refused_with_its_numbers(
    by: Recommender, store: Path, call: Any, error: type[BigsvdError], text: str
) -> None:
    with pytest.raises(error, match=text):
        call(by, store)


def latin(store: Path) -> Path:
    """A table whose text is not in UTF-8."""
    path = store / "latin.csv"
    path.write_bytes("user,item\nJosé,1\n".encode("latin-1"))
    return path


def test_ids_may_be_an_array(by: Recommender, store: Path) -> None:
    names = np.array([f"u{i}" for i in range(60)])
    found = Recommender(store / "out", users=names)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.recommend("u7").items, by.recommend(7).items)


def test_of_some_users_those_ids_are_known(store: Path, tmp_path: Path) -> None:
    everyone = Recommender(store / "out").users
    assert everyone is not None
    bigsvd.svd(store / "a.zarr/X", 2, tmp_path / "few", rows=slice(10, 40))
    found = Recommender(tmp_path / "few")
    assert found.users == everyone[10:40]
    np.testing.assert_array_equal(found.recommend(everyone[13]).items, found.recommend(3).items)


def test_without_ease_its_matrix_needs_no_memory(store: Path) -> None:
    found = evaluate(store / "a.zarr/X", [2], ease=None, memory_bytes=20_000)
    assert list(found.rows) == ["TopPopular", "PureSVD k=2"]
    everything = evaluate(store / "a.zarr/X", [2]).rows
    assert found.rows.items() < everything.items()


@pytest.mark.skipif("BIGSVD_ML100K" not in os.environ, reason="BIGSVD_ML100K names no ml-100k.inter")
def test_movielens_in_the_order_that_is_published(tmp_path: Path) -> None:
    found = evaluate(from_table(os.environ["BIGSVD_ML100K"], tmp_path / "a.zarr")).rows
    order = [found[name].ndcg for name in ("TopPopular", "PureSVD k=13", "EASE")]
    assert order == sorted(order)
