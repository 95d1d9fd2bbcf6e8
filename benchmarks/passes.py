"""Passes over the data to an answer of a given quality, by family of matrices and by method.

Every answer (s, V) is judged by the same function against the float64 Gram matrix G = BᵀB of the matrix that
is decomposed, B being that matrix with its short side across: M×N, M ≥ N.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.contenders import MEMORY, Answer, Contender, Task
from benchmarks.data import THREADS
from benchmarks.families import Problem, decomposed
from benchmarks.machine import limited_to, provenance
from benchmarks.measure import Accuracy, accuracy
from benchmarks.peers import OVERSAMPLING, SEED
from benchmarks.reference import Triplets, triplets


@dataclass(frozen=True)
class Targets:
    """When a contender has arrived, and when it gives up.

    Attributes:
        tol: bound on the worst residual. excess: bound on ‖B−B·V·Vᵀ‖_F/‖B‖_F above the least possible.
        max_passes: no further answer is asked for after so many passes.

    """

    tol: float
    excess: float
    max_passes: int


@dataclass(frozen=True)
class Exact:
    """G = BᵀB (N, N) float64, and its eigenvectors as singular triplets of B."""

    gram: np.ndarray
    triplets: Triplets


@dataclass(frozen=True)
class Judgement:
    """An answer against the matrix.

    Attributes:
        residual: max ‖BᵀB·v − θ·v‖/θ with θ = s², v of unit length.
        excess: ‖B−B·P‖_F/‖B‖_F less the least possible for k, P the projector on the span of all v.
        passes, claimed, resampled: of the answer.

    """

    passes: float
    residual: float
    excess: float
    claimed: float | None
    resampled: float
    accuracy: Accuracy

    def to_dict(self) -> dict[str, Any]:
        """JSON values, flat."""
        values = asdict(self)
        errors: dict[str, Any] = values.pop("accuracy")
        return values | errors


def exact(matrix: np.ndarray, keep: int) -> Exact:
    """The reference of a matrix (m, n) float64; `keep` singular vectors are kept."""
    B = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    gram = B.T @ B
    return Exact(gram, triplets(gram, keep))


def judge(answer: Answer, reference: Exact) -> Judgement:
    """See `Judgement`; every s must be above 0."""
    gram = reference.gram
    V = np.asarray(answer.vectors, dtype=np.float64).T
    V = V / np.linalg.norm(V, axis=0)
    theta = np.asarray(answer.sigma, dtype=np.float64) ** 2
    residuals = np.linalg.norm(gram @ V - V * theta, axis=0) / theta
    Q, _ = np.linalg.qr(V)
    energy = float(np.trace(gram))
    error = _relative_error(float(np.sum(Q * (gram @ Q))), energy)
    best = _relative_error(float(np.sum(reference.triplets.sigma[: theta.size] ** 2)), energy)
    return Judgement(
        answer.passes,
        float(residuals.max()),
        max(0.0, error - best),
        answer.claimed,
        answer.resampled,
        accuracy(answer.sigma, answer.vectors, reference.triplets),
    )


def _relative_error(captured: float, energy: float) -> float:
    return float(np.sqrt(max(0.0, 1.0 - captured / energy)))


def follow(contender: Contender, task: Task, reference: Exact, targets: Targets) -> list[Judgement]:
    """Its answers, until both targets are reached, it stops by itself, or the passes are used up."""
    judged: list[Judgement] = []
    for answer in contender.answers(task):
        judged.append(judge(answer, reference))
        arrived = _first(judged, "residual", targets.tol), _first(judged, "excess", targets.excess)
        if None not in arrived or answer.passes >= targets.max_passes:
            break
    return judged


def _first(judged: Iterable[Judgement], name: str, bound: float) -> float | None:
    """Passes at the first answer within the bound."""
    return next((point.passes for point in judged if getattr(point, name) <= bound), None)


def run_passes(
    problems: Iterable[Problem],
    contenders: Sequence[Contender],
    targets: Targets,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """These contenders on every problem."""
    measured_with = provenance()
    with limited_to(THREADS):
        families = [_family(problem, contenders, targets, tell) for problem in problems]
    return {
        **measured_with,
        "parameters": {**asdict(targets), "oversampling": OVERSAMPLING, "seed": SEED, "memory": MEMORY},
        "families": families,
    }


def _family(
    problem: Problem, contenders: Sequence[Contender], targets: Targets, tell: Callable[[str], None]
) -> dict[str, Any]:
    matrix = decomposed(problem)
    k = problem.k
    reference = exact(matrix, k)
    task = Task(problem, matrix.astype(np.float32), targets.tol, targets.max_passes)
    del matrix
    rows = []
    for contender in contenders:
        judged = follow(contender, task, reference, targets)
        rows.append(_row(contender, judged, targets))
        tell(f"{problem.label}, {contender.label}: {judged[-1].passes:.2f} passes, {judged[-1].residual:.1e}")
    sigma = reference.triplets.sigma
    plan = import_module("bigsvd").plan(problem.stored, k, memory=MEMORY, tol=targets.tol, **problem.options)
    return {
        "name": problem.name,
        "label": problem.label,
        "origin": problem.origin,
        "shape": list(problem.stored.shape),
        "dtype": problem.stored.dtype.name,
        "options": problem.options,
        "k": k,
        "sigma_1": float(sigma[0]),
        "sigma_k": float(sigma[k - 1]),
        "sigma_k_plus_1": float(sigma[k]),
        "auto": {"method": plan.method, "expected_passes": plan.expected_passes},
        "contenders": rows,
    }


def _row(contender: Contender, judged: list[Judgement], targets: Targets) -> dict[str, Any]:
    return {
        "name": contender.name,
        "label": contender.label,
        "family": contender.family,
        "passes_to_residual": _first(judged, "residual", targets.tol),
        "passes_to_excess": _first(judged, "excess", targets.excess),
        "answers": [point.to_dict() for point in judged],
    }
