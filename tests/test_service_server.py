"""The server as a process: its first start, who may connect, how it ends, and what it outlives."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from bigsvd.cli.serve import limits_of, settings_of
from bigsvd.errors import RequestError
from bigsvd.service.http.pieces import InPieces
from bigsvd.service.http.punctual import punctual
from bigsvd.service.settings import Limits
from tests.commands import done, refused
from tests.servers import END_SECONDS, Running, running
from tests.service_jobs import ENDLESS, end_drivers, make_noise
from tests.small_arrays import small_matrix, store
from tests.waiting import wait_until

STREAMS = 20
LIMIT_SECONDS = 60
ANYWHERE = "0.0.0.0"  # noqa: S104 - it is refused


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "root").mkdir()
    store(tmp_path / "root/a.zarr", small_matrix())
    yield tmp_path / "root"
    end_drivers(tmp_path / "root")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_no_part_of_an_answer_waits_for_the_one_before(root: Path, state: Path) -> None:
    """Until the client's system has confirmed it, 40 ms later: head and body are sent one after the other."""
    with running(root, "--state", state) as server, httpx.Client(base_url=server.url) as client:
        seconds = [client.get("/healthz").elapsed.total_seconds() for _ in range(30)]
        assert min(seconds[10:]) < 0.035


@pytest.mark.parametrize("command", [("create", "ann"), ("list",), ("revoke", "0123456789")])
def test_no_token_is_looked_for_where_no_service_is(tmp_path: Path, command: tuple[str, ...]) -> None:
    said = refused(2, "admin", "token", *command, "--state", tmp_path / "elsewhere")
    assert "error[E_DATABASE]" in said
    assert "there is no service.sqlite3" in said
    assert list(tmp_path.iterdir()) == []


def test_a_first_start_shows_a_token_once(root: Path, state: Path) -> None:
    with running(root, "--state", state) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.token.startswith("bigsvd_")
        assert httpx.get(server.url + "/v1/jobs").status_code == 401
        assert server.get("/v1/me").json()["scopes"] == ["admin"]
        made = done("admin", "token", "create", "ann", "--state", state, "--json").facts  # beside the server
        as_ann = {"Authorization": f"Bearer {made['token']}"}
        assert httpx.get(server.url + "/v1/me", headers=as_ann).json()["owner"] == "ann"
        done("admin", "token", "revoke", made["id"], "--state", state)
        assert httpx.get(server.url + "/v1/me", headers=as_ann).status_code == 401
        listed = done("admin", "token", "list", "--state", state, "--json").facts
        assert listed[0]["owner"] == "ann"
        assert listed[0]["revoked"]
        assert made["token"] not in json.dumps(listed)
        assert server.end() == 0
        secrets = (server.token, made["token"])
    for told in (*server.errors, *map(str, state.rglob("*"))):
        assert not any(secret in told for secret in secrets)
    for file in state.rglob("*"):  # hashed at rest
        assert file.is_dir() or not any(secret.encode() in file.read_bytes() for secret in secrets)


def test_a_server_ends_soon_though_streams_are_open_and_jobs_go_on(root: Path, state: Path) -> None:
    """Twenty readers of events; a job that is at work then is done after the restart."""
    (root / "noise").mkdir()
    noise = make_noise(root / "noise")
    with running(root, "--state", state) as server, ExitStack() as held:
        body = {"source": str(noise), "k": 4, "out": "long"} | ENDLESS
        job = server.post("/v1/jobs", body).json()["id"]
        wait_until(lambda: server.get(f"/v1/jobs/{job}").json()["state"] == "running", 60, "it is at work")
        client = held.enter_context(httpx.Client(timeout=30, headers=server.headers))
        events = f"{server.url}/v1/jobs/{job}/events"
        streams = [
            held.enter_context(client.stream("GET", events, headers={"Accept": "text/event-stream"}))
            for _ in range(STREAMS)
        ]
        readers = [stream.iter_lines() for stream in streams]
        assert all(next(lines) for lines in readers)
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(END_SECONDS) == 0
        assert time.monotonic() - begun < END_SECONDS
        for lines in readers:
            assert not any(line.startswith("event: end") for line in lines)  # each ends, and none as if done
        drivers = [
            each for each in psutil.process_iter(["cmdline"]) if "drive" in (each.info["cmdline"] or ())
        ]
        assert any(str(root / "long") in each.info["cmdline"] for each in drivers)
    with running(root, "--state", state) as again:
        assert again.token == ""  # it was shown once, and holds
        again.token = server.token
        assert again.get(f"/v1/jobs/{job}").json()["state"] == "running"
        again.post(f"/v1/jobs/{job}/stop", None)
        assert again.ended(job)["state"] == "done"
        assert again.get(f"/v1/jobs/{job}").json()["attempt"] == 1  # nobody began it a second time
        assert again.end(signal.SIGINT) == 0


