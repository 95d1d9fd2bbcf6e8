"""What features are multiplied by: the root of the cosine of latitude, and weights of the user's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from bigsvd.climate.fields import Fields
from bigsvd.climate.variable import Variable
from bigsvd.errors import RequestError
from bigsvd.vectors import Vector

_LATITUDES = ("latitude", "lat", "lats", "nav_lat")  # names of coordinates, in any case
_ROUNDING = 1e-15  # of the cosine of a pole
_DEGREES_NORTH = ("degrees_north", "degree_north", "degrees_N", "degree_N", "degreesN", "degreeN")  # of CF


def weights_of(fields: Fields, given: Any, *, use_coslat: bool) -> np.ndarray | None:
    """A factor for each feature, (n,) float64; None where nothing is weighted.

    Args:
        fields: whose features they are.
        given: for each variable an array that broadcasts to its features, by names where it has them; in the
            form of the data. None for 1.
        use_coslat: whether √cos(latitude) is a factor too, so that variances are by area.

    Raises:
        RequestError: another shape; no latitude.
        ColumnsError: another form, or other variables.

    """
    if given is None and not use_coslat:
        return None
    parts = [np.ones(variable.size) for variable in fields.variables]
    if use_coslat:
        parts = [_root_of_cosine(variable) for variable in fields.variables]
    if given is not None:
        pairs = zip(fields.variables, _for_each(fields, given), strict=True)
        parts = [part * _spread(*pair) for part, pair in zip(parts, pairs, strict=True)]
    return np.concatenate(parts)


def _for_each(fields: Fields, given: Any) -> list[Any]:
    """The user's weights of each variable; what has no names may be given for one alone."""
    if len(fields.variables) == 1 and not hasattr(given, "data_vars") and not isinstance(given, list):
        return [given]
    return fields.form.alike(given, [variable.array for variable in fields.variables])


def _spread(variable: Variable, weights: Any) -> np.ndarray:
    """Weights at each of a variable's features, (features,)."""
    dims = tuple(map(str, getattr(weights, "dims", ())))
    vector = Vector("weights", np.asarray(weights, dtype=np.float64), dims)
    found = vector.along(tuple(map(str, variable.dims)), variable.lengths)
    if found is None:
        raise RequestError(
            f"weights of shape {vector.values.shape} for {variable.called}, whose features are "
            f"{variable.lengths}",
            "give an array that broadcasts to them",
        )
    return found


def _root_of_cosine(variable: Variable) -> np.ndarray:
    """√cos(latitude) of each of a variable's features; 0 at the poles, whatever rounding makes of them."""
    latitude = _latitude(variable)
    cosine = np.cos(np.deg2rad(latitude.astype(np.float64)))
    return _spread(variable, np.sqrt(cosine.where(cosine > _ROUNDING, 0.0)))


def _latitude(variable: Variable) -> Any:
    """The coordinate that is the latitude, by CF attributes or its name; along one axis, or two."""
    for name, coordinate in variable.coords.items():
        told = coordinate.attrs.get("standard_name"), coordinate.attrs.get("units")
        if (told[0] == "latitude" or told[1] in _DEGREES_NORTH or str(name).lower() in _LATITUDES) and (
            coordinate.dims
        ):
            return coordinate
    raise RequestError(
        f"use_coslat=True, and none of the coordinates of {variable.called} is a latitude: "
        f"{', '.join(map(str, variable.coords)) or 'it has none'}",
        "name one latitude, or give weights",
    )
