"""Genotypes of a PLINK .bed file as a source: variants × samples, read through bed-reader, a part at a time.

Beside the file lie the .fam and the .bim of the same name, which say how many samples and variants it has.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.counters import Counters
from bigsvd.errors import ChunkCorruptError, SourceError, first_line
from bigsvd.facts import Packing, SourceFacts
from bigsvd.sources.base import Source, hashed, line_chunks, stamp_of
from bigsvd.sources.wrapped import cells

if TYPE_CHECKING:
    from bed_reader import open_bed

_MISSING = -127  # what bed-reader has for a genotype that is not called
_HEADER_BYTES = 3
_PER_BYTE = 4  # genotypes
_SAME_VARIANTS = "make a file of the same variants in the same order, which counts the same alleles"
_DTYPE = np.dtype(np.int8)


class BedSource(Source):
    """How often each sample has the first allele that the .bim names of a variant: 0, 1 or 2.

    Raises:
        SourceError: bed-reader is not installed, .fam or .bim are not there, or the file has another length
            than they say.

    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = opened_bed(path)
        self.counters = Counters()
        shape = self._file.sid_count, self._file.iid_count
        _check_length(path, shape)
        chunks = line_chunks(shape, _DTYPE.itemsize)
        self.facts = SourceFacts(
            name=path,
            shape=shape,
            dtype=_DTYPE.name,
            chunks=chunks,
            fingerprint=hashed(f"bed {shape}"),
            reader="direct",
            spare_bytes=2 * chunks[0] * chunks[1],
            packing=Packing(fills=(_MISSING,)),
            dims=("variants", "samples"),
        )

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        return BedSource, (self._path,)

    @property
    def places(self) -> tuple[Path, ...]:
        """The file and the two that belong to it."""
        file = Path(self._path)
        return (file, file.with_suffix(".fam"), file.with_suffix(".bim"))

    def stamp(self, rows: slice, cols: slice) -> Hashable:
        """See `Source.stamp`: that of the file."""
        del rows, cols
        return stamp_of(self._path)

    def read(self, rows: slice, cols: slice, space: ReadBuffers | None = None) -> np.ndarray:
        """See `Source.read`."""
        memory = space or ReadBuffers()
        found = memory.panel.take((rows.stop - rows.start, cols.stop - cols.start), _DTYPE)
        for some in cells(rows, self.facts.chunks[0]):
            found[some.start - rows.start : some.stop - rows.start] = self._read(some, cols)
        return found

    def _read(self, variants: slice, samples: slice) -> np.ndarray:
        """Some genotypes, (variants, samples)."""
        try:
            read = self._file.read((samples, variants), dtype="int8", order="F", num_threads=1)
        except ValueError as error:
            raise ChunkCorruptError(
                f"variants {variants.start}:{variants.stop} of {self._path} cannot be decoded "
                f"({first_line(error)})",
                "restore that file",
            ) from error
        return np.asarray(read.T)


def opened_bed(path: str) -> open_bed:
    """The file as bed-reader has it, with the names of samples and variants.

    Raises:
        SourceError: bed-reader is not installed, or .fam or .bim are not there.

    """
    try:
        from bed_reader import open_bed  # noqa: PLC0415 - in the genetics extra
    except ImportError as error:
        raise SourceError(
            f"{path} is a PLINK file, which bed-reader reads ({error})",
            "install the genetics extra, or bed-reader",
        ) from error
    lacking = [end for end in (".fam", ".bim") if not Path(path).with_suffix(end).is_file()]
    if lacking:
        raise SourceError(f"{path} has no {' and no '.join(lacking)} beside it", "put it there")
    return open_bed(path, num_threads=1)


def refuse_other_variants(path: str, reference: str) -> None:
    """`SourceError` where a PLINK file has not the variants and alleles of another, in their order."""
    new, old = opened_bed(path), opened_bed(reference)
    if new.sid_count != old.sid_count:
        raise SourceError(
            f"{path} has {new.sid_count:,} variants, {reference} has {old.sid_count:,}", _SAME_VARIANTS
        )
    names = ("sid", "allele_1", "allele_2")
    differ = np.any([getattr(new, name) != getattr(old, name) for name in names], axis=0)
    if differ.any():
        first = int(np.argmax(differ))
        one, other = (" ".join(str(getattr(file, name)[first]) for name in names) for file in (new, old))
        raise SourceError(
            f"{np.count_nonzero(differ):,} of {new.sid_count:,} variants of {path} are others than those of "
            f"{reference}, or count the other allele; variant {first + 1} is {one}, and not {other}",
            _SAME_VARIANTS,
        )


def _check_length(path: str, shape: tuple[int, int]) -> None:
    """`SourceError` where a file is cut, or belongs to another .fam or .bim."""
    variants, samples = shape
    wanted, found = _HEADER_BYTES + variants * -(-samples // _PER_BYTE), Path(path).stat().st_size
    if wanted != found:
        raise SourceError(
            f"{path} has {found:,} bytes; {variants:,} variants of {samples:,} samples take {wanted:,}",
            "copy it again, with its .fam and .bim",
        )
