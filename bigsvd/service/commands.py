"""The same request by other means: as a command, as a call of Python, and by HTTP; each can be copied."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bigsvd.request import Request
from bigsvd.sentinels import number_to_json

_OUT = "OUT"  # where a request names no output
_WIDTH = 100


@dataclass(frozen=True)
class Commands:
    """What does the same: a line for a shell, a call of Python, and a line that asks this server."""

    cli: str
    python: str
    curl: str

    @classmethod
    def of(cls, request: Request, base_url: str) -> Commands:
        """Those of a request; `base_url` is how whoever asks calls this server."""
        options = request.beyond_defaults()
        options.pop("out", None)
        return cls(_cli(request, options), _python(request, options), _curl(request, options, base_url))


def _cli(request: Request, options: dict[str, Any]) -> str:
    """The command that runs it."""
    words = ["bigsvd", "svd", request.source, request.out or _OUT]
    rules = {"energy", "error", "max_bytes"} & options.keys()
    words += [] if rules else ["-k", str(request.k)]
    for name, value in options.items():
        words += _flags(name, value)
    return shlex.join(_behind_a_dash(words))


def _behind_a_dash(words: list[str]) -> list[str]:
    """The same, where a path begins with a dash as an option does."""
    program, (source, out), options = words[:2], words[2:4], words[4:]
    if source.startswith("-") or out.startswith("-"):
        return [*program, *options, "--", source, out]
    return [*program, source, out, *options]


def _flags(name: str, value: Any) -> Iterator[str]:
    flag = f"--{name.replace('_', '-')}"
    if name == "scale":
        yield f"{flag}={'std' if value is True else value}"
    elif value is True:
        yield flag
    elif value is False:
        yield f"--no-{name.replace('_', '-')}"
    elif name == "functions":
        yield f"{flag}={','.join(value)}"
    else:
        values = value if isinstance(value, list) else [value]
        yield from (f"{flag}={one}" for one in values)


def _python(request: Request, options: dict[str, Any]) -> str:
    """The call that runs it."""
    named = dict(options)
    if request.missing_value is not None:
        values = [number_to_json(value) for value in request.sentinels]
        named["missing_value"] = [float(one) if isinstance(one, str) else one for one in values]
    given = [repr(request.source), f"k={request.k!r}", f"out={request.out or _OUT!r}"]
    given += [f"{name}={_literal(value)}" for name, value in named.items()]
    call = f"bigsvd.svd({', '.join(given)})"
    if len(call) > _WIDTH:
        call = "bigsvd.svd(\n" + "".join(f"    {one},\n" for one in given) + ")"
    return f"import bigsvd\n\nfactors = {call}"


def _literal(value: Any) -> str:
    """A value as Python's source has it; NaN and infinities have no literals."""
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, float) and isinstance(number_to_json(value), str):
        return f"float({number_to_json(value)!r})"
    return repr(value)


def _curl(request: Request, options: dict[str, Any], base_url: str) -> str:
    """The line that submits it to this server; the token is that of the shell that it is pasted into."""
    body = {"source": request.source, "k": request.k, "out": request.out or _OUT, **options}
    words = ["--json", json.dumps(body), f"{base_url.rstrip('/')}/v1/jobs"]
    return f'curl -H "Authorization: Bearer $BIGSVD_TOKEN" {shlex.join(words)}'
