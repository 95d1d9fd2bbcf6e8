"""How large an array may be that is read whole: as a vector for the lines of a matrix, and not much larger.

Else whoever names a matrix where a vector is meant has it read into memory.
"""

from __future__ import annotations

import math

from bigsvd.errors import RequestError
from bigsvd.facts import SourceFacts

SMALL = 2**20  # entries that are read in any case, so that it can be said what is wrong with them
ANY = math.inf


def most_entries(facts: SourceFacts) -> int:
    """How many an array may have that is given for the lines of a matrix."""
    stacked = (math.prod(facts.stacked_shape(axis)) for axis in (0, 1))
    return max(SMALL, *facts.shape, *stacked)


def check_size(name: str, shape: tuple[int, ...], most: float) -> None:
    """`RequestError` where an array has more entries than that."""
    size = math.prod(map(int, shape))
    if size > most:
        raise RequestError(
            f"{name} has {size:,} entries, shape {shape}, where at most {most:,} are read",
            "give a vector: one value for each line",
        )
