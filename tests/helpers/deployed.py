"""Images for `mlship kubernetes`: as values, and proven in a stand-in registry."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import yaml

from mlship.cuda.fit.cluster import cluster_document
from mlship.cuda.fit.promise import DriverSpan, Promise, Reach
from mlship.cuda.versions import Capability, Driver
from mlship.deploy.objects import Deployment, deployment_request, manifests
from mlship.deploy.options import DeployOptions
from mlship.deploy.probes import MeasuredStart
from mlship.engine.base import ImageInfo
from mlship.proof.attach import attach_proof
from mlship.registry.client import OCI_MANIFEST, digest_of
from mlship.smoke.result import Figures, SmokeReport, passed
from mlship.smoke.spec import LABEL, SmokeSpec
from tests.helpers.cluster_api import Object
from tests.helpers.registry_server import RegistryState, registry_server
from tests.helpers.smoke_events import IMAGE, MIB, SPEC

FIGURES = Figures(ready_s=3.2, live_s=0.4, answer_s=0.02)
REPORT = SmokeReport("toy:1", "sha256:1", "cpu", (passed("serve.ready", "3.2 s"),), FIGURES)
SERVER = ("python", "-m", "serving")
DIGEST = f"sha256:{'a' * 64}"
START = MeasuredStart(ready_s=3.2, answer_s=0.02, isolated=True, source="on cpu, 2026-11-28, engine 26.1.5")
SERVER_IMAGE = replace(IMAGE, command=SERVER, labels={"org.opencontainers.image.version": "1.2"})
PROMISE = Promise("linux/amd64", ("torch",), (Reach(DriverSpan(Driver(525, 60, 13), 581), (Capability(7, 0),)),))
GPU = replace(SPEC, gpu=True, shm=64 * MIB)
USUAL = DeployOptions()


def app(
    asked: DeployOptions = USUAL,
    spec: SmokeSpec = SPEC,
    start: MeasuredStart = START,
    info: ImageInfo = SERVER_IMAGE,
    image: str = "reg.example/ml/toy",
) -> Deployment:
    """The deployment of an image, as the command line and its proofs describe it."""
    nodes = cluster_document(PROMISE, "claim" if asked.claim else "affinity") if spec.gpu else {}
    return deployment_request(f"{image}@{DIGEST}", info, spec, start, asked, nodes)


def objects_of(built: Deployment) -> list[Object]:
    """The objects as a cluster parses them."""
    return [yaml.safe_load(text) for text in manifests(built)]


@contextmanager
def proven_image(
    *reports: SmokeReport,
    spec: SmokeSpec = SPEC,
    command: tuple[str, ...] = SERVER,
    user: str = "1001:1001",
    labels: Mapping[str, str] | None = None,
    repository: str = "team/toy",
    engine: str = "26.1.5",
) -> Iterator[str]:
    """The name of an image with the proofs of these reports."""
    own = {LABEL: spec.to_json(), "org.opencontainers.image.version": "1.2"} | dict(labels or {})
    config = {"User": user, "Entrypoint": [*command], "Labels": own, "Env": ["NVIDIA_REQUIRE_CUDA="]}
    blob = json.dumps({"os": "linux", "architecture": "amd64", "config": config, "rootfs": {"diff_ids": []}}).encode()
    state = RegistryState()
    state.blobs[digest_of(blob)] = blob
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [{"size": 1}]}
    data = json.dumps({**manifest, "config": {"digest": digest_of(blob)}}).encode()
    digest = state.put(OCI_MANIFEST, data, "1")
    with registry_server(state) as host:
        image = f"{host}/{repository}:1"
        for report in reports:
            attach_proof(image, digest, report, (), engine)
        yield image
