"""Pictures of flows: modes with their coefficients, and dynamic modes with eigenvalues and spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from bigsvd.floats import silent
from bigsvd.report.modes import Map, Mode, Series, draw_map, write_modes
from bigsvd.results.dmd import DMD
from bigsvd.results.factors import Factors

_WIDTH_INCHES, _ROW_INCHES = 9.0, 2.6
_EIGENVALUES = 1.4  # rows that these are high
_PICTURES = "uint8"  # the element type of video, whose rows run downwards


def write_pod(factors: Factors, path: str | Path, n_modes: int) -> None:
    """Write a PNG to `path`; see `write_modes`."""
    modes, scores, shares = factors.modes, factors.scores, factors.explained_variance_ratio
    *_, name = _names(factors)
    times = np.arange(len(scores))
    shown = [
        Mode(i + 1, float(shares[i]), [_map(factors, modes[i], "field")], Series(name, times, scores[:, i]))
        for i in range(min(n_modes, factors.k))
    ]
    write_modes(shown, shares, factors.north() / factors.total_variance(), path)


@silent
def write_dmd(dmd: DMD, path: str | Path, n_modes: int) -> None:
    """Write a PNG to `path`: eigenvalues and spectrum above, below them real and imaginary parts of modes.

    Draws with Agg: needs no display, leaves pyplot alone.
    """
    maps = _maps(dmd, np.flatnonzero(dmd.frequencies >= 0)[:n_modes].tolist())
    rows = len(maps) // 2
    size = (_WIDTH_INCHES, _ROW_INCHES * (rows + _EIGENVALUES))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows + 1, 2, height_ratios=[_EIGENVALUES, *(1 for _ in range(rows))])
    _draw_eigenvalues(figure.add_subplot(grid[0, 0]), dmd)
    _draw_spectrum(figure.add_subplot(grid[0, 1]), dmd)
    for place, one in enumerate(maps):
        axes = figure.add_subplot(grid[1 + place // 2, place % 2])
        draw_map(figure, axes, one)
        axes.set_title(one.title, fontsize="medium")
    figure.savefig(path, format="png")


def _maps(dmd: DMD, numbers: Sequence[int]) -> list[Map]:
    """The real and the imaginary part of each of some modes."""
    modes, found = dmd.modes, []
    for i in numbers:
        told = f"frequency {dmd.frequencies[i]:.4g}, growth {dmd.growth_rates[i]:.2g}"
        found.append(_map(dmd.snapshots, modes[i].real, f"{told}: real part"))
        found.append(_map(dmd.snapshots, modes[i].imag, "imaginary part"))
    return found


def _map(factors: Any, mode: np.ndarray, title: str) -> Map:
    """A mode over its two longest axes, or the only one, at the first place along others."""
    shown = sorted(np.argsort(mode.shape, kind="stable")[-2:].tolist())
    cut = mode[tuple(slice(None) if axis in shown else 0 for axis in range(mode.ndim))]
    names = [_names(factors)[axis] for axis in shown]
    axes = tuple((name, np.arange(length)) for name, length in zip(names, cut.shape, strict=True))
    return Map(title, cut, axes, downwards=factors.source.dtype == _PICTURES)


def _names(factors: Factors) -> list[str]:
    """What the axes are called, or their numbers; that of time is the last."""
    names = list(factors.dims) or [f"axis {axis}" for axis in range(len(factors.array_shape))]
    names.append(names.pop(factors.array_axis))
    return names


def _draw_eigenvalues(axes: Axes, dmd: DMD) -> None:
    axes.add_patch(Circle((0, 0), 1, fill=False, color="0.6", linewidth=1.0))
    axes.plot(dmd.eigenvalues.real, dmd.eigenvalues.imag, "o", color="tab:blue", markersize=4)
    axes.set(xlabel="real part", ylabel="imaginary part", aspect="equal")
    axes.set_title("Eigenvalues: inside the circle modes decay", fontsize="medium")


def _draw_spectrum(axes: Axes, dmd: DMD) -> None:
    positive = dmd.frequencies >= 0
    amplitudes = dmd.amplitudes[positive]
    axes.vlines(dmd.frequencies[positive], 0, amplitudes, color="tab:blue", linewidth=1.5)
    axes.plot(dmd.frequencies[positive], amplitudes, "o", color="tab:blue", markersize=4)
    axes.set(
        xlabel="frequency", ylabel="amplitude", xlim=(0, None), ylim=(0, 1.1 * float(np.max(amplitudes)))
    )
    axes.set_title("Amplitudes in the first snapshot", fontsize="medium")
