"""What `devices.bfloat16` does, in NumPy: its specification, for machines without torch."""

from __future__ import annotations

import numpy as np


def rounded(array: np.ndarray) -> np.ndarray:
    """Entries rounded to bfloat16, to nearest and ties to even, held as float32."""
    bits = np.array(array, np.float32).view(np.uint32)
    bits += np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    bits &= np.uint32(0xFFFF0000)
    return bits.view(np.float32)


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left·right, summed in float32 and rounded."""
    return rounded(left @ right)
