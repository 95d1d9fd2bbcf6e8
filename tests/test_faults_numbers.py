"""Bad and hard numbers, cases 1-13 of the fault table: each outcome, by the identities it must keep."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from distributed import Client
from zarr.storage import LocalStore, MemoryStore

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import DtypeError, NonFiniteError, RankError, RankZeroError, ShapeError
from bigsvd.execution.dask_executor import local_client
from bigsvd.planning.plan import Plan
from bigsvd.request import plain
from bigsvd.results.factors import Factors
from bigsvd.solve import run
from bigsvd.sources.open import open_source
from bigsvd.verify import verify
from tests.clusters import if_on_dask, worker_processes
from tests.spectra import with_values

EPS32, EPS64 = float(np.finfo(np.float32).eps), float(np.finfo(np.float64).eps)
METHODS = ("krylov", "gram", "tall_skinny", "compressed")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def matrix(m: int, n: int, seed: int = 0) -> np.ndarray:
    """A matrix with well separated singular values."""
    return with_values(np.random.default_rng(seed), 50 * 0.8 ** np.arange(min(m, n)), m, n)


def stored(values: np.ndarray, chunks: tuple[int, int], store: Any = None, **options: Any) -> zarr.Array[Any]:
    array = zarr.create_array(
        MemoryStore() if store is None else store,
        shape=values.shape,
        chunks=chunks,
        dtype=values.dtype,
        **options,
    )
    array[...] = values
    return array


def singular_values(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.svd(values.astype(np.float64), compute_uv=False))


def standardised(values: np.ndarray, *, center: bool, scale: bool) -> np.ndarray:
    """(A − mean)/deviation in long double; constant columns are divided by 1."""
    wide = values.astype(np.longdouble)
    mean = wide.mean(axis=0)
    deviation = np.sqrt(((wide - mean) ** 2).mean(axis=0))
    constant = np.all(values == values[:1], axis=0)
    wide = np.where(constant, 0, wide - mean) if center else wide
    return np.asarray(wide / np.where(constant, 1, deviation) if scale else wide, dtype=np.float64)


def assert_orthonormal(factors: Factors) -> None:
    U, Vt = np.asarray(factors.U[:], np.float64), np.asarray(factors.Vt[:], np.float64)
    allowed = 100 * float(np.finfo(factors.dtype).eps)
    assert np.max(np.abs(U.T @ U - np.eye(factors.k))) <= allowed
    assert np.max(np.abs(Vt @ Vt.T - np.eye(factors.k))) <= allowed


def assert_is_svd(factors: Factors, values: np.ndarray, rtol: float) -> None:
    """A·V = U·diag(s), orthonormal factors, LAPACK's singular values, the contract's signs."""
    A = values.astype(np.float64)
    U, Vt = np.asarray(factors.U[:], np.float64), np.asarray(factors.Vt[:], np.float64)
    expected = singular_values(A)
    np.testing.assert_allclose(factors.s, expected[: factors.k], rtol=rtol)
    assert np.max(np.abs(A @ Vt.T - U * factors.s)) <= 10 * rtol * expected[0]
    assert_orthonormal(factors)
    assert np.all(Vt[np.arange(factors.k), np.argmax(np.abs(Vt), axis=1)] > 0)


def assert_same_bits(one: Factors, other: Factors) -> None:
    for name in ("U", "s", "Vt"):
        assert np.asarray(getattr(one, name)[:]).tobytes() == np.asarray(getattr(other, name)[:]).tobytes()


@contextmanager
def own_interrupt_handler() -> Iterator[None]:
    """The command line installs a handler of its own."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def assert_cli_refuses(arguments: list[str], code: str, pattern: str) -> None:
    """Exit 2 and one line with the code on the error stream, nothing on the other."""
    with own_interrupt_handler():
        outcome = CliRunner().invoke(main, arguments)
    assert outcome.exit_code == 2
    assert re.fullmatch(rf"error\[{code}\]: .*{pattern}.*; .+\n", outcome.stderr), outcome.stderr
    assert outcome.stdout == ""


