"""What an operator decides: one immutable value, read once when the server starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """What a client may ask for, each with the name under which a refusal mentions it.

    Attributes:
        body_bytes: of a request. body_levels: of lists and objects in each other, in its JSON.
        arrival_seconds: until its headers are here, and again until its body is.
        departure_seconds: until the client has taken what waits of an answer, which is a megabyte or two.
        connections: open at a time; who comes with another is asked to come again.
        queued_jobs: of one owner, that have not ended. region_bytes: of one answer.
        page_rows: of a list. streams: of events, open at a time. links: of one result, that hold.
        link_seconds: until a link expires, at most. cache_bytes: of decoded factors, held in memory.
        source_chunks: of the original data that one region may touch. runtime_seconds: of a job, at most.
        verifications: of results, that one server runs at a time.
        free_bytes: that disks must have left for anything new to be taken in.

    """

    body_bytes: int = 2**20
    body_levels: int = 64
    arrival_seconds: float = 30.0
    departure_seconds: float = 60.0
    connections: int = 1000
    queued_jobs: int = 1000
    region_bytes: int = 2**26
    page_rows: int = 200
    streams: int = 200
    links: int = 100
    link_seconds: float = 90 * 86400.0
    cache_bytes: int = 2**28
    source_chunks: int = 64
    runtime_seconds: float = 30 * 86400.0
    verifications: int = 2
    free_bytes: int = 2**26


@dataclass(frozen=True)
class Retention:
    """How long what has ended is kept.

    Attributes:
        seconds: for which the record of an ended job is kept. bytes: that all of them may take together, of
            which the oldest go. None for no such limit.
        results: whether results count and go with their records; else they stay, whatever they take.

    """

    seconds: float | None = None
    bytes: int | None = None
    results: bool = False

    @property
    def is_limited(self) -> bool:
        """Whether anything is ever forgotten."""
        return self.seconds is not None or self.bytes is not None


@dataclass(frozen=True)
class Settings:
    """How one server runs.

    Attributes:
        state: the folder of what the server itself keeps: its database where that is SQLite, its log.
        roots: folders below which sources, outputs and all other paths of requests must lie.
        database: SQLAlchemy URL of PostgreSQL; empty for SQLite in `state`.
        scheduler: address of the Dask cluster that does the work; empty for processes of this machine.
        tls: files of the cluster's authority, of a certificate and of its key.
        jobs_at_once: driven by this server at a time. memory_bytes: that they may hold together where
            they are processes of this machine; None for half of what is free.
        stage: folder in which sources may be staged; None where they may not.
        host, port: where it listens. hosts: names by which clients may call it, beside that.
        origins: of pages of other servers that may read arrays.
        urls: what sources and vectors may lie at that are URLs: each a scheme and a bucket or host, with or
            without the beginning of a path.
        trusted: whoever can connect is an administrator, and no token is asked for.
        user_header, trusted_proxy: in which header a proxy at that address says who asks; such users may read
            and submit.

    """

    state: Path
    roots: tuple[Path, ...]
    database: str = ""
    scheduler: str = ""
    tls: tuple[str, ...] = ()
    jobs_at_once: int = 1
    memory_bytes: int | None = None
    stage: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8765
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    trusted: bool = False
    user_header: str = ""
    trusted_proxy: str = ""
    retention: Retention = field(default_factory=Retention)
    limits: Limits = field(default_factory=Limits)
