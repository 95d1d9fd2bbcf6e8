"""Parts of a result as numbers: regions of the reconstruction and of the data, components, scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from bigsvd.errors import RequestError, TooLargeError
from bigsvd.originals import Original, source_of
from bigsvd.results.factors import Factors
from bigsvd.service.http.array_bodies import (
    FORMATS,
    NPY,
    Format,
    Matrix,
    Number,
    answered,
    check_size,
    from_npy,
)
from bigsvd.service.http.bodies import STRICT
from bigsvd.service.http.dependencies import READ, Service, ServiceHere
from bigsvd.service.http.problems import told
from bigsvd.service.http.ranges import Span, span_of
from bigsvd.service.results.lookup import ResultId, opened

router = APIRouter(prefix="/v1/results", tags=["results"])

_OF_NUMBERS = told(404, 409, 410, 413)
_DOUBLE_BYTES = 8
_AXES = ("rows", "cols")

Triplets = Annotated[int | None, Query(ge=1, description="How many of the leading triplets; null for all.")]


Bounds = Annotated[list[int], Field(min_length=2, max_length=2, description="Start and stop.")]


class RegionAnswer(Matrix):
    """A region; null where nothing is known."""

    rows: Bounds
    cols: Bounds


class ComponentsAnswer(Matrix):
    """Vectors, a row for each triplet."""

    range: Bounds
    triplets: Bounds


class ScoresAnswer(Matrix):
    """Coordinates of samples, a row for each."""


class SamplesBody(BaseModel):
    """New samples, as those of A lie; null where one has no value."""

    model_config = STRICT
    samples: list[list[Number]] = Field(min_length=1)


def _leading(factors: Factors, k: int | None) -> Factors:
    return factors if k is None else factors.truncate(k)


@router.get(
    "/{result}/region",
    response_model=RegionAnswer,
    responses=_OF_NUMBERS | {200: {"content": FORMATS, "description": "As `format` asks."}},
    dependencies=READ,
)
async def region(
    result: ResultId,
    service: ServiceHere,
    rows: Span = ":",
    cols: Span = ":",
    k: Triplets = None,
    of: Literal["reconstruction", "original", "difference"] = "reconstruction",
    format: Format = "json",  # noqa: A002 - the contract's word
) -> Response:
    """A region of U diag(s) Vt in the data's own units, of the data, or of what the factors miss of them.

    Rows and columns are those of the data; where factors are of some of them only, the others are null.
    """

    def computed() -> Response:
        factors = _leading(opened(service, result), k)
        m, n = factors.kept.shape
        box = span_of("rows", rows, m), span_of("cols", cols, n)
        itemsize = factors.dtype.itemsize if of == "reconstruction" else _DOUBLE_BYTES
        check_size("the region", _shape_of(box), itemsize, format, service.settings.limits.region_bytes)
        return answered(_values(service, factors, box, of), format, _ends(rows=box[0], cols=box[1]))

    if of == "reconstruction":
        return await _in_turn(service, computed)
    return await to_thread.run_sync(computed, limiter=service.arrays.reading)  # they hold up nobody else


async def _in_turn(service: Service, computed: Callable[[], Response]) -> Response:
    """An answer that a thread computes, of which only so many work, and hold memory, at a time."""
    return await service.arrays.background.run(computed)


def _shape_of(box: tuple[slice, ...]) -> tuple[int, ...]:
    return tuple(span.stop - span.start for span in box)


def _ends(**spans: slice) -> dict[str, Any]:
    """Start and stop of ranges, as JSON has them."""
    return {name: [span.start, span.stop] for name, span in spans.items()}


def _values(service: Service, factors: Factors, box: tuple[slice, slice], of: str) -> np.ndarray:
    if of == "reconstruction":
        return np.asarray(factors[box])
    data = _original(service, factors, box)
    if of == "original":
        return data
    return data - np.asarray(factors[box], dtype=np.float64)


def _original(service: Service, factors: Factors, box: tuple[slice, slice]) -> np.ndarray:
    """The data there.

    Raises:
        TooLargeError: too many chunks hold them. SourceChangedError: they are not what was decomposed.
        BadInputError: they are nowhere this server reads.

    """
    original = Original.of(factors, service.roots.source(source_of(factors)))
    chunks, most = original.chunks_for(*box), service.settings.limits.source_chunks
    if chunks > most:
        raise TooLargeError(
            f"the region touches {chunks:,} chunks of the data, over the limits.source_chunks={most}",
            "ask for a smaller one",
        )
    return original.region(*box)


@router.get(
    "/{result}/components",
    response_model=ComponentsAnswer,
    responses=_OF_NUMBERS | {200: {"content": FORMATS, "description": "As `format` asks."}},
    dependencies=READ,
)
async def components(
    result: ResultId,
    service: ServiceHere,
    axis: Literal["rows", "cols"],
    range: Span = ":",  # noqa: A002 - the contract's word
    triplets: Span = ":",
    format: Format = "json",  # noqa: A002
) -> Response:
    """Singular vectors, a row for each triplet: of U with axis=rows, of V with axis=cols.

    The `range` is of lines of A, which are those of the data that the factors are of.
    """

    def read() -> Response:
        factors = opened(service, result)
        lines = span_of("range", range, factors.shape[_AXES.index(axis)])
        some = span_of("triplets", triplets, factors.k)
        most = service.settings.limits.region_bytes
        check_size("this", _shape_of((some, lines)), factors.dtype.itemsize, format, most)
        return answered(_vectors(factors, axis, lines, some), format, _ends(range=lines, triplets=some))

    return await _in_turn(service, read)


def _vectors(factors: Factors, axis: str, lines: slice, some: slice) -> np.ndarray:
    """Some lines of some vectors of U or V, a row for each vector."""
    if axis == _AXES[0]:
        return np.asarray(factors.U[lines, some]).T
    return np.asarray(factors.Vt[some, lines])


@router.post(
    "/{result}/project",
    response_model=ScoresAnswer,
    responses=_OF_NUMBERS | {200: {"content": FORMATS, "description": "As `format` asks."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": SamplesBody.model_json_schema()},
                NPY: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
    dependencies=READ,
)
async def project(
    result: ResultId,
    service: ServiceHere,
    http: Request,
    k: Triplets = None,
    format: Format = "json",  # noqa: A002 - the contract's word
) -> Response:
    """The coordinates of new samples: ((x - mean) / scale * weights) V."""
    body, kind = await http.body(), http.headers.get("content-type", "").partition(";")[0].strip()
    return await _in_turn(service, partial(_projected, service, result, body, kind, k, format))


def _projected(service: Service, result: str, body: bytes, kind: str, k: int | None, wanted: str) -> Response:
    most_bytes = service.settings.limits.region_bytes
    samples = from_npy(body) if kind == NPY else _from_json(body, kind, most_bytes)
    factors = _leading(opened(service, result), k)
    scores = np.atleast_2d(factors.project(samples))
    check_size("this", scores.shape, _DOUBLE_BYTES, wanted, most_bytes)
    return answered(scores, wanted, {})


def _from_json(body: bytes, kind: str, most_bytes: int) -> np.ndarray:
    """Samples as JSON, of which there may be as many numbers as answers have: each is an object in memory."""
    if kind != "application/json":
        raise RequestError(f"the body is {kind or 'nothing'}", f"send application/json or {NPY}")
    check_size("the body", (body.count(b",") + 1,), _DOUBLE_BYTES, "json", most_bytes)
    rows = _samples(body).samples
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise RequestError(f"samples have {min(lengths)} to {max(lengths)} values", "give all as many")
    return np.array(rows, dtype=np.float64)


def _samples(body: bytes) -> SamplesBody:
    adapter: TypeAdapter[SamplesBody] = TypeAdapter(SamplesBody)
    try:
        return adapter.validate_python(from_json(body, allow_inf_nan=False))
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RequestError(f"body.{where}: {first['msg']}", 'send {"samples": [[...], ...]}') from error
    except ValueError as error:
        raise RequestError(f"the body is no JSON ({error})", 'send {"samples": [[...], ...]}') from error
