"""Passes and whole runs of bigsvd beside an idealised loop, by shape and type of the data.

The loop is in `floor_loop`. It and bigsvd run in turns, in one process for each number of threads, and the
processes take turns too, so that what else the machine does meets all of them. Ratios are made by round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import zarr

from benchmarks.data import Dataset, slow_decay_block, written_beside
from benchmarks.genotypes import Population
from benchmarks.machine import limited_to, provenance
from benchmarks.peers import SEED
from benchmarks.readers import Reader, ReaderFailedError, started

THREADS = (2, 1)
SLOW_BYTES_PER_SECOND = 200e6
MAX_PASSES = 3
_GAPS = 0.02
_FOLD = 20  # the length of the last axis of data with three
_MEANS = 0.1  # deviation of the columns' means; that of the entries is about as large
_LEAST_GAIN = 1.1  # of the loop by a second thread, for its serial share to be told from noise

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """Lengths of matrices of floats and of genotypes, ranks asked of them, chunks, and bigsvd's budget.

    Attributes:
        long, short: sides of a matrix of floats. k: its rank.
        samples, variants: where there are many samples; the other way round where there are many variants.
        k_genotypes: their rank.
        chunk: lines of the long side in a chunk. across: chunks along the short side where there are several.

    """

    long: int
    short: int
    k: int
    samples: int
    variants: int
    k_genotypes: int
    chunk: int
    across: int
    memory: str


SIZES = {
    "tiny": Size(2_000, 100, 4, 2_000, 150, 4, 100, 2, "60MB"),
    "small": Size(100_000, 1_000, 20, 40_000, 2_500, 10, 1_000, 4, "120MB"),
    "full": Size(200_000, 4_000, 50, 200_000, 5_000, 10, 2_000, 4, "400MB"),
}


@dataclass(frozen=True)
class Shape:
    """One row: how the data are stored, and how bigsvd is to take them.

    Attributes:
        layout: "tall": chunks of some rows; "wide": of some columns; "both-axes": of some of either.
        content: "plain", "means" or "gaps" (with means), which are floats, or "genotypes".
        options: of `bigsvd.svd`.
        slow: whether the store is behind a slow line.
        reading: how samples and features lie in the data, where these are no matrix of samples and features.
        dim: the axis of the long side among three, of which the others make up the short one; None for a
            matrix.
        beside: the shape of the same matrix without all that, whose passes are measured in the same rounds.

    """

    name: str
    label: str
    layout: str = "tall"
    dtype: str = "float32"
    content: str = "plain"
    options: Mapping[str, Any] = field(default_factory=dict)
    slow: bool = False
    reading: Mapping[str, Any] = field(default_factory=dict)
    dim: int | None = None
    beside: str = ""

    @property
    def stem(self) -> str:
        """The name of its files, the same for shapes that differ only in how they are taken."""
        found = f"floor-{self.layout}-{self.dtype}-{self.content}"
        return found if self.dim is None else f"{found}-dim{self.dim}"

    def stacked(self, size: Size) -> tuple[int, ...]:
        """Lengths of the axes that make up the short side."""
        short = sides(self, size)[1]
        return (short,) if self.dim is None else (short // _FOLD, _FOLD)

    def arranged(self, long: Any, others: Sequence[Any]) -> tuple[Any, ...]:
        """What is said of the long side and of the others, by the axes of the data."""
        where = self.dim if self.dim is not None else int(self.layout == "wide")
        return (*others[:where], long, *others[where:])


_CENTERED: dict[str, Any] = {"center": True}
_SCALED = _CENTERED | {"scale": True}
SHAPES = (
    Shape("float32", "float32"),
    Shape("centred", "float32, centred", content="means", options=_CENTERED),
    Shape("scaled", "float32, centred, scaled", content="means", options=_SCALED),
    Shape("gaps", "float32, centred, gaps", content="gaps", options=_CENTERED | {"missing": "mean"}),
    Shape("int8-samples", "int8, many samples, scaled", "tall", "int8", "genotypes", _SCALED),
    Shape("int8-variants", "int8, many variants, scaled", "wide", "int8", "genotypes", _SCALED),
    Shape("both-axes", "float32, both-axes chunks", "both-axes"),
    Shape("wide", "float32, wide", "wide"),
    Shape("float64", "float64", dtype="float64"),
    Shape("float16", "float16", dtype="float16"),
    Shape("slow", "float32, store of 200 MB/s", slow=True),
    Shape("columns", "float32, samples in columns", "wide", reading={"samples": "columns"}, beside="float32"),
    *(
        Shape(f"stacked-{dim}", f"float32, 3-D, time {at}", reading={"dim": dim}, dim=dim, beside="float32")
        for dim, at in enumerate(("first", "second", "last"))
    ),
    Shape(
        "stacked-both", "float32, 3-D, both-axes chunks", "both-axes", reading={"dim": 0}, dim=0,
        beside="both-axes",
    ),
)  # fmt: skip
NAMES = tuple(shape.name for shape in SHAPES)


def sides(shape: Shape, size: Size) -> tuple[int, int]:
    """Lengths of the long and the short side."""
    return (size.samples, size.variants) if shape.content == "genotypes" else (size.long, size.short)


def ensure_shape(shape: Shape, size: Size, folder: Path) -> Path:
    """The stored data; if they are not there, written beside their place, then renamed."""
    long, short = sides(shape, size)
    path = folder / f"{shape.stem}-{long}x{short}.zarr"
    if path.exists():
        return path
    stacked = shape.stacked(size)
    across = size.across if shape.layout == "both-axes" else 1
    chunks = (-(-stacked[0] // across), *stacked[1:])
    with written_beside(path) as partial:
        array = zarr.create_array(
            partial,
            shape=shape.arranged(long, stacked),
            chunks=shape.arranged(size.chunk, chunks),
            dtype=shape.dtype,
            zarr_format=3,
        )
        start = 0
        for values in _entries(shape, size):
            lines = slice(start, start + len(values))
            block = values.reshape(len(values), *stacked)
            where = shape.arranged(lines, [slice(None)] * len(stacked))
            array[where] = np.moveaxis(block, 0, where.index(lines))
            start = lines.stop
    return path


def _entries(shape: Shape, size: Size) -> Iterator[np.ndarray]:
    """Blocks of lines of the long side, (r, short)."""
    if shape.content == "genotypes":
        yield from _genotypes(shape, size)
        return
    long, short = sides(shape, size)
    dataset = Dataset("slow_decay", long, short, size.k, SEED)
    rng = np.random.default_rng(SEED)
    means = np.float32(_MEANS) * rng.standard_normal(short, dtype=np.float32)
    for block in range(dataset.chunk_count):
        values = slow_decay_block(dataset, block)
        if shape.content != "plain":
            values += means
        if shape.content == "gaps":
            values[rng.random(values.shape, dtype=np.float32) < _GAPS] = np.nan
        yield values.astype(shape.dtype)


def _genotypes(shape: Shape, size: Size) -> Iterator[np.ndarray]:
    """Lines are samples, or variants where those are many."""
    many_samples = shape.layout == "tall"
    long, short = sides(shape, size)
    population = Population(long if many_samples else short, SEED)
    theta = population.ancestry()
    beta = population.frequencies(short if many_samples else long)
    for block, start in enumerate(range(0, long, size.chunk)):
        lines = slice(start, start + size.chunk)
        if many_samples:
            yield population.counts(block, theta[lines], beta)
        else:
            yield population.counts(block, theta, beta[:, lines]).T


def run_floor(
    size: Size, data: Path, names: Sequence[str], repeat: int, timeout_seconds: float, tell: Tell
) -> dict[str, Any]:
    """Every named shape (all if none is named)."""
    measured_with = provenance()
    rows = []
    for shape in (shape for shape in SHAPES if not names or shape.name in names):
        rows.append(_shape(shape, size, data, repeat, timeout_seconds))
        tell(f"{shape.label}: {_said(rows[-1])}")
    return {
        **measured_with,
        "parameters": {
            **asdict(size),
            "repeat": repeat,
            "timeout_seconds": timeout_seconds,
            "slow_bytes_per_second": SLOW_BYTES_PER_SECOND,
            "max_passes": MAX_PASSES,
            "gaps": _GAPS,
            "seed": SEED,
        },
        "shapes": rows,
    }


def _shape(shape: Shape, size: Size, data: Path, repeat: int, timeout_seconds: float) -> dict[str, Any]:
    """One row: what was asked, all rounds, and what follows from them; or why there is nothing."""
    path = ensure_shape(shape, size, data)
    jobs = [_job(shape, size, path)]
    if shape.beside:
        other = next(other for other in SHAPES if other.name == shape.beside)
        jobs.append(_job(other, size, ensure_shape(other, size, data)))
    array = zarr.open_array(path, mode="r")
    row: dict[str, Any] = {
        "name": shape.name,
        "label": shape.label,
        "beside": shape.beside,
        "dtype": shape.dtype,
        "shape": list(array.shape),
        "chunks": list(array.chunks),
        "data_bytes": array.nbytes,
        "k": jobs[0]["k"],
    }
    try:
        rounds, *beside = _rounds(jobs, repeat, timeout_seconds)
    except ReaderFailedError as error:
        return row | {"status": f"failed: {error}".replace(str(path.parent.absolute()), "FOLDER")}
    if beside:
        row["times_beside"] = times_beside(rounds, beside[0])
    return row | {"status": "done", "rounds": rounds} | compared(rounds)


def _job(shape: Shape, size: Size, path: Path) -> dict[str, Any]:
    """What a process is asked to decompose; see `floor_child.Rounds`."""
    return {
        "store": str(path.absolute()),
        "bytes_per_second": SLOW_BYTES_PER_SECOND if shape.slow else None,
        "k": size.k_genotypes if shape.content == "genotypes" else size.k,
        "reading": dict(shape.reading),
        "options": {**shape.options, "memory": size.memory, "max_passes": MAX_PASSES},
    }


def _rounds(
    jobs: Sequence[dict[str, Any]], repeat: int, timeout_seconds: float
) -> list[list[dict[str, Any]]]:
    """For each job, after one that is not counted, rounds of a run and its loops, by number of threads."""
    with ExitStack() as stack:

        def child(job: dict[str, Any], threads: int) -> Reader:
            with limited_to(threads):
                ready = started({**job, "threads": threads}, timeout_seconds, "benchmarks.floor_child")
                return stack.enter_context(ready)

        children = [{str(threads): child(job, threads) for threads in THREADS} for job in jobs]
        rounds = [
            [{threads: _round(one) for threads, one in mine.items()} for mine in children]
            for _ in range(repeat + 1)
        ]
    return [list(found) for found in zip(*rounds[1:], strict=True)]


def _round(child: Reader) -> dict[str, Any]:
    """A run, and one loop for each width and precision that its passes had, which are told with each."""
    run = child.ask("run")
    kinds = dict.fromkeys((found["columns"], found["dtype"]) for found in run["passes"])
    floors = {kind: child.ask(f"floor {kind[0]} {kind[1]}") for kind in kinds}
    passes = [found | {"floor": floors[found["columns"], found["dtype"]]} for found in run["passes"]]
    return run | {"passes": passes}


def compared(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians of what `of_round` finds in each round, by number of threads; gains and the serial share."""
    found: dict[str, Any] = {
        threads: medians([of_round(each[threads]) for each in rounds]) for threads in rounds[0]
    }
    one, two = found[str(min(THREADS))], found[str(max(THREADS))]
    gains = {
        name: one[key] / two[key]
        for name, key in (("floor", "floor_seconds"), ("passes", "pass_seconds"), ("run", "run_seconds"))
    }
    share = serial_share(one["run_seconds"], two["run_seconds"], gains["floor"])
    return {"by_threads": found, "gains": gains, "serial_share": share}


