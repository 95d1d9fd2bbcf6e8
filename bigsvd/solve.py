"""`svd`: Request -> Plan -> method -> Factors; the one orchestrator, resumes from scratch.

Everything a killed run needs lies in `<out>.scratch`: the plan it runs, each pass's block, sums and rows of
Y. Running the same request again replays what is recorded there and goes on; the bits are those of a run that
was never killed.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from bigsvd.catalog.table import load
from bigsvd.certify import write_factors
from bigsvd.errors import (
    BadInputError,
    DamagedScratchError,
    DynamicRangeError,
    MemoryBudgetError,
    NonFiniteError,
    OutputExistsError,
    PlanError,
    RankZeroError,
    RequestError,
    SourceChangedError,
    StorageError,
)
from bigsvd.events import (
    ChunksAbsent,
    GivenUp,
    MachinesDiffer,
    PhaseStarted,
    PlanMade,
    Progress,
    Published,
    ScratchDamaged,
    WarmStartInVain,
    unheard,
)
from bigsvd.execution.passes import Context, panels_kept
from bigsvd.execution.placement import executor_in_turn, nominal_plan, offer_for, plan_for_run
from bigsvd.facts import LINES, Machine, SourceFacts
from bigsvd.floats import silent
from bigsvd.machine.blas import one_blas_thread
from bigsvd.machine.monitor import MemoryMonitor
from bigsvd.machine.software import differences, joined, kinds_of, machine_here
from bigsvd.methods.goal import Goal, Solution
from bigsvd.methods.matrix import Matrix
from bigsvd.methods.statistics import check_unchanged
from bigsvd.planning.plan import Plan
from bigsvd.planning.planner import make_plan
from bigsvd.request import GENOTYPE_SCALES, READING, Request
from bigsvd.results.factors import Factors, open_factors
from bigsvd.results.folders import scratch_path
from bigsvd.results.output import Inputs, Output
from bigsvd.scratch import MACHINES, PLAN, RESULT, HeldScratch, Scratch
from bigsvd.slabs.transform import Given, Transform
from bigsvd.sources.base import Source
from bigsvd.sources.open import open_source
from bigsvd.sources.selected import name_of
from bigsvd.sources.transposed import streamed
from bigsvd.sources.vectors import Vectors, lined_up, name_vectors
from bigsvd.units import human_bytes

if TYPE_CHECKING:
    from bigsvd.execution.cluster import DaskClient

_MENDINGS = 3  # of one scratch in a run; what is damaged then is a disk
_OTHER_DATA = "other data under the same name"
_OTHER_VERSION = "another version of bigsvd"


def _never() -> bool:
    return False


def svd(
    source: Any,
    k: int | Literal["auto"],
    out: str | Path | None = None,
    *,
    tol: float = 1e-2,
    stop: Literal["residual", "error", "signal", "estimate"] = "residual",
    method: str = "auto",
    center: bool = False,
    scale: Any = False,
    device: Literal["auto", "cpu", "gpu"] = "auto",
    memory: int | str | None = None,
    client: DaskClient | None = None,
    max_passes: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Factors:
    """A ≈ U·diag(s)·Vt, certified: the k leading singular triplets of a matrix that may exceed memory.

    Args:
        source: path or URL of a Zarr array, or a Zarr, Dask, xarray or NumPy array, (m, n), real.
        k: number of triplets, 1..min(m, n), or "auto" with one of `energy`, `error`, `max_bytes`, or by
            noise.
        out: path of the factor store; without one it is temporary and lives as long as the returned value.
        tol: bound on the worst relative residual, or with ``stop="error"`` on the excess of
            ‖A−U·s·Vt‖_F/‖A‖_F over the best possible for k.
        method: "krylov", "gram", "tall_skinny" or "compressed", see the method files; "auto" is decided by
            the planner's arithmetic.
        stop: "residual" or "error", see `tol`; "signal": the residual of those of the k triplets alone that
            stand above the noise, see `Signal` in the certificate; "estimate": that of V and s alone (of U
            and s where A is wide), foretold a read before it is proved, see `Foretold` there.
        center: subtract the mean of each feature: of each column where the samples are the rows.
        scale: divide features: by the standard deviation of all entries, gaps filled (True or "std", with
            option ddof 0 or 1) or of the observed ones ("std-observed"); by √(p(1−p)) ("patterson") or
            √(2p(1−p)) ("binom2") for genotypes that count an allele of frequency p, half the mean; by 1 where
            that is 0; or by given numbers, an array or the path or URL of one.
        memory: bytes, or "1GB": what the run may hold beyond the interpreter and its libraries.
            The option device_memory is bytes of a GPU's own memory; four fifths of what is free by default.
        device: "cpu", "gpu", or "auto": a GPU where there is one that works.
        client: a Dask client; without one, threads of this process.
        max_passes: most passes of the iteration, the sample not counted; 20 where it is None. See `Request`.
        seed: of everything random; the same seed, plan and data give the same bits.
        overwrite: replace a published result, once the new one is verified.
        storage_options: for the store of a URL (anon, key, secret, endpoint_url, region, …); kept nowhere.
        progress: called with each `bigsvd.events.Event`, from any thread.
        options: further fields of `Request`: device_memory, stage, warm_start (a path, or the `Factors`),
            deadline, precision, missing, missing_value, missing_chunks, decode, samples, dim, sum, rows, cols
            (a slice, truth values, indices, or the path of these), energy, error, max_bytes, ddof; functions,
            texts such as ["normalize_total:1e4", "log1p"], which are applied to all entries first: what is
            decomposed, and reconstructed, is then f(A); given vectors, arrays or paths as for scale: offset,
            for each feature, subtracted instead of means; weights for each feature and row_weights for each
            sample, not negative, which multiply them at last (means and deviations are of A, unweighted),
            laid out as `along_lines` has it; and those of a method, see `catalog.options`: power_iterations,
            iterator, oversampling, compute.

    Raises:
        BadInputError: the request or the data cannot be used (its subclasses say how).
        BigsvdError: the run failed; running the same request again resumes it.

    Warns:
        UserWarning: the tolerance was not reached within `max_passes` or the deadline.

    """
    opened = open_source(source, storage_options=storage_options, **_reading(options))
    options["scale"] = scale
    vectors = name_vectors(options, storage_options)
    request = make_request(
        opened, k, out, tol=tol, stop=stop, method=method, center=center, device=device,
        memory=memory, max_passes=max_passes, seed=seed, overwrite=overwrite, **options,
    )  # fmt: skip
    factors = run(request, opened, vectors=vectors, client=client, progress=progress or unheard)
    for text in factors.certificate.warnings:
        warnings.warn(text, UserWarning, stacklevel=2)
    return factors


@silent
def plan(source: Any, k: int | Literal["auto"], out: str | Path | None = None, **options: Any) -> Plan:
    """The plan for these arguments at nominal rates, from metadata alone.

    `svd` measures its rates before a long run, and may then choose another method, block width or number of
    lanes; a saved plan runs as it stands.
    """
    client = options.pop("client", None)
    options.pop("progress", None)
    secret = options.pop("storage_options", None)
    opened = open_source(source, storage_options=secret, **_reading(options))
    vectors = name_vectors(options, secret)
    return foresee(make_request(opened, k, out, **options), opened, vectors=vectors, client=client)


def foresee(
    request: Request,
    source: Source,
    *,
    vectors: Vectors = MappingProxyType({}),
    client: DaskClient | None = None,
) -> Plan:
    """The plan of a request on an opened source at nominal rates: the matrix is not read.

    `vectors` are those that the request names, by option; the others are opened by their names.

    Raises:
        BadInputError: what metadata and vectors show to be impossible.

    """
    _refuse_variants_as_samples(request, source.facts)
    lined_up(request, source, vectors)
    return nominal_plan(request, source.facts, client)


def _reading(options: dict[str, Any]) -> dict[str, Any]:
    """Those of a request's options that say how its source is to be read."""
    return {name: options[name] for name in READING if name in options}


