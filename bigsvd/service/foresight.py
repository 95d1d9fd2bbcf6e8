"""What a request would cost on this server, as `bigsvd plan` foretells it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bigsvd.execution.cluster import DaskClient, Tls, connected
from bigsvd.planning.plan import Plan
from bigsvd.request import Request
from bigsvd.service.service import Service
from bigsvd.service.settings import Settings
from bigsvd.solve import foresee
from bigsvd.sources.open import open_source

_WAIT_SECONDS = 5.0  # for a first worker: whoever asks for a plan waits for its answer


def plan_of(request: Request, service: Service) -> Plan:
    """The plan of a request, at nominal rates, with the memory that a job of this server gets.

    Raises:
        BadInputError: a path lies elsewhere, or what the data's metadata show to be impossible.

    """
    asked = service.roots.request(request)
    service.runner.check_memory(asked)
    asked = replace(asked, memory=asked.memory or service.runner.memory_bytes)
    source = open_source(asked.source, **asked.reading)
    service.roots.bounds.check_places(source.places)
    with _cluster(service.settings) as client:
        return foresee(asked, source, client=client)


@contextmanager
def _cluster(settings: Settings) -> Iterator[DaskClient | None]:
    """A client of the cluster that does the work; None where that is this machine."""
    with connected(
        settings.scheduler or None, tls=Tls.of(settings.tls), wait_workers_seconds=_WAIT_SECONDS
    ) as client:
        yield client
