"""What `verify` finds out about a factor store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verification:
    """The outcome: `findings` is empty where everything promised holds.

    Attributes:
        max_residual, relative_error: measured against the data; None without data.
        predicted: what a reader has to know where no SVD has computed the factors, of which nothing is
            promised; and how far they are from the data, where these were given. Empty of any others.

    """

    findings: tuple[str, ...]
    max_residual: float | None
    relative_error: float | None
    predicted: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "holds": not self.findings,
            "findings": list(self.findings),
            "max_residual": self.max_residual,
            "relative_error": self.relative_error,
            "predicted": self.predicted or None,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verification:
        """The inverse of `to_dict`."""
        return cls(
            tuple(values["findings"]),
            values["max_residual"],
            values["relative_error"],
            values.get("predicted") or "",
        )
