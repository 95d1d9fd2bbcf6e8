"""What the service keeps of decoded and pooled factors: no more than it may, and each made once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bigsvd.service.arrays.block_cache import BlockCache
from bigsvd.service.arrays.recent import Recent


def test_a_cache_holds_no_more_than_its_limit() -> None:
    cache = BlockCache(1000)
    keep = cache.of("one")
    for number in range(10):
        keep(number, lambda: np.zeros(300, np.uint8))
        assert cache.held_bytes <= 1000
    assert cache.held_bytes == 900
    assert (cache.hits, cache.misses) == (0, 10)
    keep(9, lambda: np.zeros(1))
    assert (cache.hits, cache.misses) == (1, 10)
    keep(0, lambda: np.zeros(300, np.uint8))
    keep(9, lambda: np.zeros(1))  # which was used last, and so is there yet
    assert cache.hits == 2
    assert len(keep("large", lambda: np.zeros(2000, np.uint8))) == 2000
    assert cache.held_bytes == 900
    cache.of("other")(0, lambda: np.ones(100, np.uint8))
    cache.forget("one")
    assert cache.held_bytes == 100
    with pytest.raises(ValueError, match="read-only"):
        cache.of("other")(0, lambda: np.zeros(1))[0] = 1


def test_two_who_want_the_same_make_it_once() -> None:
    cache, begun, go = BlockCache(1000), threading.Event(), threading.Event()
    made: list[int] = []

    def make() -> np.ndarray:
        begun.set()
        assert go.wait(30)
        made.append(1)
        return np.arange(3)

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(cache.of("a"), 0, make)
        assert begun.wait(30)
        others = [pool.submit(cache.of("a"), 0, make) for _ in range(2)]
        go.set()
        assert all(each.result() is first.result() for each in others)
    assert made == [1]


def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    cache = BlockCache(1000)

    def fail() -> np.ndarray:
        raise OSError("lost")

    for _ in range(2):
        with pytest.raises(OSError, match="lost"):
            cache.of("a")(0, fail)
    assert cache.of("a")(0, lambda: np.arange(2)).tolist() == [0, 1]


def test_what_is_recent_is_not_found_again_unless_it_holds_no_more() -> None:
    found: list[int] = []

    def find() -> int:
        found.append(len(found) + 1)
        return found[-1]

    recent: Recent[int] = Recent(3600.0, 2)
    assert [recent.get("a", lambda _: True, find) for _ in range(3)] == [1, 1, 1]
    assert recent.get("a", lambda number: number != 1, find) == 2
    assert [recent.get(name, lambda _: True, find) for name in "bcb"] == [3, 4, 3]
    assert recent.get("a", lambda _: True, find) == 5  # the third of at most two
    never: Recent[int] = Recent(0.0, 2)
    assert [never.get("a", lambda _: True, find) for _ in range(2)] == [6, 7]
