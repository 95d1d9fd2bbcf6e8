"""Refusals of other libraries' objects that are no readable matrix, each with advice what to do."""

from __future__ import annotations

from typing import Any

from bigsvd.errors import SourceError
from bigsvd.sources.blocks import SPARSE_CURE, is_unread_sparse

_TO_NUMPY = "give its numbers as an array, such as x.to_numpy()"
_FRAMES = ("pandas", "polars", "pyarrow", "cudf", "modin")
_OTHERS_OF_DASK = {
    "Bag": "give a Dask array, such as dask.array.from_delayed of its partitions",
    "Delayed": "give a Dask array: dask.array.from_delayed(x, shape=..., dtype=...)",
    "DelayedLeaf": "give a Dask array: dask.array.from_delayed(x, shape=..., dtype=...)",
    "DelayedAttr": "give a Dask array: dask.array.from_delayed(x, shape=..., dtype=...)",
}
_FRAME_OF_DASK = "give x.to_dask_array(lengths=True)"


def library(data: Any) -> str:
    """The package that the type of an object comes from."""
    return type(data).__module__.split(".")[0]


def refuse_what_is_no_array(data: Any) -> None:
    """`SourceError` for an object that is known not to be an array of numbers."""
    name, kind = library(data), type(data).__name__
    if is_unread_sparse(data):
        raise SourceError(f"a sparse {kind} is not read", SPARSE_CURE)
    if name in ("dask", "dask_expr") and kind != "Array":
        raise SourceError(f"a Dask {kind} is not an array", _OTHERS_OF_DASK.get(kind, _FRAME_OF_DASK))
    if name in _FRAMES:
        raise SourceError(f"a {name} {kind} is a table, not an array", _TO_NUMPY)
    if kind == "AnnData":
        raise SourceError("an AnnData holds several arrays", "give one, such as adata.X")
    if name == "xarray" and kind in ("Dataset", "DataTree"):
        variables = ", ".join(map(str, list(getattr(data, "data_vars", ()))[:6]))
        raise SourceError(
            f"an xarray {kind} holds the variables {variables}", "give one of them, such as ds[name]"
        )
    if name == "h5py" and kind in ("File", "Group"):
        raise SourceError(
            f"an h5py {kind} holds {', '.join(list(data)[:6])}", "give one dataset of it, such as f[name]"
        )


def not_readable(data: Any) -> SourceError:
    """The refusal of an object that lacks a shape, a dtype or indexing by rows and columns."""
    return SourceError(
        f"{type(data).__name__} is not a matrix bigsvd can read",
        "give a path or URL of a Zarr array, or a Zarr, Dask, xarray or NumPy array, "
        "such as numpy.array(x) of a list",
    )
