"""The command line."""

from bigsvd.cli import distill, evaluation, jobs, recommend, serve
from bigsvd.cli.commands import main

__all__ = ["distill", "evaluation", "jobs", "main", "recommend", "serve"]
