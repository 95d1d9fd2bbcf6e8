"""`bigsvd distill`: students of factors, which predict those of new, incomplete data."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from bigsvd.cli.commands import MEMORY_HELP, Command, main, stored_number
from bigsvd.cli.console import Console, fitted
from bigsvd.cli.options import as_typed, json_option, secrets_of, storage_option, tell

if TYPE_CHECKING:
    from bigsvd.distill.plan import PredictionPlan
    from bigsvd.results.factors import Factors


class DistillCommands(click.Group):
    """The commands about students; errors are those of the whole command line."""

    command_class = Command


@main.group(cls=DistillCommands)
def distill() -> None:
    """Learn from factors to predict those of new, incomplete data.

    What is predicted is not certified, and says so wherever it is read.
    """


class StopAtPanel:
    """Ctrl-C once: stop after the panel at hand, to be resumed. Twice: at once, as by default."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self, *_: object) -> None:
        """The signal handler."""
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        click.echo("\nstopping after this panel; Ctrl-C again stops at once", err=True)

    def asked(self) -> bool:
        """Whether to stop."""
        return self._asked


@distill.command()
@click.argument("student")
@click.argument("data")
@click.argument("out", required=False)
@click.option("-k", "k", type=int, default=None, metavar="N",
              help="Triplets to publish; default half of the student's components.")  # fmt: skip
@click.option("--stage", default="auto", show_default=True, metavar="NAME",
              help="auto: the best on hidden entries of DATA; or one that STUDENT has.")  # fmt: skip
@click.option("--adapt", type=click.Choice(("auto", "no")), default="auto", show_default=True,
              help="auto: let components move where that pays on hidden entries.")  # fmt: skip
@click.option("--mask", default=None, metavar="PATH",
              help="Array in the shape of DATA, true where an entry is missing.")  # fmt: skip
@click.option("--missing", type=click.Choice(("nan", "zero")), default="nan", show_default=True,
              help="zero: 0 means missing, too.")  # fmt: skip
@click.option("--missing-value", multiple=True, type=stored_number, metavar="NUMBER",
              help="A stored value that means missing, may be given several times.")  # fmt: skip
@click.option("--samples", default="rows", show_default=True, metavar="AXIS",
              help="What the samples are: rows, columns, or the name of a dimension.")  # fmt: skip
@click.option("--dim", default=None, metavar="AXIS",
              help="Of more axes than two that of the samples, by name or number.")  # fmt: skip
@click.option("--decode/--no-decode", default=True, show_default=True, help="Apply CF attributes.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Of what is hidden.")
@click.option("--memory", default=None, metavar="SIZE", help=MEMORY_HELP)
@storage_option
@click.option("--plan", "plan_only", is_flag=True, help="Print what it will read, hold and take, and end.")
@click.option("--overwrite", is_flag=True, help="Replace a published result, once the new one is whole.")
@click.option("--quiet", is_flag=True, help="No progress.")
@json_option
def predict(
    student: str,
    data: str,
    out: str | None,
    missing_value: tuple[float, ...],
    memory: str | None,
    storage_options: tuple[str, ...],
    *,
    plan_only: bool,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Predict factors of DATA, which has gaps, by STUDENT, into the factor store OUT.

    They are estimates with an uncertainty for each sample, not a certified SVD.
    """
    from bigsvd.distill.order import order_of  # noqa: PLC0415 - only this command needs it
    from bigsvd.distill.predicting import plan_of, run  # noqa: PLC0415 - the same

    order = order_of(
        student, data, missing_value=missing_value or None, storage_options=secrets_of(storage_options),
        **options,
    )  # fmt: skip
    plan = plan_of(order, memory)
    if plan_only:
        _show_plan(plan, as_json=as_json)
        return
    if out is None:
        raise click.UsageError("Missing argument 'OUT'.")
    stop = StopAtPanel()
    signal.signal(signal.SIGINT, stop)
    progress = Console(sys.stderr, quiet=quiet)
    factors = run(order, plan, out, overwrite=overwrite, progress=progress, should_stop=stop.asked)
    _show(factors, out, as_json=as_json)


def _show_plan(plan: PredictionPlan, *, as_json: bool) -> None:
    """Print a plan; `MemoryBudgetError` where it does not fit."""
    click.echo(json.dumps(plan.to_dict()) if as_json else fitted(str(plan), sys.stdout))
    plan.check()


def _show(factors: Factors, out: str, *, as_json: bool) -> None:
    """Print what was predicted."""
    facts = factors.info()
    if as_json:
        click.echo(json.dumps(facts))
        return
    tell(as_typed(str(factors.certificate)))
    tell(f"{out}: k={facts['k']}, {facts['seconds']:.1f} s")
