"""What is refused before a run begins: outputs that can never be published, or only by losing a file.

Nothing is created or changed here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bigsvd.errors import OutputExistsError, RequestError
from bigsvd.paths import holds_current_folder, is_mount_point, lies_in, resolved, same
from bigsvd.results.folders import (
    ATTRIBUTE,
    attributes_of,
    foreign_in_scratch,
    foreign_in_store,
    is_scratch,
    is_zarr_array,
    kind_of,
    scratch_path,
    store_kind,
)

_WAITING = 33  # bytes behind the lock's name, in that of whoever waits for it
_LONGEST_BELOW = 200  # bytes of a path inside scratch, such as pass/parts/lane-00000/z/c/0/0.<32>.partial


@dataclass(frozen=True)
class Place:
    """Where a result is to be, and what lies beside it until it is there.

    Attributes:
        path: as it was asked for, absolute; what messages name.
        target: the same without links: what is replaced is what a link leads to, with scratch beside that.

    """

    path: Path
    target: Path

    @classmethod
    def of(cls, out: str | Path) -> Place:
        """The place of an output.

        Raises:
            RequestError: no folder of that name can be made, or be exchanged.

        """
        text = str(out)
        if not text or "\0" in text:
            raise RequestError(f"out={text!r} is not a path", "give a path")
        path, target = Path(out).absolute(), resolved(out)
        if os.path.islink(target):  # noqa: PTH114 - no is also said of a name that is too long
            raise RequestError(f"{path} is a link that leads in a circle", "choose another output")
        if holds_current_folder(target):
            raise RequestError(
                f"{path} is the current folder or one around it", "choose a folder of its own as output"
            )
        place = cls(path, target)
        place._check_lengths()
        return place

    @classmethod
    def within(cls, folder: Path) -> Place:
        """A place in a folder that was just made, where nothing is that could be in the way."""
        path = resolved(folder) / "factors"
        return cls(path, path)

    @property
    def scratch(self) -> Path:
        """The scratch folder."""
        return scratch_path(self.target)

    @property
    def lock(self) -> Path:
        """The lock file."""
        return self.target.with_name(f".{self.target.name}.bigsvd-lock")

    def _check_lengths(self) -> None:
        there = next(folder for folder in self.target.parents if folder.is_dir())
        most, most_in_all = os.pathconf(there, "PC_NAME_MAX"), os.pathconf(there, "PC_PATH_MAX")
        name, whole = (
            len(os.fsencode(self.lock.name)) + _WAITING,
            len(os.fsencode(self.scratch)) + _LONGEST_BELOW,
        )
        if 0 < most < name:
            raise RequestError(
                f"the name {self.target.name[:20]}... makes a lock file's of {name} bytes, "
                f"where {most} are allowed",
                f"choose one that is {name - most} bytes shorter",
            )
        if 0 < most_in_all < whole:
            raise RequestError(
                f"{self.path} makes paths of {whole} bytes in its scratch, where {most_in_all} are allowed",
                f"choose one that is {whole - most_in_all} bytes shorter",
            )

    def is_at(self, path: Path) -> bool:
        """Whether a path leads here."""
        return same(path, self.target)

    def check_free(self, *, overwrite: bool, kind: str) -> None:
        """`OutputExistsError` where something is that may not be replaced by a store of this kind."""
        target = self.target
        if not os.path.lexists(target):
            return
        if not overwrite:
            raise OutputExistsError(f"{self.path} already exists", "use overwrite, or choose another output")
        empty = target.is_dir() and not any(target.iterdir())
        if not empty and (not target.is_dir() or ATTRIBUTE not in attributes_of(target)):
            raise OutputExistsError(
                f"{self.path} is not a factor store but {kind_of(target)}", "choose another output"
            )
        if not empty and store_kind(target) != kind:
            raise OutputExistsError(f"{self.path} is {kind_of(target)}", "choose another output")
        found = foreign_in_store(target)
        if found is not None:
            raise OutputExistsError(
                f"{self.path} also holds {found.relative_to(target)}, which is no part of a factor store",
                "move that away, or choose another output",
            )
        if is_mount_point(target):
            raise OutputExistsError(
                f"{self.path} is where a disk is mounted, which cannot be replaced",
                f"choose a folder in it, such as {self.path / 'factors'}",
            )
        if not os.access(target, os.W_OK | os.X_OK):
            raise OutputExistsError(
                f"{self.path} may not be written by this user, and so not be replaced",
                "grant access to it, or choose another output",
            )

    def check_scratch(self) -> None:
        """`OutputExistsError` where the scratch folder is, or holds, somebody's own."""
        scratch = self.scratch
        if not os.path.lexists(scratch):
            return
        advice = "move it away or choose another output"
        if scratch.is_symlink() or is_mount_point(scratch):
            raise OutputExistsError(
                f"{scratch} is a link or on a disk of its own, from which no result can be moved beside it",
                "remove it, or choose an output on that disk",
            )
        if not scratch.is_dir() or (any(scratch.iterdir()) and not is_scratch(scratch)):
            raise OutputExistsError(f"{scratch} exists and is no scratch of bigsvd", advice)
        found = foreign_in_scratch(scratch)
        if found is not None:
            raise OutputExistsError(
                f"{scratch} also holds {found.relative_to(scratch)}, which no run of bigsvd has written",
                advice,
            )

    def check_surroundings(self) -> None:
        """`OutputExistsError` where the output would lie inside a Zarr array or the scratch of a run."""
        for folder in self.target.parents:
            if is_zarr_array(folder):
                raise OutputExistsError(
                    f"{self.path} lies inside the Zarr array {folder}", "choose an output beside it"
                )
            if is_scratch(folder):
                raise OutputExistsError(
                    f"{self.path} lies inside the scratch of a run, {folder}, which is deleted after it",
                    "choose an output beside it",
                )

    def check_apart(self, what: str, used: Path) -> None:
        """`OutputExistsError` where a file or folder that the run uses would be deleted by it."""
        for kind, folder in (("output", self.target), ("scratch", self.scratch)):
            if lies_in(used, folder):
                raise OutputExistsError(
                    f"{what} {used} lies in the {kind} {folder}, and would be deleted with it",
                    "choose another output",
                )

    def check_outside(self, what: str, used: Path) -> None:
        """`OutputExistsError` where the output would be written into what the run reads."""
        if lies_in(self.target, used):
            raise OutputExistsError(f"{self.path} lies inside {what} {used}", "choose an output beside it")
