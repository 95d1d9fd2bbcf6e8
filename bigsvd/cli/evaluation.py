"""`bigsvd distill evaluate`: a student beside every baseline, on rows that its teacher has not seen."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from bigsvd.cli.commands import MEMORY_HELP, stored_number
from bigsvd.cli.console import Console
from bigsvd.cli.distill import distill
from bigsvd.cli.options import json_option, secrets_of, storage_option, tell


def _sides(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """The lengths of axes, such as 28x28."""
    if text is None:
        return None
    sides = text.split("x")
    if not all(side.isdecimal() and int(side) for side in sides):
        raise click.BadParameter(f"{text} is not of lengths of axes, such as 28x28")
    return tuple(map(int, sides))


@distill.command()
@click.argument("student")
@click.argument("data")
@click.argument("out", required=False)
@click.option("--share", "shares", multiple=True, type=float, metavar="NUMBER",
              help="Of entries seen, may be given several times; default 0.05, 0.1, 0.3, 0.5.")  # fmt: skip
@click.option("--pattern", "patterns", multiple=True, metavar="PATTERN",
              help="How seen entries lie, may be given several times: uniform (default), columns, "
                   "blocks:LENGTH or blocks:HxW.")  # fmt: skip
@click.option("--seed", "seeds", multiple=True, type=int, metavar="N",
              help="Of masks, may be given several times; default 0, 1, 2.")  # fmt: skip
@click.option("-k", "k", type=int, default=None, metavar="N",
              help="Components that count; default half of the student's.")  # fmt: skip
@click.option("--rows", default=None, metavar="RANGE|PATH",
              help="Samples of DATA that the teacher was not made of: start:stop, or the path of indices; "
                   "columns where these are the samples.")  # fmt: skip
@click.option("--source", default=None, metavar="PATH",
              help="The teacher's data, where they are not where they were.")  # fmt: skip
@click.option("--missing-value", multiple=True, type=stored_number, metavar="NUMBER",
              help="A stored value that means missing, may be given several times.")  # fmt: skip
@click.option("--samples", default="rows", show_default=True, metavar="AXIS",
              help="What the samples are: rows, columns, or the name of a dimension.")  # fmt: skip
@click.option("--dim", default=None, metavar="AXIS",
              help="Of more axes than two that of the samples, by name or number.")  # fmt: skip
@click.option("--decode/--no-decode", default=True, show_default=True, help="Apply CF attributes.")
@click.option("--sample-shape", default=None, metavar="HxW", callback=_sides,
              help="Of a sample, to draw an example as an image.")  # fmt: skip
@click.option("--memory", default=None, metavar="SIZE", help=MEMORY_HELP)
@storage_option
@click.option("--overwrite", is_flag=True, help="Write into a folder OUT that holds something.")
@click.option("--quiet", is_flag=True, help="No progress.")
@json_option
def evaluate(
    student: str,
    data: str,
    out: str | None,
    rows: str | None,
    samples: str,
    missing_value: tuple[float, ...],
    storage_options: tuple[str, ...],
    *,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Take entries of DATA, which is complete, away, and let STUDENT and every baseline fill them.

    The table, JSON and plots are written into the folder OUT. DATA are rows that the teacher has not seen.
    """
    from bigsvd.distill.evaluating import evaluate as evaluated  # noqa: PLC0415 - only this command needs it

    for name in ("shares", "patterns", "seeds"):
        if not options[name]:
            del options[name]
    options["cols" if samples == "columns" else "rows"] = rows
    found = evaluated(
        student, data, out=out, samples=samples, missing_value=missing_value or None,
        storage_options=secrets_of(storage_options), progress=Console(sys.stderr, quiet=quiet),
        **options,
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(found.to_dict()))
        return
    tell(found.text)
