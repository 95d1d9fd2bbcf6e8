"""The command line: thin click commands over the library; also registered as ``dask svd``.

Exit codes: 0 done, 2 bad input, 3 failed run, 4 with --strict not converged. Errors are one line on the error
stream; facts go to the output.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import numpy as np
from click.core import ParameterSource

from bigsvd.catalog.table import METHODS
from bigsvd.cli.console import Console, fitted
from bigsvd.cli.options import (
    ClusterOptions,
    DeviceName,
    as_typed,
    client_of,
    cluster_options,
    complain,
    device_option,
    json_option,
    refuse_idle,
    request_of,
    secrets_of,
    storage_option,
    tell,
)
from bigsvd.cli.place import Place, Result, at_place
from bigsvd.cli.scoring import scored_by
from bigsvd.cli.spelling import spelled
from bigsvd.errors import BigsvdError, NotConvergedError, RequestError, StorageError, VerifyError
from bigsvd.gaps import with_gaps
from bigsvd.projecting import project
from bigsvd.report.facts import format_facts
from bigsvd.report.table import format_table
from bigsvd.request import CHOICES, SCALES, parse_bytes
from bigsvd.results.export import check_array, check_plot, write_array, write_region
from bigsvd.results.factors import PROJECTIONS, Factors, open_factors
from bigsvd.results.folders import scratch_path
from bigsvd.results.judged import Judged, judged
from bigsvd.results.scoring import UNSCORED, Scored
from bigsvd.results.verification import Verification
from bigsvd.sources.open import open_source
from bigsvd.sources.remote import Failure, is_from_a_store
from bigsvd.sources.vectors import name_vectors, scale_meant, vectors_of
from bigsvd.units import source_name

_FAILED = 3
_MOST_PRINTED = 100_000  # numbers of a reconstruction
MEMORY_HELP = "Budget beyond the interpreter and its libraries, such as 1GB; default half of what is free."


class Command(click.Command):
    """A command whose errors name its options as they are typed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, but that --scale takes what follows it only where that is one of its words."""
        kinds = [(arg, args[i + 1 : i + 2]) for i, arg in enumerate(args)]
        bare = [i for i, (arg, after) in enumerate(kinds) if arg == "--scale" and not {*after} & {*SCALES}]
        for i in bare:
            args[i] = f"--scale={SCALES[0]}"
        given = [*args]
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if type(error) is click.UsageError:  # an argument too many, which may be what follows --scale
                _refuse_another_scale(error.message, [given[i + 1] for i in bare if given[i + 1 :]])
            raise

    def invoke(self, context: click.Context) -> Any:
        """Run it."""
        try:
            return super().invoke(context)
        except BigsvdError as error:
            raise type(error)(as_typed(error.message), as_typed(error.remedy)) from error


def _refuse_another_scale(said: str, after: list[str]) -> None:
    """`RequestError` where a word `after` --scale, which was taken for an argument, is one too many."""
    for word in after:
        if not word.startswith("-"):
            raise RequestError(
                f"{said.rstrip('.')}: --scale {word} is no rule",
                scale_meant(word, f"--scale={word} for given numbers"),
            )


# As help lists them: in the order in which somebody comes to need them.
SECTIONS = {
    "Decompositions": ("plan", "svd", "demo"),
    "Results": ("info", "verify", "rank", "reconstruct", "project"),
    "Prediction": ("distill",),
    "Recommendation": ("recommend", "recommend-evaluate"),
    "Jobs": ("submit", "status", "jobs", "logs", "wait", "stop", "cancel", "resume", "prune"),
    "Service": ("serve", "admin"),
}


class Commands(click.Group):
    """A group whose commands report every deliberate error on one line with its exit code."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section."""
        del ctx
        width = max(map(len, self.commands))
        for section, names in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl(
                    [(f"{name:<{width}}", self.commands[name].get_short_help_str(70)) for name in names]
                )

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command; never a traceback for something a user can cause."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except BigsvdError as error:
            complain(str(error))
            sys.exit(error.exit_status)
        except click.ClickException as error:
            complain(str(RequestError(error.format_message().rstrip("."), "see --help")))
            sys.exit(2)
        except OSError as error:
            complain(str(StorageError(f"{error}", "remove the cause and run again to resume")))
            sys.exit(_FAILED)
        except click.Abort:
            sys.exit(_FAILED)
        except Exception as error:
            if not is_from_a_store(error):
                raise
            kind = f"{type(error).__module__}.{type(error).__qualname__}"
            text = f"reading or writing failed with {kind} ({Failure.of(error).text})"
            click.echo(str(StorageError(text, "remove the cause and run again to resume")), err=True)
            sys.exit(_FAILED)
        sys.exit(code if isinstance(code, int) else 0)


