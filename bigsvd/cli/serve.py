"""The commands of the service: serve, and admin token create, list and revoke."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigsvd.cli.commands import main
from bigsvd.cli.options import json_option
from bigsvd.errors import RequestError
from bigsvd.request import parse_bytes
from bigsvd.service.settings import Limits, Retention, Settings
from bigsvd.service.users import SCOPES

if TYPE_CHECKING:
    from bigsvd.service.store.tokens import Token, Tokens

_DAY_SECONDS = 86400.0
_EXTRA = ("fastapi", "sqlalchemy", "uvicorn", "prometheus_client", "httpx", "psycopg")


@contextmanager
def service_extra() -> Iterator[None]:
    """`RequestError` that says what to install, where what the service alone needs is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        lacking = (error.name or "").partition(".")[0]
        if lacking not in _EXTRA:
            raise
        extra = "postgres" if lacking == "psycopg" else "service"
        raise RequestError(f"the service needs {lacking}", f'pip install ".[{extra}]"') from error


def _default_state() -> Path:
    """Where the service of this user keeps what it keeps."""
    given = os.environ.get("XDG_STATE_HOME")
    return (Path(given) if given else Path.home() / ".local" / "state") / "bigsvd" / "service"


def _state(given: Path | None) -> Path:
    try:
        return (given or _default_state()).absolute()
    except RuntimeError as error:
        raise RequestError("this user has no home for the service's state", "give --state") from error


