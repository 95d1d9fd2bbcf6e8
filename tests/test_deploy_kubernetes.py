"""deploy/kubernetes: each object is one that Kubernetes, or Dask's operator, would take."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployed import DEPLOY

FOLDER = DEPLOY / "kubernetes"
SERVICE = ("service.yaml", "service-address.yaml", "service-state.yaml")
FILES = sorted(FOLDER.glob("*.yaml"))
VERSION = "1.35"  # of Kubernetes
CRD = "dask_kubernetes/operator/deployment/helm/dask-kubernetes-operator/crds/daskcluster.yaml"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return found


@cache
def schema_of_clusters() -> dict[str, Any]:
    """That of what a DaskCluster is to be, from the package of the operator itself, made strict."""
    folder = os.environ.get("DASK_KUBERNETES")
    if folder is None:
        pytest.skip("DASK_KUBERNETES is no DIR of `pip install --no-deps --target DIR dask-kubernetes`")
    (version,) = yaml.safe_load((Path(folder) / CRD).read_text())["spec"]["versions"]
    schema: dict[str, Any] = strict(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    return schema


def strict(schema: Any) -> Any:
    """The same, but that a name which it does not know is refused; Kubernetes drops it without a word."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: strict(each) for name, each in schema.items()}
    if isinstance(schema.get("properties"), dict):
        inner["properties"] = {name: strict(each) for name, each in schema["properties"].items()}
        inner.setdefault("additionalProperties", False)
    return inner


@pytest.mark.parametrize("name", ["job.yaml", "network-policy.yaml", *SERVICE])
def test_kubernetes_takes_it(name: str) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    kubernetes.validate(read(name), VERSION, strict=True)


def test_the_operator_takes_the_cluster() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="pip install jsonschema")
    jsonschema.Draft7Validator(schema_of_clusters()).validate(read("cluster.yaml")["spec"])


def test_a_name_that_the_operator_does_not_know_is_noticed() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="pip install jsonschema")
    spec = read("cluster.yaml")["spec"]
    spec["worker"]["spec"]["containers"][0]["volumeMount"] = []
    assert not jsonschema.Draft7Validator(schema_of_clusters()).is_valid(spec)


def test_the_parts_find_each_other() -> None:
    """The job and the operator name what the cluster makes; the policy lets them in."""
    cluster, job, policy = read("cluster.yaml"), read("job.yaml"), read("network-policy.yaml")
    name, labels = cluster["metadata"]["name"], job["spec"]["template"]["metadata"]["labels"]
    service = cluster["spec"]["scheduler"]["service"]
    (driver,) = job["spec"]["template"]["spec"]["containers"]
    assert f"tcp://{name}-scheduler:{service['ports'][0]['port']}" in driver["args"]
    assert service["selector"] == {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    allowed = [each.get("podSelector", {}) for each in policy["spec"]["ingress"][0]["from"]]
    assert {"matchLabels": labels} in allowed
    assert policy["spec"]["podSelector"] == {"matchLabels": {"dask.org/cluster-name": name}}
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure"


def test_the_service_is_found_and_finds_the_cluster_and_its_queue() -> None:
    service, address, state = map(read, SERVICE)
    pod = service["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert address["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert address["spec"]["ports"][0]["port"] == container["ports"][0]["containerPort"] == 8765
    assert address["metadata"]["name"] in container["args"]
    assert f"tcp://{read('cluster.yaml')['metadata']['name']}-scheduler:8786" in container["args"]
    claims = {each["name"]: each["persistentVolumeClaim"]["claimName"] for each in pod["spec"]["volumes"]}
    assert claims == {"data": "bigsvd-data", "state": state["metadata"]["name"]}
    assert {each["mountPath"] for each in container["volumeMounts"]} <= {*container["args"]}


def test_all_see_one_volume() -> None:
    cluster, job = read("cluster.yaml")["spec"], read("job.yaml")["spec"]["template"]["spec"]
    for pod in (cluster["worker"]["spec"], job):
        (volume,) = pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == "bigsvd-data"
        assert pod["containers"][0]["volumeMounts"] == [{"name": volume["name"], "mountPath": "/data"}]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_file_is_left_unchecked(file: Path) -> None:
    assert file.name in ("cluster.yaml", "job.yaml", "network-policy.yaml", *SERVICE)
