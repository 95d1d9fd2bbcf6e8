"""A source that the package knows nothing of is one class: it obeys the laws, and a run decomposes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigsvd.solve import make_request, run
from bigsvd.sources.base import Source
from bigsvd.verify import verify
from tests.hilbert import HilbertSource
from tests.laws import SourceLaws

K = 4


class TestHilbert(SourceLaws):
    """Computed from its indices."""

    @pytest.fixture
    def source(self) -> Source:
        return HilbertSource(23, 17, (5, 4))

    @pytest.fixture
    def entries(self) -> np.ndarray:
        return HilbertSource(23, 17, (5, 4)).read(slice(0, 23), slice(0, 17))


@pytest.mark.parametrize("options", [{}, {"center": True, "scale": True}], ids=["plain", "standardised"])
@pytest.mark.parametrize("shape", [(900, 40), (40, 900)], ids=["tall", "wide"])
def test_a_run_decomposes_it(tmp_path: Path, shape: tuple[int, int], options: dict[str, Any]) -> None:
    source = HilbertSource(*shape, chunks=(20, 20))
    request = make_request(source, K, tmp_path / "out", memory="300MB", method="krylov", tol=1e-8, **options)
    factors = run(request, source)
    A = source.read(slice(0, shape[0]), slice(0, shape[1]))
    if options:
        A = (A - A.mean(axis=0)) / A.std(axis=0)
    s, Vt = np.linalg.svd(A)[1:]
    np.testing.assert_allclose(factors.s, s[:K], rtol=1e-8)
    largest = np.take_along_axis(factors.Vt[:], np.argmax(np.abs(factors.Vt[:]), axis=1)[:, np.newaxis], 1)
    assert np.all(largest > 0)
    np.testing.assert_allclose(np.abs(np.sum(factors.Vt[:] * Vt[:K], axis=1)), 1, rtol=1e-6)
    assert verify(factors, source, lambda _: None).findings == ()
