"""Arrays in bodies: as JSON, with null for what is no finite number, or as the bytes of an .npy file.

No .npy file is handed to NumPy's own reader, which may unpickle, and allocates what a header asks for before
it sees how much there is.
"""

from __future__ import annotations

import io
import json
import math
from tokenize import TokenError
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
from fastapi import Query, Response
from pydantic import BaseModel

from bigsvd.errors import RequestError, TooLargeError
from bigsvd.service.http.pieces import InPieces

NPY = "application/x-npy"
FORMATS: dict[str, Any] = {NPY: {"schema": {"type": "string", "format": "binary"}}}
JSON_BYTES = 24  # of a number, at most
_NO_HEADER = (ValueError, KeyError, SyntaxError, TypeError, TokenError)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

Format = Annotated[Literal["json", "npy"], Query(description="JSON, or an .npy file.")]
Number = float | None


class Matrix(BaseModel):
    """Numbers by rows; null is what is no finite number."""

    values: list[list[Number]]


def check_size(what: str, shape: tuple[int, ...], itemsize: int, wanted: str, most_bytes: int) -> None:
    """`TooLargeError` where so many numbers are more than one answer holds."""
    count = math.prod(shape)
    size = count * (itemsize if wanted == "npy" else JSON_BYTES)
    if size > most_bytes:
        lengths = " x ".join(f"{length:,}" for length in shape)
        raise TooLargeError(
            f"{what} has {lengths} numbers, about {size:,} bytes as {wanted}, over the "
            f"limits.region_bytes={most_bytes:,} of one answer",
            "ask for a part at a time, for .npy, or read it as a Zarr array",
        )


def plain(values: np.ndarray) -> list[Any]:
    """Numbers as JSON has them."""
    if np.isfinite(values).all():
        found: list[Any] = values.tolist()
        return found
    holed = values.astype(object)
    holed[~np.isfinite(values)] = None
    listed: list[Any] = holed.tolist()
    return listed


def answered(values: np.ndarray, wanted: str, about: dict[str, Any], name: str = "values") -> Response:
    """An array as it was asked for; JSON says what else there is `about` it, too."""
    if wanted == "json":
        text = json.dumps({**about, name: plain(values)}, allow_nan=False)
        return InPieces(text, media_type="application/json")
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)
    headers = {"Content-Disposition": f'attachment; filename="{name}.npy"'}
    return InPieces(file.getvalue(), media_type=NPY, headers=headers)


def npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns lie together, and dtype of an .npy file, which is read up to its numbers.

    Raises:
        RequestError: it is none.

    """
    try:
        version = np.lib.format.read_magic(file)
        return _HEADERS[version](file)
    except (*_NO_HEADER, RecursionError, MemoryError) as error:
        raise RequestError("this is no .npy file", "give what numpy.save writes") from error


def from_npy(body: bytes) -> np.ndarray:
    """The array of an .npy file.

    Raises:
        RequestError: it is none of real numbers, or does not hold what its header says.

    """
    file = io.BytesIO(body)
    shape, by_columns, dtype = npy_header(file)
    if dtype.kind not in "biuf" or dtype.hasobject:
        raise RequestError(f"the body has entries of {dtype}", "send real numbers")
    held, said = len(body) - file.tell(), math.prod(shape) * dtype.itemsize
    if held != said or min(shape, default=1) < 0:
        raise RequestError(f"the body holds {held:,} bytes, its header says {said:,}", "send it again")
    flat = np.frombuffer(body, dtype, offset=file.tell())
    return flat.reshape(shape, order="F" if by_columns else "C")
