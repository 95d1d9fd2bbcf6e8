"""The tables of the service, and how those of an older version become today's.

| table | what it holds |
|---|---|
| `jobs` | the queue, and an index of the records beside the outputs, which are the truth |
| `labels` | further words for jobs, one a row, to be found by |
| `tokens`, `links` | who may ask, and who may read one result: hashes of secrets, never these themselves |
| `meta` | the version of all this |

Times are seconds since the epoch: of the database's clock, where several servers share it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    Update,
    delete,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.schema import CreateColumn

from bigsvd.errors import DatabaseError, JobError
from bigsvd.service.store.writer import Turn

# Where a job is in the server's hands: in line; claimed by a server that is to begin it; begun, and looked
# after by that server; ended.
Stage = Literal["line", "claimed", "begun", "ended"]
VERSION = 2
_VERSION = "version"
_MIGRATING = 0x62736D67  # the name of a lock that servers which start at once take in turn

metadata = MetaData()
_Big = BigInteger().with_variant(Integer(), "sqlite")
_Json = JSON(none_as_null=True)

meta = Table(
    "meta",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)
_said = select(meta.c.value).where(meta.c.name == _VERSION)
jobs = Table(
    "jobs",
    metadata,
    Column("seq", _Big, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("owner", String, nullable=False),
    Column("name", String, nullable=False),
    Column("labels", _Json, nullable=False),
    Column("key", String),
    Column("body", String, nullable=False),  # digest of all that was sent
    Column("digest", String, nullable=False),  # of what is computed
    Column("request", _Json, nullable=False),
    Column("terms", _Json, nullable=False),
    Column("out", String, nullable=False),
    Column("words", String, nullable=False, server_default=""),  # that a search looks through
    Column("state", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("phase", _Json, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("error", _Json),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("ended", Double),
    Column("stage", String, nullable=False, server_default="line"),
    Column("stopping", Boolean, nullable=False, server_default=text("false")),
    Column("wish", String, nullable=False, server_default=""),  # cancel, drop (cancel and delete), or none
    Column("server", String),  # that has the lease
    Column("lease", Double),  # until then
    Column("claimed", Double),  # when, last
    Column("not_before", Double, nullable=False, server_default="0"),
    Column("tries", Integer, nullable=False, server_default="0"),  # in a row without a finished pass
    Column("passes", Integer, nullable=False, server_default="0"),  # finished by the last of them
    Column("mark", String),  # of the result, when it is done; see `results.store.mark_of`
    UniqueConstraint("owner", "key", name="jobs_key"),
    Index("jobs_line", "stage", "owner", "seq"),
    Index("jobs_turns", "owner", "claimed"),
    Index("jobs_state", "state", "seq"),
    Index("jobs_server", "server"),
    Index("jobs_output", "out"),
    Index("jobs_wish", "wish"),
    Index(
        "jobs_one_at_a_time",
        "out",
        unique=True,
        sqlite_where=text("stage <> 'ended'"),
        postgresql_where=text("stage <> 'ended'"),
    ),
    sqlite_autoincrement=True,
)
labels = Table(
    "labels",
    metadata,
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
    Index("labels_found", "name", "value"),
)
tokens = Table(
    "tokens",
    metadata,
    Column("id", String, primary_key=True),
    Column("hash", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("scopes", _Json, nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double),
    Column("revoked", Double),
)
links = Table(
    "links",
    metadata,
    Column("id", String, primary_key=True),
    Column("hash", String, nullable=False, unique=True),
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("owner", String, nullable=False),
    Column("name", String, nullable=False),
    Column("k", Integer),
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("revoked", Double),
)


def of_job(job: str) -> ColumnElement[bool]:
    """What the row of that job meets."""
    return jobs.c.id == job


def row_of(turn: Turn, job: str) -> dict[str, Any]:
    """That of a job; `JobError` where there is none."""
    row = turn.first(select(jobs).where(of_job(job)))
    if row is None:
        raise JobError(f"no job {job} is known to this service", "`GET /v1/jobs` lists those that are")
    return row


def changed(values: Mapping[str, Any], *which: ColumnElement[bool]) -> Update:
    """To write these values into the rows that meet this."""
    return update(jobs).where(*which).values(values)


def words_of(row: Mapping[str, Any]) -> str:
    """What a search of a job looks through, in one case."""
    said = (f"{name}={value}" for name, value in row["labels"].items())
    source = row["request"].get("source", "")
    return "\n".join((row["id"], row["owner"], row["name"], row["out"], source, *said)).casefold()


def migrate(connection: Connection) -> None:
    """Bring the tables to `VERSION`, in the transaction of the connection, whatever they were.

    Raises:
        DatabaseError: they were made by a newer version of bigsvd.

    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:which)"), {"which": _MIGRATING})
    found = version_of(connection)
    if found is not None and found > VERSION:
        raise DatabaseError(
            f"the database has tables of version {found}, and this server knows {VERSION}",
            "run the newer version of bigsvd, or restore a backup made by this one",
        )
    if found is not None:
        for step in _MIGRATIONS[found:]:
            step(connection)
    metadata.create_all(connection)
    _say_version(connection)


def version_of(connection: Connection) -> int | None:
    """Of the tables that are there; None where there are none."""
    known = inspect(connection).get_table_names()
    if meta.name in known:
        return int(connection.scalar(_said) or 0)
    return 0 if jobs.name in known else None


def _say_version(connection: Connection) -> None:
    connection.execute(delete(meta).where(meta.c.name == _VERSION))
    connection.execute(insert(meta).values(name=_VERSION, value=str(VERSION)))


def _to_version_1(connection: Connection) -> None:
    """Version 0 had no stages, leases, wishes, labels or links, and tokens that could not be revoked."""
    _add_columns(connection, jobs)
    _add_columns(connection, tokens)
    metadata.create_all(connection)
    ended = jobs.c.state.in_(("done", "failed", "cancelled"))
    connection.execute(changed({"stage": "ended", "ended": jobs.c.updated}, ended))
    at_work = jobs.c.state.in_(("running", "interrupted"))
    connection.execute(changed({"stage": "begun", "server": "", "lease": 0.0}, at_work))
    for row in connection.execute(select(jobs)).mappings().all():
        _make_found(connection, dict(row))
    for index in (*jobs.indexes, *tokens.indexes):
        index.create(connection, checkfirst=True)


def _make_found(connection: Connection, row: Mapping[str, Any]) -> None:
    """Let a job be found by its words and labels."""
    connection.execute(changed({"words": words_of(row)}, of_job(row["id"])))
    add_labels(connection, row["id"], row["labels"])


def _add_columns(connection: Connection, table: Table) -> None:
    """Those that it lacks; each may be null or has a default."""
    there = {column["name"] for column in inspect(connection).get_columns(table.name)}
    for column in table.columns:
        if column.name not in there:
            made = CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {made}"))


def add_labels(connection: Connection, job: str, given: Mapping[str, str]) -> None:
    """Let a job be found by its labels."""
    rows = [{"job": job, "name": name, "value": value} for name, value in given.items()]
    if rows:
        connection.execute(insert(labels), rows)


def _to_version_2(connection: Connection) -> None:
    """Version 1 did not know which run had made the result that lies at an output."""
    _add_columns(connection, jobs)


# The step at place i brings tables of version i to version i + 1.
_MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_to_version_1, _to_version_2)
