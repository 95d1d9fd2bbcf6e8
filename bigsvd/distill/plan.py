"""What a prediction will read, hold and take, before anything is read: arithmetic on metadata and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from bigsvd.distill.adapt import NAME as ADAPT
from bigsvd.distill.adapt import adapt_bytes
from bigsvd.distill.panels import RowPanels
from bigsvd.distill.prior import rows_needed
from bigsvd.errors import MemoryBudgetError
from bigsvd.facts import NOMINAL, NOMINAL_ON_GPU, Rates, SourceFacts
from bigsvd.machine.offers import DeviceOffer, budget_here
from bigsvd.units import counted_as, human_bytes, round_up

if TYPE_CHECKING:
    from bigsvd.distill.student import Student

_BATCH_BYTES = 2**25  # of matrices (r, r), one a row and copy, that a thread has in hand; the same
_COPIES = 6  # of those: G, its parts while it is made, its inverse, products
_MOST_ROWS = 4096  # of a batch
_DEVICE_BATCH_BYTES, _DEVICE_BATCH_SHARE = 2**30, 0.5  # of such on a GPU, and of its budget; chosen
_SAMPLE_ROWS = 4096  # on which stages are judged, at most
_SAMPLE_SHARE = 0.25  # of the budget that these may take
# Bytes of an entry of theirs, with its truth value: as it is, and without those that are hidden. A prior is
# learnt from some of them, of which further ones are hidden.
_BYTES_JUDGED, _BYTES_LEARNT = 9 + 10, 10
SERVICE_BYTES = 48 * 2**20  # of Python, NumPy and threads in a run, whatever the data; measured with others
TORCH_BYTES = 300 * 2**20  # by which a process grows that imports torch, and multiplies or trains
_SLACK = 0.18  # what an allocator holds beyond what is asked of it; see `planning.memory`


@dataclass(frozen=True)
class PredictionPlan:
    """How the rows of new data are to be inferred.

    Attributes:
        source, student: their names. stage: which is to infer, or "auto".
        samples, features: of the new data. components: r, that inference uses. k: that are published.
        rows_per_panel: that are read at a time. rows_per_batch: that a thread infers at a time.
        rows_judged: on which stages are judged. rows_judged_at_a_time: of those, on the host.
        threads: that infer at the same time. adapts: whether components may move, and there is memory for it.
        terms: bytes that are held, by what. budget_bytes: that may be.
        device: where rows are inferred. device_terms, device_budget_bytes: the same of its own memory, if it
            has any.
        read_bytes: of the new data, uncompressed. scratch_bytes: on the disk until the factors are written.
        seconds: that it takes at nominal rates, by part.

    """

    source: str
    student: str
    stage: str
    samples: int
    features: int
    components: int
    k: int
    rows_per_panel: int
    rows_per_batch: int
    rows_judged: int
    rows_judged_at_a_time: int
    threads: int
    adapts: bool
    terms: dict[str, int]
    budget_bytes: int
    device: str
    device_terms: dict[str, int]
    device_budget_bytes: int
    read_bytes: int
    scratch_bytes: int
    seconds: dict[str, float]

    @property
    def memory_bytes(self) -> int:
        """That are held at the most."""
        return sum(self.terms.values())

    @property
    def device_bytes(self) -> int:
        """That are held at the most of the device's own memory."""
        return sum(self.device_terms.values())

    @property
    def panels(self) -> int:
        """Number of panels."""
        return -(-self.samples // self.rows_per_panel)

    def sized(self, sizes: Mapping[str, Any]) -> PredictionPlan:
        """The same with other numbers of rows in hand: those that a run began with."""
        return replace(self, **sizes)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        sums = {"memory_bytes": self.memory_bytes, "device_bytes": self.device_bytes}
        return asdict(self) | sums | {"transposed": False}

    def check(self) -> None:
        """`MemoryBudgetError` where it does not fit."""
        if self.device_bytes > self.device_budget_bytes:
            raise MemoryBudgetError(
                f"predicting {self.features:,} features by {self.components} components needs "
                f"{human_bytes(self.device_bytes)} on {self.device}, where the budget is "
                f"{human_bytes(self.device_budget_bytes)}",
                "free memory there, use device='cpu', or fit fewer components",
            )
        if self.memory_bytes <= self.budget_bytes:
            return
        needed = human_bytes(self.memory_bytes)
        raise MemoryBudgetError(
            f"predicting {self.features:,} features by {self.components} components needs {needed} "
            f"({self._greatest}) but the budget is {human_bytes(self.budget_bytes)}",
            f"raise memory to {human_bytes(round_up(self.memory_bytes))}, or fit fewer components",
        )

    @property
    def _greatest(self) -> str:
        """The terms that take most."""
        greatest = sorted(self.terms, key=lambda term: -self.terms[term])[:3]
        return ", ".join(f"{term} {human_bytes(self.terms[term])}" for term in greatest)

    def __str__(self) -> str:
        budget = human_bytes(self.budget_bytes)
        return "\n".join(
            [
                f"predict  {self.source}: {self._shape}",
                f"student  {self.student}: k={self.k} of {self.components} components, {self.stage}",
                f"reads    {human_bytes(self.read_bytes)} {self._how_often}, in {self._panels}",
                f"holds    {human_bytes(self.memory_bytes)} of {budget} ({_listed(self.terms)})",
                f"device   {self._device}",
                f"scratch  {human_bytes(self.scratch_bytes)} on the disk until the factors are written",
                f"takes    about {sum(self.seconds.values()):.2g} s at nominal rates "
                f"({by_part(self.seconds)})",
            ]
        )

    @property
    def _how_often(self) -> str:
        return "once, and once more if components move" if self.adapts else "once"

    @property
    def _shape(self) -> str:
        return f"{self.samples:,} samples of {self.features:,} features"

    @property
    def _panels(self) -> str:
        panels = f"{counted_as(self.panels, 'panel')} of {self.rows_per_panel:,} samples"
        return f"{panels}; before that {self.rows_judged:,} samples to judge by"

    @property
    def _device(self) -> str:
        if not self.device_terms:
            return self.device
        budget = human_bytes(self.device_budget_bytes)
        return f"{self.device}: {human_bytes(self.device_bytes)} of {budget} ({_listed(self.device_terms)})"


def by_part(seconds: Mapping[str, float]) -> str:
    """Seconds in words, part by part."""
    return ", ".join(f"{part} {each:.2g} s" for part, each in seconds.items())


def _listed(terms: Mapping[str, int]) -> str:
    return ", ".join(f"{term} {human_bytes(size)}" for term, size in terms.items())


def plan_prediction(
    student: Student,
    facts: SourceFacts,
    offer: DeviceOffer,
    *,
    stage: str = "auto",
    adapt: str = "auto",
    k: int,
    memory: int | None = None,
    threads: int | None = None,
) -> PredictionPlan:
    """The plan for data with these facts; whether it fits, `PredictionPlan.check` says."""
    budget, device, device_budget = memory or budget_here(), offer.device, offer.granted()
    cores = threads or _threads_for(offer)
    samples, sizes = facts.shape[facts.samples_axis], _Sizes.of(student, facts, budget)
    terms = _terms(student, facts, sizes, cores, stage)
    batch = _batch_on(offer, student, sizes)
    adapting = {"sums by which components move": adapt_bytes(student.basis.n, student.basis.r)}
    fits = sum((terms | adapting).values()) <= budget
    adapts = stage == ADAPT or (stage == adapt == "auto" and fits)
    return PredictionPlan(
        source=facts.name,
        student=str(student.path),
        stage=stage,
        samples=samples,
        features=student.basis.n,
        components=student.basis.r,
        k=k,
        rows_per_panel=sizes.panel,
        rows_per_batch=batch,
        rows_judged=sizes.judged,
        rows_judged_at_a_time=sizes.batch,
        threads=cores,
        adapts=adapts,
        terms=terms | adapting if adapts else terms,
        budget_bytes=budget,
        device=device.name,
        device_terms=_device_terms(offer, student, batch),
        device_budget_bytes=device_budget,
        read_bytes=facts.nbytes,
        scratch_bytes=samples * _bytes_of_a_row(student, k),
        seconds=_seconds(student, facts, k, cores, NOMINAL_ON_GPU if device.has_own_memory else NOMINAL),
    )


def _threads_for(offer: DeviceOffer) -> int:
    """That infer: one for each core, one for a GPU, which has its own."""
    if offer.device.has_own_memory:
        return 1
    return len(psutil.Process().cpu_affinity())


def _batch_on(offer: DeviceOffer, student: Student, sizes: _Sizes) -> int:
    """Rows that are inferred at a time: a GPU takes as many as a share of its memory holds."""
    if not offer.device.has_own_memory:
        return sizes.batch
    fitting = min(_DEVICE_BATCH_BYTES, int(_DEVICE_BATCH_SHARE * offer.granted())) // _held_of_a_row(student)
    return int(np.clip(fitting, 1, min(_MOST_ROWS, sizes.panel)))


def _device_terms(offer: DeviceOffer, student: Student, batch: int) -> dict[str, int]:
    """Bytes that are held of a device's own memory, by what."""
    if not offer.device.has_own_memory:
        return {}
    n, r = student.basis.n, student.basis.r
    terms = {
        "the student": _student_bytes(student),
        "products of components": student.basis.products_bytes(n, r),
        "rows being inferred": batch * _held_of_a_row(student),
    }
    return terms | {"allocator slack": int(_SLACK * sum(terms.values()))}


@dataclass(frozen=True)
class _Sizes:
    """How many rows are in hand at a time: read, inferred by a thread, judged by."""

    panel: int
    batch: int
    judged: int

    @classmethod
    def of(cls, student: Student, facts: SourceFacts, budget: int) -> _Sizes:
        n, r, samples = student.basis.n, student.basis.r, facts.shape[facts.samples_axis]
        batch = np.clip(_BATCH_BYTES // _held_of_a_row(student), 1, min(_MOST_ROWS, samples))
        judged = np.clip(
            _SAMPLE_SHARE * budget // (_BYTES_JUDGED * n + 16 * r), 1, min(_SAMPLE_ROWS, samples)
        )
        return cls(RowPanels.rows_fitting(facts, budget // 2), int(batch), int(judged))


def _terms(student: Student, facts: SourceFacts, sizes: _Sizes, threads: int, stage: str) -> dict[str, int]:
    """Bytes that are held, by what."""
    n, r = student.basis.n, student.basis.r
    terms = {
        "the student": _student_bytes(student),
        "products of components": 8 * n * (r * (r + 1) // 2 + r),
        "panels being read": RowPanels.bytes_for(facts, sizes.panel),
        "rows being inferred": threads * sizes.batch * _held_of_a_row(student),
        "rows to judge by": _judged_bytes(sizes.judged, n, r),
        "PyTorch": TORCH_BYTES * ("network" in student.learnt and stage in ("auto", "network")),
        "Python and threads": SERVICE_BYTES,
    }
    return terms | {"allocator slack": int(_SLACK * sum(terms.values()))}


def _judged_bytes(rows: int, n: int, r: int) -> int:
    return rows * _BYTES_JUDGED * n + min(rows, rows_needed(r)) * _BYTES_LEARNT * n


def _held_of_a_row(student: Student) -> int:
    """Bytes of a row while it is inferred: matrices (r, r), and its entries in float64."""
    return 8 * (_COPIES * student.basis.r**2 + 2 * student.basis.n)


def _bytes_of_a_row(student: Student, k: int) -> int:
    """Bytes of a row on the disk: its coordinates, its uncertainty, its line of U."""
    return (student.basis.r + k) * np.dtype(student.dtype).itemsize + 8


def _seconds(student: Student, facts: SourceFacts, k: int, threads: int, rates: Rates) -> dict[str, float]:
    """Of the parts, at nominal rates: reading, products of each row with pairs of components, writing."""
    samples, r = facts.shape[facts.samples_axis], student.basis.r
    flops = rates.flops_at("float64", 64) * threads
    return {
        "reading": facts.nbytes * NOMINAL.read_seconds,
        "inferring": samples * (float(student.basis.n) * r**2 + 4.0 * r**3) / flops,
        "writing": samples * _bytes_of_a_row(student, k) * NOMINAL.read_seconds,
    }


def _student_bytes(student: Student) -> int:
    own: int = 2 * student.basis.V.nbytes + 4 * student.basis.noise.nbytes
    return own + sum(map(_bytes_of, student.learnt.values()))


def _bytes_of(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays.values())
