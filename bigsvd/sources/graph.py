"""A Dask graph, evaluated for some blocks at a time in the calling thread.

One call of a Dask scheduler knows nothing of the next: a result that several calls need is computed in each,
and each looks at the whole graph. Here the graph is prepared once. Reading some blocks then walks only the
tasks that they need. Small results that blocks share are kept, such as a mean that is subtracted from each.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Any

import numpy as np

from bigsvd.errors import MemoryBudgetError, SourceError
from bigsvd.units import human_bytes

Key = Hashable
Tasks = dict[Key, Any]
TASK_BYTES = 3000  # memory of a task with its key and its entries in the tables of `Graph`; measured


class Graph:
    """Tasks by key; those whose results are read are the `blocks`.

    A result is kept if several blocks need it, if all such results of its layer together have at most
    `keep_bytes`, and if something must still be computed from it.
    """

    def __init__(
        self,
        tasks: Tasks,
        blocks: Iterable[Key],
        keep_bytes: int,
        kept: Mapping[Key, Any] | None = None,
        common: dict[Key, int] | None = None,
    ) -> None:
        self._tasks = tasks
        self._blocks = frozenset(blocks)
        self._dependents = _dependents(tasks)
        if common is None:
            common = _common(tasks, self._dependents, self._blocks)
        self._common = common
        self._small: dict[Any, bool] = {}
        self._settled: set[Key] = (
            set()
        )  # common, small and computed, so that their own sources are not needed
        self._keep_bytes = keep_bytes
        self._zarr: list[Any] = []  # the answer of `zarr_array`, once it has been asked
        self.kept: Tasks = dict(kept or {})

    def __reduce__(self) -> tuple[type[Graph], tuple[Any, ...]]:
        return Graph, (self._tasks, self._blocks, self._keep_bytes, self.kept, self._common)

    def zarr_array(self, place: Callable[[Any], tuple[slice, ...]]) -> Any:
        """The Zarr array of which every block is just the piece at its place; None if there is none.

        Zarr reads many small chunks together in a fraction of the time that it takes one after another.
        """
        if not self._zarr:
            self._zarr = [self._common_origin(place)]
        return self._zarr[0]

    def _common_origin(self, place: Callable[[Any], tuple[slice, ...]]) -> Any:
        found = [self._origin(key, place(key)) for key in self._blocks]
        if not found or any(origin is not found[0] for origin in found):
            return None
        if type(found[0]).__module__.split(".")[0] != "zarr":
            return None
        return found[0]

    def _origin(self, key: Key, place: tuple[slice, ...]) -> Any:
        """The array from which a task takes the piece at its place, if it does nothing else; else None."""
        task = self._tasks.get(key)
        if task is None or getattr(getattr(task, "func", None), "__name__", "") != "getter":
            return None
        if len(task.args) != 2:
            return None
        array, index = task.args
        taken = tuple(slice(part.start, part.stop) for part in getattr(index, "value", ()))
        if taken != place:
            return None
        source = self._tasks.get(getattr(array, "key", None), array)
        return getattr(source, "value", None)

    @property
    def held_bytes(self) -> int:
        """Memory of the tasks themselves and of the results that are kept."""
        return TASK_BYTES * len(self._tasks) + sum(map(_size, self.kept.values()))

    @property
    def blocks(self) -> Collection[Key]:
        """The keys of the array's blocks."""
        return self._blocks

    def part(self, blocks: Collection[Key]) -> Graph:
        """The graph of what these blocks need, without what a client holds: see `persisted` and `given`."""
        cone = self._needed(blocks)
        away = self.persisted(blocks)
        kept = {key: self.kept[key] for key in cone if key in self.kept}
        tasks = {key: self._tasks[key] for key in cone if key not in kept and key not in away}
        common = {key: self._common[key] for key in cone if key in self._common}
        return Graph(tasks, blocks, self._keep_bytes, kept, common)

    def persisted(self, blocks: Iterable[Key]) -> dict[Key, Any]:
        """The futures, by key, of the results that these blocks need and a Dask client holds."""
        tasks = {key: self._tasks.get(key) for key in self._needed(blocks)}
        held = {key: getattr(task, "func", None) for key, task in tasks.items()}
        return {key: found.future for key, found in held.items() if isinstance(found, Persisted)}

    def given(self, values: Mapping[Key, Any]) -> Graph:
        """The same graph with the values of results that a client held."""
        from dask.task_spec import DataNode  # noqa: PLC0415 - a graph was given, so Dask is there

        tasks = self._tasks | {key: DataNode(key, value) for key, value in values.items()}
        return Graph(tasks, self._blocks, self._keep_bytes, self.kept, self._common)

    def evaluate(
        self, wanted: Collection[Key], take: Callable[[Key, Any], None], limit_bytes: int | None = None
    ) -> None:
        """Compute some blocks and hand each to `take`.

        Raises:
            MemoryBudgetError: the results that are held at one time exceed `limit_bytes`.

        """
        needed = self._needed(wanted)
        users = _users(needed)
        left = {key: len(found) for key, found in users.items()}
        values: Tasks = {}
        held_bytes = 0
        for key in _order(wanted, needed, users):
            value = values[key] = self._compute(key, values)
            held_bytes += self._own_size(key, value)
            if limit_bytes is not None and held_bytes > limit_bytes:
                raise MemoryBudgetError(
                    f"the graph holds {human_bytes(held_bytes)} for {len(wanted)} block(s) of its result, "
                    f"and the budget is {human_bytes(limit_bytes)}",
                    "store it as Zarr first, by x.to_zarr(path), and give that path",
                )
            if key in wanted:
                take(key, value)
            for source in needed[key]:
                left[source] -= 1
            done = [name for name in (*needed[key], key) if left[name] == 0]
            held_bytes -= sum(self._release(other, values) for other in done)

    def _compute(self, key: Key, values: Tasks) -> Any:
        if key in self.kept:
            return self.kept[key]
        task = self._tasks[key]
        value = task(values)
        if hasattr(task, "func") and key in self._common and self._is_small(key, value):
            self._settled.add(key)
        return value

    def _release(self, key: Key, values: Tasks) -> int:
        """Let go of a value, or keep it if it is small and common; returns its bytes."""
        value = values.pop(key)
        unsettled = any(user not in self._settled for user in self._dependents[key])
        if key in self._settled and unsettled:
            self.kept[key] = value
        return self._own_size(key, value)

    def _own_size(self, key: Key, value: Any) -> int:
        """Memory that a value takes; 0 if the graph holds it anyway."""
        if key in self.kept or not hasattr(self._tasks[key], "func"):
            return 0
        return _size(value)

    def _is_small(self, key: Key, value: Any) -> bool:
        layer = _layer(key)
        if layer not in self._small:
            self._small[layer] = self._common[key] * _size(value) <= self._keep_bytes
        return self._small[layer]

    def _needed(self, wanted: Iterable[Key]) -> dict[Key, Collection[Key]]:
        """All keys that must be computed for some blocks, each with the keys that it is computed from."""
        needed: dict[Key, Collection[Key]] = {}
        stack = list(wanted)
        while stack:
            key = stack.pop()
            if key in needed:
                continue
            needed[key] = ()
            if key not in self.kept:
                needed[key] = self._tasks[key].dependencies
            stack.extend(needed[key])
        return needed


