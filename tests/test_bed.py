"""PLINK files as sources: the laws, the bits of the same genotypes in Zarr, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import BadInputError, RequestError, SourceError
from bigsvd.genetics import pca
from bigsvd.sources.base import Source
from bigsvd.sources.open import open_source
from tests.laws import SourceLaws
from tests.populations import drawn

bed_reader = pytest.importorskip("bed_reader", reason="bed-reader, of the extra genetics, is not installed")
K = 3


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    return drawn((30, 40, 30), 600, fst=0.1, missing=0.03)


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory, counts: np.ndarray) -> Path:
    return as_bed(tmp_path_factory.mktemp("bed") / "a.bed", counts)


def as_bed(path: Path, counts: np.ndarray, **others: list[str]) -> Path:
    variants, people = counts.shape
    names = {
        "iid": [f"NA{i}" for i in range(people)],
        "sid": [f"rs{i}" for i in range(variants)],
        "chromosome": ["1"] * variants,
        "bp_position": list(range(variants)),
        "allele_1": ["A"] * variants,
        "allele_2": ["G"] * variants,
    } | others
    bed_reader.to_bed(path, np.where(counts < 0, -127, counts).astype(np.int8).T, properties=names)
    return path


class TestBed(SourceLaws):
    """A PLINK file."""

    @pytest.fixture
    def source(self, bed: Path) -> Source:
        return open_source(str(bed))

    @pytest.fixture
    def entries(self, counts: np.ndarray) -> np.ndarray:
        return np.where(counts < 0, -127, counts).astype(np.int8)


def test_a_plink_file_and_zarr_have_the_same_bits(tmp_path: Path, bed: Path, counts: np.ndarray) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=counts, chunks=open_source(str(bed)).facts.chunks)
    by_bed, by_zarr = (pca(path, K, method="krylov") for path in (bed, tmp_path / "a.zarr"))
    assert by_bed.factors.s.tobytes() == by_zarr.factors.s.tobytes()
    assert by_bed.factors.U[:].tobytes() == by_zarr.factors.U[:].tobytes()
    assert by_bed.labels.variant_id is not None
    assert by_bed.labels.variant_id[-1] == "rs599"


def test_a_plink_file_that_was_cut_is_refused(tmp_path: Path, counts: np.ndarray) -> None:
    path = as_bed(tmp_path / "a.bed", counts[:50])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SourceError, match="50 variants of 100 samples take 1,253"):
        pca(path, K)
    path.with_suffix(".fam").unlink()
    with pytest.raises(SourceError, match=r"has no \.fam beside it"):
        pca(path, K)


def test_new_people_of_other_variants_or_alleles_are_refused(tmp_path: Path, counts: np.ndarray) -> None:
    """Coordinates by variants in another order, or by the other allele, are noise, and look like any."""
    found = pca(as_bed(tmp_path / "old.bed", counts[:50, :60]), K, tmp_path / "factors")
    same = as_bed(tmp_path / "same.bed", counts[:50, 60:])
    coordinates = found.project(same)
    assert coordinates.shape == (40, K)
    turned = [f"rs{i}" for i in (1, 0, *range(2, 50))]
    flipped = {"allele_1": ["G"] + ["A"] * 49, "allele_2": ["A"] + ["G"] * 49}
    for name, new, said in (
        ("turned", as_bed(tmp_path / "turned.bed", counts[:50, 60:], sid=turned), "2 of 50 variants .*rs1"),
        (
            "flipped",
            as_bed(tmp_path / "flipped.bed", counts[:50, 60:], **flipped),
            "1 of 50 .*rs0 G A, and not rs0 A G",
        ),
        ("few", as_bed(tmp_path / "few.bed", counts[:40, 60:]), "40 variants .*50"),
    ):
        with pytest.raises(BadInputError, match=said):
            found.project(new)
        ended = CliRunner().invoke(
            main, ["project", str(tmp_path / "factors"), str(new), f"{tmp_path}/{name}.npy"]
        )
        assert ended.exit_code == 2
        assert not (tmp_path / f"{name}.npy").exists()
    done = CliRunner().invoke(main, ["project", str(tmp_path / "factors"), str(same), f"{tmp_path}/same.npy"])
    assert done.output.endswith("oadp\n")
    np.testing.assert_allclose(np.load(tmp_path / "same.npy"), coordinates, rtol=1e-9)


def test_people_who_are_taken_for_variants_are_refused(bed: Path) -> None:
    with pytest.raises(RequestError, match=r"variants along its rows, .*give samples='columns'"):
        bigsvd.svd(str(bed), K, center=True, scale="binom2", missing="mean")
