"""bigsvd's components of cells in a fresh process: `python -m benchmarks.cells_child pca FOLDER`."""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import peak_rss_bytes
from bigsvd.anndata import pca
from bigsvd.slabs.sparse import scipy_sparse


def components(store: str, k: int, mask: str | None, memory: str) -> dict[str, Any]:
    """Normalised, logarithmic, centred components of the cells, written back into the store."""
    scipy_sparse()
    imported_bytes, start = int(psutil.Process().memory_info().rss), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # which repeat the certificate
        factors = pca(
            store, k, normalize=1e4, log1p=True, mask=mask, memory=memory, device="cpu", overwrite=True
        )
    costs, certificate = factors.provenance["costs"], factors.certificate
    return {
        "seconds": time.perf_counter() - start,
        "seconds_by_part": costs["seconds_by_part"],
        "imported_bytes": imported_bytes,
        "peak_rss_bytes": peak_rss_bytes(),
        "variance": factors.explained_variance().tolist(),
        "passes": costs["passes"],
        "method": costs["method"],
        "seconds_in_run": costs["seconds"],
        "predicted_seconds": sum(costs["predicted_seconds"].values()),
        "planned_memory_bytes": costs["planned_memory_bytes"],
        "max_residual": certificate.max_residual,
    }


def main(folder: Path) -> None:
    """In the fresh process."""
    measured = components(**json.loads((folder / "job.json").read_text()))
    (folder / "measured.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    main(Path(sys.argv[2]))