@click.group(name="svd", cls=Commands, invoke_without_command=True)
@click.version_option(package_name="bigsvd")
@click.pass_context
def main(context: click.Context) -> None:
    """Truncated SVD of matrices larger than memory: Zarr in, Zarr out, certified.

    Exit codes: 0 done; 2 bad input; 3 failed run, or stopped at once by a second Ctrl-C; 4 published, but
    short of its tolerance (with --strict; 0 without it).
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    warnings.simplefilter("ignore")  # warnings of a run are part of its certificate, which is printed
    for name in ("distributed.worker", "distributed.client"):  # what they log as errors is raised here too
        logging.getLogger(name).setLevel(logging.CRITICAL)


def stored_number(text: str) -> int | float:
    """The number that a text stands for: an integer stays one, however large; ValueError for any other."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that make a `Request`, shared by ``svd`` and ``plan``."""
    options = [
        click.option("-k", "k", default=None, metavar="N|auto", help="Number of singular triplets, or auto."),
        click.option("--tol", type=float, default=1e-2, show_default=True, metavar="NUMBER",
                     help="Tolerance, see --stop."),
        click.option("--stop", type=click.Choice(CHOICES["stop"]), default="residual", show_default=True,
                     help="residual: worst relative residual; signal: that of triplets above the noise; "
                          "error: relative error above the best; estimate: residual of one factor and s, "
                          "foretold a read before it is proved."),
        click.option("--method", type=click.Choice(("auto", *METHODS)), default="auto", show_default=True,
                     help="auto: what the planner's arithmetic finds fastest."),
        click.option("--samples", default="rows", show_default=True, metavar="AXIS",
                     help="What the samples are: rows, columns, or the name of a dimension."),
        click.option("--dim", default=None, metavar="AXIS",
                     help="Of more axes than two that of the samples, by name or number."),
        click.option("--sum", default=None, metavar="AXIS",
                     help="The last axis, by name or number, to be summed first, such as ploidy."),
        click.option("--rows", default=None, metavar="RANGE|PATH",
                     help="Rows to take: start:stop[:step], or the path of truth values or indices."),
        click.option("--cols", default=None, metavar="RANGE|PATH", help="Columns to take, the same."),
        click.option("--functions", multiple=True, metavar="NAMES",
                     callback=lambda _context, _option, texts: ",".join(texts),
                     help="Applied to entries first, in this order, such as normalize_total:1e4,log1p; "
                          "also sqrt, asinh, anscombe, clip:MAX, clip:MIN:MAX, binarize:THRESHOLD."),
        click.option("--center", is_flag=True, help="Subtract the mean of each feature over the samples."),
        click.option("--scale", default=None, metavar="[KIND]",
                     help="Divide features by their deviation; by std-observed, patterson or binom2; "
                          "or, with --scale=PATH, by given numbers."),
        click.option("--ddof", type=click.Choice(("0", "1")), default="0", show_default=True,
                     help="1: standard deviations of a sample."),
        click.option("--offset", default=None, metavar="PATH",
                     help="Subtract these numbers, of a .npy file or a Zarr array, instead of means."),
        click.option("--weights", default=None, metavar="PATH",
                     help="Multiply features by these numbers, at last."),
        click.option("--row-weights", default=None, metavar="PATH",
                     help="Multiply samples by these numbers."),
        click.option("--missing", type=click.Choice(CHOICES["missing"]), default="none", show_default=True,
                     help="Fill missing entries by their feature's mean, or by zero; one that has no other "
                          "entry is left out, or zero."),
        click.option("--missing-value", multiple=True, type=stored_number, metavar="NUMBER",
                     help="A stored value that means missing, may be given several times; default NaN."),
        click.option("--decode/--no-decode", default=True, show_default=True,
                     help="Apply CF attributes: scale_factor, add_offset, _FillValue, missing_value, "
                          "valid_*, _Unsigned."),
        click.option("--missing-chunks", type=click.Choice(CHOICES["missing_chunks"]), default="error",
                     show_default=True, help="fill: take chunks that do not exist as the fill value."),
        click.option("--energy", type=float, default=None, metavar="NUMBER",
                     help="Instead of -k: share of the squared norm, such as 0.95."),
        click.option("--error", type=float, default=None, metavar="NUMBER",
                     help="Instead of -k: relative error to reach, such as 0.1."),
        click.option("--max-bytes", default=None, metavar="SIZE",
                     help="Instead of -k: largest size of the factors, such as 100MB."),
        click.option("--memory", default=None, metavar="SIZE", help=MEMORY_HELP),
        click.option("--stage", default=None, metavar="PATH",
                     help="Folder on a local disk for decoded panels."),
        click.option("--warm-start", default=None, metavar="PATH",
                     help="Factor store of similar data to start from."),
        click.option("--max-passes", type=int, default=None, metavar="N", help="Most passes over the data."),
        click.option("--deadline", type=float, default=None, metavar="SECONDS",
                     help="Time after which no pass is started."),
        click.option("--seed", type=int, default=0, show_default=True, metavar="N",
                     help="Of everything random."),
        device_option,
        click.option("--precision", type=click.Choice(CHOICES["precision"]), default="auto",
                     show_default=True, help="bfloat16: of all products but those of the last pass."),
        click.option("--device-memory", default=None, metavar="SIZE",
                     help="GPU memory the run may use, such as 20GB; default: 80 % of what is free."),
        *_method_options(),
        cluster_options,
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _method_options() -> list[Callable[[Any], Any]]:
    """A flag for each option that one method alone has; left out, it takes that method's default."""
    return [
        _method_option(name, option.name, kind)
        for name, row in METHODS.items()
        if row.options is not None
        for option, kind in zip(fields(row.options), get_type_hints(row.options).values(), strict=True)
    ]


def _method_option(method: str, name: str, kind: Any) -> Callable[[Any], Any]:
    """The flag of an option of this type: a choice of words, a switch, or a number."""
    flag, told = name.replace("_", "-"), f"With --method {method} only."
    if get_args(kind):
        return click.option(f"--{flag}", type=click.Choice(get_args(kind)), default=None, help=told)
    if kind is bool:
        return click.option(f"--{flag}/--no-{flag}", default=None, help=told)
    return click.option(f"--{flag}", type=kind, default=None, metavar="N", help=told)


def _refuse_beside_a_plan(options: dict[str, Any]) -> None:
    """A saved plan runs as it stands: another option beside it would be ignored."""
    context = click.get_current_context()
    flags = {param.name: param.opts[0] for param in context.command.params}
    for name in options:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise RequestError(f"{flags[name]} and --plan both say what to do", "make a new plan with it")


class Interrupt:
    """Ctrl-C once: stop after this pass with a valid result. Twice: at once, to be resumed."""

    unit = "pass"

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, *_: object) -> None:
        """The signal handler."""
        if self.asked:
            self.end()
        self.asked = True
        click.echo(f"\nstopping after this {self.unit}; Ctrl-C again stops at once", err=True)

    def end(self) -> None:
        """Stop at once."""
        click.echo("\nerror[E_INTERRUPTED]: stopped at once; run the same command again to resume", err=True)
        os._exit(_FAILED)  # lanes hold threads; scratch is consistent at every moment

    def stop(self) -> bool:
        """Whether to stop."""
        return self.asked


