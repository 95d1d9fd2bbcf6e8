"""The command line."""

from bigsvd.cli import distill, jobs, serve
from bigsvd.cli.commands import main

__all__ = ["distill", "jobs", "main", "serve"]
