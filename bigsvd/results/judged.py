"""Every k of some factors, judged: what `bigsvd rank` prints, and the service answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from bigsvd.errors import RequestError
from bigsvd.results import rank
from bigsvd.results.certificate import Certificate
from bigsvd.results.prediction import Prediction


@dataclass(frozen=True)
class Judged:
    """A spectrum, which k each rule chooses of it, and how it was predicted where it was not computed."""

    spectrum: rank.Spectrum
    choices: tuple[rank.Choice, ...]
    predicted: Prediction | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """JSON values of what each k keeps and costs."""
        return [row.to_dict() for row in rank.rank_table(self.spectrum)]

    @property
    def noise(self) -> rank.NoiseFit:
        """Where noise begins."""
        return rank.fit_noise(self.spectrum)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: the rows, the choices, from which k on factors are larger than A, and `said`."""
        chosen = [choice.to_dict() for choice in self.choices]
        found = {"rows": self.rows, "choices": chosen, "break_even": rank.break_even(self.spectrum)}
        tests = self.spectrum.tests
        tested = None if tests is None else [test.to_dict() for test in tests]
        return found | {"predicted": self.said or None, "tracy_widom": tested}

    @property
    def title(self) -> str | None:
        """What stands above a plot of values that were predicted; None where they were computed."""
        if self.predicted is None:
            return None
        return f"PREDICTED, not computed: stage {self.predicted.stage}, {self.predicted.share} seen"

    @property
    def said(self) -> str:
        """What a reader has to know of values that were predicted; empty where they were computed."""
        if self.predicted is None:
            return ""
        return f"{self.predicted.said}; errors are those of exact triplets with these values"


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
    certificate = factors.certificate
    signal = certificate.signal
    if signal is not None:
        chosen = (*chosen, rank.by_edge(signal.count, signal.edge))
    return Judged(spectrum, chosen, certificate.predicted)
