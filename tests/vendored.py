"""The libraries of the page: fetched from npm once, kept with their licences and hashes.

``python -m tests.vendored`` fetches the versions below with ``npm pack``, puts the files into the package and
writes the manifest that the tests hold them against. Nothing of npm is needed to install or to run bigsvd.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bigsvd

FOLDER = Path(bigsvd.__file__).parent / "service" / "page" / "vendor"
MANIFEST = FOLDER / "manifest.json"
AXE = "axe-core@4.14.1"  # looks at the page in the tests, and so is fetched by these and not kept


@dataclass(frozen=True)
class Vendored:
    """One file of a package of npm, and what has to be changed for a browser that has no bundler.

    Attributes:
        package: with its version, as npm names it. inside: the file in the package. name: here.
        edits: texts and what stands in their place; the first must be there. appended: at the end.

    """

    package: str
    inside: str
    name: str
    edits: tuple[tuple[str, str], ...] = ()
    appended: str = ""

    def text_of(self, original: str) -> str:
        """The file as it is kept."""
        for old, new in self.edits:
            if old not in original:
                message = f"{self.inside} of {self.package} has no {old!r}: look at what changed in it"
                raise ValueError(message)
            original = original.replace(old, new)
        return original + self.appended


FILES = (
    Vendored(
        "preact@11.2.0", "dist/preact.mjs", "preact.js",
        edits=(("//# sourceMappingURL=preact.mjs.map", ""),),
    ),
    Vendored(
        "preact@11.2.0", "hooks/dist/hooks.mjs", "hooks.js",
        edits=(('from"preact"', 'from"./preact.js"'), ("//# sourceMappingURL=hooks.mjs.map", "")),
    ),
    Vendored("htm@3.1.1", "dist/htm.module.js", "htm.js"),
    Vendored("uplot@1.6.32", "dist/uPlot.iife.min.js", "uplot.js", appended="export default uPlot;\n"),
    Vendored("uplot@1.6.32", "dist/uPlot.min.css", "uplot.css"),
)  # fmt: skip


def sha256_of(file: Path) -> str:
    """The digest of a file, as the manifest has it."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def fetch(package: str, folder: Path) -> Path:
    """Unpack a package of npm below `folder`, where a program `npm` is."""
    npm = shutil.which("npm")
    if npm is None:
        message = "there is no npm"
        raise FileNotFoundError(message)
    packed = subprocess.run(
        [npm, "pack", "--silent", package], cwd=folder, capture_output=True, text=True, check=True
    )
    unpacked = folder / package.replace("@", "-").replace("/", "-")
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        archive.extractall(unpacked, filter="data")
    return unpacked / "package"


def manifest() -> dict[str, Any]:
    """What is kept, as the last fetch wrote it down."""
    found: dict[str, Any] = json.loads(MANIFEST.read_text(encoding="utf-8"))
    return found


def vendor(folder: Path) -> None:
    """Fetch every package, and write files, licences and the manifest."""
    written: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as below:
        packages = {name: fetch(name, Path(below)) for name in dict.fromkeys(each.package for each in FILES)}
        for each in FILES:
            original = packages[each.package] / each.inside
            file = folder / each.name
            file.write_text(each.text_of(original.read_text(encoding="utf-8")), encoding="utf-8")
            written[each.name] = {
                "package": each.package,
                "file": each.inside,
                "original_sha256": sha256_of(original),
                "sha256": sha256_of(file),
            }
        for package, root in packages.items():
            kept = folder / f"LICENSE-{package.partition('@')[0]}.txt"
            kept.write_bytes((root / "LICENSE").read_bytes())
            said = json.loads((root / "package.json").read_text(encoding="utf-8"))["license"]
            written[kept.name] = {"package": package, "license": said, "sha256": sha256_of(kept)}
    text = json.dumps(written, indent=2, sort_keys=True) + "\n"
    (folder / MANIFEST.name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    vendor(FOLDER)
    sys.stdout.write(f"{len(manifest())} files in {FOLDER}\n")
