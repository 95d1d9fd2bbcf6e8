"""The report of `left`: excess errors after one read, and promised against measured residuals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import prose, provenance_lines, table


def markdown(results: dict[str, Any]) -> str:
    """The nine matrices, then the random ones by spectrum, then what was contradicted."""
    spectra = results["spectra"]
    wrong = sum(row["contradicted"] for row in spectra)
    lines = [
        "# One read by left extraction, and whether its certificate holds",
        "",
        *table(("matrix", "one read", "by its certificate", "two reads"), map(_nine, results["nine"])),
        "",
        f"**`verify` contradicts {wrong} of {sum(row['cases'] for row in spectra):,} certificates of random "
        "matrices.**",
        "",
        *table(
            (
                "spectrum", "cases", "left", "audited", "contradicted", "residual: measured/promised",
                "excess: estimated/true",
            ),
            map(_spectrum, spectra),
        ),
        "",
        *[f"* {row['findings']} of {row['case']}" for row in results["contradicted"]],
        *_method(results),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _nine(row: dict[str, Any]) -> list[str]:
    one, two = row["reads"]
    return [row["name"], f"{one['excess']:.1e}", f"{one['certified']:.1e}", f"{two['excess']:.1e}"]


def _spectrum(row: dict[str, Any]) -> list[str]:
    counts = (row[name] for name in ("cases", "left", "audited", "contradicted"))
    return [row["spectrum"], *map(str, counts), _spread(row["ratio"]), _spread(row["excess"])]


def _spread(values: dict[str, Any]) -> str:
    if not values["cases"]:
        return ""
    return f"{values['median']:.2g} ({values['least']:.2g} to {values['most']:.2g})"


def _method(results: dict[str, Any]) -> list[str]:
    p = results["parameters"]
    return [
        *prose(
            f"The nine matrices are {p['size']:,} × {p['size']:,} float64, those of Tropp, Yurtsever, Udell "
            f"& Cevher 2019, sec. 7.3, with R = r = {p['rank']}; the figure is ‖A−Â‖_F/‖A−A_r‖_F − 1, of "
            "the stored factors, and again as the certificate's relative error has it. A read is one pass "
            "over the data, the sample that a run begins with not counted."
        ),
        "",
        *prose(
            "The random matrices have 20 to 220 rows and columns; k, precision, tolerance, stopping test, "
            "centring and method are drawn at random, and most runs are stopped after one to three passes, "
            "where the certificate rests on a bound. Each is decomposed, verified by a pass of its own, and "
            "its values are held against LAPACK's in float64, which none may exceed. “left” counts the "
            "answers that are left Ritz triplets, “audited” those whose residuals rest on the probes. The "
            "last two columns (median, least and most, where both figures are above rounding) are the worst "
            "residual measured over the worst promised, which must not exceed 1.05, and the estimate of the "
            "excess error over the true one, which is an estimate and may fall short." + _of_bulk(p)
        ),
        "",
        *provenance_lines(results),
    ]


def _of_bulk(parameters: dict[str, Any]) -> str:
    """What is to be said of large flat bulks, where they were looked at."""
    if "bulk" not in parameters:
        return ""
    (m, n), cases = parameters["bulk"]["shape"], parameters["bulk"]["cases"]
    return (
        f" The {cases} of a flat bulk are {m:,} × {n:,} float32: noise, one component clear of it and two at "
        "its edge. The probes are few for so wide a bulk: there an audited bound could fall short first."
    )


def plot(results: dict[str, Any], path: Path) -> None:
    """Excess errors of the nine matrices after one read and after two."""
    nine = results["nine"]
    figure = Figure(figsize=(9, 4.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = np.arange(len(nine))
    for offset, read, colour in ((-0.2, 0, "#c8553d"), (0.2, 1, "#0b6e4f")):
        heights = [max(row["reads"][read]["excess"], 1e-15) for row in nine]
        axes.bar(places + offset, heights, 0.4, color=colour, label=f"{read + 1} read{'s' * read}")
    axes.set_xticks(places, [row["name"] for row in nine], rotation=30, ha="right")
    axes.set(yscale="log", ylabel="‖A−Â‖/‖A−A_r‖ − 1")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