def assert_nothing_published(out: Path) -> None:
    for path in (out, out.with_name(f"{out.name}.scratch"), out.with_name(f"{out.name}.scratch") / "factors"):
        with pytest.raises(bigsvd.errors.FactorStoreError):
            bigsvd.open(path)


# 1: non-finite entries


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("value", "text"), [(np.nan, "2 NaN, 0 .Inf and 0 -Inf"), (np.inf, "0 NaN, 2 .Inf and 0 -Inf")]
)
def test_fault_01_nonfinite_entry_is_located(client: Client, method: Any, value: float, text: str) -> None:
    values = matrix(60, 20)
    values[37, 11] = values[50, 3] = value
    with pytest.raises(NonFiniteError, match=rf"{text}, the first at row 37, column 11"):
        bigsvd.svd(stored(values, (7, 9)), 3, method=method, client=client)
    with pytest.raises(NonFiniteError, match=rf"{text}, the first at row 3, column 50"):
        bigsvd.svd(values.T, 3, method=method, client=client)


@pytest.mark.parametrize("options", [{"center": True}, {"scale": True}, {"method": "krylov"}])
def test_fault_01_nonfinite_in_the_sample(client: Client, options: dict[str, Any]) -> None:
    values = matrix(400, 60)
    values[::9, 7] = -np.inf
    with pytest.raises(NonFiniteError, match=r"0 NaN, 0 \+Inf and 45 -Inf, the first at row 0, column 7"):
        bigsvd.svd(stored(values, (20, 60)), 3, client=client, **options)


def test_fault_01_float16_overflow(client: Client) -> None:
    values = matrix(30, 8).astype(np.float16)
    values[3, 4] = np.float16(np.inf)  # what 1e6 becomes
    with pytest.raises(NonFiniteError, match=r"1 \+Inf and 0 -Inf, the first at row 3, column 4"):
        bigsvd.svd(values, 3, client=client)


def test_fault_01_command_line_and_recovery(tmp_path: Path) -> None:
    values = matrix(60, 20)
    values[37, 11] = np.nan
    data, out = tmp_path / "a.zarr", tmp_path / "a.svd"
    array = stored(values, (10, 20), data)
    arguments = ["svd", str(data), str(out), "-k", "3", "--quiet"]
    assert_cli_refuses(arguments, "E_NONFINITE", "1 NaN, 0 .Inf and 0 -Inf, the first at row 37, column 11")
    assert_nothing_published(out)
    np.testing.assert_array_equal(zarr.open_array(data, mode="r")[...], values)
    array[37, 11] = 0.5  # what the remedy asks for; the same command must not remember the old entry
    with own_interrupt_handler():
        assert CliRunner().invoke(main, arguments).exit_code == 0
    values[37, 11] = 0.5
    assert_is_svd(bigsvd.open(out), values, 1e-12)


# 2: the zero matrix


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_fault_02_zero_matrix(client: Client, shape: tuple[int, int], method: Any) -> None:
    factors = bigsvd.svd(np.zeros(shape), 3, method=method, **if_on_dask(client, method))
    assert factors.s.tolist() == [0.0, 0.0, 0.0]
    assert_orthonormal(factors)
    assert factors.certificate.relative_error == 0.0
    assert factors.certificate.converged
    assert factors.certificate.numerical_rank == 0
    np.testing.assert_array_equal(factors[:, :], 0.0)


def test_fault_02_zero_matrix_has_no_automatic_rank(tmp_path: Path) -> None:
    with pytest.raises(RankZeroError, match="zero"):
        bigsvd.svd(np.zeros((40, 12)), "auto")
    data, out = tmp_path / "zero.zarr", tmp_path / "zero.svd"
    stored(np.zeros((40, 12)), (10, 12), data, config={"write_empty_chunks": True})
    assert_cli_refuses(["svd", str(data), str(out), "-k", "auto", "--quiet"], "E_RANK_ZERO", "zero")
    assert_nothing_published(out)