def _users(needed: Mapping[Key, Collection[Key]]) -> dict[Key, list[Key]]:
    users: dict[Key, list[Key]] = {key: [] for key in needed}
    for key, sources in needed.items():
        for source in sources:
            users[source].append(key)
    return users


def _order(
    wanted: Iterable[Key], needed: Mapping[Key, Collection[Key]], users: Mapping[Key, list[Key]]
) -> list[Key]:
    """The keys in an order of computation: each comes as soon as all that it is computed from is there.

    So when many blocks take a piece of one source chunk, the chunk is cut up, and let go, before the next is
    read.
    """
    order: list[Key] = []
    placed: set[Key] = set()
    open_sources = {key: len(sources) for key, sources in needed.items()}
    stack = list(reversed(list(wanted)))
    while stack:
        key = stack.pop()
        if key in placed:
            continue
        missing = [source for source in needed[key] if source not in placed]
        if missing:
            stack.append(key)
            stack.extend(missing)
            continue
        ready = [key]
        while ready:
            key = ready.pop()
            placed.add(key)
            order.append(key)
            for user in users[key]:
                open_sources[user] -= 1
                if open_sources[user] == 0:
                    ready.append(user)
    return order


def _dependents(tasks: Tasks) -> dict[Key, list[Key]]:
    dependents: dict[Key, list[Key]] = {key: [] for key in tasks}
    for key, task in tasks.items():
        for source in task.dependencies:
            dependents.setdefault(source, []).append(key)
    return dependents


