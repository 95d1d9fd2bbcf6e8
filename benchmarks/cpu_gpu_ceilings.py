"""Ceilings, measured in a process of their own: reading a store, copying to the device, large products.

A ceiling is the best of a few tries: what the hardware and the libraries below bigsvd can do at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import open_store
from benchmarks.machine import usable_cpus

_TRIES = 3
_PRECISIONS = ("float32", "float64")


def load(store: Path) -> np.ndarray:
    """The stored matrix in memory, read by all threads with zarr-python."""
    array = open_store(store)
    values = np.empty(array.shape, array.dtype)

    def read(start: int) -> None:
        values[start : start + array.chunks[0]] = array[start : start + array.chunks[0]]

    with ThreadPoolExecutor(usable_cpus()) as pool:
        list(pool.map(read, range(0, array.shape[0], array.chunks[0])))
    return values


def read_rates(store: str, *, gpu: bool) -> dict[str, Any]:
    """Decoded bytes per second of a bare read by all threads: by zarr-python, and as lanes of bigsvd do.

    With a `gpu`, `to_gpu` has the same to its memory, or why a way to there does not work.
    """
    path = Path(store)
    array = open_store(path)
    readers = {"zarr-python": _read_by_zarr, "bigsvd": _read_by_bigsvd}
    _read_by_zarr(path)  # the first leaves the store in the page cache, if it fits there
    seconds = {name: _best(partial(reader, path)) for name, reader in readers.items()}
    rates = {name: array.nbytes / took for name, took in seconds.items()}
    to_gpu: dict[str, float | str] = {}
    for name, ours in _TO_GPU.items() if gpu else ():
        try:
            to_gpu[name] = array.nbytes / _best(partial(ours, path))
        except Exception as error:  # noqa: BLE001 - what another library raises is the finding
            to_gpu[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return {
        "threads": usable_cpus(),
        "rates": rates,
        "bytes_per_second": max(rates.values()),
        "to_gpu": to_gpu,
    }


def _to_gpu_by_zarr(path: Path) -> None:
    """`zarr.config.enable_gpu`: chunks decoded into the GPU's memory, by nvCOMP where Zarr has it."""
    with import_module("zarr").config.enable_gpu():
        _to_gpu_of(import_module("zarr").open_array(path, mode="r"))


def _to_gpu_by_kvikio(path: Path) -> None:
    """The same from kvikio's store, which reads files straight to the GPU's memory (GPUDirect Storage)."""
    store = import_module("kvikio.zarr").GDSStore(path)
    with import_module("zarr").config.enable_gpu():
        _to_gpu_of(import_module("zarr").open_array(store, mode="r"))


def _to_gpu_of(array: Any) -> None:
    cupy = import_module("cupy")

    def read(start: int) -> None:
        if not isinstance(array[start : start + array.chunks[0]], cupy.ndarray):
            message = "what was read is not in the GPU's memory"
            raise TypeError(message)

    with ThreadPoolExecutor(usable_cpus()) as pool:
        list(pool.map(read, range(0, array.shape[0], array.chunks[0])))
    cupy.cuda.Device().synchronize()


def _to_gpu_by_bigsvd(path: Path) -> None:
    """Each thread decodes into its own pinned memory and copies by a stream of its own, as lanes do."""
    device = import_module("bigsvd.devices.choose").choose_device("gpu")[0]
    _read_by_bigsvd(path, device)


_TO_GPU = {
    "zarr-python, enable_gpu": _to_gpu_by_zarr,
    "zarr-python, enable_gpu, kvikio GDSStore": _to_gpu_by_kvikio,
    "bigsvd": _to_gpu_by_bigsvd,
}


def _read_by_zarr(path: Path) -> None:
    array = open_store(path)

    def read(start: int) -> int:
        return int(np.asarray(array[start : start + array.chunks[0]]).nbytes)

    with ThreadPoolExecutor(usable_cpus()) as pool:
        list(pool.map(read, range(0, array.shape[0], array.chunks[0])))


