"""Ratings of users, read as factors of them were; tables of them as sparse matrices in Zarr, and ids."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.errors import RequestError, SourceError, first_line
from bigsvd.request import Request
from bigsvd.slabs.sparse import SparseBlock, scipy_sparse
from bigsvd.slabs.transform import Transform
from bigsvd.sources.base import Source
from bigsvd.sources.open import open_source

_CHUNK = 2**18  # entries of a chunk
_COPIES = 3  # of the entries of a sparse block: itself, as SciPy has it, and those of a tile


@dataclass(frozen=True, eq=False)
class Ratings:
    """A matrix (users, items); an item counts as rated where the entry is neither 0 nor missing.

    Attributes:
        source: of the entries. transform: what says which are missing.

    """

    source: Source
    transform: Transform

    @classmethod
    def of(cls, data: Any, request: Request) -> Ratings:
        """Whatever `svd` opens, read as a request of factors says; see `open_source` for errors."""
        source = open_source(data, **request.reading)
        return cls(source, Transform.of(request, source.facts))

    @property
    def name(self) -> str:
        """The path, or what the data are."""
        return self.source.facts.name

    @property
    def shape(self) -> tuple[int, int]:
        """Users and items."""
        return self.source.facts.shape

    @property
    def bytes_of_user(self) -> int:
        """Of `entries` of a user while they are read, on average."""
        facts = self.source.facts
        if facts.is_sparse:
            return int(_COPIES * facts.entry_bytes * facts.shape[1]) + 1
        return (2 * facts.itemsize + 2) * facts.shape[1]

    @property
    def fixed_bytes(self) -> int:
        """That reading takes besides, however few users are read."""
        facts = self.source.facts
        whole_lines = facts.sparse_bytes * facts.lines_axis  # where items are stored, not users
        return facts.spare_bytes + facts.held_bytes + _COPIES * whole_lines

    def entries(self, rows: slice) -> Any:
        """Those of some users, 0 for what is missing: a matrix of SciPy in CSR form, or an array."""
        block = self.source.fresh().block(rows, slice(0, self.shape[1]), ReadBuffers())
        if isinstance(block, SparseBlock):
            return block.matrix.tocsr()
        raw = np.asarray(block.rows(slice(None)))
        gone = self.transform.mask(np, raw, raw.dtype)
        return raw if gone is None else np.where(gone, np.zeros((), raw.dtype), raw)

    def dense(self, rows: slice) -> np.ndarray:
        """Those of some users, as they are stored."""
        return self.source.fresh().read(rows, slice(0, self.shape[1]))


def from_table(path: str | Path, out: str | Path, *, separator: str = "", overwrite: bool = False) -> str:
    """Write ratings as a sparse matrix (users, items) float32 into an AnnData-like Zarr group; its path.

    ``OUT/X`` is the matrix in CSR form, which `svd` opens; ``OUT/obs/_index`` and ``OUT/var/_index`` are the
    ids of users and items, in the order in which they are first met. About 16 bytes of memory a rating.

    Args:
        path: a text file with a first line of names (RecBole's `.inter`, CSV): its first column is the user,
            the second the item, the third the rating, 1 where there is none. Of a pair that is there twice
            ratings are added.
        out: where.
        separator: between columns; by default a tab where the first line has one, else a comma.
        overwrite: replace a Zarr group that is there; nothing else is ever replaced.

    Raises:
        SourceError: there is no such file, or a line of it is no rating. RequestError: `out` exists.

    """
    if Path(out).exists() and not (overwrite and (Path(out) / "zarr.json").exists()):
        raise RequestError(f"{out} exists", "give another path, delete it, or overwrite a Zarr group")
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    places: tuple[list[int], ...] = ([], [])
    values = []
    for user, item, value in _lines(Path(path), separator):
        places[0].append(users.setdefault(user, len(users)))
        places[1].append(items.setdefault(item, len(items)))
        values.append(value)
    if not values:
        raise SourceError(f"{path} has 0 ratings", "give a table of users, items and ratings")
    shape = (len(users), len(items))
    matrix = scipy_sparse().csr_matrix((np.asarray(values, np.float32), places), shape=shape)
    return write(out, matrix, list(users), list(items))


def write(out: str | Path, matrix: Any, users: list[str], items: list[str]) -> str:
    """Write a matrix of SciPy in CSR form with its ids, as `from_table` does, over what is there."""
    group = zarr.create_group(
        str(out), attributes={"encoding-type": "anndata", "encoding-version": "0.1.0"}, overwrite=True
    )
    about = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(matrix.shape)}
    inner = group.create_group("X", attributes=about)
    for part in ("data", "indices", "indptr"):
        values = getattr(matrix, part)
        inner.create_array(part, data=values, chunks=(min(_CHUNK, values.size),))
    for place, names in (("obs", users), ("var", items)):
        group.create_group(place, attributes={"_index": "_index"})
        group.create_array(f"{place}/_index", shape=(len(names),), dtype="str")[:] = np.asarray(names, object)
    return f"{out}/X"


def ids_beside(source: str, axis: int) -> list[str] | None:
    """Names of users (axis 0) or items (1) of the AnnData store whose X `source` is; None where none are."""
    root, _, name = source.rpartition("/")
    if name != "X" or not Path(root).is_dir():
        return None
    group = zarr.open_group(root, mode="r")
    place = ("obs", "var")[axis]
    if place not in group:
        return None
    index = group[place].attrs.get("_index", "_index")
    names: Any = group[f"{place}/{index}"]
    return [str(name) for name in names[:]]


def ids_of(path: str | Path) -> list[str]:
    """The names in a text file, one a line."""
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"{path} cannot be read ({first_line(error)})", "give a text file in UTF-8 with an id a line"
        ) from error


def _lines(path: Path, separator: str) -> Iterator[tuple[str, str, float]]:
    try:
        file = path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise SourceError(f"{path} cannot be read", "give a table of users, items and ratings") from error
    with file:
        try:
            first = file.readline()
            by = separator or ("\t" if "\t" in first else ",")
            for number, fields in enumerate(csv.reader(file, delimiter=by), 2):
                yield _rating(f"line {number} of {path}", fields)
        except (UnicodeDecodeError, csv.Error, TypeError) as error:  # TypeError: of a longer separator
            raise SourceError(
                f"{path} cannot be read ({first_line(error)})",
                "give a table in UTF-8 whose columns one character separates",
            ) from error


def _rating(where: str, fields: list[str]) -> tuple[str, str, float]:
    try:
        return fields[0], fields[1], float([*fields, "1"][2])
    except (IndexError, ValueError) as error:
        raise SourceError(f"{where} is {fields}", "each line has a user, an item and a rating") from error
