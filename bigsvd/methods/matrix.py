"""What a run knows of the matrix as decomposed: prescaling, means, divisors, norm.

All of it is exact after the first pass. Where means or divisors are along columns of B, that pass worked with
estimates, and `Correction` says how its products relate to those of the exact matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bigsvd.errors import DynamicRangeError, NonFiniteError, RequestError
from bigsvd.execution.pass_spec import PassSpec
from bigsvd.execution.passes import Context, PassResult, run_pass
from bigsvd.orientation import informed
from bigsvd.slabs.census import Census
from bigsvd.slabs.line_gaps import LINE_GAPS
from bigsvd.slabs.moments import ColumnMoments, WeightedSums
from bigsvd.slabs.operator import Kernel
from bigsvd.slabs.second_opinion import Opinion, chosen_columns, disagreements, miscounts, refuse
from bigsvd.slabs.statistics import LINE_SUMS, TOTALS, WEIGHTED_SUMS, StatisticsKernel, TotalsKernel
from bigsvd.slabs.transform import GIVEN, NOTHING, Given, MeansAndDivisors, Transform

# Powers of two that the largest entry may differ by from 1: its square, summed over many, stays far from
# overflow and underflow of the precision. Beyond it all entries are scaled by a power of two.
_SAFE_EXPONENT = {"float32": 33, "float64": 200}
# Of a mean: a deviation that the first estimates find smaller than this part of it is mostly rounding.
_FIRST_EPS = 1e-7
# By which the mean that filled a column may differ from its own: of its deviation; and in roundings, of its
# second part and of the norm.
_FILL_SLACK = 1e-12
_FILL_ROUNDINGS = 4
# Up to which part of ‖B‖²_F lies in what the first means leave, or have filled gaps with, and up to which
# ratio of the first divisors to the exact ones the leading vectors are nearly the same. Chosen, not measured.
_CLOSE_MEANS = 0.01
_CLOSE_DIVISORS = 1.5
_SAME_DIVISOR = 2.0**-48  # relative; as far as two ways to sum the same column may differ


@dataclass(frozen=True)
class Correction:
    """The pass multiplied B0 = R(A − 1μ0ᵀ)D0⁻¹; the matrix is B = (B0 − r·δᵀ)·Γ, r the weights of its rows.

    Attributes:
        delta: (μ − μ0)/D0, (N,). ratio: Γ = D0/D, (N,).
        moment: B0ᵀr, (N,). count: rᵀr, which is M where rows have no weights; then r is 1.
        across: where r lies in scratch; None where it is 1.
        correctable: whether products of B can be had from those of B0 without loss of accuracy.
        alike: whether B0 was B up to rounding: its means, its divisors, and how missing entries were filled.
        close: whether B0 was so near to B that its leading vectors are nearly those of B.

    """

    delta: np.ndarray
    ratio: np.ndarray
    correctable: bool
    alike: bool
    close: bool
    moment: np.ndarray
    count: float
    across: str | None = None

    def adjoint(self, P: np.ndarray, Z: np.ndarray) -> np.ndarray:
        """BᵀB·Γ⁻¹P (N, c) for Z = B0ᵀB0·P."""
        along = self.delta @ P
        Z = Z - np.outer(self.moment, along)
        if self.across is not None:  # else it is 0
            Z = Z - np.outer(self.delta, self.moment @ P - self.count * along)
        return np.asarray(self.ratio[:, None] * Z)


class Matrix:
    """The matrix as decomposed, for one run.

    Attributes:
        dtype: the precision of slabs, of what passes store, and of products. rough: whether products are
            made in the plan's `rough_dtype` instead for now. precisions: that of each pass over all panels.
        transform, given, lines: what passes apply. row_lines: scratch array (3, M) of lines along rows of B,
            if any.
        missing: ids (c,) of the features that are missing throughout, once they are known.
        sample_lines: the same of the rows in the sample, which a look at them makes exact.
        fourth: Σσ⁴/(Σσ²)², where BᵀB itself was summed; else None.
        norm_squared: ‖B‖²_F. known: whether all this is exact.
        census, opinion: counts of the first pass, and what another way gave for some features.
        costs, sample_costs: what each pass over all panels, and over the sample's, took; totals_costs: what
            the one took that only summed samples, if one did.

    """

    def __init__(self, context: Context, transform: Transform, dtype: str, given: Given = NOTHING) -> None:
        self.context = context
        self.transform = replace(transform, given=given.names, level=given.level)
        self.given = given
        self.dtype = dtype
        self.rough = context.plan.rough
        self.precisions: list[str] = []
        self.lines: MeansAndDivisors | None = None
        self.row_lines: str | None = None
        self.missing = np.zeros(0, np.int64)
        self.sample_lines: str | None = None
        self.norm_squared = 0.0
        self.fourth: float | None = None
        self.known = False
        self.census = Census()
        self.opinion = Opinion.nothing(())
        self.costs: list[PassResult] = []
        self.sample_costs: list[PassResult] = []
        self.totals_costs: list[PassResult] = []
        self._leave_given()
        self._keep_in_range(1.0)

    def _leave_given(self) -> None:
        """Write what was given where lanes open it, unless it is there; what is along rows of B by panels."""
        scratch, axis = self.context.scratch, self.transform.axis
        whole = all(scratch.whole(f"{GIVEN}/{name}") for name in self.given.names)
        if not self.given.names or (whole and scratch.recorded(f"{GIVEN}/all") is not None):
            return
        for name in self.given.names:
            values = getattr(self.given, name)
            along_rows = (name == "across") == (axis == 1)
            chunk = self.context.plan.panel_rows if along_rows else values.size
            scratch.create(f"{GIVEN}/{name}", values.shape, (chunk,), "float64")[:] = values
        scratch.record(f"{GIVEN}/all", {})

    @property
    def passes(self) -> int:
        """Passes over all panels made so far."""
        return len(self.costs)

    @property
    def products(self) -> str:
        """The precision of the products of the next pass."""
        return self.context.plan.rough_dtype if self.rough else self.dtype

    @property
    def eps(self) -> float:
        """Unit roundoff of the products that an answer rests on."""
        return float(np.finfo(self.dtype).eps)

    def unresolved(self, first: float, last: float, tol: float) -> bool:
        """Whether float32 rounding of θ = `first` is near `tol` at θ = `last`."""
        return self.dtype == "float32" and 2 * self.eps * first > tol * last

    def next_name(self, kind: str) -> str:
        """Where the next pass lies in scratch; with kind and precision, so that no other is replayed."""
        return f"{kind}-{self.products}-{self.passes:03d}"

    def holds(self, name: str, **operands: np.ndarray) -> bool:
        """Whether scratch has pass `name` with these operands, up to another machine's rounding.

        And with the means and divisors that its lanes were shifted by, if they were.
        """
        scratch = self.context.scratch
        if self.lines is not None and not scratch.whole(f"{name}/lines"):
            return False
        return all(
            scratch.whole(f"{name}/{key}") and _same(scratch.read(f"{name}/{key}"), values)
            for key, values in operands.items()
        )

    def record_cost(self, result: PassResult, *, sample: bool = False) -> None:
        """Book the costs of a pass, without its sums."""
        (self.sample_costs if sample else self.costs).append(replace(result, sums={}))
        if not sample:
            self.precisions.append(self.products)

    def prepare(self, name: str, *, learns: bool = True) -> None:
        """Write what lanes of pass `name` need besides the kernel's operands; `learns`: it has statistics.

        Where a killed run has begun the pass its means and divisors hold: those of a sample that was taken
        again may have other roundings, and lanes that are recorded were shifted by the former.
        """
        scratch, plan = self.context.scratch, self.context.plan
        if plan.sums_apart and not self.transform.totals_apart:
            self._learn_totals()
        if self.lines is not None and scratch.has(f"{name}/lines"):
            self.lines = MeansAndDivisors(*scratch.read(f"{name}/lines"))
        elif self.lines is not None:
            scratch.write(f"{name}/lines", self.lines.stacked())
        if learns and self._learns_rows and not scratch.opens(f"{name}/row-lines"):
            scratch.create(f"{name}/row-lines", (3, plan.rows), (3, plan.panel_rows), "float64")
        if learns and self._learns_gaps_of_rows and not scratch.opens(f"{name}/gone"):
            scratch.create(f"{name}/gone", (1, plan.rows), (1, plan.panel_rows), "uint8")

    def _learn_totals(self) -> None:
        """Sum samples by a pass of its own, and leave their totals where lanes open them."""
        context, axis = self.context, 1 - self.transform.axis
        count = (context.plan.rows, context.plan.cols)[axis]
        spec = PassSpec(
            "totals", (TotalsKernel(count),), self.transform.before_totals, None, None, "float64", None
        )
        result = run_pass(context, spec)
        self.totals_costs.append(replace(result, sums={}))
        if context.scratch.recorded("checksums") is None:
            context.scratch.record("checksums", {"checksums": result.checksums})
        context.scratch.write(f"{GIVEN}/totals", result.sums[TOTALS])
        self.transform = replace(self.transform, totals_apart=True)

    def spec(self, name: str, *kernels: Kernel, sample: bool = False, look: bool = False) -> PassSpec:
        """Pass `name` of the kernels over the matrix as known now, with statistics while it is not known.

        Over the `sample` alone, of which statistics are only made to `look` at it.
        """
        lines_name = f"{name}/lines" if self.lines is not None else None
        row_lines = self.row_lines
        if look or not (self.known or sample):
            kernels = (self._statistics(name, lines_name, sample=sample), *kernels)
        elif not self.known:
            row_lines = self.sample_lines
        return PassSpec(
            name=name,
            kernels=kernels,
            transform=self.transform,
            lines_name=lines_name,
            row_lines_name=row_lines,
            dtype=self.dtype,
            checksums="checksums" if self.known or self.transform.totals_apart else None,
            sample=sample,
            rough=self.rough,
            rows=self._stored_rows(name),
        )

    def _stored_rows(self, name: str) -> tuple[tuple[str, int], ...]:
        """Arrays of pass `name` with what is found along the rows of B, and the axis that these are."""
        arrays = (("y", 0), ("row-lines", 1), ("gone", 1))
        return tuple(
            (f"{name}/{key}", axis) for key, axis in arrays if self.context.scratch.has(f"{name}/{key}")
        )

    @property
    def _learns_rows(self) -> bool:
        """Whether a pass with statistics is to leave the means and divisors of the rows of B in scratch."""
        return self.transform.by_rows and not self.known

    @property
    def _learns_gaps_of_rows(self) -> bool:
        """Whether a pass with statistics is to leave in scratch which rows of B are missing throughout."""
        return self.transform.leaves_out and self.transform.axis == 0 and not self.known

    def _statistics(self, name: str, lines_name: str | None, *, sample: bool) -> StatisticsKernel:
        plan = self.context.plan
        return StatisticsKernel(
            self.transform,
            (plan.rows, plan.cols),
            self._stored,
            lines_name,
            f"{name}/row-lines" if self._learns_rows else None,
            f"{name}/gone" if self._learns_gaps_of_rows else None,
            () if self.known or sample else self._witnesses(),
        )

    def _witnesses(self) -> tuple[int, ...]:
        """Features of which the first pass forms a second opinion; none where it does no statistics."""
        plan, axis, transform = self.context.plan, self.transform.axis, self.transform
        if not transform.standardized and (transform.drops or transform.missing == "none"):
            return ()
        mean = divisor = None
        if self.lines is not None and transform.by_columns:
            mean, divisor = self.lines.mean, self.lines.divisor
        return tuple(chosen_columns((plan.rows, plan.cols)[axis], plan.request.seed, mean, divisor))

    def absorb_sample(self, name: str, result: PassResult, rows: int) -> bool:
        """Take in a look at a sample of `rows` rows; False if it must be repeated with what it has taught."""
        if self.prescale(result.census.peak):
            return False
        if self._learns_rows:
            self.sample_lines = f"{name}/row-lines"
        more = self.context.plan.rows / rows
        if LINE_SUMS not in result.sums:
            self.norm_squared = more * result.census.squares
            return True
        sums = self._line_sums(result.sums[LINE_SUMS], rows)
        self.norm_squared = more * self._squared_norm(sums, result)
        self.lines = self._estimate(sums)
        return not sums.far_shift

    def prescale(self, peak: float) -> bool:
        """Choose 2^e for entries of at most `peak` so that squares neither overflow nor vanish.

        Also for what given vectors make of them; whether anything changed.
        """
        changed = self._prescale_entries(peak)
        if changed and not self.transform.scale:
            peak = 1.0
        return self._keep_in_range(1.0 if self.transform.scale else peak) or changed

    def expect(self, rms: float) -> None:
        """Prescale for entries of B of this size, as other factors have it."""
        self.prescale(rms / self.given.largest_factor)

    def _keep_in_range(self, peak: float) -> bool:
        """Choose what given factors are multiplied by for entries of at most `peak`; whether it changed.

        Factors that differ too much for float32 make the products float64.
        """
        lines = self.given.lines(self.transform, slice(None))
        used = np.ones(1) if lines.factor is None else lines.factor[lines.factor > 0]
        if lines.offset is not None and not self.transform.scale:
            peak = max(peak, float(np.max(np.abs(lines.offset))))
        if not used.size or not 0 < peak < np.inf or not self.transform.scales_by_given:
            return False
        size, spread = float(np.log2(used.max()) + np.log2(peak)), np.log2(used.max()) - np.log2(used.min())
        if abs(size) <= _SAFE_EXPONENT[self.dtype]:
            return False
        if self.dtype == "float32" and spread > _SAFE_EXPONENT["float32"]:
            self.dtype = "float64"
        else:
            self.transform = replace(self.transform, boost=self.transform.boost - round(size))
        return True

    def _prescale_entries(self, peak: float) -> bool:
        if peak <= 0 or abs(np.log2(peak)) <= _SAFE_EXPONENT[self.dtype]:
            return False
        before = self.transform.exponent
        after = int(np.clip(before - int(np.round(np.log2(peak))), -1022, 1022))
        self.transform = replace(self.transform, exponent=after)
        if self.lines is not None:
            self.lines = MeansAndDivisors(*(np.ldexp(part, after - before) for part in self.lines.stacked()))
        return after != before

    def absorb_first_pass(self, name: str, result: PassResult) -> Correction | None:
        """Take in the first pass; None if it must be repeated, prescaled or with better means.

        Raises:
            NonFiniteError: the data has infinite entries, or NaN in a feature that has values too.

        """
        census, scratch = result.census, self.context.scratch
        missing = self._missing_features(name, result)
        self._refuse_nonfinite(census)
        if scratch.recorded("checksums") is None:
            scratch.record("checksums", {"checksums": result.checksums})
        if self.prescale(census.peak):
            return None
        sums = (
            self._line_sums(result.sums[LINE_SUMS], self.context.plan.rows)
            if LINE_SUMS in result.sums
            else None
        )
        if sums is not None and sums.far_shift:
            self.lines = self._estimate(sums)
            return None
        self.known = True
        self.census, self.missing = census, missing
        if not census.missing:
            self.transform = self.transform.settled
        N = self.context.plan.cols
        if scratch.has(f"{name}/row-lines"):
            self.row_lines = f"{name}/row-lines"
        if sums is None:
            self.norm_squared = census.squares
            nothing = np.zeros(N)
            correction = Correction(nothing, np.ones(N), correctable=True, alike=True, close=True,
                                    moment=nothing, count=1.0)  # fmt: skip
        else:
            correction = self._exact_lines(sums, result)
        self.opinion = result.opinion
        self._check_statistics()
        return correction

    def _missing_features(self, name: str, result: PassResult) -> np.ndarray:
        """The ids of the features that a first pass has found missing throughout, (c,); counts the others."""
        if not self.transform.leaves_out:
            return self.missing
        if self.transform.axis == 0:
            return self._missing_rows(name)
        if self.transform.fills_with_mean:
            return np.flatnonzero(result.sums[LINE_SUMS][0] == 0)  # of which nothing was observed
        gone = result.census.add_gaps(result.sums[LINE_GAPS], self.context.plan.rows)
        if not self.transform.standardized:
            result.census.add_lines(np.zeros_like(gone), gone)
        return np.flatnonzero(gone)

    def _missing_rows(self, name: str) -> np.ndarray:
        """Which rows of B a pass has left as missing throughout, panel by panel, being very many."""
        plan, gone = self.context.plan, self.context.scratch.open(f"{name}/gone")
        panels = map(plan.panel, range(plan.panels))
        found = [start + np.flatnonzero(gone[:, start:stop][0]) for start, stop in panels]
        return np.concatenate(found)

    def _check_statistics(self) -> None:
        """Refuse statistics that cannot be told, or are not what another way finds.

        Raises:
            DynamicRangeError: columns that are to be scaled vary too little for float64.
            VerifyError: means, divisors or counts are wrong.

        """
        plan, census = self.context.plan, self.census
        if census.first_no_allele is not None:
            axis, first = self.transform.axis, census.first_no_allele
            raise RequestError(
                f"scale={self.transform.scale!r} is for alleles counted 0, 1 and 2, but {census.no_alleles} "
                f"entries, the first at {self.context.source.where(first[1 - axis], first[axis])}, are not "
                "between 0 and 2",
                "say what means missing by missing='mean' and missing_value, or use another scale",
            )
        if census.first_unfit is not None:
            first_feature = self.named(census.first_unfit)
            raise DynamicRangeError(
                f"{census.unfit} {self.feature}(s), the first of them {first_feature}, vary by so "
                "little beside the largest entry that their squares are 0 in float64",
                "multiply them by a power of ten first: what is scaled does not change",
            )
        if not self.opinion.columns:
            return
        refuse(list(census.doubts))
        refuse(miscounts(self.opinion, census.missing, census.observed, plan.rows * plan.cols))
        lines = self._lines_of(np.array(self.opinion.columns))
        if lines is not None:
            refuse(disagreements(self.opinion, lines[0], lines[1], self.transform))

    def _squared_norm(self, sums: ColumnMoments, result: PassResult) -> float:
        """‖B‖²_F of the rows that a pass has summed."""
        given = self.given.lines(self.transform, slice(None))
        return sums.squared_norm(self.transform, given, self._weighted_sums(sums, result))

    def _weighted_sums(self, sums: ColumnMoments, result: PassResult) -> WeightedSums | None:
        """Those of the rows that a pass has summed, where rows have weights."""
        if WEIGHTED_SUMS not in result.sums:
            return None
        return WeightedSums(sums.high, self._count(sums.length), result.sums[WEIGHTED_SUMS])

    def _count(self, rows: int) -> float:
        """rᵀr for the weights r of the rows of B; that of a sample of as many `rows` is about its share."""
        M = self.context.plan.rows
        return self.given.squares_across(M) * rows / M

    def _line_sums(self, raw_sums: np.ndarray, rows: int) -> ColumnMoments:
        shifts = self.transform.shifts(self._used, self._stored)
        return ColumnMoments.from_stacked(shifts, rows, raw_sums)

    @property
    def _used(self) -> MeansAndDivisors:
        """Those of the columns of B that passes work with as yet."""
        return self.lines or MeansAndDivisors.neutral(self.context.plan.cols)

    @property
    def _stored(self) -> np.dtype[Any]:
        """The type in which entries are stored."""
        return np.dtype(self.context.plan.facts.dtype)

    def _estimate(self, sums: ColumnMoments) -> MeansAndDivisors:
        """Means that serve as shifts; divisors where cancellation left them some digits, else those known."""
        first = sums.lines(self.transform, self.given.lines(self.transform, slice(None)))
        before = self.transform.unit if self.lines is None else self.lines.divisor
        resolved = first.divisor > _FIRST_EPS * np.abs(first.mean)
        divisor = np.where(resolved, first.divisor, before)
        return MeansAndDivisors(first.mean, (first.high - first.mean) + first.low, divisor)

    def _exact_lines(self, sums: ColumnMoments, result: PassResult) -> Correction:
        t, count = self.transform, self._count(sums.length)
        used, given = self._used, self.given.lines(t, slice(None))
        exact = sums.lines(t, given)
        self.census.add_unfit(sums.unfit(t))
        self.census.add_lines(*sums.set_apart(t))
        if t.fills_with_mean:
            self.census.observed = int(sums.observed.sum())
        self.norm_squared = self._squared_norm(sums, result)
        ratio = used.divisor / exact.divisor if t.scale else np.ones_like(used.high)
        delta = moment = np.zeros_like(used.high)
        gain = given.gain(used.divisor if t.scale else 1.0)
        # Of the means: the difference of their rounded sums would lose digits.
        step = (exact.high - used.high) + (exact.low - used.low)
        if t.center:
            delta = step * gain
            moment = count * delta
        weighted = self._weighted_sums(sums, result)
        if t.center and weighted is not None:
            moment = weighted.sums_around((used.high - sums.high) + used.low) * gain
        rounding = _FILL_ROUNDINGS * np.spacing(np.abs(exact.low))
        means_matter = t.center or t.fills_with_mean
        alike = not means_matter or bool(np.all(np.abs(step) <= _FILL_SLACK * sums.deviation + rounding))
        alike = alike and bool(np.all(np.abs(ratio - 1) <= _SAME_DIVISOR))
        gain = given.gain(exact.divisor if t.scale else 1.0)
        filled = float(np.sum((sums.length - sums.observed) * (step * gain) ** 2)) * t.fills_with_mean
        alike = alike and filled <= (_FILL_ROUNDINGS * self.eps) ** 2 * self.norm_squared
        # Of a line without any entry the mean is what it was shifted by, another matrix's after a warm start.
        nothing = 0.0 if given.offset is None else given.offset
        self.lines = replace(exact, high=np.where(sums.observed > 0, exact.high, nothing))
        mean_energy = count * float(np.sum((delta * ratio) ** 2))
        spread = 30.0 if self.dtype == "float32" else 1e3
        correctable = mean_energy <= self.norm_squared and ratio.max() <= spread * ratio.min()
        correctable = correctable and (alike or not t.fills_with_mean)
        wrong = mean_energy + filled
        close = wrong <= _CLOSE_MEANS * self.norm_squared and ratio.max() <= _CLOSE_DIVISORS * ratio.min()
        across = None if self.given.across is None else f"{GIVEN}/across"
        return Correction(delta, ratio, bool(correctable), alike, bool(close), moment, count, across)

    def named(self, feature: int) -> int:
        """The number that a feature has among all of the data."""
        ids = self.context.source.kept[self.transform.axis]
        if ids is None:
            return feature
        return int(ids[feature])

    @property
    def lengths(self) -> tuple[int, int]:
        """See `informed`."""
        facts, given = self.context.plan.facts, self.given
        return informed(facts.shape, facts.features_axis, self.missing, given.factor, given.across)

    @property
    def feature(self) -> str:
        """What a feature is called: a column of A, or a row."""
        return self.context.plan.facts.feature

    def feature_lines(self) -> np.ndarray | None:
        """(mean, divisor) of the features, (2, n) or (2, m), in A's units; None where not learned."""
        lines = self._lines_of(slice(None)) if self.row_lines is None else self._lines_of_panels()
        return None if lines is None else np.ldexp(lines, -self.transform.exponent, out=lines)

    def _lines_of_panels(self) -> np.ndarray:
        """(mean, divisor) of all features, (2, M), prescaled: of a panel at a time, being very many."""
        plan = self.context.plan
        found = np.zeros((2, plan.rows))
        for start, stop in map(plan.panel, range(plan.panels)):
            found[:, start:stop] = self._lines_of(slice(start, stop))
        return found

    def _lines_of(self, columns: np.ndarray | slice) -> np.ndarray | None:
        """(mean, divisor) of some features, (2, c), prescaled; None where neither was used."""
        if not self.transform.standardized:
            return None
        if self.row_lines is not None:
            high, low, divisor = self.context.scratch.open(self.row_lines)[:, columns]
        elif self.lines is not None:
            high, low, divisor = self.lines.stacked()[:, columns]
        else:
            return None
        return np.stack([high + low, divisor])

    def _refuse_nonfinite(self, census: Census) -> None:
        plan = self.context.plan
        source, axis = self.context.source, self.transform.axis
        nothing = self.transform.leaves_out and census.missing == plan.rows * plan.cols
        if nothing and not self.transform.drops:
            raise NonFiniteError(
                f"{source.facts.name} has no entry with a value: all {census.missing:,} are missing",
                "check what means missing, or use missing='zero' to take them as 0",
            )
        if census.first is None and not census.partial and not nothing:
            return
        nans, plus, minus = census.nonfinite
        found = [place for place in (census.first, census.first_missing) if place is not None]
        first, gaps = min(found), ""
        if self.transform.drops:
            nans += census.missing
        if census.first_partial is not None:
            named = self.named(census.first_partial)
            gaps = (
                f"; {census.partial} {self.feature}(s), the first of them {named}, have some values missing "
                "and some not"
            )
        raise NonFiniteError(
            f"{source.facts.name} has {nans} NaN, {plus} +Inf and {minus} -Inf, "
            f"the first at {source.where(first[1 - axis], first[axis])}{gaps}"
            f"{self._after_functions()}",
            self._cure_of_nonfinite(census, {"nan": nans, "inf": plus, "-inf": minus}),
        )

    def _after_functions(self) -> str:
        """What has been done to entries that were then not finite, in words."""
        functions = self.transform.functions
        if not functions:
            return ""
        return f", after {functions}" + (f" ({functions.undefined} give such)" if functions.undefined else "")

    def _cure_of_nonfinite(self, census: Census, counts: dict[str, int]) -> str:
        transform = self.transform
        if transform.functions.undefined and not census.missing:
            return "replace the entries of which it makes such, or leave it out"
        if transform.missing in ("mean", "zero"):
            given = [str(value) for value in transform.sentinels]
            more = [name for name, count in counts.items() if count and name not in given]
            return f"replace them, or if they mean missing too use missing_value=[{', '.join(given + more)}]"
        cure = "replace them, or use missing='mean' or missing='zero' if NaN means missing"
        if not transform.packing.marks_gaps:
            return cure
        gaps = transform.packing.gaps
        return f"{cure} (entries stored as {gaps} have no value by the array's attributes and count as NaN)"


def _same(stored: np.ndarray, values: np.ndarray) -> bool:
    if stored.shape != values.shape:
        return False
    return bool(np.allclose(stored, values, rtol=1e-8, atol=1e-8 * np.max(np.abs(values), initial=0.0)))
