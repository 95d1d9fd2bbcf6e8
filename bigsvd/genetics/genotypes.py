"""Which array of a store has the genotypes, and how it lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bigsvd.errors import RequestError
from bigsvd.genetics.frequencies import PLOIDY
from bigsvd.genetics.labels import NONE, Labels, group_at, labels_of_bed, labels_of_group
from bigsvd.sources.base import axis_of
from bigsvd.sources.open import open_source
from bigsvd.units import without_credentials

_ARRAYS = ("call_genotype", "call_alternate_allele_count", "call_dosage")  # the first that there is
_ALLELES = "call_genotype"
NOT_CALLED = -1  # of integers, in VCF-Zarr and sgkit
_SIDES = ("rows", "columns")


@dataclass(frozen=True, eq=False)
class Genotypes:
    """A matrix of how often samples have an allele.

    Attributes:
        data: what `svd` takes.
        reading: how it is read: options of `svd`.
        samples_axis: which axis of the matrix numbers the samples.
        labels: what samples and variants are called.

    """

    data: Any
    reading: Mapping[str, Any] = field(default_factory=dict)
    samples_axis: int = 1
    labels: Labels = NONE

    def selection(self, samples: Any, variants: Any) -> dict[str, Any]:
        """These samples and variants as options of `svd`."""
        chosen = [self.labels.numbers("variants", variants), self.labels.numbers("samples", samples)]
        return {"rows": chosen[1 - self.samples_axis], "cols": chosen[self.samples_axis]}


def genotypes_at(data: Any, samples: str, array: str | None, options: Mapping[str, Any]) -> Genotypes:
    """The genotypes at a path or URL of a store, in a PLINK file, or in any array that `svd` takes.

    Args:
        data: that path or array.
        samples: along which axis a matrix has its samples, where the store does not say: "rows" or "columns".
        array: which array of a store; None for the first of those that sgkit and VCF-Zarr call genotypes.
        options: those of `svd` that say how it is read.

    """
    if not isinstance(data, (str, Path)):
        return _of_matrix(data, samples, options)
    path = str(data).rstrip("/")
    if path.endswith(".bed"):
        return Genotypes(path, {"samples": "columns"}, 1, labels_of_bed(path))
    group = group_at(path, options.get("storage_options"))
    found = _name_in(group, path, array)
    if group is None or found is None:
        return _of_matrix(path, samples, options)
    reading: dict[str, Any] = {"samples": "columns"}
    if found == _ALLELES:
        calls: Any = group[found]
        _check_ploidy(calls.shape, path)
        reading["sum"] = 2 if calls.ndim == 3 else None  # over the ploidy, whose axis need not have a name
    return Genotypes(f"{path}/{found}", reading, 1, labels_of_group(group))


def _name_in(group: Any, path: str, array: str | None) -> str | None:
    """The array of a store that has the genotypes; None where it has none of the known names."""
    if array is None:
        return next((name for name in _ARRAYS if group is not None and name in group), None)
    if group is None or array not in group:
        raise RequestError(f"{without_credentials(path)} has no array {array}", "give the name of one")
    return array


def _check_ploidy(shape: tuple[int, ...], path: str) -> None:
    """`RequestError` where people have not 2 alleles of a variant, by which its frequency is the mean/2."""
    if not _is_diploid(shape):
        raise RequestError(
            f"{without_credentials(path)} has {shape[2]} alleles for a genotype, scales are for {PLOIDY}",
            "decompose sums of alleles by bigsvd.svd",
        )


def _is_diploid(shape: tuple[int, ...]) -> bool:
    return shape[2:] in ((), (PLOIDY,))


def _of_matrix(data: Any, samples: str, options: Mapping[str, Any]) -> Genotypes:
    """A matrix without names of its samples and variants."""
    if samples in _SIDES:
        return Genotypes(data, {"samples": samples}, _SIDES.index(samples))
    facts = open_source(data, **options).facts
    return Genotypes(data, {"samples": samples}, axis_of(facts.name, samples, facts.shape, facts.dims))
