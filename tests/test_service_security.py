"""What a request may not do: lead out of the roots, come from anywhere, be of any size, come from anybody."""

from __future__ import annotations

import asyncio
import gzip
import json
import pickle
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request as Body
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from bigsvd.errors import (
    BadInputError,
    OutputExistsError,
    OutsideRootsError,
    PathError,
    RequestError,
    UrlError,
)
from bigsvd.jobs.bounds import Bounds
from bigsvd.jobs.driver import Driver
from bigsvd.jobs.record import Launch, Record, Terms
from bigsvd.jobs.submit import take_in
from bigsvd.request import Request
from bigsvd.service.http import guard as guard_module
from bigsvd.service.http.auth import COOKIE
from bigsvd.service.http.guard import POLICY, Guard
from bigsvd.service.http.nesting import check_nesting
from bigsvd.service.roots import Roots
from bigsvd.service.settings import Limits, Settings
from bigsvd.service.store.database import FILE
from bigsvd.service.users import Scope as May
from bigsvd.service.users import User
from tests.services import Served, serving
from tests.small_arrays import small_matrix, store

FIELDS = (
    "source",
    "out",
    "stage",
    "warm_start",
    "offset",
    "scale",
    "weights",
    "row_weights",
    "rows",
    "cols",
)
DATABASE = f"state/{FILE}"
# What is sent, and the errors that may answer it. {top} is the folder around the root.
ATTACKS: dict[str, tuple[str, type[BadInputError]]] = {
    "upwards": ("../secret", OutsideRootsError),
    "far upwards": ("../../../../../../../../etc/passwd", OutsideRootsError),
    "upwards inside": ("data/../../secret", OutsideRootsError),
    "upwards behind what is not there": ("nowhere/../../secret", OutsideRootsError),
    "absolute": ("/etc/passwd", OutsideRootsError),
    "the root of all": ("/", OutsideRootsError),
    "absolute neighbour": ("{top}/secret", OutsideRootsError),
    "a name that begins as the root's": ("{top}/root-of-another", OutsideRootsError),
    "two slashes": ("//etc/passwd", OutsideRootsError),
    "through proc": ("/proc/self/root/etc/passwd", OutsideRootsError),
    "a device": ("/dev/zero", OutsideRootsError),
    "escaped dots": ("%2e%2e/%2e%2e/secret", PathError),
    "escaped slashes": ("..%2fsecret", PathError),
    "escaped twice": ("%252e%252e%252fsecret", PathError),
    "an escaped NUL": ("data%00.zarr", PathError),
    "NUL": ("data\0/../../secret", PathError),
    "a line end": ("data\n/etc/passwd", PathError),
    "half a letter": ("data\ud800", PathError),
    "letters that turn the line": ("data\u202egnp", PathError),
    "a home": ("~/secret", PathError),
    "another's home": ("~root/secret", PathError),
    "a drive": ("C:\\Windows\\win.ini", PathError),
    "a drive with slashes": ("C:/Windows/win.ini", UrlError),
    "backslashes": ("..\\..\\secret", PathError),
    "a share": ("\\\\server\\share", PathError),
    "blank": ("  ", PathError),
    "a long name": ("a" * 300, PathError),
    "a long path": ("a/" * 3000, PathError),
    "a link out": ("link-out", OutsideRootsError),
    "a link out and in": ("link-up/root/../secret", OutsideRootsError),
    "a chain of links out": ("link-to-link", OutsideRootsError),
    "a link in a circle": ("circle", PathError),
    "the server's own folder": (DATABASE, OutsideRootsError),
    "a file URL": ("file:///etc/passwd", UrlError),
    "a file URL with one slash": ("file:/etc/passwd", UrlError),
    "a file URL with a host": ("FILE://localhost/etc/passwd", UrlError),
    "a chain": ("simplecache::file:///etc/passwd", UrlError),
    "a chain of paths": ("zip::../secret.zip", UrlError),
    "a bucket": ("s3://another/data.zarr", UrlError),
    "a bucket that begins as an allowed one": ("s3://open-to-all/data.zarr", UrlError),
    "beside the allowed folder": ("s3://open/to-all/data.zarr", UrlError),
    "upwards in an allowed bucket": ("s3://open/to/../private", UrlError),
    "upwards at the end": ("s3://open/to/..", UrlError),
    "escaped, upwards, in an allowed bucket": ("s3://open/to/%2e%2e/private", UrlError),
    "an allowed bucket in a chain": ("zip::s3://open/to/a.zip", UrlError),
    "another endpoint": ("s3://open/to/a?endpoint=http://10.0.0.1", UrlError),
    "a password": ("https://user:pass@data.example/a.zarr", UrlError),
    "an allowed host as a user": ("https://data.example@10.0.0.1/a.zarr", UrlError),
    "link-local": ("http://169.254.169.254/latest/meta-data", UrlError),
    "private": ("http://10.0.0.1/a.zarr", UrlError),
    "this machine": ("http://localhost:8765/a.zarr", UrlError),
    "this machine, as a number": ("http://2130706433/a.zarr", UrlError),
    "this machine, mapped": ("http://[::ffff:127.0.0.1]/a.zarr", UrlError),
    "another protocol": ("gopher://data.example/a", UrlError),
    "code": ("python://os.system", UrlError),
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A root with links of every kind, beside what nobody may reach."""
    root = tmp_path / "root"
    for name in ("secret", "root-of-another", "root/data", "stage/root"):
        (tmp_path / name).mkdir(parents=True)
    for folder in (root, tmp_path / "stage"):
        (folder / "link-out").symlink_to(tmp_path / "secret")
        (folder / "link-up").symlink_to(tmp_path)
        (folder / "link-to-link").symlink_to("link-out")
        (folder / "circle").symlink_to("circle")
    (root / "link-in").symlink_to("data")
    return Settings(
        state=root / "state",
        roots=(root,),
        stage=tmp_path / "stage",
        urls=("s3://open/to", "https://data.example"),
    )


@pytest.fixture
def roots(settings: Settings) -> Roots:
    return Roots(settings)


def request(**fields: Any) -> Request:
    given: dict[str, Any] = {"source": "data", "k": 2, "out": "result"} | fields
    return Request.of(**given)


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_leads_out_of_the_roots(roots: Roots, tmp_path: Path, field: str) -> None:
    for what, (text, refusal) in ATTACKS.items():
        attack = text.replace("{top}", str(tmp_path))
        if field == "out" and "://" in attack:
            with pytest.raises(BadInputError, match="is a URL"):  # no request at all
                request(out=attack)
            continue
        asked = request(**{field: attack})
        if field == "stage" and attack in (DATABASE, "link-up/root/../secret"):
            continue  # there it is a name like others
        with pytest.raises((PathError, UrlError)) as caught:
            roots.request(asked)
        assert type(caught.value) is refusal, what
        assert str(tmp_path / "secret") not in str(caught.value).replace(attack, ""), what


def test_what_is_handed_on_has_no_links(roots: Roots, settings: Settings) -> None:
    root = settings.roots[0]
    asked = request(
        source="link-in/a.zarr.zip/inner", out="new/result", warm_start="data/../data/old", rows="0:10",
        cols="link-in/cols.npy", scale="std", weights="s3://open/to/weights", stage="panels",
    )  # fmt: skip
    found = roots.request(asked)
    assert found.source == str(root / "data/a.zarr.zip/inner")
    assert found.out == str(root / "new/result")
    assert found.warm_start == str(root / "data/old")
    assert (found.rows, found.cols) == ("0:10", str(root / "data/cols.npy"))
    assert (found.scale, found.weights) == (True, "s3://open/to/weights")
    assert found.stage == str(settings.stage) + "/panels"
    assert roots.request(found) == found


@pytest.mark.parametrize("name", ["%41", "a b", "ab:c", "Ärger", "‥/secret", "$HOME", "-", "a::".strip(":")])
def test_odd_names_below_a_root_are_names(roots: Roots, settings: Settings, name: str) -> None:
    assert Path(roots.source(name)).is_relative_to(settings.roots[0])


@pytest.mark.parametrize(
    "out", [".", "data/..", "other.job", "other.job/attempts", "a.scratch/b", ".hidden", "a/.b/c"]
)
def test_no_output_is_a_root_or_a_part_of_what_bigsvd_keeps(roots: Roots, out: str) -> None:
    with pytest.raises(PathError):
        roots.output(out)


def test_several_roots_each_hold_what_is_named_by_its_whole_path(tmp_path: Path) -> None:
    folders = (tmp_path / "one", tmp_path / "other")
    roots = Roots(Settings(state=tmp_path / "state", roots=folders))
    assert roots.source("a") == str(folders[0] / "a")
    assert roots.source(str(folders[1] / "a")) == str(folders[1] / "a")
    assert roots.source(f"../other/{'a'}") == str(folders[1] / "a")


def test_without_a_stage_nothing_is_staged(settings: Settings) -> None:
    with pytest.raises(PathError, match="nothing may be staged"):
        Roots(replace(settings, stage=None)).request(request(stage="panels"))


@pytest.mark.parametrize("url", ["s3://", "https:///a", "s3:bucket", "bucket"])
def test_an_allowed_url_names_a_host(settings: Settings, url: str) -> None:
    with pytest.raises(UrlError, match="names no bucket or host"):
        Roots(replace(settings, urls=(url,)))


def test_bounds_travel_as_json(roots: Roots) -> None:
    launch = Launch("tcp://somewhere:8786", bounds=roots.bounds)
    assert Launch.from_dict(asdict(launch)) == launch
    assert Launch.from_dict({}).bounds is None


def unheard(event: object) -> None:
    del event


def test_a_link_put_in_the_way_after_the_check_is_found_by_the_driver(
    roots: Roots, settings: Settings, tmp_path: Path
) -> None:
    """Checked at the door, swapped while the job waits in line: the driver refuses, and reads nothing."""
    root, secret = settings.roots[0], tmp_path / "secret"
    for folder in (root / "data", secret):
        np.save(folder / "a.npy", np.random.default_rng(0).standard_normal((30, 10)))
    asked = roots.request(request(source="data/a.npy", out="result"))
    take_in(asked, Terms(), secrets={})
    (root / "data").rename(root / "moved")
    (root / "data").symlink_to(secret)
    driver = Driver(Record(root / "result"), Launch(bounds=roots.bounds), {}, unheard)
    with pytest.raises(OutsideRootsError, match="outside of what this service may touch"):
        driver.drive()
    assert not (root / "result").exists()
    (root / "data").unlink()
    (root / "data").symlink_to("moved")  # inside, but not where it was
    again = Driver(Record(root / "result"), Launch(bounds=roots.bounds), {}, unheard)
    record = Record(root / "result")
    record.hand_to(Launch(bounds=roots.bounds))
    with pytest.raises(OutsideRootsError, match="leads elsewhere than when it was submitted"):
        again.drive()


def test_a_link_swapped_while_the_source_is_opened_is_found(
    roots: Roots, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the driver's check and its first read: what was opened then is not decomposed."""
    root, secret = settings.roots[0], tmp_path / "secret"
    for folder in (root / "data", secret):
        np.save(folder / "a.npy", np.random.default_rng(0).standard_normal((30, 10)))
    asked = roots.request(request(source="data/a.npy", out="result"))
    take_in(asked, Terms(), secrets={})
    check = Bounds.check_same

    def and_swap(bounds: Bounds, request: Request) -> None:
        check(bounds, request)
        (root / "data").rename(root / "moved")
        (root / "data").symlink_to(secret)

    monkeypatch.setattr(Bounds, "check_same", and_swap)
    driver = Driver(Record(root / "result"), Launch(bounds=roots.bounds), {}, unheard)
    with pytest.raises(OutsideRootsError):
        driver.drive()
    assert not (root / "result").exists()


def test_only_results_of_ones_own_jobs_are_replaced(roots: Roots, settings: Settings) -> None:
    root = settings.roots[0]
    np.save(root / "data/a.npy", np.random.default_rng(0).standard_normal((30, 10)))
    asked = roots.request(request(source="data/a.npy", out="result", overwrite=True))
    mine, other = User("ann", frozenset({"submit"})), User("bob", frozenset({"submit"}))
    roots.check_overwrite(asked, other)  # nothing is there
    job, _ = take_in(asked, Terms(), secrets={})
    (root / "result").mkdir()
    owner = User(job.record.asked().owner, frozenset({"submit"}))
    roots.check_overwrite(asked, owner)
    roots.check_overwrite(asked, User("root", frozenset({"admin"})))
    for someone in (mine, other):
        with pytest.raises(OutputExistsError, match=f"is work of {owner.name}"):
            roots.check_overwrite(asked, someone)
    (root / "result").rmdir()
    (root / "result.scratch/.bigsvd-scratch").mkdir(parents=True)  # passes towards a result
    with pytest.raises(OutputExistsError, match=f"is work of {owner.name}"):
        roots.check_overwrite(asked, other)
    (root / "by-hand").mkdir()
    with pytest.raises(OutputExistsError, match="is work of nobody here"):
        roots.check_overwrite(replace(asked, out=str(root / "by-hand")), owner)


# What comes by HTTP


ANYWHERE = "0.0.0.0"  # noqa: S104 - nobody listens


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that says how long a body was."""
    body = await Body(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


def guarded(tmp_path: Path, **options: Any) -> TestClient:
    settings = Settings(**{"state": tmp_path / "state", "roots": (tmp_path,), **options})
    app = Starlette(routes=[Mount("/", echo)])
    app.state.service = SimpleNamespace(settings=settings)
    app.add_middleware(Guard, settings=settings)
    return TestClient(app, base_url="http://127.0.0.1:8765")


@pytest.mark.parametrize(
    ("options", "own", "foreign"),
    [
        (
            {},
            ("127.0.0.1", "127.0.0.1:8765", "localhost:1", "[::1]:8765", "LocalHost"),
            ("evil.example", "evil.example:8765", "127.0.0.1.evil.example", "10.0.0.1", "", "a b", "[::1"),
        ),
        ({"host": ANYWHERE}, ("10.0.0.1:8765", "127.0.0.1", "[2001:db8::1]"), ("evil.example", "node7")),
        ({"host": "10.0.0.1", "hosts": ("Node7",)}, ("10.0.0.1", "node7:8765"), ("10.0.0.2", "127.0.0.1")),
    ],
)
def test_a_server_is_called_by_its_own_names_only(
    tmp_path: Path, options: dict[str, Any], own: tuple[str, ...], foreign: tuple[str, ...]
) -> None:
    """Else a page whose name was pointed here would be of the same origin as the service (DNS rebinding)."""
    client = guarded(tmp_path, **options)
    for host in own:
        assert client.get("/healthz", headers={"Host": host}).status_code == 200, host
    for host in foreign:
        answer = client.get("/healthz", headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (421, "E_HOST"), host


OWN_PAGE = {"Origin": "http://127.0.0.1:8765"}
COOKIE_SENT = {"Cookie": f"{COOKIE}=secret"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # a program
        (OWN_PAGE, 200),
        (OWN_PAGE | COOKIE_SENT, 200),
        ({"Origin": "http://127.0.0.1:9999"} | COOKIE_SENT, 403),  # the same site, for cookies
        ({"Origin": "http://localhost:8765"} | COOKIE_SENT, 403),
        ({"Origin": "https://evil.example"}, 403),  # where no token is asked for
        ({"Origin": "null"}, 403),
        (COOKIE_SENT, 403),
        (COOKIE_SENT | {"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"} | COOKIE_SENT, 403),
        (
            {"Origin": "https://evil.example", "Authorization": "Bearer x"},
            200,
        ),  # no page can send that unasked
        ({"Origin": "https://evil.example", "Authorization": "Basic x"}, 403),
    ],
)
def test_only_its_own_page_changes_anything(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    client = guarded(tmp_path)
    for method in ("POST", "DELETE", "PUT", "PATCH"):
        answer = client.request(method, "/v1/jobs", headers=headers)
        assert answer.status_code == status, method
        assert status == 200 or answer.json()["code"] == "E_ORIGIN"
    assert client.get("/v1/jobs", headers=headers).status_code == 200


def test_browsers_are_told_to_load_and_show_nothing_foreign(tmp_path: Path) -> None:
    for path in ("/", "/v1/jobs"):
        headers = guarded(tmp_path).get(path).headers
        assert headers["content-security-policy"] == POLICY
        assert "unsafe" not in POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers
    assert headers["cache-control"] == "no-store"


ARRAYS = ("/v1/links/SECRET/zarr/reconstruction/zarr.json", "/v1/results/0123456789/zarr@5/U/c/0/0")


def test_arrays_are_for_pages_of_the_named_servers(tmp_path: Path) -> None:
    client = guarded(tmp_path, origins=("https://viewer.example",))
    asked = {"Origin": "https://viewer.example", "Access-Control-Request-Method": "GET"}
    for path in ARRAYS:
        headers = client.get(path, headers={"Origin": "https://viewer.example"}).headers
        assert headers["access-control-allow-origin"] == "https://viewer.example"
        assert headers["cross-origin-resource-policy"] == "cross-origin"
        assert "access-control-allow-credentials" not in headers
        assert "ETag" in headers["access-control-expose-headers"]
        preflight = client.options(path, headers=asked)
        assert (preflight.status_code, preflight.text) == (204, "")
        assert "Range" in preflight.headers["access-control-allow-headers"]
        for other in ({"Origin": "https://evil.example"}, {}):
            headers = client.get(path, headers=other).headers
            assert "access-control-allow-origin" not in headers
            assert headers["vary"] == "Origin"  # or a cache would give one page's answer to another
    for path in ("/v1/jobs", "/v1/results/0123456789/rank", "/", "/v1/links/0123456789"):
        headers = client.get(path, headers={"Origin": "https://viewer.example"}).headers
        assert "access-control-allow-origin" not in headers, path


def test_a_body_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    client = guarded(tmp_path, trusted=True)
    most = Limits().body_bytes
    assert client.post("/v1/plans", content=b" " * 60_000).text == "60000"
    answer = client.post("/v1/plans", content=b"", headers={"Content-Length": str(10**9)})
    assert (answer.status_code, answer.json()["code"]) == (413, "E_TOO_LARGE")
    assert f"{most:,}" in answer.json()["detail"]
    assert answer.headers["connection"] == "close"


class Endless:
    """A body without end, of which it is known how much was taken."""

    def __init__(self) -> None:
        self.taken_bytes = 0

    async def receive(self) -> Message:
        await asyncio.sleep(0)  # as where a part comes with the next turn of the loop
        self.taken_bytes += 2**16
        return {"type": "http.request", "body": bytes(2**16), "more_body": True}


def scope_of(path: str, **headers: str) -> Scope:
    given = {"host": "127.0.0.1", "content-type": "application/json"} | headers
    app = SimpleNamespace(
        state=SimpleNamespace(service=SimpleNamespace(settings=SimpleNamespace(trusted=True)))
    )
    return {
        "type": "http", "method": "POST", "path": path, "query_string": b"", "app": app, "state": {},
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
    }  # fmt: skip


def asked(guard: Guard, scope: Scope, receive: Receive) -> tuple[int, dict[str, Any]]:
    """What a guard answers itself."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    asyncio.run(guard(scope, receive, send))
    return messages[0]["status"], json.loads(messages[1]["body"])


def test_an_endless_body_is_left_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "_LINGER_SECONDS", 0.0)
    limits = Limits(body_bytes=10 * 2**16)
    guard = Guard(echo, Settings(state=tmp_path, roots=(tmp_path,), limits=limits))
    endless = Endless()
    status, said = asked(guard, scope_of("/v1/jobs", transfer_encoding="chunked"), endless.receive)
    assert (status, said["code"]) == (413, "E_TOO_LARGE")
    assert endless.taken_bytes <= limits.body_bytes + 3 * 2**16


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "_LINGER_SECONDS", 0.01)
    limits = Limits(body_bytes=1, arrival_seconds=0.05)
    guard = Guard(echo, Settings(state=tmp_path, roots=(tmp_path,), limits=limits))

    async def never() -> Message:
        await asyncio.sleep(3600)
        return {}

    status, said = asked(guard, scope_of("/v1/jobs", content_length="1"), never)
    assert (status, said["code"]) == (408, "E_SLOW")


