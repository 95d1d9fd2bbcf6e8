"""A fuzzer over the service's OpenAPI document: no answer is 5xx, and every one is as the document says.

Schemathesis makes requests that match the document, and requests that do not; each answer is held to its
status, media type, headers and schema, and what does not match is to be refused. Most of the requests name
jobs, results and links that are there; streams of events are asked for, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks

from bigsvd.service.http.streams import Streams

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]
# Without tokens and cookies of its own making: who asks with a cookie has to say from which page, too.
_CONFIG = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
_HERE = "http://127.0.0.1"  # by which name the application may be called
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
    """What is there, and what asks for something that is.

    Attributes:
        paths, queries: values of parameters by their names. bodies: fields of bodies by their names, beside
            which a few others are as they come.

    """

    paths: Mapping[str, Sequence[str]] = field(default_factory=dict)
    queries: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    bodies: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, source: str, outs: Sequence[str], jobs: Sequence[str], links: Sequence[str]) -> Known:
        """That of a matrix of at least 10 x 10 at a path, finished jobs with results at `outs`, and links."""
        spans = {"rows": ("0:5", ":", "7"), "cols": ("3:9", ":"), "range": ("0:4",), "triplets": ("0:2",)}
        others = {"k": (1, 2), "path": outs, "folder": ("",), "state": ("done",), "label": ("a=b",)}
        words = {"format": ("json", "npy"), "of": ("original", "difference", "reconstruction")}
        return cls(
            paths={"job": jobs, "result": jobs, "link": links},
            queries=spans | others | words,
            bodies={"source": (source,), "k": (2, 3), "out": tuple(f"fuzzed-{i}" for i in range(9))},
        )


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
    app.state.streams = _ending(app)
    document = schemathesis.openapi.from_dict(app.openapi(), config=_CONFIG)
    document.app = app
    operations: list[Any] = [found.ok() for found in document.get_all_operations()]  # type: ignore[union-attr]
    operations = [one for one in operations if not (skip and one.path.startswith(skip))]
    operations.sort(key=lambda one: one.method.lower() == "delete")  # these last, or nothing would be there
    turns = [(one, mode) for one in operations for mode in _MODES]
    found = Fuzzed(seed_of_run)
    for operation, mode in turns:
        _send(operation, mode, max(1, -(-cases // len(turns))), known, found)
    return found


_MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def _ending(app: FastAPI) -> Streams:
    streams = Streams(10**6, app.state.service.index.job)
    streams.close()
    return streams


def _send(operation: Any, mode: GenerationMode, most: int, known: Known, found: Fuzzed) -> None:
    """Send requests to one operation."""

    @seed(found.seed)
    @settings(
        max_examples=most, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def send(data: st.DataObject) -> None:
        _sent(operation, _case(operation, mode, known, data), found)

    with suppress(Unsatisfiable):  # of an operation without anything that could be wrong
        send()


def _case(operation: Any, mode: GenerationMode, known: Known, data: st.DataObject) -> Any:
    """A request, in which what is known takes the place of some of what is random."""
    paths = _drawn(known.paths, operation.path_parameters, data)
    if mode is GenerationMode.NEGATIVE:
        return data.draw(operation.as_strategy(generation_mode=mode, path_parameters=paths or None))
    case = data.draw(operation.as_strategy(generation_mode=mode))
    if data.draw(st.integers(0, 3)) == 0:
        return case
    case.path_parameters = {**(case.path_parameters or {}), **paths}
    queries = _drawn(known.queries, operation.query, data)
    some = data.draw(st.sets(st.sampled_from(sorted(queries)))) if queries else ()
    case.query = {**(case.query or {}), **{name: queries[name] for name in some}}
    if operation.path.endswith("/events"):
        accept = data.draw(st.sampled_from([_EVENTS, "application/json"]))
        case.headers = {**(case.headers or {}), "accept": accept}
    if isinstance(case.body, dict) and "source" in case.body:
        few = data.draw(st.sets(st.sampled_from(sorted(case.body)), max_size=2))
        fields = {name: data.draw(st.sampled_from(values)) for name, values in known.bodies.items()}
        case.body = {name: case.body[name] for name in few} | fields
    return case


def _drawn(known: Mapping[str, Sequence[Any]], parameters: Any, data: st.DataObject) -> dict[str, Any]:
    """Values of those parameters that some are known of."""
    names = {parameter.name for parameter in parameters} & known.keys()
    return {name: data.draw(st.sampled_from(known[name])) for name in sorted(names)}


def _sent(operation: Any, case: Any, found: Fuzzed) -> None:
    """Send one, and hold the answer to the document."""
    found.cases += 1
    found.operations[f"{operation.method.upper()} {operation.path}"] += 1
    try:
        answer = case.call(base_url=_HERE)
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
