"""bigsvd's modes of a field in a fresh process: `python -m benchmarks.climate_child eof FOLDER`."""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import xarray as xr

import bigsvd
from benchmarks.climate_data import NAME
from benchmarks.measure import peak_rss_bytes


def modes(store: str, k: int, memory: str) -> dict[str, Any]:
    """Weighted by area, land left out; the labelled components and scores are read as a user would."""
    data = xr.open_zarr(store, consolidated=False)[NAME]
    imported_bytes, start = int(psutil.Process().memory_info().rss), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # which repeat the certificate
        eof = bigsvd.EOF(n_modes=k, use_coslat=True, memory=memory, device="cpu").fit(data, dim="time")
    s, components, scores = eof.singular_values(), eof.components(), eof.scores()
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "imported_bytes": imported_bytes,
        "peak_rss_bytes": peak_rss_bytes(),
        "sigma": np.asarray(s, dtype=np.float64).tolist(),
        "shapes": {"components": components.shape, "scores": scores.shape},
        "version": bigsvd.__version__,
    }


def main(folder: Path) -> None:
    """In the fresh process."""
    measured = modes(**json.loads((folder / "job.json").read_text()))
    (folder / "measured.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    main(Path(sys.argv[2]))
