"""Options that several commands share, and what is said to whoever typed them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from bigsvd.cli.console import fitted
from bigsvd.cli.spelling import name_as_typed, spelled
from bigsvd.errors import FactorStoreError, RequestError, ShapeError
from bigsvd.jobs.record import Launch
from bigsvd.request import CHOICES, Request
from bigsvd.sources.base import Source
from bigsvd.sources.open import open_source
from bigsvd.units import source_name

_TLS = ("tls_ca", "tls_cert", "tls_key")
_WAIT_WORKERS_SECONDS = 60.0

DeviceName = Literal["auto", "cpu", "gpu"]
device_option = click.option(
    "--device", type=click.Choice(CHOICES["device"]), default="auto", show_default=True,
    help="auto: a GPU where one is usable.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")


def as_typed(text: str) -> str:
    """What the library says, in the spelling of the command that runs."""
    context = click.get_current_context()
    typed = [
        str(context.params[param.name])
        for param in context.command.params
        if param.name and (isinstance(param, click.Argument) or param.metavar in ("PATH", "ADDRESS"))
    ]
    return spelled(text, context.command, typed)


def tell(text: str) -> None:
    """Print a text."""
    click.echo(fitted(text, sys.stdout))


def complain(text: str) -> None:
    """Print a text on the error stream."""
    click.echo(fitted(text, sys.stderr), err=True)


@dataclass(frozen=True)
class ClusterOptions:
    """Which cluster carries out a command, if any; `tls` has paths of authority, certificate and key."""

    scheduler: str | None
    tls: tuple[Path, ...]
    wait_workers: float

    @classmethod
    def taken(cls, options: dict[str, Any]) -> ClusterOptions:
        """Those of `cluster_options` that a command has; they are taken out of its options."""
        scheduler = options.pop("scheduler", None)
        if scheduler is None:
            refuse_idle((*_TLS, "wait_workers"), "--scheduler ADDRESS")
        tls = [options.pop(name, None) for name in _TLS]
        given = [path for path in tls if path is not None]
        if len(given) not in (0, len(tls)):
            raise RequestError(
                f"{len(given)} of --tls-ca, --tls-cert and --tls-key are given", "give all three, or none"
            )
        wait_workers = options.pop("wait_workers", _WAIT_WORKERS_SECONDS)
        return cls(scheduler, tuple(Path(path) for path in given), wait_workers)

    @property
    def launch(self) -> Launch:
        """The same for a driver; files are named so that other processes find them."""
        return Launch(self.scheduler or "", tuple(str(path.absolute()) for path in self.tls))


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which cluster carries out a command."""
    options = [
        click.option("--scheduler", default=None, metavar="ADDRESS",
                     help="Of a Dask scheduler; default: in this process."),
        click.option("--tls-ca", default=None, metavar="PATH",
                     help="PEM file of the authority that the cluster's certificates are of."),
        click.option("--tls-cert", default=None, metavar="PATH", help="PEM file of one's own certificate."),
        click.option("--tls-key", default=None, metavar="PATH", help="PEM file of its key."),
        click.option("--wait-workers", type=click.FloatRange(min=0), default=_WAIT_WORKERS_SECONDS,
                     show_default=True, metavar="SECONDS",
                     help="How long workers are waited for where there are none."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


storage_option = click.option(
    "--storage-option", "storage_options", multiple=True, metavar="KEY=VALUE",
    help="For the store of a URL, such as anon=true or endpoint_url=URL; repeatable, kept nowhere.",
)  # fmt: skip


def secrets_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """What --storage-option was given."""
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise RequestError("a --storage-option is not KEY=VALUE", "give such as anon=true")
        options[key] = value
    return options


def request_of(data: str, out: str | None, options: dict[str, Any], *, overwrite: bool = False) -> Request:
    """The request that a command's options make, which are taken out of them as far as they have to be."""
    k = options.pop("k")
    rules = ("energy", "error", "max_bytes")
    if k is None and not any(options[name] is not None for name in rules):
        raise RequestError("no rank was asked for", "give -k K, or one of --energy, --error, --max-bytes")
    options |= {"missing_value": options["missing_value"] or None, "ddof": int(options["ddof"])}
    options["scale"] = options["scale"] or False
    if isinstance(k, str) and re.fullmatch(r"[+-]?[0-9]+", k):
        k = int(k)
    return Request.of(
        source_name(data),
        "auto" if k is None else k,
        out=out,
        overwrite=overwrite,
        **options,
    )


def open_again(data: str, request: Request, secrets: dict[str, str]) -> Source:
    """DATA of factors that were computed: what the request says of its axes is not to be changed now."""
    try:
        return open_source(data, **request.reading, storage_options=secrets)
    except (ShapeError, RequestError) as error:
        raise FactorStoreError(
            f"{data} cannot be read as {request.source} was ({error.message})",
            "give the data the factors were computed from",
        ) from error


def refuse_idle(names: tuple[str, ...], lacking: str) -> None:
    """`RequestError` where an option was typed that has no effect without what is `lacking`."""
    for typed in _typed(names):
        raise RequestError(f"{typed} has no effect without {lacking}", "give both, or neither")


def refuse_beside(names: tuple[str, ...], other: str, why: str) -> None:
    """`RequestError` where one of these was typed beside an option that decides it."""
    for typed in _typed(names):
        raise RequestError(f"{typed} has no effect with {other}: {why}", "leave out one of them")


def _typed(names: tuple[str, ...]) -> Iterator[str]:
    """Those of the parameters that were typed, as they are typed."""
    context = click.get_current_context()
    for param in context.command.params:
        if param.name in names and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
            yield name_as_typed(param)


@contextmanager
def client_of(cluster: ClusterOptions) -> Iterator[Any]:
    """A client of the cluster that was named, or None."""
    if cluster.scheduler is None:
        yield None
        return
    from bigsvd.execution.cluster import Tls, connected  # noqa: PLC0415 - only where a cluster is named

    with connected(
        cluster.scheduler, tls=Tls.of(cluster.tls), wait_workers_seconds=cluster.wait_workers, tell=complain
    ) as client:
        yield client