def test_half_a_body_is_none(tmp_path: Path) -> None:
    """Its client is gone: the application is told so, and not that this was all."""
    heard: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(await receive())

    messages: list[Message] = [
        {"type": "http.request", "body": b"[1, 2]", "more_body": True},
        {"type": "http.disconnect"},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    guard = Guard(app, Settings(state=tmp_path, roots=(tmp_path,)))
    asyncio.run(guard(scope_of("/v1/jobs", content_length="100"), receive, receive))  # type: ignore[arg-type]
    assert heard == [{"type": "http.disconnect"}]


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("{}", 1),
        ('{"a": [1, {"b": []}]}', 4),
        (json.dumps({"a": '[[[[[[{{{{"]]]\\', "b\\": ["\\\\"]}), 2),
        ("17", 0),
        ("", 0),
        ("[]" * 1000, 1),
    ],
)
def test_levels_are_counted_outside_of_quotes(text: str, levels: int) -> None:
    check_nesting(text.encode(), levels)
    if levels:
        with pytest.raises(RequestError, match=f"more than {levels - 1} levels"):
            check_nesting(text.encode(), levels - 1)


@pytest.mark.parametrize("text", ["[" * 10**5, "[" * 10**5 + "]" * 10**5, '{"a":' * 10**5, "]" * 10**5])
def test_nesting_without_end_is_refused_in_a_moment(tmp_path: Path, text: str) -> None:
    begun = time.perf_counter()
    answer = guarded(tmp_path, trusted=True, limits=Limits(body_bytes=2**24)).post(
        "/v1/jobs", content=text, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "E_REQUEST")
    assert time.perf_counter() - begun < 2


