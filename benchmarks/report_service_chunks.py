"""The report of `service-chunks`: what readers got that were cut off, and what a chunk costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import human_bytes, human_seconds, prose, provenance_lines, table

_HEADINGS = ("cut off by", "reader", "chunks", "equal", "refused", "NaN", "zeros", "other")
_PRICES = ("connections", "by HTTP", "answer of as many ready bytes", "product in memory", "share")
_COLOURS = ("#2f5d9e", "#0b6e4f", "#c8553d")


def markdown(results: dict[str, Any]) -> str:
    """A line for each walk, then the price of a chunk, then how it was measured."""
    p, times = results["parameters"], results["times"]
    chunks = sum(_chunks(row) for row in results["walks"])
    lines = [
        f"# Results by URL: {results['wrong']} of {chunks} chunks of readers that were cut off were wrong",
        "",
        *table(_HEADINGS, [_walk(row) for row in results["walks"]]),
        "",
        *prose(
            "Each reader walks all chunks of a reconstruction and is cut off after a third of them. Equal "
            "is the same bits as the factors give. A proxy that says 404 is believed by readers of Zarr, who "
            "then have NaN, the fill value."
        ),
        "",
        f"## A chunk of {human_bytes(times['chunk_bytes'])}",
        "",
        *table(_PRICES, [_price(row) for row in times["by_http"]]),
        "",
        *table(
            ("in the server's code, a chunk of", "factors kept", "none kept", "times as fast"),
            [_kept(row) for row in times["kept_or_not"]],
        ),
        "",
        *table(
            ("in the server's code", "seconds"),
            [
                [f"level {times['last_level']}, once", human_seconds(times["level_seconds"])],
                ["the same again", human_seconds(times["level_again_seconds"])],
            ],
        ),
        "",
        *prose(
            "The share is that of the rate 1/(1/answer + 1/product). With kept factors a chunk costs its "
            f"product, the larger the more. The matrix is {p['shape'][0]:,} × {p['shape'][1]:,} float32, "
            f"k = {p['k']}; {p['chunks']} chunks, drawn by seed {p['seed']}, are timed each way in turns; "
            "times are what the quickest tenth take at most."
        ),
        "",
        *provenance_lines(results),
    ]
    return "\n".join(lines) + "\n"


def _price(row: dict[str, Any]) -> list[str]:
    times = (row[f"{name}_seconds"] for name in ("route", "bare", "product"))
    return [f"over {row['connections']}", *map(human_seconds, times), f"{row['ratio']:.2f}"]


def _kept(row: dict[str, Any]) -> list[str]:
    side = f"{row['side']:,}"
    times = (human_seconds(row[name]) for name in ("kept_seconds", "seconds"))
    return [f"`{row['array']}`, {side} × {side}", *times, f"{row['ratio']:.1f}"]


def _chunks(row: dict[str, Any]) -> int:
    return sum(row[name] for name in ("equal", "refused", "nan", "zeros", "other"))


def _walk(row: dict[str, Any]) -> list[str]:
    counts = (_chunks(row), *(row[name] for name in ("equal", "refused", "nan", "zeros", "other")))
    return [row["event"], row["reader"], *map(str, counts)]


def plot(results: dict[str, Any], path: Path) -> None:
    """The price of a chunk by HTTP beside those of its parts."""
    times = results["times"]
    figure = Figure(figsize=(6.0, 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for row in results["times"]["by_http"]:
        bare, product = (row[f"{name}_seconds"] * 1e3 for name in ("bare", "product"))
        name = f"over {row['connections']}"
        axes.barh([f"{name}, by HTTP"], [row["route_seconds"] * 1e3], color=_COLOURS[0])
        axes.barh([f"{name}, parts"], [bare], color=_COLOURS[1], label="answer")
        axes.barh([f"{name}, parts"], [product], left=[bare], color=_COLOURS[2], label="product")
    axes.set_xlabel(f"ms for a chunk of {human_bytes(times['chunk_bytes'])}")
    axes.legend(handles=axes.containers[1:3], frameon=False)
    figure.savefig(path, dpi=110)
