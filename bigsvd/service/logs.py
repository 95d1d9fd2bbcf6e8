"""The log of a server: a line of JSON for each request and each event of a job, and never a secret in it."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

_LOG = logging.getLogger("bigsvd.service")
_OTHERS = ("uvicorn", "uvicorn.error")  # whose lines go the same way
_OF_JOBS = ("state", "owner", "name", "attempt", "reason")
# Tokens by their beginning, links by where they stand, and what a header, cookie or database may hold.
_SECRETS = (
    (re.compile(r"bigsvd_[A-Za-z0-9_-]{16,}"), "bigsvd_***"),
    (re.compile(r"(?i)(/links/+)[^/\s\"'?]+"), r"\1***"),
    (re.compile(r"(?i)(bearer\s+)[^\s\"',]+"), r"\1***"),
    (re.compile(r"(\w://[^/\s:@]*:)[^/\s]*@"), r"\1***@"),
)


def without_secrets(text: str) -> str:
    """The text with all that lets somebody in made unreadable."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class JsonLines(logging.Formatter):
    """A line of JSON for each record: time (UTC), level, event, facts, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts: dict[str, Any] = {
            "time": time,
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        facts |= {"job": record.job} if hasattr(record, "job") else {}
        facts |= getattr(record, "facts", {})
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return without_secrets(json.dumps(facts, default=str))


def tell(event: str, **facts: Any) -> None:
    """Log something that has happened, by its kind; facts that are None are left out."""
    known = {name: value for name, value in facts.items() if value is not None}
    _LOG.info(event, extra={"facts": known})


def tell_of_job(job: str, news: Mapping[str, Any]) -> None:
    """Log that a job has come into another state, and what is known of why."""
    if "state" in news:
        facts = {name: news.get(name) or None for name in _OF_JOBS}
        error = news.get("error") or {}
        tell("job", job=job, **facts, error=error.get("code"), message=error.get("message"))


def log_to(stream: TextIO = sys.stderr) -> logging.Handler:
    """Have everything that a server logs go to a stream, from now on; returns what does so."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    for name in (_LOG.name, *_OTHERS):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler] if name not in _OTHERS[1:] else []
        logger.propagate = name in _OTHERS[1:]
        logger.setLevel(logging.INFO if name == _LOG.name else logging.WARNING)
    return handler
