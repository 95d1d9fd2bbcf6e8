"""The methods there are: a row for each, and nothing that takes long to import.

A new method is a file with an instance of `methods.base.Method` called `METHOD`, and a row here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from bigsvd.catalog.options import CompressedOptions


@dataclass(frozen=True)
class Row:
    """Where a method lies, and what of it is known without importing it.

    Attributes:
        module: that has it as `METHOD`.
        options: the type of its own options; None where it has none.
        by_dask: whether Dask's own algorithm does the work: it needs a cluster, and CuPy where the client is.

    """

    module: str
    options: type | None = None
    by_dask: bool = False


METHODS: dict[str, Row] = {
    "krylov": Row("bigsvd.methods.krylov"),
    "gram": Row("bigsvd.methods.gram"),
    "tall_skinny": Row("bigsvd.methods.tall_skinny", by_dask=True),
    "compressed": Row("bigsvd.methods.compressed", CompressedOptions, by_dask=True),
}


def load(name: str) -> Any:
    """The method of that name."""
    return import_module(METHODS[name].module).METHOD


def runs_on_dask(name: str) -> bool:
    """Whether the method of that name is Dask's own; not so where the planner is still to choose one."""
    return name in METHODS and METHODS[name].by_dask


def option_names(name: str) -> tuple[str, ...]:
    """The keywords that the method of that name takes of its own; none of a name that no method has."""
    options = [row.options for known, row in METHODS.items() if known == name and row.options is not None]
    return tuple(field.name for found in options for field in fields(found))


def owner_of(option: str) -> str | None:
    """The first method that has this option; None where none has."""
    return next((name for name in METHODS if option in option_names(name)), None)
