"""Inference on a device: what lies there converts only where it is told to, and the answers are the CPU's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import zarr

import bigsvd
import bigsvd.distill.matrices as matrices_module
from bigsvd.devices.base import Device
from bigsvd.devices.bfloat16 import gpu_is_there, is_installed
from bigsvd.devices.cpu import CpuDevice
from bigsvd.devices.cuda import find_gpu
from bigsvd.distill import order, predict
from bigsvd.distill.basis import Basis, namespace_of
from bigsvd.distill.choosing import Chosen
from bigsvd.distill.inference import Inferred, infer
from bigsvd.distill.mixture import Mixture
from bigsvd.distill.network import Network, Shape
from bigsvd.distill.ridge import Ridge
from bigsvd.distill.rows import Rows
from bigsvd.distill.stage import Stage
from bigsvd.errors import DeviceError, MemoryBudgetError, OutputExistsError, RequestError, StoppedError
from bigsvd.machine.offers import DeviceOffer, on_cpu
from tests.commands import done, refused
from tests.devices import LEDGERS, ApartDevice, Ledger, StrictDevice
from tests.students import NEW, Law, by_hand, gaps
from tests.students import N as WIDTH

N, R, K, ROWS = 80, 10, 4, 30
STRICT, CPU = StrictDevice(), CpuDevice()


def a_basis() -> Basis:
    random = np.random.default_rng(0)
    V = np.linalg.qr(random.standard_normal((N, R)))[0]
    noise = random.uniform(0.1, 2.0, N)
    return Basis(V, np.sqrt(400 * np.geomspace(30, 2, R)), noise, 400)


BASIS = a_basis()


def a_prior() -> np.ndarray:
    """With correlations, as `map` has it."""
    root = np.random.default_rng(1).standard_normal((R, R)) * np.sqrt(BASIS.prior)
    return np.asarray(root.T @ root / R + np.diag(BASIS.prior))


def a_mixture() -> Mixture:
    random = np.random.default_rng(2)
    spread = random.uniform(0.2, 1.0, (5, R))
    covariances = np.stack([np.diag(BASIS.prior * part) for part in spread])
    return Mixture(
        np.full(5, 0.2), random.standard_normal((5, R)) * np.sqrt(BASIS.prior), covariances, BASIS.prior
    )


def a_network() -> Network:
    shape = Shape(R, steps=2, hidden=8)
    random = np.random.default_rng(3)
    weights = {
        name: np.asarray(0.1 * random.standard_normal(size), np.float32) for name, size in shape.sizes.items()
    }
    return Network(BASIS.prior, N, weights)


STAGES: dict[str, Stage] = {
    "ridge": Ridge(BASIS.prior),
    "map": Ridge(a_prior(), "map"),
    "mixture": a_mixture(),
}
if is_installed():
    STAGES["network"] = a_network()


def masks() -> dict[str, np.ndarray]:
    """What is seen, by the form that G takes of it."""
    random = np.random.default_rng(4)
    few = random.random((ROWS, N)) < 0.1
    few[3] = False  # of this row nothing
    return {
        "few seen": few,
        "few missing": ~few,
        "pairs": random.random((ROWS, N)) < 0.5,
        "one mask": np.repeat(random.random((1, N)) < 0.4, ROWS, axis=0),
        "nothing": np.zeros((ROWS, N), dtype=bool),
        "one row": few[:1],
    }


MASKS = masks()


def rows_of(seen: np.ndarray) -> Rows:
    random = np.random.default_rng(5)
    z = random.standard_normal((len(seen), R)) * np.sqrt(BASIS.prior)
    x = z @ BASIS.V.T + random.standard_normal((len(seen), N)) * np.sqrt(BASIS.noise)
    return Rows(0, np.where(seen, x, 0.0), seen)


def inferred_on(device: Device, stage: Stage, rows: Rows) -> Inferred:
    chosen = Chosen(stage.name, BASIS, stage, K, interval=1.2).on(device.to_device)
    return infer(chosen, rows.moved(device.to_device), device)


def check(found: Inferred, wanted: Inferred, tolerance: float) -> None:
    """The same but for rounding; and NumPy's."""
    pairs = [(found.coordinates, wanted.coordinates), (found.uncertainty, wanted.uncertainty)]
    pairs += [
        (getattr(found.sums, each.name), getattr(wanted.sums, each.name)) for each in fields(found.sums)
    ]
    assert type(found.coordinates) is type(found.uncertainty) is type(found.sums.outer) is np.ndarray
    for one, other in pairs:
        size = max(1.0, float(np.max(np.abs(other))))
        np.testing.assert_allclose(one, other, atol=tolerance * size, rtol=0)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", STAGES)
def test_arrays_that_convert_only_explicitly_give_what_numpy_s_do(
    name: str, mask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrices_module, "_GATHERED_BYTES", 8 * R * 100)  # a few rows at a time
    rows = rows_of(MASKS[mask])
    tolerance = 1e-5 if name == "network" else 1e-11  # torch works in float32
    check(inferred_on(STRICT, STAGES[name], rows), inferred_on(CPU, STAGES[name], rows), tolerance)


