"""bigsvd: the truncated SVD of a matrix larger than memory, certified. Zarr in, Zarr out, on Dask.

The heavy names load their libraries when first used: ``import bigsvd`` imports neither Dask nor CuPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bigsvd import errors
    from bigsvd.client.client import Client
    from bigsvd.climate.eof import EOF
    from bigsvd.gaps import with_gaps
    from bigsvd.jobs.job import Job
    from bigsvd.jobs.submit import submit
    from bigsvd.planning.plan import Plan
    from bigsvd.request import Request
    from bigsvd.results.certificate import Certificate
    from bigsvd.results.factors import Factors
    from bigsvd.results.factors import open_factors as open  # noqa: A004 - the contract's name
    from bigsvd.solve import plan, svd

__version__ = "0.1.0"
__all__ = [
    "EOF",
    "Certificate",
    "Client",
    "Factors",
    "Job",
    "Plan",
    "Request",
    "errors",
    "open",
    "plan",
    "submit",
    "svd",
    "with_gaps",
]

_PLACES = {
    "Certificate": ("bigsvd.results.certificate", "Certificate"),
    "Client": ("bigsvd.client.client", "Client"),
    "EOF": ("bigsvd.climate.eof", "EOF"),
    "Factors": ("bigsvd.results.factors", "Factors"),
    "Job": ("bigsvd.jobs.job", "Job"),
    "Plan": ("bigsvd.planning.plan", "Plan"),
    "Request": ("bigsvd.request", "Request"),
    "open": ("bigsvd.results.factors", "open_factors"),
    "plan": ("bigsvd.solve", "plan"),
    "submit": ("bigsvd.jobs.submit", "submit"),
    "svd": ("bigsvd.solve", "svd"),
    "with_gaps": ("bigsvd.gaps", "with_gaps"),
}


def __getattr__(name: str) -> Any:
    if name in ("anndata", "errors", "estimators", "fluids", "genetics", "recommend"):
        return import_module(f"bigsvd.{name}")
    if name not in _PLACES:
        message = f"module 'bigsvd' has no attribute {name!r}"
        raise AttributeError(message)
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)
