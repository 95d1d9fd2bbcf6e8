"""The report of `passes`: how many passes each method needs on each family, and residual against passes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import prose, provenance_lines, table

_STYLES = {
    "bigsvd": ("#0b6e4f", "o-"),
    "krylov-k+10": ("#7d7d7d", "v:"),
    "krylov-3k": ("#4a4a4a", "v-"),
    "dask-k+10": ("#e0a090", "s:"),
    "dask-3k": ("#c8553d", "s-"),
    "sklearn": ("#2f5d9e", "^-"),
    "pcaone-k+10": ("#c3a5dd", "D:"),
    "pcaone-3k": ("#7b4fa6", "D-"),
    "dashsvd-k+10": ("#e3c271", "P:"),
    "dashsvd-3k": ("#b8860b", "P-"),
}
_COLUMNS = 3
_ACCURACY = (
    "family",
    "method",
    "passes",
    "max ρ",
    "own word",
    "excess",
    "PVE",
    "worst σ error",
    "angle (rad)",
)


def markdown(results: dict[str, Any]) -> str:
    """Passes to either target by family and method, then the errors of each method's last answer."""
    p, families = results["parameters"], results["families"]
    headings = ["family", *(row["label"] for row in families[0]["contenders"])]
    lines = [
        f"# Passes over the data to max ρ ≤ {p['tol']:g}",
        "",
        *table(headings, [_passes(family, "residual") for family in families]),
        "",
        f"## To a reconstruction within {p['excess']:g} of the best possible",
        "",
        *table(headings, [_passes(family, "excess") for family in families]),
        "",
        "## The families",
        "",
        *table(("family", "entries", "shape", "k", "σ₁/σₖ", "σₖ/σₖ₊₁", "auto"), map(_described, families)),
        "",
        "## The last answer of each",
        "",
        *table(_ACCURACY, [_errors(f, row) for f in families for row in f["contenders"]]),
        "",
        *_method(results),
    ]
    return "\n".join(lines) + "\n"


def _passes(family: dict[str, Any], target: str) -> list[str]:
    return [family["label"], *(_count(row, target) for row in family["contenders"])]


def _count(row: dict[str, Any], target: str) -> str:
    """The passes, or how far the last answer was from the target."""
    passes, last = row[f"passes_to_{target}"], row["answers"][-1]
    return f"> {last['passes']:.4g} ({last[target]:.0e})" if passes is None else f"{passes:.4g}"


def _described(family: dict[str, Any]) -> list[str]:
    m, n = family["shape"]
    options = ", ".join(name for name in ("center", "scale", "missing") if name in family["options"])
    return [
        family["label"],
        family["origin"] + (f" ({options})" if options else ""),
        f"{m:,} × {n:,} {family['dtype']}",
        str(family["k"]),
        f"{family['sigma_1'] / family['sigma_k']:.3g}",
        f"{family['sigma_k'] / family['sigma_k_plus_1']:.4g}",
        f"{family['auto']['method']}, {family['auto']['expected_passes']:.3g} passes",
    ]


def _errors(family: dict[str, Any], row: dict[str, Any]) -> list[str]:
    last = row["answers"][-1]
    own = "" if last["claimed"] is None else f"{last['claimed']:.1e}"
    figures = (last[name] for name in ("excess", "pve", "sigma_error", "angle_radians"))
    return [
        family["label"],
        row["label"],
        f"{last['passes']:.4g}" + (f" + {last['resampled']:.2f}" if last["resampled"] else ""),
        f"{last['residual']:.1e}",
        own,
        *(f"{figure:.1e}" for figure in figures),
    ]


def _method(results: dict[str, Any]) -> list[str]:
    p = results["parameters"]
    return [
        *prose(
            "ρ is max ‖BᵀB·v − θ·v‖/θ, θ = s², B the matrix with its short side across, v the singular "
            "vectors along that side; the excess is ‖B − B·P‖_F/‖B‖_F less the least possible, P the "
            "projector on the span of the v. Both, PVE, σ error and angle (as in the peers' table) come from "
            "one function of (s, V), the same for all, in float64 against the Gram matrix; only the column "
            "“own word” is what the method itself states. A method that had not arrived after "
            f"{p['max_passes']} passes shows “>” and where it was."
        ),
        "",
        *prose(
            "The first two tables count the passes to the first answer within the bound; bigsvd's sample of "
            "the data counts once, as the part of a pass that it is, and what the last table adds with “+” "
            "is how much of the data it multiplied besides, the sample that it keeps being gone over again "
            "(bytes delivered, over bytes of the data). Dask's passes are chunk reads counted at the "
            "store (2 + 2·n_power_iter, iterator QR); scikit-learn's are 2 + 2·n_iter sweeps over the matrix "
            "in memory. The plain block Krylov iteration makes both products of a block in one pass, starts "
            "from a Gaussian block and uses no sample; like bigsvd it has an answer after every pass. "
            "PCAone's passes are its epochs, of which up to six renew the basis in windows, the last never; "
            "that the matrix is permuted first is not counted, and it answers here before its seventh epoch, "
            "as published it does not. dashSVD's are p + 2, both products of its p power iterations in one "
            "pass each. l is "
            f"the width of a block: bigsvd chooses its own, scikit-learn's is k+{p['oversampling']}."
        ),
        "",
        *prose(
            "bigsvd reads the matrix as stored and centres, scales and fills while it streams; the others "
            "cannot and are given the result, which is not counted. Here it is told method=krylov; “auto” is "
            "what it would choose by itself, which for a short side as short as these may be the Gram matrix."
        ),
        "",
        *provenance_lines(results),
    ]


def plot(results: dict[str, Any], path: Path) -> None:
    """Worst residual against passes, one family a panel."""
    families = results["families"]
    columns = min(_COLUMNS, len(families))
    rows = math.ceil(len(families) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.0 * rows + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, family in zip(grid.flat, families, strict=False):
        _draw(axes, family, results["parameters"])
    for axes in list(grid.flat)[len(families) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("max ρ")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _draw(axes: Axes, family: dict[str, Any], parameters: dict[str, Any]) -> None:
    for row in family["contenders"]:
        colour, style = _STYLES[row["name"]]
        x = [point["passes"] for point in row["answers"]]
        y = [point["residual"] for point in row["answers"]]
        axes.plot(x, y, style, color=colour, markersize=4, linewidth=1.2, label=row["label"])
    axes.axhline(parameters["tol"], color="black", linewidth=0.8, linestyle="--")
    axes.set(yscale="log", xlim=(0, parameters["max_passes"] + 1), xlabel="passes over the data")
    m, n = family["shape"]
    axes.set_title(f"{family['label']}, {m:,} × {n:,}, k = {family['k']}", fontsize=10)
    axes.grid(which="major", alpha=0.3)
