"""One random decomposition as a value, and whether what bigsvd says of it is true.

The matrix is made from the case alone, its statistics are taken in extended precision, its singular values
by LAPACK in float64. What the certificate, the counts and the factors claim is then held against these.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.trust_layout import Laid, Layout, attributes, numbers, write
from bigsvd.errors import BigsvdError, NonFiniteError
from bigsvd.events import unheard
from bigsvd.execution.placement import nominal_plan
from bigsvd.planning.plan import Plan
from bigsvd.request import Request
from bigsvd.results.factors import Factors
from bigsvd.solve import make_request, run
from bigsvd.sources.open import open_source
from bigsvd.sources.vectors import name_vectors
from bigsvd.verify import verify

DTYPES = ("int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64")
SPECTRA = ("noise", "slow", "geometric", "low rank", "clustered", "flat")
STORES = ("numpy", "zarr 3", "zarr 2", "sharded", "dask")
METHODS = ("auto", "krylov", "gram", "tall_skinny", "compressed")
# What float64 sums, float32 products and LAPACK's own rounding may differ by.
_MEAN_SLACK = 1e-11
_SCALE_SLACK = 1e-8
_CONSTANT_ROUNDINGS = 64
_BORDER = 8.0
_MOST_OF_FAR = 1e-12
OF_TOTALS = "normalize_total:100"
ALLELES = {"patterson": 1, "binom2": 2}  # by what p(1-p) is multiplied
_WIDER = {"int8": "int16", "uint8": "int16", "int16": "int32", "int32": "int64", "float16": "float32"}
# What is applied to entries, as NumPy has it; the totals of samples are of their observed entries.
_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "asinh": np.arcsinh,
    "anscombe": lambda values: 2 * np.sqrt(values + 0.375),
    "clip:-2:50": lambda values: np.clip(values, -2, 50),
    "binarize:1": lambda values: (values > 1).astype(np.float64),
    OF_TOTALS: lambda values: np.nan_to_num(100 * values / values.sum(axis=1, keepdims=True)),
}
OF_ALL = ("asinh", "clip:-2:50", "binarize:1")  # the others are of numbers that are not negative
OF_COUNTS = tuple(_FUNCTIONS)


@dataclass(frozen=True)
class Case:
    """What is decomposed, and how.

    Attributes:
        shape: samples and features that are decomposed. chunks: of the stored data, by samples and each axis
            of features. dtype, store: of the stored data. spectrum: of the numbers before they are stored.
        level: magnitude of the column means. constant: constant columns.
        gaps: share of missing entries. gappy: "scattered", "top" (the first half of the rows has none
            observed in some columns), "column" (one column is all missing; it alone, where no rule for
            missing entries is given).
        sentinel: what stands for a missing entry: "nan", or the least or greatest value of the type.
        scale: as in a request; "given": by drawn numbers; entries are numbers of alleles where it is one of
            `ALLELES`. ddof: of deviations. offset: whether drawn numbers are subtracted instead of means.
        weights, row_weights: "": none; "positive"; "zeros": some of them are 0.
        tiles: whether panels are read in tiles, as where memory is short.
        verified: whether `verify` is asked too.
        seed: of the entries.
        layout: how samples and features lie in the data, and what stored entries stand for.
        functions: what is done to entries, of `OF_COUNTS`.

    """

    shape: tuple[int, int]
    chunks: tuple[int, ...]
    dtype: str
    store: str
    spectrum: str
    level: float
    constant: int
    gaps: float
    gappy: str
    sentinel: str
    missing: Literal["none", "mean", "zero"]
    center: bool
    scale: bool | str
    method: Literal["auto", "krylov", "gram", "tall_skinny", "compressed"]
    k: int
    tol: float
    tiles: bool
    verified: bool
    seed: int
    ddof: int = 0
    offset: bool = False
    weights: str = ""
    row_weights: str = ""
    layout: Layout = field(default_factory=Layout)
    functions: tuple[str, ...] = ()

    @property
    def drops(self) -> bool:
        """Whether a column is missing throughout, and no rule given, as what marks gaps by itself lets it."""
        marks_gaps = self.layout.described or bool(self.layout.parts) or self.sentinel == "nan"
        asked = self.missing == "none" and self.gappy == "column" and self.gaps > 0
        return asked and marks_gaps and self.shape[1] > 1

    @property
    def leaves_out(self) -> bool:
        """Whether columns that are missing throughout are no part of the matrix."""
        return self.drops or self.missing == "mean"

    @property
    def laid(self) -> Laid:
        """How the matrix lies in the data."""
        return Laid.of(self.layout, self.shape, self.seed)

    @property
    def reading(self) -> dict[str, Any]:
        """The options that say of which axes and lines of the data the matrix is."""
        return self.laid.reading(named=self.store in ("zarr 3", "sharded"))

    @property
    def own_scale(self) -> bool:
        """Whether columns are divided by deviations of their own."""
        return self.scale not in (False, "given")

    @property
    def vectors(self) -> dict[str, np.ndarray]:
        """What is given beside the matrix, by option."""
        rng, (m, n) = np.random.default_rng([self.seed, 1]), self.shape
        drawn = {
            "offset": self.level * rng.uniform(0.5, 1.5, n) + rng.standard_normal(n),
            "scale": rng.uniform(0.5, 2.0, n),
            "weights": rng.uniform(0.1, 2.0, n) * (rng.random(n) > 0.2 * (self.weights == "zeros")),
            "row_weights": rng.uniform(0.1, 2.0, m) * (rng.random(m) > 0.2 * (self.row_weights == "zeros")),
        }
        asked = {
            "offset": self.offset, "scale": self.scale == "given", "weights": bool(self.weights),
            "row_weights": bool(self.row_weights),
        }  # fmt: skip
        return {name: values for name, values in drawn.items() if asked[name]}


@dataclass(frozen=True)
class Exact:
    """What is true of a case: B as it is decomposed (rows, columns) and its singular values, both float64.

    Attributes:
        seen: (n,) which features are of the matrix: all but those that are left out, which are 0 in B.
        mean, divisor: (n,) of the features, longdouble. constant: which features are; unsure: which of them
            are so nearly constant that either answer is right.

    """

    seen: np.ndarray
    B: np.ndarray
    sigma: np.ndarray
    mean: np.ndarray
    divisor: np.ndarray
    missing: int
    constant: np.ndarray
    unsure: np.ndarray
    empty: int


def stored(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The entries of samples and features as they are stored (m, n), and which of them are missing."""
    rng = np.random.default_rng(case.seed)
    n = case.shape[1]
    drawn = _numbers(rng, case)
    if case.scale in ALLELES:
        drawn = np.rint(np.clip(1 + drawn, 0, 2))
    drawn += case.level * rng.uniform(0.5, 1.5, n) * rng.choice([-1, 1], n)
    flat = rng.permutation(n)[: case.constant]
    drawn[:, flat] = drawn[0, flat]
    missing = _missing(rng, case)
    dtype = np.dtype(case.dtype)
    if dtype.kind == "f":
        limit = float(np.finfo(dtype).max) / 4
        entries = np.clip(drawn, -limit, limit).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        steps = 1 if case.scale in ALLELES else 5
        entries = np.clip(np.rint(steps * drawn), limits.min + 1, limits.max - 1).astype(dtype)
    whole_sums = case.layout.parts > 0 and dtype.kind != "f"
    if not set(case.functions) <= set(OF_ALL) or (whole_sums and case.scale not in ALLELES):
        entries = entries // 2 + 1 if dtype.kind == "u" else np.abs(entries // 2)  # no sentinel
    entries[missing] = sentinel(case)
    if case.layout.valid:
        entries[missing & (rng.random(case.shape) < 0.5)] = _invalid(case)
    return entries, missing


