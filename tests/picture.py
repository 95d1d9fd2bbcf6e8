"""The picture of the page in README: ``python -m tests.picture benchmarks/results/service-page.png``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import zarr

from tests.browser import browser
from tests.servers import running

_WIDTH, _HEIGHT = 1100, 1300


def waves(m: int, n: int, count: int) -> np.ndarray:
    """So many waves of falling strength, and noise below them."""
    rng = np.random.default_rng(5)
    x, y = np.linspace(0, 1, m)[:, None], np.linspace(0, 1, n)[None, :]
    each = (
        0.7**i * np.sin((i + 1) * np.pi * (x + 0.1 * i)) * np.cos((i + 2) * np.pi * y) for i in range(count)
    )
    return np.asarray(sum(each) + 0.05 * rng.standard_normal((m, n)), dtype=np.float32)


def picture(out: Path) -> None:
    """Serve a result, look at it, and write what is seen."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = zarr.create_array(root / "waves.zarr", shape=(2400, 1200), chunks=(600, 600), dtype="f4")
        data[:] = waves(2400, 1200, 12)
        with running(root, "--state", root / "state") as server, browser() as page:
            job = server.done({"source": "waves.zarr", "k": 20, "out": "waves.k20"})["id"]
            page.size(_WIDTH, _HEIGHT)
            page.prefer("light")
            page.go(f"{server.url}/results/{job}?k=7#token={server.token}")
            page.see(".heat .level", "exact mean", 60)
            page.until(lambda: page.has(".chart .uplot") and "to come" not in page.text(".heat .level"))
            page.picture(out, whole=False)


if __name__ == "__main__":
    picture(Path(sys.argv[1]))