# 3: rank below k


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("shape", "dtype"), [((150, 60), "float32"), ((60, 150), "float64")])
def test_fault_03_rank_below_k(client: Client, shape: tuple[int, int], dtype: str, method: Any) -> None:
    values = with_values(np.random.default_rng(3), np.array([9.0, 5.0, 2.0]), *shape).astype(dtype)
    with pytest.warns(UserWarning, match=r"numerical rank 3 < k=6: 3 triplets below noise dropped"):
        factors = bigsvd.svd(values, 6, method=method, **if_on_dask(client, method))
    assert factors.k == factors.certificate.numerical_rank == 3
    assert_is_svd(factors, values, 2e-6 if dtype == "float32" else 1e-12)


# 4: constant columns


@pytest.mark.parametrize("method", ["krylov", "tall_skinny"])
@pytest.mark.parametrize("shape", [(60, 20), (15, 20)])
@pytest.mark.parametrize(("center", "scale"), [(True, False), (False, True), (True, True)])
def test_fault_04_constant_column(
    client: Client, shape: tuple[int, int], method: Any, *, center: bool, scale: bool
) -> None:
    values = matrix(*shape)
    values[:, 4], values[:, 7], values[:, 9] = 0.1, 0.0, -7.0
    values[:, 12] = np.where(np.arange(shape[0]) % 2, 1.0, -1.0)  # deviation (almost) 1, but not constant
    with pytest.warns(UserWarning, match="constant") if scale else ExitStack():
        factors = bigsvd.svd(
            values, 3, method=method, center=center, scale=scale, **if_on_dask(client, method)
        )
    B = standardised(values, center=center, scale=scale)
    np.testing.assert_allclose(factors.s, singular_values(B)[:3], rtol=1e-10)
    if center:
        assert np.max(np.abs(np.asarray(factors.Vt[:])[:, [4, 7, 9]])) <= 1e-14
        np.testing.assert_allclose(np.asarray(factors.mean)[[4, 7, 9]], [0.1, 0.0, -7.0], rtol=EPS64)
    if scale:
        np.testing.assert_array_equal(np.asarray(factors.scale)[[4, 7, 9]], 1.0)
        assert "3 constant column(s) were scaled by 1" in factors.certificate.warnings
        np.testing.assert_allclose(
            np.asarray(factors.scale),
            np.where(np.all(values == values[:1], axis=0), 1.0, values.std(axis=0)),
            rtol=1e-12,
        )


@pytest.mark.parametrize("value", [0.1, 7.0, 1e8])
@pytest.mark.parametrize("shape", [(50, 9), (9, 50)])
def test_fault_04_constant_matrix_centers_to_zero(shape: tuple[int, int], value: float) -> None:
    factors = bigsvd.svd(np.full(shape, value), 2, center=True)
    assert factors.s.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(factors[:, :], value, rtol=2 * EPS64)


# 5: tiny and huge entries


@pytest.mark.parametrize("exponent", [996, -996])
@pytest.mark.parametrize("options", [{}, {"center": True, "scale": True}], ids=["plain", "standardised"])
@pytest.mark.parametrize(
    ("method", "chunks"), [("krylov", (50, 60)), ("gram", (100, 60))], ids=["sampled", "gram"]
)
def test_fault_05_tiny_and_huge_scales(
    method: Any, chunks: tuple[int, int], options: dict[str, Any], exponent: int
) -> None:
    values = matrix(400, 60)
    factor = 2.0**exponent  # entries near 1e300 and 1e-300, their squares are infinite or zero
    plain = bigsvd.svd(stored(values, chunks), 3, method=method, tol=1e-6, **options)
    scaled = bigsvd.svd(stored(values * factor, chunks), 3, method=method, tol=1e-6, **options)
    expected = plain.s if "scale" in options else plain.s * factor
    np.testing.assert_allclose(scaled.s, expected, rtol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(np.asarray(scaled.Vt[:]) * plain.Vt[:], axis=1)), 1, rtol=1e-6)
    assert scaled.certificate.relative_error == pytest.approx(plain.certificate.relative_error, rel=1e-9)
    assert scaled.certificate.warnings == plain.certificate.warnings == ()
    assert verify(scaled, open_source(values * factor), lambda _: None).findings == ()


