"""Vortices behind a body, from snapshots on a disk: modes by the areas of cells, frequencies, and the future.

python examples/wake.py
"""

import numpy as np
import zarr

from bigsvd.fluids import plot_dmd, pod

DT, SHEDDING, times = 0.05, 1.6, np.arange(500) * 0.05  # seconds, cycles per second
x, y = np.linspace(0, 1, 120) ** 1.5 * 8, np.linspace(-2, 2, 60)[:, None]
area = np.gradient(y, axis=0) * np.gradient(x)  # of cells, which grow downstream


def wake(times):
    """The velocity across the stream (time, y, x): a street of vortices, and its harmonic."""
    phase = 2 * np.pi * (x / 3 - SHEDDING * times[:, None, None])
    return np.exp(-(y**2)) * (1 - np.exp(-x)) * np.cos(phase) + y * np.exp(-2 * y**2) * np.sin(2 * phase) / 2


measured = wake(times) + np.random.default_rng(0).normal(0, 0.2, (500, 60, 120))
zarr.create_array("wake.zarr", data=measured.astype("f4"), chunks=(50, 30, 60), overwrite=True)
flow = pod("wake.zarr", 12, dim=0, inner_product_weights=area, stop="signal", memory="500MB")
print(f"energy in 4 of {len(flow.modes)} modes: {flow.explained_variance_ratio[:4].sum():.1%}")
dynamics = flow.dmd(DT, rank=4)
print(dynamics)
later = times[-1] + np.array([1.0])
print(f"error a second later {np.std(dynamics.at(later) - wake(later)):.3f} of {np.std(wake(later)):.3f}")
plot_dmd(dynamics, "wake.png", 4)
