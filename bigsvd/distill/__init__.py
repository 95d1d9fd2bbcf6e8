"""Distillation: a student learnt from factors predicts those of new data with gaps, without their SVD.

``fit`` makes a student, ``predict`` the factors of new data by it; ``evaluate`` says what it is worth.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bigsvd.distill.evaluating import evaluate
    from bigsvd.distill.evaluation import Evaluation
    from bigsvd.distill.fitting import fit
    from bigsvd.distill.predicting import predict
    from bigsvd.distill.student import Student, open_student

__all__ = ["Evaluation", "Student", "evaluate", "fit", "open_student", "predict"]

_PLACES = {
    "Evaluation": "bigsvd.distill.evaluation",
    "Student": "bigsvd.distill.student",
    "evaluate": "bigsvd.distill.evaluating",
    "fit": "bigsvd.distill.fitting",
    "open_student": "bigsvd.distill.student",
    "predict": "bigsvd.distill.predicting",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        message = f"module 'bigsvd.distill' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_PLACES[name]), name)
