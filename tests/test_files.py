"""What people have beside a folder of one Zarr array: groups, Zip files, .npy, HDF5 and netCDF-4."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from zarr.storage import ZipStore

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import (
    BadInputError,
    BigsvdError,
    ChunkCorruptError,
    MetadataError,
    ShapeError,
    SourceError,
)
from bigsvd.facts import Packing
from bigsvd.sources.base import Source
from bigsvd.sources.open import open_source
from tests.laws import SourceLaws

M, N = 23, 17
A = np.random.default_rng(0).standard_normal((M, N))
ALL = (slice(0, M), slice(0, N))
ODD = "données d'été/t2m °C"  # a path with spaces, a quote and letters beyond ASCII
Maker = Callable[[Path], Path]


def npy(folder: Path) -> Path:
    np.save(folder / "a.npy", A)
    return folder / "a.npy"


def npy_fortran(folder: Path) -> Path:
    np.save(folder / "a.npy", np.asfortranarray(A))
    return folder / "a.npy"


def npy_swapped(folder: Path) -> Path:
    np.save(folder / "a.npy", A.astype(">f8"))
    return folder / "a.npy"


def hdf5_chunked(folder: Path) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("x", data=A, chunks=(5, 4), compression="gzip", shuffle=True)
    return folder / "a.h5"


def hdf5_contiguous(folder: Path) -> Path:
    with h5py.File(folder / "a.h5", "w", userblock_size=512) as file:
        file[ODD] = A.astype(">f8")
    return folder / "a.h5" / ODD


def netcdf(folder: Path) -> Path:
    """As netCDF-4 lies in HDF5: the matrix beside its coordinates and the ends of their cells."""
    with h5py.File(folder / "a.nc", "w") as file:
        file["time"] = np.arange(M)
        file["time"].attrs["bounds"] = "time_bnds"
        file["time_bnds"] = np.zeros((M, 2))
        file["t2m"] = A
        file["time"].make_scale("time")
        file["t2m"].dims[0].attach_scale(file["time"])
    return folder / "a.nc"


def zipped(folder: Path) -> Path:
    with ZipStore(folder / "a.zarr.zip", mode="w") as store:
        zarr.create_array(store, data=A, chunks=(5, 4))
    return folder / "a.zarr.zip"


def zipped_group(folder: Path) -> Path:
    with ZipStore(folder / "a.zip", mode="w") as store:
        zarr.create_group(store).create_array(ODD, data=A, chunks=(5, 4))
    return folder / "a.zip" / ODD


def zipped_folder(folder: Path) -> Path:
    """As a file manager makes it: the folder itself is in the file, here with a group in format 2."""
    group = zarr.create_group(folder / "a.zarr", zarr_format=2)
    group.create_array("x", data=A, chunks=(5, 4))
    shutil.make_archive(str(folder / "a.zarr"), "zip", folder, "a.zarr")
    return folder / "a.zarr.zip"


def group(folder: Path) -> Path:
    made = zarr.create_group(folder / "g.zarr")
    made.create_array("deep/x", data=A, chunks=(5, 4))
    made.create_array("lat", data=np.arange(M))
    return folder / "g.zarr"


def group_with_odd_names(folder: Path) -> Path:
    made = zarr.create_group(folder / "große Daten.zarr")
    made.create_array(ODD, data=A, chunks=(5, 4))
    made.create_array("other", data=A)
    return folder / "große Daten.zarr" / ODD


def consolidated_big_endian(folder: Path) -> Path:
    made = zarr.create_group(folder / "g.zarr", zarr_format=2)
    made.create_array("x", data=A.astype(">f8"), chunks=(5, 4))
    made.create_array("bounds", data=A[:, :2])
    made["x"].attrs["bounds"] = "bounds"
    zarr.consolidate_metadata(folder / "g.zarr")
    return folder / "g.zarr"


KINDS: tuple[Maker, ...] = (
    npy, npy_fortran, npy_swapped, hdf5_chunked, hdf5_contiguous, netcdf, zipped, zipped_group, zipped_folder,
    group, group_with_odd_names, consolidated_big_endian,
)  # fmt: skip
BY_NAME = [kind.__name__ for kind in KINDS]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind.__name__: kind(tmp_path_factory.mktemp(kind.__name__)) for kind in KINDS}


class TestEveryKind(SourceLaws):
    """Whatever a path may lead to."""

    @pytest.fixture(params=BY_NAME)
    def source(self, paths: dict[str, Path], request: pytest.FixtureRequest) -> Source:
        return open_source(paths[request.param])

    @pytest.fixture
    def entries(self) -> np.ndarray:
        return A


@pytest.mark.parametrize("kind", BY_NAME)
def test_every_process_of_this_machine_can_read_it(paths: dict[str, Path], kind: str) -> None:
    source = open_source(paths[kind])
    assert not source.in_this_process_only
    assert any(paths[kind].is_relative_to(place) for place in source.places)
    again = open_source(source.facts.name)
    assert (again.facts, again.stamp(*ALL)) == (source.facts, source.stamp(*ALL))


def test_where_a_matrix_was_found_is_told(paths: dict[str, Path]) -> None:
    ends = {"hdf5_chunked": "a.h5/x", "netcdf": "a.nc/t2m", "zipped_folder": "a.zarr.zip/x",
            "group": "g.zarr/deep/x", "npy": "a.npy", "zipped": "a.zarr.zip"}  # fmt: skip
    for kind, end in ends.items():
        assert open_source(paths[kind]).facts.name == str(paths[kind].parent / end)
    chunks = {kind: open_source(paths[kind]).facts.chunks for kind in ("hdf5_chunked", "zipped", "npy")}
    assert chunks == {"hdf5_chunked": (5, 4), "zipped": (5, 4), "npy": (M, N)}


@pytest.mark.parametrize("kind", ["npy_fortran", "hdf5_chunked", "zipped_folder", "group"])
def test_the_command_line_decomposes_it(paths: dict[str, Path], tmp_path: Path, kind: str) -> None:
    command = ["svd", str(paths[kind]), str(tmp_path / "f"), "-k", "3", "--center", "--quiet"]
    ended = CliRunner().invoke(main, command)
    assert ended.exit_code == 0, ended.output
    wanted = np.linalg.svd(A - A.mean(axis=0), compute_uv=False)[:3]
    np.testing.assert_allclose(bigsvd.open(tmp_path / "f").s, wanted, rtol=1e-10)
    verified = CliRunner().invoke(main, ["verify", str(tmp_path / "f"), str(paths[kind])])
    assert verified.exit_code == 0, verified.output


def test_a_chunk_of_a_fortran_file_is_of_whole_columns(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(np.zeros((2000, 3000))))
    assert open_source(tmp_path / "a.npy").facts.chunks == (2000, 262)


def test_attributes_of_hdf5_are_decoded(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    raw = rng.integers(0, 900, (60, 20)).astype("i2")
    raw[rng.random(raw.shape) < 0.1] = -999
    with h5py.File(tmp_path / "a.nc", "w") as file:
        packed = file.create_dataset("t", data=raw, chunks=(20, 20), compression="gzip")
        packed.attrs["scale_factor"], packed.attrs["add_offset"] = np.float32(0.5), np.array([250.0])
        packed.attrs["_FillValue"], packed.attrs["units"] = np.array([-999], "i2"), b"K"
        packed.attrs["valid_range"] = np.array([0, 800], "i2")
    source = open_source(tmp_path / "a.nc")
    assert source.facts.packing == Packing(0.5, 250.0, (-999,), 0, 800)
    assert open_source(tmp_path / "a.nc", decode=False).facts.packing == Packing()
    field = np.where((raw == -999) | (raw > 800), np.nan, raw * 0.5 + 250)
    mean = np.nanmean(field, axis=0)
    factors = bigsvd.svd(tmp_path / "a.nc", 3, center=True, missing="mean")
    wanted = np.linalg.svd(np.where(np.isnan(field), 0, field - mean), compute_uv=False)[:3]
    np.testing.assert_allclose(factors.s, wanted, rtol=1e-6)


def test_unsigned_bytes_of_hdf5_are_read_as_such(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["x"] = (A * 100).astype("i1")
        file["x"].attrs["_Unsigned"] = "true"
    source = open_source(tmp_path / "a.nc/x")
    assert source.facts.dtype == "uint8"
    np.testing.assert_array_equal(source.read(*ALL), (A * 100).astype("i1").view("u1"))


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_what_h5py_has_open_is_read_from_its_file(tmp_path: Path, mode: str) -> None:
    """Unless it may still be written to: then it is read as it is now."""
    path = hdf5_chunked(tmp_path)
    with h5py.File(path, mode) as file:
        source = open_source(file["x"])
        np.testing.assert_array_equal(source.read(*ALL), A)
        assert source.in_this_process_only == (mode == "r+")
        if mode == "r":
            assert source.facts == open_source(file).facts == open_source(path).facts
        else:
            with pytest.raises(SourceError, match="h5py File holds x"):
                open_source(file)


# Groups


@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_group_of_xarray_with_one_field_is_that_field(
    tmp_path: Path, zarr_format: Any, *, consolidated: bool
) -> None:
    field = xr.Dataset(
        {"t2m": (("time", "cell"), A)}, {"time": np.arange(M), "lat": ("cell", np.arange(N * 1.0))}
    )
    field.to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format, consolidated=False)
    if consolidated and zarr_format == 2:
        zarr.consolidate_metadata(tmp_path / "a.zarr")
    for data in (tmp_path / "a.zarr", zarr.open_group(tmp_path / "a.zarr", mode="r")):
        source = open_source(data)
        assert source.facts.name.endswith("a.zarr/t2m")
        np.testing.assert_array_equal(source.read(*ALL), A)


def listing(folder: Path, kind: str) -> Path:
    """A group or file with two matrices, one of them deep inside, and a vector."""
    path = folder / f"a.{kind}"
    made: Any = zarr.create_group(path) if kind == "zarr" else h5py.File(path, "w")
    for name, data in (("X", A), ("layers/counts", A[:5].astype("i2")), ("obs", A[0])):
        made.create_group(name.rpartition("/")[0]) if "/" in name else None
        made.create_array(name, data=data) if kind == "zarr" else made.create_dataset(name, data=data)
    if kind == "h5":
        made.close()
    return path


@pytest.mark.parametrize("kind", ["zarr", "h5"])
def test_several_matrices_are_listed(tmp_path: Path, kind: str) -> None:
    path = listing(tmp_path, kind)
    with pytest.raises(SourceError) as caught:
        open_source(path)
    assert "X (23x17 float64), layers/counts (5x17 int16), obs (17 float64)" in caught.value.message
    assert caught.value.remedy == f"name one of them, such as {path}/X"
    assert open_source(path / "layers/counts").facts.shape == (5, N)


def test_a_field_of_more_axes_beside_a_matrix_may_be_what_is_meant(tmp_path: Path) -> None:
    """The only matrix here is a mask: who names the group hardly means it, and is not told to take it."""
    made = zarr.create_group(tmp_path / "a.zarr")
    made.create_array("t2m", data=np.zeros((5, 4, 3)))
    with pytest.raises(ShapeError, match=r"a\.zarr/t2m has shape \(5, 4, 3\)"):
        open_source(tmp_path / "a.zarr")
    made.create_array("land", data=np.zeros((4, 3)))
    said = r"t2m \(5x4x3 float64\), land \(4x3 float64\); .*such as .*/t2m, and the axis .* by dim=AXIS"
    with pytest.raises(SourceError, match=said):
        open_source(tmp_path / "a.zarr")


def test_a_sparse_matrix_beside_a_dense_one_may_be_what_is_meant(tmp_path: Path) -> None:
    made = zarr.create_group(tmp_path / "a.zarr")
    made.create_group("X", attributes={"encoding-type": "csr_matrix"})
    made.create_array("obsm/X_pca", data=A)
    with pytest.raises(SourceError, match=r"obsm/X_pca .* and the sparse X"):
        open_source(tmp_path / "a.zarr")


# What is wrong is named


def cut(path: Path, share: float = 0.5) -> Path:
    """The file without its end."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def damaged_zip(folder: Path) -> Path:
    """A Zip file of which the entries of one chunk were changed."""
    with ZipStore(folder / "a.zarr.zip", mode="w") as store:
        zarr.create_array(store, data=A, chunks=(M, N), compressors=None)
    content = bytearray((folder / "a.zarr.zip").read_bytes())
    at = content.find(A.tobytes()[:80])
    content[at] ^= 1
    (folder / "a.zarr.zip").write_bytes(bytes(content))
    return folder / "a.zarr.zip"