def _refuse_variants_as_samples(request: Request, facts: SourceFacts) -> None:
    """`RequestError` for genotypes that are standardised by person: the answer would look right."""
    axis = facts.samples_axis
    if request.own_scale in GENOTYPE_SCALES and facts.dims[axis : axis + 1] == ("variants",):
        raise RequestError(
            f"{facts.name} has variants along its {LINES[axis]}s, which are taken for the samples",
            f"give samples='{LINES[1 - axis]}s'",
        )


def make_request(source: Source, k: Any, out: str | Path | None, **options: Any) -> Request:
    """A `Request` from Python arguments; paths and factors stand for their names."""
    for name in ("stage", "warm_start"):
        given = options.get(name)
        if isinstance(given, (Factors, Path)):
            options[name] = str(given.path if isinstance(given, Factors) else given)
    for name in ("rows", "cols"):
        options[name] = name_of(options.get(name))
    return Request.of(source.facts.name, k, out=str(out) if out is not None else None, **options)


@silent
def run(
    request: Request,
    source: Source,
    *,
    vectors: Vectors = MappingProxyType({}),
    plan: Plan | None = None,
    client: DaskClient | None = None,
    progress: Progress = unheard,
    should_stop: Callable[[], bool] = _never,
) -> Factors:
    """Carry out a request on an opened source.

    `should_stop` is asked after every pass, and while the run waits for others on its cluster.

    `vectors` are those that the request names, by option; the others are opened by their names.
    """
    _refuse_variants_as_samples(request, source.facts)
    vectors = lined_up(request, source, vectors)
    output = Output(request.out, overwrite=request.overwrite, inputs=Inputs.of(request, source.places))
    if request.warm_start is not None:
        open_factors(request.warm_start)  # refused at the door, where nothing has been made yet
    _look_for_chunks(source, progress)
    with executor_in_turn(client, request, progress, should_stop) as executor:
        offers = executor.machines(request)
        source = executor.reach(source)
        pinned = plan is not None
        if plan is None:
            measured = not _begun(request)  # else the plan that the run began with is found in scratch
            plan, offer = plan_for_run(request, source, executor, offers, measured=measured)
        else:
            plan, offer = replace(plan, request=request), offer_for(plan, offers)
        plan.check_source(source.facts)
        _check_device(plan, offer.machine)
        with output:
            digests = {option: vector.digest for option, vector in vectors.items()}
            scratch, plan, resumed = _prepare_scratch(
                output, request, plan, digests, offer.machine, progress, pinned=pinned
            )
            if client is None and request.out is None:
                scratch = HeldScratch.of(scratch, plan.held_scratch_bytes)
            _note_machines(scratch, executor.everywhere(machine_here), progress)
            progress(PlanMade(plan, resumed, str(output.scratch), scratch.finished_passes()))
            with executor.for_run(plan) as running, one_blas_thread, MemoryMonitor() as monitor:
                B = streamed(source, transposed=plan.transposed)
                begin = partial(Context, running, plan, B, scratch, offer.device, progress)
                asked = partial(_asked, output, should_stop)
                with _swept_if_useless(output, scratch, resumed):
                    solution = _solve_mending(request, begin, vectors, asked)
                    _tell_of_warm_start(solution, request, source.facts, offer.machine, progress)
                    progress(PhaseStarted("writing and verifying the factors"))
                    given = {option: vector.values for option, vector in vectors.items()}
                    write_factors(solution, request, given, monitor)
                    factors = output.publish()
            if factors.certificate.converged or request.out is None:
                output.tidy()
            progress(Published(str(factors.path), str(output.scratch)))
            return factors


