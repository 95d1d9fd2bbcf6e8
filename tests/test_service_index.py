"""The index of the service: who is taken in, found, and in which order; tokens and links; its tables."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from sqlalchemy import insert, select, text, update

from bigsvd.errors import (
    DatabaseError,
    JobError,
    KeyReusedError,
    LinkError,
    OutputBusyError,
    QuotaError,
    RequestError,
    StateBusyError,
    StateError,
    StorageError,
    TokenError,
)
from bigsvd.service.queue import line
from bigsvd.service.queue.index import Index
from bigsvd.service.queue.rows import JobQuery, JobRow, NewJob
from bigsvd.service.service import Service
from bigsvd.service.settings import Limits, Settings
from bigsvd.service.store.database import FILE, Database
from bigsvd.service.store.tables import jobs, meta
from bigsvd.service.store.tokens import Links, Tokens
from bigsvd.service.store.writer import Turn
from tests.service_tables import OLD_ROWS, VERSION_0, made
from tests.waiting import wait_until

LIMIT_SECONDS = 60


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "state", (tmp_path,), limits=Limits(queued_jobs=90, links=2))


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with Database(settings) as opened:
        yield opened


@pytest.fixture
def index(database: Database, settings: Settings) -> Index:
    return Index(database, settings.limits)


def add(index: Index, job: NewJob) -> JobRow:
    row, is_new = index.add(job).result(LIMIT_SECONDS)
    assert is_new
    return row


def set_stage(database: Database, job: str, stage: str, **values: Any) -> None:
    def write(turn: Turn) -> None:
        values.setdefault("claimed", turn.now)
        turn.connection.execute(update(jobs).where(jobs.c.id == job).values(stage=stage, **values))

    database.writer.write(write)


def end(database: Database, job: str, state: str = "done") -> None:
    set_stage(database, job, "ended", state=state, ended=time.time())


def test_one_key_from_a_hundred_at_once_is_one_job(index: Index) -> None:
    with ThreadPoolExecutor(100) as threads:
        answers = list(
            threads.map(lambda _: index.add(made("u", key="once")).result(LIMIT_SECONDS), range(100))
        )
    assert len({row.id for row, _ in answers}) == 1
    assert sum(is_new for _, is_new in answers) == 1
    assert index.jobs(JobQuery()).total == 1


def test_a_key_is_its_owners_and_stands_for_one_body(index: Index) -> None:
    first = add(index, made("u", key="mine"))
    again, is_new = index.add(made("u", key="mine")).result()
    assert (replace(again, seconds=0.0), is_new) == (replace(first, seconds=0.0), False)
    with pytest.raises(KeyReusedError, match=first.id):
        index.add(made("u", key="mine", k=5)).result()
    with pytest.raises(KeyReusedError):
        index.add(made("u", key="mine", name="another")).result()
    assert add(index, made("v", owner="u2", key="mine")).id != first.id


def test_one_request_to_one_output_is_one_job(index: Index, database: Database, tmp_path: Path) -> None:
    out = str(tmp_path / "u")
    job = replace(made("u"), out=out)
    first = add(index, job)
    assert index.add(replace(job, key="k", name="again")).result()[0].id == first.id
    with pytest.raises(OutputBusyError, match=first.id):
        index.add(replace(made("u", k=5), out=out)).result()
    end(database, first.id)
    second = add(index, job)  # nothing is there: it is computed again
    end(database, second.id)
    (tmp_path / "u").mkdir()
    (tmp_path / "u" / "zarr.json").touch()
    assert index.add(job).result()[0].id == second.id
    replacing = replace(job.request, overwrite=True)
    assert add(index, replace(job, request=replacing)).id != second.id


def test_no_owner_has_more_jobs_than_may_be(database: Database) -> None:
    index = Index(database, Limits(queued_jobs=2))
    first = add(index, made("a"))
    add(index, made("b"))
    with pytest.raises(QuotaError, match=r"2 jobs .* \(queued_jobs\)"):
        index.add(made("c")).result()
    add(index, made("c", owner="u2"))
    end(database, first.id)
    add(index, made("d"))


def test_terms_that_are_none_are_refused(index: Index) -> None:
    job = made("u")
    with pytest.raises(JobError, match="attempts=0"):
        index.add(replace(job, terms={"attempts": 0}))


def test_pages_show_each_job_once_whatever_happens_meanwhile(index: Index, database: Database) -> None:
    given = [add(index, made(f"u{number}")).id for number in range(7)]
    first = index.jobs(JobQuery(limit=3))
    assert ([row.id for row in first.rows], first.total) == (given[:3:-1], 7)
    add(index, made("later"))
    end(database, given[5], "failed")
    index.forget(given[5])
    seen, page = [row.id for row in first.rows], first
    while page.next_cursor is not None:
        page = index.jobs(JobQuery(limit=3, cursor=page.next_cursor))
        seen += [row.id for row in page.rows]
    assert seen == given[::-1]
    for bad in (JobQuery(limit=0), JobQuery(limit=10**6), JobQuery(cursor="x"), JobQuery(cursor="9" * 30)):
        with pytest.raises(RequestError):
            index.jobs(bad)


def test_jobs_are_found_by_owner_state_label_and_text(index: Index, database: Database) -> None:
    blue = add(index, made("a", labels={"lab": "blue", "year": "2026"}, name="Höhe 100%"))
    red = add(index, made("b", labels={"lab": "red"}, owner="u2", name="under_score"))
    end(database, red.id, "failed")

    def found(**query: Any) -> list[str]:
        page = index.jobs(JobQuery(**query))
        assert page.total == len(page.rows)
        return [row.id for row in page.rows]

    both = [red.id, blue.id]
    assert found(owner="u1") == [blue.id]
    assert found(states=("failed", "done")) == [red.id]
    assert found(labels={"lab": "blue"}) == [blue.id]
    assert found(labels={"lab": "blue", "year": "2025"}) == []
    assert found(text="HÖHE") == [blue.id]
    assert found(text="100%") == [blue.id]
    assert found(text="r_s") == [red.id]
    assert found(text="d_r") == []
    assert found(text="a.zarr") == both
    assert found(text="lab=") == both
    assert found(text="red u2") == [red.id]


def test_owners_take_turns(index: Index, database: Database) -> None:
    mine = [add(index, made(f"a{number}")).id for number in range(4)]
    theirs = [add(index, made(f"b{number}", owner="u2")).id for number in range(2)]
    assert [index.job(job).place for job in mine] == [1, 3, 5, 6]
    assert [index.job(job).place for job in theirs] == [2, 4]
    assert index.job(mine[0]).reason == "is about to begin, number 1 in line"
    set_stage(database, mine[0], "begun", state="running")
    index.wish(mine[3], "cancel")  # and the line is looked at again
    assert [index.job(job).place for job in (*theirs, *mine)] == [1, 2, None, 3, 4, None]
    assert index.job(theirs[0]).reason == "waits for a0 to end, number 1 in line"
    end(database, mine[0])
    with database.reading() as turn:
        order = turn.values(line.in_turn())
    assert order == [theirs[0], mine[1], theirs[1], mine[2]]


def test_a_job_is_told_its_place_when_it_is_taken_in(index: Index, database: Database) -> None:
    """The place that the whole line has for it, also where several are taken in by one transaction."""
    rng = np.random.default_rng(0)
    owners = ("u1", "u2", "u3")
    for number in range(40):
        together = [
            index.add(made(f"{number}-{each}", owner=str(rng.choice(owners))))
            for each in range(rng.integers(1, 4))
        ]
        rows = [future.result(LIMIT_SECONDS)[0] for future in together]
        with database.reading() as turn:
            order = turn.values(line.in_turn())
        assert order[(rows[-1].place or 0) - 1] == rows[-1].id
        moment = float(rng.integers(1, 4))  # at which several may have been claimed
        if rng.random() < 0.5:
            set_stage(database, order[0], "begun", state="running", claimed=moment)
        if rng.random() < 0.2:
            end(database, rows[0].id)


def test_what_may_be_wished_of_a_job(index: Index, database: Database) -> None:
    waiting = add(index, made("a"))
    with pytest.raises(StateError, match="in line"):
        index.wish(waiting.id, "stop")
    with pytest.raises(StateError, match="goes on by itself"):
        index.wish(waiting.id, "resume")
    with pytest.raises(StateError, match="cancel it first"):
        index.forget(waiting.id)
    cancelled = index.wish(waiting.id, "cancel")
    assert (cancelled.state, cancelled.place) == ("cancelled", None)
    with pytest.raises(StateError, match="nothing to cancel"):
        index.wish(waiting.id, "cancel")
    resumed = index.wish(waiting.id, "resume")
    assert (resumed.state, resumed.place) == ("queued", 1)
    set_stage(database, waiting.id, "begun", state="running")
    assert index.wish(waiting.id, "stop").stopping
    asked = index.wish(waiting.id, "cancel")
    assert (asked.state, asked.reason) == ("running", "is being cancelled")
    end(database, waiting.id)
    for verb in ("stop", "cancel", "resume"):
        with pytest.raises(StateError, match="done"):
            index.wish(waiting.id, verb)
    index.forget(waiting.id)
    with pytest.raises(JobError, match="no job"):
        index.job(waiting.id)
    with pytest.raises(JobError, match="no job"):
        index.wish(waiting.id, "stop")


def test_a_cancelled_job_waits_for_its_output_like_every_other(index: Index) -> None:
    first = add(index, made("a"))
    index.wish(first.id, "cancel")
    add(index, made("a", k=5))
    with pytest.raises(OutputBusyError, match="meanwhile"):
        index.wish(first.id, "resume")


def test_one_that_fails_spoils_none_of_the_others(database: Database) -> None:
    gate = database.writer.submit(lambda _: time.sleep(0.2))

    def fails(turn: Turn) -> None:
        turn.connection.execute(insert(meta).values(name="half", value="written"))
        raise ZeroDivisionError

    good = [
        database.writer.submit(
            lambda turn, name=str(number): turn.connection.execute(  # type: ignore[misc]
                insert(meta).values(name=name, value="")
            )
        )
        for number in range(3)
    ]
    bad = database.writer.submit(fails)
    gate.result()
    assert [future.result(LIMIT_SECONDS).rowcount for future in good] == [1, 1, 1]
    with pytest.raises(ZeroDivisionError):
        bad.result()
    with database.reading() as turn:
        assert turn.values(select(meta.c.name).order_by(meta.c.name)) == ["0", "1", "2", "version"]


def test_what_waits_is_committed_together(database: Database) -> None:
    moments: list[float] = []
    begun, go_on = threading.Event(), threading.Event()

    def hold(_: Turn) -> None:
        begun.set()
        go_on.wait(LIMIT_SECONDS)

    database.writer.submit(hold)
    begun.wait(LIMIT_SECONDS)
    futures = [database.writer.submit(lambda turn: moments.append(turn.now)) for _ in range(20)]
    go_on.set()
    for future in futures:
        future.result(LIMIT_SECONDS)
    assert len(set(moments)) == 1


def test_a_full_disk_refuses_what_is_new_and_nothing_else(
    database: Database, settings: Settings, index: Index
) -> None:
    kept, gone = add(index, made("a")), add(index, made("b"))
    end(database, gone.id)

    def limit(pages: int) -> None:
        database.writer.write(lambda turn: turn.connection.execute(text(f"PRAGMA max_page_count={pages}")))

    limit(1)  # as many as there are
    full = [index.add(made(f"c{number}", name="x" * 50_000)) for number in range(3)]
    for future in full:
        with pytest.raises(StorageError, match="full"):
            future.result(LIMIT_SECONDS)
    assert index.job(kept.id).place == 1
    index.forget(gone.id)
    limit(10**6)
    add(index, made("c0", name="x" * 50_000))


def test_a_token_lets_in_until_it_is_revoked_or_has_run_out(database: Database) -> None:
    tokens = Tokens(database)
    secret, token = tokens.make("laptop", "u1", ["submit"], 3600)
    assert tokens.find(secret) == token
    assert token.user.name == "u1"
    assert token.user.may("read")
    assert not token.user.may("admin")
    assert tokens.find(secret + "x") is None
    brief, _ = tokens.make("brief", "u1", ["read"], 1e-9)
    assert tokens.find(brief) is None
    tokens.revoke(token.id)
    assert tokens.find(secret) is None
    assert [each.name for each in tokens.all()] == ["brief", "laptop"]
    with pytest.raises(TokenError):
        tokens.revoke("nobody")
    wrong: list[tuple[str, list[Any], float]]
    wrong = [("", ["read"], 1), ("u", [], 1), ("u", ["root"], 1), ("u", ["read"], -1)]
    for owner, scopes, seconds in wrong:
        with pytest.raises(RequestError):
            tokens.make("x", owner, scopes, seconds)


def test_no_secret_is_kept(database: Database, settings: Settings, index: Index) -> None:
    secret, _ = Tokens(database).make("laptop", "u1", ["read"])
    link, _ = Links(database, settings.limits).make(add(index, made("a")).id, "u1", "", 60)
    kept = b"".join(path.read_bytes() for path in settings.state.glob(FILE + "*"))
    assert b"laptop" in kept
    for each in (secret, secret.removeprefix("bigsvd_"), link):
        assert each.encode() not in kept


def test_a_link_leads_to_one_result_for_a_while(database: Database, settings: Settings, index: Index) -> None:
    links, job = Links(database, settings.limits), add(index, made("a"))
    secret, link = links.make(job.id, "u1", "for a friend", 3600, 3)
    assert (links.find(secret), link.k, links.get(link.id)) == (link, 3, link)
    assert links.find("") is None
    _, other = links.make(job.id, "u1", "", 60)
    with pytest.raises(QuotaError, match=r"may have 2 \(links\)"):
        links.make(job.id, "u1", "", 60)
    links.revoke(other.id)
    assert links.of(job.id) == (link,)
    links.make(job.id, "u1", "", 60)
    with pytest.raises(RequestError, match="link_seconds"):
        links.make(job.id, "u1", "", 1e9)
    with pytest.raises(JobError):
        links.make("nothing", "u1", "", 60)
    with pytest.raises(LinkError):
        links.revoke("nothing")
    with pytest.raises(LinkError):
        links.get("nothing")
    end(database, job.id)
    index.forget(job.id)
    assert links.find(secret) is None


def test_tables_of_an_older_version_go_on(settings: Settings) -> None:
    settings.state.mkdir()
    with sqlite3.connect(settings.state / FILE) as old:
        old.executescript(VERSION_0)
        for row in OLD_ROWS:
            old.execute(row)
    old.close()
    for _ in range(2):  # the second finds today's
        with Database(settings) as database:
            index = Index(database, settings.limits)
            found = index.jobs(JobQuery(labels={"lab": "blue"}, text="old"))
            assert [row.id for row in found.rows] == ["is-done", "is-running", "is-queued"]
            assert [row.place for row in found.rows] == [None, None, 1]
            assert found.rows[0].seconds == 4.0
            with database.reading() as turn:
                stages = turn.values(select(jobs.c.stage).order_by(jobs.c.seq))
            assert stages == ["line", "begun", "ended"]
            with pytest.raises(OutputBusyError):
                index.add(replace(made("x"), out="/running")).result()
            assert [token.name for token in Tokens(database).all()] == ["old"]


def test_tables_without_marks_of_results_go_on(settings: Settings) -> None:
    with Database(settings) as database:
        first = add(Index(database, settings.limits), made("a"))
    with sqlite3.connect(settings.state / FILE) as old:
        old.execute("ALTER TABLE jobs DROP COLUMN mark")
        old.execute("UPDATE meta SET value = '1'")
    old.close()
    with Database(settings) as database:
        index = Index(database, settings.limits)
        assert index.job(first.id).mark is None
        set_stage(database, first.id, "ended", state="done", mark="of this")
        assert index.job(first.id).mark == "of this"


def test_tables_of_a_newer_version_are_refused(settings: Settings) -> None:
    with Database(settings) as database:
        database.writer.write(lambda turn: turn.change(update(meta).values(value="99")))
    with pytest.raises(DatabaseError, match="version 99"), Database(settings):
        pass


def test_one_server_has_a_state_folder(settings: Settings) -> None:
    with Service(settings) as service:
        with pytest.raises(StateBusyError, match="another server"), Service(settings):
            pass
        with Database(settings) as beside:  # whoever makes tokens need not be a server
            secret, _ = Tokens(beside).make("by hand", "root", ["admin"])
        assert service.tokens.find(secret) is not None
    with Service(settings) as again:
        assert again.tokens.find(secret) is not None


def test_a_server_that_was_frozen_for_too_long_begins_no_job_any_more(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with Service(settings) as service:
        shutil.rmtree(settings.state / "server.lock")  # as another does that takes over
        waiting = add(service.index, made("a"))
        wait_until(lambda: "begins no job any more" in caplog.text, LIMIT_SECONDS, "it was noticed")
        assert service.index.job(waiting.id).state == "queued"


def test_a_state_folder_on_another_machine_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = psutil.disk_partitions(all=True)
    mounts = [replace_mount(real[0], "/", "ext4"), replace_mount(real[0], str(settings.roots[0]), "nfs4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    with pytest.raises(DatabaseError, match="lies on nfs4"):
        Database(settings)
    mounts[1] = replace_mount(real[0], str(settings.roots[0]) + "/elsewhere", "nfs4")
    with Database(settings):
        pass


def replace_mount(real: Any, at: str, kind: str) -> Any:
    return real._replace(mountpoint=at, fstype=kind)


@pytest.mark.parametrize("url", ["nothing", "mysql://u:secret@h/d", "sqlite:///x"])
def test_a_database_that_is_none_is_refused(settings: Settings, url: str) -> None:
    with pytest.raises(DatabaseError, match="PostgreSQL") as caught:
        Database(replace(settings, database=url))
    assert "secret" not in str(caught.value)
