"""`Columns`: what the features of a teacher are, by which those of new data are told to be the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bigsvd.errors import ColumnsError
from bigsvd.sources.names import names_along

if TYPE_CHECKING:
    from bigsvd.facts import SourceFacts

_REMEDY = "give data with the same features in the same order"


@dataclass(frozen=True)
class Columns:
    """The features of some data, before any of them were left out.

    Attributes:
        shape: the lengths of the axes that were stacked to features, one where there is only one.
        dims: the names of these axes; empty where they have none.
        names: digests of what features are called along each axis, where the data's store says so.

    """

    shape: tuple[int, ...]
    dims: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, facts: SourceFacts) -> Columns:
        """Those of a source; names are read where it is a Zarr array on this machine."""
        axis = facts.features_axis
        names = {dim: _digest(texts) for dim, texts in names_along(facts, axis).items()}
        return cls(tuple(map(int, facts.stacked_shape(axis))), facts.stacked_dims(axis), names)

    def check(self, facts: SourceFacts) -> None:
        """`ColumnsError` where the features of a source are others than these, as far as both are known."""
        found = Columns.of(facts)
        if found.shape != self.shape:
            raise _other(facts, f"{_sides(found.shape)} features", _sides(self.shape))
        if _named(self.dims) and _named(found.dims) and found.dims != self.dims:
            raise _other(facts, f"features along {', '.join(found.dims)}", ", ".join(self.dims))
        for dim in self.names.keys() & found.names.keys():
            if self.names[dim] != found.names[dim]:
                raise _other(facts, f"other names along {dim} (digest {found.names[dim]})", self.names[dim])

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"shape": list(self.shape), "dims": list(self.dims)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Columns:
        """The inverse of `to_dict`."""
        return cls(tuple(values["shape"]), tuple(values["dims"]), values["names"])


def _other(facts: SourceFacts, found: str, learnt: str) -> ColumnsError:
    return ColumnsError(f"{facts.name} has {found}, the student was learnt from {learnt}", _REMEDY)


def _named(dims: tuple[str, ...]) -> bool:
    return bool(dims) and "" not in dims


def _digest(texts: list[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
