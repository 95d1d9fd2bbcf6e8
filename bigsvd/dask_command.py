"""``dask svd``: the command line, imported when it is used.

Every call of ``dask`` imports the commands that others have registered with it: this one costs it no more
than click, which it has already.
"""

from __future__ import annotations

from importlib import import_module

import click


@click.command(
    name="svd",
    help="Truncated SVD of matrices larger than memory: Zarr in, Zarr out, certified.",
    context_settings={
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": [],
    },
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def svd(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Hand all that follows to ``bigsvd``."""
    import_module("bigsvd.cli").main(args=list(arguments), prog_name=context.command_path)