@main.command()
@click.argument("data")
@click.argument("out")
@request_options
@storage_option
@click.option("--plan", "plan_file", default=None, metavar="PATH", help="Run this saved plan as it stands.")
@click.option("--overwrite", is_flag=True, help="Replace a published result, once the new one is verified.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts of the result as JSON.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--strict", is_flag=True, help="Exit with 4 where the tolerance or the rank rule is missed.")
def svd(
    data: str,
    out: str,
    plan_file: str | None,
    storage_options: tuple[str, ...],
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    strict: bool,
    **options: Any,
) -> None:
    """Decompose the matrix DATA into the factor store OUT.

    DATA is the path or URL of an array.
    """
    from bigsvd.solve import load_plan, run  # noqa: PLC0415 - imports Dask

    cluster = ClusterOptions.taken(options)
    console = Console(sys.stderr, quiet=quiet)
    interrupt = Interrupt()
    signal.signal(signal.SIGINT, interrupt)
    plan = load_plan(Path(plan_file)) if plan_file else None
    secret, vectors = secrets_of(storage_options), {}
    if plan is not None:
        _refuse_beside_a_plan(options)
        request = replace(plan.request, source=source_name(data), out=out, overwrite=overwrite)
    else:
        vectors = name_vectors(options, secret)
        request = request_of(data, out, options, overwrite=overwrite)
    source = open_source(data, **request.reading, storage_options=secret)
    vectors = vectors_of(request, source.facts, vectors, secret)
    with client_of(cluster) as client:
        factors = run(
            request, source, vectors=vectors, plan=plan, client=client, progress=console,
            should_stop=interrupt.stop,
        )  # fmt: skip
    show_result(factors, out, as_json=as_json)
    _tell_shortfall(factors, out, strict=strict)


