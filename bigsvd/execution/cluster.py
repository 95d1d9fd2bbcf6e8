"""A Dask cluster that somebody else runs: how it is reached, and what is asked of it, each within a limit.

Whatever is asked may be asked of a process that is frozen, or gone without a word. So nothing here waits for
ever: no connection, no answer, and not the end of a connection either.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakSet

import psutil
from distributed import Client, Security
from distributed.client import ClosedClientError
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker

from bigsvd.errors import NoWorkersError, RequestError

DaskClient: TypeAlias = Client
WAIT_WORKERS_SECONDS = 60.0
_BUDGET_SHARE = 0.6  # of the memory that a worker may hold, unless a run is told; Dask itself needs the rest
_CONNECT_SECONDS = 20.0  # until a scheduler has answered
ANSWER_SECONDS = 20.0  # of a scheduler that is there
_WORKER_SECONDS = 8.0  # until a worker has answered; the same for one that has not the last time:
_SILENT_WORKER_SECONDS = 1.0
_UNANSWERED_SECONDS = 1.0  # until a scheduler has that has not the last time
_CLOSE_SECONDS = 5.0
_AT_WORK = ("running", "paused")  # which finishes what it has begun, until it has memory again
_LOOK_SECONDS = 0.1
RESUME = "start it again and run the same command to resume"
_TLS = "tls://"

_UNANSWERED: WeakSet[Any] = WeakSet()  # clients whose schedulers have not answered the last time


@dataclass(frozen=True)
class Tls:
    """Who this process is to a cluster that encrypts: PEM files of an authority, a certificate and its key.

    Dask checks no host names: whoever has a certificate of this authority is of the cluster. The authority
    should be the cluster's own.
    """

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def of(cls, paths: Sequence[str | Path]) -> Tls | None:
        """That of the paths of authority, certificate and key, in this order; None without any."""
        return cls(*map(Path, paths)) if paths else None

    def security(self) -> Security:
        """The same for Dask; `RequestError` where a file is not there or not what it should be."""
        for path in (self.ca, self.cert, self.key):
            if not path.is_file():
                raise RequestError(f"{path} is no file", "give PEM files of authority, certificate and key")
        security = Security(
            tls_ca_file=str(self.ca),
            tls_client_cert=str(self.cert),
            tls_client_key=str(self.key),
            require_encryption=True,
        )
        try:
            security.get_connection_args("client")
        except (ssl.SSLError, OSError) as error:
            raise RequestError(
                f"{self.ca}, {self.cert} and {self.key} make no TLS identity ({error})",
                "give PEM files of authority, certificate and the key of that certificate",
            ) from error
        return security


class ConnectedClient(Client):  # type: ignore[misc] # it has no types
    """A client that knows how long its owner waits for workers, also in the middle of a run."""

    wait_workers_seconds: float = WAIT_WORKERS_SECONDS

    async def _ensure_connected(self, timeout: float | None = None) -> None:
        """Connect; Dask itself waits for ever for the first word of a scheduler that is frozen."""
        await asyncio.wait_for(super()._ensure_connected(timeout=timeout), timeout)


def _unheard(text: str) -> None:
    del text


@contextmanager
def connected(
    address: str | None,
    *,
    tls: Tls | None = None,
    wait_workers_seconds: float = WAIT_WORKERS_SECONDS,
    tell: Callable[[str], None] = _unheard,
) -> Iterator[DaskClient | None]:
    """A client of the scheduler at an address, which has workers; None without an address.

    Args:
        address: such as tcp://host:8786, or tls://host:8786 with `tls`.
        tls: who this process is to a cluster that encrypts; without it what Dask's configuration says.
        wait_workers_seconds: how long a first worker is waited for, here and whenever a run has none left.
        tell: hears that workers are waited for.

    Raises:
        RequestError: the address or the files of `tls` mean nothing. NoWorkersError: no scheduler answers, or
            it has no workers in time.

    """
    if address is None:
        yield None
        return
    with reached(address, tls) as client:
        client.wait_workers_seconds = wait_workers_seconds
        if not workers_of(client):
            tell(f"waits for workers of {address}")
        await_workers(client)
        yield client


@contextmanager
def reached(address: str, tls: Tls | None) -> Iterator[ConnectedClient]:
    """A client of the scheduler at an address, whether it has workers or not; see `connected`."""
    client = _client_of(address, tls)
    try:
        yield client
    finally:
        with suppress(TimeoutError):  # of a scheduler that is frozen or dead: its connection ends with it
            client.close(timeout=_CLOSE_SECONDS)


def _client_of(address: str, tls: Tls | None) -> ConnectedClient:
    if tls is not None and not address.startswith(_TLS):
        raise RequestError(
            f"a TLS identity is given, and {address} is no {_TLS} address", f"give such as {_TLS}host:8786"
        )
    security = None if tls is None else tls.security()
    try:
        return ConnectedClient(address, timeout=_CONNECT_SECONDS, security=security)
    except TypeError as error:  # of Dask, for an address with TLS and nobody to be
        if not address.startswith(_TLS):
            raise
        raise RequestError(
            f"{address} is an address with TLS, and no identity is given",
            "give --tls-ca, --tls-cert and --tls-key, or tls of Dask's configuration",
        ) from error
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise NoWorkersError(
            f"no scheduler answers at {address} within {_CONNECT_SECONDS:g} s ({said})",
            f"check the address, that it is up, and whether it expects {_TLS} and a certificate",
        ) from error


@contextmanager
def cluster_errors() -> Iterator[None]:
    """Turn what Dask raises for lost workers or a lost scheduler into `NoWorkersError`."""
    try:
        yield
    except (KilledWorker, CancelledError, CommClosedError, ClosedClientError) as error:
        said = getattr(error, "reason", "") or error  # else keys of futures, and advice on these
        raise NoWorkersError(
            f"the cluster lost its workers or its scheduler ({type(error).__name__}: {said})", RESUME
        ) from error


def answer(client: Client, seconds: float, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """What a client's function returns that asks the scheduler; `NoWorkersError` if that takes too long."""

    async def asked() -> Any:
        return await function(*given, **named)

    try:
        with cluster_errors():
            return client.sync(asked, callback_timeout=seconds)
    except OSError as error:
        raise NoWorkersError(
            f"the scheduler has given no answer for {seconds:g} s ({type(error).__name__})", RESUME
        ) from error


