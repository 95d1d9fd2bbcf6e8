"""Choosing k: the identities behind every column, the laws of every rule, the noise in simulated data."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigsvd.report.plots import write_plot
from bigsvd.report.table import format_table
from bigsvd.results.rank import (
    Choice,
    Spectrum,
    break_even,
    bulk_edge,
    by_bytes,
    by_edge,
    by_energy,
    by_error,
    by_noise,
    choices,
    fit_bulk,
    fit_noise,
    is_settled,
    noise_threshold,
    rank_table,
)

Array = npt.NDArray[np.float64]
NOISE = 0.37
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SMALLEST_PNG = 10_000  # bytes
SHAPES = ((200, 200), (300, 150), (60, 600), (40, 1000), (1500, 30))


def orthonormal(rows: int, columns: int, rng: np.random.Generator) -> Array:
    q: Array = np.linalg.qr(rng.standard_normal((rows, columns)))[0]
    return q


def with_singular_values(shape: tuple[int, int], s: Array, rng: np.random.Generator) -> Array:
    left, right = (orthonormal(side, s.size, rng) for side in shape)
    a: Array = (left * s) @ right.T
    return a


def spectrum_of(a: Array, known: int, itemsize: int = 8) -> Spectrum:
    s = np.linalg.svd(a, compute_uv=False).astype(np.float64)
    return Spectrum(s[:known], float(np.linalg.norm(a)), (a.shape[0], a.shape[1]), a.nbytes, itemsize)


def noisy(shape: tuple[int, int], rank: int, known: int, *, strengths: tuple[float, float]) -> Spectrum:
    """`rank` values in geometric progression, in units of sqrt(max(m, n)) * NOISE, plus Gaussian noise."""
    rng = np.random.default_rng([*shape, rank])
    signal = np.geomspace(*strengths, rank) * math.sqrt(max(shape)) * NOISE
    a = with_singular_values(shape, signal, rng) + NOISE * rng.standard_normal(shape)
    return spectrum_of(a, known)


def matrix(seed: int = 0) -> Array:
    return with_singular_values((40, 25), np.geomspace(8, 0.05, 20), np.random.default_rng(seed))


unhurried = settings(deadline=None)  # the machines that run this are shared


@st.composite
def spectra(draw: st.DrawFn) -> Spectrum:
    values = draw(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30))
    s = np.sort(np.array(values))[::-1]
    beyond = draw(st.floats(0, 3))
    m, n = (s.size + draw(st.integers(0, 50)) for _ in range(2))
    residuals = draw(st.sampled_from([None, np.full(s.size, 1e-3)]))
    frobenius = float(np.linalg.norm(s)) * math.sqrt(1 + beyond)
    return Spectrum(
        s, frobenius, (m, n), draw(st.integers(1, 10**15)), draw(st.sampled_from([2, 4, 8])), residuals
    )


def scaled(spectrum: Spectrum, factor: float) -> Spectrum:
    return Spectrum(
        spectrum.s * factor,
        spectrum.frobenius * factor,
        spectrum.shape,
        spectrum.matrix_bytes,
        spectrum.factor_itemsize,
        spectrum.residuals,
    )


def order(choice: Choice) -> float:
    """k for comparisons; "more than known" is above every k."""
    return math.inf if choice.k is None else choice.k


# The rank table


@pytest.mark.parametrize("known", [1, 7, 20, 25])
def test_rows_are_the_errors_of_the_truncations_themselves(known: int) -> None:
    a = matrix()
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    table = rank_table(spectrum_of(a, known))
    assert [row.k for row in table] == list(range(1, known + 1))
    for row in table:
        rest = a - (u[:, : row.k] * s[: row.k]) @ vt[: row.k]
        norm = np.linalg.norm(a)
        assert row.sigma == pytest.approx(s[row.k - 1], rel=1e-12, abs=1e-13)
        assert row.relative_error == pytest.approx(np.linalg.norm(rest) / norm, rel=1e-10, abs=5e-8)
        assert row.energy == pytest.approx(1 - (np.linalg.norm(rest) / norm) ** 2, abs=1e-14)
        if row.next_sigma is not None:
            assert row.next_sigma == pytest.approx(np.linalg.norm(rest, 2), rel=1e-10, abs=1e-13)


def test_bytes_and_ratio_are_those_of_the_arrays() -> None:
    a = matrix()
    for row in rank_table(spectrum_of(a, 25, itemsize=4)):
        factors = (
            np.empty((40, row.k), "f4").nbytes + np.empty(row.k).nbytes + np.empty((row.k, 25), "f4").nbytes
        )
        assert row.bytes == factors
        assert row.compression_ratio == a.nbytes / factors


@unhurried
@given(spectra())
def test_energy_and_error_are_two_views_of_one_number(spectrum: Spectrum) -> None:
    table = rank_table(spectrum)
    for row in table:
        assert 0 <= row.energy <= 1
        assert row.energy + row.relative_error**2 == pytest.approx(1, abs=1e-14)
    for before, after in itertools.pairwise(table):
        assert after.energy >= before.energy
        assert after.relative_error <= before.relative_error
        assert before.next_sigma == after.sigma


def test_the_value_after_the_last_known_is_unknown_unless_there_is_none() -> None:
    a = matrix()
    assert rank_table(spectrum_of(a, 24))[-1].next_sigma is None
    assert rank_table(spectrum_of(a, 25))[-1].next_sigma == 0


def test_no_error_below_the_cancellation_floor_is_claimed_while_values_are_unknown() -> None:
    s = np.geomspace(1, 1e-12, 20)
    norm = float(np.linalg.norm(s))
    complete = rank_table(Spectrum(s, norm, (30, 20), 4800, 8))
    partial = rank_table(Spectrum(s, norm, (30, 21), 5040, 8))
    assert complete[14].relative_error == pytest.approx(np.linalg.norm(s[15:]) / norm, rel=1e-12)
    assert partial[14].relative_error > math.sqrt(np.finfo(np.float64).eps)
    assert partial[4].relative_error == pytest.approx(complete[4].relative_error, rel=1e-8)


def test_rows_and_choices_are_json() -> None:
    spectrum = Spectrum(np.array([2.0, 1.0]), 3.0, (5, 4), 160, 8, np.array([1e-3, math.inf]))
    rows = [row.to_dict() for row in rank_table(spectrum)]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert [row["residual"] for row in rows] == [1e-3, None]
    assert json.loads(json.dumps(by_noise(spectrum).to_dict()))["rule"] == "noise"


def test_a_zero_matrix_has_nothing_missing_and_no_signal() -> None:
    spectrum = Spectrum(np.zeros(3), 0.0, (6, 5), 240, 8)
    assert all(row.energy == 1 and row.relative_error == 0 for row in rank_table(spectrum))
    assert by_energy(spectrum, 1.0).k == 1
    assert by_noise(spectrum).k == 0


# Scale


@unhurried
@given(spectra(), st.sampled_from([-900, -300, 300, 900]))
def test_choices_and_shares_do_not_depend_on_the_unit(spectrum: Spectrum, exponent: int) -> None:
    other = scaled(spectrum, 2.0**exponent)
    for row, same in zip(rank_table(spectrum), rank_table(other), strict=True):
        assert (row.energy, row.relative_error, row.bytes) == (same.energy, same.relative_error, same.bytes)
        assert same.sigma == row.sigma * 2.0**exponent
    asked = {"energy": 0.8, "error": 0.2, "max_bytes": 3000}
    ks, other_ks = (
        [c.k for c in choices(x, energy=0.8, error=0.2, max_bytes=3000)] for x in (spectrum, other)
    )
    assert ks == other_ks
    assert len(ks) == 4 + len(asked)
    assert fit_noise(other).level == fit_noise(spectrum).level * 2.0**exponent


# Rules


@unhurried
@given(spectra(), st.floats(1e-6, 1), st.floats(1e-6, 1))
def test_more_energy_never_needs_fewer_triplets(spectrum: Spectrum, one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert order(by_energy(spectrum, low)) <= order(by_energy(spectrum, high))


@unhurried
@given(spectra(), st.floats(1e-6, 1))
def test_energy_chooses_the_first_row_that_reaches_the_share(spectrum: Spectrum, share: float) -> None:
    table, k = rank_table(spectrum), by_energy(spectrum, share).k
    before = table[: spectrum.known if k is None else k - 1]
    assert all(row.energy < share for row in before)
    assert k is None or table[k - 1].energy >= share * (1 - 1e-11)


@unhurried
@given(spectra(), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_less_error_never_needs_fewer_triplets(spectrum: Spectrum, one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert order(by_error(spectrum, high)) <= order(by_error(spectrum, low))


@unhurried
@given(spectra(), st.floats(0, 1, exclude_max=True))
def test_error_chooses_the_first_row_within_it(spectrum: Spectrum, error: float) -> None:
    table, k = rank_table(spectrum), by_error(spectrum, error).k
    before = table[: spectrum.known if k is None else k - 1]
    assert all(row.relative_error > error for row in before)
    assert k is None or table[k - 1].relative_error <= error * (1 + 1e-11)


@unhurried
@given(spectra(), st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_bytes_never_fit_fewer_triplets(spectrum: Spectrum, one: int, two: int) -> None:
    low, high = sorted((one, two))
    assert order(by_bytes(spectrum, low)) <= order(by_bytes(spectrum, high))


@unhurried
@given(spectra(), st.integers(0, 10**6))
def test_bytes_chooses_the_largest_k_that_fits(spectrum: Spectrum, max_bytes: int) -> None:
    k = by_bytes(spectrum, max_bytes).k
    assert k is not None
    assert spectrum.factor_bytes(k) <= max_bytes
    assert k == spectrum.most or spectrum.factor_bytes(k + 1) > max_bytes


@unhurried
@given(spectra())
def test_break_even_is_the_first_k_that_costs_more_than_the_matrix(spectrum: Spectrum) -> None:
    k = break_even(spectrum)
    assert spectrum.factor_bytes(k) > spectrum.matrix_bytes >= spectrum.factor_bytes(k - 1)


def test_equal_values_reach_a_share_at_its_exact_count() -> None:
    spectrum = Spectrum(np.ones(10), math.sqrt(10), (10, 10), 800, 8)
    assert [by_energy(spectrum, tenths / 10).k for tenths in range(1, 11)] == list(range(1, 11))
    assert [by_error(spectrum, math.sqrt(1 - tenths / 10)).k for tenths in range(1, 11)] == list(range(1, 11))


def test_rules_that_need_unknown_values_say_so() -> None:
    spectrum = spectrum_of(matrix(), 3)
    for choice in (by_energy(spectrum, 0.9999), by_error(spectrum, 1e-3)):
        assert choice.k is None
        assert choice.note == "needs more than the 3 values known"
    assert "only 3 values are known" in by_bytes(spectrum, 10**5).note


def test_the_standard_rules_come_first_and_the_asked_ones_after_them() -> None:
    spectrum = spectrum_of(matrix(), 20)
    standard = ["energy 90 %", "energy 95 %", "energy 99 %", "noise"]
    assert [c.rule for c in choices(spectrum)] == standard
    assert [c.rule for c in choices(spectrum, energy=0.95, error=0.1, max_bytes=2048)] == [
        *standard,
        "error 0.1",
        "size 2.0 kB",
    ]
    assert "energy 99.9 %" in [c.rule for c in choices(spectrum, energy=0.999)]


# Noise (Gavish & Donoho 2014)


def test_the_threshold_of_a_square_matrix_is_four_over_the_root_of_three() -> None:
    assert noise_threshold(1.0) == pytest.approx(4 / math.sqrt(3), rel=1e-15)
    assert noise_threshold(1e-12) == pytest.approx(math.sqrt(2), rel=1e-6)


@unhurried
@given(st.floats(1e-3, 1))
def test_at_the_threshold_keeping_a_triplet_costs_as_much_as_dropping_it(beta: float) -> None:
    """A signal x appears at y with cosines c, d: |y c d - x|**2 + ... = x**2 exactly where y = 2 x c d."""
    squared = noise_threshold(beta) ** 2
    assert squared > (1 + math.sqrt(beta)) ** 2, "above the edge of the noise"
    excess = squared - 1 - beta
    x_squared = (excess + math.sqrt(excess**2 - 4 * beta)) / 2
    cosines = (x_squared**2 - beta) / (x_squared * math.sqrt((x_squared + 1) * (x_squared + beta)))
    assert math.sqrt(squared) == pytest.approx(2 * math.sqrt(x_squared) * cosines, rel=1e-9)


@pytest.mark.parametrize("rank", [0, 1, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_rank_of_a_signal_in_noise_is_recovered(shape: tuple[int, int], rank: int) -> None:
    spectrum = noisy(shape, rank, known=20, strengths=(12, 3))
    fit = fit_noise(spectrum)
    assert by_noise(spectrum).k == fit.rank == rank
    assert fit.resolved
    assert fit.level == pytest.approx(NOISE, rel=0.03)
    m, n = shape
    expected = noise_threshold(min(m, n) / max(m, n)) * math.sqrt(max(m, n)) * NOISE
    assert fit.threshold == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("shape", [(200, 200), (150, 300)])
def test_the_degrees_of_freedom_of_a_large_rank_are_taken_off(shape: tuple[int, int]) -> None:
    """mn instead of (m-r)(n-r) would underestimate the level by a tenth here."""
    rank = 25
    fit = fit_noise(noisy(shape, rank, known=60, strengths=(400, 4)))
    assert fit.rank == rank
    assert fit.level == pytest.approx(NOISE, rel=0.015)


@pytest.mark.parametrize("shape", SHAPES)
def test_pure_noise_ends_at_its_edge(shape: tuple[int, int]) -> None:
    """And does not end far below: of a hundred matrices the largest value of one may lie above."""
    reached = []
    for seed in range(12):
        a = NOISE * np.random.default_rng([seed, *shape]).standard_normal(shape)
        spectrum = spectrum_of(a, min(shape) // 2)
        fit = fit_bulk(spectrum)
        assert fit.rank == 0
        assert fit.threshold == pytest.approx(NOISE * math.sqrt(bulk_edge(shape)), rel=0.02)
        reached.append(float(spectrum.s[0]) / fit.threshold)
    assert 0.95 < np.mean(reached) < 1


@pytest.mark.parametrize("shape", SHAPES)
def test_components_between_the_edge_and_the_threshold_are_real_but_not_worth_keeping(
    shape: tuple[int, int],
) -> None:
    """Noise lifts a component of strength x to x² (1 + 1/x²)(1 + beta/x²), in units of max(m, n) NOISE²."""
    beta = min(shape) / max(shape)
    edge = bulk_edge(shape) / max(shape)
    wanted = (edge + noise_threshold(beta) ** 2) / 2  # of x² + 1 + beta + beta/x²
    middle = wanted - 1 - beta
    x = math.sqrt((middle + math.sqrt(middle**2 - 4 * beta)) / 2)
    rng = np.random.default_rng([7, *shape])
    signal = np.array([9.0, x]) * math.sqrt(max(shape)) * NOISE
    a = with_singular_values(shape, signal, rng) + NOISE * rng.standard_normal(shape)
    spectrum = spectrum_of(a, min(shape) // 2)
    assert (fit_bulk(spectrum).rank, fit_noise(spectrum).rank) == (2, 1)


def test_a_bulk_is_settled_once_no_residual_reaches_beyond_its_edge() -> None:
    spectrum = noisy((300, 150), 3, 20, strengths=(5, 3))
    fit = fit_bulk(spectrum)
    assert fit.rank == 3
    gap = float((fit.threshold / spectrum.s[3]) ** 2 - 1)
    for residual, settled in ((0.0, True), (gap, True), (gap + 0.2, False)):
        residuals = np.where(np.arange(20) == 3, residual, 0.0)
        assert is_settled(dataclasses.replace(spectrum, residuals=residuals), fit) == settled
    assert not is_settled(spectrum, fit)  # nothing is known of how good the values are
    all_above = dataclasses.replace(spectrum, s=spectrum.s[:3])
    assert is_settled(all_above, fit_bulk(all_above))


def test_the_edge_is_told_as_a_choice_of_the_table() -> None:
    spectrum = noisy((300, 150), 3, 20, strengths=(5, 3))
    assert "  signal" in format_table(spectrum, [by_edge(3, 2.5)])
    assert "signal: no singular value is above the noise, which ends at 2.5" in format_table(
        spectrum, [by_edge(0, 2.5)]
    )


def test_the_number_of_values_known_beyond_the_rank_changes_nothing() -> None:
    fits = [fit_noise(noisy((150, 300), 5, known=known, strengths=(12, 3))) for known in (6, 50, 150)]
    assert [fit.rank for fit in fits] == [5, 5, 5]
    assert [fit.level for fit in fits] == pytest.approx([fits[0].level] * 3, rel=1e-12)


def test_noise_that_is_out_of_sight_asks_for_more_values() -> None:
    choice = by_noise(noisy((150, 300), 8, known=5, strengths=(12, 6)))
    assert choice.k is None
    assert "needs more than the 5 values known" in choice.note


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("known", [8, 20, 100])
def test_rounding_is_not_taken_for_signal(dtype: type[np.floating], known: int) -> None:
    rank = 8
    exact = with_singular_values((200, 100), np.geomspace(100, 1, rank), np.random.default_rng(3)).astype(
        dtype
    )
    spectrum = spectrum_of(exact.astype(np.float64), known, itemsize=exact.itemsize)
    assert by_noise(spectrum).k == fit_noise(spectrum).rank == rank
    assert not fit_noise(spectrum).resolved


@unhurried
@given(spectra())
def test_the_noise_rank_is_a_fixed_point(spectrum: Spectrum) -> None:
    fit = fit_noise(spectrum)
    assert fit.rank == np.count_nonzero(spectrum.s > fit.threshold)
    assert fit.rank < spectrum.most
    m, n = spectrum.shape
    left = rank_table(spectrum)[fit.rank - 1].relative_error ** 2 if fit.rank else 1.0
    explained = (m - fit.rank) * (n - fit.rank) * (fit.level / spectrum.frobenius) ** 2
    assert explained == pytest.approx(left, abs=2 * float(np.finfo(np.float32).eps))


# Refusals


@pytest.mark.parametrize(
    ("s", "frobenius", "shape", "message"),
    [
        ([], 1.0, (3, 3), "1 to min"),
        ([1.0, 1.0, 1.0], 2.0, (2, 9), "1 to min"),
        ([1.0], 1.0, (0, 5), "at least 1"),
        ([1.0, 2.0], 3.0, (3, 3), "rises 1 times"),
        ([1.0, -1.0], 3.0, (3, 3), "negative"),
        ([math.inf], 3.0, (3, 3), "finite"),
        ([1.0], math.nan, (3, 3), "finite"),
        ([1.0, 1.0], 1.0, (3, 3), "not of the same matrix"),
        ([1.0], 0.0, (3, 3), "not of the same matrix"),
    ],
)
def test_a_spectrum_that_cannot_be_is_refused(
    s: list[float], frobenius: float, shape: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Spectrum(np.array(s), frobenius, shape, 72, 8)


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="matrix_bytes is 0"):
        Spectrum(np.ones(1), 1.0, (3, 3), 0, 8)
    with pytest.raises(ValueError, match="residuals have shape"):
        Spectrum(np.ones(1), 1.0, (3, 3), 72, 8, np.ones(2))


def test_targets_that_mean_nothing_are_refused_with_their_value() -> None:
    spectrum = spectrum_of(matrix(), 5)
    for share in (0.0, -0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=f"is {share!r} but"):
            by_energy(spectrum, share)
    for error in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=f"is {error!r} but"):
            by_error(spectrum, error)
    with pytest.raises(ValueError, match="max_bytes is -1"):
        by_bytes(spectrum, -1)
    for beta in (0.0, 1.1):
        with pytest.raises(ValueError, match=f"beta is {beta!r}"):
            noise_threshold(beta)


def test_the_values_cannot_be_changed_behind_the_spectrum() -> None:
    s = np.array([2.0, 1.0])
    spectrum = Spectrum(s, 3.0, (3, 3), 72, 8)
    s[0] = 9
    assert spectrum.s.tolist() == [2, 1]
    with pytest.raises(ValueError, match="read-only"):
        spectrum.s[0] = 9


# What people see


def shown_ks(table: str) -> list[int]:
    return [int(line.split()[0]) for line in table.split("\n\n", maxsplit=1)[0].splitlines()[1:]]


def test_the_table_marks_every_choice_in_its_row() -> None:
    spectrum = spectrum_of(matrix(), 20)
    chosen = choices(spectrum, error=0.3)
    rows = {int(line.split()[0]): line for line in format_table(spectrum, chosen).splitlines()[1:21]}
    for choice in chosen:
        if choice.k:
            assert choice.rule in rows[choice.k]


@unhurried
@given(spectra(), st.integers(2, 40))
def test_a_thinned_table_keeps_the_first_the_last_and_the_marked_rows(
    spectrum: Spectrum, max_rows: int
) -> None:
    chosen = choices(spectrum)
    ks = shown_ks(format_table(spectrum, chosen, max_rows=max_rows))
    marked = {c.k for c in chosen if c.k}
    assert ks == sorted(set(ks))
    assert {1, spectrum.known} | marked <= set(ks)
    assert len(ks) <= max(max_rows, len(marked | {1, spectrum.known}))
    assert spectrum.known > max_rows or len(ks) == spectrum.known


def test_columns_of_the_table_line_up() -> None:
    spectrum = noisy((60, 600), 5, known=40, strengths=(12, 3))
    lines = format_table(spectrum, choices(spectrum)).split("\n\n", maxsplit=1)[0].splitlines()
    ends = [line.index("%") for line in lines[1:]]
    assert len(set(ends)) == 1
    assert lines[0].index("energy") + len("energy") == ends[0] + 1
    assert "residual" not in lines[0], "an empty column is left out"


def test_the_lines_below_the_table_say_what_no_row_can() -> None:
    spectrum = spectrum_of(matrix(), 4)
    below = (
        format_table(spectrum, choices(spectrum, energy=0.9999, max_bytes=1)).split("\n\n")[1].splitlines()
    )
    assert below[0] == "From k = 16 on the factors take more bytes than the matrix (8.0 kB)."
    assert "energy 99.99 %: needs more than the 4 values known" in below
    assert "size 1 B: k = 0: one triplet alone takes 528 B" in below
    roomy = Spectrum(spectrum.s, spectrum.frobenius, spectrum.shape, 10**9, 8)
    assert "never take more bytes" in format_table(roomy, ())


def test_a_shown_energy_never_seems_to_reach_a_share_it_misses() -> None:
    spectrum = Spectrum(np.array([math.sqrt(0.899999), 0.1]), 1.0, (5, 5), 200, 8)
    assert " 89.99 %" in format_table(spectrum, ())


@pytest.mark.parametrize(
    "made",
    [
        lambda: noisy((60, 600), 5, known=40, strengths=(12, 3)),
        lambda: scaled(noisy((150, 300), 5, known=150, strengths=(12, 3)), 1e300),
        lambda: scaled(noisy((60, 600), 5, known=5, strengths=(12, 6)), 1e-300),
        lambda: Spectrum(np.ones(1), 1.0, (1, 1), 8, 8),
        lambda: Spectrum(np.array([1.0, 0.0]), 1.0, (4, 4), 128, 8),
        lambda: Spectrum(np.zeros(3), 0.0, (4, 4), 128, 8),
    ],
    ids=["usual", "huge", "tiny", "one", "with-zero", "zero"],
)
def test_the_plot_is_a_png_of_two_panels(made: Callable[[], Spectrum], tmp_path: Path) -> None:
    spectrum = made()
    path = tmp_path / "rank.png"
    write_plot(spectrum, choices(spectrum, error=0.5, max_bytes=10**4), path, true_s=spectrum.s, title="A")
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert content.startswith(PNG_SIGNATURE)
    assert 0 < height < width
    assert len(content) > SMALLEST_PNG


def test_the_plot_shows_true_values_where_they_are_known(tmp_path: Path) -> None:
    spectrum = spectrum_of(matrix(), 10)
    overlays = (None, spectrum.s[:4], np.ones(25))
    for number, true_s in enumerate(overlays):
        write_plot(spectrum, (), tmp_path / f"{number}.png", true_s=true_s)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == len(overlays)
