"""All that the service answers."""

from __future__ import annotations

from bigsvd.service.routes import (
    arrays,
    events,
    jobs,
    links,
    operations,
    page,
    plans,
    regions,
    results,
    session,
    sources,
    verifications,
)

_MODULES = (
    arrays, plans, jobs, events, results, regions, verifications, links, sources, session, operations, page,
)  # fmt: skip
ROUTERS = tuple(module.router for module in _MODULES)