def prompt_answer(client: Client, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """`answer`, to what a scheduler answers at once.

    One that has not the last time, or to which there is no connection now, is hardly waited for: whoever
    leaves it asks it several things.
    """
    unanswered = client in _UNANSWERED or client.status != "running"
    _UNANSWERED.add(client)
    found = answer(client, _UNANSWERED_SECONDS if unanswered else ANSWER_SECONDS, function, *given, **named)
    _UNANSWERED.discard(client)
    return found


def ask_scheduler(client: Client, what: str, **named: Any) -> Any:
    """What the scheduler answers to one of its operations; `NoWorkersError` if that takes too long."""
    scheduler = client.scheduler
    if scheduler is None:  # a client that could not connect again has closed itself
        raise NoWorkersError("the connection to the scheduler has ended", RESUME)
    return prompt_answer(client, getattr(scheduler, what), **named)


def workers_of(client: Client) -> dict[str, dict[str, Any]]:
    """What the scheduler knows of each worker, by address.

    The scheduler itself is asked: what `Client.scheduler_info` returns may by then be a newer answer without
    any worker, because the client asks for one in the background every two seconds.
    """
    workers: dict[str, dict[str, Any]] = ask_scheduler(client, "identity", n_workers=-1)["workers"]
    return workers


def at_work(workers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those that carry out tasks, as the scheduler sees it."""
    return {address: worker for address, worker in workers.items() if worker["status"] in _AT_WORK}


def worker_share_bytes(workers: dict[str, dict[str, Any]]) -> int:
    """What runs may hold of the memory of the smallest of these workers, as the scheduler knows them."""
    sizes = [worker["memory_limit"] or psutil.virtual_memory().total for worker in workers.values()]
    return int(min(sizes) * _BUDGET_SHARE)


def patience_of(client: Client) -> float:
    """For how many seconds the owner of a client waits for workers."""
    return float(getattr(client, "wait_workers_seconds", WAIT_WORKERS_SECONDS))


def no_workers(seconds: float) -> NoWorkersError:
    """That there have been none for so long."""
    return NoWorkersError(
        f"0 workers after {seconds:g} s where at least 1 is needed",
        "start workers and run again, or wait longer for them with --wait-workers",
    )


def await_workers(client: Client) -> None:
    """Wait for a first worker; `NoWorkersError` after as long as the client's owner would."""
    seconds = patience_of(client)
    deadline = time.monotonic() + seconds
    while not any(worker["status"] == "running" for worker in workers_of(client).values()):
        if time.monotonic() > deadline:
            raise no_workers(seconds)
        time.sleep(_LOOK_SECONDS)


class Workers:
    """All workers of a cluster, each asked for itself: one that is frozen or lost keeps no other waiting."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._silent: set[str] = set()

    def ask(
        self, function: Callable[..., Any], *arguments: Any, only: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """What a function returns in each worker, or in `only` some, by address.

        Those that do not answer are left out; the next time they are given less time to.

        Raises:
            NoWorkersError: the scheduler does not answer. Else what the function raises.

        """
        addresses = list(workers_of(self._client) if only is None else only)

        async def asked(address: str) -> dict[str, Any]:
            seconds = _SILENT_WORKER_SECONDS if address in self._silent else _WORKER_SECONDS
            asking = self._client.run(function, *arguments, workers=[address])
            try:
                found: dict[str, Any] = await asyncio.wait_for(asking, seconds)
            except OSError:  # it is frozen, or gone
                self._silent.add(address)
                return {}
            self._silent.discard(address)
            return found

        async def all_asked() -> list[dict[str, Any]]:
            return await asyncio.gather(*map(asked, addresses))

        answers = answer(self._client, _WORKER_SECONDS + ANSWER_SECONDS, all_asked)
        return {address: found for each in answers for address, found in each.items()}

    @property
    def silent(self) -> frozenset[str]:
        """Those that have not answered the last time."""
        return frozenset(self._silent)

    def ask_again(self) -> None:
        """Ask those whether they are there again."""
        if self._silent:
            self._silent &= workers_of(self._client).keys()
            self.ask(here, only=self.silent)

    def ask_some(
        self, function: Callable[..., Any], *arguments: Any, only: Iterable[str] | None = None
    ) -> list[Any]:
        """The same where at least one answer is needed; `NoWorkersError` without any."""
        answers = list(self.ask(function, *arguments, only=only).values())
        if not answers:
            raise NoWorkersError(f"no worker has answered within {_WORKER_SECONDS:g} s", RESUME)
        return answers


def here() -> None:
    """In a worker: nothing but an answer."""
