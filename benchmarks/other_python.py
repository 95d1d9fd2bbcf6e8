"""A script in a fresh process of another Python, which has a peer that this one need not have."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def in_process_of_other(
    python: Path,
    script: Path,
    folder: Path,
    timeout_seconds: float,
    variables: Mapping[str, str],
    job: dict[str, Any],
) -> tuple[str, dict[str, Any]]:
    """Its status, "done" or what stopped it, and what it left in `folder`, if anything.

    The script reads `job.json` there and leaves `measured.json`; nothing of this repository is on its path.
    """
    (folder / "job.json").write_text(json.dumps(job))
    command = [str(python), str(script), str(folder)]
    try:
        ended = subprocess.run(
            command, env=os.environ | variables | {"PYTHONPATH": ""}, timeout=timeout_seconds,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"stopped after {timeout_seconds:.0f} s", {}
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or [f"exit {ended.returncode}"])[-1]
        return f"failed: {last.partition(':')[0]}", {}
    measured: dict[str, Any] = json.loads((folder / "measured.json").read_text())
    return "done", measured