# Who asks

WHO: dict[str, May] = {"ann": "submit", "bob": "submit", "eve": "read", "root": "admin"}


@dataclass(frozen=True)
class Door:
    """A service that asks for tokens, and one token of each kind."""

    served: Served
    secrets: dict[str, str]

    def ask(self, method: str, path: str, who: str = "", **options: Any) -> Any:
        secret = self.secrets.get(who, who)
        headers = options.pop("headers", {}) | ({"Authorization": f"Bearer {secret}"} if secret else {})
        return self.served.client.request(method, path, headers=headers, **options)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("door")
    with serving(folder, trusted=False, user_header="X-Remote-User", trusted_proxy="10.1.1.1") as served:
        tokens = served.service.tokens
        made = {who: tokens.make("", who, (scope,)) for who, scope in WHO.items()}
        revoked, token = tokens.make("", "ann", ("admin",))
        tokens.revoke(token.id)
        expired, _ = tokens.make("", "ann", ("admin",), 1e-6)
        store(served.root / "a.zarr", small_matrix())
        secrets = {who: secret for who, (secret, _) in made.items()}
        yield Door(served, secrets | {"revoked": revoked, "expired": expired})


@pytest.mark.parametrize("who", ["", "wrong", "revoked", "expired", "bigsvd_" + "A" * 43, "ünïcode", " "])
def test_without_a_token_that_holds_nobody_is_let_in(door: Door, who: str) -> None:
    for method, path in (
        ("GET", "/v1/jobs"),
        ("POST", "/v1/plans"),
        ("GET", "/v1/me"),
        ("GET", "/v1/sources"),
    ):
        said = f"Bearer {door.secrets.get(who, who)}".encode()
        headers = {b"Authorization": said} if who else {}
        answer = door.served.client.request(method, path, headers=headers, json={})
        assert (answer.status_code, answer.json()["code"]) == (401, "E_AUTH"), path
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_token_in_the_query_is_refused_whatever_it_is(door: Door) -> None:
    for name in ("token", "access_token"):
        answer = door.ask("GET", f"/v1/jobs?{name}={door.secrets['root']}", "root")
        assert (answer.status_code, answer.json()["code"]) == (401, "E_AUTH")
        assert door.secrets["root"] not in answer.text


