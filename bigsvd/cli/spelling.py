"""What the library says of its options, in the spelling of the command line.

Python's spelling is what errors and certificates are written in: ``max_passes=4``. A command says the same of
the options that it has: ``--max-passes 4``. Only three forms are taken for an option, since its name may also
be a word of English: a name with its value, a name with an underscore, and a name that one is told to use.
What the person typed, such as a path, stays as it was typed, and so do attributes of data.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

_VALUE = r"""'[^']*'|"[^"]*"|\([^()]*\)|[^\s,;:()]+"""
_QUOTES = "'\""
_TOLD = "raise|drop|use|give|add|leave"


def spelled(text: str, command: click.Command, typed: Sequence[str] = ()) -> str:
    """`text` with the options of `command` as they are typed; `typed` are texts that are left alone."""
    options = {param.name: param for param in command.params if param.name}
    names = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    literal = "|".join(re.escape(part) for part in sorted(typed, key=len, reverse=True) if part)
    if not names:
        return text
    pattern = re.compile(
        rf"(?<!\w)(?P<literal>{literal or '(?!)'})(?![\w=])"
        rf"|(?<![\w./-])(?<!attribute )(?P<valued>{names})=(?P<value>{_VALUE})"
        rf"|\b(?P<verb>{_TOLD}) (?P<told>{names})(?![\w=/-])"
        rf"|(?<![\w./-])(?<!attribute )(?P<bare>{names})(?![\w=/.-])"
    )

    def one(match: re.Match[str]) -> str:
        if match["valued"]:
            return _with_value(options[match["valued"]], match["value"])
        if match["told"]:
            return f"{match['verb']} {name_as_typed(options[match['told']])}"
        if match["bare"] and "_" in match["bare"]:
            return name_as_typed(options[match["bare"]])
        return match[0]

    return pattern.sub(one, text)


def name_as_typed(param: click.Parameter) -> str:
    """How a parameter is called: ``--max-passes``, or ``OUT`` of what has no name on the command line."""
    return param.opts[0] if isinstance(param, click.Option) else param.human_readable_name


def _with_value(param: click.Parameter, value: str) -> str:
    """``--flag value``, or the switch that has this value."""
    flag = name_as_typed(param)
    if value == "True":
        return flag
    if value == "False":
        return param.secondary_opts[0] if param.secondary_opts else f"no {flag}"
    if value.startswith("("):
        parts = (part.strip() for part in value[1:-1].split(","))
        return " ".join(f"{flag} {part}" for part in parts if part)
    return f"{flag} {value.strip(_QUOTES) or value}"