def where_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where a service keeps its tables."""
    options = [
        click.option(
            "--state", type=click.Path(path_type=Path), default=None, metavar="DIR",
            help="Folder of what the service keeps for itself.  [default: ~/.local/state/bigsvd/service]",
        ),
        click.option(
            "--database", default="", envvar="BIGSVD_DATABASE", metavar="URL",
            help="Of PostgreSQL, which several servers may share; else SQLite in --state. A password in "
            "it is better given by the environment, as BIGSVD_DATABASE.",
        ),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


_OPTIONS = [
    click.option(
        "--root", "roots", multiple=True, required=True, metavar="DIR",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder below which sources and results lie; repeatable. Whoever may submit reads all of it.",
    ),
    click.option(
        "--url", "urls", multiple=True, metavar="URL",
        help="Bucket or host, with or without a folder, of which sources may be; repeatable.",
    ),
    click.option("--scheduler", default="", metavar="ADDRESS", help="Of a Dask cluster; else this machine."),
    *(
        click.option(f"--tls-{part}", type=click.Path(path_type=Path), metavar="FILE", help=told)
        for part, told in (
            ("ca", "The cluster's authority, as PEM."),
            ("cert", "The service's certificate there."),
            ("key", "The key of that."),
        )
    ),
    click.option("--jobs-at-once", type=click.IntRange(min=1), default=1, show_default=True, metavar="N"),
    click.option("--memory", default=None, metavar="SIZE", help="That all jobs here may hold together."),
    click.option(
        "--stage", type=click.Path(file_okay=False, path_type=Path), default=None, metavar="DIR",
        help="Folder in which sources may be staged; without it they may not.",
    ),
    click.option("--host", default=Settings.host, show_default=True, help="Address to listen at."),
    click.option(
        "--port", type=click.IntRange(0, 65535), default=Settings.port, show_default=True,
        help="0 for any that is free.",
    ),
    click.option("--hosts", multiple=True, metavar="NAME", help="By which clients call it; repeatable."),
    click.option(
        "--origin", "origins", multiple=True, metavar="URL",
        help="Of a server whose pages may read arrays, such as https://viewer.example; repeatable.",
    ),
    click.option("--no-token", is_flag=True, help="Let everybody on this machine do everything."),
    click.option(
        "--trust-user-header", default="", metavar="NAME", help="In which --trusted-proxy says who asks."
    ),
    click.option("--trusted-proxy", default="", metavar="ADDRESS", help="Whose word on that is taken."),
    click.option("--limit", "limits", multiple=True, metavar="NAME=VALUE", help="See Limits; repeatable."),
    click.option("--keep-days", type=float, default=None, metavar="DAYS", help="Of records of ended jobs."),
    click.option("--keep-bytes", default=None, metavar="SIZE", help="Of all these; the oldest go."),
    click.option("--delete-results", is_flag=True, help="With their records, and count them too."),
]  # fmt: skip


def serve_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All that an operator decides."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@main.command()
@where_options
@serve_options
def serve(**options: Any) -> None:
    """Serve jobs, results and arrays by HTTP, with a page.

    Prints its URL; at the first start with a token in it, which is shown only then. Whoever may submit reads
    all that lies below the roots, whosever jobs they are.
    """
    with service_extra():
        from bigsvd.service.logs import log_to  # noqa: PLC0415 - of the service extra, as the next
        from bigsvd.service.server import leave  # noqa: PLC0415
        from bigsvd.service.server import serve as serve_on  # noqa: PLC0415

        log_to()
        serve_on(settings_of(options), click.echo, lambda text: click.echo(text, err=True))
        leave()


def settings_of(options: dict[str, Any]) -> Settings:
    """The settings that the options of the command are; `RequestError` where they contradict each other."""
    keep_bytes = options["keep_bytes"]
    days = options["keep_days"]
    return Settings(
        state=_state(options["state"]),
        roots=tuple(root.absolute() for root in options["roots"]),
        tls=_tls(options),
        memory_bytes=None if options["memory"] is None else parse_bytes(options["memory"]),
        stage=options["stage"],
        trusted=options["no_token"],
        user_header=options["trust_user_header"],
        limits=limits_of(options["limits"]),
        retention=Retention(
            None if days is None else days * _DAY_SECONDS,
            None if keep_bytes is None else parse_bytes(keep_bytes),
            options["delete_results"],
        ),
        **{name: options[name] for name in _AS_THEY_ARE},
    )


_AS_THEY_ARE = (
    "database", "scheduler", "jobs_at_once", "urls", "host", "port", "hosts", "origins", "trusted_proxy",
)  # fmt: skip


def _tls(options: dict[str, Any]) -> tuple[str, ...]:
    files = [options[name] for name in ("tls_ca", "tls_cert", "tls_key")]
    given = [str(file.absolute()) for file in files if file is not None]
    if len(given) not in (0, 3):
        raise RequestError(f"{len(given)} of --tls-ca, --tls-cert and --tls-key are given", "give all three")
    return tuple(given)


def limits_of(pairs: tuple[str, ...]) -> Limits:
    """The limits of texts NAME=VALUE, of which bytes may be given as sizes; else as they are by default."""
    return Limits(**dict(map(_limit, pairs)))


def _limit(pair: str) -> tuple[str, Any]:
    name, equals, text = pair.partition("=")
    kinds = {field.name: type(getattr(Limits(), field.name)) for field in fields(Limits)}
    if not equals or name not in kinds:
        raise RequestError(f"limit={pair!r} is no NAME=VALUE of a limit", f"names are {', '.join(kinds)}")
    try:
        value = parse_bytes(text) if name.endswith("_bytes") else kinds[name](text)
    except ValueError as error:
        raise RequestError(f"limit {name}={text!r} is no {kinds[name].__name__}", "give a number") from error
    if not value >= 0:
        raise RequestError(f"limit {name}={text} is below 0", "give a number that is not")
    return name, value


@main.group()
def admin() -> None:
    """What an operator does beside the running service."""


@admin.group()
def token() -> None:
    """The tokens by which people and programs are let in."""


@contextmanager
def _tokens(state: Path | None, database: str) -> Iterator[Tokens]:
    """Those of the service that keeps its tables there, which may be running."""
    with service_extra():
        from bigsvd.service.store.database import made_before  # noqa: PLC0415 - of the service extra, as the next
        from bigsvd.service.store.tokens import Tokens  # noqa: PLC0415

        with made_before(Settings(_state(state), (), database=database)) as opened:
            yield Tokens(opened)


@token.command()
@click.argument("owner")
@where_options
@click.option(
    "--scope", "scopes", type=click.Choice(SCOPES), multiple=True, default=("submit",), show_default=True,
    help="What it lets do; submit includes read, admin all. Repeatable.",
)  # fmt: skip
@click.option("--name", default="", metavar="TEXT", help="What it is for.")
@click.option("--days", type=float, default=None, metavar="DAYS", help="Until it expires; else never.")
@json_option
def create(
    owner: str, state: Path | None, database: str, scopes: tuple[Any, ...], name: str, days: float | None, *,
    as_json: bool,
) -> None:  # fmt: skip
    """Make a token for OWNER and print it: it is kept nowhere."""
    seconds = None if days is None else days * _DAY_SECONDS
    with _tokens(state, database) as tokens:
        secret, made = tokens.make(name, owner, scopes, seconds)
    if as_json:
        click.echo(json.dumps(_told(made) | {"token": secret}))
        return
    click.echo(secret)
    click.echo(f"{made.id} for {owner}: {', '.join(sorted(made.scopes))}; shown only now", err=True)


@token.command(name="list")
@where_options
@json_option
def list_tokens(state: Path | None, database: str, *, as_json: bool) -> None:
    """List the tokens that were made; none can be shown again."""
    with _tokens(state, database) as tokens:
        rows = [_told(each) for each in tokens.all()]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        ends = "revoked" if row["revoked"] else row["expires"] or "never expires"
        click.echo(f"{row['id']}  {row['owner']}  {','.join(row['scopes'])}  {ends}  {row['name']}".rstrip())


@token.command()
@click.argument("token_id", metavar="ID")
@where_options
def revoke(token_id: str, state: Path | None, database: str) -> None:
    """Let nobody in by a token any more; its sessions end with it."""
    with _tokens(state, database) as tokens:
        tokens.revoke(token_id)


def _told(made: Token) -> dict[str, Any]:
    """The facts of a token, without its secret."""
    times = {name: _date(getattr(made, name)) for name in ("created", "expires", "revoked")}
    facts = {"id": made.id, "name": made.name, "owner": made.owner, "scopes": sorted(made.scopes)}
    return facts | times


def _date(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
