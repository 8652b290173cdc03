"""The proof of an image: attached in a registry of either kind, read back, and refused if it is not true."""

import gc
import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.errors import CheckFailed, TransientError, UsageError
from mlship.proof.attach import attach_proof, verify
from mlship.proof.statement import MEDIA_TYPE, make_statement, read_statement, resource
from mlship.registry.client import OCI_MANIFEST, content, digest_of, fallback_tag
from mlship.report.story import show_proofs
from mlship.smoke.result import Figures, SmokeReport, failed, passed, skipped, warned
from tests.helpers.registry_server import RegistryState, basic, registry_server

IMAGE = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": []}).encode()
DIGEST = digest_of(IMAGE)
OTHER = f"sha256:{'2' * 64}"
REPORT = SmokeReport(
    "toy:1",
    "sha256:1",
    "cpu",
    (passed("model.load", "13 ms"), warned("model.warm", "slow", "?"), skipped("model.shape", "no shape")),
    Figures(load_s=0.013),
)
GPU = replace(REPORT, device="gpu", gpus=("NVIDIA H200",), driver="580.1")
MATERIALS = (resource("requirements.txt", f"sha256:{'a' * 64}"),)
NOW = datetime(2026, 11, 28, 6, 0, tzinfo=UTC)


@pytest.fixture(params=[True, False], ids=["referrers API", "fallback tag"])
def state(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RegistryState:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    state = RegistryState(lists_referrers=request.param)
    state.put(OCI_MANIFEST, IMAGE, "1")
    return state


@pytest.fixture
def image(state: RegistryState) -> Iterator[str]:
    with registry_server(state) as host:
        yield f"{host}/team/toy:1"


def attached(image: str, report: SmokeReport = REPORT) -> str:
    return attach_proof(image, DIGEST, report, MATERIALS, "26.1.5")


def test_a_proof_is_attached_and_read_back(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    attached(image)
    found = verify(image, "cpu")
    assert (found.digest, len(found.proofs)) == (DIGEST, 1)
    (proof,) = found.proofs
    assert (proof.result, proof.passedTests, proof.warnedTests) == ("WARNED", ("model.load",), ("model.warm",))
    assert proof.configuration == MATERIALS
    assert proof.mlship.figures.load_s == 0.013
    assert verify(image.replace(":1", f"@{DIGEST}"), None).digest == DIGEST
    show_proofs(found)
    shown = capsys.readouterr().out
    assert shown.startswith(f"PROVEN on cpu: {image}\n")
    assert f"built from        requirements.txt sha256:{'a' * 64}" in shown


def test_attaching_twice_keeps_both_and_the_same_one_once(image: str, state: RegistryState) -> None:
    attached(image)
    attached(image, GPU)
    found = verify(image, "gpu")
    assert {proof.mlship.device for proof in found.proofs} == {"cpu", "gpu"}
    if not state.lists_referrers:
        rows = json.loads(state.manifests[state.tags[fallback_tag(DIGEST)]][1])["manifests"]
        assert len({row["digest"] for row in rows}) == len(rows) == 2
        assert {row["artifactType"] for row in rows} == {MEDIA_TYPE}


def test_an_image_without_a_proof_is_refused(image: str) -> None:
    with pytest.raises(CheckFailed, match="is not proven: no smoke test is attached") as caught:
        verify(image, None)
    assert "--attest" in caught.value.hint


def test_a_cpu_proof_is_no_gpu_proof(image: str) -> None:
    attached(image)
    with pytest.raises(CheckFailed, match="not proven on gpu, only on cpu"):
        verify(image, "gpu")


def test_a_simulated_gpu_is_no_gpu(image: str) -> None:
    attached(image, replace(GPU, device="simulated gpu"))
    with pytest.raises(CheckFailed, match="not proven on gpu, only on simulated gpu"):
        verify(image, "gpu")
    with pytest.raises(CheckFailed, match="not proven on cpu or gpu, only on simulated gpu") as refused:
        verify(image, None)
    assert refused.value.hint.endswith("--on gpu --attest` on a host with a GPU")
    with pytest.raises(CheckFailed, match="not proven on cpu, only on simulated gpu") as refused:
        verify(image, "cpu")  # needs no GPU
    assert refused.value.hint.endswith("--on cpu --attest`")


def test_a_failed_test_proves_nothing(image: str) -> None:
    attached(image, replace(REPORT, checks=(*REPORT.checks, failed("serve.ready", "never", "?"))))
    with pytest.raises(CheckFailed, match=r"failed its smoke test: serve\.ready"):
        verify(image, None)


def test_a_proof_of_another_image_is_refused(image: str, state: RegistryState) -> None:
    """The statement is copied to an image that it is not about."""
    attached(image)
    digest, (kind, data) = next((k, v) for k, v in state.manifests.items() if b'"subject"' in v[1])
    other = IMAGE.replace(b"[]", b"[ ]")
    state.put(OCI_MANIFEST, other, "other")
    moved = json.loads(data)
    moved["subject"]["digest"] = digest_of(other)
    row = {"mediaType": kind, "digest": state.put(kind, json.dumps(moved).encode()), "artifactType": MEDIA_TYPE}
    state.put(
        "application/vnd.oci.image.index.v1+json",
        json.dumps({"manifests": [row]}).encode(),
        fallback_tag(digest_of(other)),
    )
    assert digest != row["digest"]
    with pytest.raises(CheckFailed, match="is about another image"):
        verify(image.replace(":1", ":other"), None)


def test_a_changed_blob_is_refused(image: str, state: RegistryState) -> None:
    attached(image)
    digest = next(name for name, data in state.blobs.items() if b"predicate" in data)
    state.blobs[digest] = state.blobs[digest].replace(b'"cpu"', b'"gpu"')
    with pytest.raises(CheckFailed, match="other bytes"):
        verify(image, None)


def test_statements_of_other_tools_are_left_alone(image: str, state: RegistryState) -> None:
    from mlship.registry.client import opened
    from mlship.registry.reference import Reference
    from mlship.registry.referrers import attach

    other = content(
        MEDIA_TYPE, json.dumps({"predicateType": "https://slsa.dev/provenance/v1", "predicate": {}}).encode()
    )
    with opened(Reference.parse(image)) as registry:
        attach(registry, content(OCI_MANIFEST, IMAGE), other, {})
    attached(image)
    assert len(verify(image, None).proofs) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.update(result="PASSED"),
        lambda it: it["warnedTests"].clear(),
        lambda it: it["passedTests"].append("gpu.used"),
        lambda it: it["mlship"].update(device="gpu"),
        lambda it: it["mlship"].update(gpus=["NVIDIA H200"]),
        lambda it: it["mlship"]["checks"].clear(),
        lambda it: it["mlship"]["checks"][0].update(status="fail"),
        lambda it: it.pop("mlship"),
        lambda it: it["mlship"].update(device="tpu"),
        lambda it: it["mlship"].update(date="2026-11-28"),
        lambda it: it["mlship"].update(date="2026-11-28T06:00:00+02:00"),
        lambda it: it["mlship"]["figures"].update(ready_s=-1),
        lambda it: it["mlship"]["figures"].update(ready_s=math.nan),
        lambda it: it["mlship"]["figures"].update(peak_memory=-1),
    ],
)
def test_a_statement_that_contradicts_itself_is_refused(change: Callable[[dict[str, object]], None]) -> None:
    statement = json.loads(make_statement("toy", DIGEST, REPORT, (), "26", NOW).data)
    change(statement["predicate"])
    with pytest.raises(CheckFailed):
        read_statement(content(MEDIA_TYPE, json.dumps(statement).encode()), DIGEST)


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=255))
def test_no_changed_byte_goes_unnoticed_or_raises_anything_else(where: int, value: int) -> None:
    """Whatever is changed: another digest, so the registry's bytes are refused; and reading never fails otherwise."""
    original = make_statement("toy", DIGEST, REPORT, MATERIALS, "26", NOW)
    data = bytearray(original.data)
    data[where % len(data)] = value
    changed = content(MEDIA_TYPE, bytes(data))
    assert (changed.digest == original.digest) == (bytes(data) == original.data)
    with suppress(CheckFailed):
        read_statement(changed, DIGEST)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, UsageError, "denied access"),
        (403, UsageError, "denied access"),
        (404, UsageError, "has no image"),
        (429, TransientError, "HTTP 429"),
        (500, TransientError, "HTTP 500"),
        (503, TransientError, "HTTP 503"),
    ],
)
def test_a_registry_that_refuses(
    image: str, state: RegistryState, status: int, kind: type[Exception], words: str
) -> None:
    state.fails["/manifests/"] = status
    with pytest.raises(kind, match=words):
        verify(image, None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # urllib3 leaves the socket open
def test_a_registry_without_tls_is_used_where_docker_allows_it(
    image: str, state: RegistryState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = tmp_path / "daemon.json"
    monkeypatch.setattr("mlship.registry.client._DAEMON", str(daemon))
    monkeypatch.setattr("mlship.registry.client._LOCAL", re.compile("never"))
    with pytest.raises(UsageError, match="answers without TLS") as refused:
        verify(image, None)
    assert "insecure-registries" in refused.value.hint
    daemon.write_text(json.dumps({"insecure-registries": [image.partition("/")[0]]}))
    with pytest.raises(CheckFailed, match="is not proven"):
        verify(image, None)
    state.fails["manifests"] = 400
    with pytest.raises(UsageError, match="uses TLS") as secure:
        verify(image, None)
    assert "ca.crt" in secure.value.hint
    del refused
    gc.collect()


def test_a_registry_that_does_not_answer(image: str) -> None:
    with pytest.raises(TransientError, match="does not answer"):
        verify("127.0.0.1:9/toy:1", None)


def test_a_token_is_fetched_with_the_stored_password(
    image: str, state: RegistryState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And stays in use where ~/.netrc has a password, too."""
    (tmp_path / "netrc").write_text("default login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    state.token = "secret-token"
    host = image.partition("/")[0]
    auth = basic("me", "hunter2").partition(" ")[2]
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    attached(image)
    assert verify(image, None).digest == DIGEST
    assert set(state.authorizations) == {basic("me", "hunter2")}