def show_result(factors: Result, out: str, *, as_json: bool) -> None:
    """Print what a run has published at `out`."""
    if as_json:
        click.echo(json.dumps(factors.info()))
    else:
        facts = factors.info()
        took = f"{facts['passes']:.2f} passes, {facts['seconds']:.1f} s"
        tell(as_typed(str(factors.certificate)))
        tell(f"{out}: k={facts['k']}, {took}")


def _tell_shortfall(factors: Factors, out: str, *, strict: bool) -> None:
    """Say on one line why a run missed its tolerance; an error only where that was asked for.

    Raises:
        NotConvergedError: with `strict`.

    """
    shortfall = factors.certificate.shortfall
    if shortfall is None:
        return
    work = scratch_path(Path(out))
    error = NotConvergedError(shortfall, f"{out} holds what there is, {work} the work so far")
    if strict:
        raise error
    complain(as_typed(str(error).replace("error[", "warning[", 1)))


@main.command(name="plan")
@click.argument("data")
@request_options
@storage_option
@at_place
@click.option("--json", "as_json", is_flag=True, help="The plan itself; `bigsvd svd --plan` runs it.")
def plan_command(data: str, place: Place, *, as_json: bool, **options: Any) -> None:
    """Print what a decomposition of DATA will cost.

    Only metadata are read.
    """
    plan = place.plan(data, options)
    click.echo(plan.to_json() if as_json else fitted(str(plan), sys.stdout))


@main.command()
@click.argument("factors")
@at_place
@json_option
def info(factors: str, place: Place, *, as_json: bool) -> None:
    """Print what the factor store FACTORS holds and how good it is."""
    opened = place.result(factors)
    if as_json:
        click.echo(json.dumps(opened.info()))
        return
    tell(format_facts(factors, opened.info()))
    tell(spelled(str(opened.certificate), main.commands["svd"]))  # which can go on from it


@main.command(name="rank")
@click.argument("factors")
@click.option(
    "--energy", type=float, default=None, metavar="NUMBER", help="Share of the squared norm to mark."
)
@click.option("--error", type=float, default=None, metavar="NUMBER", help="Relative error to mark.")
@click.option("--max-bytes", default=None, metavar="SIZE", help="Size to mark, such as 100MB.")
@click.option(
    "--score", default=None, metavar="FILE.py:FUNCTION",
    help="Run this file, and call the function with the factors of rank k, for k = 1, 2, 3, 5, 7, 10, ...: "
         "it returns a number, the higher the better.",
)  # fmt: skip
@click.option(
    "--plot", "plot_file", default=None, metavar="PATH",
    help="Write scree and energy curves, or with --score scores, errors and bytes, to this PNG.",
)  # fmt: skip
@at_place
@json_option
def rank_command(
    factors: str,
    place: Place,
    energy: float | None,
    error: float | None,
    max_bytes: str | None,
    score: str | None,
    plot_file: str | None,
    *,
    as_json: bool,
) -> None:
    """Print accuracy against storage for every k of FACTORS.

    And which k each rule would choose.
    """
    opened = place.result(factors)
    if plot_file is not None:
        check_plot(plot_file, opened.path)
    size = None if max_bytes is None else parse_bytes(max_bytes)
    found, by_score = judged(opened, energy=energy, error=error, max_bytes=size), UNSCORED
    if score is not None:
        by_score = scored_by(score, place.here.result(factors))
        found = replace(found, choices=(*found.choices, by_score.choice))
    if as_json:
        click.echo(json.dumps(found.to_dict() | by_score.to_dict()))
    else:
        click.echo(format_table(found.spectrum, found.choices, scored=by_score))
    if found.said and not as_json:
        tell(found.said)
    if plot_file is not None:
        _plot_rank(found, by_score, plot_file)


