"""The application: every route, the answers to what goes wrong, and the document that names them all."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from bigsvd.service import problems
from bigsvd.service.guard import Guard
from bigsvd.service.observer import Observer
from bigsvd.service.operations import Operations
from bigsvd.service.routers import ROUTERS
from bigsvd.service.service import Service
from bigsvd.service.streams import Streams


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
    app.state.streams = Streams(service.settings.limits.streams)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    _name_problems(app)
    app.state.operations = operations = Operations(service)
    app.add_middleware(Guard, settings=service.settings)
    app.add_middleware(Observer, measures=operations.measures)  # around all else
    return app


def _name_problems(app: FastAPI) -> None:
    """Have the document hold the schema of problems, which no route has as its answer."""
    made = app.openapi
    app.openapi = lambda: _with_problems(made())  # type: ignore[method-assign]


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    document["components"]["schemas"]["Problem"] = problems.Problem.model_json_schema()
    return document
