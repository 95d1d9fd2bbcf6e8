"""The scratch of a fit or a prediction: one that a killed run of the same order has left, or a new one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bigsvd.errors import OutputExistsError
from bigsvd.events import GivenUp, Progress
from bigsvd.results.output import Output
from bigsvd.scratch import PLAN, RESULT, Scratch


@dataclass(frozen=True)
class Undertaking:
    """What is to be done, as scratch remembers it.

    Attributes:
        kind: "fit" or "prediction".
        problem: JSON of all that decides the bits of the answer. sizes: those of a plan that decide them too:
            a run that is continued keeps those that it began with.

    """

    kind: str
    problem: str
    sizes: dict[str, int]

    def scratch_in(
        self, output: Output, progress: Progress, *, overwrite: bool
    ) -> tuple[Scratch, dict[str, int], bool]:
        """The scratch to work in, the sizes to work with, and whether a run is continued.

        Raises:
            OutputExistsError: scratch is that of another order, and `overwrite` was not given.

        """
        before = (Scratch(output.scratch).recorded(PLAN) or {}).get(self.kind)
        if before is not None and before["problem"] == self.problem:
            return self._continued(output), before["sizes"], True
        if before is not None:
            self._give_up(output, before["problem"], progress, overwrite=overwrite)
        scratch = Scratch(output.scratch, output.begin())
        scratch.record(PLAN, {"plan": {}, self.kind: {"problem": self.problem, "sizes": self.sizes}})
        scratch.settle(PLAN)
        return scratch, self.sizes, False

    @staticmethod
    def _continued(output: Output) -> Scratch:
        scratch = Scratch(output.scratch, output.resume())
        scratch.remove(RESULT)
        return scratch

    def _give_up(self, output: Output, before: str, progress: Progress, *, overwrite: bool) -> None:
        """Say that what another order has done is deleted; without `overwrite` it is not."""
        differences = _differences(json.loads(before), json.loads(self.problem))
        if not overwrite:
            raise OutputExistsError(
                f"{output.scratch} holds what another {self.kind} has done: {', '.join(differences)}",
                "ask for the same to continue it, use overwrite to give it up, or choose another output",
            )
        progress(GivenUp(str(output.scratch), differences))


def _differences(then: dict[str, Any], now: dict[str, Any]) -> tuple[str, ...]:
    names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    return tuple(f"{name}={then.get(name)!r} (now {now.get(name)!r})" for name in names)
