"""Links: whoever has one reads one result as a Zarr array, without a token, until it runs out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from bigsvd.errors import LinkError
from bigsvd.results.factors import check_rank
from bigsvd.service.http.base_url import called_at
from bigsvd.service.http.bodies import STRICT, StrictRoute, Words
from bigsvd.service.http.dependencies import ServiceHere, Submitter, User
from bigsvd.service.http.problems import told
from bigsvd.service.results.lookup import ResultId, opened
from bigsvd.service.store.tokens import Link

router = APIRouter(prefix="/v1", tags=["links"], route_class=StrictRoute)

_WEEK_SECONDS = 7 * 86400.0
LinkId = Annotated[str, Path(pattern="^[0-9a-f]{1,32}$")]


class LinkBody(BaseModel):
    """What a link is to be."""

    model_config = STRICT
    seconds: float = Field(_WEEK_SECONDS, gt=0, description="Until it runs out.")
    name: Words = Field("", description="Whom or what it is for.")
    k: int | None = Field(None, ge=1, description="How many triplets it shows; null for all.")


class LinkAnswer(BaseModel):
    """A link, without the secret by which it opens."""

    id: str
    result: str
    owner: str
    name: str
    k: int | None
    created: datetime
    expires: datetime

    @classmethod
    def of(cls, link: Link) -> LinkAnswer:
        """That of a row of the table."""
        created, expires = (datetime.fromtimestamp(when, UTC) for when in (link.created, link.expires))
        return cls(
            id=link.id, result=link.job, owner=link.owner, name=link.name, k=link.k, created=created,
            expires=expires,
        )  # fmt: skip


class NewLinkAnswer(LinkAnswer):
    """A link, and the URLs that are shown only now."""

    url: str = Field(description="Of the array `reconstruction`: zarr.open_array(url).")
    zarr_url: str = Field(description="Of the group: the array, its zoom levels, U, s and Vt.")


class LinksAnswer(BaseModel):
    """Links that hold, the newest first."""

    links: list[LinkAnswer]


@router.post("/results/{result}/links", status_code=201, responses=told(404, 409, 410))
def made(
    result: ResultId, body: LinkBody, user: Submitter, service: ServiceHere, http: Request, response: Response
) -> NewLinkAnswer:
    """Make a link to a result; its URLs are told once."""
    most = opened(service, result).k
    check_rank(body.k or most, most)
    secret, link = service.links.make(result, user.name, body.name, body.seconds, body.k)
    zarr_url = f"{called_at(http)}/v1/links/{secret}/zarr"
    response.headers["Location"] = f"/v1/links/{link.id}"
    about = LinkAnswer.of(link).model_dump()
    return NewLinkAnswer(**about, url=f"{zarr_url}/reconstruction", zarr_url=zarr_url)


@router.get("/results/{result}/links", responses=told(404, 409, 410))
def listed(result: ResultId, user: Submitter, service: ServiceHere) -> LinksAnswer:
    """One's own links to a result which hold; an administrator sees all."""
    opened(service, result)
    return LinksAnswer(links=[LinkAnswer.of(link) for link in service.links.of(result) if _sees(user, link)])


@router.delete("/links/{link}", status_code=204, responses=told(404))
def revoked(link: LinkId, user: Submitter, service: ServiceHere) -> None:
    """Let nobody read by it any more."""
    if not _sees(user, service.links.get(link)):
        raise LinkError(f"there is no link {link} of {user.name}", "look which there are to its result")
    service.links.revoke(link)


def _sees(user: User, link: Link) -> bool:
    return link.owner == user.name or user.may("admin")
