"""What the client makes of a service's answers, and of those that are lost on the way."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

import bigsvd
from bigsvd.client.client import body_of, request_of
from bigsvd.client.events import Message, messages
from bigsvd.client.told import status_from
from bigsvd.client.wire import Wire, is_local, problem
from bigsvd.errors import (
    AuthError,
    BigsvdError,
    CancelledError,
    JobError,
    JobLostError,
    NonFiniteError,
    QuotaError,
    RequestError,
    RuntimeLimitError,
    ServiceError,
    StateError,
    TooLargeError,
    by_code,
)
from bigsvd.request import Request
from bigsvd.results.rank import Spectrum

URL = "http://svd.example"
Answers = Callable[[httpx.Request], httpx.Response]
BAD_GATEWAY = httpx.Response(502, html="<html>nginx</html>")


class Served:
    """A service that gives these answers one after the other, the last of them for ever."""

    def __init__(self, *answers: httpx.Response | Exception | Answers) -> None:
        self.asked: list[httpx.Request] = []
        self.pauses: list[float] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        return answer(request)

    def wire(self, token: str = "") -> Wire:
        return Wire(URL, token, transport=httpx.MockTransport(self), pause=self.pauses.append)

    def client(self, token: str = "") -> bigsvd.Client:
        client = bigsvd.Client(URL)
        client._wire = self.wire(token)
        return client


def told(**values: Any) -> httpx.Response:
    return httpx.Response(200, json=values)


def refusal(status: int, code: str) -> httpx.Response:
    values = {
        "type": f"urn:bigsvd:{code}",
        "status": status,
        "code": code,
        "detail": "5 > 4",
        "remedy": "less",
    }
    return httpx.Response(status, json=values, headers={"content-type": "application/problem+json"})


def job(state: str = "running", **values: Any) -> dict[str, Any]:
    """The JSON of a job, as API.md has it."""
    usual = {
        "id": "0123456789", "name": "ukb", "labels": {"lab": "blue"}, "owner": "ada", "source": "a.zarr",
        "k": 4, "out": "/roots/out", "state": state, "reason": "", "place": None, "phase": {}, "attempt": 1,
        "created": "2026-11-30T12:00:00+00:00", "updated": "2026-11-30T12:00:01+00:00", "seconds": 1.5,
        "stopping": False, "error": None, "request": {"source": "a.zarr", "k": 4, "out": "/roots/out"},
        "links": {"self": "/v1/jobs/0123456789"},
    }  # fmt: skip
    return usual | values


def test_what_fails_for_a_moment_is_asked_again_after_growing_pauses() -> None:
    served = Served(
        httpx.ConnectError("refused"), BAD_GATEWAY, httpx.ReadTimeout("late"), told(jobs=[job()], next=None)
    )
    [status] = served.client().jobs()
    assert status.asked.id == "0123456789"
    assert served.pauses == [0.2, 0.4, 0.8]


def test_a_poll_is_not_ended_by_one_bad_answer() -> None:
    answers: list[httpx.Response | Exception | Answers] = [
        told(**job()),
        BAD_GATEWAY,
        told(**job()),
        httpx.ReadError("reset"),
        told(**job("done")),
    ]
    served = Served(*answers)
    assert served.client().job("0123456789").wait().id == "0123456789"


def test_an_address_where_nobody_ever_answered_is_not_tried_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(httpx.ConnectError("refused"))
    clock = Clock(served.pauses)
    monkeypatch.setattr("bigsvd.client.wire.time.monotonic", clock)
    with pytest.raises(
        ServiceError, match=r"http://svd\.example cannot be reached \(ConnectError: refused\)"
    ):
        next(served.client().jobs())
    assert 1 < clock() <= 3


def test_a_service_that_has_answered_is_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(BAD_GATEWAY)
    clock = Clock(served.pauses)
    monkeypatch.setattr("bigsvd.client.wire.time.monotonic", clock)
    with pytest.raises(ServiceError, match=r"svd\.example answers 502"):
        served.client().job("0123456789")
    assert 45 < clock() <= 60
    assert max(served.pauses) == 10.0


class Clock:
    """One that only pauses move."""

    def __init__(self, pauses: list[float]) -> None:
        self._pauses = pauses

    def __call__(self) -> float:
        return sum(self._pauses)


def test_however_often_its_answer_is_lost_a_job_has_one_key() -> None:
    served = Served(httpx.ReadTimeout("late"), BAD_GATEWAY, httpx.Response(200, json=job("queued")))
    served.client().submit("a.zarr", 4, "out")
    keys = [request.headers["Idempotency-Key"] for request in served.asked]
    assert len(keys) == 3
    assert len({*keys}) == 1
    served.client().submit("a.zarr", 4, "out")
    assert served.asked[-1].headers["Idempotency-Key"] != keys[0]


def test_a_request_says_only_what_was_asked_for() -> None:
    served = Served(httpx.Response(202, json=job("queued")))
    served.client().submit(
        "a.zarr", 4, "out", name="ukb", labels={"lab": "blue"}, max_runtime=60, center=True, method="krylov",
        missing="mean", missing_value=float("nan"), rows=slice(0, 10),
    )  # fmt: skip
    assert json.loads(served.asked[0].content) == {
        "source": "a.zarr", "k": 4, "out": "out", "name": "ukb", "labels": {"lab": "blue"}, "center": True,
        "max_runtime_seconds": 60, "method": "krylov", "missing": "mean", "missing_value": "nan",
        "rows": "0:10",
    }  # fmt: skip


@pytest.mark.parametrize(
    "request_",
    [Request("a", 4), Request.of("a", "auto", energy=0.9), Request.of("a", 3, method="compressed")],
)
def test_the_body_of_a_request_is_the_request(request_: Request) -> None:
    assert Request.from_dict(body_of(request_)) == request_


def test_what_is_in_memory_is_refused() -> None:
    with pytest.raises(RequestError, match=r"weights is in memory \(ndarray\)"):
        request_of("a.zarr", 4, "out", {"weights": np.ones(3)})


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (refusal(413, "E_TOO_LARGE"), TooLargeError, "error[E_TOO_LARGE]: 5 > 4; less"),
        (refusal(429, "E_QUOTA"), QuotaError, "error[E_QUOTA]: 5 > 4; less"),
        (refusal(500, "E_FUTURE"), BigsvdError, "error[E_BIGSVD]: 5 > 4 (E_FUTURE); less"),
        (httpx.Response(401, text="who?"), AuthError, "svd.example answers 401 Unauthorized to GET /v1/jobs"),
        (httpx.Response(500, json=[1]), ServiceError, "svd.example answers 500 Internal Server Error"),
    ],
)
def test_a_refusal_is_the_error_of_its_code(
    answer: httpx.Response, kind: type[BigsvdError], text: str
) -> None:
    served = Served(answer)
    with pytest.raises(kind, match=re.escape(text)):
        next(served.client().jobs())
    assert len(served.asked) == 1
    assert served.pauses == []


def test_what_is_no_service_is_told_so() -> None:
    with pytest.raises(ServiceError, match=r"answers text/html.* instead of JSON: it is no bigsvd service"):
        next(Served(httpx.Response(200, html="<html>")).client().jobs())


def test_each_code_has_one_class_that_is_raised_again() -> None:
    for code, kind in (("E_NONFINITE", NonFiniteError), ("E_STATE", StateError)):
        assert type(by_code(code, "a", "b")) is kind
    assert by_code("E_STORAGE", "a", "b").infrastructure
    assert type(by_code("E_STORAGE", "a", "b")).__name__ == "StorageError"


def test_a_wish_that_was_heard_though_its_answer_was_lost_is_fulfilled() -> None:
    served = Served(told(**job()), httpx.ReadError("reset"), refusal(409, "E_STATE"))
    served.client().job("0123456789").cancel(drop=True)
    assert json.loads(served.asked[-1].content) == {"drop": True}
    with pytest.raises(StateError):
        Served(told(**job("done")), refusal(409, "E_STATE")).client().job("0123456789").stop()


def test_what_must_not_happen_twice_is_not_sent_again_after_a_lost_answer() -> None:
    served = Served(httpx.ReadTimeout("late"))
    with pytest.raises(ServiceError):
        served.client().result("0123456789").link()
    assert len(served.asked) == 1
    link = {"id": "1", "url": "u", "zarr_url": "z", "expires": "2027-01-01T00:00:00Z"}
    served = Served(httpx.ConnectError("refused"), httpx.Response(201, json=link))
    assert served.client().result("0123456789").link(k=3).zarr_url == "z"
    assert json.loads(served.asked[-1].content) == {"k": 3}


def test_the_token_goes_with_each_request_and_into_no_message() -> None:
    served = Served(refusal(403, "E_SCOPE"))
    client = served.client("top-secret")
    with pytest.raises(BigsvdError) as refused:
        next(client.jobs())
    assert served.asked[0].headers["Authorization"] == "Bearer top-secret"
    assert "top-secret" not in f"{refused.value} {client!r}"
    with pytest.raises(RequestError) as refused:
        Wire(URL, "top-secret\nX-Other: 1")
    assert "top-secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["svd.example", "ftp://svd.example", "", "http://", "/v1"])
def test_what_is_no_url_of_a_service_is_refused(url: str) -> None:
    with pytest.raises(RequestError, match="is no URL of a service"):
        bigsvd.Client(url)


@pytest.mark.parametrize("url", ["http://u:hush@svd.example", "http://svd.example/#token=hush"])
def test_a_url_that_holds_a_secret_is_refused_without_telling_it(url: str) -> None:
    with pytest.raises(RequestError) as refused:
        bigsvd.Client(url)
    assert "hush" not in str(refused.value)


def test_a_service_may_lie_below_a_path() -> None:
    served = Served(told(jobs=[], next=None))
    wire = Wire(URL + "/lab/svd/", transport=httpx.MockTransport(served))
    wire.told("GET", "v1/jobs")
    assert str(served.asked[0].url) == f"{URL}/lab/svd/v1/jobs"


@pytest.mark.parametrize(
    ("url", "local"),
    [("http://127.0.0.1:1", True), ("http://[::1]:1", True), ("http://localhost", True), (URL, False)],
)
def test_no_proxy_stands_between_a_machine_and_itself(
    url: str, local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_local(url) is local
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:1")
    asks = Wire(url)._http
    assert (asks._transport_for_url(httpx.URL(url)) is asks._transport) is local


def test_the_json_of_a_job_is_its_status() -> None:
    phase = {
        "name": "pass", "doing": "", "number": 2, "of": 3, "bytes_done": 5, "bytes_total": 10,
        "passes_done": 1,
        "quality": {"passes": 1, "relative_error": 0.2, "max_residual": 0.1, "converged": False},
    }  # fmt: skip
    error = {"code": "E_NONFINITE", "message": "row 17", "remedy": "fill"}
    status = status_from(job("failed", phase=phase, error=error, request={"source": "a", "k": 4, "new": 1}))
    assert str(status.phase) == "pass 2 of about 3, 50%"
    assert str(status.error) == "error[E_NONFINITE]: row 17; fill"
    assert status.error is not None
    assert status.error.exit_status == 2
    facts = status.to_dict()
    assert facts["submitted"] == 1796040000.0
    assert facts["labels"] == {"lab": "blue"}
    queued = status_from(job("queued", reason="waits for ukb.k100", place=1, attempt=0))
    assert queued.reason == "waits for ukb.k100, number 1 in line"
    with pytest.raises(ServiceError, match="speaks of a job in another way"):
        status_from({"id": "0123456789"})


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (job("failed", error={"code": "E_NONFINITE", "message": "a", "remedy": "b"}), NonFiniteError),
        (job("cancelled", error={"code": "E_CANCELLED", "message": "a", "remedy": "b"}), CancelledError),
        (job("failed"), BigsvdError),
    ],
)
def test_waiting_ends_with_the_error_of_the_job(last: dict[str, Any], kind: type[BigsvdError]) -> None:
    with pytest.raises(kind):
        Served(told(**job()), told(**last)).client().job("0123456789").wait()


def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(told(**job()))
    waiting = served.client().job("0123456789")
    with pytest.raises(RuntimeLimitError, match="has not ended within 0 s"):
        waiting.wait(0)
    served = Served(told(**job("interrupted", reason="its driver has ended")))
    waiting = served.client().job("0123456789")
    monkeypatch.setattr("bigsvd.jobs.waiting.time.monotonic", Clock(served.pauses))
    with pytest.raises(JobLostError, match="its driver has ended"):
        waiting.wait()
    assert sum(served.pauses) > 60


def test_all_pages_of_a_list_are_asked_for() -> None:
    served = Served(told(jobs=[job()], next="c1"), told(jobs=[job(id="1123456789")], next=None))
    found = served.client().jobs(state="running", label=("lab", "blue"), text="ukb", owner="me")
    assert [status.asked.id for status in found] == ["0123456789", "1123456789"]
    first, second = (dict(request.url.params) for request in served.asked)
    assert first == {"state": "running", "label": "lab=blue", "q": "ukb", "owner": "me", "limit": "100"}
    assert second == first | {"cursor": "c1"}


def test_a_job_is_found_by_its_output() -> None:
    rows = [
        job("failed", created="2026-11-30T11:00:00+00:00", id="0000000001"),
        job(id="0000000002"),
        job(id="0000000003", out="/roots/other/out"),
    ]

    def found(out: str) -> str:
        return Served(told(jobs=rows, next=None)).client().job(out).id

    assert found("/roots/out") == "0000000002"
    assert found("other/out") == "0000000003"
    with pytest.raises(JobError, match="2 outputs end in out: /roots/other/out, /roots/out"):
        found("out")
    with pytest.raises(JobError, match="no job of this service writes nothing"):
        found("nothing")


def stream(*texts: str) -> httpx.Response:
    return httpx.Response(200, text="".join(texts), headers={"content-type": "text/event-stream"})


def test_events_come_as_a_stream_and_none_is_missed_where_it_breaks() -> None:
    first = stream(
        ": hello\n\n", 'id: 1\nevent: message\ndata: {"n": 1}\n\n', 'id: 2\ndata: {"n":\ndata: 2}\n\n'
    )
    last = stream(
        'event: job\ndata: {"state": "running"}\n\n', 'id: 3\ndata: {"n": 3}\n\n', "event: end\ndata: {}\n\n"
    )
    served = Served(told(**job()), first, last)
    assert list(served.client().job("0123456789").follow()) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert [request.headers.get("Last-Event-ID") for request in served.asked] == [None, "0", "2"]


def test_where_no_stream_comes_through_events_are_asked_for() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            if request.headers["accept"] == "text/event-stream":
                return BAD_GATEWAY
            after = int(request.url.params["after"])
            return told(events=[{"n": after + 1}] if after < 2 else [], next=min(after + 1, 2))
        return told(**job("done"))

    assert list(Served(answer).client().job("0123456789").follow()) == [{"n": 1}, {"n": 2}]
    assert list(Served(answer).client().job("0123456789").events()) == [{"n": 1}, {"n": 2}]


def test_messages_are_read_as_the_standard_has_them() -> None:
    lines = ["data: a", "data:b", "id: 7", "", ": ping", "", "event: end", "", "retry: 5", "", "data: torn"]
    assert list(messages(lines)) == [Message(data="a\nb", id="7"), Message(event="end")]


def test_numbers_come_as_arrays() -> None:
    block = np.arange(6.0).reshape(2, 3)
    sent: list[np.ndarray] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.content:
            sent.append(np.load(io.BytesIO(request.content), allow_pickle=False))
        file = io.BytesIO()
        np.save(file, block)
        return httpx.Response(200, content=file.getvalue())

    served = Served(answer)
    result = served.client().result("0123456789")
    assert np.array_equal(result.region(slice(0, 2), (1, 4), k=2), block)
    assert dict(served.asked[-1].url.params) == {
        "rows": "0:2", "cols": "1:4", "of": "reconstruction", "format": "npy", "k": "2",
    }  # fmt: skip
    assert np.array_equal(result.project(block), block)
    assert np.array_equal(sent[-1], block)
    with pytest.raises(ServiceError, match="answers with no array"):
        Served(httpx.Response(200, text="")).client().result("0123456789").region()


def test_verification_is_waited_for() -> None:
    verification = {
        "holds": True,
        "findings": [],
        "max_residual": 0.1,
        "relative_error": 0.2,
        "predicted": None,
    }
    served = Served(
        refusal(409, "E_STATE"),  # somebody else has begun it
        told(state="running"),
        told(state="done", verification=verification),
    )
    result = served.client().result("0123456789")
    assert result.verify().to_dict() == verification
    failed = {"state": "failed", "error": {"code": "E_SOURCE", "message": "gone", "remedy": "bring it"}}
    with pytest.raises(BigsvdError, match=r"error\[E_SOURCE\]: gone; bring it"):
        Served(told(**failed)).client().result("0123456789").verify()


def test_a_spectrum_is_the_same_after_json() -> None:
    spectrum = Spectrum(np.array([3.0, 1.0]), 4.0, (5, 4), 80, 4, np.array([0.1, np.nan]), 0.5, 0.25)
    again = Spectrum.from_dict(json.loads(json.dumps(spectrum.to_dict(), allow_nan=False)))
    for name, value in vars(spectrum).items():
        assert np.array_equal(getattr(again, name), value, equal_nan=isinstance(value, np.ndarray))


def test_a_problem_of_no_json_is_told_by_its_status() -> None:
    answer = httpx.Response(413, html="<html>", request=httpx.Request("POST", f"{URL}/v1/jobs"))
    assert isinstance(problem(answer), TooLargeError)
