"""Faults of storage, cases 14-19 of the fault table: real files, real limits, real signals."""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from distributed import Client
from zarr.codecs import Crc32cCodec

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import (
    ChunkCorruptError,
    ChunkMissingError,
    FactorStoreError,
    MetadataError,
    OutputBusyError,
    OutputExistsError,
    SourceChangedError,
    StorageError,
)
from bigsvd.events import Certified, Event, PassEnded, ScratchDamaged
from bigsvd.results.factors import Factors, open_factors
from bigsvd.results.output import Output
from bigsvd.verify import verify

DEADLINE_SECONDS = 120
OPTIONS: dict[str, Any] = {"tol": 1e-6, "method": "krylov", "memory": 200_000_000, "seed": 3}
ARGUMENTS = ["-k", "3", "--tol", "1e-6", "--method", "krylov", "--memory", "200MB", "--seed", "3"]


def values_of(m: int = 160, n: int = 60, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.standard_normal((m, n)) * np.arange(1, n + 1) ** -0.7)


def stored(path: Path, values: np.ndarray, **options: Any) -> zarr.Array[Any]:
    defaults: dict[str, Any] = {"chunks": (40, 60)}
    array = zarr.create_array(path, shape=values.shape, dtype=values.dtype, **(defaults | options))
    array[...] = values
    return array


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def bits(factors: Factors) -> bytes:
    return b"".join(np.asarray(getattr(factors, name)[:]).tobytes() for name in ("U", "s", "Vt"))


def assert_nothing_opens(out: Path) -> None:
    scratch = out.with_name(f"{out.name}.scratch")
    for path in (out, scratch, scratch / "factors"):
        with pytest.raises(FactorStoreError):
            bigsvd.open(path)


@contextmanager
def own_interrupt_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def assert_cli_fails(arguments: list[str], code: str, exit_code: int, pattern: str) -> None:
    with own_interrupt_handler():
        outcome = CliRunner().invoke(main, arguments)
    assert re.fullmatch(rf"error\[{code}\]: .*{pattern}.*; .+\n", outcome.stderr), outcome.output
    assert outcome.exit_code == exit_code
    assert outcome.stdout == ""


# 14: missing chunks


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "c/2/0"),
        ({"zarr_format": 2}, "2.0"),
        ({"chunks": (10, 30), "shards": (40, 60)}, "c/2/0"),
    ],
    ids=["v3", "v2", "sharded"],
)
def test_fault_14_missing_chunk(client: Client, tmp_path: Path, options: dict[str, Any], key: str) -> None:
    values, data, out = values_of(), tmp_path / "a.zarr", tmp_path / "a.svd"
    stored(data, values, **options)
    chunk = (data / key).read_bytes()
    (data / key).unlink()
    before = bytes_of(data)
    with pytest.raises(ChunkMissingError, match=rf"1 of \d chunk\(s\) of {data} do not exist: {key}"):
        bigsvd.svd(data, 3, out, client=client, **OPTIONS)
    assert_nothing_opens(out)
    filled = bigsvd.svd(data, 3, tmp_path / "filled", missing_chunks="fill", client=client, **OPTIONS)
    assert bytes_of(data) == before
    assert filled.info()["filled_chunks"] == 1
    values[80:120] = 0
    np.testing.assert_allclose(filled.s, np.linalg.svd(values, compute_uv=False)[:3], rtol=1e-9)
    (data / key).write_bytes(chunk)  # restored, as the remedy says: the same request now succeeds
    factors = bigsvd.svd(data, 3, out, client=client, **OPTIONS)
    np.testing.assert_allclose(factors.s, np.linalg.svd(values_of(), compute_uv=False)[:3], rtol=1e-9)