def test_an_array_that_does_not_say_its_namespace_has_that_of_its_library() -> None:
    class Array:
        """As CuPy's."""

    Array.__module__ = "array_api_strict.of_its_own"
    assert namespace_of(Array()) is STRICT.xp
    assert namespace_of(STRICT.to_device(np.ones(2))) is STRICT.xp


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a student, new data, and what is predicted of them on the CPU."""
    folder, law = tmp_path_factory.mktemp("device"), Law.of()
    by_hand(law.rows(800, 1), folder / "student")
    complete = law.rows(NEW, 2)
    data = np.where(gaps(complete.shape, 0.3), np.nan, complete)
    zarr.create_array(folder / "new", data=data, chunks=(100, WIDTH))
    predict(folder / "student", folder / "new", folder / "here", k=K)
    return folder


def found(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    """Let a device be found as a GPU is."""
    offer = DeviceOffer(device, "for tests", device.free_bytes(), device.identity())
    monkeypatch.setattr(order, "device_here", lambda asked: on_cpu("asked") if asked == "cpu" else offer)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApartDevice]:
    """A GPU that is none, and is found."""
    device = ApartDevice(ledger="predict")
    LEDGERS["predict"] = Ledger()
    found(monkeypatch, device)
    yield device
    del LEDGERS["predict"]


def alike(one: Path, other: Path, tolerance: float) -> None:
    """Two predictions: the same but for rounding, the signs of vectors too."""
    left, right = bigsvd.open(one), bigsvd.open(other)
    assert left.predicted is not None
    assert right.predicted is not None
    assert left.predicted.stage == right.predicted.stage
    for name in ("s", "U", "Vt", "uncertainty"):
        found, wanted = (np.asarray(getattr(each, name)[:]) for each in (left, right))
        np.testing.assert_allclose(found, wanted, atol=tolerance, rtol=tolerance)


def test_a_prediction_on_a_device_is_that_of_the_cpu(home: Path, apart: ApartDevice, tmp_path: Path) -> None:
    plan = done("distill", "predict", home / "student", home / "new", "--device", "auto", "--plan").out
    assert f"device   {apart.name}: " in plan
    there = predict(home / "student", home / "new", tmp_path / "there", k=K, device="gpu")
    alike(tmp_path / "there", home / "here", 1e-5)
    planned = there.provenance["plan"]
    assert planned["device"] == apart.name
    assert planned["threads"] == 1
    assert 0 < LEDGERS["predict"].most <= planned["device_bytes"]


def test_what_was_begun_on_one_device_is_not_continued_on_another(
    home: Path, apart: ApartDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigsvd.distill.panels._PANEL_BYTES", 1)
    with pytest.raises(StoppedError):
        predict(home / "student", home / "new", tmp_path / "out", k=K, device="gpu", should_stop=lambda: True)
    with pytest.raises(OutputExistsError, match=rf"device='{apart.name}' \(now 'cpu'\)"):
        predict(home / "student", home / "new", tmp_path / "out", k=K)


def test_a_device_that_is_full_says_so(home: Path, apart: ApartDevice, tmp_path: Path) -> None:
    LEDGERS[apart.ledger].capacity = 2000
    with pytest.raises(MemoryBudgetError, match="fake GPU is full"):
        predict(home / "student", home / "new", tmp_path / "out", k=K, device="gpu")


def test_a_device_that_is_too_small_is_refused_by_the_plan(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = ApartDevice(ledger="none", free=1000)
    found(monkeypatch, small)
    with pytest.raises(MemoryBudgetError, match="on fake GPU, where the budget is 800 B"):
        predict(home / "student", home / "new", tmp_path / "out", k=K, device="gpu")


def test_a_device_that_is_not_there_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="device='tpu' is not known"):
        predict(home / "student", home / "new", tmp_path / "out", device="tpu")  # type: ignore[arg-type]
    if find_gpu()[0] is None:
        command = ("distill", "predict", home / "student", home / "new", tmp_path / "out", "--device", "gpu")
        assert refused(2, *command).startswith("error[E_DEVICE]")


def test_the_network_needs_a_gpu_of_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch finds none, "auto" is the processor, and a GPU that was asked for an error."""
    device = ApartDevice(ledger="none")
    found(monkeypatch, device)
    monkeypatch.setattr(order, "gpu_is_there", lambda: False)
    assert order.device_for("auto", network=False).device is device
    assert order.device_for("auto", network=True).device.name == "cpu"
    with pytest.raises(DeviceError, match="torch, which computes the stage network"):
        order.device_for("gpu", network=True)
    monkeypatch.setattr(order, "gpu_is_there", lambda: True)
    assert order.device_for("gpu", network=True).device is device


@pytest.mark.gpu
@pytest.mark.skipif(find_gpu()[0] is None, reason="no CUDA GPU")
class TestOnARealGpu:
    """The same on CuPy."""

    @pytest.mark.parametrize("mask", MASKS)
    @pytest.mark.parametrize("name", STAGES)
    def test_batches(self, name: str, mask: str) -> None:
        gpu = find_gpu()[0]
        assert gpu is not None
        if name == "network" and not gpu_is_there():
            pytest.skip("torch finds no GPU")
        rows = rows_of(MASKS[mask])
        tolerance = 1e-4 if name == "network" else 1e-10
        for _ in range(3):  # memory that a batch before has let go is used again
            check(inferred_on(gpu, STAGES[name], rows), inferred_on(CPU, STAGES[name], rows), tolerance)

    def test_a_prediction(self, home: Path, tmp_path: Path) -> None:
        there = predict(home / "student", home / "new", tmp_path / "there", k=K, device="gpu")
        alike(tmp_path / "there", home / "here", 1e-5)
        assert there.provenance["plan"]["device"] != "cpu"
