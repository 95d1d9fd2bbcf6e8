"""`Basis`: what of a teacher's factors every stage of a prediction rests on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LEAST_SHARE = 1e-2  # of the noise along a component, that its coordinates vary by no less than
_LEAST_NOISE = 1e-2  # of the mean noise, that each column has no less than
_LEAST_PART = 1e-12  # of the largest variance, below which float64 tells no noise from rounding


@dataclass(frozen=True, eq=False)
class Basis:
    """The model of a row of B: x = V·z + e, z ~ N(0, diag(prior)), e_j ~ N(0, noise_j).

    It is that of Tipping & Bishop (1999), with a noise of its own for each column. B is the teacher's matrix
    as it was decomposed, samples as rows.

    Attributes:
        V: components by feature, (n, r) float64, orthonormal columns.
        s: singular values of the teacher, (r,), descending.
        noise: variance of each column that the components leave, (n,) float64, positive.
        samples: m, of the teacher.

    """

    V: np.ndarray
    s: np.ndarray
    noise: np.ndarray
    samples: int

    @property
    def n(self) -> int:
        """Number of features."""
        return int(self.V.shape[0])

    @property
    def r(self) -> int:
        """Number of components."""
        return int(self.V.shape[1])

    @property
    def prior(self) -> np.ndarray:
        """The variance of each coordinate before anything is seen, (r,): s²/m less the noise along it.

        No less than a hundredth of that noise: what the teacher did not tell from noise stays possible.
        """
        along = self.noise @ self.V**2
        return np.asarray(np.maximum(self.s**2 / self.samples - along, _LEAST_SHARE * along))

    @staticmethod
    def floored(noise: np.ndarray, s: np.ndarray, samples: int) -> np.ndarray:
        """Noise (n,) raised to a hundredth of its mean, and above what rounding of the data amounts to.

        Where nothing varies at all it is 1, in units that then do not matter.
        """
        least = max(_LEAST_NOISE * float(np.mean(noise)), _LEAST_PART * float(np.max(s)) ** 2 / samples)
        return np.asarray(np.maximum(noise, least or 1.0))
