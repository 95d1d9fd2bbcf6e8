"""`Columns`: what the features of a teacher are, by which those of new data are told to be the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bigsvd.errors import ColumnsError
from bigsvd.facts import SourceFacts


@dataclass(frozen=True)
class Columns:
    """The features of some data, before any of them were left out.

    Attributes:
        shape: the lengths of the axes that were stacked to features, one where there is only one.
        dims: the names of these axes; empty where they have none.

    """

    shape: tuple[int, ...]
    dims: tuple[str, ...] = ()

    @classmethod
    def of(cls, facts: SourceFacts) -> Columns:
        """Those of a source."""
        axis = facts.features_axis
        return cls(tuple(map(int, facts.stacked_shape(axis))), facts.stacked_dims(axis))

    def check(self, facts: SourceFacts) -> None:
        """`ColumnsError` where the features of a source are others than these."""
        found = Columns.of(facts)
        if found.shape != self.shape:
            raise ColumnsError(
                f"{facts.name} has {_sides(found.shape)} features, the student was learnt from "
                f"{_sides(self.shape)}",
                "give data with the same features in the same order",
            )
        named = "" not in (*self.dims, *found.dims)
        if named and self.dims and found.dims and found.dims != self.dims:
            raise ColumnsError(
                f"{facts.name} has features along {', '.join(found.dims)}, the student was learnt from "
                f"{', '.join(self.dims)}",
                "give data with the same features in the same order",
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"shape": list(self.shape), "dims": list(self.dims)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Columns:
        """The inverse of `to_dict`."""
        return cls(tuple(values["shape"]), tuple(values["dims"]))


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