def _note_machines(scratch: Scratch, found: list[dict[str, str]], progress: Progress) -> None:
    """Record of which kinds the processes of the run are; tell where these differ, or from those before."""
    before = (scratch.recorded(MACHINES) or {"kinds": []})["kinds"]
    now = kinds_of(found)
    for said in differences(before, now):
        progress(MachinesDiffer(said))
    scratch.record(MACHINES, {"kinds": joined(before, now)})


def _look_for_chunks(source: Source, progress: Progress) -> None:
    """Refuse now, not after hours, what a pass would find missing; say how many chunks are not there."""
    m, n = source.facts.shape
    absent = source.absent_chunks(slice(0, m), slice(0, n))
    if absent:
        progress(ChunksAbsent(absent))


def _tell_of_warm_start(
    solution: Solution, request: Request, facts: SourceFacts, machine: Machine, progress: Progress
) -> None:
    """Say so where starting from other factors took no fewer passes than a run without them usually does."""
    if request.warm_start is None:
        return
    expected = solution.matrix.context.plan.expected_passes
    usual = make_plan(replace(request, warm_start=None), facts, machine).expected_passes
    apart = solution.matrix.context.plan.sums_apart
    if solution.passes + apart > expected and solution.passes + apart >= usual:
        progress(WarmStartInVain(solution.passes, usual))


