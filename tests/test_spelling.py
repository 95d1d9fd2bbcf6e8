"""What the library says of options, as a command has them: only its own, and never what was typed."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from bigsvd.cli import main
from bigsvd.cli.spelling import spelled

SVD = main.commands["svd"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("max_passes=4 and overwrite=True, which", "--max-passes 4 and --overwrite, which"),
        ("k=9 is not in the range; give k", "-k 9 is not in the range; give -k"),
        ("add missing='mean' or missing='zero'", "add --missing mean or --missing zero"),
        ("missing_value=(-9, nan) twice", "--missing-value -9 --missing-value nan twice"),
        ("use k='auto', or device='cpu'", "use -k auto, or --device cpu"),
        ("(k=1 needs 3 MB), or raise memory to 5 MB", "(-k 1 needs 3 MB), or raise --memory to 5 MB"),
        ("use decode=False", "use --no-decode"),
        ("use overwrite, or another", "use --overwrite, or another"),
        ("with no missing_value, but", "with no --missing-value, but"),
        ("stage='' is no path", "--stage '' is no path"),
        ("out='s3://x' is a URL", "OUT s3://x is a URL"),
        ("its memory, the error, a scale of 3", "its memory, the error, a scale of 3"),
        ("data has the attribute missing_value='x'", "data has the attribute missing_value='x'"),
        ("/a/max_passes/b_k=5.zarr max_passes.zarr", "/a/max_passes/b_k=5.zarr max_passes.zarr"),
        ("chunks=(10, 10)", "chunks=(10, 10)"),
    ],
)
def test_options_are_named_as_they_are_typed(said: str, expected: str) -> None:
    assert spelled(said, SVD) == expected


def test_what_was_typed_stays() -> None:
    said = "max_passes does not exist; k=3 needs max_passes=2"
    assert spelled(said, SVD, ["max_passes"]) == "max_passes does not exist; -k 3 needs --max-passes 2"
    assert spelled("k=3", click.Command("bare")) == "k=3"


ERRORS = {
    ("-k", "5", "--missing", "mean"): "--missing mean with no --missing-value",
    ("-k", "5", "--missing-value", "-1"): "add --missing mean or --missing zero",
    ("-k", "5", "--energy", ".5"): "-k 5 and --energy 0.5 both choose the rank; drop --energy or use -k auto",
    ("--energy", ".5", "--error", ".2"): "--energy 0.5 and --error 0.2 both choose the rank",
    ("-k", "500"): "-k 500 is not in the allowed range 1..6",
    ("-k", "x"): "give an integer in it, or -k auto",
    ("-k", "3", "--tol", "7"): "--tol 7.0 is not in",
    ("-k", "3", "--memory", "1kB"): "raise --memory to ",
    ("-k", "3", "--device", "gpu"): "use --device cpu",
    ("-k", "3", "--device", "tpu"): "'tpu' is not one of 'auto', 'cpu', 'gpu'; see --help",
    ("-k", "3", "--max-passes", "0"): "--max-passes 0 is not an integer >= 1",
    ("-k", "3", "--method", "gram", "--max-passes", "1"): "allow --max-passes 2, or use --method krylov",
    ("-k", "3", "--method", "tall_skinny", "--stop", "error"): "--stop error ends an iteration",
    ("-k", "3", "--iterator", "QR"): "--iterator QR with --method auto, which has no such parameter",
    ("-k", "3", "--no-compute"): "--no-compute with --method auto",
    ("-k", "3", "--method", "compressed", "--deadline", "2"): "drop --deadline",
    ("-k", "auto", "--method", "tall_skinny"): "give -k, or use --method krylov",
    ("--max-bytes", "3"): "--max-bytes 3 holds no triplet",
    ("-k", "3", "--method", "gram", "--warm-start", "w"): "--warm-start w with --method gram",
    ("-k", "3", "--stage", ""): "--stage '' is not a path",
    ("-k", "3", "--seed", "-1"): "--seed -1 is not an integer >= 0",
    (): "no rank was asked for; give -k K, or one of --energy, --error, --max-bytes",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spelling") / "data.zarr"
    zarr.create_array(path, data=np.ones((20, 6), "int8"), chunks=(5, 6))
    return path


@pytest.mark.parametrize("options", ERRORS)
def test_errors_of_a_request_speak_as_the_command_line(data: Path, options: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(main, ["svd", str(data), str(data.with_name("out")), *options])
    assert ended.exit_code == 2
    assert ERRORS[options] in ended.stderr


def test_an_output_that_exists_is_overwritten_by_a_flag(data: Path) -> None:
    data.with_name("there").mkdir()
    (data.with_name("there") / "zarr.json").write_text("{}")
    ended = CliRunner().invoke(main, ["svd", str(data), str(data.with_name("there")), "-k", "2"])
    assert ended.exit_code == 2
    assert "use --overwrite" in ended.stderr