@pytest.mark.parametrize("exponent", [100, -100, -130])
@pytest.mark.parametrize("shape", [(100, 30), (30, 100)])
def test_fault_05_float32_squares_overflow(shape: tuple[int, int], exponent: int) -> None:
    values = matrix(*shape).astype(np.float32) * np.float32(2.0**exponent)  # the last has subnormal entries
    factors = bigsvd.svd(values, 4)
    np.testing.assert_allclose(factors.s, singular_values(values)[:4], rtol=2e-6)
    assert_orthonormal(factors)


def test_fault_05_powers_of_two_scale_exactly() -> None:
    values = matrix(80, 30)
    big = bigsvd.svd(values * 2.0**900, 4)
    bigger = bigsvd.svd(values * 2.0**950, 4)
    assert (np.ldexp(big.s, 50) == bigger.s).all()
    assert np.asarray(big.U[:]).tobytes() == np.asarray(bigger.U[:]).tobytes()
    assert np.asarray(big.Vt[:]).tobytes() == np.asarray(bigger.Vt[:]).tobytes()


# 6: narrow floats, integers, bool


@pytest.mark.parametrize("dtype", ["bool", "float16", *INTEGERS])
def test_fault_06_small_types_are_accumulated_wide(dtype: str) -> None:
    rng = np.random.default_rng(6)
    info = np.iinfo(dtype) if dtype in INTEGERS else None
    top = 1 if dtype == "bool" else 1000 if info is None else min(info.max, 2**40)
    values = rng.integers(0, top, (500, 24), endpoint=True).astype(dtype)  # sums far beyond the type's range
    factors = bigsvd.svd(values, 4)
    np.testing.assert_allclose(factors.s, singular_values(values)[:4], rtol=2e-6)
    assert factors.dtype.itemsize >= 4
    assert factors.certificate.warnings == ()


