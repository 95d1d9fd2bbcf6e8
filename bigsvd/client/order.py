"""How a job is to be carried out, and what people call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Order:
    """What is said of a job beside its request; see `bigsvd.submit`. None leaves it to the service."""

    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    attempts: int | None = None
    max_runtime_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values, without those that were not given."""
        values = {**vars(self), "labels": dict(self.labels)}
        return {name: value for name, value in values.items() if value not in (None, "", {})}
