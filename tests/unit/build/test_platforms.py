"""One image for several platforms: what is pushed, what is proven, and what `verify` says about it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mlship.build.platforms import IndexReport, build_index
from mlship.build.prepare import Prepared, prepare
from mlship.build.run import BuildOptions
from mlship.engine.base import BuildRequest
from mlship.errors import CheckFailed, UsageError
from mlship.files import sha256_text
from mlship.lock.inputs import collect_inputs
from mlship.lock.record import LockRecord
from mlship.project.base import for_platform, record_name
from mlship.project.load import load_config
from mlship.proof.attach import attach_proof, verify
from mlship.proof.bom import MEDIA_TYPE as BOM
from mlship.proof.bom import Inventory
from mlship.registry.client import OCI_MANIFEST
from mlship.registry.images import image_in_registry
from mlship.report.build import show_index
from mlship.report.story import show_proofs
from mlship.smoke.result import Figures, SmokeReport, failed, passed
from tests.helpers.build_reporters import IMAGE, Silent
from tests.helpers.fakes import FakeEngine
from tests.helpers.registry_server import RegistryState, registry_server
from tests.helpers.toy import toy

BOTH = ("linux/amd64", "linux/arm64")
DIGEST = f"sha256:{'1' * 64}"
PIN = f"iniconfig==2.3.1 --hash=sha256:{'a' * 64}\n"
REPORT = SmokeReport("toy", IMAGE.id, "cpu", (passed("model.load", "13 ms"),), Figures())
INSTALLED = Inventory("3.11.9", "debian", "12", (("iniconfig", "2.3.1"),), ())
UNTESTED = BuildOptions(push=True, push_unproven=True)


@dataclass
class Pushing(FakeEngine):
    """Its pushes reach a stand-in registry."""

    registry: RegistryState = field(default_factory=RegistryState)

    def push(self, reference: str) -> str:
        self.calls.append(f"push {reference}")
        text = json.dumps({"schemaVersion": 2, "annotations": {"image": reference}})
        return self.registry.put(OCI_MANIFEST, text.encode(), reference.rpartition(":")[2])


@pytest.fixture
def engine() -> Pushing:
    return Pushing(built=IMAGE)


@pytest.fixture
def image(engine: Pushing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MLSHIP_BASE_MIRROR", raising=False)
    with registry_server(engine.registry) as host:
        yield f"{host}/team/toy:1"


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[Prepared, ...]:
    repo = toy(tmp_path)
    for platform in BOTH:
        config = for_platform(load_config(repo, {}), platform)
        (repo / config.requirements.lock).write_text(PIN)
        record = LockRecord(collect_inputs(repo, config), sha256_text(PIN), "python:3.11-slim-bookworm", DIGEST, "x")
        record.write(repo, record_name(config))
    return tuple(prepare(repo, platform) for platform in BOTH)


@pytest.fixture(autouse=True)
def tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlship.smoke.run.smoke", lambda *_, **__: REPORT)
    monkeypatch.setattr("mlship.build.story.installed_in", lambda *_: INSTALLED)


def built(prepared: tuple[Prepared, ...], engine: Pushing, image: str, options: BuildOptions = UNTESTED) -> IndexReport:
    return build_index(prepared, engine, replace(options, tags=(image,)), Silent())


def test_what_can_run_here_is_proven_and_the_other_is_said_not_to_be(
    prepared: tuple[Prepared, ...], engine: Pushing, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = built(prepared, engine, image)
    assert [request.platform for request in engine.requests if isinstance(request, BuildRequest)][:2] == [*BOTH]
    assert report.unproven == ("linux/arm64",)
    assert [one.proven for one in report.images] == [True, False]
    index = json.loads(engine.registry.manifests[report.digests[image]][1])
    assert [row["platform"] for row in index["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
    ]
    assert [row["digest"] for row in index["manifests"]] == [one.digest for one in report.images]
    attached = [json.loads(data).get("artifactType") for _, data in engine.registry.manifests.values()]
    assert attached.count(BOM) == 1  # of the image that was started
    show_index(report)
    shown = capsys.readouterr().out
    assert "\nIndex\n" in shown
    assert "not proven        linux/arm64" in shown


def test_verify_wants_every_platform_proven(
    prepared: tuple[Prepared, ...], engine: Pushing, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = built(prepared, engine, image).digests[image]
    with pytest.raises(CheckFailed, match=r"\(linux/arm64\) is not proven"):
        verify(image, None)
    assert len(verify(image, None, "linux/amd64").proofs) == 1
    with pytest.raises(UsageError, match="no image for linux/s390x"):
        verify(image, None, "linux/s390x")
    attach_proof(image, digest, REPORT, (), "26.1.5", "linux/arm64/v8")  # as an engine names what it pulled
    found = verify(image, "cpu")
    assert (found.digest, set(found.platforms), len(found.proofs)) == (digest, set(BOTH), 2)
    with pytest.raises(CheckFailed, match="not proven on gpu"):
        verify(image, "gpu")
    show_proofs(found)
    assert f"linux/arm64       {found.platforms['linux/arm64']}" in capsys.readouterr().out


def test_nothing_is_pushed_untested_without_a_word(prepared: tuple[Prepared, ...], engine: Pushing, image: str) -> None:
    with pytest.raises(UsageError, match="linux/arm64 cannot be tested here"):
        built(prepared, engine, image, BuildOptions(push=True))
    with pytest.raises(UsageError, match="exists only in a registry"):
        built(prepared, engine, image, BuildOptions())
    assert engine.requests == []


def test_an_image_that_fails_makes_no_index(
    prepared: tuple[Prepared, ...],
    engine: Pushing,
    image: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = replace(REPORT, checks=(failed("model.load", "seen", "remedy"),))
    monkeypatch.setattr("mlship.smoke.run.smoke", lambda *_, **__: bad)
    report = built(prepared[::-1], engine, image)
    assert (report.digests, engine.registry.manifests) == ({}, {})
    assert [one.platform for one in report.images] == ["linux/amd64"]
    show_index(report)
    assert "No index: an image failed its smoke test" in capsys.readouterr().out


def test_a_pod_runs_one_image_of_an_index(prepared: tuple[Prepared, ...], engine: Pushing, image: str) -> None:
    report = built(prepared, engine, image)
    with pytest.raises(UsageError, match="index of images for linux/amd64, linux/arm64") as caught:
        image_in_registry(image)
    assert f"toy:1@{report.images[1].digest}` (linux/arm64)" in caught.value.hint
