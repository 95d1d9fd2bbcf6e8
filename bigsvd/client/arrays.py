"""Zarr arrays of a service. What cannot be read is an error, never a number.

Readers of Zarr take a chunk that is not found for the fill value. Here every chunk of the grid exists, so one
that is not found was deleted, or something on the way has answered in the service's place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import obstore.exceptions
import zarr
from obstore.store import HTTPStore
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore, WrapperStore

from bigsvd.errors import ServiceError

_CHUNK = re.compile(r"(.*/)?c(/\d+)+")
_RETRY_SECONDS = 60


class ServedStore(WrapperStore[ObjectStore[Any]]):
    """A store of a service, whose chunks are all there."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value of a key.

        Raises:
            ServiceError: it cannot be had, or is a chunk that is not there.

        """
        try:
            value = await super().get(key, prototype, byte_range)
        except obstore.exceptions.BaseError as error:
            raise ServiceError(f"{key} cannot be read ({_first_line(error)})", _REMEDY) from error
        if value is None and _CHUNK.fullmatch(key):
            raise ServiceError(f"{key} is not found, though the array has it", _REMEDY)
        return value

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """The same of several."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]


_REMEDY = "see whether the result is still there, and may be read with this token"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def open_array(url: str, path: str, headers: Mapping[str, str]) -> zarr.Array[Any]:
    """The array at `path` in the group at that URL, read with these headers.

    Raises:
        ServiceError: it cannot be opened.

    """
    store = HTTPStore.from_url(
        url,
        client_options={
            "default_headers": dict(headers),
            "allow_http": urlsplit(url).scheme == "http",
        },
        retry_config={"max_retries": 10, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
    )
    served = ServedStore(ObjectStore(store, read_only=True))
    try:
        found = zarr.open_array(served, path=path, mode="r", zarr_format=3)
    except FileNotFoundError as error:
        raise ServiceError(f"there is no array at {url}", _REMEDY) from error
    return found
