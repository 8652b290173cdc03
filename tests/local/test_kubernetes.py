"""`mlship smoke --kubernetes` against a stand-in cluster, by the fake kubectl and, where there is one, the real one."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from mlship.cli.app import app
from mlship.proof.attach import verify
from mlship.registry.client import OCI_MANIFEST, digest_of
from mlship.smoke.cluster import run as cluster_run
from mlship.smoke.cluster.job import PodTest
from mlship.smoke.spec import LABEL, SmokeSpec
from tests.helpers.cluster_api import (
    ClusterState,
    Object,
    cluster_api,
    command_of,
    ended,
    evicted,
    fake_kubectl,
    kubeconfig,
    unschedulable,
    waiting,
)
from tests.helpers.patience import limit
from tests.helpers.registry_server import RegistryState, registry_server
from tests.helpers.required import unavailable
from tests.helpers.smoke_events import SPEC
from tests.helpers.toy import FILES, SERVER, toy


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@dataclass
class Bed:
    """A cluster, a registry with one image, and kubectl."""

    cluster: ClusterState
    registry: RegistryState
    image: str
    spec: SmokeSpec

    def put(self, **changed: object) -> None:
        """Store the image with another configuration."""
        config = {
            "User": "1001:1001",
            "Cmd": ["python", "server.py"],
            "Labels": {LABEL: self.spec.to_json()},
            "Env": ["PATH=/usr/bin"],
            **changed,
        }
        rootfs = {"type": "layers", "diff_ids": [f"sha256:{1:064x}"]}
        document = {"os": "linux", "architecture": "amd64", "config": config, "rootfs": rootfs}
        blob = json.dumps(document).encode()
        self.registry.blobs[digest_of(blob)] = blob
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"digest": digest_of(blob), "size": len(blob)},
            "layers": [{"size": 7}],
        }
        self.registry.put(OCI_MANIFEST, json.dumps(manifest).encode(), "1")

    def smoke(self, *options: str) -> Result:
        return CliRunner().invoke(app, ["smoke", self.image, "--kubernetes", *options])


@pytest.fixture(params=["fake", "real"])
def kubectl(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    if kind == "real" and shutil.which("kubectl") is None:
        unavailable("there is no kubectl", "kubectl")
    return kind


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    """A stand-in cluster with the fake kubectl on PATH."""
    port = free_port()
    repo = toy(tmp_path, server_py=SERVER.replace("8080", str(port)))
    state = ClusterState(repo)
    registry = RegistryState()
    spec = SmokeSpec(
        **{**vars(SPEC), "load": "model:load", "weights": ("weights.txt",), "port": port, "output_shape": (1, 2)}
    )
    monkeypatch.setattr(cluster_run, "_POLL_SECONDS", 0.1)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    with cluster_api(state) as server, registry_server(registry) as host:
        monkeypatch.setenv("PATH", f"{fake_kubectl(tmp_path, server)}:{os.environ['PATH']}")
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, server)))
        found = Bed(state, registry, f"{host}/toy:1", spec)
        found.put()
        yield found


@pytest.fixture
def either(bed: Bed, kubectl: str, tmp_path: Path) -> Bed:
    """The same, with the fake kubectl or the real one."""
    if kubectl == "real":
        (tmp_path / "fake-bin/kubectl").unlink()
    return bed


def test_an_image_is_proven_in_a_pod_and_nothing_is_left(either: Bed) -> None:
    done = either.smoke("--apply", "--json", "--namespace", "ml")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["passed"] is True
    assert report["device"] == "cpu"
    assert report["image"] == f"{either.image.rpartition(':')[0]}@{report['image_id']}"
    found = {check["id"]: check["status"] for check in report["checks"]}
    assert {found[name] for name in ("model.golden", "serve.predict", "serve.inflight", "serve.sigterm")} == {"pass"}
    assert report["figures"]["exit_s"] < limit(5)
    assert either.cluster.jobs == {}
    assert [line for line in done.stderr.splitlines() if line.startswith("•")][-1] == "• stopping the server"


NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
TAINT = "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: }."
BACK_OFF = waiting("ImagePullBackOff", "Back-off: not found")
ROOT = "container has runAsNonRoot and image will run as root (pod: x)"
NO_PYTHON = 'exec: "python": executable file not found in $PATH'


@pytest.mark.parametrize(
    ("state", "code", "message", "hint"),
    [
        ([unschedulable(NO_GPU)], 5, "no node has a free GPU", "kubectl get nodes"),
        ([unschedulable(TAINT)], 5, "no node fits", "--log"),
        ([waiting("ErrImagePull", "x: 401 Unauthorized"), BACK_OFF], 5, "not allowed to pull", "--pull-secret"),
        ([waiting("ContainerCreating"), BACK_OFF], 5, "cannot pull", "the registry"),
        ([waiting("CreateContainerConfigError", 'secret "env" not found')], 2, "no Secret `env`", "kubectl create"),
        ([waiting("CreateContainerConfigError", ROOT)], 1, "as root", "USER 1001"),
        ([waiting("CreateContainerError", "something new")], 5, "something new", "kubectl get events"),
        ([evicted("The node was low on resource: memory.")], 75, "The node was low", "--node"),
        ([ended(128, "StartError", NO_PYTHON)], 2, "has no program `python`", "Python"),
    ],
)
def test_a_pod_that_does_not_run_is_explained_and_removed(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, state: list[Object], code: int, message: str, hint: str
) -> None:
    monkeypatch.setattr(cluster_run, "_NO_NODE_SECONDS", 0.2)
    bed.cluster.before, bed.cluster.stuck = state, True
    (bed.cluster.folder / "pod.log").write_text("")
    done = bed.smoke("--apply")
    assert done.exit_code == code, done.output
    assert message in done.stderr
    assert hint in done.stderr.partition("hint:")[2]
    assert bed.cluster.jobs == {}


def test_a_job_without_a_pod_says_why(either: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_run, "_NO_POD_SECONDS", 0.2)
    either.cluster.creates_pods = False
    either.cluster.events = ['pods "x" is forbidden: exceeded quota: gpu, requested: requests.nvidia.com/gpu=1']
    done = either.smoke("--apply")
    assert done.exit_code == 5
    assert "the quota of the namespace does not allow the Job: gpu" in done.stderr
    assert either.cluster.jobs == {}


NOT_ALLOWED = (
    'jobs.batch is forbidden: User "ci" cannot create resource "jobs" in API group "batch" in the namespace "ml"'
)


@pytest.mark.parametrize(
    ("reason", "message", "code", "shown"),
    [
        ("Forbidden", NOT_ALLOWED, 5, "does not allow `ci` to create jobs"),
        ("Forbidden", 'admission webhook "a.b" denied the request: no limit', 5, "a.b refuses the Job: no limit"),
        ("NotFound", 'namespaces "ml" not found', 2, "no namespace `ml`"),
    ],
)
def test_a_refusal_is_explained(either: Bed, reason: str, message: str, code: int, shown: str) -> None:
    either.cluster.refuses = (reason, message)
    done = either.smoke("--apply")
    assert done.exit_code == code, done.output
    assert shown in done.stderr
    assert "warning" not in done.stderr


def test_without_kubectl_the_job_can_still_be_printed(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = bed.smoke("--apply")
    assert done.exit_code == 5
    assert "kubectl was not found" in done.stderr
    assert "leave out `--apply`" in done.stderr
    assert bed.smoke().exit_code == 0


def test_a_job_that_cannot_be_removed_is_named(bed: Bed) -> None:
    bed.cluster.keeps_jobs = True
    done = bed.smoke("--apply")
    assert done.exit_code == 0, done.output
    assert "cannot remove the Job" in done.stderr
    assert f"kubectl delete job {next(iter(bed.cluster.jobs))}" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--apply", "--log", "x"),
        ("--attest",),
        ("--record-golden", "g.json"),
        ("--node-selector", "pool"),
        ("--node-selector", "pool=a", "--node-selector", "pool=b"),
        ("--node", "a", "--node-selector", "kubernetes.io/hostname=b"),
    ],
)
def test_options_that_do_not_go_together_are_refused(bed: Bed, options: tuple[str, ...]) -> None:
    done = bed.smoke(*options)
    assert done.exit_code == 2, done.output
    assert "hint: " in done.stderr


def test_a_real_interruption_removes_the_job(bed: Bed) -> None:
    bed.cluster.before, bed.cluster.stuck = [waiting("ContainerCreating")], True
    command = [sys.executable, "-m", "mlship", "smoke", bed.image, "--kubernetes", "--apply"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "pulling the image" in line)
        assert bed.cluster.jobs
        process.send_signal(signal.SIGINT)
        assert process.wait(limit(20)) == 130
    assert bed.cluster.jobs == {}


def test_a_pod_killed_for_memory_is_judged_like_a_container(bed: Bed) -> None:
    bed.cluster.cuts, bed.cluster.ends = 3, ended(137, "OOMKilled")
    done = bed.smoke("--apply")
    assert done.exit_code == 1, done.output
    assert "killed for memory" in done.stdout
    assert bed.cluster.jobs == {}


def test_a_cluster_that_pauses_is_waited_for(bed: Bed) -> None:
    bed.cluster.before = [waiting("ContainerCreating")] * 3
    job = json.loads(bed.smoke("--json").stdout)
    assert job["kind"] == "Job"
    created = len(bed.cluster.asked)
    assert created == 0
    bed.cluster.fails = 0
    original = bed.cluster.pod
    calls = 0

    def pod() -> Object | None:
        nonlocal calls
        calls += 1
        if calls == 2:
            bed.cluster.fails = 3
        return original()

    bed.cluster.pod = pod  # type: ignore[method-assign]
    assert bed.smoke("--apply").exit_code == 0


def test_the_printed_job_and_its_log_give_the_same_verdict(bed: Bed, tmp_path: Path) -> None:
    done = bed.smoke()
    assert done.exit_code == 0, done.output
    job = yaml.safe_load(done.stdout)
    assert job == json.loads(bed.smoke("--json").stdout)
    assert "--kubernetes --on cpu --log smoke.log" in done.stderr
    bed.cluster.run(job)
    assert bed.cluster.process is not None
    assert bed.cluster.process.wait(limit(60)) == 0
    log = tmp_path / "smoke.log"
    log.write_text(bed.cluster.log())
    judged = bed.smoke("--log", str(log))
    assert judged.exit_code == 0, judged.output
    assert judged.stdout.startswith("PROVEN on cpu: ")
    text = log.read_text()
    digest = bed.smoke("--json").stdout.partition("@")[2][:71]
    for other, tested in ((text.replace(digest, f"sha256:{'0' * 64}"), "@sha256:000"), (text.replace(digest, ""), "")):
        log.write_text(other)
        refused = bed.smoke("--log", str(log))
        assert (refused.exit_code, "the log is of " in refused.stderr, tested in refused.stderr) == (2, True, True)
    log.write_text(text)
    cut = "".join(log.read_text().splitlines(keepends=True)[:-1])
    log.write_text(cut)
    unfinished = bed.smoke("--log", str(log))
    assert unfinished.exit_code == 2
    assert "the log is not complete" in unfinished.stderr


def test_a_proof_is_attached_and_verified(bed: Bed) -> None:
    done = bed.smoke("--apply", "--attest")
    assert done.exit_code == 0, done.output
    proof = verify(bed.image, "cpu").proofs[0].mlship
    assert (proof.engine, proof.device) == ("Kubernetes v1.34.1", "cpu")


@pytest.mark.parametrize(
    ("file", "text", "failing"),
    [
        ("model.py", "def load():\n    raise ValueError('no weights')\n", "model.load"),
        ("golden.json", "[[0.0, 0.0]]", "model.golden"),
        ("server.py", "raise SystemExit(3)\n", "serve.ready"),
        ("server.py", "", "serve.sigterm"),
    ],
)
def test_a_broken_image_fails_as_in_an_engine(bed: Bed, file: str, text: str, failing: str) -> None:
    if not text:  # a server that leaves SIGTERM alone, which the first process of a container does not get then
        text = (bed.cluster.folder / file).read_text().replace("signal.signal(", "print(")
        bed.spec = replace(bed.spec, grace_seconds=0.5)
        bed.put()
    (bed.cluster.folder / file).write_text(text)
    done = bed.smoke("--apply", "--json", "--timeout", "20")
    assert done.exit_code == 1, done.output
    report = json.loads(done.stdout)
    assert next(check["id"] for check in report["checks"] if check["status"] == "fail") == failing
    assert bed.cluster.jobs == {}


def test_a_server_that_sends_itself_the_signal_again_ends_well(bed: Bed) -> None:
    """As uvicorn does; the first process of a container does not get it."""
    text = (bed.cluster.folder / "server.py").read_text().replace("signal.signal(", "before = signal.signal(")
    again = "signal.signal(signal.SIGTERM, before)\nsignal.raise_signal(signal.SIGTERM)\n"
    (bed.cluster.folder / "server.py").write_text(text + again)
    done = bed.smoke("--apply")
    assert done.exit_code == 0, done.output


def test_a_node_that_gives_no_gpu_proves_nothing(bed: Bed) -> None:
    done = bed.smoke("--apply", "--on", "gpu", "--json")
    assert done.exit_code == 1, done.output
    checks = {check["id"]: check["status"] for check in json.loads(done.stdout)["checks"]}
    assert (checks["gpu.visible"], checks["model.load"]) == ("fail", "pass")
    assert bed.cluster.process is not None
    assert bed.cluster.process.wait() == 1
    assert json.loads(bed.cluster.log().splitlines()[-1]).items() >= {"part": "pod", "sound": False}.items()


def test_values_of_the_secret_are_in_no_output(bed: Bed) -> None:
    bed.spec = replace(bed.spec, env=("API_TOKEN",))
    bed.put()
    refused = bed.smoke()
    assert refused.exit_code == 2
    assert "--env-secret" in refused.stderr
    bed.cluster.env = {"API_TOKEN": "s3cr3t-value"}
    leaky = FILES["model.py"].replace("def load():", "import os\nprint(os.environ['API_TOKEN'])\n\ndef load():")
    (bed.cluster.folder / "model.py").write_text(leaky)
    done = bed.smoke("--apply", "--env-secret", "smoke-env", "-v")
    assert done.exit_code == 0, done.output
    assert "***" in done.stderr
    assert "s3cr3t" not in bed.cluster.log() + done.output


def test_an_image_that_is_not_pushed_is_named(bed: Bed) -> None:
    bed.registry.tags.clear()
    done = bed.smoke()
    assert done.exit_code == 2
    assert "docker push" in done.stderr


def test_the_command_has_no_dollar_left_to_expand(bed: Bed) -> None:
    bed.spec = replace(bed.spec, live="/$(HOME)/$$x")
    bed.put()
    words = command_of(yaml.safe_load(bed.smoke().stdout))
    assert "/$(HOME)/$$x" in words[3]
    assert PodTest("x", (), "amd64", bed.spec).seconds > 0
