"""`described`: which data a run is about and what is done to them, in words, for a plan and for a result."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bigsvd.facts import AS_STORED, LINES, SourceFacts
from bigsvd.request import Request
from bigsvd.vectors import DIGEST

LABEL = 14  # columns that a label takes
_FILLED = {
    "mean": "filled by the mean of their feature; features without any value are left out",
    "zero": "filled by 0",
}
_DIVISORS = {
    "std": "their standard deviation",
    "std-observed": "the standard deviation of their observed entries",
    "patterson": "sqrt(p(1-p)), p being half their mean",
    "binom2": "sqrt(2p(1-p)), p being half their mean",
}


def labelled(label: str, text: str) -> str:
    """A line: what it is about, and what is to be said."""
    return f"{label:<{LABEL}}{text}"


def described(request: Request, facts: SourceFacts, left_out: int = 0) -> list[str]:
    """The lines that apply to these data, in the order in which things are done to them.

    `left_out`: how many features are known to be missing throughout.
    """
    told = {
        "samples": counted(facts, facts.samples_axis),
        "features": counted(facts, facts.features_axis) + _left_out(left_out),
        "selection": _selection(request),
        "sum": _summed(request, facts),
        "decoding": _decoding(request, facts),
        "functions": _functions(request),
        "missing": _missing(request, facts),
        "centring": "the mean of each feature over the samples is subtracted" * request.center,
        "offset": _by("subtracted from features:", request.offset),
        "scale": _scale(request),
        "weights": _by("features are multiplied at last by", request.weights),
        "row weights": _by("samples are multiplied at last by", request.row_weights),
    }
    return [labelled(label, text) for label, text in told.items() if text]


def counted(facts: SourceFacts, axis: int) -> str:
    """How many lines of A there are along an axis, of how many, and what they are in the data."""
    count = f"{facts.shape[axis]:,}"
    if facts.full_shape and facts.full_shape[axis] != facts.shape[axis]:
        count += f" of {facts.full_shape[axis]:,}"
    if not facts.array_shape:
        lines = LINES[axis] + "s" * (count != "1")
        return f"{count} {lines}{_in_brackets(facts.dims[axis : axis + 1])}"
    names = [name or f"axis {number}" for number, name in enumerate(_names(facts))]
    own = names.pop(facts.array_axis)
    if axis == 0:
        return f"{count} along {own}"
    return f"{count} places of {' x '.join(names)}{_in_brackets(map(str, facts.stacked_shape(1)))}"


def _names(facts: SourceFacts) -> tuple[str, ...]:
    """The names of the axes of the data, empty where they have none."""
    return facts.dims or ("",) * len(facts.array_shape)


def _in_brackets(parts: Iterable[str]) -> str:
    """The parts, such as lengths of axes, behind what has them; nothing where there are none."""
    joined = " x ".join(parts)
    return f" ({joined})" * bool(joined)


def _left_out(count: int) -> str:
    return f", {count:,} of them missing throughout and left out" * bool(count)


def _selection(request: Request) -> str:
    chosen = {"rows": request.rows, "columns": request.cols}
    return ", ".join(f"{lines} by {_called(name)}" for lines, name in chosen.items() if name is not None)


def _summed(request: Request, facts: SourceFacts) -> str:
    """What is summed over first, and when there is no sum."""
    if request.sum is None:
        return ""
    axis = str(request.sum)
    if axis.lstrip("-").isdecimal():
        axis = f"axis {axis}"
    if not facts.marks_gaps and not facts.dtype.startswith("float"):
        return f"entries are summed over {axis}"
    negative = " or negative" * facts.dtype.startswith("int")
    return f"entries are summed over {axis}; missing where one of them is missing{negative}"


def _decoding(request: Request, facts: SourceFacts) -> str:
    """How stored entries stand for numbers; of sums that is no matter of attributes."""
    if not request.decode:
        return "none: entries are taken as they are stored"
    if request.sum is not None or facts.packing == AS_STORED:
        return ""
    return f"{facts.packing} (CF attributes)"


def _functions(request: Request) -> str:
    """What is done to every entry, and stays done."""
    return f"{', '.join(request.functions)}; what is reconstructed is f(A)" * bool(request.functions)


def _missing(request: Request, facts: SourceFacts) -> str:
    """What becomes of entries without a value, where the data or the request have a word on them."""
    if request.missing in _FILLED:
        return f"{_gaps(request, facts)} are {_FILLED[request.missing]}"
    if facts.marks_gaps:
        return "features without any value are left out; gaps in others are refused"
    return ""


def _gaps(request: Request, facts: SourceFacts) -> str:
    """Which entries are missing."""
    if request.missing_value is None and facts.marks_gaps:
        return "entries without a value"
    return f"entries of {' or '.join(map(_number, request.sentinels))}"


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:.15g}"


def _scale(request: Request) -> str:
    """By what features are divided."""
    own = request.own_scale
    if not own:
        return _by("features are divided by", request.named.get("scale"))
    sample = ", of a sample (ddof 1)" * bool(request.ddof)
    return f"features are divided by {_DIVISORS[own]}{sample}"


def _by(doing: str, name: str | None) -> str:
    """What is done with given numbers; nothing where there are none."""
    return "" if name is None else f"{doing} {_called(name)}"


def _called(name: str) -> str:
    """What a person calls given values."""
    return "values in memory" if name.startswith(DIGEST) else name
