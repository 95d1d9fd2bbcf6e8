"""A store behind a slow line: simulated by waiting."""

from __future__ import annotations

import asyncio
import time

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore


class SlowStore(WrapperStore[Store]):
    """A store that hands out at most so many bytes a second, as stored, to all who read it together.

    Values follow each other on one line: each arrives when the line is free again and as many seconds
    later as it has bytes for.
    """

    def __init__(self, store: Store, bytes_per_second: float) -> None:
        super().__init__(store)
        self._rate = bytes_per_second
        self._free_at = 0.0

    @property
    def _supports_sync_io(self) -> bool:
        """No: every read of Zarr >= 3.3 must come through `get`, which waits."""
        return False

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value of `key`, late. All readers share Zarr's one event loop, so nothing has to be locked."""
        value = await self._store.get(key, prototype, byte_range)
        if value is not None:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + len(value) / self._rate
            await asyncio.sleep(self._free_at - now)
        return value