def of_round(run: dict[str, Any]) -> dict[str, float | None]:
    """What one round says.

    `first` and `later` are passes ÷ loops, `run` is the whole run ÷ the loops of its passes, `busy` how many
    processors computed on average during the run.
    """
    seconds = [found["seconds"] for found in run["passes"]]
    floors = [found["floor"]["seconds"] for found in run["passes"]]
    return {
        "first": seconds[0] / floors[0],
        "later": sum(seconds[1:]) / sum(floors[1:]) if floors[1:] else None,
        "run": run["seconds"] / sum(floors),
        "run_seconds": run["seconds"],
        "pass_seconds": sum(seconds),
        "floor_seconds": sum(floors),
        "first_floor_seconds": floors[0],
        "later_floor_seconds": sum(floors[1:]) / len(floors[1:]) if floors[1:] else None,
        "predicted": run["predicted_seconds"] / run["seconds_in_run"],
        "busy": run["cpu_seconds"] / run["seconds"],
        **{f"part {name}": part for name, part in run["seconds_by_part"].items()},
    }


def times_beside(rounds: Sequence[dict[str, Any]], beside: Sequence[dict[str, Any]]) -> float:
    """How many times as long as those beside them the passes of most threads took: the median over rounds."""
    threads = str(max(THREADS))
    return median(_times(one[threads], two[threads]) for one, two in zip(rounds, beside, strict=True))