def other(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


REFUSED: dict[str, tuple[Maker, str]] = {
    "cut npy": (lambda folder: cut(npy(folder)), r"a\.npy cannot be mapped .*; store it again"),
    "header of npy": (lambda folder: cut(npy(folder), 0.02), r"a\.npy cannot be mapped .*copy it again"),
    "begin of npy": (lambda folder: other(folder, "a.npy", b"1 2"), r"does not begin as a \.npy file does"),
    "objects": (lambda folder: other(folder, "a.npy", pickled()), "cannot be mapped .*; store it again"),
    "cut zip": (lambda folder: cut(zipped(folder)), "is no whole Zip file .*; copy it again"),
    "empty zip": (lambda folder: other(folder, "a.zip", b"PK\x05\x06" + bytes(18)), "without Zarr metadata"),
    "cut hdf5": (lambda folder: cut(hdf5_chunked(folder)), r"cannot be opened as HDF5 .*; copy it again"),
    "begin of hdf5": (lambda folder: other(folder, "a.h5", b""), r"does not begin as a \.h5 file does"),
    "not in hdf5": (lambda folder: hdf5_chunked(folder) / "y", r"without 'y', but with the arrays x \(23x17"),
    "not in zip": (lambda folder: zipped_group(folder).parent / "y", "holds no Zarr array"),
    "in npy": (lambda folder: npy(folder) / "y", r"\.npy file, which holds no 'y'; give the file"),
    "classic": (lambda folder: other(folder, "a.nc", b"CDF\x01"), "classic format; convert it"),
    "csv": (lambda folder: other(folder, "a.csv", b"1,2"), "is a file, not a Zarr array; give the folder or"),
    "nothing": (lambda folder: folder / "a.zarr.zip" / "x", "does not exist; check the path"),
}  # fmt: skip


def pickled() -> bytes:
    """An .npy file of Python objects, which would run code to be read."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\x80\x04N."


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_a_remedy(tmp_path: Path, case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(SourceError, match=message):
        open_source(make(tmp_path))


def test_hdf5_without_h5py_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hdf5_chunked(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(SourceError, match=r"which h5py reads .*; install the hdf5 extra"):
        open_source(path)
    ended = CliRunner().invoke(main, ["svd", str(path), str(tmp_path / "f"), "-k", "2"])
    assert ended.exit_code == 2
    assert ended.output.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_chunk_that_is_damaged_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("x", data=A, chunks=(M, N), compression="gzip", fletcher32=True)
        at = made.id.get_chunk_info(0).byte_offset
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[at + 40] ^= 1
    (tmp_path / "a.h5").write_bytes(bytes(content))
    damaged: dict[Path, type[BigsvdError]] = {
        tmp_path / "a.h5": ChunkCorruptError,
        damaged_zip(tmp_path): ChunkCorruptError,
    }
    for path, kind in damaged.items():
        with pytest.raises(kind, match=r"restore that file|restore that chunk"):
            open_source(path).read(*ALL)


def test_a_filter_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hdf5_chunked(tmp_path)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code != h5py.h5z.FILTER_DEFLATE)
    with pytest.raises(SourceError, match="the filter deflate, which is not installed; install hdf5plugin"):
        open_source(path)


@pytest.mark.parametrize("data", [A.astype(complex), A.astype("S4"), A[0], A[np.newaxis]])
def test_a_dataset_that_is_no_matrix_of_numbers_is_refused(tmp_path: Path, data: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = data
    with pytest.raises(BadInputError, match=r"a\.h5/x has (dtype|shape)"):
        open_source(tmp_path / "a.h5/x")


def test_attributes_of_hdf5_that_are_not_understood_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = A
        file["x"].attrs["scale_factor"] = np.arange(3.0)
    with pytest.raises(MetadataError, match=r"scale_factor=\[0.0, 1.0, 2.0\], which is no number"):
        open_source(tmp_path / "a.h5")


def test_an_array_in_a_folder_called_zip_or_npy_is_read(tmp_path: Path) -> None:
    for name in ("a.zip", "a.npy", "a.h5"):
        zarr.create_array(tmp_path / name, data=A)
        np.testing.assert_array_equal(open_source(tmp_path / name).read(*ALL), A)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for folder in ("x.zarr", "y.zarr"):
            archive.write(tmp_path / "a.zip" / "zarr.json", f"{folder}/zarr.json")
    assert open_source(tmp_path / "two.zip/x.zarr").facts.shape == (M, N)
