"""`Request`: what is asked, as one frozen value with a JSON form.

The same value carries the command line's flags, an HTTP body and the provenance in a factor store. It is
validated when it is made; what depends on the source (``k <= min(m, n)``) is checked by the planner.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from bigsvd.catalog.table import METHODS, load, option_names, owner_of, runs_on_dask
from bigsvd.errors import RankError, RequestError
from bigsvd.functions import Functions
from bigsvd.sentinels import Number, number_from_json, number_to_json

Stop = Literal["residual", "error", "signal", "estimate"]
Missing = Literal["none", "mean", "zero"]

ROUGH = "bfloat16"  # the precision that a run may begin in
DEVICES = ("auto", "cpu", "gpu")
CHOICES: dict[str, tuple[str, ...]] = {
    "stop": ("residual", "error", "signal", "estimate"),
    "device": DEVICES,
    "precision": ("auto", "float32", ROUGH),
    "missing": ("none", "mean", "zero"),
    "missing_chunks": ("error", "fill"),
}
# What a feature may be divided by of its own; True is "std". Another text names a vector that is given.
GENOTYPE_SCALES = ("patterson", "binom2")
SCALES = ("std", "std-observed", *GENOTYPE_SCALES)
# The fields that may name vectors, and what of A these have a value for each of.
VECTORS = {"offset": "features", "scale": "features", "weights": "features", "row_weights": "samples"}
# The fields that say how the source is to be read.
READING = ("missing_chunks", "decode", "missing", "samples", "dim", "sum", "rows", "cols")
_UNITS = (
    {"": 1}
    | {u: 1000**i for i, u in enumerate("kmgtp", 1)}
    | {f"{u}i": 1024**i for i, u in enumerate("kmgtp", 1)}
)
_MOST_SECONDS = 1e9
_SIZE_FLAGS = re.IGNORECASE | re.ASCII


def parse_bytes(size: str | int | float) -> int:
    """``"1.5GB"``, ``"512MiB"`` or a number -> bytes; `RequestError` for anything else."""
    value: float = math.nan
    size = plain(size)
    if isinstance(size, (int, float)) and not isinstance(size, bool):
        value = size
    elif isinstance(size, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?)\s*([kmgtp]?i?)b?\s*", size, _SIZE_FLAGS)
        unit = _UNITS.get(match[2].lower()) if match else None
        value = float(match[1]) * unit if match and unit else math.nan
    if not 1 <= value < math.inf:
        raise RequestError(f"{size!r} is not a number of bytes", "give bytes or a size such as 1.5GB")
    return round(value)  # 4.1 * 10**6 is a little less than 4.1 million


@dataclass(frozen=True)
class Request:
    """What is asked of one decomposition; field names are those of `bigsvd.svd`.

    Attributes:
        source: path or URL of A, or a description of an in-memory array.
        k: number of triplets, or ``"auto"`` for the rank rules (`energy`, `error`, `max_bytes`, else noise).
        out: path of the factor store to publish.
        tol: bound on the worst relative residual (``stop="residual"``), on that of the triplets above the
            noise (``stop="signal"``), or on the excess of the relative reconstruction error over the best
            possible (``stop="error"``). With ``stop="estimate"`` on the residual of V and s alone (of U and s
            where A is wide), as `Certificate.foretold` has it, usually a read before that is proved.
        memory: bytes that this machine's part of the run may hold, beyond the interpreter and its
            libraries.
        device_memory: bytes of a GPU's own memory that the run may use; four fifths of what is free where it
            is None.
        precision: of products. "float32": never lower than float32, and float64 where data or `tol` need it.
            "bfloat16": rough products first, and those of the last pass, on which the answer and its
            certificate rest, as with "float32"; so a run that is stopped after a rough pass makes one more.
            "auto": that where torch is installed and it is expected to be faster, by measured rates.
        max_passes: most passes of the iteration; a spectrum too steep for BᵀB takes two more to certify, and
            where all data stay on a GPU one more multiplies the long factor.
        deadline: seconds after which no further pass of the iteration is started.
        samples: along which axis means and deviations are taken: "rows", "columns", or the name of a
            dimension of the source. The lines of the other axis are the features.
        dim: the axis of the samples of a source with more axes than two, by name or number; the others are
            stacked to features, in C order.
        sum: the last axis of the source, by name or number, where entries are summed over it first, such as
            the alleles of a genotype; where one is negative there is no sum.
        rows, cols: which rows and columns of the matrix are decomposed: "start:stop" or "start:stop:step", or
            the path of truth values or indices; None for all. What was in memory is named by its digest.
        functions: what is done to every entry of A before anything else, one after the other: texts such as
            "normalize_total:1e4", "log1p", "sqrt", "asinh", "anscombe", "clip:10", "clip:-10:10",
            "binarize:0"; see `functions.KINDS`. One text may hold several, with commas. What is decomposed,
            and reconstructed, is f(A).
        center: whether the mean of each feature is subtracted. offset: name of what is subtracted instead.
        scale: by what features are divided: one of `SCALES` (True is "std"), or the name of a vector.
        ddof: by how much the entries that a deviation is averaged over are fewer: 0 or 1.
        weights, row_weights: names of what features and samples are multiplied by at last. Means and
            deviations are of A, and so do not know them. How vectors may be laid out: see `along_lines`.
        missing: what stands in for missing entries. Features without any other are no part of B, and NaN in
            what is shown: there is no mean of nothing. "zero" alone takes these as 0 too.
        missing_value: the value, or the values, that mean missing; NaN where it is None. They are compared as
            they are stored: rounded to float32 in float32 data, as integers in integer data (unsigned ones
            where `_Unsigned` is decoded).
        decode: whether CF attributes of a Zarr array (`scale_factor`, `add_offset`, `_FillValue`,
            `missing_value`, `valid_min`, `valid_max`, `valid_range`, `_Unsigned`) are applied; without it
            entries are taken as they are stored.
        stage: folder on a disk local to each worker, where panels that do not fit memory are kept decoded.
        warm_start: path of a factor store of similar data (rows changed or appended): the first block.
        missing_chunks: ``"fill"`` accepts absent chunks as the fill value.
        method: "auto", or a name in `catalog.table.METHODS`. method_options: what that method alone can be
            told, an instance of its row's type; None where there is nothing. `Request.of` takes them by name.

    """

    source: str
    k: int | Literal["auto"]
    out: str | None = None
    tol: float = 1e-2
    stop: Stop = "residual"
    method: str = "auto"
    center: bool = False
    scale: bool | str = False
    samples: str = "rows"
    dim: str | int | None = None
    sum: str | int | None = None
    rows: str | None = None
    cols: str | None = None
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    memory: int | None = None
    device_memory: int | None = None
    max_passes: int | None = None
    deadline: float | None = None
    seed: int = 0
    overwrite: bool = False
    stage: str | None = None
    warm_start: str | None = None
    functions: tuple[str, ...] = ()
    offset: str | None = None
    ddof: int = 0
    weights: str | None = None
    row_weights: str | None = None
    missing: Missing = "none"
    missing_value: Number | tuple[Number, ...] | None = None
    decode: bool = True
    missing_chunks: Literal["error", "fill"] = "error"
    energy: float | None = None
    error: float | None = None
    max_bytes: int | None = None
    method_options: Any = None

    @classmethod
    def of(cls, source: str, k: Any, *, method: str = "auto", **given: Any) -> Request:
        """A request by keywords, those of its method's own options among them; `TypeError` for another name.

        An option that is None takes its default.
        """
        known = {field.name for field in fields(cls)}
        own = {name: plain(given.pop(name)) for name in set(given) - known if owner_of(name) is not None}
        unknown = sorted(set(given) - known)
        if unknown:
            message = f"svd() got an unexpected keyword argument {unknown[0]!r}"
            raise TypeError(message)
        options = given.pop("method_options", None)
        if own and options is not None:
            raise RequestError(f"{min(own)} beside method_options", "give one of them")
        return cls(source, k, method=method, method_options=options or _options_of(method, own), **given)

    def by_method(self, name: str) -> Request:
        """The same by another method, with the defaults of its own options."""
        return replace(self, method=name, method_options=None)

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        if isinstance(self.scale, str) and self.scale == SCALES[0]:
            object.__setattr__(self, "scale", True)
        self._check_words()
        self._check_functions()
        self._check_numbers()
        for name in ("memory", "device_memory", "max_bytes"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, parse_bytes(getattr(self, name)))
        self._check_method()
        self._check_combinations()

    def _check_method(self) -> None:
        """The method's own options are of its type: its defaults where none were given."""
        if self.method not in ("auto", *METHODS):
            raise RequestError(
                f"method={self.method!r} is not known", f"use one of auto, {', '.join(METHODS)}"
            )
        if self.method_options is None:
            object.__setattr__(self, "method_options", _options_of(self.method, {}))
        given, own = type(self.method_options), type(_options_of(self.method, {}))
        if given is not own:
            raise RequestError(
                f"method={self.method!r} has no {given.__name__}",
                "give its own, or use Request.by_method",
            )

    def _check_words(self) -> None:
        _check_name("source", self.source)
        if self.out is not None:
            _check_name("out", self.out)
            if "://" in self.out:
                raise RequestError(f"out={self.out!r} is a URL", "give a path that every worker can write")
        for name in ("stage", "warm_start", "rows", "cols"):
            if getattr(self, name) is not None:
                _check_name(name, getattr(self, name))
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise RequestError(f"{name}={value!r} is not known", f"use one of {', '.join(allowed)}")
        for name, value in self.named.items():
            _check_name(name, value)
        for name in ("center", "overwrite", "decode"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise RequestError(f"{name}={value!r} is not a truth value", "use true or false")
        self._check_axes()

    def _check_axes(self) -> None:
        if not isinstance(self.samples, str) or not self.samples:
            raise RequestError(
                f"samples={self.samples!r} is no axis", "use rows, columns, or the name of a dimension"
            )

        for name in ("dim", "sum"):
            value = getattr(self, name)
            named = isinstance(value, str) and value != ""
            if value is not None and not named and (isinstance(value, bool) or not isinstance(value, int)):
                raise RequestError(f"{name}={value!r} is no axis", "give its name or number")
        if self.dim is not None and self.samples != "rows":
            raise RequestError(
                f"dim={self.dim!r} and samples={self.samples!r} both say what the samples are", "give one"
            )

    def _check_functions(self) -> None:
        """Functions are known, and written in one way."""
        given: Any = self.functions or ()
        texts = [text for text in given.split(",") if text] if isinstance(given, str) else given
        if not isinstance(texts, (tuple, list)) or not all(isinstance(text, str) for text in texts):
            raise RequestError(
                f"functions={given!r} are not names", "use such as ['normalize_total:1e4', 'log1p']"
            )
        object.__setattr__(self, "functions", tuple(map(str, Functions.of(texts).each)))

    def _check_numbers(self) -> None:
        _check_k(self.k)
        _check_range("tol", self.tol, 0.0, 1.0)
        check_integer("seed", self.seed, 0)
        for name, high in (("energy", 1.0), ("error", math.nextafter(1.0, 0.0)), ("deadline", _MOST_SECONDS)):
            if getattr(self, name) is not None:
                _check_range(name, getattr(self, name), 0.0, high)
        check_integer("ddof", self.ddof, 0)
        if self.max_passes is not None:
            check_integer("max_passes", self.max_passes, 1)
        if self.missing_value is not None:
            self._check_sentinels()

    def _check_sentinels(self) -> None:
        given: Any = self.missing_value
        values = given if isinstance(given, (tuple, list)) else [given]
        for value in values:
            if not _is_number(value):
                raise RequestError(
                    f"missing_value={given!r} is not a number", "give a number, NaN, or several of them"
                )
        if not values:
            raise RequestError("missing_value is empty", "give a number, NaN, or several of them")
        values = list(map(_same_nan, values))
        object.__setattr__(self, "missing_value", values[0] if len(values) == 1 else tuple(values))

    def _check_combinations(self) -> None:
        rules = [name for name in ("energy", "error", "max_bytes") if getattr(self, name) is not None]
        if rules and self.k != "auto":
            raise RequestError(
                f"k={self.k} and {rules[0]}={getattr(self, rules[0])} both choose the rank",
                f"drop {rules[0]} or use k='auto'",
            )
        if len(rules) > 1:
            both = " and ".join(f"{name}={getattr(self, name)}" for name in rules)
            raise RequestError(f"{both} both choose the rank", "give one of them")
        if self.stop == "estimate" and self.k == "auto":
            raise RequestError("stop='estimate' with k='auto', which needs proved values", "give a number k")
        if self.missing_value is not None and self.missing == "none":
            raise RequestError(
                f"missing_value={self.missing_value} without a replacement",
                "add missing='mean' or missing='zero'",
            )
        if self.precision == ROUGH:
            self._check_rough()
        if self.center and self.offset is not None:
            raise RequestError(
                f"center=True and offset={self.offset!r} both say what is subtracted", "give one of them"
            )
        if self.device_memory is not None and self.device == "cpu":
            raise RequestError(
                f"device_memory={self.device_memory} with device='cpu', which has no memory of its own",
                "drop device_memory",
            )
        if self.ddof and (self.ddof != 1 or not self.own_scale.startswith("std")):
            raise RequestError(
                f"ddof={self.ddof} with scale={self.scale!r}", "use ddof=0, or ddof=1 with scale='std'"
            )
        if self.method != "auto":
            load(self.method).check(self)

    def _check_rough(self) -> None:
        """What rough products, which no answer rests on, cannot be combined with."""
        if self.k == "auto":
            raise RequestError(
                f"precision={ROUGH!r} with k='auto': rank rules take values that no rounding decides",
                "give a number k, or use precision='float32'",
            )
        if self.max_passes == 1:
            raise RequestError(
                f"precision={ROUGH!r} with max_passes=1: the last pass is made in float32",
                "allow max_passes=2, or use precision='float32'",
            )

    def to_dict(self) -> dict[str, Any]:
        """The request as JSON values; a `missing_value` that JSON has no number for becomes a string."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        options, values["functions"] = values.pop("method_options"), list(self.functions)
        if options is not None:
            values |= asdict(options)
        if self.missing_value is not None:
            found = [number_to_json(value) for value in self.sentinels]
            values["missing_value"] = found if len(found) > 1 else found[0]
        return values

    def beyond_defaults(self) -> dict[str, Any]:
        """The JSON values of `to_dict` without source and k, and without what goes without saying."""
        usual = Request.of(self.source, self.k, method=self.method).to_dict() | {"method": "auto"}
        return {name: value for name, value in self.to_dict().items() if value != usual[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Request:
        """The inverse of `to_dict`; `RequestError` names keys that are unknown or lacking."""
        values = {
            name: value for name, value in values.items() if value is not None or owner_of(name) is None
        }
        known = {field.name for field in fields(cls)} - {"method_options"}
        unknown = sorted(name for name in set(values) - known if owner_of(name) is None)
        if unknown:
            raise RequestError(f"unknown field {unknown[0]!r}", f"known are {', '.join(sorted(known))}")
        lacking = sorted({"source", "k"} - set(values))
        if lacking:
            raise RequestError(f"field {lacking[0]!r} is missing", "give source and k")
        given = values.get("missing_value")
        if isinstance(given, (list, tuple)):
            given = tuple(map(number_from_json, given))
        return cls.of(**{**values, "missing_value": number_from_json(given)})

    @property
    def reading(self) -> dict[str, Any]:
        """The fields that say how the source is to be read, by name."""
        return {name: getattr(self, name) for name in READING}

    @property
    def sentinels(self) -> tuple[Number, ...]:
        """The values that mean missing: NaN where none were given, none where nothing is to be filled."""
        if self.missing == "none":
            return ()
        if self.missing_value is None:
            return (math.nan,)
        return self.missing_value if isinstance(self.missing_value, tuple) else (self.missing_value,)

    @property
    def needs_totals(self) -> bool:
        """Whether a function takes the totals of whole samples."""
        return Functions.of(self.functions).by_totals

    @property
    def by_dask(self) -> bool:
        """Whether a method of Dask's own was asked for; not so where the planner is still to choose one."""
        return runs_on_dask(self.method)

    @property
    def own_scale(self) -> str:
        """By what of its own a feature is divided, one of `SCALES`; empty where it is not."""
        if self.scale is True:
            return "std"
        return self.scale if self.scale in SCALES else ""

    @property
    def named(self) -> dict[str, str]:
        """The names of the vectors that are given, by the option."""
        found = {name: getattr(self, name) for name in VECTORS if name != "scale"}
        found = {name: value for name, value in found.items() if value is not None}
        own = isinstance(self.scale, bool) or self.scale in SCALES
        return found if own else found | {"scale": self.scale}

    @property
    def standardized(self) -> bool:
        """Whether entries are shifted or scaled by the mean or deviation of their own feature."""
        return self.center or bool(self.own_scale) or self.missing == "mean"

    def problem(self) -> str:
        """JSON of the fields that fix the mathematics, and so decide whether scratch may be continued."""
        free = (
            "out",
            "tol",
            "stop",
            "max_passes",
            "deadline",
            "overwrite",
            "memory",
            "device",
            "device_memory",
            "stage",
        )
        return json.dumps(
            {name: value for name, value in self.to_dict().items() if name not in free}, sort_keys=True
        )


def _options_of(method: str, given: dict[str, Any]) -> Any:
    """The method's own options; `RequestError` where some are another method's."""
    own = option_names(method)
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if name not in own:
            raise RequestError(
                f"{name}={value!r} with method={method!r}, which has no such parameter",
                f"use method={owner_of(name)!r} or drop {name}",
            )
    options = METHODS[method].options if own else None
    return options and options(**given)


def _check_k(k: object) -> None:
    if k == "auto" and isinstance(k, str):
        return
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise RankError(
            f"k={k!r} is not in the allowed range 1..min(m, n)", "give an integer in it, or k='auto'"
        )


def plain(value: Any) -> Any:
    """A scalar of NumPy, or of another array library, as the Python number it stands for; else as it is.

    Such scalars come from Zarr's fill values, from attributes and from arrays of settings.
    """
    if isinstance(value, (list, tuple)):
        return tuple(map(plain, value))
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return value.item()
    return value


def _same_nan(value: Number) -> Number:
    """A number; NaN as the one object `math.nan`, so that requests which name it are equal."""
    return math.nan if isinstance(value, float) and math.isnan(value) else value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_name(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise RequestError(f"{name}={value!r} is not a path", "give a path or URL")


def _check_range(name: str, value: Any, low: float, high: float) -> None:
    if not _is_number(value) or not low < value <= high:
        raise RequestError(f"{name}={value!r} is not in ({low:g}, {high:g}]", "give a number in that range")


def check_integer(name: str, value: object, low: int) -> None:
    """`RequestError` for what is no integer from `low` on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise RequestError(f"{name}={value!r} is not an integer >= {low}", "give one")