@contextmanager
def _swept_if_useless(output: Output, scratch: Scratch, resumed: bool) -> Iterator[None]:
    """Remove scratch that no later run can use, so that a refused request leaves nothing behind.

    It is of no use where the data or the request can only be changed: after `NonFiniteError`,
    `SourceChangedError`, `RankZeroError` and the like. Other data that are refused in the middle, such as a
    damaged chunk, can be restored: what finished passes have learned of them then still holds, so they stay.
    """
    try:
        yield
    except (NonFiniteError, DynamicRangeError, SourceChangedError, RankZeroError):
        output.sweep()
        raise
    except BadInputError:
        if not resumed and scratch.recorded("checksums") is None:
            output.sweep()
        raise
    except OSError as error:
        raise StorageError(f"storage failed ({error})", "remove the cause and run again to resume") from error


def _check_device(plan: Plan, machine: Machine, begun: str = "") -> None:
    """`PlanError` where a plan, or a run `begun` with it, is for another kind of device or more of it."""
    if plan.fits_device(machine):
        _check_products(plan, machine, begun)
        return
    taken = f" with {human_bytes(plan.device_bytes)} of its memory" if plan.has_own_memory else ""
    there = f", {human_bytes(machine.device_budget_bytes)} of it" if machine.has_own_memory else ""
    raise PlanError(
        f"{begun + ' was begun' if begun else 'the plan is'} for {plan.device}{taken}; here is "
        f"{machine.device}{there} ({machine.device_reason})",
        f"continue it there, or delete {begun} to begin again" if begun else "make a new plan",
    )


def _check_products(plan: Plan, machine: Machine, begun: str) -> None:
    """`PlanError` where a plan, or a run `begun` with it, has products that this machine cannot make."""
    if plan.rough and plan.rough_dtype not in machine.rough_dtypes:
        raise PlanError(
            f"{begun + ' was begun' if begun else 'the plan is'} with products in {plan.rough_dtype}, "
            "for which torch is not installed here",
            f"install it, or delete {begun} to begin again" if begun else "install it, or make a new plan",
        )


def _begun(request: Request) -> bool:
    """Whether a run that was stopped has left its plan, and this version knows such plans."""
    if request.out is None:
        return False
    return _plan_of(Scratch(scratch_path(Path(request.out))).recorded(PLAN)) is not None


def _prepare_scratch(
    output: Output,
    request: Request,
    plan: Plan,
    digests: dict[str, str],
    machine: Machine,
    progress: Progress,
    *,
    pinned: bool,
) -> tuple[Scratch, Plan, bool]:
    """The scratch to work in: one left by a run of the same problem on the same source, else a new one.

    It is the same where the vectors that are given have the same `digests`, whatever their names.
    A run that is continued keeps the plan it began with, unless another is `pinned`. What another request has
    finished is given up for `overwrite` only.
    """
    left = Scratch(output.scratch)  # looked at: a request that is refused changes nothing
    found = left.recorded(PLAN)
    if found is not None:
        old = _plan_of(found)
        differences = _differences(found, old, request, plan, digests, pinned=pinned)
        if old is not None and not differences:
            if old.memory_bytes > machine.budget_bytes:
                raise MemoryBudgetError(
                    f"{output.scratch} was planned for {human_bytes(old.memory_bytes)}, the budget is now "
                    f"{human_bytes(machine.budget_bytes)}",
                    f"give that much memory to continue, or delete {output.scratch} to begin again",
                )
            _check_device(old, machine, str(output.scratch))
            scratch = Scratch(output.scratch, output.resume())
            scratch.remove(RESULT)
            return scratch, replace(old, request=request, max_passes=plan.max_passes), True
        if left.recorded("checksums") is not None:
            _give_up(left, differences, request, progress)
    scratch = Scratch(output.scratch, output.begin())
    scratch.record(PLAN, {"plan": plan.to_dict(), "problem": request.problem(), "vectors": digests})
    if request.out is not None:
        scratch.settle(PLAN)
    return scratch, plan, False


