"""`bigsvd distill`: students of factors, which predict those of new, incomplete data."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Any, Protocol

import click

from bigsvd.cli.commands import MEMORY_HELP, Command, Interrupt, main, stored_number
from bigsvd.cli.console import Console, fitted
from bigsvd.cli.options import as_typed, json_option, secrets_of, storage_option, tell
from bigsvd.errors import StoppedError

if TYPE_CHECKING:
    from bigsvd.results.factors import Factors


class DistillCommands(click.Group):
    """The commands about students; errors are those of the whole command line."""

    command_class = Command


@main.group(cls=DistillCommands)
def distill() -> None:
    """Learn from factors to predict those of new data.

    What is predicted is not certified, and says so wherever it is read.
    """


class StopAtPanel(Interrupt):
    """Ctrl-C once: stop after the panel at hand, to be resumed. Twice: at once, as by default."""

    unit = "panel"

    def end(self) -> None:
        """Stop at once."""
        stop_at_once()


def stop_at_once(*_: object) -> None:
    """The signal handler of what is resumed from wherever it was."""
    raise StoppedError("stopped", "run the same command again to resume")


@distill.command()
@click.argument("teacher")
@click.option("-o", "--out", required=True, metavar="STUDENT", help="Where the student is published.")
@click.option("--source", default=None, metavar="PATH",
              help="The teacher's data, where they are not where they were.")  # fmt: skip
@click.option("--target", default=None, metavar="PATH",
              help="New data, whose own gaps the network learns with.")  # fmt: skip
@click.option("--masks", default=None, metavar="TEXT",
              help="Gaps to learn with: uniform:LOW..HIGH (shares seen), blocks:LOW..HIGH, columns:PATH, "
                   "empirical:PATH.")  # fmt: skip
@click.option("--stages", default="ridge,mixture,network", show_default=True, metavar="NAMES",
              help="What is learnt; network needs the extra distill.")  # fmt: skip
@click.option("--components", type=int, default=None, metavar="N",
              help="Of the teacher's triplets; default all. Twice those to predict serve best.")  # fmt: skip
@click.option("--epochs", type=int, default=None, metavar="N", help="Of the network, at most.")
@click.option("--missing", type=click.Choice(("nan", "zero")), default="nan", show_default=True,
              help="zero: in --target 0 means missing, too.")  # fmt: skip
@click.option("--missing-value", multiple=True, type=stored_number, metavar="NUMBER",
              help="A stored value of --target that means missing.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Of everything random.")
@click.option("--memory", default=None, metavar="SIZE", help=MEMORY_HELP)
@click.option("--device", type=click.Choice(("cpu", "gpu", "cuda", "auto")), default="cpu", show_default=True,
              help="Of the network. gpu: the same as cuda.")  # fmt: skip
@storage_option
@click.option("--plan", "plan_only", is_flag=True, help="Print what it will read, hold and take, and end.")
@click.option("--overwrite", is_flag=True, help="Replace a published student, once the new one is whole.")
@click.option("--quiet", is_flag=True, help="No progress.")
@json_option
def fit(
    teacher: str,
    out: str,
    stages: str,
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
    """Learn from the factors TEACHER, and the data they are of, to predict factors of new data with gaps.

    The student is a small store of its own: predictions need no teacher.
    """
    from bigsvd.distill.fitting import fit_order_of, plan_of, run  # noqa: PLC0415 - only this command needs it

    order = fit_order_of(
        teacher, stages=_names(stages), missing_value=missing_value or None,
        storage_options=secrets_of(storage_options) or None, **options,
    )  # fmt: skip
    plan = plan_of(order, memory)
    if plan_only:
        show_plan(plan, as_json=as_json)
        return
    signal.signal(signal.SIGINT, stop_at_once)
    student = run(order, plan, out, overwrite=overwrite, progress=Console(sys.stderr, quiet=quiet))
    facts = {"out": out, "features": student.basis.n, "components": student.basis.r, "stages": student.stages}
    if as_json:
        click.echo(json.dumps(facts))
        return
    tell(f"{out}: {student.basis.r} components of {student.basis.n:,} features; {', '.join(student.stages)}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


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
@click.option("--device", type=click.Choice(("cpu", "gpu", "auto")), default="cpu", show_default=True,
              help="Where rows are inferred. auto: a GPU where one is usable.")  # fmt: skip
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
        show_plan(plan, as_json=as_json)
        return
    if out is None:
        raise click.UsageError("Missing argument 'OUT'.")
    stop = StopAtPanel()
    signal.signal(signal.SIGINT, stop)
    progress = Console(sys.stderr, quiet=quiet)
    factors = run(order, plan, out, overwrite=overwrite, progress=progress, should_stop=stop.stop)
    _show(factors, out, as_json=as_json)


class Foreseen(Protocol):
    """A plan: what will be read, held and taken."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""

    def check(self) -> None:
        """`MemoryBudgetError` where it does not fit."""


def show_plan(plan: Foreseen, *, as_json: bool) -> None:
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
