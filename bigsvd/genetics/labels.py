"""What the samples and variants of a store of genotypes are called, as far as it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import ZipStore

from bigsvd.errors import RequestError
from bigsvd.sources.bed import opened_bed
from bigsvd.sources.urls import open_url

Chosen = np.ndarray | None


@dataclass(frozen=True, eq=False)
class Labels:
    """Names of sgkit and VCF-Zarr; None is what a store does not say.

    Attributes:
        sample_id: of each sample, (samples,) of text.
        variant_id, variant_contig: of each variant, (variants,) of text.
        variant_position: its place along the contig, (variants,) of integers, in base pairs.
        biallelic: which variants have no more than two alleles, (variants,) bool; None where all have.
        alleles: the two of each variant, (variants,) of text; of .bed files their source compares them.

    """

    sample_id: np.ndarray | None = None
    variant_id: np.ndarray | None = None
    variant_contig: np.ndarray | None = None
    variant_position: np.ndarray | None = None
    biallelic: np.ndarray | None = None
    alleles: np.ndarray | None = None

    def refuse_others(self, new: Labels) -> None:
        """`RequestError` where new genotypes have other variants, or other alleles, as far as both say."""
        for name in ("variant_id", "variant_contig", "variant_position", "alleles"):
            old, other = getattr(self, name), getattr(new, name)
            if old is not None and other is not None:
                _refuse_other(name.removeprefix("variant_"), old, other)

    def of(self, samples: Chosen, variants: Chosen) -> Labels:
        """Of some samples and variants, by their numbers; None for all."""
        found: dict[str, Any] = {}
        for field in fields(self):
            values = getattr(self, field.name)
            some = samples if field.name == "sample_id" else variants
            found[field.name] = values if values is None or some is None else values[some]
        return replace(self, **found)

    def numbers(self, what: str, chosen: Any) -> Any:
        """What is chosen of samples or variants, with names turned into numbers; anything else as it is.

        Raises:
            RequestError: the store has no names, or not these.

        """
        given = chosen if isinstance(chosen, (str, Path, slice)) or chosen is None else np.asarray(chosen)
        if not isinstance(given, np.ndarray) or given.dtype.kind not in "UOT":
            return chosen
        names = {"samples": self.sample_id, "variants": self.variant_id}[what]
        if names is None:
            raise RequestError(f"{what} are chosen by names, which the store does not have", "give numbers")
        places = {name: number for number, name in enumerate(names.tolist())}
        unknown = [str(name) for name in given if str(name) not in places]
        if unknown:
            raise RequestError(
                f"{len(unknown):,} of {len(given):,} {what} are not in the store, such as {unknown[0]!r}",
                "give names that it has, or numbers",
            )
        return np.array([places[str(name)] for name in given], dtype=np.int64)


NONE = Labels()


def _refuse_other(name: str, old: np.ndarray, new: np.ndarray) -> None:
    """`RequestError` where variants are not called, or do not lie, as others do."""
    do = "give the same variants in the same order, counting the same alleles"
    if len(old) != len(new):
        raise RequestError(f"{len(new):,} variants are given, the components are of {len(old):,}", do)
    differ = np.flatnonzero(old != new)
    if len(differ):
        first = differ[0]
        raise RequestError(
            f"{len(differ):,} of {len(new):,} variants are others than those of the components: variant "
            f"{first + 1} has the {name} {new[first]}, and not {old[first]}",
            do,
        )


def labels_of_group(group: zarr.Group) -> Labels:
    """Those of a VCF-Zarr or sgkit store."""
    contig, names = _read(group, "variant_contig"), _read(group, "contig_id")
    if contig is not None and names is not None:
        contig = names[contig]
    return Labels(
        _text(_read(group, "sample_id")),
        _text(_read(group, "variant_id")),
        _text(contig),
        _read(group, "variant_position"),
        _biallelic(group),
        _alleles(group),
    )


def labels_of_bed(path: str) -> Labels:
    """Those of the .fam and the .bim beside a PLINK file."""
    file = opened_bed(path)
    return Labels(_text(file.iid), _text(file.sid), _text(file.chromosome), file.bp_position)


def group_at(path: str, storage_options: Mapping[str, Any] | None) -> zarr.Group | None:
    """The Zarr group at a path or URL; None where there is another thing, or nothing."""
    place: Any = path
    if "://" in path:
        place = open_url(path, storage_options or {})
    elif path.endswith(".zip"):
        place = ZipStore(path, mode="r")
    try:
        return zarr.open_group(place, mode="r")
    except (FileNotFoundError, ValueError, NotADirectoryError):
        return None


def _biallelic(group: zarr.Group) -> np.ndarray | None:
    """Variants without a third allele; None where there is no other."""
    alleles = _read(group, "variant_allele")
    if alleles is None or alleles.ndim != 2 or alleles.shape[1] < 3:
        return None
    third = alleles[:, 2].astype(str)
    return np.asarray((third == "") | (third == "."))


def _alleles(group: zarr.Group) -> np.ndarray | None:
    """The first two of each variant, joined."""
    alleles = _read(group, "variant_allele")
    if alleles is None or alleles.ndim != 2:
        return None
    return np.array([",".join(some) for some in alleles[:, :2].astype(str).tolist()])


def _read(group: zarr.Group, name: str) -> np.ndarray | None:
    found = group.get(name)
    return np.asarray(found[:]) if isinstance(found, zarr.Array) else None


def _text(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else np.asarray(values).astype(str)