def test_fault_14_command_line(tmp_path: Path) -> None:
    data, out = tmp_path / "a.zarr", tmp_path / "a.svd"
    stored(data, values_of())
    (data / "c/1/0").unlink()
    command = [sys.executable, "-m", "bigsvd.cli", "svd", str(data), str(out), *ARGUMENTS, "--quiet"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    assert outcome.returncode == 2
    assert re.fullmatch(
        r"error\[E_CHUNK_MISSING\]: 1 of 4 chunk.* c/1/0; .*nothing but 0.* --missing-chunks fill.*\n",
        outcome.stderr,
    )
    assert outcome.stdout == ""
    assert_nothing_opens(out)


# 15: damage


def flip_bit(file: Path, position: int, bit: int = 0) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)


CHECKED: dict[str, dict[str, Any]] = {
    "crc32c": {"compressors": [Crc32cCodec()]},
    "sharded": {"chunks": (10, 60), "shards": (40, 60), "compressors": [Crc32cCodec()]},
}


@pytest.mark.parametrize("layout", CHECKED)
@pytest.mark.parametrize("position", [3, -3])
def test_fault_15_flipped_bit(client: Client, tmp_path: Path, layout: str, position: int) -> None:
    data = tmp_path / "a.zarr"
    stored(data, values_of(), **CHECKED[layout])
    flip_bit(data / "c/2/0", position)
    with pytest.raises(ChunkCorruptError, match=rf"chunk c/2/0 of {re.escape(str(data))} cannot be decoded"):
        bigsvd.svd(data, 3, tmp_path / "o", client=client, **OPTIONS)
    assert_nothing_opens(tmp_path / "o")


@pytest.mark.parametrize("options", [{}, {"zarr_format": 2}, {"compressors": None}, *CHECKED.values()])
@pytest.mark.parametrize("length", [0, 50, -1])
def test_fault_15_truncated_chunk(
    client: Client, tmp_path: Path, options: dict[str, Any], length: int
) -> None:
    data = tmp_path / "a.zarr"
    stored(data, values_of(), **options)
    key = "2.0" if "zarr_format" in options else "c/2/0"
    (data / key).write_bytes((data / key).read_bytes()[:length])
    with pytest.raises(ChunkCorruptError, match=rf"chunk {re.escape(key)} of"):
        bigsvd.svd(data, 3, client=client, **OPTIONS)


def test_fault_15_command_line(tmp_path: Path) -> None:
    data, out = tmp_path / "a.zarr", tmp_path / "a.svd"
    stored(data, values_of())
    (data / "c/3/0").write_bytes(b"")
    arguments = ["svd", str(data), str(out), *ARGUMENTS, "--quiet"]
    assert_cli_fails(arguments, "E_CHUNK_CORRUPT", 2, "chunk c/3/0 of")
    assert_nothing_opens(out)
    (data / "zarr.json").write_text("{")
    assert_cli_fails(arguments, "E_METADATA", 2, re.escape(str(data)))


GARBAGE = ("", "{", "null", "[]", '"text"', "{}", '{"zarr_format": 3, "node_type": "array"}', "\x00\x01")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("garbage", GARBAGE)
def test_fault_15_garbage_metadata(tmp_path: Path, garbage: str, zarr_format: Any) -> None:
    data = tmp_path / "a.zarr"
    stored(data, values_of(), zarr_format=zarr_format)
    name = "zarr.json" if zarr_format == 3 else ".zarray"
    (data / name).write_text(garbage)
    with pytest.raises(MetadataError, match=re.escape(name)):
        bigsvd.svd(data, 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [("shape", [160, "x"]), ("shape", [-1, 60]), ("data_type", "float65"), ("codecs", [{"name": "rot13"}]),
     ("chunk_grid", {}), ("fill_value", "much")],
)  # fmt: skip
def test_fault_15_wrong_field_of_metadata(tmp_path: Path, field: str, value: Any) -> None:
    data = tmp_path / "a.zarr"
    stored(data, values_of())
    metadata = json.loads((data / "zarr.json").read_text())
    (data / "zarr.json").write_text(json.dumps(metadata | {field: value}))
    with pytest.raises(MetadataError, match=re.escape("zarr.json")):
        bigsvd.svd(data, 3)


