"""Who asks, and what they may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Scope = Literal["read", "submit", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class User:
    """Whoever a token was made for.

    Attributes:
        name: the owner of what this user submits. scopes: what they may; "admin" is all, "submit" includes
            "read".

    """

    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether that is allowed."""
        if "admin" in self.scopes or scope in self.scopes:
            return True
        return scope == "read" and "submit" in self.scopes
