"""What `mlship kubernetes` prints for a model on the CPU and one on a GPU; `make golden` updates it."""

from dataclasses import replace

import pytest

from mlship.cli.kubernetes import stream
from mlship.deploy.objects import manifests, notes_of
from mlship.deploy.options import DeployOptions
from tests.conftest import Golden
from tests.helpers.deployed import GPU, app
from tests.helpers.smoke_events import SPEC

CASES = {
    "deployment": (DeployOptions(namespace="ml", env=("MAX_BATCH=16",), pull_secret="regcred"), SPEC),
    "claim": (DeployOptions(claim="one-gpu"), replace(GPU, live="/health", ready="/health")),
    "knative": (DeployOptions(kind="knative"), SPEC),
    "kserve": (DeployOptions(kind="kserve"), GPU),
}


@pytest.mark.parametrize("name", CASES)
def test_the_stream(name: str, golden: Golden) -> None:
    asked, spec = CASES[name]
    built = app(asked, spec)
    golden(f"kubernetes/{name}.yaml", stream("reg.example/ml/toy:1.2", notes_of(built), manifests(built)))
