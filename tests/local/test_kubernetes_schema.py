"""The Job against the schemas of Kubernetes' API, as the package kubernetes-validate has them."""

from dataclasses import replace

import kubernetes_validate
import pytest
import yaml

from mlship.smoke.cluster.job import Placement, PodTest, Yaml, job_of, job_yaml
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
    kubernetes_validate.validate(yaml.safe_load(job_yaml(job_of(*JOBS[name], "mlship-smoke-1"))), version, strict=True)


def test_the_schema_refuses_an_unknown_field() -> None:
    job: dict[str, Yaml] = {**job_of(*JOBS["cpu"], "mlship-smoke-1"), "speck": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.34", strict=True)