def _times(one: dict[str, Any], two: dict[str, Any]) -> float:
    """Seconds of as many passes of both, divided."""
    shared = min(len(one["passes"]), len(two["passes"]))
    mine, other = (sum(found["seconds"] for found in run["passes"][:shared]) for run in (one, two))
    return float(mine / other)


def medians(rounds: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """The median of each; None where some round has none."""
    found: dict[str, Any] = {}
    for name in rounds[0]:
        values = [value for each in rounds if (value := each[name]) is not None]
        found[name] = median(values) if len(values) == len(rounds) else None
    return found


def serial_share(one_seconds: float, two_seconds: float, gain: float) -> float | None:
    """The share of a run on two processors that does not shrink with processors.

    What shrinks does so as the idealised loop, which `gain`s less than 2 where two processors are
    hyperthreads of one core: two = s + (one − s)/gain. None where the loop itself gains too little.
    """
    if gain < _LEAST_GAIN:
        return None
    serial = (gain * two_seconds - one_seconds) / (gain - 1)
    return min(1.0, max(0.0, serial / two_seconds))


def _said(row: dict[str, Any]) -> str:
    if row["status"] != "done":
        return str(row["status"])
    found = row["by_threads"][str(max(THREADS))]
    later = "none" if found["later"] is None else f"{found['later']:.2f}"
    return f"first pass {found['first']:.2f} of the floor, later {later}, run {found['run']:.2f}"
