"""Jobs for the index that nobody runs, and tables as they once were: what tests of the index share."""

from __future__ import annotations

from typing import Any

from bigsvd.request import Request
from bigsvd.service.queue.rows import NewJob


def made(out: str, owner: str = "u1", key: str | None = None, **options: Any) -> NewJob:
    """What somebody submits."""
    request = Request.of("/data/a.zarr", options.pop("k", 4), out=f"/data/{out}")
    words = {"name": out, "labels": {}} | options
    return NewJob(owner=owner, key=key, request=request, terms={}, out=f"/data/{out}", **words)


# As a server wrote them that knew no stages, leases, labels or links.
VERSION_0 = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id VARCHAR NOT NULL UNIQUE, owner VARCHAR NOT NULL,
    name VARCHAR NOT NULL, labels JSON NOT NULL, "key" VARCHAR, body VARCHAR NOT NULL,
    digest VARCHAR NOT NULL, request JSON NOT NULL, terms JSON NOT NULL, out VARCHAR NOT NULL,
    state VARCHAR NOT NULL, reason VARCHAR NOT NULL, phase JSON NOT NULL, attempt INTEGER NOT NULL,
    error JSON, created DOUBLE NOT NULL, updated DOUBLE NOT NULL
);
CREATE TABLE tokens (
    id VARCHAR PRIMARY KEY, hash VARCHAR NOT NULL UNIQUE, name VARCHAR NOT NULL, owner VARCHAR NOT NULL,
    scopes JSON NOT NULL, created DOUBLE NOT NULL, expires DOUBLE
);
INSERT INTO tokens VALUES ('t', 'h', 'old', 'u1', '["read"]', 1.0, NULL);
"""
_OLD_ROW = """
INSERT INTO jobs (id, owner, name, labels, body, digest, request, terms, out, state, reason, phase, attempt,
    created, updated)
VALUES ('is-STATE', 'u1', 'Old', '{"lab": "blue"}', '', '', '{"source": "/a", "k": 2}', '{}', '/STATE',
    'STATE', '', '{}', 1, 1.0, 5.0)
"""
OLD_ROWS = tuple(_OLD_ROW.replace("STATE", state) for state in ("queued", "running", "done"))
