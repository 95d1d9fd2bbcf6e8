"""A fuzzer over the service's OpenAPI document: no answer is 5xx, and every one is as the document says.

Schemathesis makes requests that match the document, and requests that do not; each answer is held to its
status, media type, headers and schema, and what does not match is to be refused. Half of the requests name
jobs, results and links that are there; streams of events are asked for, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks

from bigsvd.service.streams import Streams

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]
_EVENTS = "text/event-stream"


@dataclass
class Fuzzed:
    """What a run has found.

    Attributes:
        cases: how many requests were sent. statuses: how many answers had each. operations: how many requests
            each operation got. failures: what was wrong, with a command that asks the same again.

    """

    seed: int
    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "seed": self.seed,
            "cases": self.cases,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "server_errors": sum(count for status, count in self.statuses.items() if status >= 500),
            "operations": dict(sorted(self.operations.items())),
            "failures": self.failures,
        }


@dataclass(frozen=True)
class Known:
    """What is there.

    Attributes:
        paths: values of the parameters of paths, by their names. bodies: fields of bodies, by their names,
            beside which the others are as they come.

    """

    paths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bodies: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


def fuzz(app: FastAPI, cases: int, known: Known, *, seed_of_run: int = 0, skip: str = "") -> Fuzzed:
    """Send about so many requests to an application in this process, each operation as many as the others.

    Args:
        app: trusts whoever connects, or has no operation that needs a token; its streams are made to end
            after their first look, since jobs may wait for ever.
        cases: how many.
        known: what requests may name that is there.
        seed_of_run: of everything random.
        skip: the beginning of paths that are left alone.

    """
    app.state.streams = _ending()
    document = schemathesis.openapi.from_asgi("/v1/openapi.json", app)
    operations: list[Any] = [found.ok() for found in document.get_all_operations()]  # type: ignore[union-attr]
    operations = [one for one in operations if not (skip and one.path.startswith(skip))]
    turns = [(one, mode, real) for one in operations for mode in _MODES for real in (False, True)]
    found = Fuzzed(seed_of_run)
    for operation, mode, real in turns:
        _send(operation, mode, max(1, -(-cases // len(turns))), known if real else Known(), found)
    return found


_MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def _ending() -> Streams:
    streams = Streams(10**6)
    streams.close()
    return streams


def _send(operation: Any, mode: GenerationMode, most: int, known: Known, found: Fuzzed) -> None:
    """Send requests to one operation."""

    @seed(found.seed)
    @settings(
        max_examples=most,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def send(data: st.DataObject) -> None:
        names = {parameter.name for parameter in operation.path_parameters}
        fixed = {
            name: data.draw(st.sampled_from(values)) for name, values in known.paths.items() if name in names
        }
        headers = _headers(operation, data) if known.paths else {}
        case = data.draw(
            operation.as_strategy(
                generation_mode=mode, path_parameters=fixed or None, headers=headers or None
            )
        )
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
            case.body |= {
                name: data.draw(st.sampled_from(values))
                for name, values in known.bodies.items()
                if name in case.body or name == "source"
            }
        _sent(operation, case, found)

    send()


def _headers(operation: Any, data: st.DataObject) -> dict[str, str]:
    if not operation.path.endswith("/events"):
        return {}
    return {"accept": data.draw(st.sampled_from([_EVENTS, "application/json"]))}


def _sent(operation: Any, case: Any, found: Fuzzed) -> None:
    """Send one, and hold the answer to the document."""
    found.cases += 1
    found.operations[f"{operation.method.upper()} {operation.path}"] += 1
    try:
        answer = case.call()
    except Exception as error:  # noqa: BLE001 - whatever the application lets through is what is looked for
        found.statuses[500] += 1
        found.failures.append(f"{operation.label} raised {type(error).__name__}: {error}")
        return
    found.statuses[answer.status_code] += 1
    try:
        case.validate_response(answer, checks=CHECKS)
    except* Failure as group:
        found.failures += [f"{operation.label} ({answer.status_code}): {one}" for one in _flat(group)]


def _flat(group: BaseExceptionGroup[Any]) -> Iterator[Any]:
    for one in group.exceptions:
        if isinstance(one, FailureGroup):
            yield from one.exceptions
        else:
            yield one
