"""The Job against the schemas of Kubernetes' API, as the package kubernetes-validate has them.

It is no development dependency: its schemas take 70 MB. `pip install kubernetes-validate` lets this test run.
"""

import importlib
from dataclasses import replace
from types import ModuleType

import pytest
import yaml

from mlship.smoke.cluster.job import Placement, PodTest, Yaml, job_of, job_yaml
from tests.helpers.required import unavailable
from tests.helpers.smoke_events import MIB, SPEC

TEST = PodTest("reg.example/toy@sha256:1", ("python", "server.py"), "amd64", SPEC)
GPU = replace(TEST, device="gpu")
JOBS = {
    "cpu": (TEST, Placement()),
    "gpu": (GPU, Placement("ml", {"kubernetes.io/hostname": "a100-1"}, pull_secret="regcred", env_secret="env")),
    "claim": (GPU, Placement(claim="one-gpu")),
    "shm": (replace(TEST, spec=replace(SPEC, shm=64 * MIB)), Placement()),
}


@pytest.fixture(scope="module")
def validator() -> ModuleType:
    try:
        return importlib.import_module("kubernetes_validate")
    except ImportError:
        unavailable("kubernetes-validate is not installed", "kubernetes")


@pytest.mark.parametrize("version", ["1.31", "1.34", "1.37"])
@pytest.mark.parametrize("name", JOBS)
def test_the_job_is_valid(validator: ModuleType, version: str, name: str) -> None:
    validator.validate(yaml.safe_load(job_yaml(job_of(*JOBS[name], "mlship-smoke-1"))), version, strict=True)


def test_the_schema_refuses_an_unknown_field(validator: ModuleType) -> None:
    job: dict[str, Yaml] = {**job_of(*JOBS["cpu"], "mlship-smoke-1"), "speck": {}}
    with pytest.raises(validator.ValidationError):
        validator.validate(job, "1.34", strict=True)
