"""`Roots`: the folders of a server below which all paths of requests must lie; see `jobs.bounds`."""

from __future__ import annotations

import os
from pathlib import Path

from bigsvd.errors import JobError, OutputExistsError
from bigsvd.jobs.bounds import Bounds
from bigsvd.jobs.record import Record
from bigsvd.request import Request
from bigsvd.results.folders import is_scratch, scratch_path
from bigsvd.service.settings import Settings
from bigsvd.service.users import User


class Roots:
    """What requests to a server may name: every answer is a path without links, or a URL that is allowed.

    Each raises `PathError` where a text is malformed, `OutsideRootsError` where it leads elsewhere, and
    `UrlError` where it is a URL that the operator has not allowed. `bounds` is the same as a value, which
    travels to whoever drives a job.
    """

    def __init__(self, settings: Settings) -> None:
        stage = "" if settings.stage is None else str(settings.stage.absolute())
        folders = tuple(str(root.absolute()) for root in settings.roots)
        self.bounds = Bounds(folders, (str(settings.state.absolute()),), settings.urls, stage)

    def source(self, text: str) -> str:
        """A matrix to decompose."""
        return self.bounds.now().readable("source", text)

    def vector(self, text: str) -> str:
        """Numbers for each row or column."""
        return self.bounds.now().readable("vector", text)

    def output(self, text: str) -> str:
        """Where a result is to be."""
        return self.bounds.now().output("out", text)

    def warm_start(self, text: str) -> str:
        """A factor store to begin with."""
        return self.bounds.now().kept("warm_start", text)

    def stage(self, text: str) -> str:
        """Where panels are to be staged."""
        return self.bounds.now().staging("stage", text)

    def folder(self, text: str) -> Path:
        """A folder to look into; empty for the first root."""
        return self.bounds.now().below("folder", text or ".")

    def request(self, request: Request) -> Request:
        """The same request with all its paths resolved."""
        return self.bounds.request(request)

    def check_overwrite(self, request: Request, user: User) -> None:
        """`OutputExistsError` where a request would replace what is not a result of this user's jobs."""
        if request.overwrite and request.out is not None:
            self.check_free(request.out, user)

    def check_free(self, out: str, user: User) -> None:
        """`OutputExistsError` where a result, or passes towards one, are no work of this user's jobs."""
        taken = os.path.lexists(out) or is_scratch(scratch_path(Path(out)))
        owner = _owner_of(out) if taken else user.name
        if owner != user.name and not user.may("admin"):
            raise OutputExistsError(
                f"{out} is work of {owner or 'nobody here'}, and {user.name} would replace it",
                "choose another output",
            )


def _owner_of(out: str) -> str:
    """Whose job has made a result; empty where none is known."""
    try:
        return Record(out).asked().owner
    except JobError:
        return ""
