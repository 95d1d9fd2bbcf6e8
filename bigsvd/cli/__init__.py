"""The command line."""

from bigsvd.cli import jobs, serve
from bigsvd.cli.commands import main

__all__ = ["jobs", "main", "serve"]
