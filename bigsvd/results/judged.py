"""Every k of some factors, judged: what `bigsvd rank` prints, and the service answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from bigsvd.errors import RequestError
from bigsvd.results import rank
from bigsvd.results.certificate import Certificate


@dataclass(frozen=True)
class Judged:
    """A spectrum, and which k each rule chooses of it."""

    spectrum: rank.Spectrum
    choices: tuple[rank.Choice, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """JSON values of what each k keeps and costs."""
        return [row.to_dict() for row in rank.rank_table(self.spectrum)]

    @property
    def noise(self) -> rank.NoiseFit:
        """Where noise begins."""
        return rank.fit_noise(self.spectrum)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: the rows, the choices, and from which k on factors are larger than A."""
        chosen = [choice.to_dict() for choice in self.choices]
        return {"rows": self.rows, "choices": chosen, "break_even": rank.break_even(self.spectrum)}


class Judgeable(Protocol):
    """Factors, here or at a service."""

    @property
    def certificate(self) -> Certificate:
        """What is known of their error."""

    def spectrum(self) -> rank.Spectrum:
        """What the rank rules need to know."""


def judged(
    factors: Judgeable,
    *,
    energy: float | None = None,
    error: float | None = None,
    max_bytes: int | None = None,
) -> Judged:
    """The factors by all rules that always hold, and by those that are given.

    Raises:
        RequestError: a rule's number means nothing.

    """
    spectrum = factors.spectrum()
    try:
        chosen = rank.choices(spectrum, energy=energy, error=error, max_bytes=max_bytes)
    except ValueError as problem:
        raise RequestError(str(problem), "give a share between 0 and 1") from problem
    signal = factors.certificate.signal
    if signal is not None:
        chosen = (*chosen, rank.by_edge(signal.count, signal.edge))
    return Judged(spectrum, chosen)