def _plot_rank(found: Judged, by_score: Scored, path: str) -> None:
    """Write the plot of what there is: with scores, these beside error and bytes."""
    from bigsvd.report.plots import write_plot  # noqa: PLC0415 - imports matplotlib
    from bigsvd.report.scores import write_scores  # noqa: PLC0415 - the same

    if by_score is UNSCORED:
        write_plot(found.spectrum, found.choices, path, title=found.title)
    else:
        write_scores(found.spectrum, by_score, path, title=found.title)


def _span(text: str, length: int) -> slice:
    """``"10:20"``, ``":5"``, ``"7"`` -> slice within an axis of that length."""
    parts = text.split(":")
    try:
        values = [int(part) if part else None for part in parts]
    except ValueError:
        values = []
    if len(values) == 1 and values[0] is not None:
        start = values[0]
        span = slice(start, start + 1 if start != -1 else None)
    elif len(values) == 2:
        span = slice(*values)
    else:
        raise RequestError(f"{text!r} is not a range", "give start:stop, such as 0:100")
    start, stop, _ = span.indices(length)
    if start >= stop:
        raise RequestError(f"{text!r} selects nothing of 0..{length - 1}", "give a range inside it")
    return slice(start, stop)


def _refuse_to_print(region: tuple[slice, slice]) -> None:
    """`RequestError` where a region has more numbers than anyone reads on a screen."""
    m, n = (span.stop - span.start for span in region)
    if m * n > _MOST_PRINTED:
        raise RequestError(
            f"the region has {m:,} x {n:,} = {m * n:,} numbers, at most {_MOST_PRINTED:,} are printed",
            "give OUT, a name that ends in .npy or .zarr, or fewer --rows and --cols",
        )


@main.command()
@click.argument("factors")
@click.argument("out", required=False)
@click.option("--rows", default=":", show_default=True, metavar="RANGE", help="start:stop or one index.")
@click.option("--cols", default=":", show_default=True, metavar="RANGE", help="start:stop or one index.")
@click.option("-k", "k", type=int, default=None, metavar="N", help="Use only the first N triplets.")
@click.option(
    "--gaps", default=None, metavar="PATH", help="The data that FACTORS are of: NaN where they have no value."
)
@click.option("--unstack", is_flag=True, help="Write whole samples along the axes that the data had.")
@device_option
@storage_option
@click.option("--json", "as_json", is_flag=True, help="Print the region as JSON.")
def reconstruct(
    factors: str,
    out: str | None,
    rows: str,
    cols: str,
    k: int | None,
    gaps: str | None,
    device: DeviceName,
    storage_options: tuple[str, ...],
    *,
    unstack: bool,
    as_json: bool,
) -> None:
    """Compute a region of U diag(s) Vt from FACTORS.

    It is written to OUT (.npy or .zarr), else printed.
    """
    if gaps is None:
        refuse_idle(("storage_options",), "--gaps PATH")
    opened = open_factors(factors).on(device)
    if opened.predicted is not None:
        complain(f"{factors} is {opened.predicted.said}")
    opened = opened if k is None else opened.truncate(k)
    if gaps is not None:
        opened = with_gaps(opened, gaps, storage_options=secrets_of(storage_options))
    region = (_span(rows, opened.kept.shape[0]), _span(cols, opened.kept.shape[1]))
    if out is None:
        if unstack:
            raise RequestError("a region of more axes than two is not printed", "give OUT beside --unstack")
        _refuse_to_print(region)
        block = opened[region]
        if as_json:
            click.echo(json.dumps({"rows": rows, "cols": cols, "values": block.tolist()}))
        else:
            np.savetxt(sys.stdout, block, fmt="%.7g")
        return
    shape = write_region(opened, region, out, unstack=unstack)
    facts = {"out": out, "shape": list(shape), "dtype": opened.dtype.name}
    click.echo(json.dumps(facts) if as_json else f"{out}: {' x '.join(map(str, shape))} {opened.dtype}")


