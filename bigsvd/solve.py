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
from typing import Any, Literal

import numpy as np
from distributed import Client

from bigsvd.blas import one_blas_thread
from bigsvd.choosing import GivenRank, RankByRule, Shortfall, Values, chooser_of
from bigsvd.dask_executor import cluster_errors, reachable, sent_part
from bigsvd.device import RESOURCE, Device
from bigsvd.errors import (
    BadInputError,
    DynamicRangeError,
    MemoryBudgetError,
    NonFiniteError,
    OutputExistsError,
    PlanError,
    RankZeroError,
    SourceChangedError,
    StorageError,
    travels,
)
from bigsvd.events import (
    Formed,
    GivenUp,
    PhaseStarted,
    PlanMade,
    Progress,
    Published,
    WarmStartInVain,
    unheard,
)
from bigsvd.executor import with_source
from bigsvd.factors import FOLDER, Factors, open_factors, scratch_path
from bigsvd.facts import NOMINAL_ON_GPU, Machine, Rates, SourceFacts
from bigsvd.floats import silent
from bigsvd.matrix import Matrix
from bigsvd.methods.compressed import compressed
from bigsvd.methods.gram import gram_block
from bigsvd.methods.krylov import KrylovRun
from bigsvd.methods.result import (
    Finish,
    Refit,
    Triplets,
    as_formed,
    finish_krylov,
    noise_floor,
    resolve,
    rounding_of,
    zero_triplets,
)
from bigsvd.methods.starts import Sample, gaussian_block, sample_block, warm_block
from bigsvd.methods.statistics import check_unchanged
from bigsvd.methods.tall_skinny import tall_skinny
from bigsvd.monitor import MemoryMonitor, available_memory
from bigsvd.output import Inputs, Output
from bigsvd.passes import Context, panels_kept
from bigsvd.placement import executor_of, place
from bigsvd.planning import Plan, dask_reads, make_plan
from bigsvd.rates import measure_products, measure_reading, some_chunks
from bigsvd.rehearsal import rehearse
from bigsvd.request import Request
from bigsvd.scratch import Scratch
from bigsvd.solution import Solution, write_factors
from bigsvd.sources.base import Source
from bigsvd.sources.open import open_source
from bigsvd.stopping import TESTS, Answer, PassBudget, nothing_above_noise
from bigsvd.text import human_bytes
from bigsvd.transform import Transform

_WORTH_MEASURING = 3.0  # predicted seconds at nominal rates; the measurement takes a third of one
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
    stop: Literal["residual", "error"] = "residual",
    method: Literal["auto", "krylov", "gram", "tall_skinny", "compressed"] = "auto",
    center: bool = False,
    scale: bool = False,
    device: Literal["auto", "cpu", "gpu"] = "auto",
    memory: int | str | None = None,
    client: Client | None = None,
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
        method: see the method files; "auto" is decided by the planner's arithmetic.
        stop: "residual" or "error", see `tol`.
        center: subtract column means.
        scale: divide columns by population standard deviations (1 for a constant column).
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
            deadline, missing, missing_value, missing_chunks, decode, energy, error, max_bytes,
            power_iterations, iterator, oversampling, compute.

    Raises:
        BadInputError: the request or the data cannot be used (its subclasses say how).
        BigsvdError: the run failed; running the same request again resumes it.

    Warns:
        UserWarning: the tolerance was not reached within `max_passes` or the deadline.

    """
    opened = open_source(source, storage_options=storage_options, **_reading(options))
    request = make_request(
        opened, k, out, tol=tol, stop=stop, method=method, center=center, scale=scale, device=device,
        memory=memory, max_passes=max_passes, seed=seed, overwrite=overwrite, **options,
    )  # fmt: skip
    factors = run(request, opened, client=client, progress=progress or unheard)
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
    request = make_request(opened, k, out, **options)
    return make_plan(request, opened.facts, place(request, opened.facts, client)[0])


def _reading(options: dict[str, Any]) -> dict[str, Any]:
    """Those of a request's options that say how its source is to be read."""
    return {name: options[name] for name in ("missing_chunks", "decode", "missing") if name in options}


