"""Where the paths of a request may lead, if whoever sends it may not read all that this process may.

A path is resolved, links followed, and what is handed on is the resolved path: no link that is in the request
is followed again later. It is resolved anew by whoever drives the job, before and after the source is opened.
What this promises: no request alone, whatever links lie below the roots when it comes, leads out of them. It
cannot hold against somebody who may rename folders below a root while a file in them is being opened, or who
puts links inside an array: such a person has rights of their own there, beside the service. Against those the
service runs as a user of the system who may read nothing else that is worth it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bigsvd.errors import OutsideRootsError, PathError, UrlError
from bigsvd.paths import Folders, resolved
from bigsvd.request import Request
from bigsvd.units import without_credentials

_LONGEST_NAME = 255  # bytes, as on all usual file systems
_LONGEST_PATH = 4000  # a little less than the system's, so that what lies beside an output has a name too
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_FOREIGN = re.compile(r"~|[A-Za-z]:|.*\\")  # a home, a drive, a path of Windows
_CROOKED = ("::", "?", "#", "\\", "/../", "/./")
_ESCAPED = re.compile(r"%(2e|2f|5c|00|25)", re.IGNORECASE)
_NO_PATH = re.compile(r"[-+]?\d*(:[-+]?\d*){0,2}|sha256:[0-9a-f]{64}")  # lines that are counted, or in memory
_SPELLING = "put / between names, and give no ~, drive letter or % escape"
_OWN_SUFFIXES = (".job", ".scratch")
_READABLE = ("source", "rows", "cols")  # beside vectors: what may lie at a URL too


@dataclass(frozen=True)
class Bounds:
    """Folders and URLs below which everything lies that a request names.

    Attributes:
        folders: absolute; a relative path begins at the first. closed: folders in these that no request may
            name. urls: beginnings of URLs that may be read, each with scheme and bucket or host. stage: the
            folder in which a source may be staged; empty where it may not.

    """

    folders: tuple[str, ...]
    closed: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    stage: str = ""

    def __post_init__(self) -> None:
        for url in self.urls:
            _check_beginning(url)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Bounds:
        """The inverse of `dataclasses.asdict`, also after a journey as JSON."""
        return cls(**{name: _hashable(value) for name, value in values.items()})

    def request(self, request: Request) -> Request:
        """The same request with resolved paths.

        Raises:
            PathError, UrlError: one of them is malformed, or leads out of the bounds.

        """
        return replace(request, **self.now().placed(request))

    def check_same(self, request: Request) -> None:
        """`PathError` where a path of a request, once resolved, leads elsewhere by now."""
        for option, place in self.now().placed(request).items():
            _check_unmoved(option, getattr(request, option), place)

    def check_places(self, places: Iterable[Path]) -> None:
        """`OutsideRootsError` where a source that is open reads files elsewhere, as those of HDF5 may say."""
        folders = Folders(self.folders)
        for place in places:
            if not folders.hold(resolved(place)):
                raise OutsideRootsError(
                    "the source has entries in another file, outside of what this service may touch",
                    "give one whose files lie all below its folders",
                )

    def now(self) -> Ground:
        """Where they lie now, for the paths of one request."""
        return Ground(self)


class Ground:
    """Bounds as they lie at one moment: each of their folders is looked at once."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._open, self._closed = Folders(bounds.folders), Folders(bounds.closed)

    def placed(self, request: Request) -> dict[str, Any]:
        """All places that a request names, resolved, by option."""
        named = dict.fromkeys((*_READABLE, *request.named), self.readable)
        resolvers = named | {"out": self.output, "stage": self.staging, "warm_start": self.kept}
        given = {option: getattr(request, option) for option in resolvers}
        return {option: resolvers[option](option, text) for option, text in given.items() if text is not None}

    def readable(self, option: str, text: str) -> str:
        """A path or URL of something that is read; words that name no place are returned as they are."""
        if option in ("rows", "cols") and _NO_PATH.fullmatch(text):
            return text
        if _is_url(text):
            return self._allowed(option, text)
        return self.kept(option, text)

    def kept(self, option: str, text: str) -> str:
        """A path of something that is there."""
        return str(self.below(option, text))

    def output(self, option: str, text: str) -> str:
        """The path of a result: strictly below a root, and in no folder that belongs to another."""
        found = self.below(option, text)
        for root in self._open.resolved:
            _check_names(option, text, _names_between(root, found))
        return str(found)

    def staging(self, option: str, text: str) -> str:
        """The folder in which panels are staged: that of the operator, or one in it."""
        stage = self._bounds.stage
        if not stage:
            raise PathError(f"{option}={text!r}, and nothing may be staged here", "leave it out")
        return str(_resolved_below(option, text, stage, Folders((stage,))))

    def below(self, option: str, text: str) -> Path:
        """A path, resolved."""
        path = _resolved_below(option, text, self._bounds.folders[0], self._open)
        if self._closed.hold(path):
            raise OutsideRootsError(f"{option}={text!r} belongs to the service itself", "give another path")
        return path

    def _allowed(self, option: str, text: str) -> str:
        """A URL below one of those that are allowed."""
        if _is_crooked(text) or not any(_begins(text, url) for url in self._bounds.urls):
            raise UrlError(
                f"{option}={without_credentials(text)!r} is no plain URL of those that are allowed here "
                f"({', '.join(self._bounds.urls) or 'none'})",
                "give a path, or ask the operator",
            )
        return text


