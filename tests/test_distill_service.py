"""A service says of predicted factors that they are: in each answer, and in the arrays of its links."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

from bigsvd.distill.predicting import predict
from bigsvd.results.certificate import Certificate
from bigsvd.results.factors import open_factors
from tests.services import LIMIT_SECONDS, Served, serving
from tests.students import Law, N, by_hand, gaps
from tests.waiting import wait_until

K = 3


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    law = Law.of()
    with serving(tmp_path_factory.mktemp("service")) as found:
        complete = law.rows(200, 2)
        data = np.where(gaps(complete.shape, 0.4), np.nan, complete)
        zarr.create_array(found.root / "new.zarr", data=data, chunks=(100, N))
        by_hand(law.rows(1000, 1), found.root / "student.zarr")
        predict(found.root / "student.zarr", found.root / "new.zarr", found.root / "p", k=K, stage="ridge")
        yield found


@pytest.fixture(scope="module")
def url(served: Served) -> str:
    return f"/v1/results/{served.ask('GET', '/v1/results?path=p')['id']}"


def test_every_answer_says_that_it_is_predicted(served: Served, url: str) -> None:
    info = served.ask("GET", url)
    assert info["predicted"]["stage"] == "ridge"
    assert Certificate.from_dict(info["certificate"]).predicted is not None
    assert info["certificate"]["max_residual"] is None
    assert "not computed" in served.ask("GET", f"{url}/rank")["predicted"]
    assert "not computed" in served.ask("GET", f"{url}/spectrum")["predicted"]


def test_arrays_say_so_without_a_path_of_the_machine_and_have_the_uncertainty(
    served: Served, url: str
) -> None:
    about = served.ask("GET", f"{url}/zarr/zarr.json")["attributes"]["bigsvd"]
    assert "predicted by stage ridge from" in about["predicted"]
    assert str(served.root) not in about["predicted"]
    body = served.client.get(f"{url}/zarr/uncertainty/c/0").content
    stored = open_factors(served.root / "p").uncertainty[:]
    np.testing.assert_array_equal(np.frombuffer(body, "<f8")[: len(stored)], stored)


def test_a_predicted_result_is_measured_not_called_damaged(served: Served, url: str) -> None:
    served.ask("POST", f"{url}/verify", 202)

    def has_ended() -> bool:
        return bool(served.ask("GET", f"{url}/verify")["state"] != "running")

    wait_until(has_ended, LIMIT_SECONDS, "the result is verified")
    found = served.ask("GET", f"{url}/verify")
    assert found["state"] == "done", found
    assert found["verification"]["holds"]
    assert found["verification"]["max_residual"] is None
    assert 0 < found["verification"]["relative_error"] < 1
    assert "measured on the" in found["verification"]["predicted"]


def test_its_leading_triplets_are_predicted_too(served: Served, url: str) -> None:
    told = served.ask("POST", f"{url}/truncate", 201, json={"k": 2, "out": str(Path("few"))})
    assert len(told["predicted"]["captured"]) == 2
