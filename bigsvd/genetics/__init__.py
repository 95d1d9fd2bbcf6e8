"""Principal components of genotypes, out of core: of VCF-Zarr and sgkit stores, PLINK files, any matrix."""

from __future__ import annotations

from bigsvd.genetics.components import GenotypePCA
from bigsvd.genetics.decompose import pca

__all__ = ["GenotypePCA", "pca"]
