"""B = row_weights·(A − offset)/scale·weights: what is given, what is each column's own, and all together.

Everything is held against LAPACK on B as NumPy forms it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from distributed import Client

import bigsvd
from bigsvd.cli.commands import main
from bigsvd.errors import FactorStoreError, OutputExistsError, RequestError
from bigsvd.events import unheard
from bigsvd.execution.placement import nominal_plan
from bigsvd.request import SCALES, Request
from bigsvd.results.folders import ATTRIBUTE, attributes_of
from bigsvd.solve import make_request, run
from bigsvd.sources.open import open_source
from bigsvd.sources.vectors import name_vectors
from bigsvd.verify import verify
from tests.test_resume import StoppedError, stop_at

GAP = -9
K = 4


@dataclass(frozen=True)
class Asked:
    """A matrix with gaps, and what is asked of it."""

    A: np.ndarray
    gaps: np.ndarray
    options: dict[str, Any]

    @property
    def stored(self) -> np.ndarray:
        return np.where(self.gaps, GAP, self.A).astype(self.A.dtype)


def drawn(seed: int, shape: tuple[int, int], dtype: str, **options: Any) -> Asked:
    """Doses of alleles in three populations, and options: given ones, else as the seed draws them."""
    rng = np.random.default_rng(seed)
    m, n = shape
    group = rng.integers(3, size=m)
    doses = rng.binomial(2, rng.uniform(0.1, 0.9, (3, n))[group]) + 0.0
    doses[:, 0] = 2.0  # monomorphic
    if dtype != "int8":
        doses = np.clip(doses + 0.2 * rng.standard_normal(shape), 0, 2)
        doses[:, 0] = 2.0
    found: dict[str, Any] = {"missing": rng.choice(["none", "mean", "zero"])}
    centring: list[dict[str, Any]] = [{}, {"center": True}, {"offset": rng.uniform(0, 2, n)}]
    found |= centring[rng.integers(3)]
    found["scale"] = [False, *SCALES, rng.uniform(0.5, 2, n)][rng.integers(6)]
    if rng.random() < 0.5:
        found["weights"] = rng.uniform(0.1, 2, n) * (np.arange(n) % 5 > 0)
    if rng.random() < 0.5:
        found["row_weights"] = rng.uniform(0.1, 2, m) * (np.arange(m) % 11 > 0)
    found |= options
    if str(found["scale"]).startswith("std"):
        found["ddof"] = int(rng.integers(2))
    gaps = np.zeros(shape, dtype=bool)
    if found["missing"] != "none":
        gaps = rng.random(shape) < 0.1
        found["missing_value"] = GAP
    return Asked(doses.astype(dtype), gaps, found)


def formed(asked: Asked) -> np.ndarray:
    """B, by NumPy."""
    options, A = asked.options, asked.A.astype(np.float64)
    observed = np.full(A.shape[1], len(A))
    mean = A.mean(axis=0)
    if options["missing"] == "zero":
        A = np.where(asked.gaps, 0.0, A)
        mean = A.mean(axis=0)
    if options["missing"] == "mean":
        mean = np.nanmean(np.where(asked.gaps, np.nan, A), axis=0)
        A = np.where(asked.gaps, mean, A)
        observed = len(A) - asked.gaps.sum(axis=0)
    off = options.get("offset", mean if options.get("center") else 0.0)
    B = (A - off) / divisor(options, A, mean, observed) * options.get("weights", 1.0)
    return np.asarray(B * np.reshape(options.get("row_weights", 1.0), (-1, 1)))


def divisor(options: dict[str, Any], A: np.ndarray, mean: np.ndarray, observed: np.ndarray) -> Any:
    """By what the columns of A, gaps filled, are divided."""
    kind, ddof = options["scale"], options.get("ddof", 0)
    if isinstance(kind, np.ndarray):
        return kind
    p, squares = mean / 2, ((A - mean) ** 2).sum(axis=0)
    found = {
        "False": np.ones_like(mean),
        "std": np.sqrt(squares / (len(A) - ddof)),
        "std-observed": np.sqrt(squares / (observed - ddof)),
        "patterson": np.sqrt(p * (1 - p)),
        "binom2": np.sqrt(2 * p * (1 - p)),
    }[str(kind)]
    return np.where(found > 1e-12, found, 1.0)


def assert_is_of(factors: bigsvd.Factors, B: np.ndarray, tol: float = 1e-5) -> None:
    """Singular values are those of LAPACK, residuals and error what the certificate says."""
    s = np.linalg.svd(B, compute_uv=False)
    U, V = np.asarray(factors.U[:], dtype=float), np.asarray(factors.Vt[:], dtype=float).T
    k = factors.k
    np.testing.assert_allclose(factors.s, s[:k], rtol=0, atol=tol * s[0])
    left, right = B @ V - U * factors.s, B.T @ U - V * factors.s
    residuals = np.maximum(np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=0)) / factors.s
    assert np.all(residuals <= 1.05 * np.array(factors.certificate.residuals) + tol)
    error = np.linalg.norm(B - (U * factors.s) @ V.T) / np.linalg.norm(B)
    assert factors.certificate.relative_error == pytest.approx(
        error, abs=tol + factors.certificate.relative_error_floor
    )


def reconstructed(factors: bigsvd.Factors) -> np.ndarray:
    """A ≈ U·s·Vt in its own units, by NumPy; NaN where nothing is known."""
    found = (np.asarray(factors.U[:], dtype=float) * factors.s) @ np.asarray(factors.Vt[:], dtype=float)
    for weights, axis in ((factors.row_weights, 1), (factors.weights, 0)):
        if weights is not None:
            found = found / np.expand_dims(np.where(weights == 0, np.nan, weights), axis)
    scale, mean = (1.0 if line is None else line for line in (factors.scale, factors.mean))
    return np.asarray(found * scale + (mean if factors.mean is not None else 0.0))


SHAPES = ((90, 40), (30, 110), (250, 20), (50, 50))


@pytest.mark.filterwarnings("ignore:.*constant column")
@pytest.mark.parametrize("seed", range(16))
def test_all_together_are_what_numpy_makes_of_them(seed: int) -> None:
    shape, dtype = SHAPES[seed % 4], ("int8", "float32", "float64")[seed % 3]
    method: Any = ("krylov", "gram", "tall_skinny", "krylov")[seed // 4 % 4]
    asked = drawn(seed, shape, dtype)
    factors = bigsvd.svd(asked.stored, K, method=method, tol=1e-3, **asked.options)
    assert_is_of(factors, formed(asked))
    wanted = reconstructed(factors)
    np.testing.assert_allclose(factors[:], wanted, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(factors[3:9, 2:5], wanted[3:9, 2:5], rtol=1e-3, atol=1e-3)
    assert verify(factors, open_source(asked.stored), unheard).findings == ()


@pytest.mark.filterwarnings("ignore:.*constant column")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(400, 60), (60, 400)])
def test_tiles_and_a_sample_know_them(tmp_path: Path, seed: int, shape: tuple[int, int]) -> None:
    given = {"weights": np.linspace(0, 2, shape[1]), "row_weights": np.linspace(0.5, 2, shape[0])}
    asked = drawn(
        seed, shape, "float32", center=seed % 2 == 0, scale=("std", "patterson")[seed // 2], **given
    )
    asked.options.pop("offset", None)
    zarr.create_array(tmp_path / "a", data=asked.stored, chunks=(10, 15))
    source = open_source(tmp_path / "a")
    vectors = name_vectors(options := dict(asked.options))
    request = make_request(source, K, None, method="krylov", tol=1e-3, **options)
    plan = nominal_plan(request, source.facts)
    tiled = replace(plan, tile_cols=30, reads_per_pass=3 if plan.transposed else 2, sample=())
    sampled = replace(plan, panel_rows=10, lanes=((0, 20), (20, 40)), sample=tuple(range(0, 40, 2)))
    for changed in (tiled, sampled):
        assert_is_of(run(request, source, vectors=vectors, plan=changed), formed(asked))


def test_the_bits_hang_on_no_worker_and_on_no_interruption(client: Client, tmp_path: Path) -> None:
    asked = drawn(
        1, (300, 80), "float32", center=True, scale="binom2", missing="mean",
        weights=np.linspace(0, 1, 80), row_weights=np.linspace(1, 2, 300),
    )  # fmt: skip
    zarr.create_array(tmp_path / "a", data=asked.stored, chunks=(20, 80))
    source = open_source(tmp_path / "a")
    vectors = name_vectors(options := dict(asked.options))
    request = make_request(source, K, str(tmp_path / "u"), method="krylov", tol=1e-6, **options)
    plan = replace(nominal_plan(request, source.facts), panel_rows=20, lanes=((0, 8), (8, 15)), sample=())
    whole = run(replace(request, out=str(tmp_path / "v")), source, vectors=vectors, plan=plan)
    with pytest.raises(StoppedError):
        run(request, source, vectors=vectors, plan=plan, client=client, progress=stop_at("pass", 1))
    resumed = run(request, source, vectors=vectors, plan=plan, client=client)
    for name in ("U", "s", "Vt", "mean", "scale", "weights", "row_weights"):
        np.testing.assert_array_equal(getattr(resumed, name)[:], getattr(whole, name)[:])


def test_a_run_is_not_continued_with_other_values_under_the_same_name(tmp_path: Path) -> None:
    A = np.random.default_rng(0).standard_normal((200, 60))
    path = tmp_path / "w.npy"
    np.save(path, np.ones(60))
    options: dict[str, Any] = {"method": "krylov", "weights": str(path), "tol": 1e-6}
    with pytest.raises(StoppedError):
        bigsvd.svd(A, 3, tmp_path / "u", progress=stop_at("pass", 1), **options)
    np.save(path, np.linspace(1, 2, 60))
    with pytest.raises(OutputExistsError, match="other values of weights"):
        bigsvd.svd(A, 3, tmp_path / "u", **options)
    renewed = bigsvd.svd(A, 3, tmp_path / "u", overwrite=True, **options)
    assert_is_of(renewed, A * np.linspace(1, 2, 60))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(200, 30), (30, 200)])
def test_a_large_offset_costs_no_accuracy(dtype: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    level = 1e6 + 1e5 * rng.standard_normal(shape[1])
    A = (level + rng.standard_normal(shape) * np.linspace(1, 3, shape[1])).astype(dtype)
    for missing in ("none", "mean"):
        gaps = (rng.random(shape) < 0.1) & (missing == "mean")
        stored = np.where(gaps, np.float32(np.nan), A)
        mean = np.nanmean(stored.astype(float), axis=0)
        B = np.where(gaps, mean - level, A.astype(float) - level)
        factors = bigsvd.svd(stored, 3, offset=level, missing=missing, tol=1e-4)
        s = np.linalg.svd(B, compute_uv=False)
        np.testing.assert_allclose(factors.s, s[:3], rtol=2e-7)


def test_given_offset_and_scale_need_no_statistics() -> None:
    rng = np.random.default_rng(3)
    A, off, scale = rng.standard_normal((300, 40)), rng.standard_normal(40), rng.uniform(1, 2, 40)
    factors = bigsvd.svd(A, 40, offset=off, scale=scale, method="krylov")
    assert factors.provenance["costs"]["passes"] == 1
    assert factors.certificate.counts is not None
    assert factors.certificate.counts.constant == 0
    assert_is_of(factors, (A - off) / scale, 1e-12)
    np.testing.assert_array_equal(factors.mean, off)
    np.testing.assert_array_equal(factors.scale, scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "size"),
    [("weights", 1e30), ("weights", 1e-30), ("row_weights", 1e200), ("scale", 1e-40), ("scale", 1e40)],
)
def test_units_of_what_is_given_may_be_any(dtype: str, name: str, size: float) -> None:
    A = np.random.default_rng(4).standard_normal((120, 120)).astype(dtype)
    values = np.linspace(1, 2, 120) * size
    options: dict[str, Any] = {name: values}
    factors = bigsvd.svd(A, 3, tol=1e-4, **options)
    wide = np.reshape(np.linspace(1, 2, 120), (-1, 1) if name == "row_weights" else (1, -1))
    B, unit = (A / wide, 1 / size) if name == "scale" else (A * wide, size)
    s = np.linalg.svd(B.astype(float), compute_uv=False)[:3]
    np.testing.assert_allclose(factors.s / unit, s, rtol=1e-5)
    assert factors.certificate.frobenius_norm / unit == pytest.approx(np.linalg.norm(B), rel=1e-5)


def test_factors_that_differ_beyond_float32_are_multiplied_in_float64() -> None:
    rng = np.random.default_rng(5)
    level = np.logspace(-30, 30, 40)
    A = rng.standard_normal((100, 40)).astype(np.float32) * level.astype(np.float32)
    factors = bigsvd.svd(A, 3, tol=1e-4, scale=level)
    s = np.linalg.svd(A.astype(float) / level, compute_uv=False)
    np.testing.assert_allclose(factors.s, s[:3], rtol=1e-6)


def test_what_has_no_weight_is_not_known() -> None:
    rng = np.random.default_rng(6)
    A = rng.standard_normal((40, 12)) + 3
    weights, row_weights = np.ones(12), np.full(40, 2.0)
    weights[3] = row_weights[7] = 0
    factors = bigsvd.svd(A, 11, center=True, scale=True, weights=weights, row_weights=row_weights)
    found = np.asarray(factors)
    assert np.isnan(found[7]).all()
    assert np.isnan(found[:, 3]).all()
    known = np.delete(np.delete(found, 7, 0), 3, 1)
    np.testing.assert_allclose(known, np.delete(np.delete(A, 7, 0), 3, 1), atol=1e-10)
    for read in (factors.reconstruct().compute(), factors.as_zarr()[:], factors.truncate(11)[:]):
        np.testing.assert_array_equal(read, found)
    new = A.copy()
    new[:, 3] = np.nan
    scores = np.asarray(factors.U[:]) * factors.s
    np.testing.assert_allclose(row_weights[:, None] * factors.project(new), scores, atol=1e-10)


def test_genotypes_of_the_sgkit_example_have_its_figures() -> None:
    """The docstring of sgkit's `pca`: Patterson's scaling, variances of the scores (ddof 0)."""
    rs = np.random.RandomState(0)
    frequencies = np.concatenate([np.stack([rs.uniform(0.1, 0.9, 100)] * size) for size in (25, 50, 75)])
    calls = rs.binomial(2, frequencies.T).astype("int8")
    factors = bigsvd.svd(calls.T, 2, center=True, scale="patterson", tol=1e-5)
    np.testing.assert_allclose(factors.s**2 / 150, [44.242146, 23.492842], rtol=1e-5)
    ratio = factors.s**2 / factors.certificate.frobenius_norm**2
    np.testing.assert_allclose(ratio, [0.191536, 0.101707], rtol=1e-5)


@pytest.mark.parametrize("shape", [(60, 20), (20, 60)])
@pytest.mark.parametrize("kind", ["patterson", "binom2"])
def test_what_does_not_count_alleles_is_refused(kind: str, shape: tuple[int, int]) -> None:
    """A missing call too that nobody has named, though all means are those of alleles."""
    A = np.random.default_rng(7).binomial(2, 0.4, shape)
    A[[4, 9], 5] = -1, 3
    said = f"scale='{kind}' is for alleles .* 2 entries, the first at row 4, column 5, .*missing='mean'"
    with pytest.raises(RequestError, match=said):
        bigsvd.svd(A, 2, scale=kind)
    A[9, 5] = 2
    bigsvd.svd(A, 2, scale=kind, center=True, missing="mean", missing_value=-1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"offset": np.ones(5), "center": True},
            "center=True and offset='sha256:.* both say what is subtracted",
        ),
        ({"weights": np.ones(6)}, "weights has 6 values for 5 columns; give one for each"),
        ({"row_weights": np.ones(5)}, "row_weights has 5 values for 9 rows; give one for each"),
        (
            {"weights": [1, 1, -1, 1, 1]},
            "weights has 1 of 5 values that are not 0 or more, the first -1 at 2",
        ),
        ({"scale": [1, 1, 0, 1, 1]}, "scale has 1 of 5 values that are not positive, the first 0 at 2"),
        (
            {"offset": [1, np.inf, 0, 1, 1]},
            "offset has 1 of 5 values that are not finite, the first inf at 1; replace them by 0",
        ),
        ({"scale": "no-such-file"}, "scale=no-such-file does not exist"),
        ({"scale": 2.0}, "give a vector"),
        ({"weights": True}, "give a vector"),
        ({"ddof": 1}, "ddof=1 with scale=False"),
        ({"ddof": 1, "scale": "patterson"}, "ddof=1 with scale='patterson'"),
        ({"ddof": 2, "scale": True}, "ddof=2"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(bigsvd.errors.BadInputError, match=said):
        bigsvd.svd(np.ones((9, 5)), 1, **options)
    with pytest.raises(bigsvd.errors.BadInputError, match=said):
        bigsvd.plan(np.ones((9, 5)), 1, **options)


def test_a_request_holds_names_and_a_plan_of_them_can_be_run(tmp_path: Path) -> None:
    A, w = np.random.default_rng(8).standard_normal((80, 20)), np.linspace(1, 2, 20)
    plan = bigsvd.plan(A, 3, weights=w, scale="std")
    assert plan.request.scale is True
    assert plan.request.weights is not None
    assert plan.request.weights.startswith("sha256:")
    assert Request.from_dict(plan.request.to_dict()) == plan.request
    source = open_source(A)
    with pytest.raises(RequestError, match="weights was in memory when the request was made"):
        run(plan.request, source, plan=plan)
    options: dict[str, Any] = {"weights": w}
    factors = run(plan.request, source, plan=plan, vectors=name_vectors(options))
    assert_is_of(factors, A / A.std(axis=0) * w)


def test_stores_without_weights_keep_the_format_that_older_readers_know(tmp_path: Path) -> None:
    A = np.random.default_rng(9).standard_normal((30, 10))
    bigsvd.svd(A, 2, tmp_path / "u", offset=np.ones(10), scale=np.full(10, 2.0))
    bigsvd.svd(A, 2, tmp_path / "w", weights=np.ones(10))
    formats = [attributes_of(tmp_path / name)[ATTRIBUTE]["format_version"] for name in ("u", "w")]
    assert formats == [1, 2]
    assert bigsvd.open(tmp_path / "u").weights is None
    weights = tmp_path / "w" / "weights"
    chunk = next(path for path in weights.rglob("*") if path.is_file() and path.name != "zarr.json")
    chunk.unlink()
    with pytest.raises(FactorStoreError, match="weights"):
        bigsvd.open(tmp_path / "w")


def typed(*arguments: object) -> tuple[int, str]:
    ended = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return ended.exit_code, ended.output


def test_from_the_command_line(tmp_path: Path) -> None:
    asked = drawn(
        11, (60, 25), "int8", center=True, scale="binom2", missing="none",
        weights=np.linspace(0.5, 1, 25), row_weights=np.linspace(1, 2, 60),
    )  # fmt: skip
    asked.options.pop("offset", None)
    data = tmp_path / "a.zarr"
    zarr.create_array(data, data=asked.stored, chunks=(20, 10))
    np.save(tmp_path / "w.npy", asked.options["weights"])
    zarr.create_array(tmp_path / "r", data=asked.options["row_weights"])
    more = ["--center", "--weights", tmp_path / "w.npy", "--row-weights", tmp_path / "r", "--quiet"]
    assert typed("svd", data, tmp_path / "u", "-k", 3, "--tol", 1e-4, "--scale", "binom2", *more)[0] == 0
    assert_is_of(bigsvd.open(tmp_path / "u"), formed(asked))
    assert typed("verify", tmp_path / "u", data)[0] == 0
    np.save(tmp_path / "d.npy", np.full(25, 2.0))
    by_path = [f"--scale={tmp_path / 'd.npy'}", "--offset", tmp_path / "w.npy", "--quiet"]
    assert typed("svd", data, tmp_path / "v", "-k", 3, "--tol", 1e-4, *by_path)[0] == 0
    assert_is_of(bigsvd.open(tmp_path / "v"), (asked.A - asked.options["weights"]) / 2)
    assert (
        typed("svd", "--scale", data, tmp_path / "s", "-k", 3, "--ddof", 1, "--tol", 1e-4, "--quiet")[0] == 0
    )
    own = asked.A.std(axis=0, ddof=1)
    assert_is_of(bigsvd.open(tmp_path / "s"), asked.A / np.where(own > 0, own, 1))
    plan = typed("plan", data, "-k", 3, "--scale", "--weights", tmp_path / "w.npy", "--json")
    (tmp_path / "plan.json").write_text(plan[1])
    assert typed("svd", data, tmp_path / "p", "--plan", tmp_path / "plan.json", "--quiet")[0] == 0
    own = asked.A.std(axis=0)
    assert_is_of(
        bigsvd.open(tmp_path / "p"), asked.A / np.where(own > 0, own, 1) * asked.options["weights"], 1e-2
    )
