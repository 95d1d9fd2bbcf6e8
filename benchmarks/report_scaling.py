"""The report of `scaling`: overheads, planning, weak scaling, and the simulation with its assumptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import human_bytes, human_seconds, prose, provenance_lines, table

_LIMIT_HEADINGS = ("what can break", "needed", "there is", "share", "breaks at")


def markdown(results: dict[str, Any]) -> str:
    """Four sections of tables, the last with its assumptions."""
    return (
        "\n".join(
            [
                "# Scaling",
                "",
                *_overheads(results),
                *_planning(results["planning"]),
                *_weak_scaling(results),
                *_simulation(results["simulation"]),
                *provenance_lines(results),
            ]
        )
        + "\n"
    )


def _overheads(results: dict[str, Any]) -> list[str]:
    found, parameters = results["overheads"], results["parameters"]
    rows = [
        [
            " × ".join(f"{length:,}" for length in run["shape"]),
            f"{run['panels']:,}",
            f"{run['lanes']:,}",
            human_bytes(run["partial_bytes"]),
            human_seconds(run["streaming_seconds"]),
            human_seconds(run["combining_seconds"]),
        ]
        for run in found["runs"]
    ]
    return [
        "## Overhead",
        "",
        *table(
            (
                "float32 matrix in memory",
                "panels",
                "lanes",
                "sums of a lane",
                "lanes run",
                "combined",
            ),
            rows,
        ),
        "",
        *prose(
            f"So a panel costs {human_seconds(found['panel_seconds'])} and a lane "
            f"{human_seconds(found['lane_seconds'])} of its thread beyond reading and multiplying, and "
            f"{1e9 * found['partial_seconds_per_byte']:.3g} ns a byte of its partial sums; to combine a "
            f"lane's costs {human_seconds(found['combined_lane_seconds'])} and "
            f"{1e9 * found['combined_seconds_per_byte']:.3g} ns a byte. A panel leaves "
            f"{human_bytes(found['panel_bytes'])} in memory until the pass ends. The fastest of "
            f"{parameters['repeat']} passes each, on one thread; combining includes the driver's small dense "
            "work. The rows of Y of a panel and the sums of a lane are written to scratch on disk."
        ),
        "",
    ]


def _planning(found: dict[str, Any]) -> list[str]:
    m, n = found["shape"]
    row = [
        f"{m:,} × {n:,} ({human_bytes(found['data_bytes'])})",
        f"{found['panels']:,}",
        f"{found['lanes']:,}",
        human_seconds(found["seconds"]),
        human_bytes(found["peak_bytes"]),
        human_bytes(found["json_bytes"]),
        human_seconds(found["json_seconds"]),
    ]
    headings = ("float32 matrix", "panels", "lanes", "plan", "memory", "JSON", "written and read")
    return ["## Planning", "", *table(headings, [row]), ""]


def _weak_scaling(results: dict[str, Any]) -> list[str]:
    cpus = results["parameters"]["cpus"]
    rows = [
        [
            str(row["workers"]),
            human_bytes(row["data_bytes"]),
            human_seconds(row["first_seconds"]),
            f"{row['first_efficiency']:.2f}",
            human_seconds(row["last_seconds"]),
            f"{row['last_efficiency']:.2f}",
            f"{min(1.0, cpus / row['workers']):.2f}",
        ]
        for row in results["weak_scaling"]
    ]
    headings = ("workers", "data", "first pass", "efficiency", "last pass", "efficiency", "possible")
    return [
        "## Weak scaling",
        "",
        *table(headings, rows),
        "",
        *prose(
            f"Processes of one thread on {cpus} cores, data growing with them, in the page cache; efficiency "
            "is the time of one worker over that of this many. “Possible” is what the cores allow where all "
            "of the time is work; what a pass costs whatever the data, which one worker pays alone, makes it "
            "look better. The scheduler and the driver share the cores. The first pass also imports what it "
            "needs, and leaves decoded panels in memory to the next."
        ),
        "",
    ]


def _simulation(found: dict[str, Any]) -> list[str]:
    case, work = found["case"], found["workload"]
    m, n = case["shape"]
    title = f"{m:,} × {n:,} float32 ({human_bytes(work['data_bytes'])}), k = {case['k']}"
    smallest, largest = found["sweep"][0]["data_bytes"], found["sweep"][-1]["data_bytes"]
    return [
        f"## Simulated: {title}, {found['cluster']['workers']} workers",
        "",
        *table(("one pass", ""), _estimated(found["estimate"])),
        "",
        *table(_LIMIT_HEADINGS, [_limit(row, smallest) for row in found["limits"]]),
        "",
        *prose(
            f"{_first_to_break(found, smallest)} Sizes are of matrices with these columns and more or fewer "
            f"rows, in steps of 2 from {human_bytes(smallest)} to {human_bytes(largest)}; each is planned "
            "anew; what names no size holds for all of them."
        ),
        "",
        "### Measured in this run",
        "",
        *table(("constant", ""), _constants(found["constants"])),
        "",
        "### Assumed",
        "",
        *table(("assumption", ""), _assumed(found)),
        "",
        *prose(
            "A pass is the longest of transfers (data from the object store; data, Y and partial sums over "
            "the network), computing (decoding, products, overhead of panels and lanes, over all threads) "
            "and scheduling (one task a lane), which overlap; then the lanes' partial sums are read and "
            "added, some at a time on all threads and in the end by the driver, at the network's rate or "
            "the rate measured here, whichever is lower. "
            "Scratch is as fast as the network. Start-up, stragglers, failures and the small dense work "
            "between passes are left out. Driver and scheduler share a machine. Memory of the driver is the "
            "plan's terms for it, two partial sums, and what a panel leaves in memory (a checksum, mostly)."
        ),
        "",
    ]


def _first_to_break(found: dict[str, Any], smallest: float) -> str:
    broken = [row for row in found["limits"] if row["breaks_at_bytes"] is not None]
    if not broken:
        return "Nothing breaks."
    first = min(broken, key=lambda row: row["breaks_at_bytes"])
    return f"First to break: {first['name']}, at {_limit(first, smallest)[-1]}."


def _estimated(estimate: dict[str, Any]) -> list[list[str]]:
    seconds = {
        "data and sums are transferred": "transfer_seconds",
        "workers compute": "computing_seconds",
        "scheduler hands out lanes": "scheduling_seconds",
        "partial sums combined": "combining_seconds",
        "whole pass": "pass_seconds",
        "lost with one worker, a thread": "lost_seconds",
    }
    sizes = {
        "network": "network_bytes",
        "partial sums of one lane": "partial_bytes",
        "driver memory": "driver_bytes",
        "tasks held by the scheduler": "scheduler_bytes",
        "scratch": "scratch_bytes",
    }
    return [
        *([words, human_seconds(estimate[name])] for words, name in seconds.items()),
        *([words, human_bytes(estimate[name])] for words, name in sizes.items()),
    ]


def _limit(row: dict[str, Any], smallest: float) -> list[str]:
    shown = human_bytes if row["unit"] == "B" else human_seconds
    breaks = row["breaks_at_bytes"]
    return [
        row["name"],
        shown(row["value"]),
        shown(row["available"]),
        f"{row['share']:.2g}",
        "" if breaks is None else f"{'≤ ' if breaks <= smallest else ''}{human_bytes(breaks)}",
    ]


def _constants(constants: dict[str, Any]) -> list[list[str]]:
    return [
        ["overhead of a panel", human_seconds(constants["panel_seconds"])],
        ["overhead of a lane", human_seconds(constants["lane_seconds"])],
        ["memory of a panel", human_bytes(constants["panel_bytes"])],
        [
            "partial sums of a lane, made and written",
            f"{1e9 * constants['partial_seconds_per_byte']:.3g} ns a byte",
        ],
        [
            "read and added afterwards",
            f"{human_seconds(constants['combined_lane_seconds'])} a lane and "
            f"{1e9 * constants['combined_seconds_per_byte']:.3g} ns a byte",
        ],
        ["scheduler, one task", human_seconds(constants["task_seconds"])],
        [
            "size of one task",
            f"{human_bytes(constants['task_bytes'])} and {constants['plans_in_a_task']:.2f} times the plan",
        ],
        ["read and decode, one core", f"{human_bytes(constants['read_bytes_per_second'])}/s"],
        ["products, one core", f"{constants['product_flops_per_second'] / 1e9:.3g} Gflop/s"],
        ["columns of the audit", str(constants["probe_columns"])],
    ]


def _assumed(found: dict[str, Any]) -> list[list[str]]:
    cluster, case, work = found["cluster"], found["case"], found["workload"]
    chunks = " × ".join(f"{length:,}" for length in case["chunks"])
    return [
        ["workers", f"{cluster['workers']}, {work['threads']} threads each, as on this machine"],
        ["memory budget of a worker", case["memory"]],
        ["chunks, not compressed", chunks],
        ["network, one machine", f"{8 * cluster['network_bytes_per_second'] / 1e9:g} Gbit/s"],
        ["object store, one machine; no limit in all", f"{human_bytes(cluster['store_bytes_per_second'])}/s"],
        ["memory for driver, and for scheduler", human_bytes(cluster["driver_bytes"])],
        ["scratch file system", human_bytes(cluster["scratch_bytes"])],
        ["longest bearable pass", human_seconds(cluster["pass_seconds"])],
        ["from the plan: panels, lanes", f"{work['panels']:,.0f}, {work['lanes']:,.0f}"],
        ["from the plan: width of a block", str(work["width"])],
        ["from the plan: its own size", human_bytes(work["plan_bytes"])],
    ]


def plot(results: dict[str, Any], path: Path) -> None:
    """Weak scaling, and the share of each limit against the size of the data."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    _draw_weak_scaling(left, results)
    _draw_shares(right, results["simulation"])
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _draw_weak_scaling(axes: Axes, results: dict[str, Any]) -> None:
    rows, cpus = results["weak_scaling"], results["parameters"]["cpus"]
    workers = [row["workers"] for row in rows]
    axes.plot(workers, [row["first_efficiency"] for row in rows], "o-", color="#0b6e4f", label="first pass")
    axes.plot(workers, [row["last_efficiency"] for row in rows], "o--", color="#0b6e4f", label="last pass")
    axes.plot(workers, [min(1.0, cpus / count) for count in workers], ":", color="black", label="possible")
    axes.set(xlabel="workers, data growing with them", ylabel="efficiency", ylim=(0, 1.3), xticks=workers)
    axes.set_title(f"weak scaling on {cpus} cores", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="upper right")


def _draw_shares(axes: Axes, found: dict[str, Any]) -> None:
    sizes = [point["data_bytes"] for point in found["sweep"]]
    for row in found["limits"]:
        shares = [point["shares"][row["name"]] for point in found["sweep"]]
        axes.plot(sizes, shares, "-", label=row["name"])
    axes.axhline(1.0, color="black", linewidth=1)
    axes.axvline(found["workload"]["data_bytes"], color="black", linewidth=0.6, linestyle=":")
    axes.set(xscale="log", yscale="log", xlabel="bytes of data", ylabel="share of what there is")
    axes.set_title(f"simulated, {found['cluster']['workers']} workers: what breaks", fontsize=10)
    axes.grid(which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
