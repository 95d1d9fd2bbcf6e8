"""The report of `cpu-gpu`: times and errors, passes against their ceilings, and both as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.tables import human_bytes, human_seconds, prose, provenance_lines, table

_DEVICES = {"cpu": "CPU", "gpu": "GPU"}
_COLOURS = {"cpu": "#2f5d9e", "gpu": "#0b6e4f"}
_MARKERS = {
    "bigsvd krylov": "o",
    "bigsvd gram": "D",
    "PyTorch": "^",
    "scikit-learn": "v",
    "Dask": "s",
    "CuPy": "P",
}
_FRACTIONS = ("read", "copy, pinned", "copy, pageable", "device memory", "products")
_HEADINGS = (
    "source", "device", "method", "seconds", "CPU ÷ GPU", "passes", "lanes", "first use", "host memory",
    "GPU memory", "PVE", "worst σ error",
)  # fmt: skip
_PASS_HEADINGS = (
    "source", "device", "method", "pass", "columns", "seconds", "of the read", "of the pinned copy",
    "of the pageable copy", "of the device memory", "of the products",
)  # fmt: skip


def markdown(results: dict[str, Any]) -> str:
    """Ceilings, then for each matrix its times and its passes, then how it was measured."""
    lines = ["# CPU against GPU", "", *prose(_opening(results)), "", *_ceilings(results)]
    for matrix in results["matrices"]:
        lines += _matrix(matrix)
    return "\n".join([*lines, *_method(results), *provenance_lines(results)]) + "\n"


def _opening(results: dict[str, Any]) -> str:
    name, reason = results["device"]["name"], results["device"]["reason"]
    if name is None:
        return f"**Nothing was measured on a GPU: {reason}.** Its rows say so; the others are of the CPU."
    gpu = results["ceilings"].get("gpu") or {}
    memory = f", {gpu['memory_bytes'] / 2**30:.0f} GiB" if gpu else ""
    return f"The same request on {results['machine']['cpu']} and on one {name}{memory}."


def _ceilings(results: dict[str, Any]) -> list[str]:
    """What the machine can do, from the same run."""
    found = results["ceilings"]
    if found["status"] != "done":
        return [*prose(f"The ceilings of the machine were not measured: {found['status']}."), ""]
    side = results["parameters"]["side"]
    rows = [
        [f"products of {factor * side:,} square, {dtype}, {_DEVICES[device]}", f"{rate / 1e12:.3g} Tflop/s"]
        for device, factor in (("cpu", 1), ("gpu", 2))
        for dtype, rate in found["products"].get(device, {}).items()
    ]
    rows += [
        [f"copy to the GPU, {name}", f"{human_bytes(rate)}/s"] for name, rate in (found["copy"] or {}).items()
    ]
    if found["device_memory"]:
        rows.append(["GPU memory, read and written", f"{human_bytes(found['device_memory'])}/s"])
    for matrix in results["matrices"]:
        for reader, rate in matrix["read"].get("rates", {}).items():
            threads = matrix["read"]["threads"]
            words = f"bare read of {_name(matrix)}, {threads} threads, {reader}"
            rows.append([words, f"{human_bytes(rate)}/s"])
        for way, rate in matrix["read"].get("to_gpu", {}).items():
            shown = rate if isinstance(rate, str) else f"{human_bytes(rate)}/s"
            rows.append([f"{_name(matrix)} read into the GPU's memory, {way}", shown])
    return ["## Ceilings", "", *table(("measured in this run", "rate"), rows), ""]


def _name(matrix: dict[str, Any]) -> str:
    return f"{human_bytes(matrix['data_bytes'])} {matrix['dtype']}"


def _matrix(matrix: dict[str, Any]) -> list[str]:
    title = f"## {matrix['dtype']}, {matrix['m']:,} × {matrix['n']:,} ({human_bytes(matrix['data_bytes'])})"
    lines = [f"{title}, k = {matrix['k']}", ""]
    if matrix["read"]["status"] != "done":
        lines += [*prose(f"The bare read was not measured: {matrix['read']['status']}."), ""]
    lines += [*table(_HEADINGS, [_cells(row, matrix["rows"]) for row in matrix["rows"]]), ""]
    passes = [_pass_cells(row, found) for row in matrix["rows"] for found in row["passes"]]
    return [*lines, *(table(_PASS_HEADINGS, passes) if passes else []), *([""] if passes else [])]


def _cells(row: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    given = [row["source_label"], _DEVICES[row["device"]], row["label"]]
    if "seconds" not in row:
        return [*given, row["status"], *[""] * (len(_HEADINGS) - 4)]
    several = len(row["runs"]) > 1
    spread = f" ({row['fastest_seconds']:.3g} to {row['slowest_seconds']:.3g})" if several else ""
    facts, device_bytes = row["runs"][-1]["facts"], row["device_memory_bytes"]
    return [
        *given,
        f"{row['seconds']:.3g}" + spread,
        _gain(row, rows),
        f"{facts['passes']:.2f}" if "passes" in facts else "",
        str(facts.get("lanes_at_a_time", "")),
        human_seconds(row["first_use_seconds"]),
        human_bytes(row["peak_memory_bytes"]),
        human_bytes(device_bytes) if device_bytes is not None else "",
        f"{row['pve']:.1e}",
        f"{row['sigma_error']:.1e}",
    ]


def _gain(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """How many times faster than the same on the CPU; empty where there is no such row."""
    if row["device"] != "gpu":
        return ""
    for other in rows:
        same = other["label"] == row["label"] and other["source"] == row["source"]
        if same and other["device"] == "cpu" and "seconds" in other:
            return f"{other['seconds'] / row['seconds']:.2f}"
    return ""


def _pass_cells(row: dict[str, Any], found: dict[str, Any]) -> list[str]:
    fractions = found["fractions"]
    shown = []
    for name in _FRACTIONS:
        text = f"{100 * fractions[name]:.2g} %" if name in fractions else ""
        shown.append(f"**{text}**" if text and name == found["nearest"] else text)
    return [
        row["source_label"],
        _DEVICES[row["device"]],
        row["label"],
        found.get("name", ""),
        f"{found['columns']:,}" if "columns" in found else "",
        f"{found['seconds']:.3g}",
        *shown,
    ]


def _method(results: dict[str, Any]) -> list[str]:
    parameters = results["parameters"]
    budget = parameters["budget_seconds"]
    shares = ", ".join(f"{label} {share:g}" for label, share in parameters["memory_shares"].items())
    least = human_bytes(parameters["least_memory_bytes"])
    ended = f" Rows for which {budget:g} s in all did not suffice say so." if budget is not None else ""
    return [
        *prose(
            f"Every row is a process of its own on {parameters['cpus']} CPUs. It runs once on a little "
            "matrix, which starts the device and compiles its kernels (“first use”, not counted), then up to "
            f"{parameters['repeat']} times on the matrix; seconds are the median (fastest to slowest), from "
            "opening the source to factors in host memory. bigsvd also writes, checks and publishes U, s, Vt "
            "and its certificate; the peers return U, s and Vt in memory. Where the source is Zarr, the "
            "peers' loading counts; Dask streams. Stores are read whole before, so that the page cache holds "
            "them if it can. Host memory is the high-water mark of resident memory less what was resident "
            "before the timed runs; GPU memory is the most that CuPy's pool, sampled, or PyTorch's allocator "
            "held. "
            f"bigsvd's budget is a multiple of the data ({shares}), {least} at least; the peers have none. "
            "Lanes are panels multiplied at a time, as many as that budget holds. "
            f"The peers take integers as float32. {_randomised(parameters)}{ended}"
        ),
        "",
        *prose(
            "Passes are those of the fastest run, without the passes over the sample. A fraction is the rate "
            "at which the pass read bytes from the store, sent bytes to the GPU, went through bytes there, "
            "or did multiplications and additions (4mn a column, 2mn² for the Gram matrix), over the rate "
            "measured bare: the faster of two readers, copies from pinned and from ordinary memory, a copy "
            "within the GPU's memory, large square products of that precision. Bold is the ceiling the pass "
            "is nearest to. Panels that were kept decoded are not read again, and so do not count as read; "
            "those kept on the GPU are not sent again either."
        ),
        "",
        *prose(
            "PVE is max |s²−σ²|/σ²ₖ₊₁, against a float64 Gram reference of the stored data, the worst of "
            "the runs."
        ),
        "",
    ]


def _randomised(parameters: dict[str, Any]) -> str:
    return (
        f"The randomised ones have {parameters['oversampling_of_peers']} more columns than k and the power "
        "iterations that their names say."
    )


def plot(results: dict[str, Any], path: Path) -> None:
    """Left the time of every row, right the fraction of the nearest ceiling of every pass."""
    groups = [(matrix, source) for matrix in results["matrices"] for source in _sources(matrix)]
    figure = Figure(figsize=(12, 1.8 + 0.55 * max(4, len(groups))), layout="constrained")
    FigureCanvasAgg(figure)
    times, fractions = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, (matrix, source) in enumerate(groups):
        rows = [row for row in matrix["rows"] if row["source_label"] == source and "seconds" in row]
        for row in rows:
            height = place + (0.15 if row["device"] == "gpu" else -0.15)
            _mark(times, row, [row["seconds"]], height)
            reached = [found["fractions"][found["nearest"]] for found in row["passes"] if found["nearest"]]
            _mark(fractions, row, reached, height)
    labels = [f"{_name(matrix)}\n{source}" for matrix, source in groups]
    times.set_yticks(range(len(groups)), labels, fontsize=8)
    times.invert_yaxis()
    times.set(xscale="log", xlabel="seconds, end to end")
    times.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    times.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    times.xaxis.set_minor_formatter(NullFormatter())
    fractions.set(xlabel="each pass: fraction of the ceiling it is nearest to")
    fractions.set_xlim(left=0)
    for axes in (times, fractions):
        axes.grid(alpha=0.3)
    name = results["device"]["name"]
    times.set_title(f"{results['machine']['cpu']} and {name or 'no GPU'}", fontsize=10, loc="left")
    _legend(figure, results)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _sources(matrix: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["source_label"] for row in matrix["rows"]))


def _key(row: dict[str, Any]) -> str:
    return str(row["label"] if row["label"] in _MARKERS else row["family"])


def _mark(axes: Axes, row: dict[str, Any], values: list[float], height: float) -> None:
    if values:
        axes.scatter(
            values, [height] * len(values), color=_COLOURS[row["device"]], marker=_MARKERS[_key(row)],
            s=36, alpha=0.85, zorder=3,
        )  # fmt: skip


def _legend(figure: Figure, results: dict[str, Any]) -> None:
    """One entry for each method on each device that was measured."""
    measured = [row for matrix in results["matrices"] for row in matrix["rows"] if "seconds" in row]
    entries = dict.fromkeys((row["device"], _key(row)) for row in measured)
    axes = figure.axes[0]
    handles = [
        axes.scatter([], [], color=_COLOURS[device], marker=_MARKERS[key], label=f"{key}, {_DEVICES[device]}")
        for device, key in sorted(entries)
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