@pytest.fixture(scope="module")
def published(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A factor store with means and divisors."""
    out = tmp_path_factory.mktemp("published") / "a.svd"
    bigsvd.svd(values_of(), 3, out, center=True, scale=True, client=client, **OPTIONS)
    return out


def everything(factors: Factors) -> tuple[Any, ...]:
    arrays = (factors.U[:], factors.s, factors.Vt[:], factors.mean, factors.scale)
    return (*(np.asarray(array).tobytes() for array in arrays), factors.certificate, factors.provenance)


def test_fault_15_damaged_factor_store_is_never_believed(published: Path, tmp_path: Path) -> None:
    """A bit flipped anywhere is refused, or reported by verify, or changes nothing that can be read."""
    rng = np.random.default_rng(15)
    intact = everything(open_factors(published))
    caught = 0
    files = [str(file.relative_to(published)) for file in published.rglob("*") if file.is_file()]
    for name in files:
        damaged = tmp_path / "damaged"
        for position in (0, -1, *rng.integers(0, (published / name).stat().st_size, 4)):
            shutil.copytree(published, damaged)
            flip_bit(damaged / name, int(position), int(rng.integers(8)))
            try:
                factors = open_factors(damaged)
                if verify(factors, None, lambda _: None).findings:
                    caught += 1
                else:
                    assert everything(factors) == intact, (name, position)
            except FactorStoreError:
                caught += 1
            shutil.rmtree(damaged)
    assert caught > 4 * len([name for name in files if not name.endswith("zarr.json")])


@pytest.mark.parametrize("spoil", [lambda file: flip_bit(file, 5), Path.unlink], ids=["flipped", "gone"])
@pytest.mark.parametrize("times", [1, 99])
def test_fault_15_damaged_rows_in_scratch_are_computed_again(
    client: Client, tmp_path: Path, spoil: Callable[[Path], None], times: int
) -> None:
    """And nothing is made of them where they are damaged again and again, as by a disk that fails."""
    stored(tmp_path / "a.zarr", values_of())
    out, seen = tmp_path / "a.svd", list[Event]()
    expected = bits(bigsvd.svd(tmp_path / "a.zarr", 3, tmp_path / "b.svd", client=client, **OPTIONS))

    def damage(event: Event) -> None:
        seen.append(event)
        damaged = sum(isinstance(each, Certified) and each.converged for each in seen)
        if isinstance(event, Certified) and event.converged and damaged <= times:
            spoil(next(tmp_path.glob("a.svd.scratch/krylov-*/y/c/0/0")))

    def run() -> Factors:
        return bigsvd.svd(tmp_path / "a.zarr", 3, out, client=client, progress=damage, **OPTIONS)

    if times == 1:
        assert bits(run()) == expected
    else:
        with pytest.raises(StorageError, match=r"krylov-.*/y is damaged \(.*c/0/0.*run again"):
            run()
        assert not out.exists()
        assert_nothing_opens(out)
    told = [event.said for event in seen if isinstance(event, ScratchDamaged)]
    assert told
    assert "y is damaged" in told[0]


@pytest.mark.parametrize("name", ["U/c/0/0", "s/c/0", "Vt/c/0/0", "mean/c/0", "scale/c/0"])
def test_fault_15_damaged_chunk_is_caught_on_read_and_by_verify(
    published: Path, tmp_path: Path, name: str
) -> None:
    damaged = tmp_path / "damaged"
    for spoil in (lambda file: flip_bit(file, 5), lambda file: file.write_bytes(b"x"), Path.unlink):
        shutil.copytree(published, damaged)
        spoil(damaged / name)
        with pytest.raises(FactorStoreError):
            open_factors(damaged)[:, :]
        with own_interrupt_handler():
            outcome = CliRunner().invoke(main, ["verify", str(damaged)])
        assert outcome.exit_code in {2, 3}
        assert re.match(r"error\[E_(FACTORS|VERIFY)\]", outcome.stderr), outcome.output
        shutil.rmtree(damaged)


@pytest.mark.parametrize("name", ["U", "s", "Vt", "mean", "scale"])
def test_fault_15_replaced_entries_are_found_by_verify(published: Path, tmp_path: Path, name: str) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(published, damaged)
    array = zarr.open_array(damaged / name, mode="r+")
    array[0] = np.asarray(array[0]) * 0.999  # a valid chunk, with a valid checksum, of other entries
    findings = verify(open_factors(damaged), None, lambda _: None).findings
    assert any(finding.startswith(f"{name} is not what was published") for finding in findings)


# 16: the input changes between passes


def test_fault_16_input_changed_between_passes(client: Client, tmp_path: Path) -> None:
    data, out = tmp_path / "a.zarr", tmp_path / "a.svd"
    array = stored(data, values_of())

    def change(event: Event) -> None:
        if isinstance(event, PassEnded) and event.name.endswith("-000"):
            array[90, 7] = 1.0

    with pytest.raises(SourceChangedError, match=r"rows 80\.\.119 had checksum \d+, now \d+"):
        bigsvd.svd(data, 3, out, client=client, progress=change, **OPTIONS)
    assert_nothing_opens(out)
    changed = values_of()
    changed[90, 7] = 1.0
    factors = bigsvd.svd(data, 3, out, client=client, **OPTIONS)  # the remedy: now nobody writes
    np.testing.assert_allclose(factors.s, np.linalg.svd(changed, compute_uv=False)[:3], rtol=1e-9)
    assert verify(factors, bigsvd.sources.open.open_source(data), lambda _: None, client).findings == ()


def test_fault_16_input_changed_before_a_resumed_run(client: Client, tmp_path: Path) -> None:
    data, out = tmp_path / "a.zarr", tmp_path / "a.svd"
    array = stored(data, values_of())
    old = bigsvd.svd(data, 2, out, client=client, **OPTIONS)
    expected = bytes_of(out)

    def interrupt(event: Event) -> None:
        if isinstance(event, Certified):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bigsvd.svd(data, 3, out, overwrite=True, client=client, progress=interrupt, **OPTIONS)
    array[0, 0] = 100.0
    with pytest.raises(SourceChangedError):
        bigsvd.svd(data, 3, out, overwrite=True, client=client, **OPTIONS)
    assert bytes_of(out) == expected
    assert bits(bigsvd.open(out)) == bits(old)


# 17: the store fails at the N-th operation

# Runs in a child process: `sys.addaudithook` sees every operation on a file before the system does, and what
# it raises is what open(), mkdir() or rename() raise. It cannot be removed, hence the child.
FAILING = """
import errno, hashlib, json, os, shutil, sys
import bigsvd, numpy as np
from bigsvd.errors import BigsvdError
from bigsvd.execution.dask_executor import local_client

data, out, options, step = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
count, limit = 0, None
WRITES = os.O_WRONLY | os.O_RDWR

def watch(event, args):
    global count
    if event == "open":
        named = isinstance(args[0], (str, bytes, os.PathLike))
        touches = named and isinstance(args[2], int) and args[2] & WRITES
    else:
        touches = event in ("os.mkdir", "os.rename", "os.remove", "os.link", "os.truncate")
    if not touches or not os.fsdecode(args[0]).startswith(out):
        return
    count += 1
    if limit is not None and count >= limit:
        raise OSError(errno.ENOSPC if limit % 2 else errno.EIO, "a failing disk", os.fsdecode(args[0]))

def attempt(client, at):
    global count, limit
    count, limit = 0, at
    try:
        return "done", repr(bigsvd.svd(data, 3, out, client=client, overwrite=True, **options))
    except BigsvdError as error:
        return error.code, str(error)
    finally:
        limit = None

def bits():
    factors = bigsvd.open(out)
    arrays = [np.asarray(getattr(factors, name)[:]).tobytes() for name in ("U", "s", "Vt")]
    return hashlib.sha256(b"".join(arrays)).hexdigest()

sys.addaudithook(watch)
with local_client(2) as client:
    attempt(client, None)
    print(json.dumps({"total": count, "bits": bits()}), flush=True)
    for n in range(1, count + 1, step):
        shutil.rmtree(out + ".scratch", ignore_errors=True)
        code, text = attempt(client, n)
        old = bits()
        again, _ = attempt(client, None)
        found = {"n": n, "code": code, "text": text, "old": old, "again": again, "new": bits()}
        print(json.dumps(found), flush=True)
"""


def run_child(program: str, *arguments: str) -> list[dict[str, Any]]:
    """The JSON lines that a program prints."""
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    assert outcome.returncode == 0, outcome.stderr
    return [json.loads(line) for line in outcome.stdout.splitlines()]


def test_fault_17_failure_at_the_nth_operation(client: Client, tmp_path: Path) -> None:
    data, out = tmp_path / "a.zarr", tmp_path / "a.svd"
    stored(data, values_of())
    before = bytes_of(data)
    expected = bigsvd.svd(data, 3, tmp_path / "never.failed", client=client, **OPTIONS)
    first, *failures = run_child(FAILING, str(data), str(out), json.dumps(OPTIONS), "41")
    assert first["total"] > 100
    assert len(failures) > 5
    assert first["bits"] == hashlib.sha256(bits(expected)).hexdigest()
    for failure in failures:
        # Lanes that race to make a folder try it a few times more or less: the last n may not be reached.
        if failure["code"] != "done" or failure["n"] <= first["total"] - 20:
            assert failure["code"] == "E_STORAGE", failure
            assert "a failing disk" in failure["text"]
        assert failure["old"] == first["bits"]  # the result before is still there, whole
        assert failure["again"] == "done"
        assert failure["new"] == first["bits"]  # and the run resumed to the same bits
    assert bytes_of(data) == before


FULL = """
import json, resource, sys
import bigsvd
from bigsvd.errors import BigsvdError
from bigsvd.execution.dask_executor import local_client

data, out, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
with local_client(2) as client:
    for size in (0, 400, 900, 3000, 8000, soft):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            code, text = "done", repr(bigsvd.svd(data, 3, out, client=client, **options))
        except BigsvdError as error:
            code, text = error.code, str(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        print(json.dumps({"size": size, "code": code, "text": text}), flush=True)
"""


def test_fault_17_files_may_not_grow(client: Client, tmp_path: Path) -> None:
    data, out = tmp_path / "a.zarr", tmp_path / "a.svd"
    stored(data, values_of())
    expected = bigsvd.svd(data, 3, tmp_path / "never.failed", client=client, **OPTIONS)
    *failures, last = run_child(FULL, str(data), str(out), json.dumps(OPTIONS))
    assert [failure["code"] for failure in failures] == ["E_STORAGE"] * len(failures)
    assert last["code"] == "done"
    assert bits(bigsvd.open(out)) == bits(expected)


def test_fault_17_output_cannot_be_made(tmp_path: Path) -> None:
    stored(tmp_path / "a.zarr", values_of())
    (tmp_path / "file").write_text("not a folder")
    arguments = ["svd", str(tmp_path / "a.zarr"), str(tmp_path / "file" / "o"), *ARGUMENTS, "--quiet"]
    assert_cli_fails(arguments, "E_STORAGE", 3, re.escape(str(tmp_path / "file")))
    assert (tmp_path / "file").read_text() == "not a folder"


# 18: SIGKILL

# A process that loads the library once and forks a child for each command it reads: the child is the command
# line, and kills itself with SIGKILL when it is about to make its N-th operation below the output, or the
# first whose event and path match a pattern.
FORKING = """
import json, os, re, signal, sys
import bigsvd.cli, bigsvd.solve

def killed_at(out, moment):
    count = 0
    def watch(event, args):
        nonlocal count
        if not event.startswith(("open", "os.", "shutil.", "ctypes.dlsym")):
            return
        names = [os.fsdecode(a) for a in args if isinstance(a, (str, bytes, os.PathLike))]
        text = " ".join([event, *names])
        if out not in text and "renameat2" not in text:
            return
        count += 1
        if count == moment or (isinstance(moment, str) and re.search(moment, text)):
            os.kill(os.getpid(), signal.SIGKILL)
    return watch

for line in sys.stdin:
    arguments, out, moment = json.loads(line)
    child = os.fork()
    if child == 0:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 1)
            os.dup2(null.fileno(), 2)
        if moment is not None:
            sys.addaudithook(killed_at(out, moment))
        try:
            bigsvd.cli.main(arguments)
        except SystemExit as end:
            os._exit(end.code or 0)
        os._exit(9)
    print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])), flush=True)
