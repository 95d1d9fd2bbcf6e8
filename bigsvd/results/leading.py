"""Factors of fewer triplets, published as a store of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bigsvd.orientation import Rows
from bigsvd.results.factors import UNCERTAINTY, Factors
from bigsvd.results.output import Inputs, Output
from bigsvd.results.store import FOLDER, chunk_lines, damage_errors, seal
from bigsvd.scratch import Scratch

_CHUNKS_AT_A_TIME = 16
# What `seal` itself says of a store.
_OF_THE_STORE = ("format_version", "versions", "manifest", "crc32c")


def publish_leading(factors: Factors, k: int, out: str | Path) -> Factors:
    """The best approximation of rank k ≤ factors.k in a new factor store; nothing but factors are read.

    Its provenance is that of the factors, with `truncated_from` beside it; its certificate that of
    `Factors.truncate`.

    Raises:
        RankError: k is not in 1..factors.k. OutputExistsError: something is there. OutputBusyError: a run is.

    """
    few = factors.truncate(k)
    output = Output(out, overwrite=False, inputs=Inputs((factors.path.resolve(),)))
    with output:
        scratch = Scratch(output.scratch, output.begin())
        with damage_errors(factors.path):
            _copy(few.U, f"{FOLDER}/U", 0, scratch)
            _copy(few.Vt, f"{FOLDER}/Vt", 1, scratch)
        scratch.write(f"{FOLDER}/s", few.s)
        lines = few.lines | {"rows": few.kept.rows, "cols": few.kept.cols, "missing": few.kept.empty}
        lines[UNCERTAINTY] = few.uncertainty
        for name, values in lines.items():
            if values is not None:
                scratch.write(f"{FOLDER}/{name}", np.asarray(values))
        seal(scratch, _attributes(few, factors))
        published = output.publish()
        output.tidy()
    return published


def _attributes(few: Factors, factors: Factors) -> dict[str, Any]:
    """What is said of the new store."""
    own = {name: value for name, value in few.provenance.items() if name not in _OF_THE_STORE}
    origin = {"path": str(factors.path), "k": factors.k}
    return own | {"certificate": few.certificate.to_dict(), "truncated_from": origin}


def _copy(lines: Any, name: str, axis: int, scratch: Scratch) -> None:
    """Copy a factor whose lines are along `axis`, some chunks at a time."""
    length, k = lines.shape[axis], lines.shape[1 - axis]
    chunk = chunk_lines(k, length, lines.dtype.name)
    chunks = (chunk, k) if axis == 0 else (k, chunk)
    source = Rows(lines, axis)
    target = Rows(scratch.create(name, tuple(lines.shape), chunks, lines.dtype.name), axis)
    step = chunk * _CHUNKS_AT_A_TIME
    for start in range(0, length, step):
        some = slice(start, min(length, start + step))
        target[some] = source[some]
