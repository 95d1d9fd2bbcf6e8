"""Modes of labelled fields as they are drawn: of many axes the last two, at the first of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bigsvd.report.modes import Map, Mode, Series

if TYPE_CHECKING:
    import xarray as xr


def pictures(
    components: list[xr.DataArray], scores: xr.DataArray, shares: np.ndarray, count: int
) -> list[Mode]:
    """The first modes of variables (mode, ...) whose scores (samples, mode) are given."""
    return [
        Mode(i + 1, float(shares[i]), [_map(each.isel(mode=i)) for each in components], _series(scores, i))
        for i in range(count)
    ]


def _map(component: xr.DataArray) -> Map:
    first = dict.fromkeys(component.dims[:-2], 0)
    shown = component.isel(first)
    said = [f"{name}={_word(component, name)}" for name in first]
    title = ", ".join([str(component.name or "components"), *said])
    return Map(title, shown.to_numpy(), tuple((str(name), _along(shown, name)) for name in shown.dims))


def _word(component: xr.DataArray, name: Any) -> str:
    """The first place along an axis, in words."""
    return str(_along(component, name)[0])


def _series(scores: xr.DataArray, i: int) -> Series:
    name = next(name for name in scores.dims if name != "mode")
    return Series(str(name), _along(scores, name), scores.isel(mode=i).to_numpy())


def _along(array: xr.DataArray, name: Any) -> np.ndarray:
    """The coordinate along an axis, or numbers where it is none that can be drawn."""
    if name in array.indexes and array[name].dtype.kind in "iufM":
        return array[name].to_numpy()
    return np.arange(array.sizes[name])