def in_parts(case: Case, entries: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Parts (m, n, p) of entries, whose sums they are; of those that are missing one part is."""
    rng = np.random.default_rng([case.seed, 3])
    rest, found = np.where(missing, 0, entries), []
    for _ in range(case.layout.parts - 1):
        share = rng.uniform(0, 1, case.shape)
        found.append(
            (share * rest if entries.dtype.kind == "f" else np.rint(share * rest)).astype(rest.dtype)
        )
        rest = rest - found[-1]
    parts = np.stack([*found, rest], axis=2)
    gone = rng.integers(case.layout.parts, size=case.shape)
    marks = entries if case.layout.filled or entries.dtype.kind == "f" else np.full_like(entries, -1)
    parts[(*np.nonzero(missing), gone[missing])] = marks[missing]
    return parts


def _summed(case: Case, entries: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """The entries as they are stored, or the sums of their parts, in the type that these are summed in."""
    if not case.layout.parts:
        return entries
    parts = in_parts(case, entries, missing)
    with np.errstate(over="ignore", invalid="ignore"):  # of parts that are missing
        return np.asarray(parts.sum(axis=2, dtype=_WIDER.get(case.dtype, case.dtype)))


def limits_of(case: Case) -> tuple[Any, Any]:
    """The least and the most that an entry with a value is, as it is stored."""
    dtype = np.dtype(case.dtype)
    if dtype.kind == "f":
        limit = float(np.finfo(dtype).max) / 4
        return -limit, limit
    return int(np.iinfo(dtype).min) + 1, int(np.iinfo(dtype).max) - 1


def _invalid(case: Case) -> Any:
    """A stored value beyond the limits that is not the sentinel."""
    dtype = np.dtype(case.dtype)
    if dtype.kind == "f":
        return float(np.finfo(dtype).max) / 2
    return np.iinfo(dtype).max if case.sentinel == "least" else np.iinfo(dtype).min


def sentinel(case: Case) -> Any:
    """The stored value that stands for a missing entry; no other entry has it."""
    dtype = np.dtype(case.dtype)
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        return int(limits.min if case.sentinel == "least" else limits.max)
    values = {"nan": np.nan, "least": float(np.finfo(dtype).min), "greatest": float(np.finfo(dtype).max)}
    return values[case.sentinel]


def _numbers(rng: np.random.Generator, case: Case) -> np.ndarray:
    m, n = case.shape
    r = min(m, n)
    if case.spectrum == "noise":
        return rng.standard_normal((m, n))
    sigma = {
        "slow": (1.0 + np.arange(r)) ** -0.5,
        "geometric": 10.0 ** (-12 * np.arange(r) / max(1, r - 1)),
        "low rank": np.where(np.arange(r) < 3, 1.0, 0.0),
        "clustered": np.where(np.arange(r) < 4, 1.0, 0.5),
        "flat": np.ones(r),
    }[case.spectrum]
    U = np.linalg.qr(rng.standard_normal((m, r)))[0]
    V = np.linalg.qr(rng.standard_normal((n, r)))[0]
    return np.asarray((U * sigma * np.sqrt(m)) @ V.T)


def _missing(rng: np.random.Generator, case: Case) -> np.ndarray:
    missing = rng.random(case.shape) < case.gaps
    if case.missing == "none" or case.gaps == 0:
        missing = np.zeros(case.shape, dtype=bool)
        missing[:, case.shape[1] // 2] = case.drops
        return missing
    if case.gappy == "top":
        missing[: case.shape[0] // 2, :: max(1, case.shape[1] // 3)] = True
    if case.gappy == "column":
        missing[:, case.shape[1] // 2] = True
    return missing


def exact(case: Case, entries: np.ndarray, missing: np.ndarray) -> Exact:
    """The truth about a case.

    Columns are first shifted by one of their own entries, which is exact: longdouble alone would lose the
    digits that a mean of 1e9 takes.
    """
    gone = np.zeros_like(missing) if case.missing == "zero" else missing
    values = _changed(case, numbers(case.layout, _summed(case, entries, missing)), missing)
    base = np.where(gone, -np.inf, values).max(axis=0)
    base = np.where(np.isfinite(base), base, np.longdouble(0))
    residue = np.where(gone, np.longdouble(0), values - base)
    observed = case.shape[0] - gone.sum(axis=0)
    step = residue.sum(axis=0) / np.maximum(observed, 1)
    residue = np.where(gone, np.longdouble(0), residue - step)
    squares, vectors = (residue * residue).sum(axis=0), case.vectors
    deviation = np.sqrt(squares / case.shape[0])
    limit = _CONSTANT_ROUNDINGS * np.finfo(np.float64).eps * np.abs(base + step)
    constant = deviation <= limit
    unsure = (deviation > limit / _BORDER) & (deviation < limit * _BORDER)
    averaged = observed if case.scale == "std-observed" else case.shape[0]
    spread = np.sqrt(squares / np.maximum(averaged - case.ddof, 1))
    divisor = np.where(constant, np.longdouble(1), spread)
    if case.scale in ALLELES:
        frequency = (base + step) / 2
        variance = ALLELES[str(case.scale)] * frequency * (1 - frequency)
        divisor = np.where(variance > 0, np.sqrt(np.maximum(variance, 0)), np.longdouble(1))
    rest = 0 if case.center else (base - vectors.get("offset", 0)) + step
    B = np.where(gone, rest, residue + rest)
    if case.own_scale:
        B = B / divisor
    B = B / vectors.get("scale", 1) * vectors.get("weights", 1)
    seen = np.logical_not(missing.all(axis=0) & case.leaves_out)
    B = np.where(seen, B, 0)
    wide = (B * np.reshape(vectors.get("row_weights", 1), (-1, 1))).astype(np.float64)
    wide = case.layout.oriented(wide)
    sigma = np.linalg.svd(wide, compute_uv=False)
    empty = int(np.count_nonzero(observed == 0))
    return Exact(
        seen, wide, sigma, base + step, divisor, int(missing.sum()), constant & seen, unsure & seen, empty
    )


def _changed(case: Case, values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """What functions make of the numbers, each in float64, whose rounding is part of what they are.

    Missing ones are 0 after each.
    """
    values = np.where(missing, 0, values)
    for function in case.functions:
        with np.errstate(invalid="ignore"):  # the shares of a sample that has nothing
            made = _FUNCTIONS[function](values.astype(np.float64)).astype(np.longdouble)
        values = np.where(missing, 0, made)
    return values


def given(case: Case, entries: np.ndarray, missing: np.ndarray, folder: Path) -> Any:
    """The data as a user would hand them over."""
    whole = in_parts(case, entries, missing) if case.layout.parts else entries
    array = case.laid.array(whole, _in_other_lines(entries.dtype))
    if case.store == "numpy":
        return array
    if case.store == "dask":
        import dask.array as da  # noqa: PLC0415 - only where it is asked for

        return da.from_array(array, chunks=(*case.layout.along_axes(case.chunks), -1)[: array.ndim])
    described = attributes(case.layout, sentinel(case), limits_of(case))
    return write(folder, array, case.layout, case.store, case.chunks, described)


def _in_other_lines(dtype: np.dtype[Any]) -> Any:
    """What stands in the lines that are left out: what would be noticed if it were taken for a number."""
    return np.nan if dtype.kind == "f" else np.iinfo(dtype).max


def decompose(case: Case, data: Any, out: str | None) -> Factors:
    """The run that the case asks for."""
    source = open_source(data, **case.reading)
    options: dict[str, Any] = {"tol": case.tol, "method": case.method, "center": case.center}
    options |= {"scale": case.scale, "ddof": case.ddof, "seed": case.seed % 1000, "missing": case.missing}
    options["functions"] = case.functions
    if case.missing != "none" and not case.layout.described and not case.layout.parts:
        options["missing_value"] = sentinel(case)
    options |= handed_over(case) | case.reading
    vectors = name_vectors(options)
    request = make_request(source, case.k, out, **options)
    plan = _tiled(request, source) if case.tiles else None
    return run(request, source, vectors=vectors, plan=plan)


def handed_over(case: Case) -> dict[str, np.ndarray]:
    """The vectors as they are given beside the data, by option."""
    return {
        name: case.laid.vector(values, int(name != "row_weights"), (case.seed + i) % 3)
        for i, (name, values) in enumerate(case.vectors.items())
    }


def _tiled(request: Request, source: Any) -> Plan | None:
    """The plan with its panels cut into tiles, as it would be with too little memory for whole rows."""
    plan = nominal_plan(request, source.facts)
    width = source.facts.chunks[0] if plan.transposed else source.facts.chunks[1]
    if plan.method != "krylov" or width >= plan.cols:
        return None
    by_rows = plan.transposed != (source.facts.features_axis == 0)
    reads = 3 if by_rows and request.standardized else 2
    return replace(plan, tile_cols=width, reads_per_pass=reads, sample=())


def findings(case: Case, folder: Path) -> list[str]:
    """What of the outcome is not true; empty where all is."""
    entries, missing = stored(case)
    truth = exact(case, entries, missing)
    data = given(case, entries, missing, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            factors = decompose(case, data, str(folder / "out") if case.verified else None)
        except BigsvdError as error:
            nothing = case.leaves_out and missing.all() and isinstance(error, NonFiniteError)
            return [] if nothing else [f"refused: {error}"]
        if case.leaves_out and missing.all():
            return ["nothing is left of the matrix, and that is not said"]
        found = [*_about_lines(case, truth, factors), *_about_counts(case, truth, factors)]
        found += _about_triplets(case, truth, factors)
        if case.verified:
            found += verify(factors, open_source(data, **_to_verify(case)), unheard).findings
    return found


def _to_verify(case: Case) -> dict[str, Any]:
    """How the data are opened for `verify`, which knows by itself which lines of all the factors are of."""
    return {
        name: value
        for name, value in case.reading.items()
        if case.seed % 2 or name in ("samples", "dim", "sum")
    }


def _about_lines(case: Case, truth: Exact, factors: Factors) -> list[str]:
    found = []
    if case.center:
        error = np.abs(factors.mean - truth.mean) - 16 * np.spacing(np.abs(truth.mean).astype(np.float64))
        off = error > _MEAN_SLACK * np.maximum(truth.divisor, np.abs(truth.mean) * 1e-3)
        if np.any(off & truth.seen):
            found.append(f"a mean is off by {float(error.max()):.2e}")
    for name, values in case.vectors.items():
        stored_as = {"offset": "mean"}.get(name, name)
        if not np.array_equal(getattr(factors, stored_as), values):
            found.append(f"{name} is not stored as it was given")
    if case.own_scale:
        error = np.abs(factors.scale - truth.divisor) / truth.divisor
        worst = float(np.max(error, where=truth.seen & ~truth.unsure, initial=0))
        if worst > _SCALE_SLACK:
            found.append(f"a divisor is off by {worst:.2e} of itself")
    return found


def _about_counts(case: Case, truth: Exact, factors: Factors) -> list[str]:
    counts = factors.certificate.counts
    if counts is None:
        return ["the certificate has no counts"]
    wanted = {"missing": truth.missing, "entries": truth.B.size, "filled_chunks": 0}
    if case.leaves_out:
        wanted["empty"] = truth.empty
    standardized = case.center or case.own_scale or case.missing == "mean"
    if standardized and not truth.unsure.any():
        wanted["constant"] = int(truth.constant.sum())
    said = {name: getattr(counts, name) for name in wanted}
    return [] if said == wanted else [f"counted {said}, there are {wanted}"]


def _about_triplets(case: Case, truth: Exact, factors: Factors) -> list[str]:
    """Orthonormality, residuals, singular values, relative error, reconstruction."""
    if case.own_scale and truth.unsure.any():
        return []
    c, B, s = factors.certificate, truth.B, factors.s
    U = np.asarray(factors.U[:], dtype=np.float64)
    V = np.asarray(factors.Vt[:], dtype=np.float64).T
    eps = float(np.finfo(factors.dtype).eps)
    found = []
    slack = 1e-5 if eps > 1e-10 else 1e-10
    drift = max(np.max(np.abs(Q.T @ Q - np.eye(s.size))) for Q in (U, V))
    if drift > slack:
        found.append(f"a factor is off orthonormality by {drift:.1e}")
    norm = float(np.linalg.norm(B))
    if norm == 0 or s[0] == 0:
        nothing = norm == 0 or (case.center and np.all(truth.constant | ~truth.seen))  # but for rounding
        right = nothing and np.all(s == 0)
        return found if right else [*found, f"sigma_1 {s[0]:g} of a matrix of norm {norm:g}"]
    # What is certified is the matrix with the published divisors, whose own error `_about_lines` judges.
    spread = 0.0
    if case.own_scale:
        error = np.abs(factors.scale - truth.divisor) / truth.divisor
        spread = float(np.max(error, where=truth.seen, initial=0))
    # Totals of samples are rounded by the order in which they are summed, and shares of them with these.
    far = _rounding_of_far_numbers(truth) if OF_TOTALS in case.functions else 0.0
    rounding = (64 * eps + spread + far) * norm / np.maximum(s, 1e-300)
    residuals = np.maximum(np.linalg.norm(B @ V - U * s, axis=0), np.linalg.norm(B.T @ U - V * s, axis=0)) / s
    if np.any(residuals > 1.05 * np.asarray(c.residuals) + rounding):
        found.append(f"residuals {residuals} where {c.residuals} are promised")
    nearest = np.min(np.abs(truth.sigma[None, :] - s[:, None]), axis=1) / s
    if np.any(nearest > np.asarray(c.sigma_bounds) + rounding):
        found.append(
            f"no singular value within {c.sigma_bounds} of {s}, they are {truth.sigma[: s.size + 2]}"
        )
    off = np.abs(truth.sigma[: s.size] - s) / s
    asked = np.maximum(case.tol, c.sigma_bounds)  # which rounding may have kept from the tolerance
    if c.converged and np.any(off > asked + rounding):
        found.append(f"converged to {s}, the leading ones are {truth.sigma[: s.size]}")
    error = float(np.linalg.norm(B - (U * s) @ V.T)) / norm
    allowed = 64 * eps + spread + _rounding_of_far_numbers(truth) + c.relative_error_floor**2
    if abs(error**2 - c.relative_error**2) > allowed:
        found.append(f"relative error {c.relative_error:.6g}, it is {error:.6g}")
    regions = _about_regions(case, truth.seen, factors, U, V)
    return [*found, *_about_components(case, truth.seen, factors, U, V), *regions]


def _rounding_of_far_numbers(truth: Exact) -> float:
    """That of means far from 0 beside how much their columns vary, and so of the norm; never much."""
    mean = np.max(np.abs(truth.mean), where=truth.seen, initial=0)
    rms = np.linalg.norm(truth.B) / truth.B.size**0.5
    return float(min(4 * np.finfo(np.float64).eps * mean / max(rms, 1e-300), _MOST_OF_FAR))


def _about_components(
    case: Case, seen: np.ndarray, factors: Factors, U: np.ndarray, V: np.ndarray
) -> list[str]:
    """Whether scores are of the samples and components of the features, along the axes that these have."""
    of_samples, of_features = case.layout.oriented((U, V))
    _, ids = case.laid.ids
    _, features = case.laid.whole
    wanted = np.full((factors.k, features), np.nan)
    wanted[:, ids] = np.where(seen, of_features.T, np.nan)
    wanted = wanted.reshape(factors.k, *(case.layout.sides or (features,)))
    found = []
    if not np.array_equal(factors.components, wanted, equal_nan=True):
        found.append("the components are not those of the features")
    if not np.array_equal(factors.scores, of_samples * factors.s):
        found.append("the scores are not those of the samples")
    return found


def _about_regions(case: Case, seen: np.ndarray, factors: Factors, U: np.ndarray, V: np.ndarray) -> list[str]:
    """Whether a region is U·diag(s)·Vt in the data's own units, NaN where nothing was taken."""
    wanted = case.layout.oriented((U * factors.s) @ V.T)
    largest = float(factors.s[0])
    for weights, axis in ((factors.weights, 0), (factors.row_weights, 1)):
        if weights is not None:
            known = np.where(weights == 0, np.nan, weights)
            wanted = wanted / (known if axis == 0 else known[:, np.newaxis])
            largest /= float(np.nanmin(known)) if np.any(weights) else 1.0
    wanted = wanted if factors.scale is None else wanted * factors.scale
    wanted = wanted if factors.mean is None else wanted + factors.mean
    wanted = np.where(seen, wanted, np.nan)
    first = int(case.layout.oriented(case.laid.ids)[0][0])
    rows = slice(first, first + 7)
    found, wanted = factors[rows], case.laid.matrix(wanted, np.nan)[rows]
    if not np.array_equal(np.isnan(found), np.isnan(wanted)):
        return ["a region has other gaps than where weights are 0 and lines were left out"]
    size = float(np.nanmax(np.abs(wanted), initial=0.0)) + largest
    if factors.mean is not None:  # which entries may cancel
        size += float(np.nanmax(np.abs(factors.mean), initial=0.0))
    worst = float(np.nanmax(np.abs(found - wanted), initial=0.0))
    if worst > 1e3 * float(np.finfo(factors.dtype).eps) * size:
        return [f"a region of the reconstruction is off by {worst:.2e}"]
    return []
