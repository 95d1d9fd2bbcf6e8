"""Is a singular value of genotypes larger than that of noise? The statistic and law of Tracy & Widom.

Patterson, Price & Reich 2006 (PLoS Genet. 2:e190). The law is computed as the Fredholm determinant of Ferrari
& Spohn 2005, F₁(x) = det(1 − K) on L²(x, ∞) with K(y, z) = Ai((y+z)/2)/2, by Gauss-Legendre quadrature
(Bornemann 2010), which leaves no more than rounding.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import numpy as np

_LEAST, _MOST = -9.0, 100.0  # beyond which the chance is 1 or 0
_NODES = 48  # of the quadrature of the determinant
_WIDTH, _DECAY = 16.0, 36.0  # Ai((y+z)/2) is below rounding so far behind x, and behind x > 4 as exp(-√x·d)
_PATH = np.linspace(-6.0, 6.0, 201)  # along which Airy's function is integrated: exp(-u²) is 0 at its ends


@dataclass(frozen=True)
class Moments:
    """What the test needs to know besides the leading values.

    Attributes:
        fourth: Σσ⁴/(Σσ²)² over all singular values.
        error: the standard error of that, where it is an estimate.
        count: how many of them are not 0 whatever the data: samples − 1 where these were centred.

    """

    fourth: float
    error: float
    count: int


@dataclass(frozen=True)
class TracyWidom:
    """Of one component: `statistic`, and the chance `p_value` of one at least as large in noise.

    Attributes:
        error: what the statistic is off by where Σσ⁴ is off by its standard error.
        effective: n', how many independent variants would give a spectrum as wide as that behind it.

    """

    statistic: float
    p_value: float
    error: float
    effective: float

    def to_dict(self) -> dict[str, float | None]:
        """JSON values; what is not finite is null."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


def tested(s: np.ndarray, frobenius: float, moments: Moments) -> tuple[TracyWidom, ...]:
    """The test of each component i, given that those before it are no noise.

    Of the q values λ = σ² from the i-th on: n' = (q+2)(Σλ)²/(qΣλ² − (Σλ)²) (ibid., eq. 10, q = m − 1), and
    x = (qλ_i/Σλ − μ)/σ with μ = (√(n'−1) + √q)²/n', σ = (√(n'−1) + √q)/n'·(1/√(n'−1) + 1/√q)^(1/3)
    (Johnstone 2001, eqs. 1.3, 1.4). NaN where what is left is no spectrum, or as even as none of noise.

    Args:
        s: (k,) the leading singular values.
        frobenius: ‖B‖_F of the matrix that they are of.
        moments: of that matrix.

    """
    shares = (s / frobenius) ** 2 if frobenius else np.zeros(len(s))
    first = np.maximum(0.0, 1 - _before(shares))
    second = moments.fourth - _before(shares**2)
    q = moments.count - np.arange(len(s))
    rest = zip(shares.tolist(), first.tolist(), second.tolist(), q.tolist(), strict=True)
    return tuple(_test(share, _Rest(*of), moments.error) for share, *of in rest)


def _before(values: np.ndarray) -> np.ndarray:
    """The sum of those before each."""
    return np.asarray(np.cumsum(values) - values)


@dataclass(frozen=True)
class _Rest:
    """The `count` shares from one on: their sum, and that of their squares."""

    first: float
    second: float
    count: int

    @property
    def effective(self) -> float:
        """n'; infinite where they are all alike."""
        width = self.count * self.second - self.first**2
        return (self.count + 2) * self.first**2 / width if width > 0 else math.inf

    def statistic(self, share: float) -> float:
        """The statistic x of the largest; NaN where no noise has such shares."""
        n = self.effective
        if self.count < 2 or not 1 < n < math.inf:
            return math.nan
        root, side = math.sqrt(n - 1), math.sqrt(self.count)
        scale = (root + side) / n * math.cbrt(1 / root + 1 / side)
        return (self.count * share / self.first - (root + side) ** 2 / n) / scale


def _test(share: float, rest: _Rest, error: float) -> TracyWidom:
    statistic = rest.statistic(share)
    moved = replace(rest, second=rest.second + error).statistic(share)
    return TracyWidom(statistic, upper_tail(statistic), abs(moved - statistic), rest.effective)


def upper_tail(x: float) -> float:
    """1 − F₁(x): the chance that what has the law of Tracy & Widom (β = 1) exceeds x, to 1e-9 of itself.

    Below x = −9 it is 1 to rounding, and above 100 no number is so small.
    """
    if not _LEAST < x < _MOST:
        return math.nan if math.isnan(x) else float(x <= _LEAST)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    length = _WIDTH - min(x, 0.0) if x < 4 else _DECAY / math.sqrt(x)
    y, roots = x + length * (nodes + 1) / 2, np.sqrt(weights * length / 2)
    kernel = airy((y[:, np.newaxis] + y) / 2) / 2 * np.outer(roots, roots)
    values = np.minimum(np.linalg.eigvalsh(kernel), 1 - np.finfo(float).eps)
    return float(-np.expm1(np.sum(np.log1p(-values))))


def airy(x: np.ndarray) -> np.ndarray:
    """Ai(x) = (1/2πi)∫exp(t³/3 − xt)dt along a line through the saddle √x, or 1 where that is less.

    There the integrand falls as exp(−u²) or faster, and the trapezoidal rule is exact to rounding of it.
    """
    saddle = np.sqrt(np.maximum(x, 1.0))
    found = np.zeros(x.shape)
    for u in _PATH:
        t = saddle + 1j * u
        found += np.exp(t**3 / 3 - x * t).real
    return np.asarray(found * (_PATH[1] - _PATH[0]) / (2 * np.pi))