def _read_by_bigsvd(path: Path, device: Any = None) -> None:
    """Each thread its own source and its own memory, decoding chunk after chunk in place, or to a device."""
    opened = import_module("bigsvd.sources.open").open_source(path)
    chunks = import_module("bigsvd.chunks.buffers")
    (m, n), height, threads = opened.facts.shape, opened.facts.chunks[0], usable_cpus()

    def read(first: int) -> None:
        panel = chunks.ReusableBuffer(device.host_memory) if device is not None else None
        source, space = opened.fresh(), chunks.ReadBuffers(panel)
        queue = device.queue() if device is not None else None
        for start in range(first * height, m, threads * height):
            block = source.read(slice(start, min(m, start + height)), slice(0, n), space)
            if queue is not None:
                queue.send(block)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, range(threads)))


def machine_ceilings(side: int, copy_bytes: int, *, gpu: bool) -> dict[str, Any]:
    """Products of square matrices, `side` across on the CPU, twice that on a GPU, and copies to the GPU."""
    found: dict[str, Any] = {
        "threads": usable_cpus(),
        "products": {"cpu": {dtype: _cpu_products(side, dtype) for dtype in _PRECISIONS}},
        "copy": None,
        "device_memory": None,
        "gpu": None,
    }
    if gpu:
        cupy = import_module("cupy")
        found["products"]["gpu"] = {dtype: _gpu_products(cupy, 2 * side, dtype) for dtype in _PRECISIONS}
        found["copy"] = _copies(cupy, copy_bytes)
        found["device_memory"] = _device_memory(cupy, copy_bytes)
        found["gpu"] = _describe(cupy)
    return found


def _cpu_products(side: int, dtype: str) -> float:
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((side, side)).astype(dtype) for _ in range(2))
    out = np.empty_like(a)
    np.matmul(a, b, out=out)
    return 2.0 * side**3 / _best(lambda: np.matmul(a, b, out=out))


def _gpu_products(cupy: Any, side: int, dtype: str) -> float:
    random = cupy.random.RandomState(0)
    a, b = (random.standard_normal((side, side)).astype(dtype) for _ in range(2))
    out = cupy.empty_like(a)

    def once() -> None:
        cupy.matmul(a, b, out=out)
        cupy.cuda.Device().synchronize()

    once()
    return 2.0 * side**3 / _best(once)


def _copies(cupy: Any, size: int) -> dict[str, float]:
    """Bytes per second from pinned and from ordinary host memory."""
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(size), np.uint8, size)
    device = cupy.empty(size, np.uint8)
    rates = {}
    for name, host in (("pinned", pinned), ("pageable", np.empty(size, np.uint8))):
        host[...] = 1

        def once(host: np.ndarray = host) -> None:
            device.set(host)
            cupy.cuda.Device().synchronize()

        once()
        rates[name] = size / _best(once)
    return rates


def _device_memory(cupy: Any, size: int) -> float:
    """Bytes per second that a copy within the device's memory reads and writes."""
    a = cupy.zeros(16 * size, np.uint8)
    b = cupy.empty_like(a)

    def once() -> None:
        cupy.copyto(b, a)
        cupy.cuda.Device().synchronize()

    once()
    return float(2 * a.nbytes / _best(once))


def _describe(cupy: Any) -> dict[str, Any]:
    """What the GPU is."""
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    return {
        "name": properties["name"].decode(),
        "memory_bytes": int(properties["totalGlobalMem"]),
        "multiprocessors": int(properties["multiProcessorCount"]),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "cuda_runtime": int(runtime.runtimeGetVersion()),
        "cuda_driver": int(runtime.driverGetVersion()),
    }


def _best(once: Callable[[], Any]) -> float:
    """Seconds of the fastest try."""
    seconds = []
    for _ in range(_TRIES):
        start = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
