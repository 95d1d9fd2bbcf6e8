"""A Zarr store in a Zip file, read where it is: `data.zarr.zip`, or a folder that was zipped as a whole."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ZipStore

from bigsvd.chunks.guard import METADATA_NAMES, WatchedStore
from bigsvd.errors import ChunkCorruptError, SourceError, first_line

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


class ZippedStore(WatchedStore):
    """A read-only store in a Zip file, which other processes of this machine can open too.

    Raises:
        SourceError: the file is no whole Zip file, or holds nothing of Zarr.

    """

    def __init__(self, path: Path) -> None:
        inside = ZipStore(path, mode="r")
        try:
            inside._sync_open()  # noqa: SLF001 - that it can be opened is to be known now
        except zipfile.BadZipFile as error:
            raise SourceError(
                f"{path} is no whole Zip file ({first_line(error)})", "copy it again"
            ) from error
        super().__init__(inside)
        self._path = path
        self.root = _root(path, inside._zf.namelist())  # noqa: SLF001 - Zarr lists them without folders

    def __str__(self) -> str:
        return str(self._path)

    def __reduce__(self) -> tuple[type[ZippedStore], tuple[Path]]:
        return ZippedStore, (self._path,)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value of `key`; `ChunkCorruptError` where the file is damaged there."""
        try:
            return await self._store.get(key, prototype, byte_range)
        except _DAMAGE as error:
            raise ChunkCorruptError(
                f"{key} of {self._path} cannot be read ({first_line(error)})", "restore that file"
            ) from error


def _root(path: Path, names: list[str]) -> str:
    """The folder inside that holds the outermost metadata of Zarr: the Zip file itself, or one in it."""
    folders = [name.rpartition("/")[0] for name in names if name.rpartition("/")[2] in METADATA_NAMES]
    depth = min((folder.count("/") + bool(folder) for folder in folders), default=0)
    outermost = {folder for folder in folders if folder.count("/") + bool(folder) == depth}
    if len(outermost) == 1:
        return outermost.pop()
    if not outermost:
        raise SourceError(f"{path} is a Zip file without Zarr metadata", "give a Zarr store in a Zip file")
    return ""
