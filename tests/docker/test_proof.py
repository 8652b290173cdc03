"""The proof of a pushed image in a real registry, Debian's `docker-registry`, which has no referrers API.

Other programs read what was attached: `oras` and `skopeo`. tests/unit/proof has the registries with the API.
"""

import hashlib
import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlship import __version__
from mlship.engine.base import BuildRequest, Engine
from mlship.proof.attach import attach_proof
from mlship.registry.images import put_index
from mlship.smoke.result import Figures, SmokeReport, passed
from mlship.units import duration
from tests.helpers.cluster_api import command_of, container_of
from tests.helpers.command import mlship
from tests.helpers.faulty_registry import faulty_registry
from tests.helpers.patience import limit
from tests.helpers.required import unavailable
from tests.helpers.toy import MODEL, YAML, toy

pytestmark = pytest.mark.docker
STATEMENT = "application/vnd.in-toto+json"


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    record = {"schema": 1, "packages": {"iniconfig": "2.3.0"}, "metrics": {"accuracy": 0.9}}
    yaml = YAML.replace("model:", "model:\n  metadata: metadata.json", 1)
    repo = toy(tmp_path_factory.mktemp("proof"), mlship_yaml=yaml)
    (repo / "metadata.json").write_text(json.dumps(record))
    assert mlship("lock", cwd=repo).code == 0
    return repo


@pytest.fixture(scope="module")
def pushed(repo: Path, registry: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The repository of a proven image, which is in a second one too, and the build's report."""
    name = f"{registry}/mlship-test/proof-{uuid.uuid4().hex[:8]}"
    done = mlship("build", "--push", "--json", "-t", f"{name}:1", "-t", f"{name}-copy:1", cwd=repo)
    assert done.code == 0, done.stderr
    yield name, json.loads(done.stdout)
    output("docker", "rmi", f"{name}:1", f"{name}-copy:1")


def output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=limit(60)).stdout


def judge(name: str) -> str:
    if not shutil.which(name):
        unavailable(f"`{name}` is not on PATH; on Debian, scripts/engine up installs it", "docker")
    return name


def test_a_pushed_image_is_verified(pushed: tuple[str, dict[str, str]], repo: Path, tmp_path: Path) -> None:
    name, report = pushed
    for image in (f"{name}:1", f"{name}-copy:1"):
        done = mlship("verify", image, cwd=tmp_path)
        assert done.code == 0, done.stderr
        assert done.stdout.startswith(f"PROVEN on cpu: {image}\n  digest            {report['digest']}\n")
    (proof,) = json.loads(mlship("verify", f"{name}:1", "--json", cwd=repo).stdout)["proofs"]
    assert proof["result"] in {"PASSED", "WARNED"}
    assert {"requirements.txt"} <= {source["name"] for source in proof["configuration"]}


