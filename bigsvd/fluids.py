"""Flows and video: proper orthogonal decomposition by an inner product, and pictures of modes and dynamics.

Snapshots are arrays of any number of axes, one of which is time, such as (time, y, x) of a video or
(time, component, z, y, x) of a velocity. They are read part by part, in whatever chunks they lie. Dynamic
modes follow from what `pod` returns, see `Factors.dmd`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bigsvd.errors import RequestError
from bigsvd.results.dmd import DMD
from bigsvd.results.factors import Factors
from bigsvd.solve import svd
from bigsvd.sources.vectors import open_numbers
from bigsvd.vectors import Vector

_NAME = "inner_product_weights"
# What options of `svd` are decided here, or would make of snapshots what no inner product does.
_OWN = frozenset({"samples", "sum", "weights", "row_weights"})


def pod(
    snapshots: Any,
    k: int | Literal["auto"],
    out: str | Path | None = None,
    *,
    dim: str | int,
    inner_product_weights: Any = None,
    center: bool = True,
    tol: float = 1e-3,
    **options: Any,
) -> Factors:
    """x(t) ≈ mean + Σ scores·modes: the k modes that hold most energy ‖x − mean‖² = Σ w·(x − mean)².

    The modes, ``factors.modes`` (k, y, x), are in the units of x and orthonormal by that inner product:
    Σ w·φᵢ·φⱼ over the cells is 1 for i = j, else 0. ``factors.scores`` (times, k) are the coefficients, and
    s² the energies. The same as modred's `compute_POD_arrays_snaps_method` of snapshots less their mean.

    Args:
        snapshots: path or URL of a Zarr array, or a Zarr, Dask, HDF5, xarray or NumPy array, real.
        k: number of modes, or "auto", as for `svd`.
        out: path of the factor store to keep; without one it lives as long as the returned value.
        dim: the axis of time, by name or number.
        inner_product_weights: w, what each cell counts, such as its volume; an array that broadcasts to the
            other axes, by their names where it has these, or the path of one; of an axis that it lacks it has
            length 1, such as (1, y, x) for (component, y, x). A cell of weight 0 is left out, and NaN in
            modes. None for 1.
        center: subtract the mean over time.
        tol: bound on the worst relative residual of a mode.
        options: those of `svd`, such as memory, rows, scale, seed, client; stop="signal" where k is larger
            than the number of modes above the noise, which alone are then exact to `tol`: others take many
            passes.

    Raises:
        RequestError: weights of another shape, or that are not finite and 0 or more; no such axis.
        BigsvdError: see `svd`.

    """
    refused = sorted(_OWN & options.keys())
    if refused:
        raise RequestError(f"{refused[0]!r} is decided by pod", f"give dim and {_NAME}, or use bigsvd.svd")
    weights = None
    if inner_product_weights is not None:
        weights = _roots(open_numbers(_NAME, inner_product_weights, options.get("storage_options")))
    return svd(snapshots, k, out, dim=dim, weights=weights, center=center, tol=tol, **options)


def _roots(given: Vector) -> Vector:
    """The square roots of weights, by which entries are multiplied: the inner product has them twice."""
    bad = ~((given.values >= 0) & (given.values < np.inf))
    if bad.any():
        first = np.unravel_index(int(np.argmax(bad)), bad.shape)
        raise RequestError(
            f"{given.told(_NAME)} has {np.count_nonzero(bad):,} of {bad.size:,} values that are not finite "
            f"and 0 or more, the first {given.values[first]:g} at {tuple(map(int, first))}",
            "give sizes of cells, 0 where one is to be left out",
        )
    return replace(given, values=np.sqrt(given.values))


def plot_modes(factors: Factors, path: str | Path, n_modes: int = 3) -> None:
    """Write a PNG: maps and coefficients of the first modes, and the share of the energy that all hold."""
    from bigsvd.report.dynamics import write_pod  # noqa: PLC0415 - imports matplotlib

    write_pod(factors, path, n_modes)


def plot_dmd(dmd: DMD, path: str | Path, n_modes: int = 3) -> None:
    """Write a PNG: eigenvalues at the unit circle, amplitudes by frequency, and maps of the strongest modes.

    Of a conjugate pair that with the positive frequency is shown, its real part beside the imaginary one.
    """
    from bigsvd.report.dynamics import write_dmd  # noqa: PLC0415 - imports matplotlib

    write_dmd(dmd, path, n_modes)
