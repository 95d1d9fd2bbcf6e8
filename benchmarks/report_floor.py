"""The report of `floor`: passes and runs as multiples of the idealised loop, and what each is made of."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import human_bytes, prose, provenance_lines, table

_TARGET = 1.25  # of a pass, in floors
_BARS = (
    ("first", "first pass ÷ floor", "#0b6e4f"),
    ("later", "later passes ÷ floor", "#7fb8a4"),
    ("run", "run ÷ floor of its passes", "#9db8de"),
)
_HEADINGS = (
    "shape", "stored", "first pass ÷ floor", "later passes ÷ floor", "run ÷ floor of its passes",
    "floor of a pass, s", "run, s", "processors busy", "predicted ÷ taken",
)  # fmt: skip
_BESIDE_HEADINGS = ("shape", "beside", "passes ÷ passes beside")
_CORES_HEADINGS = (
    "shape",
    "floor",
    "passes",
    "run",
    "serial share of the run",
    "first pass ÷ floor, one thread",
)
_PARTS_HEADINGS = (
    "shape", "columns", "read", "widened, standardised", "multiplied", "warm start, s", "passes, s",
    "the rest, s", "of the last pass kept",
)  # fmt: skip

Row = dict[str, Any]


def markdown(results: Row) -> str:
    """Ratios with two threads, what a second one gains, what loops and runs are made of, the method."""
    done = [row for row in results["shapes"] if row["status"] == "done"]
    failed = [f"* {row['label']}: {row['status']}" for row in results["shapes"] if row["status"] != "done"]
    lines = ["# Passes against an idealised loop", "", *_outcome(done), ""]
    lines += [*table(_HEADINGS, map(_cells, done)), "", *failed, *([""] if failed else [])]
    beside = [row for row in done if row.get("times_beside")]
    if beside:
        labels = {row["name"]: row["label"] for row in done}
        lines += [
            "Passes beside those over the same matrix of samples and features, in the same rounds:",
            "",
            *table(_BESIDE_HEADINGS, [_beside(row, labels) for row in beside]),
            "",
        ]
    lines += [
        "Times as fast with two threads as with one:",
        "",
        *table(_CORES_HEADINGS, map(_cores, done)),
        "",
    ]
    lines += ["What the loop of the first pass spent its threads' time on, and what the run did:", ""]
    lines += [*table(_PARTS_HEADINGS, map(_parts, done)), "", *_method(results), *provenance_lines(results)]
    return "\n".join(lines) + "\n"


def _two(row: Row) -> Row:
    """The medians with most threads."""
    found: Row = row["by_threads"][max(row["by_threads"], key=int)]
    return found


def _outcome(rows: list[Row]) -> list[str]:
    """How many passes are within the target."""
    ratios = [
        ratio for row in rows for ratio in (_two(row)["first"], _two(row)["later"]) if ratio is not None
    ]
    near = sum(ratio <= _TARGET for ratio in ratios)
    return prose(f"{near} of {len(ratios)} kinds of passes take at most {_TARGET:g} times the floor.")


def _cells(row: Row) -> list[str]:
    found = _two(row)
    lengths = " × ".join(f"{length:,}" for length in row["shape"])
    return [
        row["label"],
        f"{lengths}, {human_bytes(row['data_bytes'])}, k = {row['k']}",
        *(_ratio(found[name]) for name, _, _ in _BARS),
        " / ".join(f"{found[name]:.3g}" for name in _FLOORS if found[name] is not None),
        f"{found['run_seconds']:.3g}",
        f"{found['busy']:.2f}",
        f"{found['predicted']:.2f}",
    ]


_FLOORS = ("first_floor_seconds", "later_floor_seconds")


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _cores(row: Row) -> list[str]:
    one = row["by_threads"][min(row["by_threads"], key=int)]
    share = row["serial_share"]
    return [
        row["label"],
        *(f"{row['gains'][name]:.2f}" for name in ("floor", "passes", "run")),
        "–" if share is None else f"{share:.0%}",
        _ratio(one["first"]),
    ]


def _beside(row: Row, labels: dict[str, str]) -> list[str]:
    return [row["label"], labels.get(row["beside"], row["beside"]), f"{row['times_beside']:.2f}"]


def _parts(row: Row) -> list[str]:
    threads = max(row["by_threads"], key=int)
    runs = [each[threads] for each in row["rounds"]]
    passes = runs[-1]["passes"]
    spent = {
        name: median(run["passes"][0]["floor"][name] for run in runs)
        for name in ("reading", "making", "multiplying")
    }
    whole = sum(spent.values())
    last = passes[-1]
    kept = last["cached_bytes"] / (last["cached_bytes"] + last["bytes_read"])
    return [
        row["label"],
        ", ".join(str(found["columns"]) for found in passes),
        *(f"{seconds / whole:.0%}" for seconds in spent.values()),
        *(f"{_two(row)[f'part {part}']:.3g}" for part in ("warm start", "passes", "the rest")),
        f"{kept:.0%}",
    ]


def _method(results: Row) -> list[str]:
    parameters = results["parameters"]
    return [
        *prose(
            "The floor is a loop of as many threads as bigsvd's run has lanes at a time. Each reads panels "
            "of its own by bigsvd's reader, every chunk once, widens some rows at a time to the precision of "
            "the products, subtracts known means and multiplies by known factors in place, and makes the "
            "same two products with as many columns as the pass had; it keeps and checks nothing, and makes "
            "no statistics. A loop is run for each width that the passes had. bigsvd's pass also reads "
            "ahead, makes a checksum of what it read, looks at every entry in its first pass, and stores Y. "
            "“Run” is the whole call, with the sample, the small dense work and the checked and published "
            f"factors; the run makes at most {parameters['max_passes']} passes, within a budget of "
            f"{parameters['memory']}. “Processors busy” is its processor time ÷ its time. The serial share "
            "is what of the run with two threads does not shrink as the floor does from one thread to two; "
            "a dash where the floor hardly shrinks. "
            "The rates that a prediction is made at are measured in runs that are expected to take more than "
            "3 s. Runs and loops took turns, in one process for each number of threads, which is kept to as "
            f"many processors; medians of {parameters['repeat']} rounds after one that is not counted. "
            f"The slow store hands out {human_bytes(parameters['slow_bytes_per_second'])} a second, "
            "simulated by waiting; there the loop reads the next panel meanwhile. Floats are the slow-decay "
            f"matrix of the other benchmarks, {parameters['gaps']:.0%} of it NaN where there are gaps; int8 "
            "are simulated genotypes. Chunks are compressed by Zarr's default codec (zstd)."
        ),
        "",
    ]


def plot(results: Row, path: Path) -> None:
    """Bars of the three ratios for each shape, and the target."""
    rows = [row for row in results["shapes"] if row["status"] == "done"]
    figure = Figure(figsize=(12, 5), layout="constrained")
    axes = FigureCanvasAgg(figure).figure.add_subplot()
    _draw(axes, rows)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _draw(axes: Axes, rows: list[Row]) -> None:
    width = 0.8 / len(_BARS)
    for place, (name, label, colour) in enumerate(_BARS):
        shown = [(x, _two(row)[name]) for x, row in enumerate(rows) if _two(row)[name] is not None]
        x = [number + (place - 1) * width for number, _ in shown]
        bars = axes.bar(x, [ratio for _, ratio in shown], width, color=colour, label=label)
        axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=1)
    axes.axhline(_TARGET, color="#c8553d", linewidth=1, label=f"{_TARGET:g}")
    axes.set_xticks(range(len(rows)), [row["label"].replace(", ", "\n") for row in rows], fontsize=8)
    axes.set_ylabel("times the floor")
    axes.set_ylim(top=1.15 * axes.get_ylim()[1])  # room for the legend
    axes.legend(frameon=False, ncols=4, loc="upper left")
