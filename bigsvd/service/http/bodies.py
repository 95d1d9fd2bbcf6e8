"""The bodies of requests: models made of the fields of `Request`, so that neither can know one more.

Words and ranges are checked by `Request` itself, whose errors name both numbers and a remedy; here are the
kinds of JSON values alone. Numbers that JSON has none for are refused, but for `missing_value`, which spells
them as a `Request` does: "nan", "inf", "-inf".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import fields
from inspect import getdoc
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from fastapi import Request as HttpRequest
from fastapi import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import from_json

from bigsvd.catalog.table import METHODS
from bigsvd.jobs.record import Terms
from bigsvd.request import CHOICES, Request

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_RULES = ("energy", "error", "max_bytes")  # by which k may be chosen
_MOST_TEXT = 4096  # characters of a path or URL
_MOST_WORDS = 200  # characters of a name or a label
_MOST_VALUES = 100  # of a list
_MOST_LABELS = 20
_MOST_ATTEMPTS = 1000

Text = Annotated[str, Field(min_length=1, max_length=_MOST_TEXT)]
Words = Annotated[str, Field(max_length=_MOST_WORDS)]
Size = Annotated[int, Field(ge=1)] | Annotated[str, Field(max_length=_MOST_WORDS)]
Sentinel = Annotated[float, Field()] | int | Literal["nan", "inf", "-inf"]
# Fields that JSON spells otherwise than Python does, or in more ways.
_SPELLED: dict[str, Any] = {
    "source": Text,
    "k": Annotated[int, Field(ge=1)] | Literal["auto"],
    "functions": Annotated[list[Text], Field(max_length=_MOST_VALUES)] | Text,
    "method": Literal["auto", *METHODS],
    "missing_value": Sentinel
    | Annotated[list[Sentinel], Field(min_length=1, max_length=_MOST_VALUES)]
    | None,
    "memory": Size | None,
    "device_memory": Size | None,
    "max_bytes": Size | None,
    "scale": bool | Text,
    "ddof": Literal[0, 1],
}


def _descriptions() -> Iterator[tuple[str, str]]:
    """What `Request` says of its fields."""
    told = re.findall(r"^    ([a-z_, ]+): (.+(?:\n        .+)*)", getdoc(Request) or "", re.MULTILINE)
    for names, text in told:
        for name in names.split(", "):
            yield name, " ".join(text.split()).replace("`", "")


def _kind_of(name: str, hint: Any) -> Any:
    """The kind of JSON values of a field."""
    if name in _SPELLED:
        return _SPELLED[name]
    if name in CHOICES:
        return Literal[*CHOICES[name]]
    texts = {str: Text, str | None: Text | None, str | int | None: Text | int | None}
    return texts.get(hint, hint)


def _fields() -> Iterator[tuple[str, Any]]:
    """A field of the model for each of a request, and for each that one method alone has."""
    hints, descriptions = get_type_hints(Request), dict(_descriptions())
    for field in fields(Request):
        if field.name == "method_options":
            continue
        described = descriptions.get(field.name)
        kind = _kind_of(field.name, hints[field.name])
        if field.name == "source":
            yield field.name, (kind, Field(description=described))
        elif field.name == "k":  # which a rule may stand for
            yield field.name, (kind | None, Field(None, description=described))
        else:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            yield field.name, (kind, Field(default, description=described))
    for method, row in METHODS.items():
        for name, hint in get_type_hints(row.options).items() if row.options else ():
            yield name, (hint | None, Field(None, description=f"With method={method!r} only."))


if TYPE_CHECKING:
    _OfRequest = BaseModel
else:
    _OfRequest = create_model("_OfRequest", __config__=STRICT, **dict(_fields()))


class PlanBody(_OfRequest):
    """What is asked of a decomposition."""

    def request(self) -> Request:
        """The value that this is of.

        Raises:
            BadInputError: a value means nothing, or two contradict each other.

        """
        given = self.model_dump(exclude_unset=True)
        asked = {name: given[name] for name in given if name in _OfRequest.model_fields}
        if asked.get("k") is None:
            asked.pop("k", None)
            asked |= {"k": "auto"} if any(asked.get(rule) is not None for rule in _RULES) else {}
        return Request.from_dict(asked)


class JobBody(PlanBody):
    """What is asked of a job: of its decomposition, and how that is to be carried out."""

    out: Text = Field(description="Path of the factor store to publish.")
    name: Words = Field("", description="What people call it by.")
    labels: dict[Words, Words] = Field({}, max_length=_MOST_LABELS, description="Further words for it.")
    attempts: int = Field(
        Terms.attempts, ge=1, le=_MOST_ATTEMPTS,
        description="Tries in a row that may fail for want of workers, scheduler or storage.",
    )  # fmt: skip
    max_runtime_seconds: float | None = Field(
        None, gt=0, description="From its submission, after which the job has failed."
    )

    def terms(self) -> Terms:
        """How it is to be carried out."""
        return Terms(self.attempts, self.max_runtime_seconds)


class _StrictRequest(HttpRequest):
    """A request whose JSON has no NaN or Infinity, no lone surrogates, and is not nested without end."""

    async def json(self) -> Any:
        """The body's value."""
        body = await self.body()
        try:
            return from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), body.decode(errors="replace"), 0) from error


class StrictRoute(APIRoute):
    """A route whose bodies are read so; for `APIRouter(route_class=StrictRoute)`."""

    def get_route_handler(self) -> Callable[[HttpRequest], Coroutine[Any, Any, Response]]:
        """As FastAPI makes it, for such requests."""
        handle = super().get_route_handler()

        async def strict(request: HttpRequest) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strict
