"""The report of `peers`: a Markdown table, and time against error as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from benchmarks.tables import provenance_lines, table

_COLOURS = {"bigsvd": "#0b6e4f", "Dask": "#c8553d", "scikit-learn": "#2f5d9e"}
_MARKERS = {"bigsvd": "o", "Dask": "s", "scikit-learn": "^"}
_SIDES = ((7, "left"), (-7, "right"))
_PLACES = tuple(((x, y), side) for y in (-3, 7, -13, 17, -23, 27, -33) for x, side in _SIDES)
_HEADINGS = (
    "peer", "threads", "seconds", "÷ bare read", "÷ read by one thread", "passes", "peak memory", "PVE",
    "worst σ error", "angle (rad)",
)  # fmt: skip


def markdown(results: dict[str, Any]) -> str:
    """The table, and under it what it was measured with and how."""
    rows = [_cells(row) for row in results["peers"]]
    lines = [f"# {_title(results)}", "", *table(_HEADINGS, rows), "", *_method(results)]
    return "\n".join(lines) + "\n"


def _title(results: dict[str, Any]) -> str:
    parameters = results["parameters"]
    dataset, size = parameters["dataset"], parameters["data_bytes"] / 1e9
    shape = f"{dataset['m']:,} × {dataset['n']:,}"
    scarce = parameters["scarce_bytes"]
    memory = f", {scarce / 1e9:.3g} GB of memory" if scarce is not None else ""
    return f"{dataset['name']}, {shape} {dataset['dtype']} ({size:.3g} GB), k = {parameters['k']}{memory}"


def _cells(row: dict[str, Any]) -> list[str]:
    name = row["label"] + (" (centred)" if row["centred"] else "")
    if "seconds" not in row:
        return [name, row["threads"], row["status"], *[""] * (len(_HEADINGS) - 3)]
    fastest, slowest = row["fastest_seconds"], row["slowest_seconds"]
    spread = f" ({fastest:.3g} to {slowest:.3g})" if len(row["runs"]) > 1 else ""
    return [
        name,
        row["threads"],
        f"{row['seconds']:.3g}" + spread,
        f"{row['reads']:.1f}",
        f"{row['loops']:.1f}",
        f"{row['passes']:.2f}",
        f"{row['peak_memory_bytes'] / 1e9:.2f} GB",
        f"{row['pve']:.1e}",
        f"{row['sigma_error']:.1e}",
        f"{row['angle_radians']:.1e}",
    ]


def _method(results: dict[str, Any]) -> list[str]:
    machine, parameters = results["machine"], results["parameters"]
    read = results["bare_read"]
    seconds = [run["seconds"] for run in read["runs"]]
    return [
        f"One bare read of the store took {read['seconds']:.2f} s (median of {len(seconds)}, "
        f"{min(seconds):.2f} to {max(seconds):.2f}),",
        f"and {results['bare_loop']['seconds']:.2f} s by one thread, panel by panel; both with zarr-python,",
        "taken between the peers of this run. " + _cached(parameters["scarce_bytes"]),
        f"Every peer ran in fresh processes on {parameters['cpus']} CPUs; seconds are medians",
        "(fastest to slowest), imports not counted, all with the same seed. The machine's load average was",
        f"{machine['load_average_at_start']:.2f} before the first measurement.",
        *([results["remark"]] if "remark" in results else []),
        "Peak memory is the process's high-water mark less what was resident after imports.",
        "Passes of Dask are chunk reads counted at the store; scikit-learn's randomized_svd loads the",
        "matrix once and sweeps it in memory. bigsvd also writes, checks and publishes U, s, Vt and its",
        "certificate; the others return U, s and Vt (IncrementalPCA no U) in memory.",
        "",
        "PVE is max |s²−σ²|/σ²ₖ₊₁; the angle is the largest principal angle between the computed and the",
        "exact k leading right singular vectors; both against a float64 Gram reference of the stored data,",
        "the worst of the runs. IncrementalPCA centres the columns, and is compared with the reference of",
        "the centred matrix.",
        "",
        *provenance_lines(results),
    ]


def _cached(scarce_bytes: int | None) -> str:
    if scarce_bytes is None:
        return "The store is read whole before the first, so that the page cache holds it if it can."
    return (
        f"What is measured may hold {scarce_bytes / 1e9:.3g} GB in all, the pages of files it\n"
        "reads included (a Linux control group), and begins with nothing of the store in the page cache:\n"
        "what it does not keep is read from the disk again."
    )


def plot(results: dict[str, Any], path: Path) -> None:
    """Time in bare reads against PVE, both logarithmic; towards the lower left is better."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = FigureCanvasAgg(figure).figure.add_subplot()
    rows = [row for row in results["peers"] if "seconds" in row]
    axes.set(xscale="log", yscale="log")
    for family, colour in _COLOURS.items():
        own = [row for row in rows if row["family"] == family]
        if not own:
            continue
        x, y = [row["reads"] for row in own], [row["pve"] for row in own]
        axes.scatter(x, y, color=colour, marker=_MARKERS[family], s=45, zorder=3, label=family)
    axes.set_xlabel("wall time ÷ one bare read of the store")
    axes.set_ylabel("PVE: max |s²−σ²|/σ²ₖ₊₁")
    axes.set_title(_title(results), fontsize=11)
    axes.margins(x=0.12, y=0.12)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(which="major", alpha=0.3)
    if rows:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _label(figure, axes, rows)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def _label(figure: Figure, axes: Axes, rows: list[dict[str, Any]]) -> None:
    """A name at each point, in the first place where it covers no other name or point."""
    figure.draw_without_rendering()  # lays out the axes, which then stay
    figure.set_layout_engine("none")
    points = axes.transData.transform([(row["reads"], row["pve"]) for row in rows])
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in points]
    for row in rows:
        note = axes.annotate(
            _short(row), (row["reads"], row["pve"]), xytext=(0, 0), textcoords="offset points",
            fontsize=8, color=_COLOURS[row["family"]],
        )  # fmt: skip
        for offset, side in _PLACES:
            note.set(position=offset, horizontalalignment=side)
            box = note.get_window_extent()
            if axes.bbox.containsx(box.x1) and axes.bbox.containsx(box.x0) and not box.count_overlaps(taken):
                break
        taken.append(box)


def _short(row: dict[str, Any]) -> str:
    label = str(row["label"])
    for word in ("bigsvd ", "Dask svd_compressed ", "Dask ", "scikit-learn "):
        label = label.removeprefix(word)
    return label + (" (centred)" if row["centred"] else "")