@pytest.mark.parametrize("shape", [(60, 15), (15, 60)])
def test_fault_06_integers_beyond_2_to_53_are_counted(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(6).integers(0, 2**53, shape, endpoint=True)
    values[2, 3], values[4, 5], values[6, 7] = 2**53, 2**53 + 1, -(2**63)
    with pytest.warns(UserWarning, match=r"2 integers beyond 2\^53 were rounded to float64"):
        factors = bigsvd.svd(stored(values, (4, 6)), 3)
    np.testing.assert_allclose(factors.s, singular_values(values)[:3], rtol=1e-12)
    unsigned = np.full((9, 5), 2**64 - 1, dtype=np.uint64)
    with pytest.warns(UserWarning, match="45 integers beyond"):
        bigsvd.svd(unsigned, 1)


# 7, 8: element types without arithmetic


class Untouchable:
    """An array whose metadata can be seen and whose entries must not be read."""

    def __init__(self, dtype: Any, shape: tuple[int, ...] = (5, 4)) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)

    def __getitem__(self, key: Any) -> Any:
        message = "the entries were read"
        raise AssertionError(message)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_fault_07_complex_is_refused_unread(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(DtypeError, match=dtype):
        bigsvd.svd(Untouchable(dtype), 1)
    data = tmp_path / "z.zarr"
    array = stored(np.ones((6, 4), dtype), (2, 4), data)
    for chunk in (data / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"not a chunk")  # decoding any of these would be another error
    for source in (array, str(data), da.zeros((5, 4), dtype=dtype), xr.DataArray(np.ones((5, 4), dtype))):
        with pytest.raises(DtypeError, match=dtype):
            bigsvd.svd(source, 1)
    assert_cli_refuses(["svd", str(data), str(tmp_path / "o"), "-k", "1"], "E_DTYPE", dtype)
    assert_cli_refuses(["plan", str(data), "-k", "1"], "E_DTYPE", dtype)
    assert not (tmp_path / "o").exists()
    assert not (tmp_path / "o.scratch").exists()


@pytest.mark.parametrize("dtype", ["O", "U5", "S5", "M8[ns]", "m8[s]", "f4,i2", "longdouble"])
def test_fault_08_other_types_are_refused_unread(dtype: str) -> None:
    with pytest.raises(DtypeError, match=re.escape(str(np.dtype(dtype)))):
        bigsvd.svd(Untouchable(dtype), 1)
    with pytest.raises(DtypeError):
        bigsvd.svd(xr.DataArray(np.zeros((5, 4), dtype)), 1)


@pytest.mark.parametrize("dtype", ["str", "U5", "S5", "M8[ns]", "f4,i2"])
def test_fault_08_stored_types_are_refused_from_metadata(tmp_path: Path, dtype: str) -> None:
    data = tmp_path / "a.zarr"
    zarr.create_array(
        data, shape=(5, 4), chunks=(5, 4), dtype=dtype if dtype == "str" else np.dtype(dtype), zarr_format=2
    )
    assert_cli_refuses(["svd", str(data), str(tmp_path / "o"), "-k", "1"], "E_DTYPE", "dtype")
    assert not (tmp_path / "o.scratch").exists()


# 9: k out of range


@pytest.mark.parametrize("k", [0, -1, 2.5, True, "ten", None, float("nan"), np.float64(2)])
def test_fault_09_k_that_is_no_count(k: Any) -> None:
    with pytest.raises(RankError, match=r"k=.* is not in the allowed range 1\.\.min\(m, n\)") as caught:
        bigsvd.svd(Untouchable("float64"), k)
    assert repr(plain(k)) in str(caught.value)


@pytest.mark.parametrize("k", [5, 10**12])
def test_fault_09_k_above_the_shape(k: int) -> None:
    with pytest.raises(RankError, match=rf"k={k} is not in the allowed range 1\.\.4 for shape \(5, 4\)"):
        bigsvd.svd(Untouchable("float64"), k)
    integer: Any = np.int64(4)
    assert bigsvd.svd(matrix(5, 4), integer).k == 4


@pytest.mark.parametrize(
    ("k", "pattern"),
    [
        ("0", "-k 0 .*1"),
        ("-1", "-k -1 .*1"),
        ("2.5", "-k 2.5 .*1"),
        ("ten", "-k ten"),
        ("5", r"-k 5 .*1\.\.4"),
    ],
)
def test_fault_09_command_line(tmp_path: Path, k: str, pattern: str) -> None:
    stored(matrix(5, 4), (2, 4), tmp_path / "a.zarr")
    assert_cli_refuses(["svd", str(tmp_path / "a.zarr"), str(tmp_path / "o"), "-k", k], "E_K", pattern)
    assert not (tmp_path / "o.scratch").exists()


# 10: shapes


@pytest.mark.parametrize("shape", [(0, 7), (7, 0), (0, 0), (), (5,), (2, 3, 4)])
def test_fault_10_not_a_matrix(tmp_path: Path, shape: tuple[int, ...]) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=shape, dtype="f8")
    sources = (np.zeros(shape), da.zeros(shape), xr.DataArray(np.zeros(shape)), tmp_path / "a.zarr")
    for source in sources:
        with pytest.raises(ShapeError, match=re.escape(str(shape))):
            bigsvd.svd(source, 1)
    arguments = ["svd", str(tmp_path / "a.zarr"), str(tmp_path / "o"), "-k", "1"]
    assert_cli_refuses(arguments, "E_SHAPE", re.escape(str(shape)))


