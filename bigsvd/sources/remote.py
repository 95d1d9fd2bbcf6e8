"""`RemoteStore`, a store whose requests may fail, and `Failure`, the reason why one failed.

Only here do the exceptions of obstore, fsspec and their HTTP clients become a `BigsvdError`, and only here
are requests repeated. The errors raised here have no cause (`__cause__`): the original exceptions hold URLs
with signatures, and cannot be pickled.
"""

from __future__ import annotations

import asyncio
import pickle
import re
import sys
from dataclasses import dataclass
from typing import Literal

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype

from bigsvd.chunks.guard import METADATA_NAMES, WatchedStore
from bigsvd.errors import BigsvdError, SourceError, StorageError, first_line
from bigsvd.units import without_credentials

_PAUSES = (0.2, 0.8, 3.2)  # seconds before the second, third and fourth try; chosen, not measured
_BUSY = (408, 425, 429)  # like the 5xx, these HTTP statuses mean that the same request may succeed later
_CREDENTIALS = "give credentials, or anon=true for public data, as storage options (--storage-option)"
_STATUS = re.compile(r"status code: (\d{3})[^:]*")
_METADATA_SERVICE = re.compile(r"169\.254\.1(69|70)\.|metadata\.google\.internal|fd00:ec2::")
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
_OUTSIDE = ("zlib", "_lzma", "http", "urllib")  # modules of Python whose errors come from data or servers
_COMPUTING = ("bigsvd", "click", "cupy", "dask", "distributed", "numpy", "scipy", "tornado", "__main__")
_REASONS = (  # a mark in the details of obstore's exception, and what it means
    ("kind: Timeout", "no answer in time"),
    ("dns error", "the host name is unknown"),
    ("IncompleteMessage", "the connection was closed without an answer"),
    ("IncompleteBody", "the connection was closed before the end"),
    ("kind: Interrupted", "the connection was closed before the end"),
)


_Kind = Literal["absent", "denied", "credentials", "refused", "transient"]
_KINDS: dict[int, _Kind] = {401: "denied", 403: "denied", 404: "absent", 410: "absent"}