class Raw:
    """A connection on which a client says what it likes; a context manager."""

    def __init__(self, server: Running) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def is_hung_up_on(self, data: bytes) -> bool:
        """Whether the server is gone when more is said."""
        self.socket.settimeout(0.1)
        try:
            self.say(data)
            while self.socket.recv(2**16):
                pass
            return True
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    def answer(self) -> bytes:
        """All until the server hangs up."""
        parts = []
        try:
            while part := self.socket.recv(2**16):
                parts.append(part)
        except ConnectionResetError:
            pass
        return b"".join(parts)


@pytest.fixture(scope="module")
def hasty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hasty") / "state"


@pytest.fixture(scope="module")
def hasty(hasty_state: Path) -> Iterator[Running]:
    """A server that waits a second for a request, and asks for no token."""
    options = ("--state", hasty_state, "--no-token", "--limit", "arrival_seconds=1")
    with running(hasty_state.parent, *options) as server:
        yield server


def test_a_terminal_that_is_closed_ends_no_server(hasty: Running) -> None:
    hasty.process.send_signal(signal.SIGHUP)
    assert hasty.get("/healthz").status_code == 200
    assert any("whoever can connect" in line for line in hasty.errors)


def test_two_servers_on_one_state_folder_are_one_too_many(
    hasty: Running, root: Path, hasty_state: Path
) -> None:
    said = refused(3, "serve", "--root", root, "--state", hasty_state, "--no-token", "--port", "0")
    assert str(hasty_state) in said
    assert hasty.get("/healthz").status_code == 200


def test_who_does_not_say_what_they_want_is_hung_up_on(hasty: Running) -> None:
    for said in (b"", b"GET / HT", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "):
        with Raw(hasty) as connection:
            begun = time.monotonic()
            connection.say(said)
            assert connection.answer() == b""
            assert 0.5 < time.monotonic() - begun < 10
    with Raw(hasty) as drip:  # a byte now and then keeps nobody waiting
        drip.say(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        wait_until(lambda: drip.is_hung_up_on(b"X"), 10, "the server has hung up")
    assert hasty.get("/healthz").status_code == 200


def test_who_takes_no_answer_is_hung_up_on() -> None:
    """Whoever does take it has all of it, however long it is."""
    body = bytes(2**26)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await InPieces(body)(scope, receive, send)

    async def length(*, takes: bool) -> int:
        state, loop = ServerState(), asyncio.get_running_loop()
        protocol = punctual(LIMIT_SECONDS, 0.3)
        config = uvicorn.Config(app, http=protocol, lifespan="off", log_config=None)
        server = await loop.create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
        async with server, asyncio.timeout(LIMIT_SECONDS):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            while not takes and state.connections:
                await asyncio.sleep(0.01)
            try:
                return len(await reader.read())
            except ConnectionResetError:
                return -1
            finally:
                writer.close()

    assert asyncio.run(length(takes=True)) == len(body)
    assert asyncio.run(length(takes=False)) < len(body)


def test_so_many_connections_are_open_at_a_time(root: Path, state: Path) -> None:
    options = ("--state", state, "--no-token", "--limit", "connections=2")
    with running(root, *options) as server:
        with ExitStack() as held:
            for _ in range(2):
                held.enter_context(Raw(server)).say(b"GET /v1/jobs")
            wait_until(lambda: server.get("/v1/jobs").status_code == 503, 10, "it is crowded")
            said = server.get("/v1/jobs")
            assert (said.json()["code"], said.headers["retry-after"]) == ("E_CROWDED", "10")
            assert server.get("/healthz").status_code == 200
        wait_until(lambda: server.get("/v1/jobs").status_code == 200, 10, "they are gone")


def test_several_requests_on_one_connection_are_answered(hasty: Running) -> None:
    """The limit is of each request, and not of the connection."""
    with httpx.Client(base_url=hasty.url) as client:
        begun = time.monotonic()
        while time.monotonic() - begun < 1.5:
            assert client.get("/healthz").status_code == 200


def test_a_gigabyte_is_refused_with_flat_memory(hasty: Running) -> None:
    """By its length before anything is read; without one, as soon as it is too long."""
    memory = psutil.Process(hasty.process.pid).memory_info
    before = memory().rss
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with Raw(hasty) as announced:
        announced.say(head + b"Content-Length: 1000000000\r\n\r\n")
        assert b" 413 " in announced.answer().split(b"\r\n")[0]
    part = b"100000\r\n" + bytes(2**20) + b"\r\n"
    with Raw(hasty) as endless:
        endless.say(head + b"Transfer-Encoding: chunked\r\n\r\n")
        peak = before
        while not endless.is_hung_up_on(part):  # soon, though all that comes is taken for a while
            peak = max(peak, memory().rss)
    assert peak - before < 64 * 2**20
    deep = httpx.post(
        f"{hasty.url}/v1/jobs", content="[" * 10**5, headers={"Content-Type": "application/json"}
    )
    assert (deep.status_code, deep.json()["code"]) == (422, "E_REQUEST")
    assert memory().rss - before < 64 * 2**20
    assert hasty.get("/healthz").status_code == 200


def test_many_slow_clients_keep_nobody_else_waiting(hasty: Running) -> None:
    with ExitStack() as held:
        slow = [held.enter_context(Raw(hasty)) for _ in range(200)]
        for connection in slow:
            connection.say(b"GET /healthz HTTP/1.1\r\n")
        begun = time.monotonic()
        assert hasty.get("/healthz").status_code == 200
        assert time.monotonic() - begun < 5
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda each: each.answer(), slow)) == {b""}


