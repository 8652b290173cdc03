"""The Job and the promises of an image against Kubernetes' schemas, from the package kubernetes-validate."""

from dataclasses import replace

import kubernetes_validate
import pytest
import yaml

from mlship.cuda.fit.cluster import cluster_document
from mlship.cuda.fit.promise import DriverSpan, Promise, Reach
from mlship.cuda.versions import Capability, Driver
from mlship.smoke.cluster.job import Placement, PodTest, job_of
from mlship.yaml_text import Yaml, yaml_text
from tests.helpers.smoke_events import MIB, SPEC

TEST = PodTest("reg.example/toy@sha256:1", ("python", "server.py"), "amd64", SPEC)
GPU = replace(TEST, device="gpu")
JOBS = {
    "cpu": (TEST, Placement()),
    "gpu": (GPU, Placement("ml", {"kubernetes.io/hostname": "a100-1"}, pull_secret="regcred", env_secret="env")),
    "claim": (GPU, Placement(claim="one-gpu")),
    "shm": (replace(TEST, spec=replace(SPEC, shm=64 * MIB)), Placement()),
}


@pytest.mark.parametrize("version", ["1.31", "1.34", "1.37"])
@pytest.mark.parametrize("name", JOBS)
def test_the_job_is_valid(version: str, name: str) -> None:
    kubernetes_validate.validate(yaml.safe_load(yaml_text(job_of(*JOBS[name], "mlship-smoke-1"))), version, strict=True)


def test_the_schema_refuses_an_unknown_field() -> None:
    job: dict[str, Yaml] = {**job_of(*JOBS["cpu"], "mlship-smoke-1"), "speck": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.34", strict=True)


PROMISE = Promise("linux/amd64", ("torch",), (Reach(DriverSpan(Driver(525, 60, 13), 581), (Capability(7, 0),)),))


@pytest.mark.parametrize("version", ["1.35", "1.36", "1.37"])
def test_the_claim_template_is_valid(version: str) -> None:
    kubernetes_validate.validate(cluster_document(PROMISE, "claim"), version, strict=True)


@pytest.mark.parametrize("version", ["1.31", "1.34", "1.37"])
def test_the_affinity_is_valid(version: str) -> None:
    spec = {**cluster_document(PROMISE, "affinity"), "containers": [{"name": "server", "image": "toy"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "toy"}, "spec": spec}
    kubernetes_validate.validate(pod, version, strict=True)
