"""The application: every route, the answers to what goes wrong, and the document that names them all."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from bigsvd.service.http import problems
from bigsvd.service.http.access_log import Observer
from bigsvd.service.http.auth import COOKIE
from bigsvd.service.http.guard import Guard
from bigsvd.service.http.streams import Streams
from bigsvd.service.operations.health import Operations
from bigsvd.service.routers import ROUTERS
from bigsvd.service.service import Service

# To say who asks: a token in a header, or the cookie that the page got for it.
_WAYS = {
    "token": {"type": "http", "scheme": "bearer"},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
}


def create_app(service: Service) -> FastAPI:
    """The application of a service that is open."""
    app = FastAPI(
        title="bigsvd",
        summary="Certified truncated SVD of matrices larger than memory",
        version=version("bigsvd"),
        openapi_url="/v1/openapi.json",
        docs_url=None,  # both load their scripts from elsewhere
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.service = service
    app.state.connections = set[Any]()  # that are open: whoever serves the application keeps them there
    app.state.streams = Streams(service.settings.limits.streams, service.index.job)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    _complete(app)
    app.state.operations = operations = Operations(service)
    app.add_middleware(Guard, settings=service.settings, connections=app.state.connections)
    app.add_middleware(Observer, measures=operations.measures)  # around all else
    return app


def _complete(app: FastAPI) -> None:
    """Have the document hold what no route says: the schema of problems, and how one tells who asks."""
    made = app.openapi
    app.openapi = lambda: _completed(made())  # type: ignore[method-assign]


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    document["components"]["schemas"]["Problem"] = problems.Problem.model_json_schema()
    document["components"]["securitySchemes"] = _WAYS
    document["security"] = [{name: []} for name in _WAYS]
    return document