def _differences(
    found: dict[str, Any],
    old: Plan | None,
    request: Request,
    plan: Plan,
    digests: dict[str, str],
    *,
    pinned: bool,
) -> list[str]:
    """What was otherwise in the run that left scratch: fields of its request, its data, its plan."""
    if old is None:
        return [_OTHER_VERSION]
    before, now = json.loads(found["problem"]), json.loads(request.problem())
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    differences = [f"{name}={before.get(name)!r} (now {now.get(name)!r})" for name in names]
    given = found.get("vectors", {})
    differences += [f"other values of {option}" for option in digests if given.get(option) != digests[option]]
    same_data = old.facts.same_data(plan.facts)
    if not same_data and "source" not in names:
        differences.append(_OTHER_DATA)
    same_plan = not pinned or replace(old, request=plan.request, max_passes=plan.max_passes) == plan
    return differences if same_plan else differences or ["another plan"]


def _give_up(scratch: Scratch, differences: list[str], request: Request, progress: Progress) -> None:
    """Say that finished passes of another request are deleted; without `overwrite` they are not.

    Those of data that have been replaced since can never be continued, and so are.
    """
    if not request.overwrite and differences == [_OTHER_VERSION]:
        raise OutputExistsError(
            f"{scratch.path} holds finished passes of {_OTHER_VERSION}",
            "continue it with that version, use overwrite to give it up, or choose another output",
        )
    told = f"{scratch.path} holds finished passes of another request: {', '.join(differences)}"
    if not request.overwrite and differences != [_OTHER_DATA]:
        raise OutputExistsError(
            told, "ask for the same to continue it, use overwrite to give it up, or choose another output"
        )
    progress(GivenUp(str(scratch.path), tuple(differences)))


def _plan_of(found: dict[str, Any] | None) -> Plan | None:
    """The plan of a run that left scratch; None of another version of bigsvd."""
    try:
        return None if found is None else Plan.from_dict(found["plan"])
    except PlanError:
        return None


def _asked(output: Output, should_stop: Callable[[], bool]) -> bool:
    """Whether the run is to stop, asked after every pass; `SupersededError` if it is no more this one's."""
    output.check()
    return should_stop()


def _solve_mending(
    request: Request, begin: Callable[[], Context], vectors: Vectors, should_stop: Callable[[], bool]
) -> Solution:
    """The same as `_solve`; where scratch turns out to be damaged, what is lost of it is computed again."""
    for _ in range(_MENDINGS):
        context = begin()
        try:
            with panels_kept(context):
                return _solve(request, context, vectors, should_stop)
        except DamagedScratchError as error:
            context.progress(ScratchDamaged(error.message))
            context.scratch.discard_damaged()
    context = begin()
    with panels_kept(context):
        return _solve(request, context, vectors, should_stop)


def _solve(request: Request, context: Context, vectors: Vectors, should_stop: Callable[[], bool]) -> Solution:
    """The plan's method, on the matrix as it is to be decomposed."""
    given = Given.of({option: vector.values for option, vector in vectors.items()})
    source = context.source
    transform = Transform.of(request, source.facts)
    matrix = Matrix(context, transform, context.plan.compute_dtype, given)
    goal = Goal.of(request, matrix, should_stop)
    solution: Solution = load(context.plan.method).run(matrix, goal)
    if any(cost.resumed for cost in matrix.costs) and not any(cost.checked for cost in matrix.costs):
        check_unchanged(matrix)
    return replace(solution, seconds=goal.budget.elapsed_seconds)


def load_plan(path: Path) -> Plan:
    """A plan saved by ``bigsvd plan --json``."""
    try:
        return Plan.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} cannot be read ({error})", "check the path") from error
