"""A fresh process for each measurement: `python -m benchmarks.cpu_gpu_child WHAT FOLDER`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.cpu_gpu_ceilings import machine_ceilings, read_rates
from benchmarks.cpu_gpu_runs import measure_here

_WHAT: dict[str, Callable[..., dict[str, Any]]] = {
    "machine": machine_ceilings,
    "read": read_rates,
    "measure": measure_here,
}
_LONGEST_WORDS = 300


def in_fresh_process(
    what: str, folder: Path, timeout_seconds: float, /, **job: Any
) -> tuple[str, dict[str, Any]]:
    """Its status, "done" or what stopped it, and what it measured, if anything; no paths in either."""
    return in_process_of("benchmarks.cpu_gpu_child", what, folder, timeout_seconds, {}, job)


def in_process_of(
    module: str,
    what: str,
    folder: Path,
    timeout_seconds: float,
    variables: Mapping[str, str],
    job: dict[str, Any],
) -> tuple[str, dict[str, Any]]:
    """The same of another module like this one, run with these variables of the environment."""
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-m", module, what, str(folder)]
    try:
        ended = subprocess.run(
            command, env=os.environ | variables, timeout=timeout_seconds, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"stopped after {timeout_seconds:.0f} s", {}
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or [f"exit {ended.returncode}"])[-1]
        how = "refused" if "error[E_MEMORY]" in said else "failed"
        return f"{how}: {re.sub(r'/[^ ,;]+', 'PATH', said)[:_LONGEST_WORDS]}", {}
    measured: dict[str, Any] = json.loads((folder / "measured.json").read_text())
    return "done", measured


def main(what: str, folder: Path) -> None:
    """In the fresh process."""
    measured = _WHAT[what](**json.loads((folder / "job.json").read_text()))
    (folder / "measured.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
