"""nginx with deploy/nginx/bigsvd.conf before a server, on ports of this machine."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deployed import DEPLOY
from tests.slurm import free_port
from tests.waiting import wait_until

FILE = DEPLOY / "nginx" / "bigsvd.conf"
NAME = "svd.example.org"
_START_SECONDS = 20
_MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/bigsvd.conf;
}}
"""


def program() -> str | None:
    """Where nginx is; Debian has it where only an administrator looks."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Proxy:
    """An nginx that answers by TLS at `url`, and by none at `plain`; `trust` knows its certificate."""

    url: str
    plain: str
    trust: ssl.SSLContext
    folder: Path

    @property
    def log(self) -> str:
        """What it has written of requests."""
        return (self.folder / "bigsvd.log").read_text()


@contextmanager
def nginx_before(upstream: str, folder: Path, **said: str) -> Iterator[Proxy]:
    """The file as it is, but for what its head says is to be changed, and what is `said` in its place."""
    folder.mkdir()
    _certificate(folder)
    tls, plain = free_port(), free_port()
    changes = {
        "127.0.0.1:8765": upstream.removeprefix("http://"),
        "listen 443 ": f"listen 127.0.0.1:{tls} ",
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "/etc/ssl/bigsvd/": f"{folder}/",
        "/var/cache/nginx/bigsvd": f"{folder}/cache",
        "/var/log/nginx/": f"{folder}/",
    }
    text = FILE.read_text()
    for old, new in (changes | said).items():
        assert text.count(old) >= 1, old
        text = text.replace(old, new)
    (folder / "bigsvd.conf").write_text(text)
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=_user()))
    command = [str(program()), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _listens(tls), _START_SECONDS, f"nginx answers: {folder}")
            trust = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
            yield Proxy(f"https://127.0.0.1:{tls}", f"http://127.0.0.1:{plain}", trust, folder)
        finally:
            process.terminate()


def _user() -> str:
    """Files of the test are those of this user; nginx takes another where it may."""
    return f"user {getpass.getuser()};" if os.geteuid() == 0 else ""


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _certificate(folder: Path) -> None:
    """A certificate for this machine, by its own key."""
    subprocess.run(
        [shutil.which("openssl") or "", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", f"/CN={NAME}",
         "-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1",
         "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", folder / "key.pem",
         "-out", folder / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
