"""Rows of the long factor are the same however many are read and handled at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bigsvd.execution.long_factor import BasisBlock, RowBlock
from bigsvd.scratch import Scratch


@pytest.mark.parametrize("piece_rows", [1, 7, 16, 100])
@pytest.mark.parametrize("read_rows", [8, 16, 64])
@pytest.mark.parametrize("span", [(0, 53), (5, 50), (16, 17), (8, 32)])
def test_pieces_are_the_rows_of_the_formula(
    tmp_path: Path, span: tuple[int, int], read_rows: int, piece_rows: int
) -> None:
    rng = np.random.default_rng(0)
    scratch, total, parts = Scratch(tmp_path), np.zeros((53, 3)), []
    post = rng.standard_normal((3, 2))
    scratch.write("post", post)
    for index, columns in enumerate((4, 6)):
        Y = rng.standard_normal((53, columns)).astype(np.float32)
        offset, C = rng.standard_normal(columns), rng.standard_normal((columns, 3))
        scratch.create(f"y-{index}", Y.shape, (8, columns), "float32")[...] = Y
        scratch.write(f"offset-{index}", offset)
        scratch.write(f"c-{index}", C)
        parts.append(BasisBlock(f"y-{index}", f"offset-{index}", f"c-{index}", columns, 0))
        total += (Y - offset) @ C
    block = RowBlock(scratch, tuple(parts), 3, "post", *span, read_rows, piece_rows, "token", 1)
    found = list(block.pieces())
    assert np.concatenate([np.arange(53)[rows] for rows, _ in found]).tolist() == list(range(*span))
    assert max(len(values) for _, values in found) <= piece_rows
    values = np.concatenate([values for _, values in found])
    np.testing.assert_allclose(values, (total @ post)[slice(*span)], rtol=1e-12, atol=1e-12)