"""


class Forks:
    """Runs the command line in killable children."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", FORKING]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, data: Path, out: Path, moment: int | str | None, *more: str) -> int:
        """The exit status of `bigsvd svd`, negative where a signal ended it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        arguments = ["svd", str(data), str(out), *ARGUMENTS, *more]
        self.process.stdin.write(json.dumps([arguments, str(out), moment]) + "\n")
        self.process.stdin.flush()
        return int(next_line(self.process.stdout.fileno(), self.process))

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(DEADLINE_SECONDS)


def next_line(descriptor: int, process: subprocess.Popen[Any]) -> str:
    """One line from a pipe, waited for up to the deadline."""
    line, deadline = b"", time.monotonic() + DEADLINE_SECONDS
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        read = os.read(descriptor, 1) if ready else b""
        if not read:
            process.kill()
            pytest.fail(f"no further line after {line!r}")
        line += read
    return line.decode()


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    running = Forks()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def reference(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A stored matrix, and the bits of a run on it that nothing interrupted."""
    folder = tmp_path_factory.mktemp("reference")
    stored(folder / "a.zarr", values_of())
    assert forks.run(folder / "a.zarr", folder / "a.svd", None) == 0
    return folder / "a.zarr", bits(bigsvd.open(folder / "a.svd"))