def test_each_may_what_their_token_says(door: Door) -> None:
    assert door.ask("GET", "/v1/me", "eve").json() == {"owner": "eve", "scopes": ["read"], "session": False}
    assert door.ask("GET", "/v1/jobs", "eve").status_code == 200
    answer = door.ask("POST", "/v1/jobs", "eve", json={"source": "a.zarr", "k": 2, "out": "eve"})
    assert (answer.status_code, answer.json()["code"]) == (403, "E_SCOPE")
    assert "submit" in answer.json()["detail"]


def test_the_job_of_another_is_none_to_change(door: Door) -> None:
    body = {"source": "a.zarr", "k": 2, "out": "mine"}
    job = door.ask("POST", "/v1/jobs", "ann", json=body).json()["id"]
    for method, path in (
        ("POST", f"/v1/jobs/{job}/stop"),
        ("POST", f"/v1/jobs/{job}/cancel"),
        ("POST", f"/v1/jobs/{job}/resume"),
        ("DELETE", f"/v1/jobs/{job}"),
        ("DELETE", f"/v1/results/{job}"),
    ):
        answer = door.ask(method, path, "bob")
        assert answer.status_code == 404, path
        assert door.ask(method, path).status_code == 401
    assert (
        door.ask("GET", f"/v1/jobs/{job}", "bob").json()["owner"] == "ann"
    )  # tokens separate jobs, not data
    assert door.ask("POST", f"/v1/jobs/{job}/cancel", "root").status_code in (202, 409)


