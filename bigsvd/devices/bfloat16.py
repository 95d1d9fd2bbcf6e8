"""Products in bfloat16 on a processor, by torch; the only module that imports it, when the first is made.

bfloat16 has the range of float32 and 8 bits of it: an entry is rounded by up to 2⁻⁸ of itself, a product is
summed in float32 and rounded again. A processor with instructions for it multiplies twice as fast as in
float32; one without takes thirty times as long (AMD Zen 3: 0.4 to 3 Gflop/s, float32 15 to 50). Entries are
converted explicitly: torch's own implicit setting gained a tenth.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from bigsvd.devices.base import Array
from bigsvd.devices.cpu import along_memory, column_major

NAME = "bfloat16"

_LOCK = threading.Lock()
_THREADS: list[int] = []


def is_installed() -> bool:
    """Whether torch is there, which is not imported for it."""
    return find_spec("torch") is not None


def gpu_is_there() -> bool:
    """Whether torch finds one."""
    return bool(import_module("torch").cuda.is_available())


def rounded(array: np.ndarray) -> Array:
    """The entries (r, c) in bfloat16, for `product`; they lie in memory as those of `array` do.

    Torch reads neither what it may not write nor what lies backwards in memory: that is copied first.
    """
    torch = import_module("torch")
    lines = np.require(along_memory(array), requirements=("C", "W"))
    found = torch.from_numpy(lines).to(torch.bfloat16)
    if column_major(array):
        return found.T
    return found


def product(left: Array, right: Array) -> np.ndarray:
    """left·right of what `rounded` gave, rounded again and then float32; by the calling thread alone."""
    torch = import_module("torch")
    with threads(1):
        found: np.ndarray = (left @ right).to(torch.float32).numpy()
    return found


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Torch works on so many threads: one where lanes are threads already.

    The number that it had when it was first used here comes back: it is each thread's
    own, and that of threads that have not used torch yet.
    """
    torch = import_module("torch")
    with _LOCK:
        if not _THREADS:
            _THREADS.append(torch.get_num_threads())
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(_THREADS[0])
