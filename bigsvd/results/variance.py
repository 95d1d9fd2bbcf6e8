"""What singular values say in the words of principal component analysis: variances and their uncertainty.

All of it is of B, the matrix as it was decomposed: centred, scaled, weighted. Where it was not centred these
are mean squares, not variances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bigsvd.errors import RequestError


@dataclass(frozen=True, eq=False)
class Spread:
    """How B spreads over its samples.

    Attributes:
        s: the leading singular values (k,), descending.
        frobenius: ‖B‖_F. rest: ‖B−U·diag(s)·Vt‖_F.
        samples, features: the numbers of both.

    """

    s: np.ndarray
    frobenius: float
    rest: float
    samples: int
    features: int

    def degrees(self, ddof: int) -> int:
        """What sums of squares are divided by; `RequestError` where that is not positive."""
        if isinstance(ddof, bool) or not isinstance(ddof, (int, np.integer)) or not 0 <= ddof < self.samples:
            raise RequestError(
                f"ddof={ddof!r} with {self.samples} samples", f"give an integer in 0..{self.samples - 1}"
            )
        return self.samples - int(ddof)

    def explained(self, ddof: int) -> np.ndarray:
        """s²/(samples − ddof), (k,)."""
        return np.asarray((self.s / np.sqrt(self.degrees(ddof))) ** 2)

    def total(self, ddof: int) -> float:
        """‖B‖²_F/(samples − ddof)."""
        return float((self.frobenius / np.sqrt(self.degrees(ddof))) ** 2)

    def ratio(self) -> np.ndarray:
        """s²/‖B‖²_F, (k,); 0 of a matrix of zeros."""
        if not self.frobenius:
            return np.zeros(len(self.s))
        return np.asarray((self.s / self.frobenius) ** 2)

    def noise(self, ddof: int) -> float:
        """The mean of the variances behind the leading k; 0 where there are no more."""
        others = min(self.samples, self.features) - len(self.s)
        if not others:
            return 0.0
        return float((self.rest / np.sqrt(self.degrees(ddof))) ** 2 / others)

    def north(self, ddof: int, independent: float | None) -> np.ndarray:
        """λ·√(2/N), (k,), of North et al. 1982, eq. 24, for N independent samples."""
        count = self.samples if independent is None else independent
        if not 0 < count < np.inf:
            raise RequestError(f"{count!r} independent samples", "give a positive number")
        return np.asarray(self.explained(ddof) * np.sqrt(2 / count))
