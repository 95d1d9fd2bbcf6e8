"""Passes by family: what is counted and judged, on matrices whose answers are known."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from zarr.storage import MemoryStore

from benchmarks.__main__ import main
from benchmarks.contenders import (
    CONTENDERS,
    WINDOW_BLOCKS,
    Answer,
    Contender,
    Task,
    bigsvd_answer,
    bigsvd_krylov,
    dash_svd,
    pcaone_windows,
    renew_in_windows,
    window_ends,
)
from benchmarks.families import (
    FAMILIES,
    HAPMAP_OPTIONS,
    SHAPES,
    Problem,
    Shape,
    decomposed,
    in_memory,
    make_problem,
)
from benchmarks.passes import Targets, exact, follow, judge
from benchmarks.pictures import photographs
from tests.benchmark_runs import check_report_is_made_again

CHOSEN = ("slow-decay", "genotypes")
TARGETS = Targets(1e-2, 1e-3, 8)
SMALL = Shape(400, 60, 3)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("out")
    only = [word for name in CHOSEN for word in ("--only", name)]
    ended = CliRunner().invoke(
        main, ["passes", "--size", "tiny", "--max-passes", "8", "--out", str(out), *only]
    )
    assert ended.exit_code == 0, ended.output
    assert (out / "passes-tiny.png").stat().st_size > 10_000
    assert "plain block Krylov" in (out / "passes-tiny.md").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads((out / "passes-tiny.json").read_text(encoding="utf-8"))
    return loaded


def test_the_report_is_made_again_from_its_file(results: dict[str, Any], tmp_path: Path) -> None:
    check_report_is_made_again(results, tmp_path / "passes-tiny.json")


def problem_of(values: np.ndarray, k: int, **options: Any) -> Problem:
    return Problem("given", "given", in_memory(values, 20, MemoryStore()), k, "a test", options)


def test_every_contender_answers_on_every_family(results: dict[str, Any]) -> None:
    assert [family["name"] for family in results["families"]] == list(CHOSEN)
    for family in results["families"]:
        assert [row["name"] for row in family["contenders"]] == [row.name for row in CONTENDERS]
        for row in family["contenders"]:
            figures = [
                value for point in row["answers"] for name, value in point.items() if name != "claimed"
            ]
            assert np.isfinite(figures).all()
            assert all(point["passes"] >= 1 for point in row["answers"])
            assert [point["passes"] for point in row["answers"]] == sorted(
                {point["passes"] for point in row["answers"]}
            )


def test_ours_arrives_and_means_what_it_says(results: dict[str, Any]) -> None:
    for family in results["families"]:
        ours = family["contenders"][0]
        assert ours["passes_to_residual"] <= 8.2
        assert ours["passes_to_excess"] <= ours["passes_to_residual"]
        last = ours["answers"][-1]
        assert last["residual"] <= last["claimed"] + 1e-6


def test_dask_and_scikit_learn_make_two_passes_and_two_an_iteration(results: dict[str, Any]) -> None:
    for row in results["families"][0]["contenders"][3:6]:
        counted = [point["passes"] for point in row["answers"]]
        assert counted == pytest.approx([2 * i + 2 for i in range(len(counted))])


@pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])
def test_families_are_the_same_each_time(family: Any) -> None:
    first, again = (make_problem(family, SMALL, 0) for _ in range(2))
    np.testing.assert_array_equal(first.stored[:], again.stored[:])
    assert np.linalg.matrix_rank(decomposed(first)) > SMALL.k


def test_exact_triplets_are_judged_exact() -> None:
    A = np.random.default_rng(0).standard_normal((50, 12))
    _, s, Vt = np.linalg.svd(A, full_matrices=False)
    found = judge(Answer(1.0, s[:4], Vt[:4]), exact(A, 4))
    assert found.residual < 1e-12
    assert found.excess < 1e-12
    assert found.accuracy.angle_radians < 1e-7


def test_a_turned_vector_has_the_residual_and_the_excess_of_its_angle() -> None:
    rng = np.random.default_rng(1)
    Q = np.linalg.qr(rng.standard_normal((30, 6)))[0]
    sigma = np.array([9.0, 7.0, 5.0, 3.0, 2.0, 1.0])
    A = Q * sigma  # right singular vectors are the unit vectors
    turned = np.eye(6)[:2]
    turned[1, 1:3] = np.cos(0.2), np.sin(0.2)
    theta = 49 * np.cos(0.2) ** 2 + 25 * np.sin(0.2) ** 2
    found = judge(Answer(1.0, np.array([9.0, theta**0.5]), turned), exact(A, 2))
    assert found.residual == pytest.approx((49 - 25) * np.sin(0.2) * np.cos(0.2) / theta)
    energy = float(np.sum(sigma**2))
    assert found.excess == pytest.approx(np.sqrt(1 - (81 + theta) / energy) - np.sqrt(1 - (81 + 49) / energy))


def test_vectors_along_the_short_side_are_judged_whichever_way_the_matrix_lies() -> None:
    A = np.random.default_rng(2).standard_normal((90, 30)).astype(np.float32)
    for matrix in (A, A.T):
        task = Task(problem_of(matrix, 3), np.ascontiguousarray(matrix), 1e-2, 8)
        reference = exact(matrix.astype(np.float64), 3)
        for contender in CONTENDERS:
            answers = list(islice(contender.answers(task), 2))
            assert all(answer.vectors.shape == (3, 30) for answer in answers)
            assert np.isfinite(judge(answers[-1], reference).residual)


def task_of(matrix: np.ndarray, k: int) -> Task:
    return Task(problem_of(matrix, k), matrix.astype(np.float32), 1e-2, 20)


def narrow(k: int) -> int:
    return k + 10


def easy(sigma: np.ndarray, rows: int) -> np.ndarray:
    rng = np.random.default_rng(6)
    U, V = (np.linalg.qr(rng.standard_normal((length, sigma.size)))[0] for length in (rows, sigma.size))
    return np.asarray((U * sigma) @ V.T)


@pytest.mark.parametrize("contender", [pcaone_windows, dash_svd])
def test_windows_and_shifts_reach_the_values_of_lapack(contender: Any) -> None:
    A = easy(0.8 ** np.arange(60.0), 500)
    for matrix in (A, A.T):
        *_, answer = islice(contender(task_of(matrix, 5), width=narrow), 8)
        np.testing.assert_allclose(answer.sigma, np.linalg.svd(matrix, compute_uv=False)[:5], rtol=1e-5)
        assert judge(answer, exact(matrix, 5)).residual < 1e-4


def test_the_basis_is_renewed_at_half_of_windows_that_double() -> None:
    assert window_ends(0) == set(range(2, 65))
    assert window_ends(1) == {1, *range(4, 65, 2)}
    assert window_ends(4) == {8, 32, 48, 64}
    assert window_ends(5) == {16, 64}


def test_the_last_window_is_the_whole_pass_and_joins_what_the_one_before_left() -> None:
    A = easy(0.9 ** np.arange(30.0), 640)
    rng = np.random.default_rng(7)
    omega, left = rng.standard_normal((30, 8)), 1e-3 * rng.standard_normal((30, 8))
    sums = np.stack([np.zeros_like(left), left])
    found = renew_in_windows(np.array_split(A, WINDOW_BLOCKS), omega, sums, 5)
    start, rest = A[:160], A[160:]
    H = start.T @ (start @ omega.astype(np.float32))
    middle = np.linalg.qr(H + left)[0]
    expected = np.linalg.qr(H + rest.T @ (rest @ middle))[0]
    np.testing.assert_allclose(np.abs(np.sum(found * expected, axis=0)), 1.0, atol=1e-6)


class Counted(np.ndarray):
    """Adds up the entries of what is multiplied."""

    entries = 0

    def __matmul__(self, other: Any) -> Any:
        Counted.entries += self.size
        return np.asarray(self) @ np.asarray(other)


def products(contender: Any) -> list[tuple[float, float]]:
    """Passes of each answer, and the products with the whole matrix that were made up to it."""
    A = easy(0.9 ** np.arange(30.0), 640)
    task = Task(problem_of(A, 3), A.astype(np.float32).view(Counted), 1e-2, 20)
    Counted.entries = 0
    answers = islice(contender(task, width=narrow), 9)
    return [(answer.passes, Counted.entries / A.size) for answer in answers]


def test_passes_are_the_products_made_two_at_a_time() -> None:
    # dashSVD's first and last pass have one product; an answer of PCAone's ends with a plain pass, its own,
    # and up to six epochs in windows, which the next answers share, go before it
    assert products(dash_svd) == [(p, 2 * p - 2) for p in range(2, 11)]
    assert products(pcaone_windows) == [(p, 2 * p + 2 * min(p - 1, 6)) for p in range(1, 10)]


def residual_of(A: np.ndarray, Q: np.ndarray, iterations: int) -> float:
    """Of the leading four after so many power iterations from Q, without windows or shifts."""
    for _ in range(iterations):
        Q = np.linalg.qr(A.T @ (A @ Q))[0]
    _, s, Wt = np.linalg.svd(A @ Q, full_matrices=False)
    return judge(Answer(1.0, s[:4], Wt[:4] @ Q.T), exact(A, 4)).residual


def test_shifts_are_ahead_of_power_iteration_and_windows_at_first() -> None:
    A = easy(np.arange(1.0, 101.0) ** -0.5, 6400)
    task, reference = task_of(A, 4), exact(A, 4)
    start = np.linalg.qr(np.random.default_rng(8).standard_normal((100, 14)))[0]
    *_, shifted = islice(dash_svd(task, width=narrow), 7)
    assert judge(shifted, reference).residual < residual_of(A, start, 7) / 2
    *_, windowed = islice(pcaone_windows(task, width=narrow), 2)
    assert judge(windowed, reference).residual < residual_of(A, start, 2)


def test_our_answers_are_those_of_runs_of_their_own(tmp_path: Path) -> None:
    problem = make_problem(FAMILIES[-1], SMALL, 0)
    task = Task(problem, decomposed(problem).astype(np.float32), 1e-6, 8)
    for number, answer in enumerate(islice(bigsvd_krylov(task), 2), 1):
        fresh = bigsvd_answer(task, number, tmp_path / str(number))
        assert answer.passes == fresh.passes
        np.testing.assert_array_equal(answer.sigma, fresh.sigma)
        np.testing.assert_array_equal(answer.vectors, fresh.vectors)


def test_a_contender_that_never_arrives_is_stopped() -> None:
    def wander(task: Task) -> Iterator[Answer]:
        rng = np.random.default_rng(3)
        for passes in range(1, 100):
            V = np.linalg.qr(rng.standard_normal((12, task.problem.k)))[0]
            yield Answer(float(passes), np.ones(task.problem.k), V.T)

    A = np.random.default_rng(4).standard_normal((40, 12))
    judged = follow(
        Contender("w", "w", "w", wander), Task(problem_of(A, 2), A, 1e-2, 8), exact(A, 2), TARGETS
    )
    assert [point.passes for point in judged] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


def test_given_genotypes_are_filled_centred_and_scaled_as_bigsvd_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    people, sites = 60, 300
    counts = rng.binomial(2, rng.uniform(0.2, 0.8, sites), (people, sites)).astype(np.int8)
    counts[rng.random((people, sites)) < 0.02] = -1
    stored = zarr.create_array(tmp_path / "g.zarr", shape=counts.shape, chunks=(20, 100), dtype="int8")
    stored[:] = counts
    ended = CliRunner().invoke(
        main,
        ["passes", "--size", "tiny", "--only", "fast-decay", "--max-passes", "2", "--tol", "0.5",
         "--method", "dashsvd-3k", "--method", "bigsvd",
         "--hapmap", str(tmp_path / "g.zarr"), "--counts", str(tmp_path / "g.zarr"), "--out", str(tmp_path)],
    )  # fmt: skip
    assert ended.exit_code == 0, ended.output
    text = (tmp_path / "passes-tiny.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    family = json.loads(text)["families"][1]
    assert (family["name"], family["shape"], family["options"]) == ("hapmap", [60, 300], HAPMAP_OPTIONS)
    assert [row["name"] for row in family["contenders"]] == ["bigsvd", "dashsvd-3k"]
    last = family["contenders"][0]["answers"][-1]
    assert last["residual"] <= last["claimed"]
    assert last["excess"] < 0.01  # of another matrix it would be a large part


def test_photographs_are_there_without_other_packages() -> None:
    patches, origin = photographs()
    assert patches.shape[1] == 256
    assert len(patches) > 10_000
    assert "scikit-learn" in origin


def test_sizes_have_room_for_the_rank() -> None:
    assert all(shape.long >= shape.short > 4 * shape.k for shape in SHAPES.values())
