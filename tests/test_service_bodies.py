"""Bodies, commands and problems: what a request may say, how else it is said, what is answered instead."""

from __future__ import annotations

import errno
import json
import math
import shlex
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from click.testing import CliRunner
from fastapi import FastAPI
from hypothesis import given, reject
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.testclient import TestClient

from bigsvd import cli, errors
from bigsvd.cli.options import request_of
from bigsvd.errors import BigsvdError, RequestError, SourceError, StorageError
from bigsvd.request import CHOICES, SCALES, Request
from bigsvd.service.commands import Commands
from bigsvd.service.http import problems
from bigsvd.service.http.bodies import JobBody, PlanBody

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BigsvdError)]
FINITE = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
PATHS = st.text("abc .-'\"$%é", min_size=1, max_size=12).filter(lambda text: text.strip())
# Each a change of a request that goes with every other.
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "source": PATHS,
    "out": PATHS,
    "tol": st.sampled_from([1e-6, 0.5, 1.0]),
    "center": st.booleans(),
    "samples": st.sampled_from(["rows", "columns", "sample"]),
    "sum": st.sampled_from([None, "ploidy", "2"]),
    "rows": st.sampled_from([None, "0:10", "rows.npy"]),
    "cols": st.sampled_from([None, "5:50:5"]),
    "device": st.sampled_from(CHOICES["device"]),
    "memory": st.sampled_from([None, 10**9]),
    "max_passes": st.sampled_from([None, 3]),
    "deadline": st.sampled_from([None, 60.0]),
    "seed": st.integers(0, 2**40),
    "overwrite": st.booleans(),
    "stage": st.sampled_from([None, "/scratch/it"]),
    "warm_start": st.sampled_from([None, "old factors"]),
    "functions": st.sampled_from([(), ("log1p",), ("normalize_total:10000", "clip:-1:3")]),
    "weights": st.sampled_from([None, "w.npy"]),
    "row_weights": st.sampled_from([None, "w.npy"]),
    "decode": st.booleans(),
    "missing_chunks": st.sampled_from(CHOICES["missing_chunks"]),
}
SCALED: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, *({"scale": scale} for scale in SCALES), {"scale": "scales.npy"}, {"scale": True, "ddof": 1}]
)
MISSING: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.sampled_from(["mean", "zero"]).map(lambda rule: {"missing": rule}),
    st.lists(
        FINITE | st.integers(-99, 99) | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=3
    ).map(lambda values: {"missing": "zero", "missing_value": tuple(values)}),
)
RANKS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{"k": 1}, {"k": 40}, {"k": "auto"}, {"energy": 0.9}, {"error": 0.25}, {"max_bytes": 10**6}]
)
METHODS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"method": "krylov"}, {"method": "compressed", "iterator": "power", "compute": False}]
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Requests of all kinds."""
    changed = draw(st.sets(st.sampled_from(sorted(CHANGES)), max_size=6))
    values = {name: draw(CHANGES[name]) for name in sorted(changed)}
    for more in (SCALED, MISSING, RANKS, METHODS):
        values |= draw(more)
    values.setdefault("k", "auto")
    try:
        return Request.of(values.pop("source", "data.zarr"), values.pop("k"), **values)
    except RequestError:  # of what contradicts each other
        reject()


def test_a_body_has_the_fields_of_a_request() -> None:
    own = {field.name for field in fields(Request)} - {"method_options"}
    of_methods = {"power_iterations", "iterator", "oversampling", "compute"}
    assert PlanBody.model_fields.keys() == own | of_methods
    assert JobBody.model_fields.keys() - PlanBody.model_fields.keys() == {
        "name", "labels", "attempts", "max_runtime_seconds"
    }  # fmt: skip
    for field in fields(Request):
        if field.name not in ("source", "k", "method_options"):
            default = PlanBody.model_fields[field.name].default
            assert (tuple(default) if isinstance(default, list) else default) == field.default


@given(requests())
def test_a_request_and_its_body_are_the_same(request: Request) -> None:
    sent = json.loads(json.dumps(request.to_dict(), allow_nan=False))
    assert PlanBody.model_validate(sent).request() == request


@pytest.mark.parametrize(
    "values",
    [
        {"unknown": 1}, {"k": True}, {"k": 0}, {"k": 2.5}, {"k": "many"}, {"tol": math.nan},
        {"tol": math.inf}, {"tol": "0.1"}, {"center": 1}, {"source": ""}, {"source": 3}, {"stop": "soon"},
        {"functions": [1]}, {"missing": "mean", "missing_value": math.nan},
        {"missing": "mean", "missing_value": []}, {"memory": -1}, {"method_options": {}},
    ],
)  # fmt: skip
def test_bodies_that_are_none(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PlanBody.model_validate({"source": "data", "k": 3} | values)


def of_command(text: str) -> Request:
    """The request that a command line makes."""
    taken: list[Request] = []

    def caught(data: str, out: str, *, overwrite: bool, **options: Any) -> None:
        for name in ("scheduler", "tls_ca", "tls_cert", "tls_key", "wait_workers"):
            options.pop(name)
        for name in ("plan_file", "storage_options", "as_json", "quiet", "strict"):
            options.pop(name)
        taken.append(request_of(data, out, options, overwrite=overwrite))

    command = cli.main.commands["svd"]
    before = command.callback
    command.callback = caught
    try:
        ended = CliRunner().invoke(cli.main, shlex.split(text)[1:])
    finally:
        command.callback = before
    assert ended.exit_code == 0, ended.output
    return taken[0]


@given(requests())
def test_the_commands_say_the_same(request: Request) -> None:
    commands = Commands.of(request, "http://host:1/")
    out = request.out or "OUT"
    whole = Request.from_dict(request.to_dict() | {"out": out})
    assert of_command(commands.cli) == whole
    taken: list[Request] = []

    def svd(source: str, **options: Any) -> None:
        taken.append(Request.of(source, **options))

    source = commands.python.replace("import bigsvd\n", "")
    exec(source, {"bigsvd": type("module", (), {"svd": staticmethod(svd)})})  # noqa: S102 - as pasted
    assert taken == [whole]
    *_, body, url = shlex.split(commands.curl)
    assert JobBody.model_validate(json.loads(body)).request() == whole
    assert url == "http://host:1/v1/jobs"


def application(raises: Callable[[], None]) -> TestClient:
    """One whose only route fails."""
    app = FastAPI()
    problems.install(app)
    app.get("/fails")(raises)
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_status_and_keeps_its_words(kind: type[BigsvdError]) -> None:
    def fails() -> None:
        raise kind("3 is more than 2", "give less")

    answer = application(fails).get("/fails")
    said = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert said == problems.Problem.model_validate(said).model_dump()
    assert (said["code"], said["detail"], said["remedy"]) == (kind.code, "3 is more than 2", "give less")
    assert answer.status_code == said["status"] >= 400
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
    assert ("retry-after" in answer.headers) == (answer.status_code in (429, 503))


def test_a_full_disk_is_507_whoever_says_so() -> None:
    def stored() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise StorageError("writing failed", "make room") from error

    def bare() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for fails in (stored, bare):
        answer = application(fails).get("/fails")
        assert (answer.status_code, answer.json()["code"]) == (507, "E_STORAGE")


def test_what_nobody_foresaw_is_told_to_nobody() -> None:
    def fails() -> None:
        raise ZeroDivisionError("a secret")

    answer = application(fails).get("/fails")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in answer.text
    assert answer.json()["code"] == "E_BIGSVD"


def test_what_is_not_there_is_a_problem_too() -> None:
    def fails() -> None:
        raise SourceError("x", "y")

    client = application(fails)
    assert client.get("/nothing").json()["code"] == "E_NOT_FOUND"
    answer = client.delete("/fails")
    assert (answer.status_code, answer.json()["code"], answer.headers["allow"]) == (405, "E_METHOD", "GET")
