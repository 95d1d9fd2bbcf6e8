"""All that the service answers."""

from __future__ import annotations

from bigsvd.service.routes import (
    arrays,
    events,
    jobs,
    links,
    page,
    plans,
    regions,
    results,
    sources,
    verifications,
)

ROUTERS = tuple(
    module.router
    for module in (arrays, plans, jobs, events, results, regions, verifications, links, sources, page)
)
