"""`Request`: what is asked, as one frozen value with a JSON form.

The same value carries the command line's flags, an HTTP body and the provenance in a factor store. It is
validated when it is made; what depends on the source (``k <= min(m, n)``) is checked by the planner.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from bigsvd.errors import RankError, RequestError

Stop = Literal["residual", "error"]
Method = Literal["auto", "krylov", "gram", "tall_skinny", "compressed"]
Missing = Literal["none", "mean", "zero"]

METHODS = ("auto", "krylov", "gram", "tall_skinny", "compressed")
_CHOICES: dict[str, tuple[str, ...]] = {
    "stop": ("residual", "error"),
    "method": METHODS,
    "device": ("auto", "cpu", "gpu"),
    "missing": ("none", "mean", "zero"),
    "missing_chunks": ("error", "fill"),
    "iterator": ("power", "QR"),
}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_BINARY_UNITS = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40, "pi": 2**50}
_COMPRESSED_ONLY = ("power_iterations", "iterator", "oversampling", "compute")


def parse_bytes(text: str | int | float) -> int:
    """``"1.5GB"``, ``"512MiB"`` or a number -> bytes; `RequestError` for anything else."""
    if isinstance(text, bool):
        raise RequestError(f"{text!r} is not a number of bytes", "give bytes or a size such as 1.5GB")
    if isinstance(text, (int, float)):
        value = float(text)
    else:
        match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgtp]?i?)b?\s*", text.lower())
        unit = (_UNITS | _BINARY_UNITS).get(match[2]) if match else None
        try:
            value = float(match[1]) * unit if match and unit else math.nan
        except ValueError:
            value = math.nan
    if not math.isfinite(value) or value < 1:
        raise RequestError(f"{text!r} is not a number of bytes", "give bytes or a size such as 1.5GB")
    return int(value)


@dataclass(frozen=True)
class Request:
    """What is asked of one decomposition; field names are those of `bigsvd.svd`.

    Attributes:
        source: path or URL of A, or a description of an in-memory array.
        k: number of triplets, or ``"auto"`` for the rank rules (`energy`, `error`, `max_bytes`, else noise).
        out: path of the factor store to publish.
        tol: bound on the worst relative residual (``stop="residual"``) or on the excess of the relative
            reconstruction error over the best possible (``stop="error"``).
        memory: bytes that this machine's part of the run may hold, beyond the bare interpreter.
        deadline: seconds after which no further pass is started.
        missing: what stands in for entries equal to `missing_value` (NaN where that is None).
        missing_chunks: ``"fill"`` accepts absent chunks as the fill value.
        power_iterations, iterator, oversampling, compute: the parameters of Dask's `svd_compressed`.
    """

    source: str
    k: int | Literal["auto"]
    out: str | None = None
    tol: float = 1e-2
    stop: Stop = "residual"
    method: Method = "auto"
    center: bool = False
    scale: bool = False
    device: Literal["auto", "cpu", "gpu"] = "auto"
    memory: int | None = None
    max_passes: int | None = None
    deadline: float | None = None
    seed: int = 0
    overwrite: bool = False
    missing: Missing = "none"
    missing_value: float | None = None
    missing_chunks: Literal["error", "fill"] = "error"
    energy: float | None = None
    error: float | None = None
    max_bytes: int | None = None
    power_iterations: int | None = None
    iterator: Literal["power", "QR"] | None = None
    oversampling: int | None = None
    compute: bool | None = None

    def __post_init__(self) -> None:
        _check_k(self.k)
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed and not (name == "iterator" and value is None):
                raise RequestError(f"{name}={value!r} is not known", f"use one of {', '.join(allowed)}")
        for name in ("center", "scale", "overwrite"):
            if not isinstance(getattr(self, name), bool):
                raise RequestError(f"{name}={getattr(self, name)!r} is not a truth value", "use true or false")
        _check_range("tol", self.tol, 0.0, 1.0)
        _check_range("energy", self.energy, 0.0, 1.0)
        _check_range("error", self.error, 0.0, 1.0)
        _check_range("deadline", self.deadline, 0.0, math.inf)
        _check_integer("max_passes", self.max_passes, 1)
        _check_integer("seed", self.seed, 0)
        _check_integer("power_iterations", self.power_iterations, 0)
        _check_integer("oversampling", self.oversampling, 0)
        for name in ("memory", "max_bytes"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, parse_bytes(getattr(self, name)))
        self._check_combinations()

    def _check_combinations(self) -> None:
        rules = [name for name in ("energy", "error", "max_bytes") if getattr(self, name) is not None]
        if rules and self.k != "auto":
            raise RequestError(f"k={self.k} and {rules[0]} both choose the rank", f"drop {rules[0]} or use k='auto'")
        if len(rules) > 1:
            raise RequestError(f"{' and '.join(rules)} both choose the rank", "give one of them")
        if self.missing_value is not None and self.missing == "none":
            raise RequestError(
                f"missing_value={self.missing_value:g} without a replacement", "add missing='mean' or missing='zero'"
            )
        if self.method != "compressed":
            for name in _COMPRESSED_ONLY:
                if getattr(self, name) is not None:
                    raise RequestError(
                        f"{name} is a parameter of method='compressed', not of {self.method!r}",
                        f"add method='compressed' or drop {name}",
                    )
        if self.method in ("tall_skinny", "compressed") and self.k == "auto":
            raise RequestError(f"method={self.method!r} needs a number k", "give k, or use method='krylov'")

    def to_dict(self) -> dict[str, Any]:
        """The request as JSON values; NaN becomes the string ``"nan"``."""
        values = asdict(self)
        if self.missing_value is not None and math.isnan(self.missing_value):
            values["missing_value"] = "nan"
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Request:
        """The inverse of `to_dict`; `RequestError` names keys that are unknown or lacking."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise RequestError(f"unknown field {unknown[0]!r}", f"known are {', '.join(sorted(known))}")
        lacking = sorted({"source", "k"} - set(values))
        if lacking:
            raise RequestError(f"field {lacking[0]!r} is missing", "give source and k")
        values = dict(values)
        if values.get("missing_value") == "nan":
            values["missing_value"] = math.nan
        return cls(**values)

    def problem(self) -> str:
        """JSON of the fields that fix the mathematics, and so decide whether scratch may be continued."""
        free = ("out", "tol", "stop", "max_passes", "deadline", "overwrite", "memory", "device")
        return json.dumps({name: value for name, value in self.to_dict().items() if name not in free}, sort_keys=True)


def _check_k(k: object) -> None:
    if k == "auto" and isinstance(k, str):
        return
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise RankError(f"k={k!r} is not in the allowed range 1..min(m, n)", "give an integer in it, or 'auto'")


def _check_range(name: str, value: object, low: float, high: float) -> None:
    if value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low < float(value) <= high:  # type: ignore[arg-type]
        raise RequestError(f"{name}={value!r} is not in ({low:g}, {high:g}]", "give a number in that range")


def _check_integer(name: str, value: object, low: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise RequestError(f"{name}={value!r} is not an integer >= {low}", "give one")
