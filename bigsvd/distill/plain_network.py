"""A plain network on raw rows: values and mask in, coordinates out; it knows nothing of the components.

It is what a student has to better: the same training data, no closed form inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bigsvd.distill.baselines import ByCoordinates, Fixed, complete_coordinates, too_large
from bigsvd.distill.basis import Basis
from bigsvd.distill.rows import Rows

_HIDDEN = 512  # units of each of the two layers
_RATE = 1e-3  # of Adam, at first; it falls to 0 along a cosine
_BATCH = 128


@dataclass(frozen=True, eq=False)
class PlainNetwork:
    """u = W₃·relu(W₂·relu(W₁·[x_Ω/σ, Ω])), coordinates z = u·√λ; squared error of z; two layers of 512.

    Its masks are uniform, of a share drawn for each row between `shares`, log-uniform. The teacher's rows are
    held in memory.

    Attributes:
        known: rows of the teacher, (m, n) in units of B. basis, k: whose leading coordinates it learns.
        shares: least and largest share seen in training. epochs: over the rows. seed: of everything random.
        memory_bytes: that it may take.

    """

    known: np.ndarray
    basis: Basis
    k: int
    shares: tuple[float, float]
    seed: int
    memory_bytes: int
    epochs: int = 100
    name: str = "plain network"

    def refusal(self) -> str | None:
        """Why it cannot be trained; None where it can."""
        m, n = self.known.shape
        needed = 4 * (2 * m * n + 3 * (2 * n + _HIDDEN + self.k) * _HIDDEN + 6 * _BATCH * n)
        return too_large(f"{self.name} on {m:,} x {n:,}", needed, self.memory_bytes)

    def trained(self) -> Fixed:
        """Train on the teacher's rows; of the new data it sees nothing."""
        network, scale = self._trained(), self._scale
        spread = np.sqrt(self.basis.prior[: self.k])

        def infer(rows: Rows) -> np.ndarray:
            with torch.no_grad():
                values = torch.as_tensor(rows.values / scale, dtype=torch.float32)
                u = network(_inputs(values, torch.as_tensor(np.asarray(rows.seen))))
            return np.asarray(u.numpy().astype(np.float64) * spread)

        return Fixed(self.name, ByCoordinates(self.basis, self.k, infer))

    @property
    def _scale(self) -> float:
        """σ: root mean square of the teacher's entries."""
        return float(np.sqrt(np.mean(self.known**2))) or 1.0

    def _trained(self) -> Any:
        m, n = self.known.shape
        generator = torch.Generator().manual_seed(self.seed)
        network = _layers(2 * n, self.k, self.seed)
        optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
        steps = self.epochs * -(-m // _BATCH)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        weights = torch.as_tensor(self.basis.prior[: self.k] / np.sum(self.basis.prior[: self.k])).float()
        for values, targets in self._batches(generator):
            seen = self._mask(values.shape, generator)
            loss = torch.sum(weights * (network(_inputs(values * seen, seen)) - targets) ** 2, dim=1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            falling.step()
        return network

    def _batches(self, generator: Any) -> Iterator[tuple[Any, Any]]:
        """Values in units of σ, and whitened coordinates u = z/√λ, of rows in a new order each epoch."""
        whole = Rows(0, self.known, np.ones(self.known.shape, dtype=bool))
        z = complete_coordinates(self.basis.V, whole)[:, : self.k] / np.sqrt(self.basis.prior[: self.k])
        values = torch.as_tensor(self.known / self._scale, dtype=torch.float32)
        targets = torch.as_tensor(z, dtype=torch.float32)
        for _ in range(self.epochs):
            order = torch.randperm(len(values), generator=generator)
            for some in torch.split(order, _BATCH):
                yield values[some], targets[some]

    def _mask(self, shape: Any, generator: Any) -> Any:
        low, high = np.log(self.shares)
        share = torch.exp(low + (high - low) * torch.rand((shape[0], 1), generator=generator))
        return torch.rand(shape, generator=generator) < share


def _layers(inputs: int, outputs: int, seed: int) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Linear(inputs, _HIDDEN), torch.nn.ReLU(),
            torch.nn.Linear(_HIDDEN, _HIDDEN), torch.nn.ReLU(),
            torch.nn.Linear(_HIDDEN, outputs),
        )  # fmt: skip


def _inputs(values: Any, seen: Any) -> Any:
    return torch.cat([values, seen.to(values.dtype)], dim=1)
