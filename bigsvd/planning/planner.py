"""Request + source facts + machine -> `Plan`: pure arithmetic, nothing is read."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from bigsvd.catalog.table import runs_on_dask
from bigsvd.catalog.widths import BEYOND, PROBES, whole_columns
from bigsvd.errors import MemoryBudgetError, RankError, RequestError
from bigsvd.facts import NOMINAL, NOMINAL_ON_GPU, Machine, Rates, SourceFacts
from bigsvd.floats import silent
from bigsvd.planning.cost import Cost, Prospect, besides
from bigsvd.planning.demands import Demands, Question, demands_of
from bigsvd.planning.layout import Layout
from bigsvd.planning.memory import device_terms, forming_bytes, memory_terms
from bigsvd.planning.plan import HELD_SCRATCH, ROOM_TO_TURN, PassSeconds, Plan, Turn
from bigsvd.planning.precision import check_precision, compute_dtype, may_be_rough, refuse_one_pass
from bigsvd.planning.refusal import refusal
from bigsvd.planning.sampling import sample_panels, share_of
from bigsvd.planning.search import choose_layout
from bigsvd.request import ROUGH, Request
from bigsvd.sentinels import held

# Share of the budget that Gram matrices may take for the planner to choose that method by itself.
_GRAM_BUDGET = 0.3
# Share of what the budget has left that is given to panels kept between passes.
_CACHE_SHARE = 0.95
# What that is called among the terms of memory.
_KEPT = "decoded panels kept"
# Bytes of scratch that a run which cannot be continued holds in memory, at most.
_HELD_BYTES = 2**24
# Bytes of a matrix in memory that one lane streams alone.
_ONE_LANE_BYTES = 2**23
# Lanes of a pass, and panels of one at most; lanes of a pass that takes no longer than so many seconds, which
# a lane's start and its sums would lengthen. Chosen, not measured.
_LANES, _LANE_PANELS = 16, 256
_SHORT_LANES, _SHORT_PASS_SECONDS = 8, 10.0
# Blocks of a basis in the middle of many passes.
_USUAL_BLOCKS = 4


@dataclass(frozen=True)
class _Choice:
    """A method, in its question, with the layout that suits it; of threads as many as lanes fit at a time."""

    question: Question
    layout: Layout
    reason: str

    @property
    def method(self) -> Demands:
        """The method chosen."""
        return self.question.method


@silent
def make_plan(request: Request, facts: SourceFacts, machine: Machine, rates: Rates | None = None) -> Plan:
    """The plan for `request`, or why there is none; `rates`, nominal ones by default, decide what pays.

    Raises:
        RankError: k is greater than min(m, n).
        MemoryBudgetError: names the term that is too big and what to change.

    """
    _check_rank(request.k, facts.shape)
    _check_sentinels(request, facts)
    _check_whole_samples(request, facts)
    _check_sums(request)
    _check_stage(request, facts)
    check_precision(request, facts, machine)
    rates = rates or (NOMINAL_ON_GPU if machine.has_own_memory else NOMINAL)
    cost = Cost(
        rates,
        machine.threads * machine.readers,
        compute_dtype(request, facts),
        machine.readers,
        has_own_memory=machine.has_own_memory,
    )
    machine = replace(machine, threads=machine.threads * cost.lanes_a_core)
    rough = replace(cost, rough_dtype=ROUGH)
    if request.precision == ROUGH:
        return _planned(request, facts, machine, rough)
    plan = _planned(request, facts, machine, cost)
    if rates.measured and may_be_rough(plan) and ROUGH in machine.rough_dtypes and ROUGH in rates.flops:
        return _quicker(plan, request, facts, machine, rough)
    return plan


def _planned(request: Request, facts: SourceFacts, machine: Machine, cost: Cost) -> Plan:
    """The plan for products of these precisions."""
    choice = _with_one_width(_choose(request, facts, machine, cost), cost)
    if not choice.layout.fits:
        raise refusal(choice.question, choice.layout)
    return _plan(choice, cost)


def _quicker(plan: Plan, request: Request, facts: SourceFacts, machine: Machine, rough: Cost) -> Plan:
    """The plan, or that with rough products where it fits too and takes less time."""
    try:
        return min(plan, _planned(request, facts, machine, rough), key=lambda found: found.seconds)
    except (MemoryBudgetError, RequestError):
        return plan


def _plan(choice: _Choice, cost: Cost) -> Plan:
    """The plan of a choice that fits: what is kept, what is sampled, and what that takes."""
    question, method, layout = choice.question, choice.method, choice.layout
    request, facts, machine = question.request, question.facts, question.machine
    memory, device_memory = memory_terms(question, layout), device_terms(question, layout)
    resident = _resident_bytes(choice, sum(device_memory.values()))
    cache = _cache_bytes(layout, sum(memory.values()), machine.budget_bytes, resident)
    sample = sample_panels(request, layout, cache + resident) if method.starts_from_sample else ()
    share = share_of(sample, layout)
    expected = method.expected_passes(request, layout, share)
    if question.rough_dtype:
        expected = max(expected, 2.0 + share)
    if not cost.keeping_pays(layout, expected):
        cache = min(cache, int(len(sample) * layout.panel_rows * layout.N * layout.itemsize))
    memory[_KEPT] = cache
    turn, room = _turn(choice, cost, memory) if sample else (None, 0)
    memory |= {ROOM_TO_TURN: room} if room else {}
    in_memory = _held_scratch_bytes(request, machine.budget_bytes - sum(memory.values()))
    memory |= {HELD_SCRATCH: in_memory} if in_memory else {}
    device_memory |= {"data kept there between passes": resident} if layout.has_own_memory else {}
    max_passes = request.max_passes or method.most_passes
    expected = min(expected, max_passes + share)
    stays = resident == facts.block_bytes  # on a device: then one more pass multiplies the long factor
    resident_share = resident / facts.block_bytes
    prospect = Prospect(
        lanes=machine.threads,
        passes=expected,
        share=0.0 if request.warm_start is not None else share,
        resident=resident_share,
        kept=min(1.0 - resident_share, cache / facts.block_bytes),
    )
    scratch_columns = layout.k if stays else method.scratch_columns(layout, expected)
    output_bytes = layout.k * (sum(facts.shape) * question.itemsize + 8)
    plan = Plan(
        request=request,
        facts=facts,
        method=method.name,
        reason=choice.reason,
        transposed=layout.transposed,
        rows=layout.M,
        cols=layout.N,
        panel_rows=layout.panel_rows,
        tile_cols=layout.tile_cols,
        reads_per_pass=layout.reads_per_pass,
        lanes=_lanes(layout, machine, cost.of_pass(layout, machine.threads, layout.width)),
        sample=sample,
        pass_seconds=_pass_seconds(layout, cost, prospect),
        turn=turn,
        k=layout.k,
        width=layout.width,
        narrow=layout.narrow,
        max_width=layout.max_width,
        max_passes=max_passes,
        compute_dtype=question.dtype,
        rough_dtype=question.rough_dtype or question.dtype,
        expected_passes=expected + stays,
        rates=cost.rates,
        predicted_seconds=cost.of_run(layout, prospect, *method.seconds(cost, layout, prospect)),
        memory=memory,
        cache_bytes=cache,
        forming_bytes=forming_bytes(memory),
        budget_bytes=machine.budget_bytes,
        threads=machine.threads,
        readers=layout.readers,
        device=machine.device,
        device_reason=machine.device_reason,
        has_own_memory=machine.has_own_memory,
        device_memory=device_memory,
        device_budget_bytes=machine.device_budget_bytes,
        device_cache_bytes=resident,
        scratch_bytes=layout.M * scratch_columns * question.itemsize + output_bytes,
        output_bytes=output_bytes,
    )
    return _with_totals(plan, layout, cost)


def _with_totals(plan: Plan, layout: Layout, cost: Cost) -> Plan:
    """The plan with the pass before all others that sums samples, if one does."""
    if not plan.sums_apart:
        return plan
    totals = cost.of_pass(layout, plan.threads, 0) + besides(layout)
    predicted = plan.predicted_seconds | {"passes": plan.predicted_seconds["passes"] + totals}
    return replace(
        plan,
        expected_passes=plan.expected_passes + 1,
        pass_seconds=replace(plan.pass_seconds, totals=totals),
        predicted_seconds=predicted,
    )


def _pass_seconds(layout: Layout, cost: Cost, prospect: Prospect) -> PassSeconds:
    """What each kind of pass takes: the first finds the sample in memory, later ones what else is kept.

    With what the driver does after it; many passes with whole blocks leave it some of these to work on.
    """

    def after(basis: int) -> float:
        return besides(layout) + cost.of_ritz(layout, min(basis, layout.max_width))

    def later(columns: int, basis: int) -> float:
        kept, resident = prospect.kept, prospect.resident
        one = cost.rough.of_pass(layout, prospect.lanes, columns, kept=kept, resident=resident)
        return one + after(basis)

    kept, narrow = min(prospect.kept, prospect.share), whole_columns(layout.k + BEYOND)
    first = cost.rough.of_pass(layout, prospect.lanes, layout.narrow + PROBES, kept=kept)
    last = cost.of_last_pass(layout, prospect.lanes, narrow, prospect.kept, prospect.resident)
    return PassSeconds(
        first + after(layout.narrow),
        later(layout.width, _USUAL_BLOCKS * layout.width),
        last + after(layout.narrow + narrow),
    )


def _turn(choice: _Choice, cost: Cost, memory: dict[str, int]) -> tuple[Turn | None, int]:
    """The Gram matrix, where a run may turn to it after its sample; and the bytes that takes beyond `memory`.

    It may where the method was left to the planner, k is known, and the matrices fit. For a device with its
    own memory it was chosen in the first place, wherever that pays.
    """
    question, layout = choice.question, choice.layout
    request, machine = question.request, question.machine
    free = request.method == "auto" and request.warm_start is None and request.precision != ROUGH
    free = free and isinstance(request.k, int) and request.max_passes != 1
    if not free or layout.tiled or layout.has_own_memory:
        return None, 0
    other = question.by("gram")
    terms = memory_terms(other, layout)
    needed = sum(terms.values())
    matrices = sum(other.method.memory(other, layout).values())
    if needed > machine.budget_bytes or matrices > _GRAM_BUDGET * machine.budget_bytes:
        return None, 0
    cache = _cache_bytes(layout, needed, machine.budget_bytes, 0)
    cache = cache if cost.keeping_pays(layout, 2.0) else 0
    kept = min(1.0, cache / question.facts.block_bytes)
    passes = other.method.expected_passes(request, layout, 0.0)
    alone = Prospect(machine.threads, passes, share=0.0, kept=kept, resident=0.0)
    seconds = sum(other.method.seconds(cost, layout, alone))
    terms |= {_KEPT: cache}
    room = max(0, needed + cache - sum(memory.values()))
    return Turn("gram", passes, seconds, cache, terms), room


def _check_sums(request: Request) -> None:
    """Where entries are summed first, what a sum is compared with is no entry as it is stored."""
    others = [value for value in request.sentinels if value != -1 and not math.isnan(value)]
    if request.sum is not None and others:
        raise RequestError(
            f"missing_value={others[0]!r} would be compared with sums over {request.sum!r}, not with entries",
            "drop it where the array's attributes or negative integers mark missing entries; else sum before",
        )


def _check_stage(request: Request, facts: SourceFacts) -> None:
    """Panels that are read where they lie are kept nowhere else."""
    if request.stage is not None and facts.reader == "memory":
        raise RequestError(
            f"stage={request.stage!r} with {facts.name}, whose entries are read where they lie", "drop stage"
        )


def _check_whole_samples(request: Request, facts: SourceFacts) -> None:
    """Where functions need totals of samples, no features are left out: totals are of all."""
    name = ("rows", "cols")[facts.features_axis]
    some = getattr(request, name)
    if request.needs_totals and some is not None:
        raise RequestError(
            f"functions={', '.join(request.functions)!r} with {name}={some!r}, by which samples have only "
            "some of their features and no totals",
            f"leave {name} out, and use weights of 1 and 0 instead",
        )


def _check_rank(k: int | str, shape: tuple[int, int]) -> None:
    if isinstance(k, int) and k > min(shape):
        raise RankError(
            f"k={k} is not in the allowed range 1..{min(shape)} for shape {shape}", "give a smaller k"
        )


def _check_sentinels(request: Request, facts: SourceFacts) -> None:
    """`RequestError` where entries of this type cannot be missing, so that nothing would ever be filled."""
    stored = np.dtype(facts.dtype)
    if request.missing == "none" or facts.marks_gaps:
        return
    if any(held(value, stored) is not None for value in request.sentinels):
        return
    given = "no missing_value" if request.missing_value is None else f"missing_value={request.missing_value}"
    cure = "give the value that means missing, as it is stored, by missing_value, or leave missing out"
    if facts.stacks_alleles:
        cure = f"sum alleles by sum={facts.dims[-1]}, or say by missing_value=-1 that each may be missing"
    raise RequestError(
        f"missing={request.missing!r} with {given}, but {stored.name} entries of {facts.name} cannot be "
        f"{' or '.join(str(value) for value in request.sentinels)}",
        cure,
    )


def _choose(request: Request, facts: SourceFacts, machine: Machine, cost: Cost) -> _Choice:
    """The method that was asked for; else of Krylov and Gram the one that takes less time, where both fit."""
    krylov = Question(demands_of("krylov"), request, facts, machine, cost.dtype, cost.rough_dtype)
    if cost.rough_dtype:
        return _for_rough_products(_laid_out(krylov, "the one that begins with rough products"))
    if request.method != "auto":
        return _laid_out(replace(krylov, method=demands_of(request.method)), "asked for")
    if request.warm_start is not None:
        return _laid_out(krylov, "it goes on from factors")
    first = _laid_out(krylov, "")
    if first.layout.width >= first.layout.N:
        return replace(first, reason=f"the block spans all columns ({first.layout.N:,}): one pass is exact")
    other = _laid_out(replace(krylov, method=demands_of("gram")), "")
    return _faster(first, other, cost)


def _for_rough_products(choice: _Choice) -> _Choice:
    """The choice; `RequestError` where its first pass gives the answer, and no other may be rough."""
    if choice.layout.width >= choice.layout.N:
        raise refuse_one_pass(choice.layout.N)
    return choice


def _laid_out(question: Question, reason: str) -> _Choice:
    layout, threads = choose_layout(question)
    machine = replace(question.machine, threads=threads)
    return _Choice(question.on(machine), layout, reason)


def _faster(krylov: _Choice, gram: _Choice, cost: Cost) -> _Choice:
    """The one that takes less time at these rates, with the comparison as its reason."""
    request, layout = krylov.question.request, krylov.layout
    share = share_of(sample_panels(request, layout, 0), layout)
    by_krylov = _seconds(krylov, cost, share)
    by_gram = _seconds(gram, cost, 0.0)
    how = "measured" if cost.rates.measured else "nominal"
    reason = f"krylov about {by_krylov:.2g} s, gram about {by_gram:.2g} s at {how} rates"
    matrices = sum(gram.method.memory(gram.question, gram.layout).values())
    if not gram.layout.fits or matrices > _GRAM_BUDGET * gram.question.machine.budget_bytes:
        reason += f"; a {gram.layout.N}x{gram.layout.N} Gram matrix does not fit"
    elif by_gram < by_krylov and request.max_passes != 1:
        return replace(gram, reason=reason)
    return replace(krylov, reason=reason)


def _seconds(choice: _Choice, cost: Cost, share: float) -> float:
    """What a run takes at these rates that keeps nothing between passes, with a sample of that `share`."""
    request, layout = choice.question.request, choice.layout
    passes = choice.method.expected_passes(request, layout, share)
    prospect = Prospect(choice.question.machine.threads, passes, share, kept=0.0, resident=0.0)
    return sum(choice.method.seconds(cost, layout, prospect))


def _with_one_width(choice: _Choice, cost: Cost) -> _Choice:
    """The same with the first block as wide as the others, where that takes hardly longer and fits."""
    question, layout = choice.question, choice.layout
    if not choice.method.starts_from_sample or cost.products_matter(layout, question.machine.threads):
        return choice
    wide = replace(layout, narrow=layout.width)
    needed = sum(memory_terms(question, wide).values())
    on_device = sum(device_terms(question, wide).values())
    if needed > question.machine.budget_bytes or on_device > question.machine.device_budget_bytes:
        return choice
    return replace(choice, layout=wide)


def _lanes(layout: Layout, machine: Machine, pass_seconds: float) -> tuple[tuple[int, int], ...]:
    """Even runs of panels: 16, more for long passes, fewer for short ones, but two a thread.

    Fewer too where partial sums are large. One where few data lie in memory: to share them out takes longer
    than to multiply them.
    """
    panels = -(-layout.M // layout.panel_rows)
    if layout.reader == "memory" and layout.M * layout.N * layout.itemsize <= _ONE_LANE_BYTES:
        return ((0, panels),)
    partial_share = (layout.width + PROBES) * 8 / (layout.M * layout.itemsize)
    least = _LANES if pass_seconds > _SHORT_PASS_SECONDS else max(_SHORT_LANES, 2 * machine.threads)
    wanted = max(least, -(-panels // _LANE_PANELS))
    if partial_share > 0:
        wanted = min(wanted, max(2 * machine.threads, int(0.2 / partial_share)))
    count = max(1, min(panels, wanted))
    edges = [panels * i // count for i in range(count + 1)]
    return tuple(pairwise(edges))


def _cache_bytes(layout: Layout, needed_bytes: int, budget_bytes: int, resident_bytes: int) -> int:
    """What the budget leaves for decoded panels, at most those that are not resident."""
    if layout.reader == "memory":
        return 0
    left = int(_CACHE_SHARE * (budget_bytes - needed_bytes))
    return max(0, min(left, int(layout.M * layout.N * layout.itemsize) - resident_bytes))


def _held_scratch_bytes(request: Request, left_bytes: int) -> int:
    """Of what the budget leaves, what scratch may take that no other run needs to find: without an output."""
    return max(0, min(_HELD_BYTES, left_bytes)) if request.out is None else 0


def _resident_bytes(choice: _Choice, needed_bytes: int) -> int:
    """What the device's memory leaves for panels that stay there between passes, at most all of them."""
    if runs_on_dask(choice.method.name):  # which keeps what it needs by itself
        return 0
    left = int(_CACHE_SHARE * (choice.question.machine.device_budget_bytes - needed_bytes))
    return max(0, min(left, choice.question.facts.block_bytes))