def make_request(source: Source, k: Any, out: str | Path | None, **options: Any) -> Request:
    """A `Request` from Python arguments; paths and factors stand for their names."""
    for name in ("stage", "warm_start"):
        given = options.get(name)
        if isinstance(given, (Factors, Path)):
            options[name] = str(given.path if isinstance(given, Factors) else given)
    unknown = sorted(set(options) - set(Request.__dataclass_fields__))
    if unknown:
        message = f"svd() got an unexpected keyword argument {unknown[0]!r}"
        raise TypeError(message)
    return Request(source=source.facts.name, k=k, out=str(out) if out is not None else None, **options)


@silent
def run(
    request: Request,
    source: Source,
    *,
    plan: Plan | None = None,
    client: Client | None = None,
    progress: Progress = unheard,
    should_stop: Callable[[], bool] = _never,
) -> Factors:
    """Carry out a request on an opened source; `should_stop` is asked after every pass."""
    output = Output(request.out, overwrite=request.overwrite, inputs=_inputs(request, source))
    if request.warm_start is not None:
        open_factors(request.warm_start)  # refused at the door, where nothing has been made yet
    machine, device = place(request, source.facts, client)
    source = source if client is None else reachable(source, client)
    pinned = plan is not None
    if plan is None:
        rehearse(request, source, machine, client)
        plan = make_plan(request, source.facts, machine)
        if not _begun(request):
            plan = _at_measured_rates(plan, request, source, machine, device, client)
    plan.check_source(source.facts)
    _check_device(plan, machine)
    with output:
        scratch, plan, resumed = _prepare_scratch(output, request, plan, machine, progress, pinned=pinned)
        progress(PlanMade(plan, resumed, str(output.scratch), scratch.finished_passes()))
        with executor_of(client, plan) as executor, one_blas_thread, MemoryMonitor() as monitor:
            context = Context(executor, plan, source, scratch, device, progress)
            with _swept_if_useless(output, scratch, resumed):
                with panels_kept(context):
                    solution = _Run(request, context, should_stop).solve()
                _tell_of_warm_start(solution, request, source.facts, machine, progress)
                progress(PhaseStarted("writing and verifying the factors"))
                write_factors(solution, context, request, monitor)
                factors = output.publish()
        if factors.certificate.converged or request.out is None:
            output.tidy()
        progress(Published(str(factors.path), str(output.scratch)))
        return factors


def _tell_of_warm_start(
    solution: Solution, request: Request, facts: SourceFacts, machine: Machine, progress: Progress
) -> None:
    """Say so where starting from other factors took no fewer passes than a run without them usually does."""
    if request.warm_start is None:
        return
    expected = solution.matrix.context.plan.expected_passes
    usual = make_plan(replace(request, warm_start=None), facts, machine).expected_passes
    if solution.passes > expected and solution.passes >= usual:
        progress(WarmStartInVain(solution.passes, usual))


def _inputs(request: Request, source: Source) -> Inputs:
    """What of the run's files is not to be touched when an old result is replaced."""
    warm_start = None if request.warm_start is None else Path(request.warm_start)
    stage = None if request.stage is None else Path(request.stage)
    return Inputs(source.places, warm_start, stage)


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


def _at_measured_rates(
    plan: Plan, request: Request, source: Source, machine: Machine, device: Device, client: Client | None
) -> Plan:
    """The plan at rates that are measured as far as that pays: a quick run needs no more than its reading."""
    budget_bytes, quick = machine.budget_bytes, plan.seconds <= _WORTH_MEASURING
    if quick and source.facts.reader != "measured":
        return plan
    rates = _measured(client, reading_here, source, device, budget_bytes)
    plan = make_plan(request, source.facts, machine, rates)
    if quick and plan.seconds <= _WORTH_MEASURING:
        return plan
    rates = _measured(client, products_here, source, device, budget_bytes, rates, plan.compute_dtype)
    return make_plan(request, source.facts, machine, rates)


