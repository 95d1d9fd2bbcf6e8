"""The page: one document for every address that people have, and the files that it is made of.

Whoever asks one of these addresses for something else than HTML, such as curl, is told where the same is to
be had as JSON. The files are read once and revalidated by their digest, so an upgrade is seen at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse

FOLDER = Path(__file__).parent.parent / "page"
DOCUMENT = "index.html"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class File:
    """A file of the page. kind: its media type. etag: of its content."""

    content: bytes
    kind: str
    etag: str

    @property
    def headers(self) -> dict[str, str]:
        """By which a browser keeps it, and asks whether it is still the same."""
        return {"ETag": self.etag, "Cache-Control": "no-cache"}

    def answer(self, known: str) -> Response:
        """The file, or that it is still the one that whoever asks has."""
        if self.etag in known:
            return Response(status_code=304, headers=self.headers)
        return Response(self.content, headers=self.headers, media_type=self.kind)


def _read(path: Path) -> File:
    content = path.read_bytes()
    return File(content, _KINDS[path.suffix], _etag(content))


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()}"'


def _name(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


def _paths() -> Iterator[Path]:
    return (path for path in FOLDER.rglob("*") if path.suffix in _KINDS)


@cache
def files() -> dict[str, File]:
    """Every file of the page by its path below the folder: what is not among them is not to be had."""
    return {_name(path): _read(path) for path in _paths()}


Known = Annotated[str, Header(alias="If-None-Match")]
Wanted = Annotated[str, Header(alias="Accept")]


@router.api_route("/page/{name:path}", methods=["GET", "HEAD"])
def file(name: str, known: Known = "") -> Response:
    """A file that the page is made of."""
    found = files().get(name)
    if found is None:
        raise HTTPException(404)
    return found.answer(known)


@router.api_route("/", methods=["GET", "HEAD"])
@router.api_route("/jobs", methods=["GET", "HEAD"])
@router.api_route("/jobs/{job}", methods=["GET", "HEAD"])
@router.api_route("/results/{job}", methods=["GET", "HEAD"])
def document(request: Request, known: Known = "", wanted: Wanted = "") -> Response:
    """The page, which looks at its address; or, for programs, where they find the same."""
    answer = _document(request.url.path, known, wanted)
    answer.headers["Vary"] = "Accept"
    return answer


def _document(path: str, known: str, wanted: str) -> Response:
    if "text/html" in wanted:
        return files()[DOCUMENT].answer(known)
    return JSONResponse(_for_programs(path))


def _for_programs(path: str) -> dict[str, str]:
    """What a program is told at the address of a page."""
    return {"openapi": "/v1/openapi.json", "see": f"/v1{path}".removesuffix("/"), "health": "/healthz"}
