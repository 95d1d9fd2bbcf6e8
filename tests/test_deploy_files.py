"""What deploy/ says can be run: sound scripts, images of what is there, commands with their options."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.compose import services
from tests.deployed import DEPLOY, ROOT, environment

IMAGES = sorted(DEPLOY.glob("Dockerfile*"))
SCRIPTS = [ROOT / ".ci" / "run", *sorted(ROOT.glob("benchmarks/*.sh")), *sorted(DEPLOY.glob("slurm/*"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_script_is_sound(script: Path) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not there (Debian: apt-get install shellcheck)")
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)  # noqa: S607
    assert done.returncode == 0, done.stdout


def instructions(image: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with what follows it."""
    text = re.sub(r"^#.*\n", "", image.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in text.splitlines()) if name]


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_the_image_copies_all_that_the_package_is_built_from(image: Path) -> None:
    copied = [shlex.split(rest)[:-1] for name, rest in instructions(image) if name == "COPY"]
    sources = [ROOT / source for line in copied for source in line]
    assert all(source.exists() for source in sources)
    needed = ("pyproject.toml", "README.md", "LICENSE", "bigsvd")
    assert {ROOT / name for name in needed} <= set(sources)


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_the_image_installs_extras_that_there_are(image: Path) -> None:
    extras = re.findall(r'"/src\[(.*?)\]"', image.read_text())
    assert extras
    declared = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert {name for text in extras for name in text.split(",")} <= {*declared}


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_all_images_have_one_python_and_no_root(image: Path) -> None:
    """Workers of one cluster need one version of Python, whether they have a GPU or not."""
    told = dict(instructions(image))
    assert told["FROM"] == dict(instructions(IMAGES[0]))["FROM"]
    assert not told["USER"].startswith(("0", "root"))


def commands() -> dict[str, list[str]]:
    """All commands that files of deploy/ give to an image."""
    found = {
        f"compose {name}": service["command"] for name, service in services(DEPLOY / "compose.yaml").items()
    }
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for container in containers(yaml.safe_load(file.read_text())):
            found[f"{file.stem} {container['name']}"] = container["args"]
    for image in IMAGES:
        found[image.name] = yaml.safe_load(dict(instructions(image))["CMD"])
    return found


def containers(node: Any) -> list[dict[str, Any]]:
    """All containers of an object of Kubernetes."""
    if isinstance(node, dict):
        here: list[dict[str, Any]] = node.get("containers", [])
        return here + [each for value in node.values() for each in containers(value)]
    return [each for value in node for each in containers(value)] if isinstance(node, list) else []


@cache
def help_of(*command: str) -> str:
    """What a command says of itself."""
    done = subprocess.run(
        [*command, "--help"], capture_output=True, text=True, check=True, env=environment(), timeout=60
    )
    return done.stdout


@pytest.mark.parametrize("command", commands().values(), ids=commands())
def test_the_command_and_its_options_exist(command: list[str]) -> None:
    text = help_of(*command[:2]) if command[1:2] != ["--help"] else help_of(command[0])
    options = [word for word in command[2:] if re.match(r"--?[a-z]", word)]
    assert [option for option in options if not re.search(rf"(?<!\S){option}\b", text)] == []
