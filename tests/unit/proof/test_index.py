"""The proofs of an index: whatever a runtime may choose from it has to be proven."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlship.errors import CheckFailed, MlshipError, UsageError
from mlship.proof.attach import attach_proof, verify
from mlship.proof.story import read_story
from mlship.registry.client import OCI_INDEX, OCI_MANIFEST, JsonValue, content, digest_of
from mlship.registry.images import image_in_registry, platforms_in
from mlship.smoke.result import Figures, SmokeReport, passed
from tests.helpers.registry_server import RegistryState, registry_server

REPORT = SmokeReport("toy:1", "sha256:1", "cpu", (passed("model.load", "13 ms"),), Figures())
ROWS = ("linux/amd64", "linux/amd64/v1", "linux/arm64", "linux/arm64/v8", "", "unknown/unknown")


@dataclass
class Indexed:
    """A registry with an index of small images."""

    state: RegistryState
    host: str
    rows: list[JsonValue] = field(default_factory=list)

    @property
    def image(self) -> str:
        return f"{self.host}/team/toy:1"

    def add(self, platform: str) -> str:
        """An image with this platform in the index, or with none; returns its digest."""
        parts = platform.split("/")
        config = {"os": "linux", "architecture": [*parts, "amd64"][1], "rootfs": {"diff_ids": []}}
        blob = json.dumps({**config, "history": [{"comment": str(len(self.rows))}]}).encode()
        self.state.blobs[digest_of(blob)] = blob
        manifest = {"mediaType": OCI_MANIFEST, "config": {"digest": digest_of(blob)}, "layers": []}
        digest = self.state.put(OCI_MANIFEST, json.dumps(manifest).encode())
        named: dict[str, JsonValue] = dict(zip(("os", "architecture", "variant"), parts, strict=False))
        self.rows.append({"mediaType": OCI_MANIFEST, "digest": digest, **({"platform": named} if platform else {})})
        return digest

    def close(self) -> str:
        """Store the index; returns its digest."""
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self.rows}
        return self.state.put(OCI_INDEX, json.dumps(index).encode(), "1")

    def prove(self, digest: str, platform: str = "") -> None:
        attach_proof(self.image, digest, REPORT, (), "29.1", platform)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Indexed]:
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")
    state = RegistryState()
    with registry_server(state) as host:
        yield Indexed(state, host)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(ROWS), st.booleans()), min_size=1, max_size=4), st.sampled_from([*ROWS, None])
)
def test_no_image_of_an_index_is_taken_for_proven(
    made: Indexed, rows: list[tuple[str, bool]], platform: str | None
) -> None:
    for kept in (made.rows, made.state.manifests, made.state.tags):
        kept.clear()
    digests = [made.add(name) for name, _ in rows]
    made.close()
    for digest, (_, is_proven) in zip(digests, rows, strict=True):
        if is_proven:
            made.prove(digest)
    usual = {"linux/amd64/v1": "linux/amd64", "linux/arm64/v8": "linux/arm64"}
    asked = usual.get(platform or "", platform)
    chosen = [row for row in rows if row[0] != "unknown/unknown" and asked in {None, usual.get(row[0], row[0])}]
    try:
        verify(made.image, None, platform)
    except MlshipError:
        return
    assert chosen
    assert all(is_proven for _, is_proven in chosen)


def test_two_images_for_one_platform_need_a_proof_each(made: Indexed) -> None:
    """As podman pushes them with `--add-compression`."""
    plain, other = made.add("linux/amd64"), made.add("linux/amd64")
    index = made.close()
    with pytest.raises(UsageError, match="which one was tested is unknown"):
        made.prove(index, "linux/amd64")
    made.prove(plain)
    with pytest.raises(CheckFailed, match=f"{other} \\({other}\\) is not proven"):
        verify(made.image, None, "linux/amd64")
    made.prove(other)
    assert set(verify(made.image, None).platforms.values()) == {plain, other}


def test_a_variant_that_the_architecture_means_is_left_out(made: Indexed) -> None:
    """As podman writes it, and an engine does not."""
    made.add("linux/amd64")
    arm = made.add("linux/arm64/v8")
    made.prove(made.close(), "linux/arm64")
    for platform in ("linux/arm64", "linux/arm64/v8"):
        assert verify(made.image, None, platform).platforms == {"linux/arm64": arm}


@pytest.mark.parametrize("is_index", [True, False])
def test_the_platform_of_one_image_counts(made: Indexed, is_index: bool) -> None:
    digest = made.add("linux/arm64")
    if is_index:
        made.add("unknown/unknown")
        digest = made.close()
    made.state.tags["1"] = digest
    made.prove(digest, "linux/arm64")
    assert verify(made.image, None, "linux/arm64").digest == digest
    with pytest.raises(UsageError, match="has no image for linux/amd64") as refused:
        verify(made.image, None, "linux/amd64")
    assert refused.value.hint == "name one that it has: linux/arm64"


def test_a_proof_of_the_one_image_is_one_of_its_index(made: Indexed) -> None:
    """`docker buildx imagetools create` gives an image that was proven another name, in an index of its own."""
    digest = made.add("linux/amd64")
    made.add("unknown/unknown")
    made.prove(digest)
    index = made.close()
    found = verify(made.image, "cpu")
    assert (found.digest, found.platforms, len(found.proofs)) == (index, {"linux/amd64": digest}, 1)
    assert len(read_story(made.image).proofs) == 1
    made.prove(index)
    assert len(read_story(made.image).proofs) == 2
    made.rows[0] = {"digest": made.add("linux/amd64"), "platform": {"os": "linux", "architecture": "amd64"}}
    made.rows.pop()
    made.close()
    with pytest.raises(CheckFailed, match="is not proven"):
        verify(made.image, "cpu")
    assert read_story(made.image).proofs == ()


def test_an_index_in_an_index_is_refused(made: Indexed) -> None:
    made.add("linux/arm64")
    inner = made.close()
    made.rows = [{"mediaType": OCI_INDEX, "digest": inner, "platform": {"os": "linux", "architecture": "arm64"}}]
    made.close()
    for read in (lambda: verify(made.image, None), lambda: image_in_registry(made.image)):
        with pytest.raises(UsageError, match="lists another index"):
            read()


def test_artifacts_in_an_index_are_no_images(made: Indexed) -> None:
    made.add("linux/amd64")
    made.rows.append({"mediaType": OCI_MANIFEST, "digest": "sha256:1", "artifactType": "application/spdx+json"})
    found = made.state.manifests[made.close()]
    assert [*platforms_in(content(*found))] == ["linux/amd64"]


def test_an_image_that_its_row_calls_an_artifact_has_to_be_proven(made: Indexed) -> None:
    """A runtime chooses by the platform of a row, whatever else the row says."""
    proven = made.add("linux/amd64")
    made.add("linux/arm64")
    row = made.rows[-1]
    assert isinstance(row, dict)
    row["artifactType"] = "application/spdx+json"
    made.close()
    made.prove(proven, "linux/amd64")
    with pytest.raises(CheckFailed, match="linux/arm64"):
        verify(made.image, None)
