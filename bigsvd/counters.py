"""Counters of what was read, kept for a source, a lane, a pass and a whole run. Counters can be added."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass
class Counters:
    """How much was read, and from where.

    Attributes:
        bytes_read: uncompressed bytes that came from the source.
        cached_bytes: uncompressed bytes that came from the panel cache instead.
        device_cached_bytes: the part of `cached_bytes` that already lay in the device's own memory.
        encoded_bytes: bytes of files or objects that were read, as they are stored.
        filled_chunks: number of chunks that do not exist and were read as the fill value.
        retries: number of reads that were repeated after a failure.

    """

    bytes_read: int = 0
    cached_bytes: int = 0
    device_cached_bytes: int = 0
    encoded_bytes: int = 0
    filled_chunks: int = 0
    retries: int = 0

    def __add__(self, other: Counters) -> Counters:
        names = (field.name for field in fields(self))
        return Counters(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @classmethod
    def total(cls, parts: Iterable[Counters]) -> Counters:
        """The sum of several."""
        return sum(parts, cls())

    @property
    def streamed_bytes(self) -> int:
        """Uncompressed bytes that were multiplied, whether they came from the source or from the cache."""
        return self.bytes_read + self.cached_bytes

    def to_dict(self) -> dict[str, int]:
        """JSON values; `Counters(**values)` is the inverse."""
        values: dict[str, Any] = asdict(self)
        return values
