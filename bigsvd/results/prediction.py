"""`Prediction`: what factors say of themselves that no SVD has computed; see `bigsvd.distill`.

A student has inferred the coordinates of samples from what was seen of them. So nothing of it is proved:
singular values are estimates, and the samples' vectors are means of what is possible, which makes them
shorter than 1, the more so the less was seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

BASIS = "predicted"  # the `basis` of a certificate
_LISTS = ("captured", "notes")
_SHRUNK = 0.5  # of σ², below which a triplet is more of what is not known than of what was inferred


@dataclass(frozen=True)
class Prediction:
    """How factors were predicted, from what, and how good that was where it could be seen.

    Attributes:
        student, teacher: paths of both. stage: what inferred the coordinates, such as "ridge".
        components: of the teacher that were used, of which k were published.
        samples, features: the numbers of both, but for features of weight 0. seen: entries observed.
        unseen_samples: samples of which nothing was: their coordinates are the mean of the prior.
        captured: of each triplet the part of σ² that lies in the inferred coordinates, (k,), at most 1; the
            rest is what is not known of them. It is the square of the norm of the samples' vector.
        scatter: root of the mean of (x − V·z)²/noise over the entries that were seen: about 1 where the
            teacher's noise is that of these data too.
        hidden_error: RMS error on observed entries that were hidden from it, in units of B; None where none
            were hidden. hidden_spread: the same of the teacher's mean, which knows nothing of the samples.
        outside: what is said where the data lie outside the span of the teacher's components; empty else.
        verdict: how the stage was chosen; see `distill.gate`. None where it was asked for.
        notes: what else a reader must be told.

    """

    student: str
    teacher: str
    stage: str
    components: int
    samples: int
    features: int
    seen: int
    unseen_samples: int
    captured: tuple[float, ...]
    scatter: float
    hidden_error: float | None = None
    hidden_spread: float | None = None
    outside: str = ""
    verdict: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def entries(self) -> int:
        """Of the data, seen or not."""
        return self.samples * self.features

    @property
    def share_seen(self) -> float:
        """Of the entries."""
        return self.seen / self.entries

    @property
    def share(self) -> str:
        """The share of the entries that were seen, in words."""
        return f"{100 * self.share_seen:.3g} % of the entries"

    @property
    def said(self) -> str:
        """In one line what nobody who reads these factors may overlook."""
        return self._said(f"stage {self.stage} of {self.student}")

    @property
    def short(self) -> str:
        """The same without a path of the machine that it was predicted on."""
        return self._said(f"stage {self.stage}")

    def _said(self, by: str) -> str:
        told = f"predicted by {by} from {self.share}, not computed: nothing here is certified"
        return "; ".join(filter(None, [told, self.outside]))

    @property
    def lines(self) -> list[str]:
        """All that is to be said, a thought a line."""
        told = [
            f"PREDICTED, not computed: nothing here is certified (stage {self.stage})",
            f"{self.seen:,} of {self.entries:,} entries seen{self._unseen}",
            f"by {self.student}, learnt from {self.teacher} ({self.components} components)",
            self._missed,
            f"samples' vectors are shrunk means: {self._captured} of each sigma^2 is in them{self._shrunk}",
            self._judged,
            self._warning,
        ]
        return [*filter(None, told), *self.notes]

    @property
    def _unseen(self) -> str:
        return f"; {self.unseen_samples:,} samples with none" * bool(self.unseen_samples)

    @property
    def _missed(self) -> str:
        if self.hidden_error is None:
            return ""
        return f"hidden entries are missed by {self.hidden_error:.4g} (RMS{self._by_the_mean})"

    @property
    def _by_the_mean(self) -> str:
        if self.hidden_spread is None:
            return ""
        return f", the teacher's mean misses them by {self.hidden_spread:.4g}"

    @property
    def _captured(self) -> str:
        return f"{min(self.captured, default=0.0):.3g} to {max(self.captured, default=0.0):.3g}"

    @property
    def _shrunk(self) -> str:
        few = sum(part < _SHRUNK for part in self.captured)
        return f", in {few} less than half" * bool(few)

    @property
    def _judged(self) -> str:
        return str((self.verdict or {}).get("said", ""))

    @property
    def _warning(self) -> str:
        return f"warning: {self.outside}" * bool(self.outside)

    def leading(self, k: int) -> Prediction:
        """That of the first k triplets."""
        return replace(self, captured=self.captured[:k])

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with the share that was seen and `said`."""
        own = {"captured": list(self.captured), "notes": list(self.notes)}
        return asdict(self) | own | self._told

    @property
    def _told(self) -> dict[str, Any]:
        return {"share_seen": self.share_seen, "said": self.said}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Prediction:
        """The inverse of `to_dict`."""
        known = {field.name: values[field.name] for field in fields(cls)}
        lists = {name: tuple(values[name]) for name in _LISTS}
        return cls(**known | lists)