def test_a_page_keeps_its_token_where_no_script_reads_it(door: Door) -> None:
    with TestClient(door.served.client.app, base_url="http://127.0.0.1") as browser:
        page = {"Origin": "http://127.0.0.1"}
        refused = browser.post("/v1/session", json={"token": "wrong"}, headers=page)
        assert refused.status_code == 401
        assert "set-cookie" not in refused.headers
        answer = browser.post("/v1/session", json={"token": door.secrets["ann"]}, headers=page)
        assert answer.json() == {"owner": "ann", "scopes": ["submit"], "session": True}
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "; secure" not in cookie  # which browsers would not send without TLS
        assert browser.get("/v1/me").json().items() >= {"owner": "ann", "session": True}.items()
        foreign = browser.post("/v1/plans", json={}, headers={"Origin": "http://127.0.0.1:9999"})
        assert foreign.status_code == 403
        wrong = browser.get("/v1/me", headers={"Authorization": "Bearer wrong"})
        assert wrong.status_code == 401  # and not passed over for the cookie
        assert browser.delete("/v1/session", headers=page).status_code == 204
        assert browser.get("/v1/me").status_code == 401


def test_behind_tls_the_cookie_goes_nowhere_without_it(door: Door) -> None:
    token = {"token": door.secrets["ann"]}
    headers = {"Origin": "https://127.0.0.1"}  # a proxy speaks TLS, and the browser says so
    answer = door.served.client.post("/v1/session", json=token, headers=headers)
    door.served.client.cookies.clear()
    assert "; secure" in answer.headers["set-cookie"].lower()