MOMENTS: dict[str, int | str] = {
    "first operation": 1,
    "creating scratch": 4,
    "early": 40,
    "in pass 0": r"[a-z]+-[a-z0-9]+-000/parts/lane-00002",
    "after pass 0": r"[a-z]+-[a-z0-9]+-000/done",
    "in pass 1": r"[a-z]+-[a-z0-9]+-001/y/c/2",
    "forming": r"factors/U/c",
    "before the manifest": r"factors/s/c",
    "writing the manifest": r"os.rename .*factors/zarr\.json",
    "before the rename": r"os.rename .*factors .*svd$",
    "sweeping": r"os.rmdir .*\.bigsvd-scratch$",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_fault_18_killed_run_resumes_to_the_same_bits(
    forks: Forks, reference: tuple[Path, bytes], tmp_path: Path, moment: str
) -> None:
    data, expected = reference
    before, out = bytes_of(data), tmp_path / "a.svd"
    assert forks.run(data, out, MOMENTS[moment]) == -signal.SIGKILL
    if moment == "sweeping":  # published: the result is there, and is not computed again
        assert bits(bigsvd.open(out)) == expected
        assert forks.run(data, out, None) == 2
        assert forks.run(data, out, None, "--overwrite") == 0
    else:
        with pytest.raises(FactorStoreError):
            bigsvd.open(out)
        assert forks.run(data, out, None) == 0
    assert bits(bigsvd.open(out)) == expected
    assert bytes_of(data) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svd"]  # nothing is left over


OVERWRITING: dict[str, int | str] = {
    "in a pass": r"[a-z]+-[a-z0-9]+-001",
    "before the exchange": r"ctypes.dlsym",
    "after the exchange": r"os.rmdir .*\.bigsvd-scratch$",
}


@pytest.mark.parametrize("moment", OVERWRITING)
def test_fault_18_killed_overwrite_leaves_old_or_new(
    forks: Forks, reference: tuple[Path, bytes], client: Client, tmp_path: Path, moment: str
) -> None:
    data, expected = reference
    out = tmp_path / "a.svd"
    bigsvd.svd(values_of(seed=7), 2, out, client=client)
    old = bytes_of(out)
    assert forks.run(data, out, OVERWRITING[moment], "--overwrite") == -signal.SIGKILL
    if moment == "after the exchange":
        assert bits(bigsvd.open(out)) == expected
    else:
        assert bytes_of(out) == old
    assert verify(bigsvd.open(out), None, lambda _: None).findings == ()
    assert forks.run(data, out, None, "--overwrite") == 0
    assert bits(bigsvd.open(out)) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svd"]


def test_fault_18_killed_by_another_process(reference: tuple[Path, bytes], tmp_path: Path) -> None:
    """The plain command, killed from outside when it reports its first pass, then run to its end."""
    data, expected = reference
    out = tmp_path / "a.svd"
    command = [sys.executable, "-m", "bigsvd.cli", "svd", str(data), str(out), *ARGUMENTS]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while "pass 1     [" not in next_line(process.stderr.fileno(), process):
            pass
        process.kill()
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(FactorStoreError):
        bigsvd.open(out)
    again = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    assert again.returncode == 0
    assert "resuming the run" in again.stderr
    assert bits(bigsvd.open(out)) == expected


# 19: two runs, one output

HOLDING = """
import sys
from bigsvd.results.output import Output
with Output(sys.argv[1], overwrite=True):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process holds the output while the block runs."""
    command = [sys.executable, "-c", HOLDING, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert next_line(process.stdout.fileno(), process) == "held\n"
        yield process
        process.stdin.close()


def test_fault_19_second_run_is_refused(client: Client, tmp_path: Path) -> None:
    data, out = tmp_path / "a.zarr", tmp_path / "a.svd"
    stored(data, values_of())
    bigsvd.svd(data, 2, out, client=client, **OPTIONS)
    old = bytes_of(out)
    with held_elsewhere(out):
        with pytest.raises(OutputBusyError, match=re.escape(f"another run is writing {out}")):
            bigsvd.svd(data, 3, out, overwrite=True, client=client, **OPTIONS)
        arguments = ["svd", str(data), str(out), *ARGUMENTS, "--overwrite", "--quiet"]
        assert_cli_fails(arguments, "E_OUTPUT_BUSY", 3, re.escape(str(out)))
        assert bytes_of(out) == old
    with pytest.raises(OutputExistsError, match=re.escape(str(out))):
        bigsvd.svd(data, 3, out, client=client, **OPTIONS)
    assert bigsvd.svd(data, 3, out, overwrite=True, client=client, **OPTIONS).k == 3


def test_fault_19_killed_holder_does_not_block(client: Client, tmp_path: Path) -> None:
    data, out = tmp_path / "a.zarr", tmp_path / "a.svd"
    stored(data, values_of())
    with held_elsewhere(out) as holder:
        holder.kill()
        holder.wait(DEADLINE_SECONDS)
        assert bigsvd.svd(data, 3, out, client=client, **OPTIONS).k == 3


def test_fault_19_same_process(client: Client, tmp_path: Path) -> None:
    with Output(tmp_path / "a.svd", overwrite=False), pytest.raises(OutputBusyError):
        bigsvd.svd(values_of(), 3, tmp_path / "a.svd", client=client)


def test_fault_19_one_of_two_wins(forks: Forks, reference: tuple[Path, bytes], tmp_path: Path) -> None:
    """Two commands at once: both end; the result is one of a whole run."""
    data, expected = reference
    out = tmp_path / "a.svd"
    command = [sys.executable, "-m", "bigsvd.cli", "svd", str(data), str(out), *ARGUMENTS, "--quiet"]
    both = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=DEADLINE_SECONDS)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes[0] == 0
    assert codes[1] in {2, 3}
    assert re.fullmatch(r"error\[E_OUTPUT_(BUSY|EXISTS)\]: .+\n", max(errors, key=len))
    assert bits(bigsvd.open(out)) == expected
