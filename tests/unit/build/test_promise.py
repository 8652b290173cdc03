"""What a pushed GPU image says about the nodes that run it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mlship.build.prepare import Prepared, prepare
from mlship.build.story import attach_promise, promise_yaml
from mlship.cuda.hosts.profile import named_fleet
from mlship.cuda.tables.lookup import tables
from mlship.errors import MatchError
from mlship.files import sha256_text
from mlship.image.gpu import match_hosts
from mlship.lock.inputs import collect_inputs
from mlship.lock.pins import Pin
from mlship.lock.record import LockRecord
from mlship.project.load import load_config
from mlship.registry.client import OCI_MANIFEST
from tests.helpers.registry_server import RegistryState, registry_server
from tests.helpers.toy import toy

PIN = f"iniconfig==2.3.1 --hash=sha256:{'a' * 64}\n"
FLEET = named_fleet("535.104.05", ("8.0",), "linux/amd64")
TORCH = {"torch": "2.8.0", "nvidia-cuda-runtime-cu12": "12.8.90"}


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    repo = toy(tmp_path)
    (repo / "requirements.txt").write_text(PIN)
    inputs = collect_inputs(repo, load_config(repo, {}))
    LockRecord(inputs, sha256_text(PIN), "python:3.11-slim-bookworm", f"sha256:{'1' * 64}", "pip-tools 7").write(repo)
    return prepare(repo)


def with_lock(prepared: Prepared, pins: dict[str, str]) -> Prepared:
    locked = tuple(Pin(name, version, ()) for name, version in pins.items())
    return replace(prepared, lock=replace(prepared.lock, pins=locked), fleet=FLEET)


def test_a_cpu_image_promises_nothing(prepared: Prepared) -> None:
    assert promise_yaml(prepared) is None


def test_a_gpu_image_promises_what_its_lock_runs_on(prepared: Prepared) -> None:
    text = promise_yaml(with_lock(prepared, TORCH)) or ""
    assert "torch 2.8.0 (cu128)" in yaml.safe_load(text)["compatibilities"][0]["description"]


def test_an_unjudged_package_promises_nothing(prepared: Prepared) -> None:
    with pytest.raises(MatchError, match="nothing can be promised: faiss-gpu-cu12"):
        promise_yaml(with_lock(prepared, {**TORCH, "faiss-gpu-cu12": "1.99"}))


def test_a_lock_far_newer_than_the_tables_and_a_driver_without_support_are_warnings(prepared: Prepared) -> None:
    made = with_lock(prepared, {**TORCH, "torch": "2.99.0"})
    warnings = match_hosts(made.config, made.lock, FLEET).warnings
    day = max(row.read_on for row in tables().packages.by_package["torch"])
    assert any(f"read on {day}, are more than one minor release older than torch 2.99.0" in text for text in warnings)
    assert any("support for driver branch R535 ended in 2026-06" in text for text in warnings)
    assert not any("update mlship" in text for text in match_hosts(made.config, prepared.lock, FLEET).warnings)


@pytest.mark.parametrize("lists", [True, False], ids=["referrers API", "fallback tag"])
def test_it_is_attached_as_node_feature_discovery_reads_it(
    lists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    state = RegistryState(lists_referrers=lists)
    image = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": []}).encode()
    digest = state.put(OCI_MANIFEST, image, "1")
    with registry_server(state) as host:
        attach_promise("version: v1alpha1\n", [(f"{host}/toy:1", digest)])
    ((_, data),) = [row for row in state.manifests.values() if b"artifactType" in row[1] and b"subject" in row[1]]
    listed = json.loads(data)
    assert listed["artifactType"] == "application/vnd.nfd.image-compatibility.v1alpha1"
    (layer,) = listed["layers"]
    assert layer["mediaType"] == "application/vnd.nfd.image-compatibility.spec.v1alpha1+yaml"
    assert state.blobs[layer["digest"]] == b"version: v1alpha1\n"
    assert listed["subject"]["digest"] == digest
