"""What a group or a file holds, and the refusal that names it where several arrays could be meant."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bigsvd.errors import SourceError

READ = ("csr_matrix", "csc_matrix")  # kinds of sparse matrices, by AnnData's names of them
_AXES_OF_CALLS = ("variants", "samples", "ploidy")
_MOST_NAMED = 6  # the number of arrays that a message names; chosen so that it stays readable


@dataclass(frozen=True)
class Member:
    """An array of a group, or a group that is a sparse matrix; `sparse` is the name of its format.

    Attributes:
        path: where it is in the group.
        bounds: the array that its attributes name as the ends of its cells (CF conventions, section 7.1);
            empty if they name none.
        dims: the names of its axes, where they are looked at.

    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    sparse: str = ""
    bounds: str = ""
    dims: tuple[str, ...] = ()

    @property
    def is_matrix(self) -> bool:
        """Whether bigsvd could decompose it as it is."""
        return len(self.shape) == 2 and self.could_be_meant and not self.sparse

    @property
    def is_genotypes(self) -> bool:
        """Whether it is VCF-Zarr's array of calls, an allele an entry: what its group is decomposed for."""
        return self.path.rpartition("/")[2] == "call_genotype" and self.dims == _AXES_OF_CALLS

    @property
    def could_be_meant(self) -> bool:
        """Whether who names the group might mean this: numbers along two axes or more."""
        return bool(self.sparse) or (len(self.shape) > 1 and 0 not in self.shape and self._is_real)

    @property
    def _is_real(self) -> bool:
        try:
            return np.dtype(self.dtype).kind in "biuf"
        except TypeError:
            return False

    @property
    def told(self) -> str:
        """Its path, and what it is."""
        if self.sparse:
            return f"{self.path} ({self.sparse})"
        return f"{self.path} ({self.described})"

    @property
    def described(self) -> str:
        """Its shape and element type."""
        return f"{'x'.join(map(str, self.shape))} {self.dtype}"


@dataclass(frozen=True)
class Members:
    """The arrays in a group and below it, and the number of further members that were not looked at."""

    found: tuple[Member, ...]
    unseen: int = 0

    @classmethod
    def of(cls, found: Iterable[Member], unseen: int = 0) -> Members:
        """Sorted: genotypes first, then what else could be meant, by size; what only tells bounds comes last.

        A map of areas is smaller than the fields beside it, though it alone is a matrix as it lies.
        """
        listed = list(found)
        bounds = {_beside(member.path, member.bounds) for member in listed if member.bounds}

        def turn(member: Member) -> tuple[bool, bool, bool, int, str]:
            size = math.prod(member.shape)
            meant = member.could_be_meant
            return member.path in bounds, not member.is_genotypes, not meant, -size, member.path

        plain = [member for member in listed if member.path not in bounds]
        return cls(tuple(sorted(plain or listed, key=turn)), unseen)

    @property
    def only(self) -> str:
        """The path of the only array of two axes or more; empty where there is another, or none."""
        meant = [member for member in self.found if member.could_be_meant]
        if len(meant) != 1 or meant[0].sparse or self.unseen:
            return ""
        return meant[0].path

    @property
    def only_sparse(self) -> Member | None:
        """The same of a sparse matrix of a kind that is read."""
        meant = [member for member in self.found if member.could_be_meant]
        if len(meant) != 1 or meant[0].sparse not in READ or self.unseen:
            return None
        return meant[0]

    def refusal(self, name: str, kind: str) -> SourceError:
        """The error that says what `name`, which is such a `kind` of thing, holds, and what to give."""
        arrays = [member for member in self.found if not member.sparse]
        sparse = [member for member in self.found if member.sparse]
        parts = []
        if arrays:
            parts.append(f"the arrays {_named(arrays)}")
        if sparse:
            parts.append(f"the sparse {_named(sparse)}")
        said = f"{name} is {kind}"
        if parts:
            said += f" with {' and '.join(parts)}"
        if self.unseen:
            said += f" ({self.unseen} further members were not looked at)"
        return SourceError(said, _cure(name.rstrip("/"), arrays, sparse))


def _beside(path: str, name: str) -> str:
    """The path of what an array at `path` calls `name`."""
    folder, slash, _ = path.rpartition("/")
    return folder + slash + name


def _cure(name: str, arrays: list[Member], sparse: list[Member]) -> str:
    """The advice which array to name, or what to do if none is a matrix."""
    if arrays and arrays[0].is_genotypes:
        return f"name one of them, such as {name}/{arrays[0].path} with sum=ploidy and samples=samples"
    clear = [member for member in sparse if member.sparse in READ] + [a for a in arrays[:1] if a.is_matrix]
    if clear:
        return f"name one of them, such as {name}/{clear[0].path}"
    if arrays and arrays[0].could_be_meant:
        return f"name one of them, such as {name}/{arrays[0].path}, and the axis of its samples by dim=AXIS"
    if not arrays:
        return f"store it as one of {', '.join(READ)}" if sparse else "check the path: it holds no array"
    first = arrays[0]
    return f"none is a matrix of real numbers; {name}/{first.path} is {first.described}"


def _named(members: list[Member]) -> str:
    named = ", ".join(member.told for member in members[:_MOST_NAMED])
    rest = len(members) - _MOST_NAMED
    if rest > 0:
        return f"{named} and {rest} more"
    return named
