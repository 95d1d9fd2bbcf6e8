"""xeofs and eofs in a fresh process of any Python that has them: `PYTHON climate_xeofs.py FOLDER`.

Nothing of this repository is imported, which that Python need not have.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def by_xeofs(data: Any, k: int) -> np.ndarray:
    """Randomized SVD by xeofs, of the array as it is: with Dask where it is opened lazily."""
    model = import_module("xeofs").single.EOF(n_modes=k, use_coslat=True, random_state=0)
    model.fit(data, dim="time")
    model.components().load()
    model.scores().load()
    return np.asarray(model.singular_values())


def by_xeofs_in_memory(data: Any, k: int) -> np.ndarray:
    """The same, of the array loaded first."""
    return by_xeofs(data.load(), k)


def by_eofs(data: Any, k: int) -> np.ndarray:
    """LAPACK's SVD of the whole by eofs, in memory."""
    weights = np.sqrt(np.cos(np.deg2rad(data["lat"].values)))[:, None]
    solver = import_module("eofs.standard").Eof(data.values, weights=weights)
    solver.eofs(neofs=k)
    solver.pcs(npcs=k)
    return np.asarray(np.sqrt(solver.eigenvalues(neigs=k) * (data.shape[0] - 1)))


WAYS: dict[str, tuple[str, Callable[[Any, int], np.ndarray]]] = {
    "xeofs, Dask": ("xeofs", by_xeofs),
    "xeofs, in memory": ("xeofs", by_xeofs_in_memory),
    "eofs, in memory": ("eofs", by_eofs),
}


def modes(store: str, k: int, name: str, way: str) -> dict[str, Any]:
    """The modes of a variable in a store, by one of `WAYS`."""
    package, run = WAYS[way]
    import_module(package)
    data = import_module("xarray").open_zarr(store, consolidated=False)[name]
    imported_bytes, start = _status_bytes("VmRSS"), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sigma = run(data, k)
    return {
        "seconds": time.perf_counter() - start,
        "imported_bytes": imported_bytes,
        "peak_rss_bytes": _status_bytes("VmHWM"),
        "sigma": sigma.astype(np.float64).tolist(),
        "version": f"{package} {version(package)}",
    }


def _status_bytes(name: str) -> int:
    """A figure of this process's memory, of Linux."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main(folder: Path) -> None:
    """In the fresh process."""
    measured = modes(**json.loads((folder / "job.json").read_text()))
    (folder / "measured.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
