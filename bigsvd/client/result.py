"""`RemoteResult`: factors that lie with a service, judged, opened, shared and projected on from here."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bigsvd.client.wire import Wire
from bigsvd.errors import BigsvdError, ServiceError, StateError, by_code
from bigsvd.results.certificate import Certificate
from bigsvd.results.rank import Spectrum
from bigsvd.results.verification import Verification

if TYPE_CHECKING:
    import zarr

_LOOK_SECONDS = 1.0
_NPY = "application/x-npy"
Span = slice | tuple[int, int] | None
Part = Literal["reconstruction", "original", "difference"]


@dataclass(frozen=True)
class ShareLink:
    """A way to a result for whoever has it.

    Attributes:
        url: of the reconstruction, which any reader of Zarr opens as an array; the secret is in its path.
        zarr_url: of the group that holds it, with its zoom levels, U, s and Vt. expires: when, in ISO 8601.

    """

    id: str
    url: str
    zarr_url: str
    expires: str


class RemoteResult:
    """A published truncated SVD at a service, by the id of its job."""

    def __init__(self, wire: Wire, result_id: str) -> None:
        self.id = result_id
        self._wire = wire
        self._path = f"v1/results/{result_id}"

    def __repr__(self) -> str:
        return f"<bigsvd result {self.id} at {self._wire.url}>"

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return self._wire.told("GET", self._path)

    def info(self) -> dict[str, Any]:
        """The facts that ``bigsvd info --json`` prints."""
        return {name: value for name, value in self._facts.items() if name not in ("id", "links")}

    @property
    def path(self) -> Path:
        """Where it lies on the service's machine."""
        return Path(self._facts["path"])

    @property
    def certificate(self) -> Certificate:
        """What is known of the error."""
        return Certificate.from_dict(self._facts["certificate"])

    def rank(self) -> dict[str, Any]:
        """Accuracy against storage for every k: what ``bigsvd rank --json`` prints."""
        return self._wire.told("GET", f"{self._path}/rank")

    def spectrum(self) -> Spectrum:
        """What the rank rules need to know."""
        return Spectrum.from_dict(self._wire.told("GET", f"{self._path}/spectrum")["spectrum"])

    def region(
        self, rows: Span = None, cols: Span = None, *, k: int | None = None, of: Part = "reconstruction"
    ) -> npt.NDArray[Any]:
        """A region (rows, cols) in the data's own units, NaN where they have no value.

        Args:
            rows: a slice of step 1, or (start, stop); None for all.
            cols: the same of columns.
            k: by the first k triplets; by all where it is None.
            of: which numbers: the reconstruction, the data themselves, or the difference of both.

        Raises:
            TooLargeError: the service answers with less at a time.

        """
        given = {"rows": _span(rows), "cols": _span(cols), "of": of, "format": "npy"}
        return self._numbers("GET", "region", params=given if k is None else given | {"k": k})

    def components(self, axis: Literal["rows", "cols"], span: Span = None) -> npt.NDArray[Any]:
        """Singular vectors, a row for each triplet: of U for some rows of A, or of V for some columns."""
        given = {"axis": axis, "range": _span(span), "format": "npy"}
        return self._numbers("GET", "components", params=given)

    def project(self, samples: npt.ArrayLike) -> npt.NDArray[Any]:
        """The coordinates (r, k) of new samples, each as long as those of the data."""
        body = io.BytesIO()
        np.save(body, np.asarray(samples), allow_pickle=False)
        return self._numbers(
            "POST",
            "project",
            content=body.getvalue(),
            headers={"Content-Type": _NPY},
            params={"format": "npy"},
        )

    def verify(self) -> Verification:
        """Whether the result holds what its certificate says, by one pass over the data; when that is known.

        Raises:
            BigsvdError: it could not be found out.

        """
        try:
            told = self._wire.told("POST", f"{self._path}/verify")
        except StateError:  # somebody has asked for it already
            told = {}
        while told.get("state", "running") == "running":
            self._wire.pause(_LOOK_SECONDS)
            told = self._wire.told("GET", f"{self._path}/verify")
        if told["state"] == "done":
            return Verification.from_dict(told["verification"])
        raise _failure(told.get("error"))

    def truncate(self, k: int, out: str) -> dict[str, Any]:
        """Publish the best approximation of rank k that it contains at `out`; what the service says of it."""
        return self._wire.told("POST", f"{self._path}/truncate", json={"k": k, "out": out}, once=True)

    def link(self, *, seconds: float | None = None, name: str = "", k: int | None = None) -> ShareLink:
        """A link that whoever has it may read the result by, of rank k, for so many seconds."""
        given = {"seconds": seconds, "name": name, "k": k}
        body = {key: value for key, value in given.items() if value not in (None, "")}
        told = self._wire.told("POST", f"{self._path}/links", json=body, once=True)
        return ShareLink(*(str(told[key]) for key in ("id", "url", "zarr_url", "expires")))

    def links(self) -> list[dict[str, Any]]:
        """The links that hold; their secrets are known only to those who were given them."""
        found: list[dict[str, Any]] = self._wire.told("GET", f"{self._path}/links")["links"]
        return found

    def revoke(self, link: ShareLink | str) -> None:
        """Let a link lead nowhere."""
        link_id = link if isinstance(link, str) else link.id
        self._wire.wish("DELETE", f"v1/links/{link_id}")

    def open(self, k: int | None = None) -> zarr.Array[Any]:
        """The reconstruction, of rank k, as a Zarr array; the service computes chunks when they are read."""
        from bigsvd.client.arrays import open_array  # noqa: PLC0415 - imports Zarr and obstore

        group = "zarr" if k is None else f"zarr@{k}"
        return open_array(f"{self._wire.url}/{self._path}/{group}", "reconstruction", self._wire.headers)

    def delete(self) -> None:
        """Delete the factors and the record of their job."""
        self._wire.wish("DELETE", self._path)

    def _numbers(self, method: str, path: str, **given: Any) -> npt.NDArray[Any]:
        answer = self._wire.ask(method, f"{self._path}/{path}", **given)
        try:
            found: npt.NDArray[Any] = np.load(io.BytesIO(answer.content), allow_pickle=False)
        except (EOFError, ValueError) as error:
            raise ServiceError(
                f"{self._wire.url} answers with no array ({error})", "look at its URL"
            ) from error
        return found


def _span(span: Span) -> str:
    if span is None:
        return ":"
    start, stop = (span.start, span.stop) if isinstance(span, slice) else span
    return ":".join("" if end is None else str(end) for end in (start, stop))


def _failure(error: Any) -> BigsvdError:
    told = error if isinstance(error, dict) else {}
    return by_code(
        str(told.get("code", ServiceError.code)),
        str(told.get("message", "the service could not verify the result")),
        str(told.get("remedy", "look at its log")),
    )
