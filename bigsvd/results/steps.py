"""The one step of time between snapshots, from a number or from all their times."""

from __future__ import annotations

from typing import Any

import numpy as np

from bigsvd.errors import RequestError

_JITTER = 1e-3  # of a step, by which steps may differ: times are often rounded to what is printed
_SECOND = np.timedelta64(1, "s")


def step_of(dt: Any, samples: int, taken: np.ndarray | None) -> float:
    """The time between snapshots, positive; in seconds where times are dates.

    Args:
        dt: the time between neighbours among all `samples` of the data; or the times of these, or of those
            taken, along one axis.
        samples: how many the data have.
        taken: which of them are the snapshots, ascending; None where all are.

    Raises:
        RequestError: it is no positive number; times are of another number, or not evenly spaced.

    """
    given = np.asarray(dt)
    if given.ndim == 0:
        return _length(given) * _stride(taken)
    times = _of_snapshots(given, samples, taken)
    steps = np.diff(_in_units(times))
    usual = float(np.median(steps))
    if not 0 < usual < np.inf:
        raise RequestError(f"times step by {usual:g}, the median", "give finite ones, ascending")
    rounding = 4 * _eps(times) * float(np.abs(_in_units(times)).max())
    uneven = np.abs(steps - usual) > _JITTER * usual + rounding
    if uneven.any():
        first = int(np.argmax(uneven))
        raise RequestError(
            f"snapshots are {steps.min():g} to {steps.max():g} apart, as after number {first}, "
            "and DMD needs them evenly spaced",
            "interpolate to even times, or take an evenly spaced part",
        )
    return float(steps.mean())


def _length(given: np.ndarray) -> float:
    """One step that was given."""
    if given.dtype.kind == "m":
        given = np.asarray(given / _SECOND)
    if given.dtype.kind not in "iuf" or not 0 < given < np.inf:
        raise RequestError(f"dt={given}", "give a positive number, or the times of the snapshots")
    return float(given)


def _stride(taken: np.ndarray | None) -> int:
    """How many samples of the data lie from one snapshot to the next."""
    if taken is None or len(taken) < 2:
        return 1
    strides = np.diff(taken)
    if strides.min() != strides.max():
        raise RequestError(
            f"of the samples some were taken, {strides.min()} to {strides.max()} apart, "
            "and DMD needs them evenly spaced",
            "take a range, such as 0:1000:2",
        )
    return int(strides[0])


def _of_snapshots(times: np.ndarray, samples: int, taken: np.ndarray | None) -> np.ndarray:
    """The times of the snapshots, (m,), which were given for all samples of the data or for these."""
    if times.ndim == 1 and taken is not None and len(times) == samples:
        times = times[taken]
    count = samples
    if taken is not None:
        count = len(taken)
    if times.shape != (count,) or times.dtype.kind not in "iufMm":
        raise RequestError(
            f"dt has shape {times.shape} and type {times.dtype} for {count} snapshots",
            "give one time for each; if that is another axis, name the one of time by dim=",
        )
    if count < 2:
        raise RequestError(f"{count} snapshot has no step", "give two or more")
    return times


def _in_units(times: np.ndarray) -> np.ndarray:
    """Times as numbers, float64; seconds since the first where they are dates."""
    if times.dtype.kind in "mM":
        return np.asarray((times - times[0]) / _SECOND)
    return times.astype(np.float64)


def _eps(times: np.ndarray) -> float:
    """The rounding of their type, relative."""
    if times.dtype.kind == "f":
        return float(np.finfo(times.dtype).eps)
    return float(np.finfo(float).eps)
