"""What a job may overwrite: what lay at its output when it was taken in, and nothing that has come since."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from bigsvd.errors import OutputExistsError
from bigsvd.jobs.record import Asked
from bigsvd.request import Request
from bigsvd.results.folders import is_scratch, scratch_path
from bigsvd.results.store import mark_of


def sparing(asked: Asked, request: Request) -> Request:
    """The request as it is to be run; where nothing is to be overwritten now, nothing may come either.

    To overwrite is also to give up passes of another request, which lie in scratch where no result is.

    Raises:
        OutputExistsError: another result has come to its output.

    """
    out, known = Path(str(request.out)), asked.terms.replaces
    if known is None or not request.overwrite:
        return request
    if mark_of(out) not in ("", known):
        raise OutputExistsError(
            f"another result has come to {out} since job {asked.id} was taken in",
            "look whose it is, and submit the job again, or choose another output",
        )
    return replace(request, overwrite=os.path.lexists(out) or is_scratch(scratch_path(out)))