@dataclass(frozen=True)
class Failure:
    """Why a request failed.

    `kind` is "absent" if nothing is there, "denied" if access is, "credentials" if none were found, "refused"
    if the same request would fail again, and "transient" if the same request may succeed later.
    """

    kind: _Kind
    text: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The meaning of an exception of any store or client."""
        text, status = _said(error), _status(error)
        busy = status in _BUSY or (status or 0) >= 500
        if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError)):
            return cls("absent", text)
        if type(error).__name__ in _NO_CREDENTIALS:
            return cls("credentials", text)
        if _METADATA_SERVICE.search(str(error)) and not busy:
            return cls("credentials", "this machine has no role either")
        known = _KINDS.get(status or 0)
        if known is not None:
            return cls(known, text)
        final = status is not None and not busy
        if final or "redirect without LOCATION" in text or "ertificate" in str(error):
            return cls("refused", text)
        return cls("transient", text)

    def error(self, what: str, tries: int = 1) -> BigsvdError:
        """The error to raise when the request for `what` failed; exit code 2 if the user can correct it."""
        if self.kind == "absent":
            return SourceError(f"{what} does not exist ({self.text})", "check the URL")
        if self.kind == "denied":
            return SourceError(f"access to {what} is denied ({self.text})", _CREDENTIALS)
        if self.kind == "credentials":
            return SourceError(f"no credentials were found for {what} ({self.text})", _CREDENTIALS)
        if self.kind == "refused":
            remedy = "check the URL and the storage options: region, endpoint_url, credentials"
            return SourceError(f"the store refuses {what} ({self.text})", remedy)
        times = f"{tries} times"
        if tries == 1:
            times = "once"
        return StorageError(f"reading {what} failed {times}: {self.text}", "check the network and run again")


class RemoteStore(WatchedStore):
    """A read-only store that explains its failures, and repeats a request if that may help.

    Attributes:
        name: the URL that is printed and stored, without credentials.
        retries: how often a request was repeated.
        refused: metadata keys that may not be read, each with the reason. They count as absent as long as
            other metadata describe an array, because a store answers "denied" for keys that do not exist if
            the caller may not list its bucket.

    """

    def __init__(self, store: Store, name: str, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(store)
        self.name = name
        self.retries = 0
        self.refused: dict[str, str] = {}
        self._secrets = secrets

    @classmethod
    def of(cls, store: Store, name: str) -> RemoteStore:
        """A store with counters of its own."""
        if isinstance(store, RemoteStore):
            return cls(store.inner, store.name, store._secrets)  # noqa: SLF001 - of this very class
        return cls(store, name)

    @property
    def inner(self) -> Store:
        """The store itself."""
        return self._store

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened, (pickle.dumps(self._store), self.name, self._secrets)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value of `key`; None where it does not exist.

        Raises:
            SourceError: access is denied or the request refused.
            StorageError: the last of several tries failed.

        """
        for pause in (*_PAUSES, None):
            # When one of several requests fails, Zarr cancels the others. The shield lets them end, since
            # asyncio would otherwise print their exceptions together with their URLs.
            value = await asyncio.shield(self._attempt(key, prototype, byte_range))
            if not isinstance(value, Failure):
                return self._unless_a_page(key, value)
            failure = value
            if failure.kind != "transient" or pause is None:
                break
            self.retries += 1
            await asyncio.sleep(pause)
        self._without(key, failure)
        return None

    async def _attempt(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None
    ) -> Buffer | Failure | None:
        try:
            return await self._store.get(key, prototype, byte_range)
        except (BigsvdError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - each store raises its own kind; raised by `get`
            return Failure.of(error)

    def _unless_a_page(self, key: str, value: Buffer | None) -> Buffer | None:
        """The value; None for metadata that are an HTML page, which some servers send for every key."""
        if value is None or not _is_metadata(key) or value.to_bytes()[:64].lstrip()[:1] != b"<":
            return value
        self.refused[key] = "the server answers with an HTML page"
        return None

    def _without(self, key: str, failure: Failure) -> None:
        """Note that `key` could not be read, or raise the error that says so."""
        if failure.kind == "absent":
            return
        failure = Failure(failure.kind, without_credentials(failure.text, self._secrets))
        if failure.kind == "denied" and _is_metadata(key):
            self.refused[key] = f"access is denied: {failure.text}"
            return
        error = failure.error(f"{key} of {self.name}", len(_PAUSES) + 1)
        if failure.kind == "denied":
            error.remedy += (
                "; a store that may not be listed says the same of chunks that do not exist"
                " (S3: allow s3:ListBucket)"
            )
        raise error

    def check_refused(self) -> None:
        """`SourceError` if metadata were refused; called when no array was found."""
        if self.refused:
            key, why = next(iter(self.refused.items()))
            remedy = f"check the path; {_CREDENTIALS}"
            if "HTML" in why:
                remedy = "check the URL, which may need a login"
            raise SourceError(f"{self.name} shows no Zarr array: {why} (for {key})", remedy)


def is_from_a_store(error: BaseException) -> bool:
    """Whether an exception that is no `BigsvdError` comes from a store, its client or a codec.

    The module of its class decides. Exceptions of Python itself and of the libraries that compute mean a
    mistake in a program. Those of Python's own codecs and HTTP clients, and of any other library, come from
    data or servers.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(is_from_a_store(part) for part in error.exceptions)
    home = type(error).__module__.partition(".")[0]
    if home in _OUTSIDE:
        return True
    return home not in _COMPUTING and home not in sys.stdlib_module_names


def _is_metadata(key: str) -> bool:
    return key.rsplit("/", 1)[-1] in METADATA_NAMES


def _status(error: Exception) -> int | None:
    """The HTTP status behind an exception, if there is one."""
    if isinstance(error, PermissionError) or type(error).__name__ == "PermissionDeniedError":
        return 403
    if type(error).__name__ == "UnauthenticatedError":
        return 401
    found = _STATUS.search(str(error).partition("\n")[0])
    if found:
        return int(found[1])
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):  # botocore's
        answer = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    status, status_code, code = (getattr(error, name, None) for name in ("status", "status_code", "code"))
    for value in (status, status_code, answer, code):
        if isinstance(value, int) and 100 <= value < 600:
            return value
    return None


def _said(error: Exception) -> str:
    """What an exception says, in a few words, without URLs and without what was sent to the server.

    The text of an obstore exception holds the request and the whole answer, which may repeat credentials.
    """
    if type(error).__module__ != "obstore.exceptions":
        return without_credentials(f"{type(error).__name__}: {first_line(error)}")
    head, _, detail = str(error).partition("\n\nDebug source:")
    found = _STATUS.search(head)
    if found:
        parts = [re.search(f"<{tag}>([^<]*)</{tag}>", str(error)) for tag in ("Code", "Message")]
        told = ": ".join(part[1].strip() for part in parts if part)
        return without_credentials(f"HTTP {found[0].removeprefix('status code: ')} {told}".strip())
    for mark, words in _REASONS:
        if mark in detail:
            return words
    said = head.rpartition(" - ")[2]
    cause = re.search(r'message: "([^"]*)"', detail)
    if cause:
        said = cause[1]
    return without_credentials(first_line(Exception(said)))


def _reopened(store: bytes, name: str, secrets: tuple[str, ...]) -> RemoteStore:
    """The store, restored from a pickle in a worker."""
    try:
        return RemoteStore(pickle.loads(store), name, secrets)  # noqa: S301 - from our own driver
    except ImportError as error:
        said = str(error)
    raise SourceError(f"a worker cannot read {name} ({said})", "install the cloud extra for every worker")