def test_who_would_let_in_everybody_is_refused(root: Path, state: Path) -> None:
    said = refused(2, "serve", "--root", root, "--state", state, "--no-token", "--host", ANYWHERE)
    assert "may be reached from other machines" in said
    said = refused(2, "serve", "--root", root, "--state", state, "--trusted-proxy", "10.0.0.1")
    assert "one lacks" in said
    assert not state.exists()


def test_an_address_that_another_has_is_named(root: Path, state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused(2, "serve", "--root", root, "--state", state, "--no-token", "--port", port)
    assert f"127.0.0.1:{port} cannot be listened at" in said


@pytest.mark.parametrize("lacking", ["fastapi", "uvicorn", "prometheus_client"])
def test_without_the_extra_it_says_what_to_install(
    root: Path, state: Path, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("bigsvd.service")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, lacking, None)
    said = refused(2, "serve", "--root", root, "--state", state)
    assert said == f'error[E_REQUEST]: the service needs {lacking}; pip install ".[service]"'


OPTIONS: dict[str, Any] = {
    "state": Path("state"), "roots": (Path("data"),), "database": "", "scheduler": "", "tls_ca": None,
    "tls_cert": None, "tls_key": None, "jobs_at_once": 2, "memory": "4GB", "stage": None, "urls": (),
    "host": "127.0.0.1", "port": 1, "hosts": (), "origins": (), "no_token": False, "trust_user_header": "",
    "trusted_proxy": "", "limits": ("body_bytes=2MiB", "streams=7", "link_seconds=60.5"), "keep_days": 2.0,
    "keep_bytes": "1GB", "delete_results": True,
}  # fmt: skip


def test_what_is_typed_is_what_a_server_runs_by() -> None:
    settings = settings_of(OPTIONS)
    assert settings.roots == (Path.cwd() / "data",)
    assert (settings.memory_bytes, settings.jobs_at_once) == (4 * 10**9, 2)
    assert settings.limits == Limits(body_bytes=2**21, streams=7, link_seconds=60.5)
    assert (settings.retention.seconds, settings.retention.bytes) == (2 * 86400, 10**9)
    assert settings.retention.results
    assert not settings.trusted
    paths = {"tls_ca": Path("ca.pem"), "tls_cert": Path("cert.pem"), "tls_key": Path("key.pem")}
    assert settings_of(OPTIONS | paths).tls == tuple(str(path.absolute()) for path in paths.values())
    with pytest.raises(RequestError, match="1 of --tls-ca, --tls-cert and --tls-key"):
        settings_of(OPTIONS | {"tls_ca": Path("ca.pem")})


@pytest.mark.parametrize(
    "text", ["streams", "nothing=1", "streams=many", "streams=-1", "body_bytes=x", "link_seconds=nan"]
)
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        limits_of((text,))