def _measured(
    client: Client | None, measure: Callable[..., Rates], source: Source, device: Device, *more: Any
) -> Rates:
    """Rates of this machine, or of a worker that has the device."""
    if client is None:
        return measure(source, device, *more)
    where = {RESOURCE: 1} if device.apart else {}
    part = sent_part(client, source, some_chunks(source.facts))
    with cluster_errors():
        measuring = client.submit(
            with_source, measure, part.source, part.values, device, *more, pure=False, resources=where
        )
        rates: Rates = measuring.result()
    return rates


@travels
def reading_here(source: Source, device: Device, budget_bytes: int) -> Rates:
    """`measure_reading` in this process, of whose memory a run of that budget leaves the rest to files."""
    return measure_reading(source, device, available_memory() - budget_bytes)


@travels
def products_here(source: Source, device: Device, budget_bytes: int, rates: Rates, dtype: str) -> Rates:
    """`measure_products` with BLAS held to one thread; nominal rates where a GPU has no memory for it."""
    try:
        with one_blas_thread:
            return measure_products(rates, source, device, dtype, budget_bytes)
    except Exception as error:
        if not device.is_out_of_memory(error):
            raise
        return NOMINAL_ON_GPU


def _check_device(plan: Plan, machine: Machine, begun: str = "") -> None:
    """`PlanError` where a plan, or a run `begun` with it, is for another kind of device or more of it."""
    if plan.apart == machine.apart and plan.device_bytes <= machine.device_budget_bytes:
        return
    taken = f" with {human_bytes(plan.device_bytes)} of its memory" if plan.apart else ""
    there = f", {human_bytes(machine.device_budget_bytes)} of it" if machine.apart else ""
    raise PlanError(
        f"{begun + ' was begun' if begun else 'the plan is'} for {plan.device}{taken}; here is "
        f"{machine.device}{there} ({machine.device_reason})",
        f"continue it there, or delete {begun} to begin again" if begun else "make a new plan",
    )


def _begun(request: Request) -> bool:
    """Whether a run that was stopped has left its plan, and this version knows such plans."""
    if request.out is None:
        return False
    return _plan_of(Scratch(scratch_path(Path(request.out))).recorded("run")) is not None


def _prepare_scratch(
    output: Output, request: Request, plan: Plan, machine: Machine, progress: Progress, *, pinned: bool
) -> tuple[Scratch, Plan, bool]:
    """The scratch to work in: one left by a run of the same problem on the same source, else a new one.

    A run that is continued keeps the plan it began with, unless another is `pinned`. What another request has
    finished is given up for `overwrite` only.
    """
    scratch = Scratch(output.scratch, output.resume())
    found = scratch.recorded("run") if scratch.run else None
    if found is not None:
        old = _plan_of(found)
        differences = _differences(found, old, request, plan, pinned=pinned)
        if old is not None and not differences:
            if old.memory_bytes > machine.budget_bytes:
                raise MemoryBudgetError(
                    f"{output.scratch} was planned for {human_bytes(old.memory_bytes)}, the budget is now "
                    f"{human_bytes(machine.budget_bytes)}",
                    f"give that much memory to continue, or delete {output.scratch} to begin again",
                )
            _check_device(old, machine, str(output.scratch))
            scratch.remove(FOLDER)
            return scratch, replace(old, request=request, max_passes=plan.max_passes), True
        if scratch.recorded("checksums") is not None:
            _give_up(scratch, differences, request, progress)
    scratch = Scratch(output.scratch, output.begin())
    scratch.record("run", {"plan": json.loads(plan.to_json()), "problem": request.problem()})
    return scratch, plan, False


def _differences(
    found: dict[str, Any], old: Plan | None, request: Request, plan: Plan, *, pinned: bool
) -> list[str]:
    """What was otherwise in the run that left scratch: fields of its request, its data, its plan."""
    if old is None:
        return [_OTHER_VERSION]
    before, now = json.loads(found["problem"]), json.loads(request.problem())
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    differences = [f"{name}={before.get(name)!r} (now {now.get(name)!r})" for name in names]
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


