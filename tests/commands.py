"""Commands as they are typed, carried out by this process."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from bigsvd import cli


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def facts(self) -> Any:
        return json.loads(self.out)


def run(*arguments: object) -> Ended:
    """A command that may fail, but never with a traceback."""
    ended = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return Ended(ended.exit_code, ended.stdout, ended.stderr)


def done(*arguments: object) -> Ended:
    """A command that ends well."""
    ended = run(*arguments)
    assert ended.code == 0, ended.err
    return ended


def refused(code: int, *arguments: object) -> str:
    """The error of a command that fails with one line and nothing else."""
    ended = run(*arguments)
    assert ended.code == code
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert len(lines) == 1
    assert re.fullmatch(r"error\[E_[A-Z_]+\]: .+; .+", lines[0])
    return lines[0]