def test_its_deployment_has_the_measured_start(pushed: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    name, report = pushed
    done = mlship("kubernetes", f"{name}:1", "--json", cwd=tmp_path, env={"DOCKER_HOST": "tcp://127.0.0.1:9"})
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["image"] == f"{name}@{report['digest']}"
    (proof,) = json.loads(mlship("verify", f"{name}:1", "--json", cwd=tmp_path).stdout)["proofs"]
    assert found["notes"][0].startswith(f"ready after {duration(proof['mlship']['figures']['ready_s'])} ")


def test_fits_moves_few_bytes_of_an_image_for_gpus(pushed: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    """No engine, no pull: the label of such an image lists its packages."""
    name, _ = pushed
    (tmp_path / "Dockerfile").write_text(f'FROM {name}:1\nLABEL dev.mlship.packages="onnxruntime-gpu==1.26.0"\n')
    layers = json.loads(output("docker", "image", "inspect", f"{name}:1"))[0]["RootFS"]["Layers"]
    label = f"--label=dev.mlship.layers={len(layers)}"
    output("docker", "build", "--quiet", "--push", "--provenance=false", label, "--tag", f"{name}:gpu", str(tmp_path))
    host, _, path = name.partition("/")
    with faulty_registry(host) as (address, traffic):
        image = f"{address}/{path}:gpu"
        done = mlship(
            "fits",
            image,
            "--driver=580.95.05",
            "--compute-capability=8.0",
            "--json",
            cwd=tmp_path,
            env={"DOCKER_HOST": "tcp://127.0.0.1:9"},
        )
    assert (done.code, json.loads(done.stdout)["packages"]) == (0, 1), done.stderr
    raw = output(judge("skopeo"), "inspect", "--tls-verify=false", "--raw", f"docker://{name}:gpu")
    total = sum(layer["size"] for layer in json.loads(raw)["layers"])
    assert 0 < traffic.sent <= 0.02 * total


def test_the_story_of_an_image_is_in_its_registry(
    pushed: tuple[str, dict[str, str]], repo: Path, tmp_path: Path
) -> None:
    """Read without an engine; the packages are those that the image itself lists."""
    name, report = pushed
    nowhere = {"DOCKER_HOST": "tcp://127.0.0.1:9"}
    done = mlship("inspect", f"{name}:1", "--json", cwd=tmp_path, env=nowhere)
    assert done.code == 0, done.stderr
    story = json.loads(done.stdout)
    assert story["image"] == f"{name}@{report['digest']}"
    assert story["training"]["metrics"] == {"accuracy": 0.9}
    query = ("dpkg-query", "-W", "-f", "${Package} ${Version}\n")
    debs = output("docker", "run", "--rm", "--entrypoint", query[0], f"{name}:1", *query[1:]).splitlines()
    pins = (line.split()[0] for line in (repo / "requirements.txt").read_text().splitlines() if "==" in line)
    locked = {pin.replace("==", " ") for pin in pins}
    assert {*debs} | locked <= {*story["contents"]["library"]}
    shown = mlship("inspect", f"{name}:1", cwd=tmp_path, env=nowhere).stdout
    assert f"{len(story['contents']['library'])} packages" in shown
    assert "proven        on cpu, " in shown
    inputs = story["provenance"]["buildDefinition"]["resolvedDependencies"]
    files = {one["name"]: one["digest"]["sha256"] for one in inputs if "/" not in one["name"]}
    assert {"requirements.txt", "mlship.yaml", "mlship.lock"} <= set(files)
    assert files["mlship.yaml"] == hashlib.sha256((repo / "mlship.yaml").read_bytes()).hexdigest()
    assert f"provenance    SLSA v1, by mlship:build {__version__}, from {len(inputs)} inputs (not signed)" in shown


def test_oras_discovers_and_reads_the_proof(pushed: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    name, report = pushed
    found = json.loads(output(judge("oras"), "discover", "--plain-http", "--format", "json", f"{name}:1"))
    rows = found.get("manifests") or found["referrers"]
    kinds = {row["annotations"]["in-toto.io/predicate-type"]: row for row in rows if row["artifactType"] == STATEMENT}
    row = kinds.pop("https://in-toto.io/attestation/test-result/v0.1")
    assert set(kinds) == {"https://slsa.dev/provenance/v1"}
    assert row["digest"] == report["attestation"]
    manifest = json.loads(output("oras", "manifest", "fetch", "--plain-http", row["reference"]))
    assert manifest["subject"]["digest"] == report["digest"]
    (layer,) = manifest["layers"]
    blob = output("oras", "blob", "fetch", "--plain-http", "--output", "-", f"{name}@{layer['digest']}")
    statement = json.loads(blob)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"][0]["digest"]["sha256"] == report["digest"].removeprefix("sha256:")


def test_skopeo_sees_the_same_image_and_its_proof(pushed: tuple[str, dict[str, str]]) -> None:
    name, report = pushed
    inspected = (judge("skopeo"), "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{name}:1")
    assert output(*inspected).strip() == report["digest"]
    proof = f"docker://{name}@{report['attestation']}"
    raw = json.loads(output("skopeo", "inspect", "--tls-verify=false", "--raw", proof))
    assert (raw["artifactType"], raw["subject"]["digest"]) == (STATEMENT, report["digest"])


def test_the_job_for_kubernetes_runs_in_a_container_as_confined_as_its_pod(
    pushed: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    """No cluster, but its container: the command, the user, the mounts and the limits of the printed Job."""
    name, report = pushed
    printed = mlship("smoke", f"{name}:1", "--kubernetes", "--json", cwd=tmp_path)
    assert printed.code == 0, printed.stderr
    job = json.loads(printed.stdout)
    container = container_of(job)
    image = str(container["image"])
    assert image == f"{name}@{report['digest']}"
    confined = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp", "--memory=2g")
    program, *arguments = command_of(job)
    log = output("docker", "run", "--rm", *confined, f"--entrypoint={program}", image, *arguments)
    (tmp_path / "smoke.log").write_text(log)
    judged = mlship("smoke", f"{name}:1", "--kubernetes", "--log", "smoke.log", "--json", cwd=tmp_path)
    assert judged.code == 0, judged.stderr
    checks = {check["id"]: check["status"] for check in json.loads(judged.stdout)["checks"]}
    assert {checks[id_] for id_ in ("image.user", "model.golden", "serve.inflight", "serve.sigterm")} == {"pass"}


def test_without_a_proof_it_is_refused(repo: Path, registry: str, tmp_path: Path) -> None:
    name = f"{registry}/mlship-test/unproven-{uuid.uuid4().hex[:8]}:1"
    done = mlship("build", "--no-smoke", "--push-unproven", "--tag", name, cwd=repo)
    assert done.code == 0, done.stderr
    refused = mlship("verify", name, cwd=tmp_path)
    assert (refused.code, refused.stdout) == (1, "")
    assert "is not proven: no smoke test is attached" in refused.stderr
    assert mlship("verify", name, "--on", "gpu", cwd=tmp_path).code == 1
    proven = mlship("smoke", name, "--attest", cwd=tmp_path)
    assert proven.code == 0, proven.stderr
    assert mlship("verify", name, cwd=tmp_path).code == 0
    on_gpu = mlship("verify", name, "--on", "gpu", cwd=tmp_path)
    assert on_gpu.code == 1
    assert "not proven on gpu, only on cpu" in on_gpu.stderr
    output("docker", "rmi", name)


def test_an_image_that_fails_does_not_reach_the_registry(repo: Path, registry: str, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(repo, tmp_path / "broken"))
    (broken / "model.py").write_text(MODEL.replace("* w for", "* float('nan') for"))
    name = f"{registry}/mlship-test/broken-{uuid.uuid4().hex[:8]}"
    assert mlship("build", "--push", "--tag", f"{name}:1", cwd=broken).code == 1
    missing = mlship("verify", f"{name}:1", cwd=tmp_path)
    assert missing.code == 2
    assert "has no image" in missing.stderr
    output("docker", "rmi", f"{name}:unproven-1")


def test_other_programs_read_an_index_of_platforms_and_each_image_is_proven_by_itself(
    engine: Engine, registry: str, tmp_path: Path
) -> None:
    """Images of other platforms are built without running anything in them."""
    name = f"{registry}/mlship-test/index-{uuid.uuid4().hex[:8]}"
    (tmp_path / "file").write_text("x")
    pushed = {}
    for platform in ("linux/amd64", "linux/arm64"):
        tag = f"{name}:{platform.rpartition('/')[2]}"
        engine.build(BuildRequest("FROM scratch\nCOPY file /\n", "", tmp_path, platform, tag=tag), lambda _: None)
        pushed[platform] = engine.push(tag)
        output("docker", "rmi", tag)
    digest = put_index(f"{name}:1", pushed)
    shown = json.loads(output("docker", "buildx", "imagetools", "inspect", "--raw", f"{name}:1"))
    assert [row["platform"]["architecture"] for row in shown["manifests"]] == ["amd64", "arm64"]
    chosen = ("inspect", "--tls-verify=false", "--override-arch=arm64", "--override-os=linux")
    assert json.loads(output(judge("skopeo"), *chosen, f"docker://{name}:1"))["Architecture"] == "arm64"
    report = SmokeReport(name, digest, "cpu", (passed("model.load", "seen"),), Figures())
    attach_proof(f"{name}:1", digest, report, (), "26.1.5", "linux/amd64")
    assert mlship("verify", f"{name}:1", "--platform", "linux/amd64", cwd=tmp_path).code == 0
    refused = mlship("verify", f"{name}:1", cwd=tmp_path)
    assert refused.code == 1
    assert "(linux/arm64) is not proven" in refused.stderr
    attach_proof(f"{name}:1", digest, report, (), "26.1.5", "linux/arm64")
    assert mlship("verify", f"{name}:1", cwd=tmp_path).code == 0
