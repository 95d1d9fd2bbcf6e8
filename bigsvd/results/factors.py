"""The factor store: write, publish in one atomic step, open, truncate, project.

A Zarr v3 group with `U` (m, k), `s` (k,), `Vt` (k, n), optional `mean` and `scale` (n,), crc32c on every
chunk. The group's attributes hold request, plan, certificate, provenance and the manifest; they are written
last, and a group without them is not a factor store.
"""

from __future__ import annotations

import errno
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Literal

import google_crc32c
import numpy as np
import zarr
from zarr.storage import LocalStore

from bigsvd.chunks import GuardStore
from bigsvd.device import CpuDevice, Device, choose_device, multiply
from bigsvd.errors import (
    BigsvdError,
    FactorStoreError,
    RankError,
    RequestError,
    StorageError,
    first_line,
)
from bigsvd.floats import silent
from bigsvd.paths import resolved
from bigsvd.request import DEVICES
from bigsvd.results import rank, reconstruct
from bigsvd.results.certificate import Certificate, angle_bounds, relative_error
from bigsvd.results.folders import ATTRIBUTE, REPLACED, STORE_ARRAYS, attributes_of, kind_of, metadata_of
from bigsvd.scratch import RESULT, Scratch, as_stored, storage_errors

FORMAT_VERSION = 1
FOLDER = RESULT
_CHECKSUM = "crc32c"
_CHUNK_BYTES = 2**20
_RECONSTRUCTION_CHUNK_BYTES = 2**22
_SUMMED_FLOOR = 1e-8  # an error exact to less was summed from the values behind, not had as a difference


