"""Secrets that let somebody in: tokens of users, and links to one result.

A secret is 256 random bits and is shown once. What is kept is its SHA-256, by which it is found: from that
nobody gets the secret back, and how long a search takes says nothing of it.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import ColumnElement, Table, func, insert, select, update

from bigsvd.errors import LinkError, QuotaError, RequestError, TokenError
from bigsvd.service.settings import Limits
from bigsvd.service.store.database import Database
from bigsvd.service.store.tables import links, row_of, tokens
from bigsvd.service.store.writer import Turn
from bigsvd.service.users import SCOPES, Scope, User

TOKEN_PREFIX = "bigsvd_"  # noqa: S105 - by which people and programs recognize one that has leaked
_SECRET_BYTES = 32


@dataclass(frozen=True)
class Token:
    """What is known of a token.

    Attributes:
        owner: as whom it lets in. created, expires, revoked: seconds since the epoch; None for never.

    """

    id: str
    name: str
    owner: str
    scopes: frozenset[Scope]
    created: float
    expires: float | None
    revoked: float | None

    @property
    def user(self) -> User:
        """Whom it lets in."""
        return User(self.owner, self.scopes)


class Tokens:
    """Those in the tables of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def make(
        self, name: str, owner: str, scopes: Sequence[Scope], seconds: float | None = None
    ) -> tuple[str, Token]:
        """A new secret and its token, which expires after so many seconds, or never.

        Raises:
            RequestError: there is no owner, no scope or an unknown one, or no time.

        """
        _check_token(owner, scopes, seconds)
        secret = TOKEN_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)

        def write(turn: Turn) -> Token:
            expires = None if seconds is None else turn.now + seconds
            made = Token(_new_id(), name, owner, frozenset(scopes), turn.now, expires, None)
            row = {**vars(made), "scopes": sorted(made.scopes), "hash": _hash(secret)}
            turn.connection.execute(insert(tokens).values(row))
            return made

        return secret, self._database.writer.write(write)

    def find(self, secret: str) -> Token | None:
        """The token of a secret; None where it is none, has run out or was revoked."""
        with self._database.reading() as turn:
            row = _holding(turn, tokens, secret)
        return None if row is None else _token(row)

    def revoke(self, token: str) -> None:
        """Let nobody in by it any more; `TokenError` where there is none."""
        if not self._database.writer.write(lambda turn: _revoke(turn, tokens, token)):
            raise TokenError(f"there is no token {token}", "`bigsvd admin token list` shows those there are")

    def all(self) -> tuple[Token, ...]:
        """All that were made, the newest first."""
        with self._database.reading() as turn:
            return tuple(map(_token, _newest(turn, tokens)))


@dataclass(frozen=True)
class Link:
    """What is known of a link: it lets whoever has it read one result.

    Attributes:
        k: of how many triplets; None for all. created, expires, revoked: seconds since the epoch.

    """

    id: str
    job: str
    owner: str
    name: str
    k: int | None
    created: float
    expires: float
    revoked: float | None


class Links:
    """Those in the tables of a database."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits

    def make(self, job: str, owner: str, name: str, seconds: float, k: int | None = None) -> tuple[str, Link]:
        """A new secret and its link to the result of that job, which expires after so many seconds.

        Raises:
            JobError: there is no such job. RequestError: the time is none, or longer than the limit.
            QuotaError: the result has as many links as it may have.

        """
        _check_seconds(seconds, self._limits.link_seconds)
        secret = secrets.token_urlsafe(_SECRET_BYTES)

        def write(turn: Turn) -> Link:
            self._check(turn, job)
            made = Link(_new_id(), job, owner, name, k, turn.now, turn.now + seconds, None)
            turn.connection.execute(insert(links).values({**vars(made), "hash": _hash(secret)}))
            return made

        return secret, self._database.writer.write(write)

    def find(self, secret: str) -> Link | None:
        """The link of a secret; None where it is none, has run out or was revoked."""
        with self._database.reading() as turn:
            row = _holding(turn, links, secret)
        return None if row is None else _link(row)

    def get(self, link: str) -> Link:
        """That of this id, whether it holds or not; `LinkError` where there is none."""
        with self._database.reading() as turn:
            row = turn.first(select(links).where(links.c.id == link))
        if row is None:
            raise _no_link(link)
        return _link(row)

    def of(self, job: str) -> tuple[Link, ...]:
        """Those to the result of that job which hold, the newest first."""
        with self._database.reading() as turn:
            found = _newest(turn, links, links.c.job == job, *_holds(links, turn.now))
        return tuple(map(_link, found))

    def revoke(self, link: str) -> None:
        """Let nobody read by it any more; `LinkError` where there is none."""
        if not self._database.writer.write(lambda turn: _revoke(turn, links, link)):
            raise _no_link(link)

    def _check(self, turn: Turn, job: str) -> None:
        row_of(turn, job)
        count = turn.count(links.c.job == job, *_holds(links, turn.now))
        if count >= self._limits.links:
            raise QuotaError(
                f"result {job} has {count} links, and may have {self._limits.links} (links)",
                "revoke one, or wait until one has run out",
            )


def _no_link(link: str) -> LinkError:
    return LinkError(f"there is no link {link}", "look which there are to its result")


def _hash(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _new_id() -> str:
    return uuid.uuid4().hex[:10]


def _holds(table: Table, now: float) -> list[ColumnElement[bool]]:
    """What a row meets that is neither revoked nor has run out."""
    return [table.c.revoked.is_(None), table.c.expires.is_(None) | (table.c.expires > now)]


def _holding(turn: Turn, table: Table, secret: str) -> dict[str, Any] | None:
    return turn.first(select(table).where(table.c.hash == _hash(secret), *_holds(table, turn.now)))


def _newest(turn: Turn, table: Table, *which: ColumnElement[bool]) -> list[dict[str, Any]]:
    """The rows that meet this, the newest first."""
    return turn.all(select(table).where(*which).order_by(table.c.created.desc()))


def _revoke(turn: Turn, table: Table, which: str) -> bool:
    """Whether there is one."""
    revoked = func.coalesce(table.c.revoked, turn.now)
    return turn.change(update(table).where(table.c.id == which).values(revoked=revoked)) == 1


def _token(row: dict[str, Any]) -> Token:
    given = {name: row[name] for name in Token.__dataclass_fields__}
    return Token(**given | {"scopes": frozenset(row["scopes"])})


def _link(row: dict[str, Any]) -> Link:
    return Link(**{name: row[name] for name in Link.__dataclass_fields__})


def _check_token(owner: str, scopes: Sequence[str], seconds: float | None) -> None:
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if not owner or not scopes or unknown:
        raise RequestError(
            f"owner={owner!r} and scopes={sorted(scopes)} make no token",
            f"give an owner, and some of {', '.join(SCOPES)}",
        )
    if seconds is not None:
        _check_seconds(seconds, float("inf"))


def _check_seconds(seconds: float, most: float) -> None:
    if not 0 < seconds <= most:
        raise RequestError(
            f"seconds={seconds:g} is not in (0, {most:g}] (link_seconds)", "give a time in that range"
        )
