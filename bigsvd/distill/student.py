"""`Student`: all that a prediction needs, in a store of its own: no teacher, no code and no pickle.

It is a Zarr v3 group like a factor store, sealed by the same manifest: `V` (n, r), `s` (r,), `noise` (n,),
`mean`, `scale`, `weights` (n,) as far as rows are standardised by them, `cols` and `missing` where the
teacher had not all features, and the arrays of each stage under its name, such as ``mixture.means``. A
student is small, and is read whole when it is opened: each array against its checksum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from bigsvd.devices.bfloat16 import is_installed
from bigsvd.distill.basis import Basis
from bigsvd.distill.columns import Columns
from bigsvd.distill.mixture import Mixture
from bigsvd.distill.network import Network
from bigsvd.distill.ridge import Ridge
from bigsvd.errors import FactorStoreError, RequestError
from bigsvd.functions import Functions
from bigsvd.results.folders import KIND, STUDENT
from bigsvd.results.output import Output
from bigsvd.results.standard import Standard
from bigsvd.results.store import FOLDER, Kind, by_files, open_store, opening_errors, seal_arrays
from bigsvd.scratch import Scratch

if TYPE_CHECKING:
    from bigsvd.distill.stage import Stage
    from bigsvd.nodes import PlainArray

FORMAT_VERSION = 4  # 3 was the first of stores that are no factors; its networks added to the answer freely
STUDENT_STORE = Kind(STUDENT, "student", (FORMAT_VERSION,), "give the OUT of `bigsvd distill fit`")
_RIDGE = "ridge"
_LEARNT = ("mixture", "network")  # from the cheapest on
_REMEDY = "restore it or fit it again"


@dataclass(frozen=True, eq=False)
class Student:
    """What was learnt from a teacher.

    Attributes:
        basis: components, singular values and noise of the teacher. standard: how samples become rows of B.
        columns: what the features are, by which those of new data are told.
        learnt: the arrays of each stage that was fitted, by its name.
        masks: how gaps were drawn when it was trained, as `Masks.parse` reads it.
        dtype: of the factors that are predicted: that of the teacher's.
        empty: which features were missing throughout in the teacher's data, (c,); None where none was.
        provenance: of the teacher: `teacher` (its path), `request`, `source`, and how it was fitted.
        path: where it lies; None of one that is not published.

    """

    basis: Basis
    standard: Standard
    columns: Columns
    learnt: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=lambda: MappingProxyType({}))
    masks: str = ""
    dtype: str = "float32"
    empty: np.ndarray | None = None
    provenance: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    path: Path | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that it has, from the cheapest on."""
        return (_RIDGE, *(name for name in _LEARNT if name in self.learnt))

    def stage(self, name: str) -> Stage:
        """One of `stages`.

        Raises:
            RequestError: it has none of that name; or what that needs is not installed.

        """
        if name == _RIDGE:
            return Ridge(self.basis.prior)
        if name not in self.stages:
            raise RequestError(
                f"stage={name!r}: {self.path} has {', '.join(self.stages)}",
                "use one of these, or fit it anew",
            )
        if name == "mixture":
            return self.mixture
        return self._network()

    @property
    def mixture(self) -> Mixture:
        """The stage of that name, on the scale of the teacher's coordinates."""
        return Mixture.from_arrays(self.learnt["mixture"])

    def _network(self) -> Stage:
        """The network, which corrects the answer of the ridge."""
        if not is_installed():
            raise RequestError(
                "stage network needs torch, which is not installed", "pip install 'bigsvd[distill]'"
            )
        return Network.from_arrays(self.learnt["network"])

    def __repr__(self) -> str:
        return f"<bigsvd.distill.Student of {self.basis.n} features, stages {', '.join(self.stages)}>"


def publish_student(output: Output, scratch: Scratch, student: Student) -> Student:
    """Publish it from the scratch of a run that holds the output, and sweep that."""
    arrays = _arrays_of(student)
    for name, values in arrays.items():
        scratch.write(f"{FOLDER}/{name}", values)
    seal_arrays(scratch, list(arrays), _attributes_of(student))
    output.put_in_place()
    output.tidy()
    return open_student(output.path)


def open_student(path: str | Path) -> Student:
    """The student at `path`, every array of it checked.

    Raises:
        FactorStoreError: nothing there, no student, or one of which an array or the manifest is damaged.

    """
    with opening_errors(path):
        attributes, stored = open_store(path, by_files, STUDENT_STORE)
        manifest = attributes["manifest"]
        arrays = {name: _read(path, name, array, manifest[name]["crc32c"]) for name, array in stored.items()}
        return replace(_student_of(attributes, arrays), path=Path(path))


def _arrays_of(student: Student) -> dict[str, np.ndarray]:
    """What is stored, by name."""
    basis, standard = student.basis, student.standard
    every = {
        "V": basis.V, "s": basis.s, "noise": basis.noise, "mean": standard.mean, "scale": standard.scale,
        "weights": standard.weights, "cols": standard.ids, "missing": student.empty,
    }  # fmt: skip
    found = {name: np.ascontiguousarray(values) for name, values in every.items() if values is not None}
    for stage, arrays in student.learnt.items():
        found |= {
            f"{stage}.{name}": np.ascontiguousarray(np.atleast_1d(each)) for name, each in arrays.items()
        }
    return found


def _attributes_of(student: Student) -> dict[str, Any]:
    standard = student.standard
    return {
        KIND: STUDENT,
        "format_version": FORMAT_VERSION,
        "samples": student.basis.samples,
        "functions": [str(each) for each in standard.functions.each],
        "data_features": standard.data_features,
        "columns": student.columns.to_dict(),
        "masks": student.masks,
        "dtype": student.dtype,
        "stages": {stage: list(arrays) for stage, arrays in student.learnt.items()},
        "provenance": dict(student.provenance),
    }


def _student_of(attributes: dict[str, Any], arrays: dict[str, np.ndarray]) -> Student:
    basis = Basis(arrays["V"], arrays["s"], arrays["noise"], int(attributes["samples"]))
    standard = Standard(
        basis.n, Functions.of(attributes["functions"]), arrays.get("mean"), arrays.get("scale"),
        arrays.get("weights"), arrays.get("cols"), int(attributes["data_features"]),
    )  # fmt: skip
    learnt = {
        stage: {name: arrays[f"{stage}.{name}"] for name in names}
        for stage, names in attributes["stages"].items()
    }
    return Student(
        basis, standard, Columns.from_dict(attributes["columns"]), learnt, attributes["masks"],
        attributes["dtype"], arrays.get("missing"),
        attributes["provenance"] | {"crc32c": attributes["crc32c"]},
    )  # fmt: skip


def _read(path: str | Path, name: str, array: PlainArray, expected: int) -> np.ndarray:
    """An array of a student; `FactorStoreError` that names it where it is not what was published."""
    found = np.empty(array.shape, array.dtype)
    try:
        array.read_into(..., found)
    except (ValueError, OSError) as error:
        raise FactorStoreError(f"{path} is damaged: its array {name} ({error})", _REMEDY) from error
    if google_crc32c.value(found) != expected:
        raise FactorStoreError(
            f"{path} is damaged: its array {name} has entries of checksum {google_crc32c.value(found)}, its "
            f"manifest says {expected}",
            _REMEDY,
        )
    return found
