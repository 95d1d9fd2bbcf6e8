"""`pca`: genotypes, variants × samples as VCF-Zarr, sgkit and PLINK have them, to principal components."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bigsvd.errors import RequestError
from bigsvd.facts import SourceFacts
from bigsvd.genetics.components import GenotypePCA
from bigsvd.genetics.frequencies import check_threshold, minor_frequencies
from bigsvd.genetics.genotypes import NOT_CALLED, Genotypes, genotypes_at
from bigsvd.solve import svd
from bigsvd.sources.base import Source
from bigsvd.sources.open import open_source

# What options of `svd` are decided here, or would make other numbers than those of genotypes.
_OWN = frozenset({"center", "offset", "missing", "dim", "sum", "rows", "cols", "row_weights", "functions"})
_READING = ("decode", "missing_chunks", "storage_options")
_OPTIONS = ("rows", "cols")
_ALL_CALLED = f"no entry equals missing_value={NOT_CALLED}:"  # a warning to who has named that value


def pca(
    path: Any,
    k: int = 10,
    out: str | Path | None = None,
    *,
    scale: Literal["patterson", "binom2"] = "patterson",
    maf: float = 0.0,
    variants: Any = None,
    people: Any = None,
    array: str | None = None,
    samples: str = "columns",
    tol: float = 1e-3,
    **options: Any,
) -> GenotypePCA:
    """The leading k principal components of samples by their genotypes, which may exceed memory.

    Each variant is centred by the mean of its observed genotypes, 2p, and divided by √(p(1−p)) or
    √(2p(1−p)); a genotype that is missing is 0 then. Variants of which all samples have the same are 0
    throughout, whatever they are divided by, and do not count in `eigenvalues`.

    Args:
        path: a VCF-Zarr or sgkit store (`call_genotype`, whose alleles are summed; else
            `call_alternate_allele_count` or `call_dosage`), a PLINK .bed file, or whatever `svd` takes.
        k: how many.
        out: path of a factor store to keep, as for `svd`.
        scale: "patterson" as in sgkit, scikit-allel and EIGENSOFT (Patterson, Price & Reich 2006, eq. 3), or
            "binom2" as in flashpca, PLINK 2 and GCTA.
        maf: the least frequency of the rarer allele; variants below it are left out. More than 0 takes one
            more read of the genotypes.
        variants: which are taken: a slice, truth values, numbers, names (such as those that LD pruning has
            left), or the path of an array of truth values or numbers.
        people: the same of samples.
        array: which array of a store holds the genotypes.
        samples: of a matrix that has no name for it, which lines are the samples: "rows" or "columns".
        tol: bound on the worst relative residual, as for `svd`.
        options: further ones of `svd`, such as memory, seed, client, missing_value, overwrite.

    Variants with more than two alleles, by `variant_allele` of the store, are left out.

    Raises:
        RequestError: there is no such array, name or variant; an option is decided here.
        BigsvdError: see `svd`.

    """
    _refuse(options)
    check_threshold(maf)
    reading = {option: options[option] for option in _READING if option in options}
    genotypes = genotypes_at(path, samples, array, reading)
    how = reading | dict(genotypes.reading) | genotypes.selection(people, variants)
    source = open_source(genotypes.data, missing="mean", **how)
    gaps = _gaps(source.facts, options.pop("missing_value", None))
    how |= _frequent(source, genotypes, maf, gaps)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _ALL_CALLED)
        factors = svd(genotypes.data, k, out, center=True, scale=scale, tol=tol, **(options | how | gaps))
    return GenotypePCA(factors, genotypes.labels)


def _refuse(options: dict[str, Any]) -> None:
    """`RequestError` for what is decided by `pca`."""
    refused = sorted(_OWN & options.keys())
    if refused:
        raise RequestError(f"{refused[0]!r} is decided by pca", "leave it out, or use bigsvd.svd")


def _gaps(facts: SourceFacts, missing_value: Any) -> dict[str, Any]:
    """Options of `svd` for genotypes that are missing: as the source marks them, -1 of integers, or NaN."""
    kind = np.dtype(facts.dtype).kind
    if missing_value is None and kind in "bu" and not facts.marks_gaps:
        return {}
    if missing_value is None and kind == "i" and not facts.packing.packed:
        missing_value = NOT_CALLED  # also where the source has another: new people may come from elsewhere
    return {"missing": "mean", "missing_value": missing_value}


def _frequent(source: Source, genotypes: Genotypes, maf: float, gaps: dict[str, Any]) -> dict[str, Any]:
    """The option of `svd` that takes biallelic variants whose rarer allele is so frequent; none for all."""
    axis = 1 - genotypes.samples_axis
    ids = source.kept[axis]
    if ids is None:
        ids = np.arange(source.facts.shape[axis])
    taken = np.ones(len(ids), dtype=bool)
    if genotypes.labels.biallelic is not None:
        taken &= genotypes.labels.biallelic[ids]
    if maf > 0:
        taken &= minor_frequencies(source, gaps.get("missing_value")) >= maf
    return {} if taken.all() else {_OPTIONS[axis]: ids[taken]}
