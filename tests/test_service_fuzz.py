"""The short lane of the fuzzer: no answer is 5xx, and every one is as the OpenAPI document says."""

from __future__ import annotations

from pathlib import Path

from schemathesis.python.asgi import HOST

from benchmarks.service_fuzz import Known, fuzz
from tests.services import serving
from tests.small_arrays import small_matrix, store

CASES = 200


def test_no_request_breaks_the_service(tmp_path: Path) -> None:
    with serving(tmp_path, hosts=(HOST,)) as served:
        source = store(served.root / "data.zarr", small_matrix())
        jobs = [served.done(source="data.zarr", k=k, out=f"factors{k}")["id"] for k in (2, 3)]
        link = served.ask("POST", f"/v1/results/{jobs[0]}/links", 201, json={})["id"]
        served.service.runner.pause()
        known = Known.of(str(source), ["factors2"], jobs, [link])
        found = fuzz(served.app, CASES, known)
    assert found.failures == []
    assert found.cases > CASES // 2
    assert max(found.statuses) < 500
    assert {200, 404, 422} <= {*found.statuses}
