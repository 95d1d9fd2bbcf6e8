"""The files of the page: what is vendored is what npm had, and all is served with its type and digest."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from bigsvd.service.routes import page
from tests.vendored import FILES, FOLDER, manifest, sha256_of

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class Client:
    """Asks an application that has nothing but the page."""

    def __init__(self) -> None:
        self._app = FastAPI()
        self._app.include_router(page.router)

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return asyncio.run(self._ask("GET", path, headers))

    def head(self, path: str) -> httpx.Response:
        return asyncio.run(self._ask("HEAD", path, None))

    async def _ask(self, method: str, path: str, headers: dict[str, str] | None) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return await http.request(method, path, headers=headers)


@pytest.fixture(scope="module")
def client() -> Client:
    return Client()


def test_vendored_files_are_those_of_the_manifest() -> None:
    kept = {path.name for path in FOLDER.iterdir()} - {"manifest.json"}
    assert kept == set(manifest())
    assert {name: each["sha256"] for name, each in manifest().items()} == {
        name: sha256_of(FOLDER / name) for name in kept
    }


def test_each_vendored_package_has_its_version_and_licence() -> None:
    packages = {each.package for each in FILES}
    licences = {each["package"]: each["license"] for each in manifest().values() if "license" in each}
    assert licences.keys() == packages
    assert set(licences.values()) <= {"MIT", "Apache-2.0"}


def test_the_page_stays_small() -> None:
    assert sum((FOLDER / each.name).stat().st_size for each in FILES) < 80_000


def own_files() -> list[Path]:
    return [path for path in page.FOLDER.iterdir() if path.suffix in (".html", ".js", ".css", ".svg")]


@pytest.mark.parametrize("path", own_files(), ids=lambda path: path.name)
def test_nothing_is_inline_or_from_elsewhere(path: Path) -> None:
    """What the policy `default-src 'self'` refuses, and what would leave the host, is not written at all."""
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|\burl\(|@import|\beval\(|new Function|innerHTML", text)
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=", text)
    assert not re.search(r"""style=["'$]""", text)


@pytest.mark.parametrize("path", own_files(), ids=lambda path: path.name)
def test_what_a_file_names_is_there(path: Path, client: Client) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.findall(r'(?:src|href)="(/page/[^"]+)"', text)
    named += [f"/page/{name}" for name in re.findall(r'from "\./([^"]+)"', text)]
    assert [name for name in named if client.get(name).status_code != 200] == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("app.js", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("vendor/preact.js", "text/javascript; charset=utf-8"),
        ("vendor/manifest.json", "application/json"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_files_have_their_types_and_are_sent_once(client: Client, name: str, kind: str) -> None:
    first = client.get(f"/page/{name}")
    assert first.status_code == 200
    assert first.headers["content-type"] == kind
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(f"/page/{name}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = client.head(f"/page/{name}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(first.content))


@pytest.mark.parametrize(
    "name", ["", "nothing.js", "../routes/page.py", "%2e%2e/settings.py", "vendor", "vendor/../../users.py"]
)
def test_nothing_else_is_to_be_had(client: Client, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/0123456789", "/results/0123456789"])
def test_a_browser_gets_the_page_and_a_program_is_told_where_to_look(client: Client, path: str) -> None:
    seen = client.get(path, headers=HTML)
    assert seen.headers["content-type"] == "text/html; charset=utf-8"
    assert "/page/app.js" in seen.text
    assert seen.headers["vary"] == "Accept"
    assert client.get(path, headers=HTML | {"If-None-Match": seen.headers["etag"]}).status_code == 304
    told = client.get(path)
    assert told.json()["openapi"] == "/v1/openapi.json"
    assert told.json()["see"] == f"/v1{path}".removesuffix("/")
