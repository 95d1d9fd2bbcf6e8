"""The report of `readers`: decoded bytes a second and memory of each reader on each store."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from math import exp, log
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import human_bytes, prose, provenance_lines, table

_NEAR = 0.9  # of the rate of bigsvd's own reader: from here on another library would replace it
_COLOURS = ("#0b6e4f", "#c8553d", "#e8a598", "#2f5d9e", "#9db8de", "#6b6b6b", "#bdbdbd")

Row = dict[str, Any]


def markdown(results: Row) -> str:
    """For each number of threads the rates and the memory; what others reach; how it was measured."""
    lines = ["# Readers of Zarr chunks", ""]
    for threads, rows in _by_threads(results).items():
        lines += [f"## Threads: {threads}", "", "Decoded GB/s (slowest to fastest), × ChunkReader:", ""]
        lines += [*_table(results, rows, _rate), "", "Peak growth of the process:", ""]
        lines += [*_table(results, rows, _memory), ""]
        lines += [*_outcome(results, rows), ""]
    return "\n".join([*lines, *_absent(results), *_method(results)]) + "\n"


def _by_threads(results: Row) -> dict[int, list[Row]]:
    """The rows of each number of threads."""
    numbers = dict.fromkeys(row["threads"] for row in results["runs"])
    return {number: [row for row in results["runs"] if row["threads"] == number] for number in numbers}


def _contenders(results: Row, rows: list[Row]) -> list[Row]:
    """Those that have rows among these."""
    names = {row["contender"] for row in rows}
    return [contender for contender in results["contenders"] if contender["name"] in names]


def _table(results: Row, rows: list[Row], cell: Callable[[Row], str]) -> list[str]:
    """A line for each store, a column for each contender."""
    labels = [contender["label"] for contender in _contenders(results, rows)]
    lines = [[name, *map(cell, of_store)] for name, of_store in groupby(rows, _store_label)]
    return table(("store", *labels), lines)


def _store_label(row: Row) -> str:
    return f"{row['layout']}, {row['codec']}, {row['dtype']}"


def _rate(row: Row) -> str:
    if row["status"] != "done":
        return "–"
    median, slowest, fastest = (
        row[name] / 1e9
        for name in ("bytes_per_second", "slowest_bytes_per_second", "fastest_bytes_per_second")
    )
    ratio = f", × {row['ratio']:.2f}" if "ratio" in row else ""
    wrong = "" if row["same_bits"] else ", OTHER BITS"
    return f"{median:.3g} ({slowest:.3g}–{fastest:.3g}){ratio}{wrong}"


def _memory(row: Row) -> str:
    return human_bytes(row["peak_memory_bytes"]) if row["status"] == "done" else "–"


def _outcome(results: Row, rows: list[Row]) -> list[str]:
    """A line for each other reader: its ratios to bigsvd's own in rate, processor time and memory."""
    own = {row["name"]: row for row in rows if row["contender"] == results["parameters"]["own"]}
    lines = []
    for contender in _contenders(results, rows):
        done = [row for row in rows if row["contender"] == contender["name"] and "ratio" in row]
        if not done or contender["name"] == results["parameters"]["own"]:
            continue
        ratios = [row["ratio"] for row in done]
        memory = _mean([row["peak_memory_bytes"] / own[row["name"]]["peak_memory_bytes"] for row in done])
        near = sum(ratio >= _NEAR for ratio in ratios)
        lines.append(
            f"* {contender['label']}: {min(ratios):.2f} to {max(ratios):.2f} times as fast as ChunkReader, "
            f"{_mean(ratios):.2f} in the geometric mean, at least {_NEAR:g} on {near} of {len(ratios)} "
            f"stores; {_mean([row['cpu_ratio'] for row in done]):.2f} times the processor time and "
            f"{memory:.1f} times the memory."
        )
    return lines


def _mean(ratios: list[float]) -> float:
    """The geometric mean."""
    return exp(sum(map(log, ratios)) / len(ratios))


def _absent(results: Row) -> list[str]:
    """What was not measured, and why."""
    labels = {contender["name"]: contender["label"] for contender in results["contenders"]}
    said = dict.fromkeys(
        f"* {labels[row['contender']]}: {row['status']}" for row in results["runs"] if row["status"] != "done"
    )
    return [*said, *([""] if said else [])]


def _method(results: Row) -> list[str]:
    done = [row for row in results["runs"] if row["status"] == "done"]
    wrong = sum(not row["same_bits"] for row in done)
    bits = f"{wrong} of {len(done)} returned other bits." if wrong else "All returned the bits written."
    first = results["runs"][0]
    panel_bytes = first["data_bytes"] * first["panel_rows"] // first["shape"][0]
    return [
        *prose(
            "Panel after panel of whole rows is read, and not used. As lanes of bigsvd do, each thread "
            "reads panels of its own into two that it fills in turns; “own threads” is one such thread "
            "whose panels the library divides among as many threads of its own. ChunkReader is called as a "
            "lane calls it, with its checks for absent chunks and its books. “synchronous” is zarr's "
            "FusedCodecPipeline. Each reader runs in a fresh process that is kept to as many processors as "
            "threads; the processes of one store take turns after a first round that compares each panel "
            f"with the checksum of what was written, and leaves the store in the page cache. {bits} Medians "
            f"of {results['parameters']['repeat']} rounds over {human_bytes(first['data_bytes'])} decoded, "
            f"in panels of {human_bytes(panel_bytes)}. Growth is the high-water mark of resident memory "
            "less what was resident when the store was open and nothing read; it includes the panels read "
            "into. float32 entries are normal, int8 ones 0, 1 and 2 at random. Tall chunks are half a "
            "panel; a shard is a panel of 24 chunks; chunks along both axes are squares, 24 to a panel."
        ),
        "",
        *provenance_lines(results),
    ]


def plot(results: Row, path: Path) -> None:
    """Bars of the rates, one group a store, one axis for each number of threads."""
    parts = _by_threads(results)
    figure = Figure(figsize=(11, 4 * len(parts)), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (threads, rows) in enumerate(parts.items()):
        axes = figure.add_subplot(len(parts), 1, place + 1)
        _draw(axes, results, rows)
        axes.set_title(f"threads: {threads}")
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _draw(axes: Axes, results: Row, rows: list[Row]) -> None:
    stores = list(dict.fromkeys(map(_store_label, rows)))
    shown = _contenders(results, rows)
    width = 0.8 / len(shown)
    colours = dict(zip((contender["name"] for contender in results["contenders"]), _COLOURS, strict=True))
    for place, contender in enumerate(shown):
        done = [row for row in rows if row["contender"] == contender["name"] and row["status"] == "done"]
        x = [stores.index(_store_label(row)) + (place - (len(shown) - 1) / 2) * width for row in done]
        rates = [row["bytes_per_second"] / 1e9 for row in done]
        axes.bar(x, rates, width, color=colours[contender["name"]], label=contender["label"])
    axes.set_xticks(range(len(stores)), [store.replace(", ", "\n") for store in stores])
    axes.set_ylabel("decoded GB/s")
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # above the bars there is room for the legend
    axes.legend(frameon=False, ncols=4, loc="upper left")
