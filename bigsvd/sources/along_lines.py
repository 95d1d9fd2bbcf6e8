"""Given numbers brought to one for each line of A, whatever shape, selection and order they were given for.

A vector may have a value for each line that is selected, in the order in which these were asked for; for each
line of the data; or, where axes of the data are stacked to columns, a shape that broadcasts to these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bigsvd.described import counted
from bigsvd.errors import RequestError
from bigsvd.facts import LINES, SourceFacts
from bigsvd.request import VECTORS
from bigsvd.sources.base import Source
from bigsvd.vectors import Vector

_NEUTRAL = {
    "offset": "0, which subtracts nothing",
    "scale": "1, which divides by nothing",
    "weights": "0, which leaves a feature out, or 1",
    "row_weights": "0, which leaves a sample out, or 1",
}


def _axis_of(option: str, facts: SourceFacts) -> int:
    """The axis of A along which a vector runs: that of the features, or that of the samples."""
    return {"features": facts.features_axis, "samples": facts.samples_axis}[VECTORS[option]]


def check_shape(option: str, vector: Vector, facts: SourceFacts) -> None:
    """`RequestError` unless a vector has a value for each line of A, or of the data, along its axis."""
    axis, values = _axis_of(option, facts), vector.values
    whole = (facts.full_shape or facts.shape)[axis]
    if values.ndim == 1 and values.size in (whole, facts.shape[axis]):
        return
    if vector.along(facts.stacked_dims(axis), facts.stacked_shape(axis)) is not None:
        return
    has = f"shape {values.shape}"
    if values.ndim == 1:
        has = f"{values.size:,} values"
    raise RequestError(
        f"{vector.told(option)} has {has} for {counted(facts, axis)}",
        f"give one for each{_or_in_shape(facts, axis)}",
    )


def _or_in_shape(facts: SourceFacts, axis: int) -> str:
    """In which other way values may be given along stacked axes."""
    lengths = facts.stacked_shape(axis)
    if len(lengths) < 2:
        return ""
    first = [*facts.stacked_dims(axis), "the first axis"][0]
    shape = (lengths[0], *(1 for _ in lengths[1:]))
    return f", or an array that broadcasts to {lengths}, such as one of shape {shape} for {first} alone"


def along_lines(vectors: dict[str, Vector], source: Source) -> dict[str, Vector]:
    """The same vectors, by option, each with one value for each line of A in the order of these, (c,).

    Raises:
        RequestError: another length, or it cannot be told which value is of which line; values that are not
            finite, negative weights, divisors that are not positive.

    """
    found = {}
    for option, vector in vectors.items():
        check_shape(option, vector, source.facts)
        values, places = _taken(option, vector, source)
        _check_values(option, vector, values, places)
        found[option] = replace(vector, values=values, dims=())
    return found


@dataclass(frozen=True, eq=False)
class Places:
    """Where the values of a vector that are used are among all of it.

    Attributes:
        numbers: (c,) of the values that are used, in C order; None where all are, in their order.
        lengths: of the axes of all.

    """

    numbers: np.ndarray | None
    lengths: tuple[int, ...]

    def told(self, line: int) -> str:
        """The place of the value of a line, in words."""
        number = line
        if self.numbers is not None:
            number = int(self.numbers[line])
        if len(self.lengths) == 1:
            return str(number)
        return str(tuple(int(place) for place in np.unravel_index(number, self.lengths)))


def _taken(option: str, vector: Vector, source: Source) -> tuple[np.ndarray, Places]:
    """The values of the lines of A, and where they are in the vector."""
    facts, axis = source.facts, _axis_of(option, source.facts)
    ids, order = source.kept[axis], source.asked_order[axis]
    own, whole = facts.shape[axis], (facts.full_shape or facts.shape)[axis]
    values = vector.values
    lengths: tuple[int, ...] = (values.size,)
    if values.ndim == 1 and values.size == own == whole and order is not None:
        raise RequestError(
            f"{vector.told(option)} has {own:,} values, and all {whole:,} {LINES[axis]}s are selected in "
            "another order than they have: which value is of which cannot be told",
            f"select them in ascending order, or leave {('rows', 'cols')[axis]} out",
        )
    everywhere = vector.along(facts.stacked_dims(axis), facts.stacked_shape(axis))
    if everywhere is not None:
        values, lengths = everywhere, facts.stacked_shape(axis)
    numbers = order
    if everywhere is not None or values.size != own:
        numbers = ids
    if numbers is not None:
        values = values[numbers]
    return values, Places(numbers, lengths)


def _check_values(option: str, vector: Vector, values: np.ndarray, places: Places) -> None:
    """`RequestError` for what is not finite, for negative weights, and for divisors that are not positive."""
    _refuse(
        option, vector, values, ~np.isfinite(values), places, "finite", f"replace them by {_NEUTRAL[option]}"
    )
    if option == "scale":
        _refuse(option, vector, values, values <= 0, places, "positive", "give numbers that are positive")
    elif option != "offset":
        _refuse(option, vector, values, values < 0, places, "0 or more", "give numbers that are 0 or more")


def _refuse(
    option: str, vector: Vector, values: np.ndarray, bad: np.ndarray, places: Places, wanted: str, cure: str
) -> None:
    """`RequestError` where some values are bad."""
    if not bad.any():
        return
    first, count = int(np.argmax(bad)), np.count_nonzero(bad)
    raise RequestError(
        f"{vector.told(option)} has {count:,} of {values.size:,} values that are not {wanted}, "
        f"the first {values[first]:g} at {places.told(first)}",
        cure,
    )
