"""`GenotypePCA`: principal components of genotypes under the names that geneticists have for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigsvd.errors import RequestError
from bigsvd.genetics.genotypes import NOT_CALLED, genotypes_at
from bigsvd.genetics.labels import NONE, Labels
from bigsvd.projecting import project
from bigsvd.report.genome import Genome, write_loadings, write_people
from bigsvd.results.export import check_plot
from bigsvd.results.factors import Factors, check_rank
from bigsvd.results.scaled import Scaled
from bigsvd.results.tracy_widom import TracyWidom


@dataclass(frozen=True, eq=False)
class GenotypePCA:
    """Principal components; arrays have a row for each sample or variant that was taken.

    Names that begin with `sample_pca` are sgkit's, and so are their numbers. What has a row for each variant
    is read when it is sliced.

    Attributes:
        factors: the certified SVD, as `bigsvd.open` has it too.
        source_labels: what all samples and variants of the store are called.

    """

    factors: Factors
    source_labels: Labels = NONE

    @property
    def labels(self) -> Labels:
        """What those are called that were taken."""
        kept, samples = self.factors.kept.lines, self.factors.samples_axis
        return self.source_labels.of(kept[samples], kept[1 - samples])

    @property
    def sample_id(self) -> np.ndarray | None:
        """(samples,) of text; None where the store has no names."""
        return self.labels.sample_id

    @property
    def sample_pca_projection(self) -> np.ndarray:
        """Scores, U·s, (samples, k) float64."""
        return self.factors.scores

    @property
    def sample_pca_component(self) -> Scaled:
        """The components (variants, k), orthonormal; of sgkit it is (k, variants)."""
        return Scaled(self.factors.directions, np.ones(self.factors.k))

    @property
    def sample_pca_loading(self) -> Scaled:
        """Components times the root of their explained variance, (variants, k)."""
        return self.factors.loadings(ddof=0)

    @property
    def sample_pca_explained_variance(self) -> np.ndarray:
        """s²/samples, (k,): the variances of the scores."""
        return self.factors.explained_variance(ddof=0)

    @property
    def sample_pca_explained_variance_ratio(self) -> np.ndarray:
        """Their shares of the total variance, (k,); flashpca has the same as `pve`."""
        return self.factors.explained_variance_ratio

    @property
    def pve(self) -> np.ndarray:
        """s²/Σs², (k,): the proportion of variance explained, as flashpca has it."""
        return self.factors.explained_variance_ratio

    @property
    def polymorphic(self) -> int:
        """How many of the variants differ between samples, and so have a part in the components."""
        counts = self.factors.certificate.counts
        features = self.factors.spectrum().shape[self.factors.features_axis]
        return features - (0 if counts is None else counts.constant)

    @property
    def eigenvalues(self) -> np.ndarray:
        """s²/p of p polymorphic variants, (k,): with "binom2" those of the relationship matrix, as flashpca.

        PLINK and GCTA have the same with missing genotypes filled by the mean (`meanimpute`); without that
        they divide each pair of people by the variants that both have. With "patterson" they are twice as
        large.
        """
        return np.asarray((self.factors.s / np.sqrt(max(1, self.polymorphic))) ** 2)

    @property
    def pcs(self) -> np.ndarray:
        """Scores divided by √p, (samples, k), as flashpca's have it."""
        return np.asarray(self.factors.scores / np.sqrt(max(1, self.polymorphic)))

    def __repr__(self) -> str:
        samples, variants = self.factors.shape[self.factors.samples_axis], len(self.factors.directions)
        return (
            f"<bigsvd.genetics.GenotypePCA of {samples:,} samples, {variants:,} variants, k={self.factors.k}>"
        )

    def project(self, genotypes: Any, method: str = "oadp", *, memory: int | str | None = None) -> np.ndarray:
        """Coordinates (r, k) of new people among these.

        With "oadp" they are where the people would be if they had taken part in the decomposition; "simple"
        products with the components lie nearer to 0, the more so the more variants there are.

        Args:
            genotypes: of the same variants in the same order, counting the same alleles: a path as `pca`
                takes it, which is read within `memory`, or an array as `Factors.project` has it.
            method: "oadp" or "simple".
            memory: bytes, or such as "1GB".

        """
        if not isinstance(genotypes, (str, Path)):
            return self.factors.project(genotypes, method)
        found = genotypes_at(genotypes, self.factors.samples, None, {})
        self.source_labels.refuse_others(found.labels)
        reading = {"sum": None, **found.reading}
        return project(self.factors, found.data, method, memory=memory, absent=(NOT_CALLED,), **reading)

    def tracy_widom(self) -> tuple[TracyWidom, ...]:
        """For each component whether it is more than noise: statistic and p-value, see `tracy_widom.tested`.

        Raises:
            RequestError: the run has recorded no sum of fourth powers.

        """
        tests = self.factors.spectrum().tests
        if tests is None:
            raise RequestError(
                "the certificate has no audit, and so no sum of fourth powers",
                "compute it by method='krylov'",
            )
        return tests

    def plot(self, path: str | Path, populations: Any = None, components: tuple[int, int] = (1, 2)) -> None:
        """Write a PNG of people by two components, numbered from 1, coloured by their populations (people,).

        Raises:
            RequestError: there is no such component; another number of populations; no PNG can be there.

        """
        numbers = self._numbers(components)
        check_plot(str(path), self.factors.path)
        groups = None if populations is None else np.asarray(populations).astype(str)
        scores = self.sample_pca_projection[:, numbers]
        if groups is not None and groups.shape != (len(scores),):
            raise RequestError(
                f"populations of shape {groups.shape} for {len(scores):,} people", "give one for each taken"
            )
        write_people(scores, self.pve[numbers].tolist(), components, groups, path)

    def plot_loadings(self, path: str | Path, components: Sequence[int] = (1, 2, 3, 4)) -> None:
        """Write a PNG of loadings along the genome, a row for each component, numbered from 1.

        Raises:
            RequestError: the store does not say where variants lie; there is no such component; no PNG can be
                there.

        """
        numbers, labels = self._numbers(components), self.labels
        if labels.variant_contig is None or labels.variant_position is None:
            raise RequestError(
                "the store has no variant_contig and variant_position",
                "plot sample_pca_loading against your own",
            )
        check_plot(str(path), self.factors.path)
        genome = Genome(labels.variant_contig, labels.variant_position)
        write_loadings(self.sample_pca_loading[:, numbers], components, genome, path)

    def _numbers(self, components: Sequence[int]) -> list[int]:
        """Of components numbered from 1 their places."""
        for number in components:
            check_rank(number, self.factors.k)
        return [number - 1 for number in components]
