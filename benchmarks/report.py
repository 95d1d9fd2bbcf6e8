"""Results values as JSON, and the Markdown table and plot that are made from it, and can be made again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import (
    report_accuracy,
    report_cells,
    report_climate,
    report_cpu_gpu,
    report_distill,
    report_faults,
    report_floor,
    report_left,
    report_memory,
    report_memory_sweep,
    report_passes,
    report_pca,
    report_peers,
    report_readers,
    report_recommend,
    report_scaling,
    report_service_chunks,
    report_service_fuzz,
    report_service_kills,
    report_service_load,
    report_service_soak,
    report_small,
    report_trust,
)

Results = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """How the results of one suite are shown; `plot` writes a PNG."""

    markdown: Callable[[Results], str]
    plot: Callable[[Results, Path], None]


REPORTS = {
    "peers": Report(report_peers.markdown, report_peers.plot),
    "passes": Report(report_passes.markdown, report_passes.plot),
    "memory": Report(report_memory.markdown, report_memory.plot),
    "memory-sweep": Report(report_memory_sweep.markdown, report_memory_sweep.plot),
    "readers": Report(report_readers.markdown, report_readers.plot),
    "floor": Report(report_floor.markdown, report_floor.plot),
    "pca": Report(report_pca.markdown, report_pca.plot),
    "scaling": Report(report_scaling.markdown, report_scaling.plot),
    "small": Report(report_small.markdown, report_small.plot),
    "left": Report(report_left.markdown, report_left.plot),
    "svd-accuracy": Report(report_accuracy.markdown, report_accuracy.plot),
    "distill": Report(report_distill.markdown, report_distill.plot),
    "trust": Report(report_trust.markdown, report_trust.plot),
    "faults": Report(report_faults.markdown, report_faults.plot),
    "service-chunks": Report(report_service_chunks.markdown, report_service_chunks.plot),
    "service-fuzz": Report(report_service_fuzz.markdown, report_service_fuzz.plot),
    "service-load": Report(report_service_load.markdown, report_service_load.plot),
    "service-soak": Report(report_service_soak.markdown, report_service_soak.plot),
    "service-kills": Report(report_service_kills.markdown, report_service_kills.plot),
    "recommend": Report(report_recommend.markdown, report_recommend.plot),
    "climate": Report(report_climate.markdown, report_climate.plot),
    "cells": Report(report_cells.markdown, report_cells.plot),
    "cpu-gpu": Report(report_cpu_gpu.markdown, report_cpu_gpu.plot),
}


def write_report(results: Results, folder: Path, stem: str) -> tuple[Path, Path, Path]:
    """`stem`.json, .md and .png in the folder; the stem is ``SUITE-SIZE``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.json"
    text = json.dumps(results, indent=1, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path, *regenerate(path)


def regenerate(path: Path) -> tuple[Path, Path]:
    """The table and the plot beside a results file, made from it alone."""
    results = json.loads(path.read_text(encoding="utf-8"))
    report = REPORTS[path.stem.rpartition("-")[0]]
    table, plot = path.with_suffix(".md"), path.with_suffix(".png")
    table.write_text(report.markdown(results), encoding="utf-8")
    report.plot(results, plot)
    return table, plot