def chunk_lines(k: int, length: int, dtype: str) -> int:
    """Rows of U (columns of Vt) in one chunk: about a megabyte, so that a region touches few chunks."""
    return max(1, min(length, _CHUNK_BYTES // (k * np.dtype(dtype).itemsize)))


class Leading:
    """The leading k lines of an array along one axis, as an array; nothing is copied."""

    def __init__(self, base: Any, k: int, axis: int) -> None:
        self._base = base
        self._axis = axis
        self.shape = tuple(k if i == axis else length for i, length in enumerate(base.shape))
        self.dtype = base.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> Any:
        lead = slice(0, self.shape[self._axis])
        rows, cols = _row_and_column_keys(key)
        if self._axis == 0:
            return self._base[lead, cols][rows]
        return self._base[rows, lead][..., cols]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        _refuse_view(copy)
        return np.asarray(self[:], dtype=dtype)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __iter__(self) -> Iterator[Any]:
        """The lines along the first axis."""
        return iter(np.asarray(self))


def _refuse_view(copy: bool | None) -> None:
    """ValueError where NumPy asks for no copy: what is read from a disk or computed is always one."""
    if copy is False:
        raise ValueError("an array that is read or computed cannot be had without a copy")


def _row_and_column_keys(key: Any) -> tuple[Any, Any]:
    """The two keys of a matrix, where one or both may be left out or stand behind an ellipsis."""
    keys = list(key) if isinstance(key, tuple) else [key]
    dots = [place for place, part in enumerate(keys) if part is Ellipsis]
    if len(dots) > 1 or len(keys) - len(dots) > 2:
        raise IndexError(f"{key!r} has more parts than a matrix has axes")
    at = dots[0] if dots else len(keys)
    keys[at : at + 1] = [slice(None)] * (2 - len(keys) + len(dots))
    return keys[0], keys[1]


class Factors:
    """A published truncated SVD, A ≈ (U·diag(s)·Vt)·scale + mean, read lazily.

    Attributes:
        U, Vt: (m, k) and (k, n), array-likes on disk; slicing reads only the chunks it needs.
        s: (k,) float64, descending. mean, scale: (n,) float64 or None.
        certificate: what is known of the error. provenance: request, plan, source, versions, costs.

    """

    def __init__(
        self,
        U: Any,
        s: np.ndarray,
        Vt: Any,
        mean: Any,
        scale: Any,
        attributes: dict[str, Any],
        path: Path,
        device: Device | None = None,
    ) -> None:
        self.U, self.s, self.Vt, self.mean, self.scale = U, s, Vt, mean, scale
        self.path = path
        self._device = device or CpuDevice()
        self.certificate = Certificate.from_dict(attributes["certificate"])
        self.provenance: dict[str, Any] = {
            name: attributes[name] for name in attributes if name != "certificate"
        }

    @property
    def k(self) -> int:
        """Number of triplets."""
        return int(self.s.size)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return int(self.U.shape[0]), int(self.Vt.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of U, Vt and of what is reconstructed."""
        found: np.dtype[Any] = np.dtype(self.U.dtype)
        return found

    def __repr__(self) -> str:
        m, n = self.shape
        return f"<bigsvd.Factors {m}x{n} k={self.k} {self.dtype} at {self.path}>"

    def __iter__(self) -> Iterator[Any]:
        """U, s, Vt: ``U, s, Vt = factors`` as NumPy and Dask have it; not the rows of the reconstruction."""
        return iter((self.U, self.s, self.Vt))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The whole reconstruction (m, n), which is what `factors` indexes as."""
        _refuse_view(copy)
        return np.asarray(self[:], dtype=dtype)

    def __contains__(self, value: object) -> bool:
        """TypeError: whether a triplet or an entry is meant cannot be told."""
        raise TypeError(f"`in` has no meaning for factors of rank {self.k}; look in .U[:], .s or .Vt[:]")

    def __getitem__(self, key: Any) -> Any:
        """A region of the reconstruction in the input's own units, as NumPy; see `reconstruct.getitem`."""
        with _damage(self.path):
            return reconstruct.getitem(self.low_rank(), key)

    def low_rank(self) -> reconstruct.LowRank:
        """The factors as the value that `reconstruct` works on."""
        m, n = self.shape
        side = max(1, int((_RECONSTRUCTION_CHUNK_BYTES // self.dtype.itemsize) ** 0.5))
        chunks = (min(m, side), min(n, side))
        return reconstruct.LowRank(
            self.U, self.s, self.Vt, self.mean, self.scale, chunks, self.dtype, self._device
        )

    def on(self, device: Literal["auto", "cpu", "gpu"]) -> Factors:
        """The same factors, large products (regions, `reconstruct`, `project`) computed on that device.

        Workers that compute what `reconstruct` or `as_zarr` gives need it too.

        Raises:
            DeviceError: "gpu" was asked for and none works.
            RequestError: there is no such device.

        """
        if device not in DEVICES:
            raise RequestError(f"device={device!r} is not known", f"use one of {', '.join(DEVICES)}")
        attributes = self.provenance | {"certificate": self.certificate.to_dict()}
        chosen, _ = choose_device(device)
        return Factors(self.U, self.s, self.Vt, self.mean, self.scale, attributes, self.path, chosen)

    def reconstruct(self) -> Any:
        """The reconstruction as a Dask array (m, n); a block is computed when it is asked for."""
        return reconstruct.to_dask(self.low_rank())

    def as_zarr(self) -> zarr.Array[Any]:
        """The reconstruction as a read-only Zarr array (m, n), computed when read."""
        return reconstruct.to_zarr(self.low_rank(), {"source": str(self.path), "k": self.k})

    @silent
    def truncate(self, k: int) -> Factors:
        """The best approximation of rank k ≤ self.k contained in these factors; reads nothing.

        Raises:
            RankError: k is not in 1..self.k.

        """
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= self.k:
            raise RankError(f"k={k!r} is not in the allowed range 1..{self.k}", "give a smaller k")
        k = int(k)
        c, sigma = self.certificate, self.s[:k]
        residuals = np.asarray(c.residuals[:k])
        bounds = angle_bounds(residuals, sigma, self.s[k:], float(np.finfo(self.dtype).eps))
        certificate = replace(
            c,
            relative_error=self._error_of(k),
            next_sigma=float(self.s[k]) if k < self.k else c.next_sigma,
            max_residual=float(residuals.max(initial=0.0)),
            residuals=c.residuals[:k],
            sigma_bounds=c.sigma_bounds[:k],
            angle_bounds=tuple(map(float, bounds)),
            identifiable=tuple(bool(bound < 0.5) for bound in bounds),
            numerical_rank=min(c.numerical_rank, k),
            audit=None,
            excess_error=None,
        )
        attributes = self.provenance | {"certificate": certificate.to_dict()}
        U, Vt = Leading(self.U, k, 1), Leading(self.Vt, k, 0)
        return Factors(U, sigma, Vt, self.mean, self.scale, attributes, self.path, self._device)

    def _error_of(self, k: int) -> float:
        """The relative error of the first k triplets, with no less digits than that of all."""
        c = self.certificate
        if c.relative_error_floor >= _SUMMED_FLOOR:
            return relative_error(self.s[:k], c.frobenius_norm, np.finfo(float).eps)[0]
        return float(np.hypot(c.relative_error, np.linalg.norm(self.s[k:] / (c.frobenius_norm or 1.0))))

    @silent
    def project(self, rows: np.ndarray) -> np.ndarray:
        """((x − mean)/scale)·V: coordinates (r, k) of new rows (r, n), or (k,) of one, as rows of U·diag(s).

        Raises:
            RequestError: another number of columns.

        """
        if isinstance(rows, np.ma.MaskedArray) and np.any(np.ma.getmaskarray(rows)):
            raise RequestError("the rows have masked entries", "fill them, such as with the means")
        values = np.asarray(rows, dtype=np.float64)
        n = self.shape[1]
        if values.ndim not in (1, 2) or values.shape[-1] != n:
            raise RequestError(f"rows of shape {values.shape} do not have {n} columns", "give (r, n) or (n,)")
        if self.mean is not None:
            values = values - np.asarray(self.mean[:])
        if self.scale is not None:
            values = values / np.asarray(self.scale[:])
        step = chunk_lines(self.k, n, self.dtype.name) * 16
        rows_of_values = values.reshape(-1, n)
        total = np.zeros((len(rows_of_values), self.k))
        part = np.empty_like(total)
        with _damage(self.path):
            for start in range(0, n, step):
                V = np.asarray(self.Vt[:, start : start + step], dtype=np.float64).T
                multiply(self._device, rows_of_values[:, start : start + step], V, part)
                total += part
        return total.reshape(*values.shape[:-1], self.k)

    def spectrum(self) -> rank.Spectrum:
        """What the rank rules need to know."""
        m, n = self.shape
        itemsize, c = np.dtype(self.provenance["source"]["dtype"]).itemsize, self.certificate
        return rank.Spectrum(
            s=self.s,
            frobenius=c.frobenius_norm,
            shape=self.shape,
            matrix_bytes=m * n * itemsize,
            factor_itemsize=self.dtype.itemsize,
            residuals=np.asarray(c.residuals),
            rest=c.relative_error if c.relative_error_floor < _SUMMED_FLOOR else None,
            next_sigma=c.next_sigma,
        )

    def rank_table(self) -> tuple[rank.RankRow, ...]:
        """One row for each k: σ, energy, relative error, bytes, compression ratio, residual."""
        return rank.rank_table(self.spectrum())

    def info(self) -> dict[str, Any]:
        """The facts that ``bigsvd info --json`` prints."""
        costs, c = self.provenance["costs"], self.certificate
        return {
            "path": str(self.path),
            "shape": list(self.shape),
            "k": self.k,
            "dtype": self.dtype.name,
            "s": [float(value) for value in self.s],
            "centered": self.provenance["request"]["center"],
            "scaled": self.provenance["request"]["scale"],
            **costs,
            "source": self.provenance["source"],
            "versions": self.provenance["versions"],
            "certificate": c.to_dict(),
        }


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn what a checksum codec raises into `FactorStoreError`."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise FactorStoreError(f"{path} is damaged ({error})", "restore it or compute it again") from error


def open_factors(path: str | Path) -> Factors:
    """The factors published at `path`.

    Raises:
        FactorStoreError: nothing there, no manifest, or not a store of this format.

    """
    folder = resolved(path)
    replaced = scratch_path(folder) / REPLACED
    if not folder.exists() and replaced.exists():
        folder = replaced  # a run was killed between the two renames of a system without atomic exchange
    try:
        attributes = _manifest(folder, path)
        store = GuardStore(LocalStore(folder, read_only=True), FactorStoreError)
        arrays = {name: _open_part(store, name) for name in attributes["manifest"]}
        _check_shapes(arrays, attributes["manifest"])
        mean, scale = (np.asarray(arrays[name][:]) if name in arrays else None for name in ("mean", "scale"))
        s = np.asarray(arrays["s"][:])
        return Factors(arrays["U"], s, arrays["Vt"], mean, scale, attributes, Path(path))
    except FactorStoreError:
        raise
    except Exception as error:  # damaged metadata raises anything from JSONDecodeError to KeyError
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: Exception) -> BigsvdError:
    """What is said of a store that raised `error` when it was read: the disk's fault, or the store's."""
    by_system = isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.ENOTDIR)
    if by_system:
        return StorageError(f"{path} cannot be read ({error})", "grant access to it, or look after its disk")
    return FactorStoreError(f"{path} is damaged ({first_line(error)})", "restore it or compute it again")


def _manifest(folder: Path, path: str | Path) -> dict[str, Any]:
    """The attributes of a factor store of this format that are what was published; `path` is its name."""
    attributes = attributes_of(folder).get(ATTRIBUTE)
    if not isinstance(attributes, dict):
        raise _no_store(folder, path)
    found = attributes.get("format_version")
    if found != FORMAT_VERSION:
        raise FactorStoreError(
            f"{path} is a factor store of format {found}, this bigsvd {version('bigsvd')} reads format "
            f"{FORMAT_VERSION}",
            "use the version of bigsvd that wrote it, or compute it again",
        )
    if attributes.get(_CHECKSUM) != _checksum(attributes):
        raise FactorStoreError(
            f"{path} is damaged: {path}/zarr.json has checksum {_checksum(attributes)}, it says "
            f"{attributes.get(_CHECKSUM)}",
            "restore it or compute it again",
        )
    return attributes


def _no_store(folder: Path, path: str | Path) -> FactorStoreError:
    """What is there instead of a factor store, and what to give."""
    kind, remedy = kind_of(folder), "give the OUT of `bigsvd svd`"
    if "://" in str(path):
        return FactorStoreError(f"{path} is a URL, which holds no factors that can be opened here", remedy)
    if not folder.exists() and scratch_path(folder).exists():
        return FactorStoreError(
            f"{path} holds no factors yet: {scratch_path(folder)} is of a run that has not ended",
            "run the same `bigsvd svd` command again to finish it",
        )
    if kind in ("nothing", "an empty folder"):
        return FactorStoreError(f"{path} holds no factors: {kind} is there", f"check the path; {remedy}")
    if (folder / "zarr.json").exists() and not metadata_of(folder):
        return FactorStoreError(
            f"{path} is damaged: its zarr.json is no JSON object", "restore it or compute it again"
        )
    if all((folder / name).is_dir() for name in ("U", "s", "Vt")):
        return FactorStoreError(
            f"{path} is {kind} with U, s and Vt but no bigsvd manifest of format {FORMAT_VERSION}", remedy
        )
    return FactorStoreError(f"{path} is {kind}, not a factor store", remedy)


def _open_part(store: GuardStore, name: str) -> zarr.Array[Any]:
    return as_stored(zarr.open_array(store, path=name, mode="r", zarr_format=3))


def _check_shapes(arrays: dict[str, zarr.Array[Any]], manifest: dict[str, Any]) -> None:
    for name, array in arrays.items():
        expected = manifest[name]
        if list(array.shape) != expected["shape"] or array.dtype.name != expected["dtype"]:
            raise FactorStoreError(
                f"{name} is {array.shape} {array.dtype}, "
                f"its manifest says {expected['shape']} {expected['dtype']}",
                "restore it or compute it again",
            )


def digest(array: Any) -> int:
    """crc32c of the decoded entries, chunk by chunk in row-major order."""
    crc = 0
    grid = [range(0, length, chunk) for length, chunk in zip(array.shape, array.chunks, strict=True)]
    for corner in product(*grid):
        key = tuple(slice(start, start + chunk) for start, chunk in zip(corner, array.chunks, strict=True))
        crc = google_crc32c.extend(crc, np.ascontiguousarray(array[key]))
    return crc


@silent
def orthonormality(array: Any, *, rows: bool) -> float:
    """Max |QᵀQ − I| of the columns of U, or of the rows of Vt if `rows`, read a chunk at a time."""
    k = array.shape[0] if rows else array.shape[1]
    length = array.shape[1] if rows else array.shape[0]
    step = array.chunks[1 if rows else 0]
    gram = np.zeros((k, k))
    for start in range(0, length, step):
        span = slice(start, start + step)
        block = np.asarray(array[:, span] if rows else array[span], dtype=np.float64)
        gram += block @ block.T if rows else block.T @ block
    return float(np.max(np.abs(gram - np.eye(k)), initial=0.0))


@silent
def check_store(factors: Factors) -> list[str]:
    """What is wrong with a store, judged by itself: digests, order, orthonormality, its norm."""
    findings = []
    manifest = factors.provenance["manifest"]
    lines = {"s": factors.s, "mean": factors.mean, "scale": factors.scale}
    with _damage(factors.path):
        crcs = {"U": digest(factors.U), "Vt": digest(factors.Vt)}
        crcs |= {name: google_crc32c.value(line) for name, line in lines.items() if line is not None}
        findings += [
            f"{name} is not what was published (checksum of its entries differs)"
            for name in crcs
            if crcs[name] != manifest[name]["crc32c"]
        ]
        tolerance = 1e-5 if factors.dtype == np.float32 else 1e-10
        for name, array, rows in (("U", factors.U, False), ("Vt", factors.Vt, True)):
            worst = orthonormality(array, rows=rows)
            if not worst <= tolerance:
                findings.append(f"{name} is not orthonormal: {worst:.1e} where {tolerance:g} is allowed")
    s = factors.s
    if not np.all(np.isfinite(s)) or np.any(s < 0) or np.any(np.diff(s) > 0):
        findings.append("s is not finite, non-negative and descending")
    c = factors.certificate
    error, _ = relative_error(s, c.frobenius_norm, np.finfo(float).eps)
    spacing = np.spacing(c.frobenius_norm) / (c.frobenius_norm or 1.0)  # coarse where the norm is subnormal
    if not abs(error**2 - c.relative_error**2) <= 64 * max(np.finfo(factors.dtype).eps, spacing):
        findings.append(f"s gives relative error {error:.9g}, the certificate says {c.relative_error:.9g}")
    return findings


def seal(scratch: Scratch, attributes: dict[str, Any]) -> None:
    """Write the manifest of the factors in scratch: they become a factor store."""
    with storage_errors(f"writing {scratch.path}/{FOLDER}"):
        names = [name for name in STORE_ARRAYS if scratch.has(f"{FOLDER}/{name}")]
        arrays = {name: scratch.open(f"{FOLDER}/{name}") for name in names}
        manifest = {
            name: {"shape": list(array.shape), "dtype": array.dtype.name, "crc32c": digest(array)}
            for name, array in arrays.items()
        }
        body = {"format_version": FORMAT_VERSION, "versions": versions(), "manifest": manifest, **attributes}
        sealed: dict[str, Any] = {ATTRIBUTE: body | {_CHECKSUM: _checksum(body)}}
        if scratch.has(FOLDER):
            zarr.open_group(scratch.store(FOLDER), mode="r+", zarr_format=3).attrs.put(sealed)
        else:
            zarr.create_group(scratch.store(FOLDER), attributes=sealed, zarr_format=3)


def _checksum(attributes: dict[str, Any]) -> int:
    """crc32c of the attributes other than the checksum itself, as JSON with sorted names."""
    body = {name: value for name, value in attributes.items() if name != _CHECKSUM}
    return int(google_crc32c.value(json.dumps(body, sort_keys=True).encode()))


@cache
def versions() -> dict[str, str]:
    """What computed the result; which files tell that is looked up once a process."""
    names = ("bigsvd", "numpy", "zarr", "dask", "distributed")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def scratch_path(out: Path) -> Path:
    """Where the scratch of an output lies: beside what a link leads to, so that a rename publishes."""
    target = resolved(out)
    return target.parent / f"{target.name}.scratch"
