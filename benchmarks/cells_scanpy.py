"""scanpy's own way in a fresh process of any Python that has scanpy: `PYTHON cells_scanpy.py FOLDER`.

Nothing of this repository is imported, which that Python need not have.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np


def components(store: str, k: int, mask: str | None, solver: str) -> dict[str, Any]:
    """Normalised, logarithmic, centred components of the cells, all in memory."""
    sc, anndata, zarr = (import_module(name) for name in ("scanpy", "anndata", "zarr"))
    imported_bytes, start = _status_bytes("VmRSS"), time.perf_counter()
    group = zarr.open_group(store, mode="r")
    cells = anndata.AnnData(anndata.io.read_elem(group["X"]))
    if mask is not None:
        cells.var[mask] = np.asarray(group[f"var/{mask}"][:])
    times = [time.perf_counter()]
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    times.append(time.perf_counter())
    sc.pp.pca(cells, n_comps=k, mask_var=mask, svd_solver=solver)
    times.append(time.perf_counter())
    names = ("reading", "normalising", "components")
    return {
        "seconds": times[-1] - start,
        "seconds_by_part": dict(zip(names, np.diff([start, *times]).tolist(), strict=True)),
        "imported_bytes": imported_bytes,
        "peak_rss_bytes": _status_bytes("VmHWM"),
        "variance": np.asarray(cells.uns["pca"]["variance"], dtype=np.float64).tolist(),
        "version": sc.__version__,
    }


def _status_bytes(name: str) -> int:
    """A figure of this process's memory, of Linux."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main(folder: Path) -> None:
    """In the fresh process."""
    measured = components(**json.loads((folder / "job.json").read_text()))
    (folder / "measured.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
