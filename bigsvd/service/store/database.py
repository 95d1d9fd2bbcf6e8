"""The database: SQLite in the state folder of one server, or PostgreSQL that several share."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text, update
from sqlalchemy.exc import ArgumentError

from bigsvd.errors import DatabaseError
from bigsvd.paths import file_system_of
from bigsvd.service.settings import Settings
from bigsvd.service.store.tables import meta, migrate
from bigsvd.service.store.writer import Turn, Writer, database_errors

FILE = "service.sqlite3"
# File systems of other machines: SQLite's locks, and the shared memory of its log, do not hold across them.
_REMOTE = ("nfs", "cifs", "smb", "9p", "afs", "lustre", "gpfs", "ceph", "gluster", "beegfs", "fuse.")
_BUSY_SECONDS = 20.0
_CONNECT_SECONDS = 10


class Database:
    """Where the service keeps its tables; a context manager, which brings them to today's version.

    Raises:
        DatabaseError: it cannot be used. StorageError: it fails.

    """

    def __init__(self, settings: Settings) -> None:
        self.url = _url(settings)
        if self.is_shared:
            self._engine = _postgres(self.url)
        else:
            self._engine = _sqlite(settings.state)
        self.writer = Writer(self._engine, self._clock)
        self._held = ExitStack()

    @property
    def is_shared(self) -> bool:
        """Whether several servers may use it."""
        return self.url.get_backend_name() == "postgresql"

    def __enter__(self) -> Database:
        with ExitStack() as stack:
            stack.callback(self._engine.dispose)
            with database_errors(), self._engine.begin() as connection:
                migrate(connection)
            stack.enter_context(self.writer)
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @contextmanager
    def reading(self) -> Iterator[Turn]:
        """A transaction that only reads, and sees one moment."""
        with database_errors(), self._engine.connect() as connection:
            reader = connection.execution_options(begin="BEGIN")
            yield Turn(reader, self._clock(reader))

    def check_writable(self) -> None:
        """`StorageError` where nothing can be written now."""

        def touched(turn: Turn) -> None:
            turn.connection.execute(update(meta).values(value=meta.c.value))

        self.writer.write(touched)

    def _clock(self, connection: Connection) -> float:
        """The time; of a database that this server has alone, this machine's."""
        if not self.is_shared:
            return time.time()
        return float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)


def made_before(settings: Settings) -> Database:
    """The database that a service has made; `DatabaseError` where the state folder has none."""
    file = settings.state / FILE
    if not settings.database and not file.is_file():
        raise DatabaseError(
            f"no service has kept its tables in {settings.state}: there is no {FILE}",
            "give the --state or the --database of `bigsvd serve`, which makes them when it first starts",
        )
    return Database(settings)


def _url(settings: Settings) -> URL:
    if not settings.database:
        return URL.create("sqlite", database=str(settings.state / FILE))
    try:
        url = make_url(settings.database)
    except ArgumentError as error:
        raise _not_postgres("a text that is none") from error
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise _not_postgres(f"one of {url.get_backend_name()!r}")
    return url.set(drivername="postgresql+psycopg")


def _not_postgres(what: str) -> DatabaseError:
    """Its text is not quoted, since it may hold a password."""
    return DatabaseError(
        f"the setting database is {what}, and not a URL of PostgreSQL",
        "give such as postgresql://user@host/name, or leave it out for SQLite in the state folder",
    )


def _sqlite(state: Path) -> Engine:
    _refuse_remote(state)
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DatabaseError(
            f"the state folder {state} cannot be made ({error.strerror})",
            "give one that this user may write, on a disk of this machine",
        ) from error
    url = URL.create("sqlite", database=str(state / FILE))
    engine = create_engine(
        url,
        connect_args={"timeout": _BUSY_SECONDS},
        pool_size=20,
        max_overflow=-1,
        pool_use_lifo=True,  # whose pages and statements are still in memory
    )

    @event.listens_for(engine, "connect")
    def _(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # the driver would begin a transaction late, or not at all
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        begin = connection.get_execution_options().get("begin", "BEGIN IMMEDIATE")
        connection.exec_driver_sql(begin)

    return engine


def _refuse_remote(state: Path) -> None:
    kind = file_system_of(state)
    if kind.startswith(_REMOTE):
        raise DatabaseError(
            f"the state folder {state} lies on {kind}, where SQLite's locks do not hold",
            "give a folder on a disk of this machine, or a PostgreSQL database",
        )


def _postgres(url: URL) -> Engine:
    try:
        return create_engine(
            url.update_query_dict({"connect_timeout": str(_CONNECT_SECONDS)}),
            pool_pre_ping=True,
            pool_size=20,
            max_overflow=-1,
        )
    except ModuleNotFoundError as error:
        raise DatabaseError(
            f"a database of PostgreSQL needs {error.name}, which is not installed",
            "pip install 'bigsvd[postgres]'",
        ) from error
