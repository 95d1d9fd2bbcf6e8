"""A request is validated once, says what is wrong with it, and survives JSON."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigsvd.catalog.options import CompressedOptions
from bigsvd.catalog.table import METHODS
from bigsvd.errors import BadInputError, RankError, RequestError
from bigsvd.request import Request, parse_bytes

VALID: list[dict[str, Any]] = [
    {},
    {"k": "auto"},
    {"out": "u"},
    {"tol": 1.0},
    {"tol": 1e-12},
    {"stop": "error"},
    *({"method": method} for method in METHODS),
    {"center": True, "scale": True},
    {"device": "gpu"},
    {"precision": "float32"},
    {"precision": "bfloat16", "method": "krylov", "max_passes": 2},
    {"memory": 10**9},
    {"memory": "1GB"},
    {"max_passes": 1},
    {"deadline": 0.5},
    {"seed": 2**40},
    {"warm_start": "u"},
    {"warm_start": "u", "method": "krylov"},
    {"overwrite": True},
    {"missing": "mean"},
    {"missing": "zero", "missing_value": -1.0},
    {"missing": "zero", "missing_value": math.nan},
    {"missing": "zero", "missing_value": -math.inf},
    {"missing_chunks": "fill"},
    {"k": "auto", "energy": 0.9},
    {"k": "auto", "error": 0.1},
    {"k": "auto", "max_bytes": "10MB"},
    {"method": "compressed", "power_iterations": 0, "iterator": "QR", "oversampling": 0, "compute": False},
]

INVALID: list[tuple[dict[str, Any], str]] = [
    ({"source": ""}, "source"),
    ({"source": 7}, "source"),
    ({"out": ""}, "out"),
    ({"out": 7}, "out"),
    ({"tol": 0.0}, "tol"),
    ({"tol": 1.5}, "tol"),
    ({"tol": math.nan}, "tol"),
    ({"tol": None}, "tol"),
    ({"tol": "0.1"}, "tol"),
    ({"tol": True}, "tol"),
    ({"stop": "later"}, "stop"),
    ({"precision": "float16"}, "precision"),
    ({"precision": None}, "precision"),
    ({"precision": "bfloat16", "k": "auto"}, "k='auto'"),
    ({"precision": "bfloat16", "max_passes": 1}, "max_passes=1"),
    *(({"precision": "bfloat16", "method": name}, f"method={name!r}") for name in ("gram", "tall_skinny")),
    ({"stop": None}, "stop"),
    ({"method": "lanczos"}, "method"),
    ({"method": ["krylov"]}, "method"),
    ({"center": "yes"}, "center"),
    ({"scale": 1}, "scale"),
    ({"overwrite": None}, "overwrite"),
    ({"device": "tpu"}, "device"),
    ({"memory": "much"}, "much"),
    ({"memory": -1}, "-1"),
    ({"memory": []}, "bytes"),
    ({"max_passes": 0}, "max_passes"),
    ({"max_passes": 1.5}, "max_passes"),
    ({"deadline": 0}, "deadline"),
    ({"deadline": math.inf}, "deadline"),
    ({"seed": -1}, "seed"),
    ({"seed": None}, "seed"),
    ({"missing": "median"}, "missing"),
    ({"missing_value": 0.0}, "missing_value"),
    ({"missing": "mean", "missing_value": "none"}, "missing_value"),
    ({"missing_chunks": "skip"}, "missing_chunks"),
    ({"energy": 0.9}, "energy"),
    ({"k": "auto", "energy": 1.5}, "energy"),
    ({"k": "auto", "error": 0.1, "energy": 0.9}, "energy=0.9 and error=0.1"),
    ({"k": "auto", "max_bytes": "none"}, "none"),
    ({"power_iterations": 2}, "power_iterations"),
    ({"iterator": "QR"}, "iterator"),
    ({"method": "compressed", "iterator": "LU"}, "iterator"),
    ({"method": "compressed", "oversampling": -1}, "oversampling"),
    ({"method": "compressed", "power_iterations": True}, "power_iterations"),
    ({"method": "compressed", "compute": "no"}, "compute"),
    ({"method": "compressed", "k": "auto"}, "k"),
    *(({"method": method, "warm_start": "u"}, "warm_start") for method in METHODS if method != "krylov"),
    ({"method": "tall_skinny", "k": "auto"}, "k"),
]


def make(values: dict[str, Any]) -> Request:
    defaults: dict[str, Any] = {"source": "data.zarr", "k": 3}
    return Request.of(**(defaults | values))


@pytest.mark.parametrize("values", VALID, ids=str)
def test_json_round_trip_is_identical(values: dict[str, Any]) -> None:
    request = make(values)
    text = json.dumps(request.to_dict(), allow_nan=False)
    again = Request.from_dict(json.loads(text))
    assert again.to_dict() == request.to_dict()
    for field in fields(Request):
        before, after = getattr(request, field.name), getattr(again, field.name)
        assert before == after or (math.isnan(before) and math.isnan(after))


@pytest.mark.parametrize(("values", "named"), INVALID, ids=str)
def test_nonsense_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError) as caught:
        make(values)
    assert named in caught.value.message
    assert caught.value.remedy
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("k", [0, -3, 2.0, True, None, "all", "5", [5]])
def test_k_is_a_positive_integer_or_auto(k: Any) -> None:
    with pytest.raises(RankError, match=r"is not in the allowed range 1\.\.min\(m, n\)"):
        make({"k": k})


def test_a_request_is_frozen_and_validated_again_when_replaced() -> None:
    with pytest.raises(RequestError):
        replace(make({}), tol=7.0)


@pytest.mark.parametrize("name", ["source", "k"])
def test_what_must_be_given_is_named(name: str) -> None:
    values = make({}).to_dict()
    del values[name]
    with pytest.raises(RequestError, match=f"field '{name}' is missing"):
        Request.from_dict(values)


def test_unknown_fields_are_named() -> None:
    with pytest.raises(RequestError, match="unknown field 'rank'"):
        Request.from_dict({"source": "data.zarr", "k": 3, "rank": 3})


def test_only_what_changes_the_mathematics_changes_the_problem() -> None:
    request = make({})
    free: dict[str, Any] = {
        "out": "elsewhere",
        "tol": 0.5,
        "stop": "error",
        "max_passes": 3,
        "deadline": 9.0,
        "overwrite": True,
        "memory": 10**9,
        "device": "cpu",
    }
    fixed: dict[str, Any] = {
        "k": 4,
        "seed": 1,
        "center": True,
        "scale": True,
        "method": "gram",
        "source": "x",
    }
    for name, value in free.items():
        assert replace(request, **{name: value}).problem() == request.problem()
    for name, value in fixed.items():
        assert replace(request, **{name: value}).problem() != request.problem()


# Sizes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("1000", 1000),
        ("1kB", 10**3),
        ("1.5GB", 1_500_000_000),
        ("1.5 gb", 1_500_000_000),
        ("4.1MB", 4_100_000),
        ("2g", 2 * 10**9),
        ("512MiB", 512 * 2**20),
        ("1KiB", 1024),
        ("3T", 3 * 10**12),
        ("1PiB", 2**50),
        ("2e9", 2 * 10**9),
        (4096, 4096),
        (1e9, 10**9),
    ],
)
def test_sizes_are_read(text: Any, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "GB", "1XB", "-1", "0", 0, 0.5, -7, "1.2.3MB", "1 2", "nan", math.nan, math.inf, True, None, [1]],
)
def test_what_is_no_size_is_refused(text: Any) -> None:
    with pytest.raises(RequestError, match="is not a number of bytes"):
        parse_bytes(text)


@given(st.integers(1, 10**15))
def test_a_number_of_bytes_is_itself(count: int) -> None:
    assert parse_bytes(count) == parse_bytes(str(count)) == parse_bytes(f"{count}B") == count


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_a_request_error(text: str) -> None:
    try:
        outcome: int | BadInputError = parse_bytes(text)
    except BadInputError as error:
        outcome = error
    if isinstance(outcome, int):
        assert outcome >= 1
    else:
        assert repr(text) in outcome.message
        assert len(str(outcome).splitlines()) == 1


def test_an_output_is_a_path() -> None:
    with pytest.raises(RequestError, match="is a URL"):
        Request("data.zarr", 3, out="s3://bucket/factors")


def test_options_of_a_method_are_given_by_name_or_as_a_value() -> None:
    options = CompressedOptions(power_iterations=2)
    by_name = Request.of("d", 3, method="compressed", power_iterations=2)
    assert Request.of("d", 3, method="compressed", method_options=options) == by_name
    assert by_name.by_method("gram").method_options is None
    with pytest.raises(RequestError, match="power_iterations beside method_options"):
        Request.of("d", 3, method="compressed", power_iterations=2, method_options=options)
    with pytest.raises(RequestError, match="method='gram' has no CompressedOptions"):
        Request.of("d", 3, method="gram", method_options=options)
