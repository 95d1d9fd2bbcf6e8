"""Of two runs of one output the one that others can rely on goes on, and the other changes nothing more."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bigsvd
from bigsvd.errors import OutputBusyError, StorageError, SupersededError
from bigsvd.events import Event, ScratchDamaged
from bigsvd.process import Process
from bigsvd.results.folders import scratch_path
from bigsvd.results.lock import Holder, Lease, RunLock, holder_of
from bigsvd.results.output import Output
from bigsvd.scratch import MARK, PLAN, Scratch
from tests.test_resume import StoppedError, stop_at

DEADLINE_SECONDS = 120
SHORT = Lease(0.1)
ARGUMENTS = ("-k", "3", "--tol", "1e-6", "--method", "krylov", "--memory", "200MB", "--quiet")
A = np.random.default_rng(0).standard_normal((160, 60)) * np.arange(1, 61) ** -0.7


def bits(path: Path) -> bytes:
    factors = bigsvd.open(path)
    return b"".join(np.asarray(getattr(factors, name)[:]).tobytes() for name in ("U", "s", "Vt"))


def bytes_below(folder: Path) -> dict[str, bytes]:
    """Every file but those of the lock, which is renewed all the time."""
    files = (file for file in folder.rglob("*") if file.is_file() and "bigsvd-lock" not in str(file))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# Two drivers

# Forks command lines with a short lease, each of which stops itself where an operation matches a pattern.
DRIVERS = """
import functools, json, os, re, signal, sys
import bigsvd.cli, bigsvd.solve
from bigsvd.results.lock import Lease
from bigsvd.results.output import Output

def stopping_at(moment):
    left = [moment]
    def watch(event, args):
        if not left or not event.startswith(("open", "os.")):
            return
        names = [os.fsdecode(a) for a in args if isinstance(a, (str, bytes, os.PathLike))]
        if re.search(moment, " ".join([event, *names])):
            left.clear()
            os.kill(os.getpid(), signal.SIGSTOP)
    return watch

def drive(arguments, said, moment):
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    bigsvd.solve.Output = functools.partial(Output, lease=Lease(0.1))
    if moment:
        sys.addaudithook(stopping_at(moment))
    try:
        bigsvd.cli.main(arguments)
    except SystemExit as end:
        os._exit(end.code or 0)
    os._exit(9)

for line in sys.stdin:
    what, *given = json.loads(line)
    if what == "drive":
        answer = os.fork()
        if answer == 0:
            drive(*given)
    else:
        status = os.waitpid(given[0], os.WUNTRACED)[1]
        answer = "stopped" if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
    print(json.dumps(answer), flush=True)
"""


class Drivers:
    """Command lines in processes that have loaded everything already."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def _asked(self, *question: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def begin(self, data: Path, out: Path, said: Path, moment: str = "") -> int:
        """The number of a process that runs, and stops itself at the moment."""
        return int(self._asked("drive", ["svd", str(data), str(out), *ARGUMENTS], str(said), moment))

    def once_free(self, data: Path, out: Path, said: Path, moment: str) -> tuple[int, Any]:
        """The same, again and again while another holds the output; and how it ended."""
        end = time.monotonic() + DEADLINE_SECONDS
        while True:
            pid = self.begin(data, out, said, moment)
            ended = self.wait(pid)
            if "E_OUTPUT_BUSY" not in said.read_text():
                return pid, ended
            assert time.monotonic() < end

    def wait(self, pid: int) -> Any:
        """Its exit code, or that it has stopped."""
        return self._asked("wait", pid)


