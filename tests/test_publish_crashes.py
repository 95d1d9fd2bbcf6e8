"""A run that dies at any step of its output: what is published is the old result or the new one.

A process is killed between two system calls, so every state that it can leave is found by stopping before
each call that changes a disk, of all those between entering an output and leaving it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from bigsvd.errors import BigsvdError, FactorStoreError, OutputExistsError
from bigsvd.results.folders import scratch_path
from bigsvd.results.output import Output

A = np.random.default_rng(5).standard_normal((40, 12))
OPTIONS: dict[str, Any] = {"method": "krylov", "memory": 200_000_000}
PROJECT = Path(__file__).parents[1]
CHANGING = ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "link")


class KilledError(BaseException):
    """Raised by a call that a killed process does not make any more."""


def raise_killed() -> None:
    raise KilledError


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Life:
    """How many calls that change a disk this thread may make; at the next one, and all later, it dies."""

    allowed: int | None = None
    die: Callable[[], None] = raise_killed
    made: list[str] = field(default_factory=list)
    paused: bool = False
    _thread: int = field(default_factory=threading.get_ident)

    def counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            reads = name == "open" and not args[1] & os.O_CREAT
            if not reads and not self.paused and threading.get_ident() == self._thread:
                if self.allowed is not None and len(self.made) >= self.allowed:
                    self.die()
                self.made.append(name)
            return real(*args, **options)

        return call

    @contextmanager
    def lived(self, *, exchange: bool) -> Iterator[None]:
        """All calls counted, on a system with or without an atomic exchange."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("open", *CHANGING):
                patch.setattr(os, name, self.counted(name, getattr(os, name)))
            # What is in the memory of the system outlives a process: nothing has to be written through.
            patch.setattr(os, "fsync", self.counted("fsync", lambda _: None))
            patch.setattr(ctypes, "CDLL", self._library if exchange else lambda *_args, **_options: object())
            yield

    def _library(self, *args: Any, real: Any = ctypes.CDLL, **options: Any) -> Any:
        return Library(self.counted("renameat2", real(*args, **options).renameat2))


@dataclass(frozen=True)
class Library:
    """The C library, as far as an output needs it."""

    renameat2: Callable[..., int]


def go_through(out: Path, finished: Path, life: Life, *, overwrite: bool) -> None:
    """What a run does with its output, with the solving replaced by what it had left in scratch."""
    with Output(out, overwrite=overwrite) as output:
        output.resume()
        output.begin()
        life.paused = True
        shutil.copytree(finished, output.scratch, dirs_exist_ok=True)
        life.paused = False
        output.publish()
        output.tidy()


@dataclass(frozen=True)
class Made:
    """Ready-made: the input, an earlier result on other data, the new one, and scratch as it was before that.

    Attributes:
        few: of that scratch only what a run begins with and ends with.

    """

    data: Path
    old: Path
    new: Path
    scratch: Path
    few: Path

    def lay_out(self, folder: Path, *, earlier: bool) -> Path:
        """A place for the output, among files of others; with the earlier result or not."""
        folder.mkdir()
        for name in ("thesis.txt", "out.scratch.txt", ".out.bigsvd-lock.old"):
            (folder / name).write_text("mine")
        (folder / "out.scratch2").mkdir()
        (folder / "out.scratch2" / "zarr.json").write_text("mine")
        if earlier:
            shutil.copytree(self.old, folder / "out")
        return folder / "out"


@pytest.fixture(scope="module")
def made(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    found = Made(*(folder / name for name in ("a.zarr", "old", "new", "scratch", "few")))
    zarr.create_array(found.data, data=A, chunks=(20, 12))
    bigsvd.svd(A[:, :7], 2, found.old, client=client)
    publish = Output.publish

    def copied_first(output: Output) -> Any:
        shutil.copytree(output.scratch, found.scratch, ignore=lambda *_: {".bigsvd-scratch"})
        return publish(output)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Output, "publish", copied_first)
        bigsvd.svd(found.data, 3, found.new, client=client, **OPTIONS)
    for name in ("run", "factors"):
        shutil.copytree(found.scratch / name, found.few / name)
    return found


def bytes_below(folder: Path) -> dict[str, bytes]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def bits(path: Path) -> bytes:
    factors = bigsvd.open(path)
    return b"".join(np.asarray(getattr(factors, name)[:]).tobytes() for name in ("U", "s", "Vt"))


class Reader:
    """What `bigsvd.open` finds at an output, which is asked once only of files that are all the same."""

    def __init__(self) -> None:
        self._known: list[tuple[Any, bytes | None]] = []

    def published(self, out: Path) -> bytes | None:
        """The bits of the result; None where it is said that there is none."""
        scratch = scratch_path(out)
        files = (out.exists(), bytes_below(out), scratch.exists(), bytes_below(scratch / "replaced"))
        for known, found in self._known:
            if known == files:
                return found
        self._known.append((files, self._opened(out)))
        return self._known[-1][1]

    def _opened(self, out: Path) -> bytes | None:
        try:
            return bits(out)
        except FactorStoreError as error:
            said = str(error)
        assert "holds no factors" in said  # and not that it is damaged
        return None


