"""Which axis of a matrix numbers the samples, by the word that the request has for it."""

from __future__ import annotations

from dataclasses import replace

from bigsvd.facts import SourceFacts
from bigsvd.sources.base import Axes, Source, axis_of
from bigsvd.sources.wrapped import WrappedSource


class OtherwiseOriented(WrappedSource):
    """The same matrix with its samples along the other axis."""

    def seen(self, facts: SourceFacts) -> SourceFacts:
        """See `WrappedSource.seen`."""
        return replace(facts, samples_axis=facts.features_axis)


def oriented(source: Source, axes: Axes) -> Source:
    """The source with its samples along the axis that a request names: "rows", "columns" or a dimension.

    Raises:
        RequestError: the source has no such dimension.

    """
    facts, asked = source.facts, axes.of_samples
    if facts.array_shape:
        wanted = 0  # where axes are stacked the samples are the rows
    elif asked is None:
        wanted = int(axes.samples != "rows")
    else:
        wanted = axis_of(facts.name, asked, facts.shape, facts.dims)
    if wanted == facts.samples_axis:
        return source
    return OtherwiseOriented(source)