def _common(tasks: Tasks, dependents: Mapping[Key, list[Key]], blocks: frozenset[Key]) -> dict[Key, int]:
    """The keys, no blocks themselves, that several blocks need; each with how many such its layer has."""
    several = object()
    owner: dict[Key, Any] = {}
    waiting = {key: len(found) for key, found in dependents.items()}
    ready = [key for key, count in waiting.items() if count == 0]
    while ready:
        key = ready.pop()
        owners = {owner[user] for user in dependents[key]}
        if key in blocks:
            owners.add(key)
        owner[key] = several
        if len(owners) == 1:
            owner[key] = owners.pop()
        if key not in tasks:
            continue
        for source in tasks[key].dependencies:
            waiting[source] -= 1
            if waiting[source] == 0:
                ready.append(source)
    common = [key for key, found in owner.items() if found is several and key not in blocks]
    layers = Counter(_layer(key) for key in common)
    return {key: layers[_layer(key)] for key in common}


def _layer(key: Key) -> Any:
    """The part of a key that all results of one operation have in common."""
    if isinstance(key, tuple):
        return key[0]
    return key


def _size(value: Any) -> int:
    """Bytes of a result."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    from dask.sizeof import sizeof  # noqa: PLC0415 - a graph was given, so Dask is there

    return int(sizeof(value))


class Persisted:
    """A task that waits for what a Dask client is computing or holds."""

    def __init__(self, future: Any) -> None:
        self.future = future

    def __call__(self) -> Any:
        """The value, or the exception that its computation raised."""
        return self.future.result()


def graph_of(array: Any, keep_bytes: int) -> Graph:
    """The graph of a Dask array, with chains of operations fused by Dask itself."""
    from dask import config  # noqa: PLC0415 - an array of Dask was given, so it is there
    from dask.array.optimization import optimize  # noqa: PLC0415
    from dask.core import flatten  # noqa: PLC0415

    blocks = list(flatten(array.__dask_keys__()))
    with config.set({"optimization.fuse.active": True}):
        tasks = dict(optimize(array.__dask_graph__(), blocks))
    needed = {source for task in tasks.values() for source in task.dependencies}
    lacking = needed.union(blocks).difference(tasks)
    return Graph(tasks | _persisted(array, lacking), blocks, keep_bytes)


def _persisted(array: Any, keys: set[Key]) -> Tasks:
    """Tasks for the futures of these keys, which Dask leaves out of a graph when it optimises it."""
    if not keys:
        return {}
    from dask.task_spec import Task  # noqa: PLC0415
    from distributed import futures_of  # noqa: PLC0415

    futures = {future.key: future for future in futures_of(array)}
    lost = keys.difference(futures)
    if lost:
        raise SourceError(
            f"the graph of {array.name} needs {next(iter(lost))}, which is not in it", "build the array again"
        )
    return {key: Task(key, Persisted(futures[key])) for key in keys}


class Prepared:
    """The graph of an array, made when it is first used, and then shared by all who read it."""

    def __init__(self, array: Any, keep_bytes: int) -> None:
        self._array = array
        self._keep_bytes = keep_bytes
        self._lock = threading.Lock()
        self._graph: Graph | None = None

    @property
    def graph(self) -> Graph:
        """The graph, always the same one."""
        with self._lock:
            if self._graph is None:
                self._graph = graph_of(self._array, self._keep_bytes)
            return self._graph