class _Run:
    """One request under way."""

    def __init__(self, request: Request, context: Context, should_stop: Callable[[], bool]) -> None:
        self.request = request
        self.context = context
        self.plan = context.plan
        transform = Transform.of(request, context.source.facts)
        self.matrix = Matrix(context, transform, self.plan.compute_dtype)
        self.chooser = chooser_of(request, self.plan)
        self.test = TESTS[request.stop](request, self.matrix, self.chooser)
        self.budget = PassBudget(self.matrix, request.deadline, should_stop)

    def solve(self) -> Solution:
        """The method of the plan."""
        method, matrix = self.plan.method, self.matrix
        sample, behind = Sample(matrix) if self.plan.sample else None, None
        if method == "tall_skinny":
            return self._by_dask(tall_skinny(matrix, self.plan.k))
        if method == "compressed":
            return self._by_dask(compressed(matrix, self.plan.k, self.request))
        if method == "gram":
            block = gram_block(matrix)
        elif self.request.warm_start is not None:
            block = warm_block(
                matrix, open_factors(self.request.warm_start), self.request.seed, self.test.resolution
            )
        elif self.plan.sample:
            block, behind = sample_block(matrix, self.request.seed, self.test.resolution)
        else:
            block = gaussian_block(matrix, self.request.seed)
        return self._iterate(KrylovRun(matrix, block, self.request.seed, sample, behind))

    @property
    def _passes(self) -> float:
        """Passes made, with the share of one that the sample is."""
        return self.matrix.passes + (self.plan.sample_share if self.matrix.sample_costs else 0.0)

    def _by_dask(self, triplets: Triplets) -> Solution:
        converged = self._within_tolerance(triplets)
        passes = dask_reads(self.plan.method, self.request) + self.matrix.passes
        return Solution(
            self.matrix, triplets, converged, None if converged else self._lack_of_iterations(), None, None,
            passes, self.budget.elapsed_seconds,
        )  # fmt: skip

    def _iterate(self, run: KrylovRun) -> Solution:
        """Passes until the tolerance, the budget, the deadline or the user says stop."""
        matrix, request = self.matrix, self.request
        stopped: Shortfall | None = None
        while True:
            run.advance()
            if matrix.known and matrix.norm_squared == 0:
                return self._zero()
            over = self.budget.lack(run.next_name)
            if run.subspace.width == 0:
                continue
            answer = self.test.judge(run.subspace)
            self.context.progress(self.test.event(answer))
            audit = run.audit(answer.ritz, min(answer.k or 1, run.subspace.width))
            unseen = audit is not None and audit.unseen_direction
            if answer.converged and answer.k is not None and not unseen:
                break
            if over is not None:
                stopped = over
                break
            run.extend(answer.ritz, answer.k if self.test.counts_residuals else None, request.tol)
            if self.test.needs_float64(answer, exhausted=run.exhausted):
                run.restart_in_float64()
                self.test.begin_again()
                continue
            if self._finished(run, answer):
                break
        self.context.progress(PhaseStarted("forming the singular vectors"))
        triplets, lack = self._form(run, answer, stopped)
        self.context.progress(Formed())
        by_error = answer.converged and not self.test.counts_residuals
        followed = lack is None or not lack.of_rule
        converged = (by_error or self._within_tolerance(triplets)) and followed
        passes = self._passes
        if any(cost.resumed for cost in matrix.costs) and not any(cost.checked for cost in matrix.costs):
            check_unchanged(matrix)
        return Solution(
            matrix, triplets, converged, lack, audit, answer.excess, passes, self.budget.elapsed_seconds
        )

    def _finished(self, run: KrylovRun, answer: Answer) -> bool:
        """Whether no pass could help: no direction is left, or no room for those that a rule needs."""
        chooser = self.chooser
        if isinstance(chooser, GivenRank):
            return run.exhausted
        if run.exhausted:
            return not (chooser.wants_fine(answer.values) and run.fill())
        if not run.full or (answer.k is not None and answer.k <= chooser.capacity()):
            return False
        needed = chooser.needed(answer.values)
        return needed is None or needed > chooser.capacity()

    def _form(
        self, run: KrylovRun, answer: Answer, stopped: Shortfall | None
    ) -> tuple[Triplets, Shortfall | None]:
        """The triplets of the last answer, and what they lack, if anything.

        Raises:
            RankZeroError: nothing stands above the noise.

        """
        chooser, values, k, resolved, lack = self.chooser, answer.values, answer.k, None, stopped
        if isinstance(chooser, RankByRule) and chooser.wants_fine(values):
            resolved = resolve(run)
            values = replace(values, sigma=resolved.sigma)
            k = chooser.refit(resolved.sigma, np.zeros(0), values, summed=values.complete)
            k = k if k is not None and k <= self._solid(resolved.sigma) else None
        if answer.pick.k == 0:
            raise nothing_above_noise(answer.pick)
        if k is None and isinstance(chooser, RankByRule):
            lack = self._lack_of_values(chooser, values, stopped, exhausted=run.exhausted)
        elif stopped is None and not answer.converged and resolved is None:
            lack = self._lack_of_directions(answer)
        refit: Refit = as_formed
        if k is not None and isinstance(chooser, RankByRule):
            summed = resolved is not None and values.complete
            refit = partial(chooser.refit, values=values, summed=summed)
        if k is None:
            k = max(1, run.subspace.width // 2)
        finish = Finish(k, self.request.tol, refit, self._eps(), resolved, values.complete)
        triplets = finish_krylov(run, finish)
        if (
            lack is None
            and isinstance(chooser, RankByRule)
            and refit(triplets.sigma, triplets.beyond) is None
        ):
            lack = chooser.lack_of_precision(values, triplets.sigma.size)
        return triplets, lack

    def _within_tolerance(self, triplets: Triplets) -> bool:
        """Every residual at the tolerance, or at the rounding of what it was computed from."""
        sigma = triplets.sigma
        if sigma[0] == 0:
            return True
        power = 2 if triplets.basis == "ritz" else 1
        least = 100 * self.matrix.eps if self.matrix.dtype == "float64" else 0.0
        rounding = least * (sigma[0] / sigma) ** power
        return bool(np.all(triplets.residuals <= np.maximum(self.request.tol, rounding)))

    def _zero(self) -> Solution:
        if self.request.k == "auto":
            raise RankZeroError("the matrix is zero, so no rank explains it", "give a number k")
        triplets = zero_triplets(self.matrix, self.plan.k)
        passes = self._passes
        return Solution(self.matrix, triplets, True, None, None, 0.0, passes, self.budget.elapsed_seconds)

    def _eps(self) -> float:
        """Relative rounding below which values are not formed: of data too, unless a rule counts on them."""
        by_share = isinstance(self.chooser, RankByRule) and self.request.max_bytes is None
        return self.matrix.eps if by_share else rounding_of(self.matrix)

    def _solid(self, sigma: np.ndarray) -> int:
        """How many of these values are above rounding."""
        return max(1, int(np.sum(sigma > noise_floor(self.matrix, float(sigma[0]), self._eps()))))

    def _lack_of_values(
        self, chooser: RankByRule, values: Values, stopped: Shortfall | None, *, exhausted: bool
    ) -> Shortfall:
        """Why a rule found no k: memory that no pass replaces, else what ended the passes, else rounding."""
        needed, solid = chooser.needed(values), self._solid(values.sigma)
        if values.complete or exhausted:
            return chooser.lack_of_precision(values, solid)
        if needed is None or needed > chooser.capacity():
            return chooser.lack_of_memory(values)
        return replace(stopped, of_rule=True) if stopped else chooser.lack_of_precision(values, solid)

    def _lack_of_directions(self, answer: Answer) -> Shortfall:
        return Shortfall(
            f"rounding of {self.matrix.dtype} products shows no further direction",
            f"ask for tol={min(1.0, 1.1 * answer.worst):.1e} or a smaller k",
        )

    def _lack_of_iterations(self) -> Shortfall:
        """Why a method of Dask's did not reach the tolerance."""
        if self.plan.method == "compressed":
            made = self.request.power_iterations or 0
            remedy = (
                f"ask for power_iterations={made + 2}, or method='krylov', which goes on until it is reached"
            )
            return Shortfall(f"{made} power iterations do not reach it", remedy)
        return Shortfall(
            f"rounding of {self.matrix.dtype} products", "ask for a smaller k or method='krylov'"
        )


def load_plan(path: Path) -> Plan:
    """A plan saved by ``bigsvd plan --json``."""
    try:
        return Plan.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} cannot be read ({error})", "check the path") from error
