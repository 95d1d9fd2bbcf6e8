"""What a caller has NumPy raise or warn of changes nothing of ours, whatever `np.seterr` says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from distributed import Client

import bigsvd
from bigsvd import cli
from bigsvd.execution.dask_executor import local_client
from bigsvd.report.table import format_table
from bigsvd.results import rank
from bigsvd.results.certificate import angle_bounds, relative_error, sigma_bounds
from bigsvd.sources.open import open_source
from bigsvd.verify import verify

RNG = np.random.default_rng(7)
M, N, K = 90, 40, 6
SIGMA = np.logspace(0, -9, N)


def orthonormal(rows: int, cols: int) -> np.ndarray:
    return np.asarray(np.linalg.qr(RNG.standard_normal((rows, cols)))[0])


PLAIN = (orthonormal(M, N) * SIGMA) @ orthonormal(N, N).T
GAPPY = np.where(RNG.random((M, N)) < 0.05, np.nan, PLAIN + 3)
GAPPY[:, 4] = np.nan  # a column of which nothing is known
GAPPY[:, 7] = 1.5  # and one that is constant
CASES: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "krylov": (PLAIN, {"method": "krylov", "tol": 1e-6}),
    "gram": (PLAIN, {"method": "gram"}),
    "tall_skinny": (PLAIN, {"method": "tall_skinny"}),
    "compressed": (PLAIN, {"method": "compressed", "power_iterations": 3}),
    "float32": (PLAIN.astype("float32"), {}),
    "tiny": (PLAIN * 1e-300, {}),
    "subnormal": (PLAIN * 1e-310, {}),
    "huge": (PLAIN * 1e300, {}),
    "zero": (np.zeros((M, N)), {}),
    "gaps": (GAPPY, {"missing": "mean", "center": True, "scale": True}),
    "wide gaps": (np.ascontiguousarray(GAPPY.T), {"missing": "mean", "center": True, "scale": True}),
    "huge mean": (PLAIN + 1e12, {"center": True, "scale": True}),
    "rank one": (np.outer(np.arange(M), np.ones(N)), {}),
}


def _settings() -> dict[str, Any]:
    return {**np.geterr()}


@pytest.fixture(scope="module")
def raising() -> Iterator[Client]:
    """A cluster whose threads raise: Dask's threads take over the context in which they were started."""
    with np.errstate(all="raise"), local_client(2) as client:
        assert set(client.submit(_settings).result().values()) == {"raise"}
        yield client


@pytest.mark.parametrize("name", CASES)
def test_a_run_is_that_of_a_caller_who_raises_nothing(
    name: str, raising: Client, client: Client, tmp_path: Path
) -> None:
    values, options = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with np.errstate(all="ignore"):
            expected = bigsvd.svd(values, K, client=client, **options)
        with np.errstate(all="raise"):
            found = bigsvd.svd(values, K, tmp_path / "raising", client=raising, **options)
    np.testing.assert_array_equal(found.s, expected.s)
    assert found.certificate.to_dict() == expected.certificate.to_dict()
    with np.errstate(all="raise"):
        source = open_source(values, missing=options.get("missing", "none"))
        assert verify(found, source, lambda _: None, raising).findings == ()
        use(found)
        use(found.truncate(1))


def use(factors: bigsvd.Factors) -> None:
    """Everything that factors offer."""
    m, n = factors.shape
    whole = np.asarray(factors)
    np.testing.assert_array_equal(factors[: m // 2, [0, n - 1]], whole[: m // 2, [0, n - 1]])
    np.testing.assert_array_equal(factors.reconstruct().compute(), whole)
    np.testing.assert_array_equal(factors.as_zarr()[3], whole[3])
    assert factors.project(np.ones(n) * 1e-300).shape == (factors.k,)
    assert len(factors.rank_table()) == factors.k
    spectrum = factors.spectrum()
    chosen = rank.choices(spectrum, energy=0.5, error=0.5, max_bytes=10_000)
    assert format_table(spectrum, chosen)
    assert rank.break_even(spectrum)
    assert str(factors.certificate)
    assert factors.info()["k"] == factors.k
    U, s, Vt = factors
    assert (U.shape[1], s.size, Vt.shape[0]) == (factors.k,) * 3


@pytest.mark.parametrize("k", ["energy", "error", "max_bytes", "noise"])
def test_so_is_the_choice_of_a_rank(k: str, raising: Client) -> None:
    rule: dict[str, Any] = {
        "energy": {"energy": 0.9},
        "error": {"error": 0.01},
        "max_bytes": {"max_bytes": 4000},
    }
    noise = PLAIN * 100 + RNG.standard_normal((M, N)) * 1e-3
    with np.errstate(all="raise"):
        assert bigsvd.svd(noise, "auto", client=raising, **rule.get(k, {})).k >= 1


def test_so_is_a_plan() -> None:
    with np.errstate(all="raise"):
        assert str(bigsvd.plan(PLAIN, K))


def test_bounds_of_vanishing_values_are_bounds() -> None:
    sigma, residuals = np.array([1e200, 1.0, 1e-200, 0.0]), np.array([0.0, 1e-300, 0.5, 1e300])
    with np.errstate(all="raise"):
        assert np.all(angle_bounds(residuals, sigma, np.array([1e-300]), 1e-16) <= 1)
        assert np.all(sigma_bounds(residuals, sigma, 1e-16) >= 0)
        assert 0 <= relative_error(sigma, 1e200, 1e-16)[0] <= 1


def test_the_command_line_is_no_less_calm(tmp_path: Path) -> None:
    bigsvd.svd(PLAIN, K, tmp_path / "factors")
    for command in (("info",), ("rank", "--energy", "0.5"), ("reconstruct", "--rows", "0:3"), ("verify",)):
        with np.errstate(all="raise"):
            ended = CliRunner().invoke(cli.main, [command[0], str(tmp_path / "factors"), *command[1:]])
        assert ended.exit_code == 0, (command, ended.output, ended.exception)