@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1), (1, 300), (300, 1)])
def test_fault_10_vectors_are_matrices(client: Client, shape: tuple[int, int], method: Any) -> None:
    values = matrix(*shape)
    assert_is_svd(bigsvd.svd(values, 1, method=method, **if_on_dask(client, method)), values, 1e-12)


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1)])
def test_fault_10_vectors_centered_and_scaled(shape: tuple[int, int]) -> None:
    values = matrix(*shape)
    for center, scale in ((True, False), (True, True)):
        with pytest.warns(UserWarning, match="constant") if scale and shape[0] == 1 else ExitStack():
            factors = bigsvd.svd(values, 1, center=center, scale=scale)
        expected = singular_values(standardised(values, center=center, scale=scale))
        np.testing.assert_allclose(factors.s, expected[:1], rtol=1e-12)
        np.testing.assert_allclose(factors[:, :], values, rtol=1e-12)


# 11: layouts

LAYOUTS: dict[str, dict[str, Any]] = {
    "ragged": {"chunks": (16, 12)},
    "one-row chunks": {"chunks": (1, 41)},
    "one-column chunks": {"chunks": (97, 1)},
    "prime": {"chunks": (13, 7)},
    "one chunk": {"chunks": (97, 41)},
    "sharded": {"chunks": (8, 7), "shards": (32, 14)},
    "v2": {"chunks": (16, 12), "zarr_format": 2},
    "v2 Fortran": {"chunks": (16, 12), "zarr_format": 2, "order": "F"},
    "v3 uncompressed": {"chunks": (16, 12), "compressors": None},
}


def transposed_layout(options: dict[str, Any]) -> dict[str, Any]:
    swapped = {name: options[name][::-1] for name in ("chunks", "shards") if name in options}
    return options | swapped


