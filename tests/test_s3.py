"""What an S3 server holds is decomposed by its URL, signed or not; what it denies is said, without secrets.

The server is `localbucket`, which checks no credentials: `Locked` does.
"""

from __future__ import annotations

import hashlib
import hmac
import http.server
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import numpy as np
import pytest
import zarr
from click.testing import CliRunner, Result
from localbucket import S3Error, S3Handler
from obstore.store import S3Store
from zarr.storage import ObjectStore

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import BadInputError, ChunkMissingError, SourceError
from bigsvd.sources import remote

A = np.random.default_rng(0).standard_normal((60, 20))
KEY, SECRET = "someone-s-key", "sesame/open+now"
MISSING = "c/2/1"


class Locked(S3Handler):  # type: ignore[misc] # it has no types
    """Signed requests may do all; others may read objects of the bucket "public", whose keys nobody lists."""

    def log_message(self, *args: Any) -> None:
        pass

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        try:
            self._check()
        except S3Error as error:
            self._send_error(error)
            return False
        return True

    def _check(self) -> None:
        url = urlsplit(self.path)
        bucket, _, key = url.path.lstrip("/").partition("/")
        said = self.headers.get("Authorization", "")
        if said:
            check_signature(said, SECRET, self.command, self.path, self.headers)
        elif bucket != "public" or not key or not (self.data_root / bucket / key).exists():
            raise S3Error(HTTPStatus.FORBIDDEN, "AccessDenied", "Access Denied")


def check_signature(said: str, secret: str, method: str, path: str, headers: Any) -> None:
    """AWS Signature Version 4: the request is signed with the secret of the key that it names."""
    fields = dict(part.strip().split("=", 1) for part in said.partition(" ")[2].split(","))
    key, *scope = fields["Credential"].split("/")
    if key != KEY:
        raise S3Error(HTTPStatus.FORBIDDEN, "InvalidAccessKeyId", f"{key} does not exist")
    url, names = urlsplit(path), fields["SignedHeaders"].split(";")
    query = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in parse_qsl(url.query, True))
    lines = [method, url.path, "&".join(f"{k}={v}" for k, v in query)]
    lines += [f"{name}:{headers[name].strip()}" for name in names]
    lines += ["", ";".join(names), headers["x-amz-content-sha256"]]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    signing = f"AWS4{secret}".encode()
    for part in (*scope, "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], "/".join(scope), digest])):
        signing = hmac.digest(signing, part.encode(), "sha256")
    if signing.hex() != fields["Signature"]:
        raise S3Error(HTTPStatus.FORBIDDEN, "SignatureDoesNotMatch", f"not signed by {key}")


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The options for a server with a matrix, and one that lacks a chunk, in a closed and a public bucket."""
    monkeypatch.setattr(remote, "_PAUSES", ())
    folder = tmp_path / "served"
    handler = type("Serving", (Locked,), {"data_root": folder})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    known = {"key": KEY, "secret": SECRET, "region": "us-east-1",
             "endpoint_url": f"http://127.0.0.1:{server.server_address[1]}"}  # fmt: skip
    for bucket in ("closed", "public"):
        (folder / bucket).mkdir(parents=True)
        store = S3Store(
            bucket, access_key_id=KEY, secret_access_key=SECRET, endpoint=known["endpoint_url"],
            region="us-east-1", client_options={"allow_http": True},
        )  # fmt: skip
        for name in ("a.zarr", "holed.zarr"):
            zarr.create_array(ObjectStore(store), name=name, data=A, chunks=(20, 10))
        (folder / bucket / "holed.zarr" / MISSING).unlink()
    yield known
    server.shutdown()
    server.server_close()


def command(name: str, url: str, options: dict[str, Any], *rest: Any) -> Result:
    given = [part for item in options.items() for part in ("--storage-option", "{}={}".format(*item))]
    return CliRunner().invoke(main, [name, url, *map(str, rest), "-k", "2", *given])


def everything_written(folder: Path) -> bytes:
    """What a run has left, results and scratch."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_closed_bucket_is_read_with_its_key(options: dict[str, Any], tmp_path: Path) -> None:
    url, out = "s3://closed/a.zarr", tmp_path / "out"
    factors = bigsvd.svd(url, 2, out / "api", storage_options=options, tol=1e-9)
    np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:2])
    ended, plan = command("svd", url, options, out / "cli"), command("plan", url, options, "--json")
    assert (ended.exit_code, plan.exit_code) == (0, 0), ended.stderr + plan.stderr
    written = everything_written(out)
    assert url.encode() in written
    said = ended.output + ended.stderr + plan.output + plan.stderr
    for secret in (KEY, SECRET):
        assert secret.encode() not in written
        assert secret not in said


WRONG = {
    "secret": ({"secret": "abracadabra"}, "SignatureDoesNotMatch"),
    "key": ({"key": "another-key"}, "InvalidAccessKeyId"),
    "anonymous": ({"anon": "true"}, "AccessDenied"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_key_is_denied_and_not_repeated(options: dict[str, Any], tmp_path: Path, wrong: str) -> None:
    change, told = WRONG[wrong]
    given = options | change
    with pytest.raises(SourceError, match=f"denied: .*{told}") as caught:
        bigsvd.svd("s3://closed/a.zarr", 2, tmp_path / "out", storage_options=given)
    ended = command("svd", "s3://closed/a.zarr", given, tmp_path / "out")
    assert ended.exit_code == 2
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    for secret in (given["key"], given["secret"]):
        assert secret not in ended.output + ended.stderr + str(caught.value)


def test_a_public_bucket_is_read_without_a_key(options: dict[str, Any], tmp_path: Path) -> None:
    anonymous = {"anon": "true", "region": options["region"], "endpoint_url": options["endpoint_url"]}
    factors = bigsvd.svd("s3://public/a.zarr", 2, tmp_path / "out", storage_options=anonymous, tol=1e-9)
    np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:2])


MISSES = {
    "bucket": ("s3://no-such-bucket/a.zarr", SourceError, "no Zarr array", False),
    "array": ("s3://closed/b.zarr", SourceError, "no Zarr array", False),
    "chunk": ("s3://closed/holed.zarr", ChunkMissingError, MISSING, False),
    "chunk, not listed": ("s3://public/holed.zarr", SourceError, f"{MISSING}.*s3:ListBucket", True),
}


@pytest.mark.parametrize("miss", MISSES)
def test_what_is_missing_is_named(options: dict[str, Any], tmp_path: Path, miss: str) -> None:
    url, kind, text, anonymous = MISSES[miss]
    given = {k: v for k, v in options.items() if not anonymous or k not in ("key", "secret")}
    given |= {"anon": "true"} if anonymous else {}
    with pytest.raises(BadInputError, match=text) as caught:
        bigsvd.svd(url, 2, tmp_path / "out/api", storage_options=given)
    assert type(caught.value) is kind
    ended = command("svd", url, given, tmp_path / "out/cli", "--quiet")
    assert (ended.exit_code, len(ended.stderr.splitlines())) == (2, 1)
    assert SECRET.encode() not in everything_written(tmp_path / "out")
