"""Provenance has what SLSA requires, the same bytes every time, and is read back from a registry of either kind."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlship.errors import CheckFailed
from mlship.proof.provenance import SLSA, BuildInputs, make_provenance, read_provenance
from mlship.proof.statement import PREDICATE_TYPE, resource
from mlship.proof.story import read_story
from mlship.registry.client import OCI_MANIFEST, content, digest_of, opened
from mlship.registry.reference import Reference
from mlship.registry.referrers import attach
from mlship.report.story import show_story
from tests.helpers.registry_server import RegistryState, registry_server

HASH = f"sha256:{'a' * 64}"
INPUTS = BuildInputs(
    source="https://example.com/team/model",
    commit="c" * 40,
    changed=False,
    platform="linux/amd64",
    parameters={"python": "3.12"},
    images=(resource("python:3.12-slim", HASH),),
    files=(resource("requirements.txt", HASH), resource("model.onnx", HASH)),
)
CONFIG = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}}).encode()
IMAGE = json.dumps(
    {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [], "config": {"digest": digest_of(CONFIG)}}
).encode()
DIGEST = digest_of(IMAGE)


@pytest.fixture(params=[True, False], ids=["referrers API", "fallback tag"])
def image(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    state = RegistryState(lists_referrers=request.param)
    state.put(OCI_MANIFEST, IMAGE, "1")
    state.blobs[digest_of(CONFIG)] = CONFIG
    with registry_server(state) as host:
        yield f"{host}/team/toy:1"


def test_it_has_what_slsa_requires_and_always_the_same_bytes() -> None:
    made = make_provenance("example.com/toy", DIGEST, INPUTS)
    assert made == make_provenance("example.com/toy", DIGEST, INPUTS)
    statement = json.loads(made.data)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [{"name": "example.com/toy", "digest": {"sha256": DIGEST.removeprefix("sha256:")}}]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["buildType"].startswith("mlship:build/")
    code = {"uri": "git+https://example.com/team/model", "digest": {"gitCommit": "c" * 40}}
    assert definition["externalParameters"] == {"platform": "linux/amd64", "source": code}
    assert definition["internalParameters"] == {"python": "3.12", "uncommittedChanges": False}
    assert [one.get("name") for one in definition["resolvedDependencies"]] == [
        None,
        "python:3.12-slim",
        "requirements.txt",
        "model.onnx",
    ]
    assert statement["predicate"]["runDetails"]["builder"]["id"] == "mlship:build"


def test_what_is_unknown_is_left_out() -> None:
    unknown = replace(INPUTS, source=None, commit=None, changed=None)
    definition = json.loads(make_provenance("toy", DIGEST, unknown).data)["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {"platform": "linux/amd64"}
    assert definition["internalParameters"] == {"python": "3.12"}
    assert definition["resolvedDependencies"][0]["name"] == "python:3.12-slim"


def test_the_story_reads_it_back(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_story(read_story(image))
    assert "  provenance    unknown\n" in capsys.readouterr().out
    add(image, DIGEST, replace(INPUTS, changed=True))
    story = read_story(image)
    assert story.provenance["buildDefinition"]
    show_story(story)
    line = "from 4 inputs, with uncommitted changes (not signed)\n"
    assert line in capsys.readouterr().out


def test_provenance_of_another_image_is_refused(image: str) -> None:
    add(image, HASH, INPUTS)
    with pytest.raises(CheckFailed, match="is not about sha256:"):
        read_story(image)


@pytest.mark.parametrize("change", [{"subject": []}, {"subject": [{}]}, {"subject": 1}, {"predicate": None}])
def test_a_statement_without_a_subject_or_a_predicate_is_refused(change: dict[str, object]) -> None:
    statement = json.loads(make_provenance("toy", DIGEST, INPUTS).data) | change
    with pytest.raises(CheckFailed):
        read_provenance(content("", json.dumps(statement).encode()), DIGEST)


def add(image: str, digest: str, inputs: BuildInputs) -> None:
    with opened(Reference.parse(image)) as registry:
        found = registry.manifest("1")
        assert found is not None
        attach(registry, found, make_provenance("toy", digest, inputs), {PREDICATE_TYPE: SLSA})
