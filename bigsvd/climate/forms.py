"""The form in which variables are given, and what is made of them is: one array, a Dataset, or a list."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from bigsvd.errors import ColumnsError, SourceError

if TYPE_CHECKING:
    import xarray as xr


class Form(ABC):
    """One of the three.

    Law: ``together(arrays(X), name)`` is X again, called by that name where it is one array.
    """

    @abstractmethod
    def arrays(self, X: Any) -> list[xr.DataArray]:
        """The variables of X, in an order that the form keeps."""

    @abstractmethod
    def together(self, arrays: Sequence[xr.DataArray], name: Hashable) -> Any:
        """Arrays, one for each variable, in this form."""

    def alike(self, X: Any, arrays: Sequence[xr.DataArray]) -> list[xr.DataArray]:
        """The variables of other data, one for each of these in their order.

        Raises:
            ColumnsError: it has another form, or others.

        """
        found = self.arrays(X) if self.is_of(X) else []
        if len(found) != len(arrays):
            raise ColumnsError(
                f"{type(X).__name__} is given for {self} of {len(arrays)} variables", f"give {self} of these"
            )
        return found

    @abstractmethod
    def is_of(self, X: Any) -> bool:
        """Whether X may be of this form."""


class Alone(Form):
    """A `DataArray`."""

    def __str__(self) -> str:
        return "a DataArray"

    def is_of(self, X: Any) -> bool:
        """Not if it is several."""
        return hasattr(X, "dims") and not hasattr(X, "data_vars")

    def arrays(self, X: Any) -> list[xr.DataArray]:
        """Itself."""
        return [X]

    def together(self, arrays: Sequence[xr.DataArray], name: Hashable) -> Any:
        """The only one."""
        return arrays[0].rename(name)


class Listed(Form):
    """A list of these."""

    def __str__(self) -> str:
        return "a list"

    def is_of(self, X: Any) -> bool:
        """If it is one, of whatever."""
        return isinstance(X, (list, tuple))

    def arrays(self, X: Any) -> list[xr.DataArray]:
        """Its members."""
        return list(X)

    def together(self, arrays: Sequence[xr.DataArray], name: Hashable) -> Any:
        """As they are."""
        del name
        return list(arrays)


class Named(Form):
    """A `Dataset`."""

    def __str__(self) -> str:
        return "a Dataset"

    def is_of(self, X: Any) -> bool:
        """If it is one."""
        return hasattr(X, "data_vars")

    def arrays(self, X: Any) -> list[xr.DataArray]:
        """Its variables."""
        return [X[name] for name in X.data_vars]

    def together(self, arrays: Sequence[xr.DataArray], name: Hashable) -> Any:
        """As a Dataset."""
        import xarray as xr  # noqa: PLC0415 - of the extra xarray

        del name
        return xr.Dataset({array.name: array for array in arrays})

    def alike(self, X: Any, arrays: Sequence[xr.DataArray]) -> list[xr.DataArray]:
        """By their names; it may have more."""
        names = [array.name for array in arrays]
        lacking = [str(name) for name in names if name not in getattr(X, "data_vars", ())]
        if lacking:
            raise ColumnsError(f"samples have no variable {lacking[0]}", "give a Dataset with the same ones")
        return [X[name] for name in names]


def form_of(X: Any) -> Form:
    """The form of what a user gives; `SourceError` where it is none of the three."""
    import xarray as xr  # noqa: PLC0415 - of the extra xarray

    if isinstance(X, xr.DataArray):
        return Alone()
    if isinstance(X, xr.Dataset) and X.data_vars:
        return Named()
    if isinstance(X, (list, tuple)) and X and all(isinstance(each, xr.DataArray) for each in X):
        return Listed()
    raise SourceError(
        f"{type(X).__name__} is no labelled field",
        "give an xarray DataArray, Dataset or list of DataArray, such as xarray.open_zarr(path).sst",
    )
