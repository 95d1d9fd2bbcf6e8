"""`Sweeps`: what one lane does with the entries of a panel, each time that it reads them.

A panel that fits is read once. One that is read in tiles is read twice, since Bᵀ·Y needs whole rows of Y, and
once more before that where its rows have means or divisors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bigsvd.devices.base import Array, Device
from bigsvd.execution.pass_spec import PassSpec
from bigsvd.scratch import Scratch
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.operator import Findings
from bigsvd.slabs.rounded import Rounded
from bigsvd.slabs.slab import Slab
from bigsvd.slabs.standardize import Standardization, given_in, lines_in, row_lines_in, written_out

Sweep = Callable[[Entries], None]


class Sweeps:
    """The operators of one lane at work, on slabs that a standardisation makes of entries."""

    def __init__(
        self, scratch: Scratch, device: Device, spec: PassSpec, shape: tuple[int, int], *, tiled: bool
    ) -> None:
        self._standardization = _standardization(scratch, device, spec, shape)
        self._operators = [kernel.start(scratch, device, spec.dtype) for kernel in spec.kernels]
        self._lookers = [operator for operator in self._operators if operator.looks]
        # Rows of Y of one panel, by the number of the operator and the first row of the slab.
        self._y: dict[tuple[int, int], Array] = {}
        self._tiled = tiled

    @property
    def each(self) -> tuple[Sweep, ...]:
        """What is done each time that a panel is read.

        Made anew each time: kept, these methods and their object would hold each other, and the device's
        memory with them, until Python looks for such circles.
        """
        if not self._tiled:
            return (self._both,)
        two = (self._forward, self._backward)
        return (self._look_first, *two) if self._standardization.lookers else two

    def begin_panel(self, rows: slice) -> None:
        """Forget the panel before; these rows come next."""
        self._standardization.begin_panel(rows)

    def finish_panel(self, rows: slice) -> None:
        """Tell each operator that a panel is over, with the rows of its Y."""
        for number, operator in enumerate(self._operators):
            parts = [part for (whose, _), part in sorted(self._y.items()) if whose == number]
            operator.finish_panel(parts, rows)
        self._y.clear()

    def sums(self) -> dict[str, np.ndarray]:
        """The partial sums of all operators."""
        return {name: values for operator in self._operators for name, values in operator.sums().items()}

    def findings(self) -> Findings:
        """What all operators have found about the entries."""
        found = Findings()
        for operator in self._operators:
            found.add(operator.findings())
        return found

    def _look_first(self, entries: Entries) -> None:
        entries.show(self._standardization.lookers)

    def _forward(self, entries: Entries) -> None:
        self._add_to_y(self._standardization.slab(entries, self._lookers))

    def _backward(self, entries: Entries) -> None:
        self._add_to_sums(self._standardization.slab(entries))

    def _both(self, entries: Entries) -> None:
        slab = self._whole_slab(entries)
        self._add_to_y(slab)
        self._add_to_sums(slab)

    def _whole_slab(self, entries: Entries) -> Slab:
        """The slab of entries that nobody has looked at; what must see all of them first makes them twice."""
        if not self._standardization.lookers:
            return self._standardization.slab(entries, self._lookers)
        entries.show([*self._lookers, *self._standardization.lookers])
        return self._standardization.slab(entries)

    def _add_to_y(self, slab: Slab) -> None:
        for number, operator in enumerate(self._operators):
            part, key = operator.forward(slab), (number, slab.rows.start)
            if part is not None:
                self._y[key] = self._y[key] + part if key in self._y else part

    def _add_to_sums(self, slab: Slab) -> None:
        for number, operator in enumerate(self._operators):
            operator.backward(slab, self._y.get((number, slab.rows.start)))


def _standardization(
    scratch: Scratch, device: Device, spec: PassSpec, shape: tuple[int, int]
) -> Standardization:
    """What makes slabs of B (M, N) in a lane: with lines that are known, or learned of each panel."""
    lines = lines_in(scratch, spec.lines_name, shape[1])
    row_lines = row_lines_in(scratch, spec.row_lines_name)
    given = given_in(scratch, spec.transform)
    exact = written_out(spec.transform, spec.dtype, device.space(), shape[1], lines, row_lines, given)
    if spec.rough:
        return Rounded(exact)
    return exact
