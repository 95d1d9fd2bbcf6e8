"""Principal components of cells, out of core, from AnnData in Zarr and back into it.

The same numbers as ``scanpy.pp.normalize_total``, ``log1p`` and ``pca`` of the whole matrix in memory.
Nothing of the package `anndata` is needed: what is written has the encoding that its specification (0.1.0 of
the store, 0.2.0 of arrays) has for `obsm`, `varm` and `uns`.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.errors import ZarrUserWarning

from bigsvd.errors import RequestError, SourceError
from bigsvd.results.factors import Factors
from bigsvd.solve import svd
from bigsvd.sources.normalized import normalized
from bigsvd.sources.open import READING, open_source

# What options of `svd` are decided here, or would say what the cells and genes are.
_OWN = frozenset({"k", "samples", "dim", "sum", "rows", "cols", "offset", "row_weights"})
_COPIED_ROWS = 2**14  # of the scores that are written at a time


def pca(
    path: str | Path,
    n_comps: int = 50,
    out: str | Path | None = None,
    *,
    layer: str | None = None,
    normalize: float | None = None,
    log1p: bool = False,
    mask: str | np.ndarray | None = None,
    center: bool = True,
    overwrite: bool = False,
    **options: Any,
) -> Factors:
    """Write the leading principal components of the cells of an AnnData store in Zarr into that store.

    ``obsm["X_pca"]`` (cells, n_comps) float32 are the scores U·s, ``varm["PCs"]`` (genes, n_comps) float32
    the components, 0 of genes that are left out, and ``uns["pca"]`` the variances s²/(cells − 1), their
    ratios to the total, and what was asked.

    Args:
        path: the store.
        n_comps: how many.
        out: path of a factor store to keep besides, as for `svd`.
        layer: one of its `layers` instead of `X`; either is CSR, CSC or dense.
        normalize: what the counts of each cell are scaled to add up to, all genes counted; None for as they
            are.
        log1p: whether log(1 + x) is taken then.
        mask: name of a column of `var` that says which genes are taken, such as "highly_variable", or truth
            values or indices of them; None for all.
        center: whether the mean of each gene is subtracted.
        overwrite: whether components that the store has already, and a result at `out`, are replaced.
        options: those of `svd`, such as memory, tol, seed, scale, client.

    Returns:
        The factors with their certificate. Sign: the largest entry of each component is positive, as in
        scikit-learn.

    Raises:
        BadInputError: there is no such layer or column, or components are there already.
        BigsvdError: see `svd`.

    """
    refused = sorted(_OWN & options.keys())
    if refused:
        raise RequestError(f"{refused[0]!r} is decided by pca", "leave it out, or use bigsvd.svd")
    group = _group(path)
    name = "X" if layer is None else f"layers/{layer}"
    if name not in group:
        raise SourceError(f"{path} has no {name}", f"its layers are {', '.join(_names(group, 'layers'))}")
    taken = [place for place in ("obsm/X_pca", "varm/PCs", "uns/pca") if place in group]
    if taken and not overwrite:
        raise RequestError(f"{path} has {', '.join(taken)} already", "add overwrite=True to replace them")
    reading = {option: options[option] for option in READING if option in options}
    source = normalized(open_source(f"{path}/{name}", **reading), normalize, log1p=log1p)
    genes = _genes(group, mask)
    factors = svd(source, n_comps, out, center=center, cols=genes, overwrite=overwrite, **options)
    _write(group, factors, center=center, mask=mask)
    return factors


def _group(path: str | Path) -> zarr.Group:
    """The store, to be written into."""
    try:
        return zarr.open_group(str(path), mode="r+")
    except (FileNotFoundError, ValueError) as error:
        raise SourceError(f"{path} is no Zarr group that can be written", "check the path") from error


def _genes(group: zarr.Group, mask: str | np.ndarray | None) -> np.ndarray | None:
    """Which genes are taken; None for all."""
    if not isinstance(mask, str):
        return mask
    if f"var/{mask}" not in group:
        raise SourceError(f"var has no column {mask}", f"it has {', '.join(_names(group, 'var'))}")
    column: Any = group[f"var/{mask}"]
    gone = np.zeros(1, dtype=bool)
    if isinstance(column, zarr.Group):  # nullable-boolean: values, and a mask of those that are missing
        if "values" not in column:
            raise SourceError(f"var/{mask} holds no truth values", "give a column of truth values")
        missing: Any = column["mask"]
        column = column["values"]
        gone = np.asarray(missing[:])
    found = np.asarray(column[:])
    if found.dtype != bool:
        raise SourceError(f"var/{mask} has dtype {found.dtype}", "give a column of truth values")
    return found & ~gone


def _names(group: zarr.Group, place: str) -> list[str]:
    inner = group.get(place)
    return sorted(inner.keys()) if isinstance(inner, zarr.Group) else []


def _write(group: zarr.Group, factors: Factors, *, center: bool, mask: str | np.ndarray | None) -> None:
    """Put the components into the store, what is said of them last."""
    for place in ("uns/pca", "obsm/X_pca", "varm/PCs"):
        if place in group:
            del group[place]
    for place in ("uns", "obsm", "varm"):
        if place not in group:
            group.create_group(place, attributes=_encoding("dict", "0.1.0"))
    _write_scores(group, factors)
    components = np.nan_to_num(factors.components).T
    _write_array(group, "varm/PCs", components.astype(np.float32))
    group.create_group("uns/pca", attributes=_encoding("dict", "0.1.0"))
    group.create_group("uns/pca/params", attributes=_encoding("dict", "0.1.0"))
    _write_scalar(group, "uns/pca/params/zero_center", center)
    _write_scalar(group, "uns/pca/params/use_highly_variable", mask is not None)
    if isinstance(mask, str):
        _write_text(group, "uns/pca/params/mask_var", mask)
    _write_array(group, "uns/pca/variance", factors.explained_variance())
    _write_array(group, "uns/pca/variance_ratio", factors.explained_variance_ratio)
    if group.metadata.consolidated_metadata is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZarrUserWarning)  # that they are no part of format 3
            zarr.consolidate_metadata(group.store, path=group.path)


def _write_scores(group: zarr.Group, factors: Factors) -> None:
    """U·s, some rows at a time."""
    m, k = factors.shape[0], factors.k
    rows = min(m, _COPIED_ROWS)
    array = group.create_array("obsm/X_pca", shape=(m, k), dtype="float32", chunks=(rows, k))
    array.attrs.update(_encoding("array", "0.2.0"))
    for start in range(0, m, rows):
        some = slice(start, min(m, start + rows))
        array[some] = (np.asarray(factors.U[some]).astype(np.float64) * factors.s).astype(np.float32)


def _write_array(group: zarr.Group, place: str, values: np.ndarray) -> None:
    array = group.create_array(place, data=values)
    array.attrs.update(_encoding("array", "0.2.0"))


def _write_scalar(group: zarr.Group, place: str, value: bool) -> None:
    array = group.create_array(place, data=np.asarray(value))
    array.attrs.update(_encoding("numeric-scalar", "0.2.0"))


def _write_text(group: zarr.Group, place: str, text: str) -> None:
    array: Any = group.create_array(place, shape=(), dtype="str")
    array[...] = text
    array.attrs.update(_encoding("string", "0.2.0"))


def _encoding(kind: str, version: str) -> dict[str, Any]:
    """The attributes by which AnnData knows what an element is."""
    return {"encoding-type": kind, "encoding-version": version}