def test_a_proxy_is_believed_who_asks_and_nobody_else(door: Door) -> None:
    said = {"X-Remote-User": "carol"}
    app = door.served.client.app
    trusted = TestClient(app, base_url="http://127.0.0.1", client=("10.1.1.1", 1))
    other = TestClient(app, base_url="http://127.0.0.1", client=("10.1.1.2", 1))
    carol = {"owner": "carol", "scopes": ["read", "submit"], "session": False}
    assert trusted.get("/v1/me", headers=said).json() == carol
    assert trusted.get("/v1/me").status_code == 401
    assert other.get("/v1/me", headers=said).status_code == 401
    forwarded = said | {"X-Forwarded-For": "10.1.1.1"}
    assert other.get("/v1/me", headers=forwarded).status_code == 401


def test_who_is_unknown_sends_no_more_than_a_little(door: Door) -> None:
    """Else anybody could have the server hold as many large bodies as there are connections."""
    large = b'"' + b"a" * 10**5 + b'"'
    headers = {"Content-Type": "application/json"}
    assert door.ask("POST", "/v1/plans", content=large, headers=headers).status_code == 401
    assert door.ask("POST", "/v1/plans", "ann", content=large, headers=headers).status_code == 422


def test_attacks_come_by_http_as_by_python(door: Door) -> None:
    for what, (text, refusal) in ATTACKS.items():
        attack = text.replace("{top}", str(door.served.root.parent))
        if what in ("half a letter", "the server's own folder") or "link" in what:
            continue  # no JSON can say it; or not set up here
        answer = door.ask("POST", "/v1/jobs", "ann", json={"source": attack, "k": 2, "out": "out"})
        allowed = {403} if refusal is OutsideRootsError else {422}
        assert answer.status_code in allowed, (what, answer.text)
        assert answer.json()["code"] in ("E_PATH", "E_URL", "E_REQUEST"), what
    assert not (door.served.root / "out").exists()


