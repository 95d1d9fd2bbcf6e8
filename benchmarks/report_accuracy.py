"""The report of `svd-accuracy`: accuracy by noise, labels and treatment, and by rank."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import prose, provenance_lines, table

_TREATMENTS = {
    "raw": "as they are",
    "truncated": "rank k",
    "shrunk": "rank k, shrunk",
    "random": "random, rank k",
    "decayed": "as they are, weight decay",
}
_COLOURS = ("#0b6e4f", "#2f5d9e", "#c8553d")
_RECONSTRUCTED = "mean + (x − mean)·V·Vᵀ with V by `bigsvd.svd(training, k, center=True)`"
_NOTHING = 0.01  # a gain that is called none


def markdown(results: dict[str, Any]) -> str:
    """Accuracy by treatment, what was chosen, and a sentence on each gain."""
    p = results["parameters"]
    cells = list(_cells(results))
    lines = [
        "# A network's accuracy on pictures as they are, and on what a truncated SVD leaves of them",
        "",
        *table(("noise", "labels", *_TREATMENTS.values(), "gain of rank k"), map(_accuracies, cells)),
        "",
        "## What was chosen",
        "",
        *table(
            ("noise", "labels", "k", "k, shrunk", "k of least squared error", "weight decay"),
            map(_chosen, cells),
        ),
        "",
        *prose(_said(cells)),
        "",
        *_method(p),
        "",
        *provenance_lines(results),
    ]
    return "\n".join(lines) + "\n"


def _cells(results: dict[str, Any]) -> list[tuple[float, int, list[dict[str, Any]]]]:
    """Noise, number of labels, and the rows of all seeds."""
    p = results["parameters"]
    return [
        (noise, labels["count"], _of(results, noise, labels["count"]))
        for labels in p["labels"]
        for noise in p["noises"]
    ]


def _of(results: dict[str, Any], noise: float, count: int) -> list[dict[str, Any]]:
    return [row for row in results["rows"] if (row["noise"], row["labels"]) == (noise, count)]


def _accuracies(cell: tuple[float, int, list[dict[str, Any]]]) -> list[str]:
    noise, labels, rows = cell
    shown = [spread([row[name] for row in rows]) for name in _TREATMENTS]
    gains = [100 * (row["truncated"] - row["raw"]) for row in rows]
    return [f"{noise:g}", f"{labels:,}", *shown, spread(gains, "+.1f") + " points"]


def spread(values: list[float], form: str = ".3f") -> str:
    """The mean, and the standard deviation where there are several."""
    mean = format(fmean(values), form)
    return mean if len(values) < 2 else f"{mean} ± {format(stdev(values), form.lstrip('+'))}"


def _chosen(cell: tuple[float, int, list[dict[str, Any]]]) -> list[str]:
    noise, labels, rows = cell
    names = ("rank", "rank_shrunk", "rank_of_least_error", "decay")
    shown = [", ".join(f"{row[name]:g}" for row in rows) for name in names]
    return [f"{noise:g}", f"{labels:,}", *shown]


def _said(cells: list[tuple[float, int, list[dict[str, Any]]]]) -> str:
    """What the table says of each noise, in words."""
    found = []
    for noise, labels, rows in cells:
        gain = fmean(row["truncated"] - row["raw"] for row in rows)
        where = (
            f"with noise {noise:g} and {labels:,} labels" if noise else f"without noise, {labels:,} labels"
        )
        if abs(gain) <= _NOTHING:
            found.append(f"{where}, there is no gain ({100 * gain:+.1f} points)")
        else:
            found.append(f"{where}, rank k is {100 * gain:+.1f} points")
    text = "; ".join(found)
    return text[0].upper() + text[1:] + "."


def _method(p: dict[str, Any]) -> list[str]:
    folds = ", ".join(f"{row['folds']} of the fifths at {row['count']:,}" for row in p["labels"])
    epochs = ", ".join(f"{row['epochs']} at {row['count']:,}" for row in p["labels"])
    return [
        *prose(
            f"Accuracy on {p['test']:,} test pictures, mean ± standard deviation of {p['seeds']} seeds. "
            f"{p['origin']}, {p['pixels']} pixels from 0 to 1, a random {p['training']:,} of them for "
            "training; normal noise of the given standard deviation is added to every pixel of training and "
            "test pictures. **The SVD sees all "
            f"{p['training']:,} training pictures, also those whose labels the network does not see**, and "
            "no test picture, no label and no picture without noise. Test pictures are treated as training "
            "pictures are: replaced by their projection on the k components of these."
        ),
        "",
        *prose(
            "In one experiment all columns have the same network "
            f"(scikit-learn's MLPClassifier, {p['hidden']} hidden units, Adam, batches of {p['batch']}, "
            f"epochs: {epochs}), the same initial weights, order of batches, pictures and noise. Rank k is "
            f"{_RECONSTRUCTED}; the network has all pixels as inputs, so "
            "that its size and the scale of its inputs stay. Shrunk: the singular values are "
            "shrunk, too (Gavish & Donoho 2017, Frobenius norm), with the noise that the residual shows. "
            "Random: the projection on k random directions, k that of the third column."
        ),
        "",
        *prose(
            f"k (of {_listed(p['ranks'])}) and the weight decay (of {_listed(p['decays'])}) are chosen by "
            "accuracy on labelled training pictures that were set aside, a fifth of them "
            f"at a time ({folds} labels), not by error and not on test pictures; then the network learns "
            "from all labelled ones. The k of the least squared error, which only who has the pictures "
            "without noise could choose, stands beside it."
        ),
    ]


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def plot(results: dict[str, Any], path: Path) -> None:
    """Accuracy against k, a panel for each number of labels; lines where the pictures are as they are."""
    p = results["parameters"]
    figure = Figure(figsize=(5 * len(p["labels"]) + 1, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, labels in zip(figure.subplots(1, len(p["labels"]), squeeze=False)[0], p["labels"], strict=True):
        for noise, colour in zip(p["noises"], _COLOURS, strict=True):
            rows = _of(results, noise, labels["count"])
            by_rank = [[row["by_rank"][place] for row in rows] for place in range(len(p["ranks"]))]
            means = [fmean(values) for values in by_rank]
            spreads = [stdev(values) if len(values) > 1 else 0.0 for values in by_rank]
            axes.errorbar(
                p["ranks"],
                means,
                spreads,
                fmt="o-",
                color=colour,
                capsize=3,
                label=f"noise {noise:g}, rank k",
            )
            raw = fmean(row["raw"] for row in rows)
            axes.axhline(raw, color=colour, linestyle="--", label=f"noise {noise:g}, as they are")
        axes.set(xscale="log", xlabel="k", title=f"{labels['count']:,} labels", ylim=(0, 1))
        axes.set_xticks(p["ranks"], [str(rank) for rank in p["ranks"]])
        axes.minorticks_off()
        axes.set_ylabel("accuracy on test pictures")
        axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})