def _hashable(value: Any) -> Any:
    """A list, as JSON has it, as the tuple that it was."""
    return tuple(value) if isinstance(value, list) else value


def _is_url(text: str) -> bool:
    """Whether some library might take it for a URL, a chain of URLs, or the name of a protocol."""
    return "::" in text or "://" in text or _URL.match(text) is not None


def _is_crooked(url: str) -> bool:
    """Whether a URL may lead elsewhere than its beginning says: chained, upwards, escaped, with options."""
    return (
        any(sign in f"{url}/" for sign in _CROOKED)
        or not url.isprintable()
        or _ESCAPED.search(url) is not None
    )


def _begins(url: str, beginning: str) -> bool:
    """Whether a URL is another one or lies below it."""
    return f"{url}/".startswith(beginning.rstrip("/") + "/")


def _check_beginning(url: str) -> None:
    """`UrlError` where what is to be allowed is a scheme alone."""
    if not (_URL.match(url) and urlsplit(url).netloc):
        raise UrlError(f"{url!r} names no bucket or host", "give such as s3://bucket/folder")


def _check_unmoved(option: str, before: str, now: str) -> None:
    if before != now:
        raise OutsideRootsError(
            f"{option}={before!r} leads elsewhere than when it was submitted",
            "let nobody replace folders by links while jobs use them, and submit again",
        )


def _names_between(root: Path, path: Path) -> tuple[str, ...] | None:
    """The names that lead from a root to a path; None where it lies elsewhere."""
    return path.relative_to(root).parts if path.is_relative_to(root) else None


def _check_names(option: str, text: str, names: tuple[str, ...] | None) -> None:
    """`PathError` where an output is a root, or has a name on its way that bigsvd itself gives."""
    if names == ():
        raise PathError(f"{option}={text!r} is a root itself", "name a folder in it")
    for name in names or ():
        if name.startswith(".") or name.endswith(_OWN_SUFFIXES):
            raise PathError(
                f"{option}={text!r} goes by the name {name}, and such are bigsvd's own",
                f"choose names without a dot in front, or {' or '.join(_OWN_SUFFIXES)} at the end",
            )


def _resolved_below(option: str, text: str, first: str, folders: Folders) -> Path:
    """A path that begins at `first`, resolved; where it leads to is not said, nor whether it exists."""
    _check_form(option, text)
    path = resolved(Path(first) / text)
    if path.is_symlink():
        raise PathError(f"{option}={text!r} is a link that leads in a circle", "give another path")
    if not folders.hold(path):
        raise OutsideRootsError(
            f"{option}={text!r} lies outside of what this service may touch",
            "give a path below one of its folders",
        )
    return path


def _check_form(option: str, text: str) -> None:
    """What no honest path has: refused before any system call sees it."""
    if _is_url(text):
        raise UrlError(f"{option}={without_credentials(text)!r} is a URL", "give a path")
    if not text.strip() or not text.isprintable():
        raise PathError(f"{option}={text[:100]!r} is empty or has unprintable letters", "give a path")
    if _FOREIGN.match(text) or _ESCAPED.search(text):
        raise PathError(f"{option}={text!r} is written as no path of this service is", _SPELLING)
    _check_lengths(option, os.fsencode(text))


def _check_lengths(option: str, path: bytes) -> None:
    longest = max(map(len, path.split(b"/")))
    if longest > _LONGEST_NAME or len(path) > _LONGEST_PATH:
        raise PathError(
            f"{option} has {len(path):,} bytes, of which {longest:,} in one name, over the {_LONGEST_PATH:,} "
            f"and {_LONGEST_NAME} that are possible",
            "give a shorter one",
        )
