"""What passes and runs take at given rates: pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bigsvd.catalog.widths import BEYOND, PROBES
from bigsvd.facts import SPARSE, Rates
from bigsvd.planning.layout import Layout

# Lanes at a time for a core, at most, and from which ratio of wall to processor time of a read there are more
# than one: a core whose reader mostly waits for its storage can serve others meanwhile. Chosen, not measured.
_MOST_LANES_A_CORE = 4
_IO_BOUND_RATIO = 2.5
# From which ratio of a pass with the wide block to one with the narrow the difference is worth having.
_WIDTH_MATTERS_RATIO = 1.1
# Seconds that a run takes besides its passes, and a pass besides its panels: where there is one panel, and
# from how many panels on it is how much; in between in proportion. Measured on two cores.
_RUN_SECONDS, _PASS_SECONDS = (0.03, 0.4), (0.008, 0.15)
_MANY_PANELS = 100
# By which factor checksums, sums and two threads that share one memory lengthen reading and multiplying.
# Measured on two cores.
_CROWDING = 1.4
# Floating point operations a second of an eigendecomposition, on a core and on a GPU; and the order at which
# a core reaches half as many, below which it is busy with loops and not with products. Measured.
_DENSE_FLOPS_PER_SECOND, _HALF_RATE_ORDER = 3e10, 200
_DEVICE_DENSE_FLOPS_PER_SECOND = 2e11
# What the driver does with a basis of N x L after a pass of an iteration, as so many products with L x L and
# so many eigendecompositions; QRs are among them. Measured.
_RITZ_PRODUCTS, _RITZ_EIGENPROBLEMS = 12, 4
# Bytes a second at which a core forms the long factor of what scratch holds.
_FORMING_BYTES_PER_SECOND = 2.5e8


@dataclass(frozen=True)
class Prospect:
    """What a run of a layout is expected to be, as far as its time depends on it.

    Attributes:
        lanes: at a time. passes: with the sample's `share` of one. kept, resident: parts of the data that are
            kept decoded in the host's memory, and on a device, between passes; 0 to 1.

    """

    lanes: int
    passes: float
    share: float
    kept: float
    resident: float

    @property
    def full_passes(self) -> int:
        """Passes over all panels."""
        return max(1, round(self.passes - self.share))

    @property
    def stays(self) -> bool:
        """Whether all data stay on a device between passes."""
        return self.resident == 1.0


@dataclass(frozen=True)
class Cost:
    """What things take at given rates on a number of cores, products in one precision.

    On a device with its own memory, reading, copying and multiplying go on side by side; all lanes share it.

    Attributes:
        rough_dtype: of the products of the sample and of all passes but the last, where it is another.

    """

    rates: Rates
    cores: int
    dtype: str
    readers: int = 1
    has_own_memory: bool = False
    rough_dtype: str = ""

    @property
    def rough(self) -> Cost:
        """The same of rough products, where there are any."""
        return replace(self, dtype=self.rough_dtype or self.dtype)

    @property
    def dense(self) -> Cost:
        """The same of products of dense rows, though the rates know of sparse ones."""
        flops = {name: known for name, known in self.rates.flops.items() if name != SPARSE}
        return replace(self, rates=replace(self.rates, flops=flops))

    @property
    def _rated_as(self) -> str:
        """What the rate of the products is known as."""
        return SPARSE if SPARSE in self.rates.flops else self.dtype

    @property
    def lanes_a_core(self) -> int:
        """Lanes at a time for each core: more where a reader mostly waits for its storage."""
        waiting = self.rates.read_seconds / max(self.rates.read_cpu_seconds, 1e-15)
        return max(1, min(_MOST_LANES_A_CORE, int(waiting) if waiting >= _IO_BOUND_RATIO else 1))

    def of_pass(
        self,
        layout: Layout,
        lanes: int,
        columns: int,
        share: float = 1.0,
        kept: float = 0.0,
        resident: float = 0.0,
    ) -> float:
        """Seconds of a pass over `share` of the panels, of which a fraction `kept` need not be read.

        Of a fraction `resident`, which is none of these, nothing need be copied to the device either.

        As many lanes run at a time as memory allows, which may be fewer than there are cores.
        """
        if layout.reader == "memory":
            kept = 1.0
        streamed = share * layout.M * layout.N * layout.itemsize * layout.reads_per_pass
        read_bytes = max(0.0, 1 - kept - resident) * streamed
        flops = 4.0 * share * layout.M * layout.N * columns
        products = flops / self.rates.flops_at(self._rated_as, columns)
        products += share * layout.M * layout.N * self.rates.making_seconds
        if self.has_own_memory:
            waiting = read_bytes * self.rates.read_seconds / (lanes * self.readers)
            decoding = read_bytes * self.rates.read_cpu_seconds / self.cores
            copying = (1 - resident) * streamed * self.rates.copy_seconds
            return _CROWDING * max(waiting, decoding, copying, products)
        waiting = read_bytes * self.rates.read_seconds / lanes
        working = _CROWDING * (read_bytes * self.rates.read_cpu_seconds + products) / min(self.cores, lanes)
        return max(waiting, working)

    def of_last_pass(self, layout: Layout, lanes: int, columns: int, kept: float, resident: float) -> float:
        """Seconds of a last pass, which has probes too where those before it were rough."""
        if self.rough_dtype:
            columns += PROBES
        return self.of_pass(layout, lanes, columns, kept=kept, resident=resident)

    def products_matter(self, layout: Layout, lanes: int) -> bool:
        """Whether a pass with the narrow block takes noticeably less than one with the wide."""
        wide, narrow = (self.of_pass(layout, lanes, columns) for columns in (layout.width, layout.narrow))
        return layout.narrow < layout.width and wide > _WIDTH_MATTERS_RATIO * narrow

    def keeping_pays(self, layout: Layout, passes: float) -> bool:
        """Whether a panel in new memory costs less than reading it again in the passes after the first."""
        again = max(0, round(passes) - 1) * layout.reads_per_pass * self.rates.read_seconds
        return again > self.rates.fresh_seconds

    def of_eigenvectors(self, order: int) -> float:
        """Seconds for all eigenvectors of a symmetric matrix of that order."""
        if self.has_own_memory:
            return 10 * order**3 / _DEVICE_DENSE_FLOPS_PER_SECOND
        return 10 * order**2 * (order + _HALF_RATE_ORDER) / _DENSE_FLOPS_PER_SECOND

    def of_ritz(self, layout: Layout, columns: int) -> float:
        """Seconds that the driver takes to find what a basis of so many columns tells, on one core."""
        products = _RITZ_PRODUCTS * 2 * layout.N * columns**2 / _DENSE_FLOPS_PER_SECOND
        eigenproblem = 10 * columns**2 * (columns + _HALF_RATE_ORDER) / _DENSE_FLOPS_PER_SECOND
        return products + _RITZ_EIGENPROBLEMS * eigenproblem

    def of_run(self, layout: Layout, prospect: Prospect, start: float, passes: float) -> dict[str, float]:
        """Seconds of each part of a run, of which the method has told the warm start and the passes.

        The first pass makes statistics besides, and so does the sample. Where all data stay on a device
        another pass multiplies the long factor.
        """
        looking = layout.M * layout.N * self.rates.looking_seconds
        looking *= _CROWDING / min(self.cores, prospect.lanes)
        passes, start = passes + looking, start + prospect.share * looking
        written = layout.narrow + PROBES + (layout.k + BEYOND) * (prospect.full_passes - 1)
        if prospect.stays:
            passes += self.of_pass(layout, prospect.lanes, layout.k, resident=1.0) + besides(layout)
            written = layout.k
        stored_bytes = layout.M * written * np.dtype(self.dtype).itemsize
        rest = _by_panels(_RUN_SECONDS, layout.panels) + stored_bytes / _FORMING_BYTES_PER_SECOND / self.cores
        return {"warm start": start, "passes": passes, "the rest": rest}


def besides(layout: Layout, share: float = 1.0) -> float:
    """Seconds that a pass over `share` of the panels takes besides reading and multiplying them."""
    return _by_panels(_PASS_SECONDS, share * layout.panels)


def _by_panels(seconds: tuple[float, float], panels: float) -> float:
    """What takes so many seconds for one panel, and for many."""
    least, most = seconds
    return least + (most - least) * min(1.0, panels / _MANY_PANELS)
