"""README's commands for a service, typed one after the other as somebody new to it would."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

import bigsvd
from tests.deployed import ROOT, environment
from tests.servers import Running, running
from tests.small_arrays import small_matrix, store

LIMIT_SECONDS = 120
ADDRESS = "http://127.0.0.1:8765"


def blocks() -> list[tuple[str, str]]:
    """The examples of the section, each with its language."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## The service$(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("readme")
    root = folder / "data"
    root.mkdir()
    noise = np.random.default_rng(0).standard_normal((200, 60)).astype(np.float32)
    store(root / "data.zarr", small_matrix(200, 60) + noise)
    with running(root, "--state", folder / "state") as found:
        yield found


def typed(script: str, server: Running) -> str:
    """What a shell prints that carries out some lines of README."""
    given = script.replace(ADDRESS, server.url).replace("BIGSVD_TOKEN=TOKEN", f"BIGSVD_TOKEN={server.token}")
    done = subprocess.run(
        [shutil.which("bash") or "", "-euo", "pipefail", "-c", given], env=environment(), text=True,
        capture_output=True, check=False, timeout=LIMIT_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, f"{given}: {done.stdout}{done.stderr}"
    return done.stdout


def test_from_a_first_command_to_a_link_that_opens(server: Running) -> None:
    start, commands, by_curl, by_python, by_link, _ = (text for _, text in blocks())
    assert "bigsvd serve --root data " in start
    told = typed(commands, server)
    assert "krylov" in told or "gram" in told
    assert "shared: k=20" in told
    if shutil.which("curl") is None:
        pytest.skip("curl is not there")
    submit, link = re.split(r"\n(?=curl)", by_curl, maxsplit=1)
    (export,) = re.findall(r"^export .*$", commands, re.MULTILINE)
    job = json.loads(typed(f"{export}\n{submit}", server))["id"]
    url = json.loads(typed(f"{export}\n{link}".replace("$ID", job), server))["url"]
    here = bigsvd.open(Path(json.loads(server.get(f"/v1/results/{job}").text)["path"]))
    names: dict[str, object] = {"LINK": url}
    exec(by_link.replace("zarr.open_array(LINK", "found = zarr.open_array(LINK"), names)  # noqa: S102
    assert abs(names["found"] - here[:10]).max() < 1e-5
    printed = by_python.replace(ADDRESS, server.url).replace('"TOKEN"', repr(server.token))
    names = {}
    exec(printed, names)  # noqa: S102
    assert isinstance(zarr.open_array(str(url), mode="r"), zarr.Array)
