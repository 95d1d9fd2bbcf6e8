"""Results: what they hold and how good they are, any part of them as numbers; truncated, deleted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from bigsvd.errors import ScopeError
from bigsvd.results.factors import Factors
from bigsvd.results.judged import judged
from bigsvd.results.leading import publish_leading
from bigsvd.service.http.bodies import STRICT, StrictRoute, Text
from bigsvd.service.http.dependencies import READ, SUBMIT, Service, ServiceHere, Submitter, User
from bigsvd.service.http.problems import told
from bigsvd.service.results.deletion import remove_result
from bigsvd.service.results.lookup import (
    ResultId,
    check_is_own,
    found_result,
    id_of_path,
    job_of,
    opened,
    own_job,
)

router = APIRouter(prefix="/v1/results", tags=["results"], route_class=StrictRoute)

OF_RESULTS = told(404, 409, 410)


class ResultLinks(BaseModel):
    """Where more about a result is."""

    self: str
    job: str | None
    rank: str
    spectrum: str
    region: str
    zarr: str

    @classmethod
    def of(cls, result: str, job: str | None) -> ResultLinks:
        """Those of a result's id."""
        here = f"/v1/results/{result}"
        return cls(
            self=here, job=None if job is None else f"/v1/jobs/{job}", rank=f"{here}/rank",
            spectrum=f"{here}/spectrum", region=f"{here}/region", zarr=f"{here}/zarr",
        )  # fmt: skip


class ResultAnswer(BaseModel):
    """The facts that `bigsvd info --json` prints, and where more is."""

    model_config = ConfigDict(extra="allow")
    id: str
    path: str
    shape: list[int]
    full_shape: list[int] = Field(description="Of the data, of which A may be some rows and columns.")
    k: int
    dtype: str
    s: list[float]
    samples: str
    explained_variance_ratio: list[float]
    certificate: dict[str, Any]
    source: dict[str, Any]
    predicted: dict[str, Any] | None = Field(
        description="How they were predicted, where no SVD has computed them: nothing of it is certified."
    )
    links: ResultLinks


class RankRowAnswer(BaseModel):
    """What the k leading triplets keep and cost."""

    k: int
    sigma: float
    energy: float
    relative_error: float
    next_sigma: float | None
    bytes: int
    compression_ratio: float
    residual: float | None


class ChoiceAnswer(BaseModel):
    """The k that a rule asks for."""

    rule: str
    k: int | None
    note: str


class TracyWidomAnswer(BaseModel):
    """The test of Tracy & Widom: of genotypes, whether a component is larger than one of noise."""

    statistic: float | None
    p_value: float | None
    error: float | None
    effective: float | None


class RankAnswer(BaseModel):
    """What `bigsvd rank --json` prints."""

    rows: list[RankRowAnswer]
    choices: list[ChoiceAnswer]
    break_even: int
    predicted: str | None = Field(description="What a reader has to know of values that were predicted.")
    tracy_widom: list[TracyWidomAnswer] | None = Field(description="Of genotypes the test of each component.")


class NoiseAnswer(BaseModel):
    """Noise that explains all but `rank` values, those above `threshold`."""

    rank: int
    level: float
    threshold: float
    resolved: bool


class SpectrumAnswer(BaseModel):
    """The singular values, and what share of the whole each explains."""

    s: list[float]
    explained: list[float]
    cumulative: list[float]
    noise: NoiseAnswer
    predicted: str | None = Field(description="The same as of the rank table.")
    spectrum: dict[str, Any] = Field(description="What rank rules need to know.")


class TruncateBody(BaseModel):
    """How much of a result is to be kept, and where."""

    model_config = STRICT
    k: int = Field(ge=1)
    out: Text


def _described(result: str, factors: Factors, job: str | None) -> ResultAnswer:
    links = ResultLinks.of(result, job)
    return ResultAnswer.model_validate(factors.info() | {"id": result, "links": links})


@router.get("", responses=OF_RESULTS, dependencies=READ)
def by_path(service: ServiceHere, path: Annotated[str, Query(min_length=1, max_length=4000)]) -> ResultAnswer:
    """The result at a path below a root, whoever made it: its `id` opens all else."""
    result = id_of_path(service.roots.output(path))
    return _described(result, opened(service, result), None)


@router.get("/{result}", responses=OF_RESULTS, dependencies=READ)
def info(result: ResultId, service: ServiceHere) -> ResultAnswer:
    """What it holds, and its certificate."""
    row = job_of(service, result)
    return _described(result, opened(service, result), None if row is None else row.id)


@router.get("/{result}/rank", responses=OF_RESULTS, dependencies=READ)
def rank(
    result: ResultId,
    service: ServiceHere,
    energy: Annotated[float | None, Query(gt=0, le=1, description="Share of the squared norm.")] = None,
    error: Annotated[float | None, Query(ge=0, lt=1, description="Relative error.")] = None,
    max_bytes: Annotated[int | None, Query(ge=0, description="Size of the factors.")] = None,
) -> RankAnswer:
    """Accuracy against storage for every k, and which k each rule would choose."""
    found = judged(opened(service, result), energy=energy, error=error, max_bytes=max_bytes)
    return RankAnswer.model_validate(found.to_dict())


@router.get("/{result}/spectrum", responses=OF_RESULTS, dependencies=READ)
def spectrum(result: ResultId, service: ServiceHere) -> SpectrumAnswer:
    """The singular values, the share that each explains, and where noise begins."""
    factors = opened(service, result)
    found = judged(factors)
    return SpectrumAnswer(
        s=factors.s.tolist(),
        explained=factors.explained_variance_ratio.tolist(),
        cumulative=[row["energy"] for row in found.rows],
        noise=NoiseAnswer(**asdict(found.noise)),
        predicted=found.said or None,
        spectrum=found.spectrum.to_dict(),
    )


@router.post("/{result}/truncate", status_code=201, responses=told(404, 409, 410, 507), dependencies=SUBMIT)
def truncated(result: ResultId, body: TruncateBody, service: ServiceHere, response: Response) -> ResultAnswer:
    """Publish its k leading triplets as a result of their own."""
    out = service.roots.output(body.out)
    published = publish_leading(opened(service, result), body.k, out)
    made = id_of_path(str(published.path))
    response.headers["Location"] = f"/v1/results/{made}"
    return _described(made, published, None)


@router.delete("/{result}", status_code=204, responses=OF_RESULTS)
def deleted(result: ResultId, user: Submitter, service: ServiceHere) -> None:
    """Delete the factors, links to them, and the record of their job."""
    path = _to_delete(service, user, result)
    remove_result(service, result, path)


def _to_delete(service: Service, user: User, result: str) -> Path:
    """Where a result is that this user may delete."""
    row = job_of(service, result)
    if row is not None:
        check_is_own(own_job(service, user, row.id))
    elif not user.may("admin"):
        raise ScopeError(f"{user.name} may not delete what no job of theirs made", "ask an administrator")
    return found_result(service, result)[0]