@pytest.mark.parametrize(
    "text",
    [
        '{"source": "a.zarr", "k": NaN}',
        '{"source": "a.zarr", "k": 1, "tol": Infinity}',
        "{",
        "[]",
        "null",
        '"' + "\\ud800" + '"',
    ],
)
def test_what_is_no_json_is_refused(door: Door, text: str) -> None:
    answer = door.ask("POST", "/v1/plans", "ann", content=text, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "E_REQUEST")


# What lies below the roots


def zarr_2(path: Path, **changes: Any) -> None:
    """An array of Zarr format 2 whose only chunk would run a command if it were unpickled."""
    path.mkdir()
    metadata = {
        "zarr_format": 2, "shape": [4, 4], "chunks": [4, 4], "dtype": "<f8", "order": "C", "fill_value": 0,
        "compressor": None, "filters": None,
    }  # fmt: skip
    (path / ".zarray").write_text(json.dumps(metadata | changes))
    (path / "0.0").write_bytes(pickle.dumps(Touching(str(path.parent / "unpickled"))))


def zarr_3(path: Path, *codecs: dict[str, Any], side: int = 4, chunk: bytes = b"") -> None:
    """An array of Zarr format 3 with one chunk, which has these codecs behind its bytes."""
    (path / "c/0").mkdir(parents=True)
    grid = {"name": "regular", "configuration": {"chunk_shape": [side, side]}}
    metadata = {
        "zarr_format": 3, "node_type": "array", "shape": [side, side], "data_type": "float64",
        "chunk_grid": grid, "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0, "attributes": {},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, *codecs],
    }  # fmt: skip
    (path / "zarr.json").write_text(json.dumps(metadata))
    (path / "c/0/0").write_bytes(chunk or pickle.dumps(Touching(str(path.parent / "unpickled"))))


