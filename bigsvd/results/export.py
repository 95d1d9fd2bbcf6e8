"""Files that a person asks for: a region of a reconstruction, a plot. None replaces what is there already.

A region is written under another name and renamed when it is whole, so that what bears its name is whole too.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bigsvd.errors import RequestError
from bigsvd.paths import lies_in, resolved
from bigsvd.results.factors import Factors
from bigsvd.results.folders import is_scratch, is_zarr_array
from bigsvd.scratch import storage_errors

_BLOCK_BYTES = 2**26
_NPY, _ZARR, _PNG = ".npy", (".zarr", ""), (".png", "")
_PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
_NO_LINKS = frozenset(
    {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EMLINK}
)


def write_region(
    factors: Factors, region: tuple[slice, slice], out: str, *, unstack: bool = False
) -> tuple[int, ...]:
    """Write ``factors[region]`` to a .npy file or a Zarr array, some rows at a time; its shape.

    To `unstack` whole rows is to write them along the axes that the data had.

    Raises:
        RequestError: something of that name is there, or the name ends as neither kind does; nothing can be
            unstacked.

    """
    rows, cols = region
    width = cols.stop - cols.start
    if unstack:
        _check_stacked(factors, width)
    shape, axis = _written_shape(factors, region, unstack=unstack)
    path = check_array(out, factors.path)
    with storage_errors(f"writing {out}"), _renamed_when_whole(path) as partial:
        step = max(1, _BLOCK_BYTES // (width * factors.dtype.itemsize))
        if path.suffix.lower() == _NPY:
            target: Any = np.lib.format.open_memmap(partial, mode="w+", dtype=factors.dtype, shape=shape)
        else:
            target = _create_output(str(partial), shape, axis, factors.dtype)
            step = max(1, step // target.chunks[axis]) * target.chunks[axis]
        for start in range(0, shape[axis], step):
            stop = min(shape[axis], start + step)
            block = factors[rows.start + start : rows.start + stop, cols]
            here = (slice(None),) * axis + (slice(start, stop),)
            target[here] = factors.unstacked(block) if unstack else block
        if path.suffix.lower() == _NPY:
            target.flush()
    return shape


def check_array(out: str, store: Path) -> Path:
    """`RequestError` unless a .npy file or a Zarr array can be written there, outside of `store`."""
    path = Path(out)
    if path.suffix.lower() not in (_NPY, *_ZARR):
        raise RequestError(
            f"{out} ends in {path.suffix}", "name it .npy, or .zarr or without an ending for Zarr"
        )
    if os.path.lexists(path):
        raise RequestError(f"{out} already exists", "choose another name")
    _check_surroundings(path, store)
    return path


def write_array(values: np.ndarray, out: str, store: Path) -> None:
    """Write an array in memory to a .npy file or a Zarr array; see `check_array` for what is refused."""
    path = check_array(out, store)
    with storage_errors(f"writing {out}"), _renamed_when_whole(path) as partial:
        if path.suffix.lower() == _NPY:
            with partial.open("wb") as file:
                np.save(file, values)
        else:
            _create_output(str(partial), values.shape, 0, values.dtype)[...] = values


def _check_stacked(factors: Factors, width: int) -> None:
    """`RequestError` unless so many columns are whole samples of data with more axes than two."""
    if len(factors.array_shape) == len(factors.shape):
        raise RequestError(
            f"the factors are of a matrix {factors.kept.shape}, of which no axes were stacked", "drop unstack"
        )
    if width != factors.kept.shape[1]:
        raise RequestError(
            f"{width} of {factors.kept.shape[1]} columns have no axes of their own", "drop cols"
        )


def _written_shape(
    factors: Factors, region: tuple[slice, slice], *, unstack: bool
) -> tuple[tuple[int, ...], int]:
    """The shape of what is written, and the axis of it that the rows are along."""
    rows, cols = region
    count = rows.stop - rows.start
    if not unstack:
        return (count, cols.stop - cols.start), 0
    axis, lengths = factors.array_axis, factors.array_shape
    return (*lengths[:axis], count, *lengths[axis + 1 :]), axis


def _create_output(path: str, shape: tuple[int, ...], axis: int, dtype: np.dtype[Any]) -> zarr.Array[Any]:
    """A new Zarr array at `path` for a region that is to be stored; chunks of whole rows, about 4 MB.

    Every chunk is written, and one that is lost reads as NaN, never as zeros.
    """
    width = math.prod(shape) // shape[axis]
    rows = max(1, min(shape[axis], 2**22 // (width * dtype.itemsize)))
    return zarr.create_array(
        path,
        shape=shape,
        chunks=(*shape[:axis], rows, *shape[axis + 1 :]),
        dtype=dtype,
        fill_value=np.nan,
        zarr_format=3,
        config={"write_empty_chunks": True},
    )


def check_plot(plot: str, store: Path) -> None:
    """`RequestError` unless a PNG can be written there, outside of `store`, replacing nothing but a PNG."""
    path = Path(plot)
    if path.suffix.lower() not in _PNG:
        raise RequestError(f"{plot} ends in {path.suffix}, a plot is a PNG", "name it .png")
    if not path.parent.is_dir():
        raise RequestError(f"there is no such folder as {path.parent}", "make it, or choose another name")
    if os.path.lexists(path) and not _is_png(path):
        raise RequestError(f"{plot} already exists and is no PNG", "choose another name")
    _check_surroundings(path, store)


def _is_png(path: Path) -> bool:
    if not path.is_file():
        return False
    with storage_errors(f"reading {path}"), path.open("rb") as file:
        return file.read(len(_PNG_BEGINS)) == _PNG_BEGINS


def _check_surroundings(path: Path, store: Path) -> None:
    """`RequestError` inside the factors, another Zarr array or scratch, where it would be foreign."""
    if lies_in(path, store):
        raise RequestError(f"{path} lies inside the factor store {store}", "choose a place beside it")
    for folder in resolved(path).parents:
        if is_zarr_array(folder) or is_scratch(folder):
            what = "a Zarr array" if is_zarr_array(folder) else "the scratch of a run"
            raise RequestError(f"{path} lies inside {what}, {folder}", "choose a place beside it")


@contextmanager
def _renamed_when_whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; renamed to `path` at the end, removed if that is not reached."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        if partial.is_dir():
            partial.rename(path)  # which fails where something has come to be there meanwhile
        else:
            _rename_to_nothing(partial, path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


def _rename_to_nothing(file: Path, path: Path) -> None:
    """Give a file the name `path`; FileExistsError where that is one of another."""
    try:
        path.hardlink_to(file)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        file.rename(path)
