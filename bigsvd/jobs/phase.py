"""How far an attempt is: one small value that its driver writes about once a second."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Name = Literal["queued", "planned", "sample", "pass", "forming", "verifying", "publishing"]


@dataclass(frozen=True)
class Quality:
    """What would be published if the run ended now, after `passes` of them; see `events.Certified`."""

    passes: int
    relative_error: float
    max_residual: float
    converged: bool


@dataclass(frozen=True)
class Phase:
    """Where an attempt is.

    Attributes:
        name: of the phase. doing: what it is within that, for people.
        number, of: the pass that goes on, from 1, and how many there will be, as far as can be foretold.
        bytes_done, bytes_total: of this pass. passes_done: that were finished in all attempts.
        quality: what the last pass has found; None before there is one.

    """

    name: Name = "queued"
    doing: str = ""
    number: int = 0
    of: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    passes_done: int = 0
    quality: Quality | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Phase:
        """The inverse; a torn file is a phase of which nothing is known."""
        try:
            given = {each.name: values[each.name] for each in fields(cls)}
            quality = given.pop("quality")
            return cls(**given, quality=None if quality is None else Quality(**quality))
        except (KeyError, TypeError):
            return cls()

    def __str__(self) -> str:
        if self.name != "pass":
            return f"{self.name} ({self.doing})" if self.doing else self.name
        share = f", {self.bytes_done / self.bytes_total:.0%}" if self.bytes_total else ""
        return f"pass {self.number} of about {max(self.of, self.number)}{share}"
