"""Deletes a result: its factors, the links to it, and the record of its job."""

from __future__ import annotations

from pathlib import Path

from bigsvd.results.output import Output
from bigsvd.service.results.lookup import job_of
from bigsvd.service.service import Service


def remove_result(service: Service, result: str, path: Path) -> None:
    """Delete the result of that id, which is at that path.

    Raises:
        OutputBusyError: a run holds it. OutputExistsError: somebody has put something else into it.

    """
    with Output(path, overwrite=True) as output:
        for link in service.links.of(result):
            service.links.revoke(link.id)
        service.arrays.forget(path)
        output.remove()
    row = job_of(service, result)
    if row is not None:
        service.index.forget(row.id)
