"""Which axis of a matrix numbers the samples, by the word that the request has for it."""

from __future__ import annotations

from dataclasses import replace

from bigsvd.errors import RequestError
from bigsvd.facts import SourceFacts
from bigsvd.sources.base import Source
from bigsvd.sources.wrapped import WrappedSource

_WORDS = ("rows", "columns")


class OtherwiseOriented(WrappedSource):
    """The same matrix with its samples along the other axis."""

    def seen(self, facts: SourceFacts) -> SourceFacts:
        """See `WrappedSource.seen`."""
        return replace(facts, samples_axis=facts.features_axis)


def oriented(source: Source, samples: str) -> Source:
    """The source with its samples along the axis that `samples` names: "rows", "columns" or a dimension.

    Raises:
        RequestError: the source has no dimension of that name.

    """
    if _axis(source.facts, samples) == source.facts.samples_axis:
        return source
    return OtherwiseOriented(source)


def _axis(facts: SourceFacts, samples: str) -> int:
    for names in (_WORDS, facts.dims):
        if samples in names:
            return names.index(samples)
    known = ", ".join((*_WORDS, *(name for name in facts.dims if name)))
    raise RequestError(
        f"samples={samples!r} is not an axis of {facts.name}, which has {known}", "give one of these"
    )