def foreign(out: Path) -> dict[str, bytes]:
    """What others have beside the output."""
    ours = re.compile(rf"({out.name}|{out.name}\.scratch|\.{out.name}\.bigsvd-lock(\.[0-9a-f]{{32}})?)/.*")
    below = bytes_below(out.parent)
    return {name: below[name] for name in below if not ours.fullmatch(name)}


def assert_foreign_things_in_scratch_stay(out: Path, spare: Path) -> None:
    """Were somebody to put a file into what is left, the next run would not take it."""
    if not scratch_path(out).exists():
        return
    shutil.copytree(scratch_path(out), scratch_path(spare / "out"))
    note = scratch_path(spare / "out") / "note.txt"
    note.write_text("mine")
    with pytest.raises(OutputExistsError):
        Output(spare / "out", overwrite=True)
    assert note.read_text() == "mine"
    shutil.rmtree(spare)


ARRANGEMENTS = [(earlier, exchange) for earlier in (False, True) for exchange in (False, True)]
NAMES = [f"{'over' if old else 'new'}-{'exchange' if atomic else 'renames'}" for old, atomic in ARRANGEMENTS]


@pytest.mark.parametrize(("earlier", "exchange"), ARRANGEMENTS, ids=NAMES)
def test_killed_before_each_call(made: Made, tmp_path: Path, earlier: bool, exchange: bool) -> None:
    calls = whole_life(made, tmp_path / "whole", earlier=earlier, exchange=exchange)
    before, wanted = bytes_below(made.data), (bits(made.old) if earlier else None, bits(made.new))
    seen, reader = [], Reader()
    for allowed in range(len(calls) + 1):
        out = made.lay_out(tmp_path / str(allowed), earlier=earlier)
        theirs, life = foreign(out), Life(allowed)
        try:
            with life.lived(exchange=exchange):
                go_through(out, made.few, life, overwrite=earlier)
        except KilledError:
            assert len(life.made) == allowed  # which is deleted first is the file system's choice
        assert foreign(out) == theirs
        seen.append(reader.published(out))
        assert_foreign_things_in_scratch_stay(out, tmp_path / "spare")
        rerun(out, made, overwrite=earlier or seen[-1] is not None, exchange=exchange)
        assert foreign(out) == theirs
        assert only_the_result_is_left(out)
        shutil.rmtree(out.parent)
    assert bytes_below(made.data) == before
    at = seen.index(wanted[1])  # the old one up to some call, the new one from there on, and nothing else
    assert seen == [wanted[0]] * at + [wanted[1]] * (len(seen) - at)
    assert 0 < at < len(calls)


def whole_life(made: Made, folder: Path, *, earlier: bool, exchange: bool) -> list[str]:
    """The calls of a run that nothing stops."""
    out, life = made.lay_out(folder, earlier=earlier), Life()
    with life.lived(exchange=exchange):
        go_through(out, made.few, life, overwrite=earlier)
    assert only_the_result_is_left(out)
    assert {*life.made} >= {"mkdir", "fsync", "rename", "unlink", "rmdir"}
    assert ("renameat2" in life.made) == (earlier and exchange)
    return life.made


def rerun(out: Path, made: Made, *, overwrite: bool, exchange: bool) -> None:
    """The same request again, and no call of it forbidden."""
    life = Life()
    with life.lived(exchange=exchange):
        go_through(out, made.few, life, overwrite=overwrite)
    assert bytes_below(out) == bytes_below(made.new)


def only_the_result_is_left(out: Path) -> bool:
    names = {path.name for path in out.parent.iterdir()}
    return names == {"out", "thesis.txt", "out.scratch.txt", ".out.bigsvd-lock.old", "out.scratch2"}


def test_killed_again_while_the_next_run_puts_the_old_result_back(made: Made, tmp_path: Path) -> None:
    """After a death between two renames, where there is no exchange, at each call of the run that follows."""
    for between in count():
        left, first = made.lay_out(tmp_path / f"left-{between}", earlier=True), Life(between)
        with pytest.raises(KilledError), first.lived(exchange=False):
            go_through(left, made.few, first, overwrite=True)
        if not left.exists():
            break
    old, reader, life = bits(made.old), Reader(), Life()
    for allowed in count():
        if "fsync" in life.made:
            break  # from here it is a run like any other
        life = Life(allowed)
        out = Path(shutil.copytree(left.parent, tmp_path / "again")) / "out"
        with pytest.raises(KilledError), life.lived(exchange=False):
            go_through(out, made.few, life, overwrite=True)
        assert reader.published(out) == old
        rerun(out, made, overwrite=True, exchange=False)
        assert only_the_result_is_left(out)
        shutil.rmtree(out.parent)


