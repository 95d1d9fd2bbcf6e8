"""The command line."""

from bigsvd.cli.commands import main

__all__ = ["main"]