@pytest.fixture(scope="module")
def drivers() -> Iterator[Drivers]:
    command = [sys.executable, "-c", DRIVERS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Drivers(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def reference(drivers: Drivers, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A stored matrix, and the bits of a run on it that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("reference")
    zarr.create_array(folder / "a.zarr", data=A, chunks=(40, 60))
    pid = drivers.begin(folder / "a.zarr", folder / "a.svd", folder / "said")
    assert drivers.wait(pid) == 0, (folder / "said").read_text()
    return folder / "a.zarr", bits(folder / "a.svd")


MOMENTS = {
    "beginning a lane": r"open .*-001/block/zarr\.json",
    "writing rows": r"os.rename .*-001/y/c/2",
    "writing the sums of a lane": r"os.rename .*-001/parts/lane-00000/z",
    "recording a lane": r"os.rename .*-001/parts/lane-00000/done/zarr\.json",
    "recording a pass": r"os.rename .*-001/done/zarr\.json",
    "deleting the lanes of a pass": r"os.rename .*-001/parts ",
    "writing a factor": r"os.rename .*factors/U/c",
    "sealing the factors": r"os.rename .*factors/zarr\.json",
    "taking the factors away": r"os.rename .*scratch/factors ",
    "publishing": r"os.rename .*bigsvd-scratch/.*/factors .*svd$",
}


OTHERS = {
    "is done": "",
    "reads back what is done": r"os.rename .* .*scratch/parts/offset-0",
    "forms its factors": r"os.rename .*partial .*scratch/factors/U/c",
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_driver_that_thaws_after_another_took_over_changes_nothing(
    drivers: Drivers, reference: tuple[Path, bytes], tmp_path: Path, moment: str, other: str
) -> None:
    """However late it was stopped: the operation before which it was is without effect, as are all later."""
    (data, expected), out = reference, tmp_path / "here" / "a.svd"
    said = [tmp_path / name for name in ("frozen", "other")]
    frozen = drivers.begin(data, out, said[0], MOMENTS[moment])
    assert drivers.wait(frozen) == "stopped", said[0].read_text()
    try:
        second, ended = drivers.once_free(data, out, said[1], OTHERS[other])
        before = bytes_below(out.parent)
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert drivers.wait(frozen) == 3
    assert bytes_below(out.parent) == before
    assert said[0].read_text().startswith(f"error[E_SUPERSEDED]: this run of {out} was superseded")
    assert said[0].read_text().count("\n") == 1
    if ended == "stopped":
        os.kill(second, signal.SIGCONT)
        ended = drivers.wait(second)
    assert ended == 0, said[1].read_text()
    assert bits(out) == expected
    assert [path.name for path in out.parent.iterdir()] == ["a.svd"]


def test_a_driver_that_thaws_before_another_came_goes_on(
    drivers: Drivers, reference: tuple[Path, bytes], tmp_path: Path
) -> None:
    data, expected = reference
    out, said = tmp_path / "a.svd", tmp_path / "said"
    pid = drivers.begin(data, out, said, MOMENTS["recording a pass"])
    assert drivers.wait(pid) == "stopped"
    lock = out.with_name(".a.svd.bigsvd-lock")
    until(lambda: not is_alive(lock))
    os.kill(pid, signal.SIGCONT)
    assert drivers.wait(pid) == 0, said.read_text()
    assert bits(out) == expected


def is_alive(lock: Path) -> bool:
    holder = holder_of(lock)
    assert holder is not None
    return holder.alive


# The lock

HOLDING = """
import fcntl, sys
fcntl.flock = fcntl.lockf = lambda *_: None
from bigsvd.errors import OutputBusyError
from bigsvd.results.lock import Lease
from bigsvd.results.output import Output
try:
    with Output(sys.argv[1], overwrite=True, lease=Lease(0.3)):
        print("held", flush=True)
        sys.stdin.read()
except OutputBusyError as error:
    print(error, flush=True)
"""
APART = {"mounts": ["--mount"], "mounts and processes": ["--mount", "--pid", "--fork", "--mount-proc"]}


@contextmanager
def on_another_host(out: Path, options: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process in name spaces of its own that tries to hold an output, and the line that it says."""
    command = ["unshare", *options, sys.executable, "-c", HOLDING, str(out)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process, process.stdout.readline()
        process.stdin.close()


@pytest.mark.parametrize("kind", APART)
def test_hosts_without_flock_do_not_hold_one_output_both(tmp_path: Path, kind: str) -> None:
    options, out = APART[kind], tmp_path / "out"
    command = ["unshare", *options, sys.executable, "-c", ""]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"unshare is not permitted here: {tried.stderr}")
    with on_another_host(out, options) as (holder, held):
        assert held == "held\n"
        with on_another_host(out, options) as (_, said):
            assert said.startswith(f"error[E_OUTPUT_BUSY]: another run is writing {out} (process ")
        os.killpg(holder.pid, signal.SIGKILL)
        until(lambda: not is_alive(out.with_name(".out.bigsvd-lock")))
        with on_another_host(out, options) as (_, said):
            assert said == "held\n"


def elsewhere(since: float, attempt: int = 1) -> Holder:
    """A holder on another machine."""
    here = Holder.here(Lease(), since)
    return replace(here, attempt=attempt, process=replace(here.process, machine="node7 other"))


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("age_seconds", [5, 20])
def test_an_hour_of_skew_between_clocks_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int, age_seconds: int
) -> None:
    path, clock = tmp_path / "lock", time.time
    path.mkdir()
    left = path / elsewhere(clock()).name
    left.touch()
    os.utime(left, (clock() - age_seconds,) * 2)
    monkeypatch.setattr(time, "time", lambda: clock() + 3600 * hours)
    lock = RunLock(path, "out")
    if age_seconds < Lease().seconds:
        with pytest.raises(OutputBusyError):
            lock.acquire()
        assert left.exists()
    else:
        lock.acquire()
        assert is_alive(path)
        lock.release()


def test_a_disk_that_fails_while_others_leftovers_are_cleared_leaves_no_lock_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    (tmp_path / f"lock.{'0' * 32}").mkdir()
    lock, rmdir = RunLock(path, "out"), Path.rmdir

    def fails(folder: Path) -> None:
        if folder.name.endswith("0" * 32):
            raise OSError(errno.EIO, "Input/output error")
        rmdir(folder)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rmdir", fails)
        with pytest.raises(OSError, match="Input/output"):
            lock.acquire()
    other = RunLock(path, "out")
    other.acquire()
    other.release()


def outcome(together: threading.Barrier, lock: RunLock) -> str:
    together.wait()
    return attempted(lock)


def attempted(lock: RunLock) -> str:
    try:
        lock.acquire()
    except OutputBusyError:
        return "busy"
    return "won"


def test_of_many_who_find_a_lease_run_out_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for attempt in range(1, 20):
        path.mkdir()
        left = path / elsewhere(1e9, attempt).name
        left.touch()
        os.utime(left, (1e9, 1e9))
        locks = [RunLock(path, "out") for _ in range(16)]
        together = threading.Barrier(len(locks))
        with ThreadPoolExecutor(len(locks)) as pool:
            outcomes = list(pool.map(partial(outcome, together), locks))
        assert sorted(outcomes) == ["busy"] * 15 + ["won"]
        holder = holder_of(path)
        assert holder is not None
        assert holder.attempt > attempt
        assert holder.alive
        for lock in locks:
            lock.release()
        assert list(tmp_path.iterdir()) == []


class Turns:
    """Lets threads go on one at a time, each up to its next call of the system, in a given order."""

    def __init__(self, order: Iterator[int]) -> None:
        self._order = order
        self._changed = threading.Condition()
        self._turn: int | None = None
        self._ended = set[int]()

    def next(self) -> None:
        """Whose turn it is from now on; when the order is at its end, everybody's."""
        with self._changed:
            self._turn = next((name for name in self._order if name not in self._ended), None)
            self._changed.notify_all()

    def wait(self, name: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._turn in (name, None), DEADLINE_SECONDS)

    def end(self, name: int) -> None:
        self._ended.add(name)
        self.next()


def outcomes_in(order: Iterator[int], acts: list[Callable[[], str]]) -> list[str]:
    """What threads come to whose calls of the system follow each other in this order."""
    turns, names = Turns(order), dict[int, int]()

    def stepping(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            name = names.get(threading.get_ident())
            if name is not None:
                turns.next()
                turns.wait(name)
            return real(*arguments, **options)

        return call

    def acted(name: int) -> str:
        turns.wait(name)
        names[threading.get_ident()] = name
        try:
            return acts[name]()
        finally:
            del names[threading.get_ident()]
            turns.end(name)

    with pytest.MonkeyPatch.context() as patch:
        for called in ("rename", "utime", "fstat", "mkdir", "rmdir"):
            patch.setattr(os, called, stepping(getattr(os, called)))
        with ThreadPoolExecutor(len(acts)) as pool:
            futures = [pool.submit(acted, name) for name in range(len(acts))]
            turns.next()
            return [future.result() for future in futures]


def orders() -> Iterator[Iterator[int]]:
    for seed in range(300):
        yield iter(np.random.default_rng(seed).integers(2, size=60).tolist())


def run_out(lock: Path) -> None:
    """Let the lease run out."""
    (held,) = lock.iterdir()
    os.utime(held, (1e9, 1e9))


def test_in_whatever_order_two_come_to_a_lease_that_has_run_out_one_wins(tmp_path: Path) -> None:
    """And the other is refused; it is never told that it holds the lock."""
    for order in orders():
        locks = [RunLock(tmp_path / "lock", "out", Lease(3600)) for _ in range(2)]
        locks[0].path.mkdir()
        (locks[0].path / elsewhere(1e9).name).touch()
        run_out(locks[0].path)
        assert sorted(outcomes_in(order, [partial(attempted, lock) for lock in locks])) == ["busy", "won"]
        for lock in locks:
            lock.release()
        assert list(tmp_path.iterdir()) == []


def test_in_whatever_order_a_renewal_meets_a_take_over_one_has_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = Counter[str]()
    for order in orders():
        late, other = (RunLock(tmp_path / "lock", "out", Lease(3600)) for _ in range(2))
        late.acquire()
        run_out(late.path)
        with monkeypatch.context() as patch:
            patch.setattr(Process, "here", classmethod(lambda _: Process("node7 other", os.getpid(), 0.0)))
            found = outcomes_in(order, [partial(renewed, late), partial(attempted, other)])
        ends[" ".join(found)] += 1
        late.release()
        other.release()
    assert set(ends) == {"won busy", "busy won"}


def renewed(lock: RunLock) -> str:
    try:
        lock.renew()
    except SupersededError:
        return "busy"
    return "won"


CROWD = """
import os, sys
from pathlib import Path
from bigsvd.errors import OutputBusyError
from bigsvd.results.lock import RunLock
path = Path(sys.argv[1])
start, go = os.pipe()
done, end = os.pipe()
children = []
for _ in range(16):
    child = os.fork()
    if child == 0:
        os.close(go), os.close(end)
        os.read(start, 1)
        lock = RunLock(path, "out")
        try:
            lock.acquire()
        except OutputBusyError:
            os._exit(3)
        os.read(done, 1)
        lock.release()
        os._exit(0)
    children.append(child)
os.close(go)
codes = [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(15)]
os.close(end)
codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
print(codes)
"""


@pytest.mark.parametrize("left", [True, False])
def test_of_many_processes_one_wins(tmp_path: Path, left: bool) -> None:
    path = tmp_path / "lock"
    if left:
        path.mkdir()
        here = Holder.here(Lease(), 1e9)
        (path / replace(here, process=replace(here.process, pid=2**22 + 1)).name).touch()
    said = subprocess.run(
        [sys.executable, "-c", CROWD, str(path)], capture_output=True, text=True, check=True,
        timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    assert json.loads(said.stdout) == [3] * 15 + [0]
    assert list(tmp_path.iterdir()) == []


def taken_over(path: Path) -> RunLock:
    """A lock whose holder was superseded."""
    lock = RunLock(path, "out", Lease(3600))
    lock.acquire()
    (held,) = path.iterdir()
    now = elsewhere(0, 2)
    held.rename(path / now.name)
    return lock


def test_who_was_superseded_is_told_by_whom_and_leaves_the_other_alone(tmp_path: Path) -> None:
    lock = taken_over(tmp_path / "lock")
    before = list(lock.path.iterdir())
    for _ in range(2):
        with pytest.raises(SupersededError, match=rf"out was superseded \(by process {os.getpid()} on node7"):
            lock.renew()
    lock.release()
    lock.release()
    assert list(lock.path.iterdir()) == before


def test_a_lock_that_was_deleted_is_lost(tmp_path: Path) -> None:
    lock = RunLock(tmp_path / "lock", "out", SHORT)
    lock.acquire()
    shutil.rmtree(lock.path)
    with pytest.raises(SupersededError, match="its lock is gone"):
        lock.renew()
    lock.release()


def test_an_output_that_was_taken_over_is_not_published_nor_swept(tmp_path: Path) -> None:
    """And an error of a run that was superseded is said to be that."""
    out = tmp_path / "out"
    for act in (Output.publish, Output.sweep, Output.begin, Output.resume, Output.check, fail):
        output = Output(out, overwrite=True, lease=Lease(3600))
        with pytest.raises(SupersededError):
            superseded(output, act)
        runs = [entry.name for entry in (output.scratch / MARK).iterdir()]
        assert runs == [(output.scratch / "run-was").read_text()]
        assert (output.scratch / "factors").exists()
        shutil.rmtree(output.place.lock)
        shutil.rmtree(output.scratch)


def superseded(output: Output, act: Callable[[Output], Any]) -> None:
    """Enter an output, and act after another has taken it over."""
    with output:
        (output.scratch / "run-was").write_text(output.begin())
        (output.scratch / "factors").mkdir()
        (held,) = output.place.lock.iterdir()
        held.rename(held.with_name(elsewhere(0, 2).name))
        act(output)


def fail(_: Output) -> None:
    raise FileNotFoundError(errno.ENOENT, "what another run has moved away")


def test_one_renewal_that_fails_does_not_lose_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = RunLock(tmp_path / "lock", "out", SHORT)
    lock.acquire()
    for name in ("utime", "rename"):
        real, failures = getattr(os, name), list[Any]()

        def failing(*arguments: Any, real: Any = real, failures: list[Any] = failures, **options: Any) -> Any:
            if threading.current_thread() is not threading.main_thread() and not failures:
                failures.append(arguments)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            until(partial(len, failures))
            until(partial(has_more_beats, lock.path, beats_of(lock.path) + 1))
        lock.renew()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def has_more_beats(lock: Path, beats: int) -> bool:
    return beats_of(lock) > beats


def beats_of(lock: Path) -> int:
    holder = holder_of(lock)
    assert holder is not None
    return holder.beats


def test_a_disk_that_cannot_tell_who_holds_an_output_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Output(tmp_path / "out", overwrite=False) as output:
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", fail)
            with pytest.raises(StorageError, match="Input/output error"):
                output.check()
        output.check()


FORKING = """
import os, sys
from pathlib import Path
from bigsvd.results.lock import RunLock, holder_of
lock = RunLock(Path(sys.argv[1]), "out")
lock.acquire()
if os.fork() == 0:
    lock.release()
    os._exit(0)
os.wait()
print(holder_of(lock.path).alive)
lock.release()
print(holder_of(lock.path))
"""


def test_a_child_of_the_holder_does_not_let_go(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKING, str(tmp_path / "lock")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE_SECONDS)
    assert said.stdout.split() == ["True", "None"]


WRITES: dict[str, Callable[[Scratch], Any]] = {
    "an array": lambda scratch: scratch.create("pass/parts/y", (2,), (2,), "float64"),
    "a whole array": lambda scratch: scratch.write("pass/parts/z", np.ones(2)),
    "a record": lambda scratch: scratch.record("pass/parts/done", {}),
    "the seal": lambda scratch: scratch.seal("factors", {}),
}


@pytest.mark.parametrize("write", WRITES)
def test_not_even_an_empty_folder_is_left_by_whoever_comes_too_late(tmp_path: Path, write: str) -> None:
    with Output(tmp_path / "out", overwrite=False) as output:
        scratch = Scratch(output.scratch, output.begin())
        output.sweep()
        with pytest.raises(SupersededError):
            WRITES[write](scratch)
        assert not output.scratch.exists()
        other = Scratch(output.scratch, output.begin())
        with pytest.raises(SupersededError):
            WRITES[write](scratch)
        assert [entry.name for entry in output.scratch.iterdir()] == [MARK]
        WRITES[write](other)
        other.remove("factors")
        output.sweep()
    assert list(tmp_path.iterdir()) == []


def test_lanes_that_make_the_same_folders_at_a_time_all_find_their_places(tmp_path: Path) -> None:
    with Output(tmp_path / "out", overwrite=False) as output:
        scratch = Scratch(output.scratch, output.begin())
        for step in range(50):
            names = [f"pass-{step}/parts/lane-{lane}/done" for lane in range(8)]
            with ThreadPoolExecutor(len(names)) as pool:
                list(pool.map(lambda name: scratch.record(name, {"of": name}), names))
            assert [scratch.recorded(name) for name in names] == [{"of": name} for name in names]


# Power cuts

TALL = 2 + np.random.default_rng(1).standard_normal((400, 150)) * np.arange(1, 151) ** -0.3
DAMAGE: dict[str, Callable[[Path], Any]] = {
    "gone": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "torn": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
}
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tall, centred, scaled": {"center": True, "scale": True},
    "wide, centred, scaled": {"center": True, "scale": True, "weights": np.linspace(1, 2, 400)},
    "gram": {"method": "gram", "center": True},
}


def run(name: str, out: Path, **more: Any) -> bytes:
    """The bits of a result; the data, of eight panels, lie beside it."""
    data, values = out.parent / "data.zarr", TALL.T if name.startswith("wide") else TALL
    if not data.exists():
        zarr.create_array(data, data=values, chunks=(150, 50) if name.startswith("wide") else (50, 150))
    options: dict[str, Any] = {"method": "krylov", "tol": 1e-7, "memory": 200_000_000, "seed": 3}
    bigsvd.svd(data, 3, out, **(options | REQUESTS[name] | more))
    return bits(out)


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("seed", range(3))
def test_what_a_power_cut_takes_is_made_again_to_the_same_bits(tmp_path: Path, name: str, seed: int) -> None:
    """Whatever files below scratch are lost or torn but the plan, which is synced."""
    rng, out = np.random.default_rng(seed), tmp_path / "out"
    expected = run(name, tmp_path / "undisturbed")
    for _ in range(3):
        with suppressed_stop():
            run(name, out, progress=stop_at("pass-end", int(rng.integers(3))), overwrite=True)
        for file in files_to_lose(scratch_path(out)):
            if rng.random() < 0.3:
                DAMAGE[str(rng.choice(list(DAMAGE)))](file)
    assert run(name, out, overwrite=True) == expected


def files_to_lose(scratch: Path) -> list[Path]:
    files = [file for file in sorted(scratch.rglob("*")) if file.is_file()]
    return [file for file in files if file.parent != scratch / PLAN]


@contextmanager
def suppressed_stop() -> Iterator[None]:
    """A run that may be stopped, or end before."""
    try:
        yield
    except StoppedError:
        return


def test_each_file_of_scratch_can_be_lost(tmp_path: Path) -> None:
    """One of each kind, by one damage after the other."""
    name, out, kept = "tall, centred, scaled", tmp_path / "out", tmp_path / "kept"
    expected, damages = run(name, tmp_path / "undisturbed"), cycle(DAMAGE.values())
    with pytest.raises(StoppedError):
        run(name, out, progress=stop_at("pass-end", 1))
    shutil.move(scratch_path(out), kept)
    names = [str(file.relative_to(kept)) for file in files_to_lose(kept)]
    kinds = {re.sub("[0-9]+", "", name): name for name in names}
    for lost, damage in zip(kinds.values(), damages, strict=False):
        shutil.copytree(kept, scratch_path(out))
        damage(scratch_path(out) / lost)
        assert run(name, out) == expected, lost
        shutil.rmtree(out)


def test_damage_is_told(tmp_path: Path) -> None:
    out, seen = tmp_path / "out", list[Event]()
    expected = run("plain", tmp_path / "undisturbed")
    with pytest.raises(StoppedError):
        run("plain", out, progress=stop_at("pass", 2))
    DAMAGE["zeros"](next(scratch_path(out).glob("krylov-*-000/z/c/0/0")))
    assert run("plain", out, progress=seen.append) == expected
    (told,) = (event.said for event in seen if isinstance(event, ScratchDamaged))
    assert "z is damaged" in told