class Touching:
    """Unpickled, it makes a file."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.file),)


PICKLE = {"id": "pickle", "protocol": 5}
HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pickle as a filter": (lambda path: zarr_2(path, filters=[PICKLE]), "E_METADATA"),
    "a pickle as a compressor": (lambda path: zarr_2(path, compressor=PICKLE), "E_METADATA"),
    "objects": (lambda path: zarr_2(path, dtype="|O", filters=[PICKLE]), "E_METADATA"),
    "a pickle behind a filter": (
        lambda path: zarr_2(path, filters=[{"id": "delta", "dtype": "<f8"}, PICKLE]),
        "E_METADATA",
    ),
    "a pickle as a codec": (lambda path: zarr_3(path, {"name": "numcodecs.pickle"}), "E_METADATA"),
    "an unknown codec": (lambda path: zarr_3(path, {"name": "its.own"}), "E_METADATA"),
    "a chunk of 1e12 entries": (lambda path: zarr_3(path, side=10**6), "E_MEMORY"),
    "1e18 rows": (lambda path: zarr_3(path, side=10**18), "E_MEMORY"),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("field", ["source", "weights", "rows"])
def test_what_is_hostile_is_refused_before_a_chunk_is_decoded(door: Door, what: str, field: str) -> None:
    make, code = HOSTILE[what]
    place = door.served.root / f"hostile-{field}-{what}".replace(" ", "-")
    make(place)
    body = {"source": "a.zarr", "k": 1} | {field: place.name}
    answer = door.ask("POST", "/v1/plans", "ann", json=body)
    assert answer.status_code == 422, answer.text
    expected = "E_REQUEST" if code == "E_MEMORY" and field != "source" else code
    assert answer.json()["code"] == expected, answer.text
    assert not (door.served.root / "unpickled").exists()


def test_a_chunk_that_decodes_to_more_than_it_may_ends_the_job(door: Door) -> None:
    """128 MB of zeros in 128 kB, where 128 bytes were promised: a decompression bomb."""
    chunk = gzip.compress(bytes(2**27))
    zarr_3(door.served.root / "bomb.zarr", {"name": "gzip", "configuration": {"level": 9}}, chunk=chunk)
    body = {"source": "bomb.zarr", "k": 1, "out": "bomb"}
    job = door.ask("POST", "/v1/jobs", "ann", json=body).json()["id"]
    headers = {"Authorization": f"Bearer {door.secrets['ann']}"}
    door.served.client.headers.update(headers)
    try:
        ended = door.served.ended(job)
    finally:
        del door.served.client.headers["Authorization"]
    assert (ended["state"], ended["error"]["code"]) == ("failed", "E_CHUNK_CORRUPT")


@pytest.mark.parametrize("field", ["weights", "row_weights", "offset", "scale", "rows", "cols"])
def test_a_matrix_is_not_read_whole_as_a_vector(door: Door, field: str) -> None:
    """By a request alone: the name of a large matrix that lies below the root."""
    place = door.served.root / "large.npy"
    if not place.exists():
        np.lib.format.open_memmap(
            place, mode="w+", dtype=np.float64, shape=(2**21, 2**9)
        )  # 8 GB, not written
    answer = door.ask("POST", "/v1/plans", "ann", json={"source": "a.zarr", "k": 1, field: "large.npy"})
    assert (answer.status_code, answer.json()["code"]) == (422, "E_REQUEST")
    assert "1,073,741,824 entries" in answer.json()["detail"]


def outside(kind: str, file: Path, secret: Path) -> None:
    """An HDF5 file whose only dataset lies in another one, by each of the ways that the format has."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(file, "w") as opened:
        if kind == "linked":
            opened["x"] = h5py.ExternalLink(str(secret), "x")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape=(30, 10), dtype="f8")
            layout[...] = h5py.VirtualSource(str(secret), "x", shape=(30, 10))
            opened.create_virtual_dataset("x", layout)
        else:
            opened.create_dataset("x", (30, 10), "f8", external=[(str(secret), 0, 2400)])


@pytest.mark.parametrize("kind", ["linked", "virtual", "raw"])
def test_files_that_a_file_names_lie_below_the_roots_too(door: Door, kind: str) -> None:
    h5py = pytest.importorskip("h5py")
    root = door.served.root
    with h5py.File(root.parent / "secret.h5", "w") as secret:
        secret["x"] = np.random.default_rng(0).standard_normal((30, 10))
    outside(kind, root / f"{kind}.h5", root.parent / "secret.h5")
    body = {"source": f"{kind}.h5/x", "k": 1, "out": f"from-{kind}"}
    plan = door.ask("POST", "/v1/plans", "ann", json=body)
    assert (plan.status_code, plan.json()["code"]) == (403, "E_PATH")
    roots = door.served.service.roots
    asked = roots.request(request(**body | {"source": str(root / f"{kind}.h5/x")}))
    take_in(asked, Terms(), secrets={})
    with pytest.raises(OutsideRootsError, match="has entries in another file"):
        Driver(Record(asked.out or ""), Launch(bounds=roots.bounds), {}, unheard).drive()
    shutil.copy(root.parent / "secret.h5", root / "open.h5")
    outside(kind, root / f"{kind}-inside.h5", root / "open.h5")
    body["source"] = f"{kind}-inside.h5/x"
    assert door.ask("POST", "/v1/plans", "ann", json=body).status_code == 200
