"""Where a run is placed: which machine of an executor, with which plan, at which rates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from bigsvd.errors import MemoryBudgetError
from bigsvd.events import Progress
from bigsvd.execution.admission import turn_on
from bigsvd.execution.cluster import DaskClient
from bigsvd.execution.dask_executor import DaskExecutor
from bigsvd.execution.executor import Call, Executor, results_of, with_source
from bigsvd.execution.rehearsal import rehearse
from bigsvd.execution.threads import LocalExecutor
from bigsvd.facts import Rates, SourceFacts
from bigsvd.machine.offers import Offer
from bigsvd.machine.rates import rates_here, some_chunks
from bigsvd.planning.plan import Plan
from bigsvd.planning.planner import make_plan
from bigsvd.request import Request
from bigsvd.sources.base import Source

# Of a run, predicted at nominal rates: measuring what products cost too takes a third of a second, without
# them a tenth.
_WORTH_MEASURING_SECONDS = 3.0
_WORTH_A_LOOK_SECONDS = 0.5


@contextmanager
def executor_of(client: DaskClient | None) -> Iterator[Executor]:
    """The workers of a client; without one, this process.

    Raises:
        VersionsError: workers compute with other versions. NoWorkersError: there are none.

    """
    if client is None:
        yield LocalExecutor()
        return
    with DaskExecutor(client) as executor:
        executor.check_versions()
        yield executor


@contextmanager
def executor_in_turn(
    client: DaskClient | None,
    request: Request,
    progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Executor]:
    """The same for a run of this request, once it fits beside others on a cluster; see `turn_on`."""
    with executor_of(client) as executor, turn_on(client, request, progress, should_stop):
        yield executor


def nominal_plan(request: Request, facts: SourceFacts, client: DaskClient | None = None) -> Plan:
    """The plan at nominal rates, for whoever wants to see it: nothing is read."""
    with executor_of(client) as executor:
        return plan_for(request, facts, executor.machines(request))[0]


def plan_for(request: Request, facts: SourceFacts, offers: Sequence[Offer]) -> tuple[Plan, Offer]:
    """The plan at nominal rates for the first machine on which something fits, and that machine.

    Where a GPU was left alone because of its memory, the machine says so as its device's reason.

    Raises:
        MemoryBudgetError: nothing fits on any, for the reasons that the last one has.

    """
    *preferred, last = offers
    for offer in preferred:
        try:
            return make_plan(request, facts, offer.machine), offer
        except MemoryBudgetError as error:
            last = last.because(f"too little memory for a GPU: {error.message}")
    return make_plan(request, facts, last.machine), last


def plan_for_source(
    request: Request, source: Source, executor: Executor, offers: Sequence[Offer]
) -> tuple[Plan, Offer]:
    """`plan_for`, once more after a rehearsal where only that shows how much memory reading takes."""
    plan, offer = plan_for(request, source.facts, offers)
    if source.facts.reader != "foreign":
        return plan, offer
    rehearse(plan, source, executor)
    return plan_for(request, source.facts, offers)


def plan_for_run(
    request: Request, source: Source, executor: Executor, offers: Sequence[Offer], *, measured: bool
) -> tuple[Plan, Offer]:
    """`plan_for_source`, and where rates are to be measured, the plan at those."""
    plan, offer = plan_for_source(request, source, executor, offers)
    if not measured:
        return plan, offer
    return at_measured_rates(plan, source, executor, offer), offer


def at_measured_rates(plan: Plan, source: Source, executor: Executor, offer: Offer) -> Plan:
    """The plan at rates that are measured on its machine, as far as that pays.

    A quick run is worth no measurement, one of a few seconds that of reading and of making slabs. Nobody
    knows whether reading what another library computes is quick: that is always measured. What products cost
    is measured where the run turns out to be slow.
    """
    if plan.seconds <= _WORTH_A_LOOK_SECONDS and source.facts.reader != "measured":
        return plan
    rates = _measured_rates(plan, source, executor, offer)
    return make_plan(plan.request, source.facts, offer.machine, rates)


def _measured_rates(plan: Plan, source: Source, executor: Executor, offer: Offer) -> Rates:
    """Rates in a process that has the device."""
    part = executor.part(source, some_chunks(source.facts))
    bare = replace(plan, lanes=(), sample=())  # of which there may be many
    arguments = part.source, part.values, offer.device, bare, _WORTH_MEASURING_SECONDS
    measuring = Call(with_source, (rates_here, *arguments), device_share=float(offer.device.has_own_memory))
    rates: Rates = results_of(executor, [measuring])[0]
    return rates


def offer_for(plan: Plan, offers: Sequence[Offer]) -> Offer:
    """The machine that a saved plan is for; the best where it is for none of them."""
    return next((offer for offer in offers if plan.fits_device(offer.machine)), offers[0])