@main.command(name="project")
@click.argument("factors")
@click.argument("data")
@click.argument("out")
@click.option(
    "--method",
    type=click.Choice(PROJECTIONS),
    default=None,
    help="oadp: as if the samples had taken part; where features are far more than samples, simple gives "
    "what is nearer to 0. [default: oadp of genotypes, else simple]",
)
@click.option("-k", "k", type=int, default=None, metavar="N", help="Use only the first N triplets.")
@click.option("--memory", default=None, metavar="SIZE", help="What samples may take of it, such as 1GB.")
@device_option
@storage_option
@json_option
def project_command(
    factors: str,
    data: str,
    out: str,
    method: str | None,
    k: int | None,
    memory: str | None,
    device: DeviceName,
    storage_options: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Write coordinates of new samples DATA, by FACTORS, to OUT.

    OUT is a .npy file or a Zarr array. DATA have the same features in the same order; genotypes count the
    same alleles.
    """
    opened = open_factors(factors).on(device)
    opened = opened if k is None else opened.truncate(k)
    check_array(out, opened.path)
    method = method or opened.usual_projection
    found = project(opened, data, method, memory=memory, storage_options=secrets_of(storage_options))
    write_array(found, out, opened.path)
    facts = {"out": out, "shape": list(found.shape), "method": method}
    told = f"{out}: coordinates of {len(found):,} samples in {opened.k} directions, {method}"
    click.echo(json.dumps(facts) if as_json else told)


@main.command()
@click.argument("factors")
@click.argument("data", required=False)
@cluster_options
@device_option
@storage_option
@at_place
@json_option
def verify(factors: str, data: str | None, device: DeviceName, place: Place, *, as_json: bool) -> None:
    """Check that FACTORS is undamaged and its certificate holds.

    The certificate is checked with DATA only. Exits with 3 where one is not so.
    """
    outcome = place.verify(factors, data, device, Console(sys.stderr, quiet=as_json))
    if as_json:
        click.echo(json.dumps(outcome.to_dict()))
    for finding in outcome.findings[1:]:
        click.echo(f"finding: {finding}", err=True)
    if outcome.findings:
        raise VerifyError(f"{factors}: {outcome.findings[0]}", "do not use it; compute it again")
    if not as_json:
        click.echo(f"{factors}: {_told_of(outcome)}")


def _told_of(outcome: Verification) -> str:
    """What was found of factors that are what they say."""
    if outcome.predicted:
        return f"is undamaged; {outcome.predicted}"
    found = "holds what its certificate promises"
    if outcome.max_residual is None:
        return found
    return f"{found}; worst residual {outcome.max_residual:.2e}, relative error {outcome.relative_error:.6g}"


@main.command()
@click.option(
    "--size", default="1GB", show_default=True, metavar="SIZE", help="Size of the dataset it makes."
)
@click.option(
    "--memory", default=None, metavar="SIZE", help="Budget of the decomposition; default a quarter of --size."
)
@click.option(
    "-k", "k", type=int, default=20, show_default=True, metavar="N", help="Number of singular triplets."
)
@click.option(
    "--dir", "folder", default="bigsvd-demo", show_default=True, metavar="PATH",
    help="Where data, factors and plot go.",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep the dataset.")
@click.option("--json", "as_json", is_flag=True, help="Print only the facts, as JSON.")
def demo(size: str, memory: str | None, k: int, folder: str, *, keep: bool, as_json: bool) -> None:
    """Decompose a dataset that is made larger than memory.

    Its singular values are known, and compared. What may be used of memory is bounded for that.
    """
    from bigsvd.cli.demo import run_demo  # noqa: PLC0415 - imports Dask

    size_bytes = parse_bytes(size)
    budget = size_bytes // 4 if memory is None else parse_bytes(memory)
    facts = run_demo(Path(folder), size_bytes, budget, k, keep=keep, quiet=as_json)
    if as_json:
        click.echo(json.dumps(facts))