@pytest.mark.parametrize("wide", [False, True], ids=["tall", "wide"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_fault_11_same_answer_in_every_layout(layout: str, *, wide: bool) -> None:
    values = matrix(41, 97) if wide else matrix(97, 41)
    options = transposed_layout(LAYOUTS[layout]) if wide else LAYOUTS[layout]
    factors = bigsvd.svd(stored(values, **options), 5, tol=1e-8)
    assert_is_svd(factors, values, 1e-10)


@pytest.mark.parametrize("dtype", ["bool", "float16", "float32", "float64", ">f8", ">i2", *INTEGERS])
@pytest.mark.parametrize("wide", [False, True], ids=["tall", "wide"])
def test_fault_11_same_answer_in_every_dtype(dtype: str, *, wide: bool) -> None:
    base = np.abs(matrix(41, 97) if wide else matrix(97, 41)) * 20
    values = (base > base.mean()) if dtype == "bool" else base.astype(dtype)
    factors = bigsvd.svd(stored(values, (16, 12)), 5, tol=1e-3)
    assert_is_svd(factors, values, 1e-5)


def sources_of(values: np.ndarray, folder: Path) -> dict[str, Any]:
    """The same matrix in everything that can hold one."""
    zarr_path, raw_path = folder / "a.zarr", folder / "a.raw"
    array = stored(values, (16, 12), zarr_path)
    mapped = np.memmap(raw_path, dtype=values.dtype, mode="w+", shape=values.shape, order="F")
    mapped[...] = values
    mapped.flush()
    url = f"memory://{folder.name}/a.zarr"
    for file in zarr_path.rglob("*"):
        if file.is_file():
            fsspec.filesystem("memory").pipe(
                f"/{folder.name}/a.zarr/{file.relative_to(zarr_path)}", file.read_bytes()
            )
    return {
        "path": zarr_path,
        "string": str(zarr_path),
        "LocalStore": LocalStore(zarr_path, read_only=True),
        "zarr.Array": array,
        "MemoryStore": stored(values, (16, 12)).store,
        "URL": url,
        "numpy": values,
        "numpy Fortran": np.asfortranarray(values),
        "memmap": np.memmap(raw_path, dtype=values.dtype, mode="r", shape=values.shape, order="F"),
        "memmap slice": np.memmap(raw_path, dtype=values.dtype, mode="r", shape=values.shape, order="F")[
            :, :
        ],
        "dask": da.from_array(values, chunks=(20, 17)),
        "xarray": xr.DataArray(values, dims=("x", "y")),
        "xarray of dask": xr.DataArray(da.from_array(values, chunks=(20, 17)), dims=("x", "y")),
    }


@pytest.mark.parametrize("wide", [False, True], ids=["tall", "wide"])
def test_fault_11_same_answer_from_every_container(tmp_path: Path, *, wide: bool) -> None:
    values = matrix(41, 97) if wide else matrix(97, 41)
    for source in sources_of(values, tmp_path).values():
        assert_is_svd(bigsvd.svd(source, 5, tol=1e-8), values, 1e-10)


@contextmanager
def workers(threads: int, processes: int = 0) -> Iterator[Client]:
    if not processes:
        with local_client(threads) as client:
            yield client
        return
    with worker_processes(processes, threads) as client:
        yield client


def factors_on(sources: dict[str, Any], plans: dict[str, Plan], client: Client) -> dict[str, Factors]:
    found = {}
    for name, data in sources.items():
        source = open_source(data)
        found[name] = run(plans[name].request, source, plan=plans[name], client=client)
    return found


@pytest.fixture
def varied_sources(tmp_path: Path) -> dict[str, Any]:
    """Sources whose plans have a sample and several lanes, in either orientation."""
    tall, wide = matrix(211, 61), matrix(61, 211)
    return {
        "tall": stored(tall.astype(np.float32), (23, 31), tmp_path / "tall"),
        "wide": stored(wide, (31, 23), tmp_path / "wide"),
        "dask": da.from_array(tall, chunks=(40, 61)),
        "MemoryStore": stored(wide.astype(np.float32), (61, 20)),
    }


def test_fault_11_same_bits_for_any_number_of_workers(varied_sources: dict[str, Any]) -> None:
    options: dict[str, Any] = {"method": "krylov", "tol": 1e-4, "center": True}
    plans = {name: bigsvd.plan(data, 4, **options) for name, data in varied_sources.items()}
    plans = {name: Plan.from_json(plan.to_json()) for name, plan in plans.items()}
    assert all(len(plan.lanes) > 2 for plan in (plans["tall"], plans["wide"], plans["MemoryStore"]))
    assert plans["tall"].sample
    found = {}
    for threads in (1, 2, 5):
        with workers(threads) as client:
            found[threads] = factors_on(varied_sources, plans, client)
    for name in varied_sources:
        for threads in (2, 5):
            assert_same_bits(found[1][name], found[threads][name])
    anywhere = {name: varied_sources[name] for name in ("tall", "wide")}
    with workers(1, processes=2) as client:
        elsewhere = factors_on(anywhere, plans, client)
    for name in anywhere:
        assert_same_bits(found[1][name], elsewhere[name])


@pytest.mark.parametrize("method", ["gram", "tall_skinny", "compressed"])
def test_fault_11_same_bits_in_every_method(tmp_path: Path, method: Any) -> None:
    data = stored(matrix(97, 31), (13, 31), tmp_path / "a")
    plan = bigsvd.plan(data, 4, method=method, tol=1e-2, scale=True)
    found = []
    for threads in (1, 5):
        with workers(threads) as client:
            found.append(factors_on({"a": data}, {"a": plan}, client)["a"])
    assert_same_bits(*found)


# 12: equal and clustered singular values


@pytest.mark.parametrize("gap", [0.0, 1e-15])
@pytest.mark.parametrize(("method", "shape"), [("krylov", (120, 50)), ("gram", (50, 120))])
def test_fault_12_clustered_values(client: Client, method: Any, shape: tuple[int, int], gap: float) -> None:
    sigma = np.array([9.0, 5.0, 5.0 * (1 - gap), 5.0 * (1 - 2 * gap), 2.0, 1.0, 1.0 - gap, 0.5])
    values = with_values(np.random.default_rng(12), sigma, *shape)
    options: dict[str, Any] = {"method": method, "tol": 1e-8} | if_on_dask(client, method)
    factors = bigsvd.svd(values, 6, **options)  # k cuts the second cluster
    assert_is_svd(factors, values, 1e-10)
    assert factors.certificate.identifiable == (True, False, False, False, True, False)
    Vt, exact = np.asarray(factors.Vt[:]), np.linalg.svd(values)[2]
    for first, last in ((0, 1), (1, 4), (4, 5)):  # vectors alone, the cluster as a projector
        mine, theirs = Vt[first:last], exact[first:last]
        np.testing.assert_allclose(mine.T @ mine, theirs.T @ theirs, atol=1e-7)
    assert_same_bits(factors, bigsvd.svd(values.copy(), 6, **options))


def test_fault_12_identity_matrix() -> None:
    factors = bigsvd.svd(np.eye(40), 5)
    assert_is_svd(factors, np.eye(40), 1e-12)
    assert not any(factors.certificate.identifiable)


# 13: large means


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize(
    ("method", "shape", "chunks"),
    [
        ("krylov", (400, 60), (50, 60)),
        ("krylov", (400, 60), (400, 30)),
        ("krylov", (60, 400), (60, 50)),
        ("gram", (3000, 5), (1000, 5)),
        ("tall_skinny", (300, 20), (100, 20)),
    ],
)
def test_fault_13_large_means_cost_no_accuracy(
    client: Client, shape: tuple[int, int], chunks: tuple[int, int], method: Any, *, scale: bool
) -> None:
    rng = np.random.default_rng(13)
    values = 1e8 * (1 + rng.random(shape[1])) + rng.standard_normal(shape)
    factors = bigsvd.svd(
        stored(values, chunks),
        3,
        method=method,
        center=True,
        scale=scale,
        tol=1e-7,
        **if_on_dask(client, method),
    )
    reference = standardised(values, center=True, scale=scale)
    sigma = singular_values(reference)
    np.testing.assert_allclose(factors.s, sigma[:3], rtol=1e-12)
    expected = np.sqrt(np.sum(sigma[3:] ** 2) / np.sum(sigma**2))
    assert factors.certificate.relative_error == pytest.approx(expected, rel=1e-10)
    assert factors.certificate.warnings == ()
    np.testing.assert_allclose(
        np.asarray(factors.mean), values.astype(np.longdouble).mean(axis=0).astype(float), rtol=2 * EPS64
    )
    residue = reference @ np.asarray(factors.Vt[:]).T - np.asarray(factors.U[:]) * factors.s
    assert np.max(np.abs(residue)) <= 1e-10 * sigma[0]


@pytest.mark.parametrize("shape", [(600, 40), (40, 600)], ids=["tall", "wide"])
def test_fault_13_a_huge_column_does_not_cost_a_tiny_one_its_digits(shape: tuple[int, int]) -> None:
    """Scaled down to float32 beside it, what is divided by its own deviation later became subnormal."""
    values = np.random.default_rng(13).standard_normal(shape).astype(np.float32)
    values[:, 0] *= np.float32(1e30)
    values[:, 1] *= np.float32(1e-15)
    factors = bigsvd.svd(stored(values, (50, 20)), 3, center=True, scale=True, tol=1e-3)
    exact = values.astype(np.float64)
    np.testing.assert_allclose(np.asarray(factors.scale), exact.std(axis=0), rtol=1e-9)
    np.testing.assert_allclose(
        factors.s, singular_values(standardised(values, center=True, scale=True))[:3], rtol=1e-4
    )


def test_fault_13_float32_data_with_large_means() -> None:
    rng = np.random.default_rng(13)
    values = (1e5 + rng.standard_normal((500, 40))).astype(np.float32)  # rounded to 1/128
    factors = bigsvd.svd(stored(values, (50, 40)), 3, center=True)
    np.testing.assert_allclose(
        factors.s, singular_values(standardised(values, center=True, scale=False))[:3], rtol=2e-6
    )
