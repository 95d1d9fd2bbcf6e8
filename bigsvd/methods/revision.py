"""What a run makes of its plan when it has seen its sample."""

from __future__ import annotations

from dataclasses import replace

from bigsvd.events import PlanRevised
from bigsvd.execution.panel_cache import renew_cache
from bigsvd.methods.matrix import Matrix
from bigsvd.planning.outlook import Seen, revised

_NAME = "revision"  # in scratch


def revise(matrix: Matrix, seen: Seen | None) -> None:
    """Give the matrix's context the plan as its sample makes it, and say what is to be expected now.

    Only where k is known, and something was seen. Which method the run goes on with is decided once: a run
    that is continued has the same sample, but may have it with other roundings.
    """
    context = matrix.context
    if seen is None or context.plan.request.k == "auto":
        return
    decided = context.scratch.recorded(_NAME) or {"method": ""}
    plan, ahead = revised(context.plan, seen, decided["method"])
    context.scratch.record(_NAME, {"method": plan.method})
    if plan.method != context.plan.method:
        context.executor.everywhere(renew_cache, context.token, plan.cache_bytes)
    matrix.context = replace(context, plan=plan)
    matrix.rough = matrix.rough and plan.rough
    share = plan.sample_share
    context.progress(PlanRevised(plan.method, share + ahead.low, share + ahead.high, plan.seconds, ahead.why))
