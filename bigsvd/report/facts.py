"""What a factor store holds, as text: which data it is of, its values, and what the run took."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bigsvd.described import described, labelled
from bigsvd.facts import SourceFacts
from bigsvd.request import Request
from bigsvd.results.rank import percent

_MOST_SHOWN = 8  # of the values; chosen so that they fit a line


def format_facts(name: str, facts: dict[str, Any]) -> str:
    """What ``bigsvd info`` says of the factors of that name, before their certificate.

    Args:
        name: what they are called by.
        facts: what `Factors.info` has of them, here or by a service.

    """
    m, n = facts["shape"]
    request, source = Request.from_dict(facts["request"]), SourceFacts.from_dict(facts["source"])
    lines = [
        f"{name}: {m:,} x {n:,}, k={facts['k']}, {facts['dtype']}, of {source.name}",
        *_described(request, source, facts),
        *_values(facts),
        *_costs(facts),
    ]
    return "\n".join(lines)


def _described(request: Request, source: SourceFacts, facts: dict[str, Any]) -> list[str]:
    """What the data were read and standardised as; gaps of predicted ones are filled by nothing."""
    missing = facts["missing_features"]
    if not facts.get("predicted"):
        return described(request, source, missing)
    lines = described(replace(request, missing="none", missing_value=None), source, missing)
    return [*lines, labelled("gaps", "coordinates were inferred from what was seen beside them")]


def _values(facts: dict[str, Any]) -> list[str]:
    """The singular values, and what each explains."""
    k, ratios = facts["k"], facts["explained_variance_ratio"]
    word = "variance" if facts["centered"] else "mean square"
    return [
        labelled("sigma", _leading(k, [f"{value:.6g}" for value in facts["s"]])),
        labelled(word, _leading(k, [f"{value:.6g}" for value in facts["explained_variance"]])),
        labelled("share", f"{_leading(k, list(map(percent, ratios)))}; {percent(sum(ratios))} in all {k}"),
    ]


def _leading(k: int, texts: list[str]) -> str:
    return ", ".join(texts[:_MOST_SHOWN]) + ", ..." * (k > _MOST_SHOWN)


def _costs(facts: dict[str, Any]) -> list[str]:
    """What the run took, and its parts."""
    lines = [
        f"{facts['method']}, {facts['passes']:.2f} passes, {facts['bytes_read'] / 1e9:.2f} GB read, "
        f"{facts['seconds']:.1f} s, peak memory {facts['peak_memory_bytes'] / 1e6:.0f} MB"
    ]
    parts = facts.get("seconds_by_part", {})  # which stores of older versions lack
    if parts:
        predicted = facts["predicted_seconds"]
        each = ", ".join(f"{part} {parts[part]:.2g} s ({predicted[part]:.2g} predicted)" for part in parts)
        lines.append(f"{each}; {100 * facts['cache_hit_rate']:.0f} % from kept panels")
    return lines
