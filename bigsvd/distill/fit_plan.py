"""What a fit will read, hold and take, before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bigsvd.distill.basis import Basis
from bigsvd.distill.gaussians import fit_bytes, fit_flops
from bigsvd.distill.mixture import MOST_ROWS
from bigsvd.distill.panels import RowPanels
from bigsvd.distill.plan import SERVICE_BYTES, TORCH_BYTES, by_part
from bigsvd.distill.training import Course
from bigsvd.errors import MemoryBudgetError
from bigsvd.facts import NOMINAL, SourceFacts
from bigsvd.machine.offers import budget_here
from bigsvd.units import human_bytes, round_up

_PANELS_SHARE = 0.4  # of what is left of the budget, that panels being read may take
_HELD_SHARE = 0.3  # of the budget, that rows may take which a network learns from without reading them again


@dataclass(frozen=True)
class FitPlan:
    """How a student is to be fitted.

    Attributes:
        teacher, source: their names. stages: that it will have.
        samples, features, components: of the teacher; all its components are learnt.
        rows_per_panel: that are read at a time. held_bytes: of rows that a network keeps between epochs.
        terms: bytes that are held, by what. budget_bytes: that may be.
        read_bytes: of the data in one pass. passes: over them, at most.
        seconds: that it takes at nominal rates, by part, if every epoch and every size is tried.

    """

    teacher: str
    source: str
    stages: tuple[str, ...]
    samples: int
    features: int
    components: int
    rows_per_panel: int
    held_bytes: int
    terms: dict[str, int]
    budget_bytes: int
    read_bytes: int
    passes: int
    seconds: dict[str, float]

    @property
    def memory_bytes(self) -> int:
        """That are held at the most."""
        return sum(self.terms.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"memory_bytes": self.memory_bytes, "stages": list(self.stages)}

    def check(self) -> None:
        """`MemoryBudgetError` where it does not fit."""
        if self.memory_bytes <= self.budget_bytes:
            return
        raise MemoryBudgetError(
            f"fitting {self.features:,} features by {self.components} components needs "
            f"{human_bytes(self.memory_bytes)} ({self._held}) but the budget is "
            f"{human_bytes(self.budget_bytes)}",
            f"raise memory to {human_bytes(round_up(self.memory_bytes))}, or use fewer components",
        )

    @property
    def _held(self) -> str:
        return ", ".join(f"{term} {human_bytes(size)}" for term, size in self.terms.items())

    @property
    def _reading(self) -> str:
        if self.passes == 1:
            return f"{human_bytes(self.read_bytes)} once"
        return f"{human_bytes(self.read_bytes)}, up to {self.passes} times"

    def __str__(self) -> str:
        return "\n".join(
            [
                f"fit      {self.teacher}: {self.samples:,} samples of {self.features:,} features, "
                f"{self.components} components",
                f"stages   {', '.join(self.stages)}",
                f"reads    {self._reading}, from {self.source}",
                f"holds    {human_bytes(self.memory_bytes)} of {human_bytes(self.budget_bytes)}: "
                f"{self._held}",
                f"takes    about {sum(self.seconds.values()):.2g} s at nominal rates of one core "
                f"({by_part(self.seconds)})",
            ]
        )


def plan_fit(
    teacher: str,
    facts: SourceFacts,
    components: int,
    stages: tuple[str, ...],
    *,
    epochs: int,
    memory: int | None = None,
) -> FitPlan:
    """The plan for a teacher with data of these facts; whether it fits, `FitPlan.check` says."""
    budget = memory or budget_here()
    samples, n = facts.shape[facts.samples_axis], facts.shape[facts.features_axis]
    terms = _whatever_is_read(samples, n, components, stages)
    left = max(0, budget - sum(terms.values()))
    rows = RowPanels.rows_fitting(facts, int(_PANELS_SHARE * left))
    terms |= _panels(facts, rows, components)
    every, held = samples * _row_bytes(n, components), 0
    if "network" in stages:
        held = min(every, max(rows * _row_bytes(n, components), _held(budget, sum(terms.values()))))
        terms |= {"rows to learn from": held, "gaps that are drawn for them": held // 9}
    passes = _passes(stages, epochs, again=held < every)
    learning = _learning(stages, samples, n, components, epochs)
    return FitPlan(
        teacher, facts.name, stages, samples, n, components, rows, held, terms, budget, facts.nbytes, passes,
        {"reading": passes * facts.nbytes * NOMINAL.read_seconds, **learning},
    )  # fmt: skip


def _learning(stages: tuple[str, ...], samples: int, n: int, r: int, epochs: int) -> dict[str, float]:
    """Seconds that each stage takes to learn; the ridge needs none."""
    flops = {
        "mixture": {"float64": fit_flops(min(samples, MOST_ROWS), r)},
        "network": Course(epochs=epochs).flops_for(samples, n, r),
    }
    return {f"the {stage}": _seconds(flops[stage]) for stage in stages if stage in flops}


def _seconds(flops: Mapping[str, float]) -> float:
    """Of products in each type of numbers."""
    return sum(each / NOMINAL.flops_at(dtype, 64) for dtype, each in flops.items())


def _row_bytes(n: int, r: int) -> int:
    """Of a row that a network learns from: numbers, truth values, coordinates."""
    return 9 * n + 8 * r


def _basis_bytes(n: int, r: int) -> int:
    return 8 * n * (2 * r + 4)


def _passes(stages: tuple[str, ...], epochs: int, *, again: bool) -> int:
    """For the noise, to examine a network, and where rows are to be read `again` in each epoch."""
    if "network" not in stages:
        return 1
    return 2 + epochs * again


def _panels(facts: SourceFacts, rows: int, components: int) -> dict[str, int]:
    n = facts.shape[facts.features_axis]
    return {
        "panels being read": RowPanels.bytes_for(facts, rows),
        "what the components leave": rows * (24 * n + 16 * components),
    }


def _whatever_is_read(samples: int, n: int, r: int, stages: tuple[str, ...]) -> dict[str, int]:
    """Bytes that are held however few rows are."""
    terms = {"the basis": _basis_bytes(n, r), "Python and threads": SERVICE_BYTES}
    if "mixture" in stages:
        terms["points that a mixture is fitted to"] = fit_bytes(min(samples, MOST_ROWS), r)
    return terms | (_network(samples, n, r) if "network" in stages else {})


def _held(budget: int, others: int) -> int:
    """Bytes of rows that a network may keep, with their gaps: a share of the budget, if others leave it."""
    return min(int(_HELD_SHARE * budget), 9 * (budget - others) // 10)


def _network(samples: int, n: int, r: int) -> dict[str, int]:
    return {
        "products of components": Basis.products_bytes(n, r),
        "rows being learnt": 3 * 8 * Course.batch * n,
        "rows held out, and weights": Course().bytes_for(samples, r),
        "PyTorch": TORCH_BYTES,
    }