@pytest.mark.parametrize(
    ("moment", "exchange"),
    [("mkdir", True), ("fsync", True), ("renameat2", True), ("rename", False), ("unlink", False)],
)
def test_the_same_command_after_a_death(
    made: Made, client: Client, tmp_path: Path, moment: str, exchange: bool
) -> None:
    """Run for real, after a death before the last call of a kind: to the right values and the same bits."""
    calls = whole_life(made, tmp_path / "whole", earlier=True, exchange=exchange)
    out = made.lay_out(tmp_path / "here", earlier=True)
    theirs, before = foreign(out), bytes_below(made.data)
    life = Life(len(calls) - calls[::-1].index(moment) - 1)
    with pytest.raises(KilledError), life.lived(exchange=exchange):
        go_through(out, made.few, life, overwrite=True)
    with pytest.raises(OutputExistsError):
        bigsvd.svd(made.data, 3, out, client=client, **OPTIONS)
    assert bits(out) in (bits(made.old), bits(made.new))
    factors = bigsvd.svd(made.data, 3, out, overwrite=True, client=client, **OPTIONS)
    np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:3], rtol=1e-9)
    assert bits(out) == bits(made.new)
    assert (foreign(out), bytes_below(made.data)) == (theirs, before)
    assert only_the_result_is_left(out)


# A process that forks a child for each line it reads: the child dies by SIGKILL at the call it is told.
DYING = """
import json, os, sys
from pathlib import Path
from tests.test_publish_crashes import Life, go_through, kill_self

for line in sys.stdin:
    out, finished, allowed, exchange = json.loads(line)
    child = os.fork()
    if child == 0:
        life = Life(allowed, kill_self)
        with life.lived(exchange=exchange):
            go_through(Path(out), Path(finished), life, overwrite=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def dying_children() -> Iterator[Callable[..., int]]:
    """Lets a child go through an output; gives its exit status, negative where a signal ended it."""
    command = [sys.executable, "-c", DYING]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as parent:
        asked, answers = parent.stdin, parent.stdout
        assert asked is not None
        assert answers is not None

        def child(*arguments: Any) -> int:
            print(json.dumps(arguments), file=asked, flush=True)
            return int(answers.readline())

        yield child


def test_real_deaths(made: Made, tmp_path: Path) -> None:
    """With the signal itself: the lock of a dead process is no obstacle."""
    old, new = bits(made.old), bits(made.new)
    with dying_children() as child:
        for exchange in (True, False):
            calls = whole_life(made, tmp_path / f"{exchange}-whole", earlier=True, exchange=exchange)
            for allowed in range(2, len(calls), len(calls) // 8):
                out = made.lay_out(tmp_path / f"{exchange}-{allowed}", earlier=True)
                arguments = (str(out), str(made.few))
                assert child(*arguments, allowed, exchange) == -signal.SIGKILL
                assert bits(out) in (old, new)
                assert child(*arguments, None, exchange) == 0
                assert bits(out) == new
                assert only_the_result_is_left(out)


def test_an_error_of_each_call_is_told_and_leaves_the_old_result_or_the_new(
    made: Made, tmp_path: Path
) -> None:
    """A disk that fails from the N-th call on, as opposed to a process that ends there."""

    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    old, new = bits(made.old), bits(made.new)
    calls = whole_life(made, tmp_path / "whole", earlier=True, exchange=False)
    for allowed in range(len(calls)):
        out, life = made.lay_out(tmp_path / str(allowed), earlier=True), Life(allowed, fail)
        theirs = foreign(out)
        with pytest.raises(BigsvdError, match=os.strerror(errno.EIO)), life.lived(exchange=False):
            go_through(out, made.few, life, overwrite=True)
        assert bits(out) in (old, new)
        rerun(out, made, overwrite=True, exchange=False)
        assert foreign(out) == theirs
        assert only_the_result_is_left(out)
        shutil.rmtree(out.parent)


@pytest.mark.parametrize("exchange", [True, False])
def test_an_old_result_does_not_come_back_when_the_new_one_is_deleted(
    made: Made, tmp_path: Path, *, exchange: bool
) -> None:
    """Also where the run was killed after the new result was there: no later run takes the old one for it."""
    out = made.lay_out(tmp_path / "place", earlier=True)
    life = Life()
    with life.lived(exchange=exchange):
        go_through(out, made.few, life, overwrite=True)
    last = len(life.made)
    for allowed in range(last):
        place = made.lay_out(tmp_path / f"place-{allowed}", earlier=True)
        life = Life(allowed)
        with life.lived(exchange=exchange), pytest.raises(KilledError):
            go_through(place, made.few, life, overwrite=True)
        if not place.exists() or bits(place) != bits(made.new):
            continue
        with Output(place, overwrite=True):
            pass
        shutil.rmtree(place)
        with Output(place, overwrite=False):
            assert not place.exists()
        with pytest.raises(FactorStoreError):
            bigsvd.open(place)
