"""In which precision a run multiplies: what is asked for, what cannot be had, and what may be tried."""

from __future__ import annotations

import numpy as np

from bigsvd.errors import RequestError
from bigsvd.facts import Machine, SourceFacts
from bigsvd.planning.plan import Plan
from bigsvd.request import ROUGH, Request
from bigsvd.results.rank import Rule

# Share of the squared norm below which the rounding of float32 sums can hide what a rank rule asks about.
_FLOAT32_SHARE = 16 * float(np.finfo(np.float32).eps)
_INSTEAD = "use precision='auto' or precision='float32'"


def compute_dtype(request: Request, facts: SourceFacts) -> str:
    """float32 products for float16/32, bool and 8/16-bit integers, unless what is asked is beyond them.

    That is a tolerance, or a share of the squared norm to be left that is near the rounding of such sums.
    """
    dtype = np.dtype(facts.dtype)
    small = dtype.itemsize <= 2 or dtype == np.float32
    left = Rule.of(request).share_left
    resolved = request.tol >= 1e-5 and (left is None or left >= _FLOAT32_SHARE)
    return "float32" if small and resolved else "float64"


def check_precision(request: Request, facts: SourceFacts, machine: Machine) -> None:
    """`RequestError` where rough products were asked for and are not to be had, or are of no use."""
    if request.precision != ROUGH:
        return
    asked = f"precision={ROUGH!r}"
    if compute_dtype(request, facts) == "float64":
        why = f"{facts.dtype} entries and tol={request.tol:g} take products in float64"
        raise RequestError(f"{asked}, but {why}", _INSTEAD)
    if facts.has_few:
        raise RequestError(f"{asked}, but only entries that are not 0 are multiplied", _INSTEAD)
    if machine.has_own_memory:
        raise RequestError(
            f"{asked}, but {machine.device} is to multiply, and only processors do so in it",
            f"use device='cpu', or {_INSTEAD}",
        )
    if ROUGH not in machine.rough_dtypes:
        raise RequestError(f"{asked}, but torch is not installed", f"install bigsvd[{ROUGH}], or {_INSTEAD}")


def refuse_one_pass(cols: int) -> RequestError:
    """That rough products were asked for of a block with as many columns as B has."""
    return RequestError(
        f"precision={ROUGH!r}, but the block spans all columns ({cols:,}): its one pass gives the answer",
        _INSTEAD,
    )


def may_be_rough(plan: Plan) -> bool:
    """Whether rough products, of which nobody has said anything, may make this plan's run shorter.

    They take a pass with products in full beside them, which a run by ``stop="error"``, by
    ``stop="estimate"`` or from factors usually can do without.
    """
    request = plan.request
    asked = request.precision == "auto" and isinstance(request.k, int) and request.max_passes != 1
    long = request.stop not in ("error", "estimate") and request.warm_start is None and plan.width < plan.cols
    return (
        asked
        and long
        and not plan.facts.has_few
        and plan.method == "krylov"
        and plan.compute_dtype == "float32"
    )
