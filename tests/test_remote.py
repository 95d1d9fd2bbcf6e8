"""Stores behind a network: what goes wrong is named, with its exit code, and no secret is kept."""

from __future__ import annotations

import functools
import http.server
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from distributed import Client
from fsspec.spec import AbstractFileSystem

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import BigsvdError, RequestError, SourceError, StorageError, travels
from bigsvd.sources import remote, urls
from bigsvd.sources.open import open_source
from bigsvd.units import without_credentials
from tests.clusters import worker_processes

A = np.random.default_rng(0).standard_normal((60, 20))
ALL = (slice(0, 60), slice(0, 20))


class Server(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, or the failure that the path names: /fail-503-c/ answers so for chunks only."""

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.authorization = self.headers.get("Authorization", "")  # type: ignore[attr-defined]
        first, _, rest = self.path.removeprefix("/").partition("/")
        what = first.removeprefix("fail-")
        if what == first or (what.endswith("-c") and "/c/" not in rest):
            self.path = "/" + (rest if what != first else self.path.removeprefix("/"))
            super().do_GET()
        elif what.startswith("html"):
            self.reply(b"<!doctype html><p>log in", 23)
        elif what.startswith("cut"):
            self.reply(b"{", 1000)
        elif what.startswith("close"):
            self.close_connection = True
        elif what.startswith("hang"):
            self.server.released.wait(20)  # type: ignore[attr-defined]
        else:
            self.send_error(int(what[:3]))

    def reply(self, body: bytes, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(remote, "_PAUSES", (0, 0, 0))
    folder = tmp_path / "served"
    zarr.create_array(folder / "bucket/a.zarr", data=A, chunks=(20, 10))
    active = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=folder))
    active.released = threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=active.serve_forever, daemon=True).start()
    yield active
    active.released.set()  # type: ignore[attr-defined]
    active.shutdown()
    active.server_close()


def url(server: Any, failure: str = "") -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/{failure}{'/' * bool(failure)}bucket/a.zarr"


def s3_options(server: Any) -> dict[str, Any]:
    return {"anon": True, "endpoint_url": f"http://127.0.0.1:{server.server_address[1]}", "region": "x"}


FAILURES = {
    "fail-404": (SourceError, "no Zarr array"),
    "fail-403": (SourceError, "access is denied"),
    "fail-401": (SourceError, "access is denied"),
    "fail-400": (SourceError, "refuses"),
    "fail-503": (StorageError, "failed 4 times: HTTP 503"),
    "fail-500": (StorageError, "failed 4 times: HTTP 500"),
    "fail-cut": (StorageError, "closed before the end"),
    "fail-close": (StorageError, "closed without an answer"),
    "fail-html": (SourceError, "HTML page"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_at_opening_is_named(server: Any, failure: str) -> None:
    kind, text = FAILURES[failure]
    with pytest.raises(kind, match=text) as caught:
        open_source(url(server, failure))
    assert caught.value.__cause__ is None or not isinstance(caught.value, StorageError)


def test_a_server_that_hangs_is_given_up(server: Any) -> None:
    with pytest.raises(StorageError, match="no answer in time"):
        open_source(url(server, "fail-hang"), storage_options={"read_timeout": "0.2"})


def test_no_connection_is_no_fault_of_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PAUSES", ())
    with pytest.raises(StorageError, match=r"failed .*refused"):
        open_source("http://127.0.0.1:9/a.zarr")


@pytest.mark.parametrize(("failure", "status", "code"), [("503", 3, "E_STORAGE"), ("403", 2, "E_SOURCE")])
def test_a_failure_in_a_lane_is_one_line(
    server: Any, tmp_path: Path, failure: str, status: int, code: str
) -> None:
    out = str(tmp_path / "out")
    ended = CliRunner().invoke(main, ["svd", url(server, f"fail-{failure}-c"), out, "-k", "2", "--quiet"])
    assert ended.exit_code == status
    assert ended.stderr.startswith(f"error[{code}]")
    assert failure in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_an_s3_url_is_decomposed(server: Any, tmp_path: Path) -> None:
    factors = bigsvd.svd(
        "s3://bucket/a.zarr", 3, tmp_path / "o", storage_options=s3_options(server), tol=1e-9
    )
    np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:3])
    source = open_source("s3://bucket/a.zarr", storage_options=s3_options(server))
    again = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own
    np.testing.assert_array_equal(again.read(*ALL), A)


def test_credentials_are_sent_and_kept_nowhere(server: Any, tmp_path: Path) -> None:
    secret = url(server).replace("//", "//someone:sesame@") + "?sig=sesame"
    ended = CliRunner().invoke(main, ["svd", secret, str(tmp_path / "o"), "-k", "2"])
    assert ended.exit_code == 0, ended.stderr
    assert server.authorization.startswith("Basic ")
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("zarr.json"))
    assert b"sesame" not in stored
    assert "sesame" not in ended.output + ended.stderr
    plan = CliRunner().invoke(main, ["plan", secret, "-k", "2", "--json"])
    assert plan.exit_code == 0
    assert "sesame" not in plan.output


@pytest.mark.parametrize("options", [{"nonsense": "hush-hush"}, {"anon": {"a": 1}}])
def test_unknown_options_are_refused_without_their_values(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="storage option") as caught:
        open_source("s3://bucket/a.zarr", storage_options=options)
    assert "hush-hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "option"),
    [("memory://a.zarr", "anon"), ("ftp://host/a.zarr", "pasword"), ("zip://::/a.zip", "key")],
)
def test_options_that_fsspec_would_ignore_are_refused(url: str, option: str) -> None:
    with pytest.raises(RequestError, match=rf"unknown storage option for \w+ URLs \({option}\)") as caught:
        open_source(url, storage_options={option: "hush-hush"})
    assert "known are" in caught.value.remedy
    assert "hush-hush" not in str(caught.value)


class Handing(AbstractFileSystem):  # type: ignore[misc] # it has no types
    """A file system that hands to its client what it does not name."""

    def __init__(self, host: str = "", **ssh_options: Any) -> None:
        super().__init__(host=host)
        self.ssh_options = ssh_options


def test_options_that_a_file_system_names_or_hands_on_are_not_refused() -> None:
    fsspec.register_implementation("handing", Handing, clobber=True)
    for protocol, option in (("ftp", "password"), ("ftp", "skip_instance_cache"), ("handing", "cipher")):
        urls._check_named(protocol, {option})


def test_options_are_for_urls(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="for a URL"):
        open_source(tmp_path, storage_options={"anon": "true"})


def test_urls_are_shown_without_credentials() -> None:
    assert without_credentials("https://u:p@h/a?sig=1 x") == "https://h/a x"
    assert without_credentials("abfs://c@acc.dfs.core.windows.net/a") == "abfs://c@acc.dfs.core.windows.net/a"


class Foreign(Exception):  # noqa: N818
    def __init__(self, required: int, lock: Any) -> None:
        super().__init__(f"needs {required}")
        self.lock = lock


@travels
def failing(how: str) -> None:
    foreign = Foreign(3, threading.Lock())
    if how == "cause":
        raise StorageError("reading failed (needs 3)", "run again") from foreign
    if how == "group":
        text = "several"
        raise ExceptionGroup(text, [foreign])
    raise foreign


@pytest.fixture(scope="module")
def processes() -> Iterator[Client]:
    with worker_processes(1) as active:
        yield active


@pytest.mark.parametrize(
    ("how", "kind"), [("cause", StorageError), ("foreign", BigsvdError), ("group", BigsvdError)]
)
def test_errors_arrive_as_what_they_were(
    client: Client, processes: Client, how: str, kind: type[BigsvdError]
) -> None:
    for active in (client, processes):
        with pytest.raises(kind) as caught:
            active.submit(failing, how, pure=False).result()
        assert type(caught.value) is kind
        assert "needs 3" in caught.value.message
