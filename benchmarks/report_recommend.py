"""The report of `recommend`: time and memory of each stage, then measures by what recommended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import human_bytes, prose, provenance_lines, table

PURE = "PureSVD k="
# On a published split of ML-100K, which is another than ours, so that only the order is to agree.
PUBLISHED = {
    "TopPopular": (0.191, 0.118, 0.136),
    "PureSVD k=13": (0.354, 0.225, 0.272),
    "EASE": (0.374, 0.243, 0.291),
}
_WORDS = {"factors": "the SVD", "top": "the best items of all users"}

Row = dict[str, Any]


def markdown(results: Row) -> str:
    """Stages, then the evaluation."""
    p, evaluation = results["parameters"], results["evaluation"]
    n = p["n"]
    return (
        "\n".join(
            [
                f"# Recommendation: {p['users']:,} users × {p['items']:,} items, {p['ratings']:,} ratings",
                "",
                *table(
                    ("", "seconds", "processor seconds", "budget", "peak beyond imports"),
                    map(_stage, results["stages"]),
                ),
                "",
                *_method(results),
                f"## {p['table'] or 'The made ratings'}: {evaluation['users']:,} users, "
                f"{evaluation['hidden']:,} hidden items",
                "",
                *table(
                    ("", f"PREC@{n}", f"REC@{n}", f"nDCG@{n}", "published: PREC", "REC", "nDCG"),
                    (_cells(name, row, p["table"]) for name, row in evaluation["rows"].items()),
                ),
                "",
                *_how_evaluated(results),
                *provenance_lines(results),
            ]
        )
        + "\n"
    )


def _stage(row: Row) -> list[str]:
    if row["status"] != "done":
        return [_WORDS[row["stage"]], row["status"], "", row["memory"], ""]
    peak = human_bytes(row["peak_rss_bytes"] - row["imported_bytes"])
    return [_WORDS[row["stage"]], f"{row['seconds']:.1f}", f"{row['cpu_seconds']:.1f}", row["memory"], peak]


def _method(results: Row) -> list[str]:
    p = results["parameters"]
    wrong, load = results["stages"][-1]["wrong"], results["machine"]["load_average_at_start"]
    refused = f" EASE refuses these items: `{results['refused']}`." * bool(results["refused"])
    return [
        *prose(
            f"k = {p['k']}, {p['n']} items a user; each stage is a process of its own on {p['cpus']} CPUs "
            f"with a budget, from Zarr to Zarr. Load average at the start {load}: where others were at work, "
            f"processor seconds say more. Of 50 users {wrong} have an answer that is not the best of all "
            f"their scores.{refused}"
        ),
        "",
    ]


def _cells(name: str, row: Row, table_name: str) -> list[str]:
    known = PUBLISHED.get(name, ()) if table_name == "ml-100k" else ()
    published = [f"{value:.3f}" for value in known] or ["", "", ""]
    return [name, *(f"{row[measure]:.3f}" for measure in ("precision", "recall", "ndcg")), *published]


def _how_evaluated(results: Row) -> list[str]:
    return [
        *prose(
            f"Means of {results['parameters']['seeds']} seeds. Of each user 20 % of the rated items are "
            "hidden; all items that were not left in training are ranked. Precision is hits/n, recall "
            "hits/hidden, nDCG the sum over hits of 1/log2(1 + place) divided by the same sum of "
            "min(n, hidden) hits in front; means over users with hidden items. EASE has penalty 200 and "
            "takes any rating as 1. The published figures are of another split, and their nDCG, lower by a "
            "third in all rows, of another definition."
        ),
        "",
    ]


def plot(results: Row, path: Path) -> None:
    """Measure nDCG by k, with lines for what has none; and the peaks against the budget."""
    rows = results["evaluation"]["rows"]
    ranks = {int(name.removeprefix(PURE)): row["ndcg"] for name, row in rows.items() if PURE in name}
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    left.plot(list(ranks), list(ranks.values()), "o-", color="#0b6e4f", label="PureSVD")
    for name, colour in (("TopPopular", "#c8553d"), ("EASE", "#2f5d9e")):
        left.axhline(rows[name]["ndcg"], color=colour, linestyle="--", label=name)
    left.set(xscale="log", xlabel="k", ylabel=f"nDCG@{results['parameters']['n']}")
    left.set_xticks(list(ranks), [str(k) for k in ranks])
    left.minorticks_off()
    left.grid(alpha=0.3)
    left.legend(frameon=False)
    done = [row for row in results["stages"] if row["status"] == "done"]
    peaks = [(row["peak_rss_bytes"] - row["imported_bytes"]) / 1e6 for row in done]
    bars = right.bar([_WORDS[row["stage"]] for row in done], peaks, 0.5, color="#0b6e4f")
    right.bar_label(bars, [f"{row['seconds']:.0f} s" for row in done], padding=3)
    right.set_ylabel("peak beyond imports, MB")
    right.set_ylim(0, 1.15 * max(peaks, default=1.0))
    figure.savefig(path, dpi=110, metadata={"Software": None})
