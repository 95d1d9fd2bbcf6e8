"""Opens the vectors that a request names: in memory, or the path or URL of an array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from bigsvd.errors import BigsvdError, RequestError, SourceError, StorageError, first_line
from bigsvd.facts import SourceFacts
from bigsvd.request import SCALES, VECTORS, Request
from bigsvd.sources.along_lines import along_lines, check_shape
from bigsvd.sources.base import Source
from bigsvd.sources.by_path import leads_somewhere, numbers_at
from bigsvd.sources.sizes import ANY, most_entries
from bigsvd.sources.urls import open_url
from bigsvd.sources.zarr_dense import numbers_of_zarr
from bigsvd.units import source_name
from bigsvd.vectors import DIGEST, Vector, digest_of

Vectors = Mapping[str, Vector]  # those that are given for a run, by option


def open_numbers(
    option: str, given: Any, storage_options: Mapping[str, Any] | None = None, most: float = ANY
) -> Vector:
    """The values of a request's `option` as float64: in memory, or the path or URL of an array.

    A path names a Zarr array, a .npy file, or a dataset in an HDF5 or netCDF-4 file, as one of a source does.
    CF attributes are applied.

    Raises:
        RequestError: no array, no real numbers, or more than `most`.
        SourceError, StorageError: nothing is there, or it cannot be read.

    """
    name, raw, dims = _found(option, given, storage_options, most)
    if raw.dtype.kind not in "biuf":
        raise RequestError(f"{_called(option, name)} holds {raw.dtype}, not real numbers", "give numbers")
    return _vector(name, raw.astype(np.float64), dims)


def open_places(
    option: str, given: Any, storage_options: Mapping[str, Any] | None = None, most: float = ANY
) -> Vector:
    """The same of indices (int64), or of truth values (bool).

    Raises:
        RequestError: no array, or of other values.
        SourceError, StorageError: nothing is there, or it cannot be read.

    """
    name, raw, dims = _found(option, given, storage_options, most)
    if raw.dtype.kind == "b":
        return _vector(name, raw, dims)
    if raw.dtype.kind not in "iu" or (raw.size and int(raw.max()) > np.iinfo(np.int64).max):
        raise RequestError(
            f"{_called(option, name)} holds {raw.dtype}, not indices", "give integers or truth values"
        )
    return _vector(name, raw.astype(np.int64), dims)


def _called(option: str, name: str) -> str:
    """An option, and the place that was given for it if one was."""
    return f"{option}={name}" if name else option


def _vector(name: str, values: np.ndarray, dims: tuple[str, ...]) -> Vector:
    """The vector of that name; without one it is called by its digest."""
    values = np.array(values)
    values.flags.writeable = False
    return Vector(name or digest_of(values), values, dims)


def _found(
    option: str, given: Any, storage_options: Mapping[str, Any] | None, most: float
) -> tuple[str, np.ndarray, tuple[str, ...]]:
    """The name of what was given, empty where it is in memory, its entries, and what its axes are called."""
    if isinstance(given, (str, Path)):
        name = source_name(str(given))
        raw, dims = _at(option, str(given), storage_options or {}, most)
    else:
        name, raw, dims = "", _in_memory(option, given), _names_in_memory(given)
    if raw.ndim == 0:
        raise RequestError(f"{option} has shape {raw.shape}", "give a vector: one axis")
    return name, raw, dims


def _in_memory(option: str, given: Any) -> np.ndarray:
    if isinstance(given, np.ma.MaskedArray) and np.any(np.ma.getmaskarray(given)):
        raise RequestError(f"{option} has masked entries", "fill them")
    try:
        return np.asarray(given)
    except Exception as error:
        raise RequestError(
            f"{option} is no array ({first_line(error)})", "give a NumPy array, or the path of one"
        ) from error


def _names_in_memory(given: Any) -> tuple[str, ...]:
    """The names of the axes of an xarray array; what others call `dims` is no tuple."""
    dims = getattr(given, "dims", ())
    return tuple(map(str, dims)) if isinstance(dims, tuple) else ()


def _at(
    option: str, place: str, storage_options: Mapping[str, Any], most: float
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The entries at a path or URL, and the names of their axes."""
    if place.startswith(DIGEST):
        raise RequestError(
            f"{option} was in memory when the request was made, of which {place} is the digest",
            f"give the values again as {option}=",
        )
    name, far = source_name(place), "://" in source_name(place)
    if not far and not leads_somewhere(name):
        raise SourceError(f"{option}={name} does not exist", _instead_of(option, name))
    with _reading(option, name):
        if far:
            return numbers_of_zarr(name, open_url(place, storage_options), "", most)
        return numbers_at(name, most)


def _instead_of(option: str, name: str) -> str:
    """What to do where nothing of that name is there, which may have been meant for something else."""
    if option in ("rows", "cols"):
        return "check the path, or give a range such as 0:100"
    if option == "scale":
        return scale_meant(name, "a path that exists")
    return "check the path"


def scale_meant(word: str, otherwise: str) -> str:
    """What to write in place of a word that is no rule of scale: the nearest one, or something else."""
    near = get_close_matches(word, SCALES, 1)
    return f"use {(near or [otherwise])[0]}; the rules are {', '.join(SCALES)}"


@contextmanager
def _reading(option: str, name: str) -> Iterator[None]:
    """Name the option and the place in whatever another library raises while it is read."""
    try:
        yield
    except BigsvdError as error:
        told = error.message.removeprefix(name)
        if told == error.message:
            told = f": {told}"
        raise type(error)(f"{option}={name}{told}", error.remedy) from error
    except OSError as error:
        raise StorageError(f"{option}={name} cannot be read ({error})", "check that path") from error
    except Exception as error:
        raise SourceError(
            f"{option}={name} cannot be read ({first_line(error)})",
            "give a Zarr array, a .npy file, or a dataset in an HDF5 or netCDF-4 file",
        ) from error


def name_vectors(
    options: dict[str, Any], storage_options: Mapping[str, Any] | None = None
) -> dict[str, Vector]:
    """The vectors among the options of a request, by option; in the options their names take their place."""
    found = {}
    for option in VECTORS:
        given = options.get(option)
        own = option == "scale" and (isinstance(given, (bool, np.bool_)) or _is_scale(given))
        if given is not None and not own:
            found[option] = open_numbers(option, given, storage_options)
            options[option] = found[option].name
    return found


def _is_scale(given: Any) -> bool:
    return isinstance(given, str) and given in SCALES


def vectors_of(
    request: Request,
    facts: SourceFacts,
    known: Vectors,
    storage_options: Mapping[str, Any] | None = None,
) -> dict[str, Vector]:
    """The vectors that a request names, by option, as they are given: those that are known, others opened.

    Raises:
        RequestError: another length or shape.

    """
    found = {}
    for option, name in request.named.items():
        vector = known.get(option)
        if vector is None or vector.name != name:
            vector = open_numbers(option, name, storage_options, most_entries(facts))
        check_shape(option, vector, facts)
        found[option] = vector
    return found


def lined_up(
    request: Request,
    source: Source,
    known: Vectors,
    storage_options: Mapping[str, Any] | None = None,
) -> dict[str, Vector]:
    """The same, each with one value for each line of A in the order of these; see `along_lines`."""
    return along_lines(vectors_of(request, source.facts, known, storage_options), source)
