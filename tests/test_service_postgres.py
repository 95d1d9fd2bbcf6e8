"""Several servers on one PostgreSQL: every job is one server's at a time, and no one's only for a moment."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select, text, update

from benchmarks.postgres import lacks_postgres, running_postgres
from bigsvd.errors import DatabaseError, KeyReusedError, OutputBusyError, StateError, StorageError
from bigsvd.jobs.attempt import Attempt
from bigsvd.jobs.record import Record
from bigsvd.service.queue import leases, line
from bigsvd.service.queue.index import Index
from bigsvd.service.queue.leases import Leases
from bigsvd.service.queue.rows import JobQuery
from bigsvd.service.service import Service
from bigsvd.service.settings import Settings
from bigsvd.service.store.database import Database
from bigsvd.service.store.tables import jobs, metadata
from bigsvd.service.store.tokens import Links, Tokens
from tests.forked import forked_drivers
from tests.service_jobs import (
    ENDLESS,
    LIMIT_SECONDS,
    add,
    end_drivers,
    end_of,
    in_pass,
    kill,
    last_of,
    make_noise,
    new,
    until,
)
from tests.service_tables import OLD_ROWS, VERSION_0, made

pytestmark = pytest.mark.skipif(lacks_postgres(), reason="PostgreSQL is not installed")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    with forked_drivers():
        yield
    end_drivers(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_noise(tmp_path)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_postgres() as address:
        yield address


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Iterator[Settings]:
    settings = Settings(tmp_path / "state", (tmp_path,), database=url, memory_bytes=200_000_000)
    yield settings
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        metadata.drop_all(connection)
    engine.dispose()


@pytest.fixture
def databases(settings: Settings) -> Iterator[list[Database]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Database(settings)) for _ in range(2)]


def test_one_key_sent_to_two_servers_at_once_is_one_job(
    databases: list[Database], settings: Settings
) -> None:
    servers = [Index(database, settings.limits) for database in databases]

    def send(number: int) -> Any:
        return servers[number % 2].add(made("u", key="once")).result(LIMIT_SECONDS)

    with ThreadPoolExecutor(100) as threads:
        answers = list(threads.map(send, range(100)))
    assert len({row.id for row, _ in answers}) == 1
    assert sum(new for _, new in answers) == 1
    with pytest.raises(KeyReusedError):
        servers[1].add(made("u", key="once", k=5)).result()
    with pytest.raises(OutputBusyError):
        servers[1].add(made("u", k=5)).result()


def test_the_index_answers_as_with_sqlite(databases: list[Database], settings: Settings) -> None:
    one, other = (Index(database, settings.limits) for database in databases)
    mine = [one.add(made(f"a{number}", labels={"lab": "blue"})).result()[0].id for number in range(3)]
    theirs = other.add(made("b", owner="u2")).result()[0].id
    assert [other.job(job).place for job in (*mine, theirs)] == [1, 3, 4, 2]
    page = other.jobs(JobQuery(labels={"lab": "blue"}, limit=2, text="A"))
    assert ([row.id for row in page.rows], page.total) == (mine[:0:-1], 3)
    last = other.jobs(JobQuery(labels={"lab": "blue"}, limit=2, cursor=page.next_cursor or ""))
    assert [row.id for row in last.rows] == mine[:1]
    assert one.wish(mine[0], "cancel").state == "cancelled"
    with pytest.raises(StateError):
        other.wish(mine[0], "cancel")
    other.forget(mine[0])
    assert one.facts().states == {"queued": 3}
    secret, token = Tokens(databases[0]).make("t", "u1", ["read"], 60)
    assert Tokens(databases[1]).find(secret) == token
    shared, link = Links(databases[0], settings.limits).make(theirs, "u2", "", 60)
    assert Links(databases[1], settings.limits).find(shared) == link
    databases[0].check_writable()


def test_rows_that_another_server_is_taking_are_passed_over(
    databases: list[Database], settings: Settings
) -> None:
    index = Index(databases[0], settings.limits)
    first, second = (index.add(made(name)).result()[0].id for name in "ab")
    slow = databases[0].url
    engine = create_engine(slow)
    with engine.begin() as connection:
        connection.execute(select(jobs).where(jobs.c.id == first).with_for_update())
        taken = Leases(databases[1]).renew(1)
        assert [row["id"] for row in taken] == [second]
    engine.dispose()
    with databases[0].reading() as turn:
        assert turn.values(line.in_turn()) == [first]


def test_a_lease_is_one_server_s_until_it_has_run_out(databases: list[Database], settings: Settings) -> None:
    index = Index(databases[0], settings.limits)
    job = index.add(made("a")).result()[0].id
    one, other = Leases(databases[0]), Leases(databases[1])
    assert [row["id"] for row in one.renew(2)] == [job]
    assert other.renew(2) == []
    assert not other.holds(job)
    assert one.save(job, {"state": "running", "stage": "begun"})
    databases[0].writer.write(lambda turn: turn.change(update(jobs).values(lease=turn.now - 1)))
    assert [row["id"] for row in other.renew(2)] == [job]
    assert one.renew(2) == []
    assert not one.save(job, {"state": "failed"})
    assert index.job(job).state == "running"
    other.let_go()
    assert [row["id"] for row in one.renew(2)] == [job]


def test_two_servers_drive_no_job_twice(settings: Settings, data: Path) -> None:
    with Service(settings) as one, Service(settings) as other:
        given = [
            add((one, other)[number % 2], new(data, f"u{number}", f"u{number % 3}")) for number in range(4)
        ]
        for job in given:
            row = end_of(one, job)
            assert (row.state, row.attempt) == ("done", 1)
            assert Record(row.out).attempt_numbers() == [1]


def test_a_server_that_is_gone_is_replaced(
    settings: Settings, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 2.0)
    with Service(settings) as one:
        job = add(one, new(data, "u", **ENDLESS))
        attempt = last_of(in_pass(one, job))
        one.runner.pause()
        with Service(settings) as other:
            kill(attempt)
            until(lambda: other.index.job(job).attempt == 2)
            other.index.wish(job, "stop")
            row = end_of(other, job)
            assert (row.state, row.attempt) == ("done", 2)
            assert isinstance(last_of(row), Attempt)


def test_tables_of_an_older_version_go_on(settings: Settings) -> None:
    engine = create_engine(settings.database.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for statement in VERSION_0.replace(
            "INTEGER PRIMARY KEY AUTOINCREMENT", "BIGSERIAL PRIMARY KEY"
        ).split(";"):
            if statement.strip():
                connection.execute(text(statement.replace("DOUBLE", "DOUBLE PRECISION")))
        for values in OLD_ROWS:
            connection.execute(text(values))
    engine.dispose()
    with Database(settings) as database:
        index = Index(database, settings.limits)
        found = index.jobs(JobQuery(labels={"lab": "blue"}, text="old"))
        assert [(row.state, row.place) for row in found.rows] == [
            ("done", None),
            ("running", None),
            ("queued", 1),
        ]
        with pytest.raises(OutputBusyError):
            index.add(replace(made("x"), out="/running")).result()


def test_a_database_that_does_not_answer(tmp_path: Path) -> None:
    nowhere = Settings(tmp_path, (), database=f"postgresql://bigsvd:secret@/postgres?host={tmp_path}")
    with pytest.raises(StorageError, match="the database of the service failed") as caught, Database(nowhere):
        pass
    assert "secret" not in str(caught.value)


def test_a_library_that_is_missing_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "psycopg", None)
        with pytest.raises(DatabaseError, match=r"bigsvd\[postgres\]"):
            Database(settings)
