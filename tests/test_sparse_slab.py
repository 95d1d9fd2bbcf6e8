"""Slabs of sparse rows stand for what dense ones do, and multiply what is not 0 where that is right."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from bigsvd.devices.cpu import CpuDevice
from bigsvd.functions import Functions
from bigsvd.orientation import Rows
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.sparse import SparseRows
from bigsvd.slabs.sparse_slab import Corrected, DenseParts, SparseSlab
from bigsvd.slabs.standardize import written_out
from bigsvd.slabs.transform import NOTHING, Given, MeansAndDivisors, Transform
from tests.laws import MadeSlab, SlabLaws

M, N = 40, 90
ROWS = slice(10, 30)
FEW, MANY = (sp.random(M, N, density, "csr", np.float32, np.random.default_rng(0)) for density in (0.03, 0.3))
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "centred": {"center": True},
    "scaled": {"center": True, "scale": "std"},
    "given": {"given": ("offset", "factor", "across")},
}


def made_of(
    matrix: Any, dtype: str = "float64", *, axis: int = 1, known: bool = True, **kind: Any
) -> MadeSlab:
    """The slab of some rows, and what they are as decomposed."""
    across, lengths, A = 1 - axis, matrix.shape, matrix.toarray().astype(np.float64)
    own = MeansAndDivisors(A.mean(axis=across), np.zeros(lengths[axis]), A.std(axis=across))
    own.divisor[own.divisor == 0] = 1.0
    given = NOTHING
    if "given" in kind:
        ramp = [np.linspace(0.1, 2, length) for length in (lengths[axis], lengths[axis], lengths[across])]
        given = Given(offset=ramp[0], factor=ramp[1], across=ramp[2])
    transform, device = Transform(axis=axis, **kind), CpuDevice()
    row_lines = Rows(own.stacked(), 1) if axis == 0 and known else None
    columns = own if axis == 1 else MeansAndDivisors.neutral(lengths[1])
    standard = written_out(transform, dtype, device.space(), lengths[1], columns, row_lines, given)
    entries = Entries(device, transform, SparseRows(matrix[ROWS]), matrix.dtype, ROWS, slice(0, lengths[1]))
    standard.begin_panel(ROWS)
    entries.show(standard.lookers)
    shift, divisor, more = own.mean * transform.center, own.divisor, np.ones(lengths[across])
    if "given" in kind:
        shift, divisor, more = given.offset, 1 / given.factor, given.across
    if not (transform.scale or "given" in kind):
        divisor = np.ones(lengths[axis])
    B = (A - np.expand_dims(shift, across)) / np.expand_dims(divisor, across) * np.expand_dims(more, axis)
    return MadeSlab(standard.slab(entries), B[ROWS])


def products_of(made: MadeSlab) -> DenseParts | Corrected:
    """What the slab multiplies."""
    assert isinstance(made.slab, SparseSlab)
    return made.slab._products


class TestSparse(SlabLaws):
    """By columns and by rows, of few entries and of many, in both forms."""

    @pytest.fixture(
        params=product(KINDS, ((1, True), (0, True), (0, False)), ("csr", "csc"), ("few", "many")), ids=str
    )
    def made(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MadeSlab:
        kind, (axis, known), form, how_many = request.param
        monkeypatch.setattr("bigsvd.slabs.sparse_slab._PART_BYTES", 8 * N * 7)
        monkeypatch.setattr("bigsvd.slabs.sparse_slab._LEAST_ROWS", 1)
        matrix = {"few": FEW, "many": MANY}[how_many].asformat(form)
        made = made_of(matrix, axis=axis, known=known, **KINDS[kind])
        assert isinstance(products_of(made), Corrected if how_many == "few" else DenseParts)
        return made


def test_products_in_float32_are_as_exact_as_of_dense_rows() -> None:
    """Though of each mean as much is subtracted as the entries of a frequent gene have."""
    matrix = FEW.tolil()
    matrix[:, 3] = 1000 + np.random.default_rng(1).random((M, 1))
    made = made_of(matrix.tocsr().astype(np.float32), "float32", center=True)
    assert isinstance(products_of(made), Corrected)
    Q = np.random.default_rng(2).standard_normal((N, 4)).astype(np.float32)
    np.testing.assert_allclose(made.slab.times(Q), made.expected @ Q, atol=1e-6)


def test_rows_that_hardly_differ_from_their_means_are_made_dense() -> None:
    matrix = sp.lil_matrix((M, N))
    matrix[:, 3] = 1e9 + np.random.default_rng(1).random((M, 1))
    made = made_of(matrix.tocsr(), center=True)
    assert isinstance(products_of(made), DenseParts)
    Q = np.random.default_rng(2).standard_normal((N, 4))
    np.testing.assert_allclose(made.slab.times(Q), made.expected @ Q, atol=1e-6)


def test_columns_of_nan_alone_are_no_part_of_it() -> None:
    matrix = FEW.tolil()
    matrix[:, 5] = np.nan
    made = made_of(matrix.tocsr(), missing="throughout", sentinels=(float("nan"),))
    expected = np.nan_to_num(made.expected)
    np.testing.assert_allclose(made.slab.to_array(), expected)
    np.testing.assert_allclose(made.slab.times(np.eye(N)), expected)
    assert made.slab.squares() == pytest.approx(np.sum(expected**2))


def test_functions_of_entries_are_of_dense_rows() -> None:

    made = made_of(FEW, functions=Functions.of(("log1p",)))
    assert isinstance(products_of(made), DenseParts)
    np.testing.assert_allclose(made.slab.to_array(), np.log1p(made.expected), rtol=1e-6)
