"""`mlship doctor --pod` against a stand-in cluster, by the fake kubectl and, where there is one, the real one."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mlship.doctor.diagnose import diagnose
from mlship.doctor.facts.fact import known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.probes.pod import look_at_pod
from mlship.report.doctor.text import diagnosis_text
from tests.helpers.cluster_api import kubeconfig
from tests.helpers.command import mlship, mlship_in_process
from tests.helpers.doctor_hosts import FOLDER, hosts
from tests.helpers.pod_cases import BROKEN, RUNNING, WELL, PodCase, node, pod
from tests.helpers.pod_cluster import PodCluster, pod_cluster, reading_kubectl
from tests.helpers.required import unavailable

POD = "ml/vllm-0"


@contextmanager
def reachable(state: PodCluster, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str = "fake") -> Iterator[None]:
    """The stand-in by this kind of kubectl."""
    if kind == "real" and shutil.which("kubectl") is None:
        unavailable("there is no kubectl", "kubectl")
    with pod_cluster(state) as server:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(folder, server)))
        if kind == "fake":
            monkeypatch.setenv("PATH", f"{reading_kubectl(folder, server)}:{os.environ['PATH']}")
        monkeypatch.setenv("HOME", str(folder))
        yield


def seen(case: PodCase, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str = "fake") -> Facts:
    state = case.cluster()
    with reachable(state, folder, monkeypatch, kind):
        facts = look_at_pod(POD, 30)
    assert state.asked
    assert all(one.startswith("GET ") for one in state.asked), "a diagnosis changes nothing"
    return facts


@pytest.mark.bank(kind=lambda name: name.partition("--")[0])
@pytest.mark.parametrize("name", BROKEN)
def test_the_recorded_pods_are_what_kubectl_shows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """--update-golden records them again."""
    text, file = seen(BROKEN[name], tmp_path, monkeypatch).to_json(), FOLDER / "hosts" / f"{name}.json"
    if request.config.getoption("--update-golden"):
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", ["pod-image-not-pulled--denied", "pod-gpus-in-use", "pod-claim-not-allocated"])
def test_the_real_kubectl_shows_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = seen(BROKEN[name], tmp_path, monkeypatch, "real").to_json()
    assert text == (FOLDER / "hosts" / f"{name}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", WELL)
def test_a_pod_that_is_well_raises_no_alarm_and_is_not_called_healthy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diagnosis = diagnose(seen(WELL[name], tmp_path, monkeypatch))
    assert (diagnosis.causes, diagnosis.unexplained, diagnosis.bugs) == ((), (), ())
    assert diagnosis.verdict == "unknown"
    if not name.startswith("is-new"):
        host = next(rung for rung in diagnosis.chain if rung.link == "gpu-on-bus")
        assert (host.state, host.say) == ("unknown", "unknown: run `mlship doctor` on node gpu-1")


@pytest.mark.bank(kind=lambda healthy: healthy.partition("-")[0])
@pytest.mark.parametrize("healthy", hosts("healthy"))
def test_this_machine_is_evidence_only_if_it_is_the_pods_node(healthy: str) -> None:
    """Never healthy from another machine, whatever is known about this one; and never an alarm on the pod's node."""
    checked = known(hosts()["pod-cdi-device-unresolved"].pod)
    assert checked is not None
    runs = replace(checked, runs=True, not_started=(), ended=(), phase="Running", containers={"main": "abc123"})
    elsewhere = diagnose(replace(hosts("healthy")[healthy], pod=runs, container=Facts().container, kubernetes=None))
    assert (elsewhere.verdict, elsewhere.causes) == ("unknown", ())
    assert all("gpu-1" in rung.say for rung in elsewhere.chain if rung.link in {"gpu-on-bus", "cuda-starts", "memory"})
    here = replace(hosts("healthy")[healthy], pod=replace(runs, here=True))
    assert diagnose(here).causes == ()


def test_a_broken_host_is_named_only_if_it_is_the_pods_node() -> None:
    checked = known(hosts()["pod-gpus-in-use"].pod)
    assert checked is not None
    runs = replace(checked, node="gpu-1", unscheduled=None, runs=True, phase="Running")
    facts = hosts()["nvml-lib-kmod-mismatch-after-upgrade"]
    assert [one.finding.id for one in diagnose(replace(facts, pod=replace(runs, here=True))).causes] == [
        "nvml-lib-kmod-mismatch-after-upgrade"
    ]
    assert diagnose(replace(facts, pod=replace(runs, here=False))).causes == ()


def test_the_report_names_the_place_to_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = diagnosis_text(diagnose(seen(WELL["runs"], tmp_path, monkeypatch)))
    assert text.startswith("CANNOT TELL")
    words = " ".join(text.split())
    assert "✓ node offers GPUs node gpu-1 admitted the pod" in words
    assert "✓ GPU requested nvidia.com/gpu: 1" in words
    assert "run `mlship doctor --container abc123` on node gpu-1" in words


def test_on_the_pods_node_this_machine_is_examined_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.uname().nodename.lower()
    case = PodCase((pod(RUNNING, on=name), node(name)))
    with reachable(case.cluster(), tmp_path, monkeypatch):
        done = mlship("doctor", "--pod", POD, "--json", "--record", "facts.json", cwd=tmp_path)
    facts = json.loads((tmp_path / "facts.json").read_text(encoding="utf-8"))
    assert facts["pod"]["here"] is True
    assert facts["kernel"]["release"]
    plain = json.loads(done.stdout)
    assert plain["verdict"] != "healthy"  # what the container sees was not examined
    assert next(rung for rung in plain["chain"] if rung["link"] == "container-created")["state"] == "holds"


def test_the_command_reports_a_pod_of_another_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with reachable(BROKEN["pod-taint-not-tolerated"].cluster(), tmp_path, monkeypatch):
        done = mlship_in_process("doctor", "--pod", POD, "--html", "page.html", cwd=tmp_path)
    assert done.code == 1
    assert done.stdout.startswith("PROBLEM: The GPU nodes have a taint that the pod does not tolerate")
    assert "pod ml/vllm-0" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_parts_that_may_not_be_read_are_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnosis = diagnose(seen(WELL["runs-and-nothing-else-may-be-read"], tmp_path, monkeypatch))
    said = {limit.fact: limit.why for limit in diagnosis.limits}
    assert set(said) == {"pod.nodes", "kubernetes.events"}
    assert 'User "ci" cannot list resource "nodes"' in said["pod.nodes"]


@pytest.mark.parametrize("kind", ["fake", "real"])
@pytest.mark.parametrize(
    ("case", "name", "code", "said"),
    [
        (WELL["runs"], "ml/other", 2, 'no such pod: pods "other" not found'),
        (WELL["runs"], "vllm-0", 2, 'no such pod: pods "vllm-0" not found'),
        (PodCase((), ("pods",)), POD, 5, "the cluster does not allow `ci` to list pods"),
    ],
)
def test_a_pod_that_cannot_be_read_is_an_error(  # noqa: PLR0917  a case and fixtures
    kind: str, case: PodCase, name: str, code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reachable(case.cluster(), tmp_path, monkeypatch, kind):
        done = mlship_in_process("doctor", "--pod", name, cwd=tmp_path)
    assert (done.code, done.stdout) == (code, "")
    assert said in done.stderr
    assert "hint: " in done.stderr
    assert "--context" not in done.stderr  # this command has no such option


def test_without_kubectl_or_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with reachable(PodCluster(), tmp_path, monkeypatch):
        pass
    done = mlship_in_process("doctor", "--pod", POD, cwd=tmp_path)  # the stand-in has ended
    assert done.code in {5, 75}
    assert "hint: " in done.stderr
    monkeypatch.setattr("mlship.doctor.probes.files.program", lambda *_: None)
    done = mlship_in_process("doctor", "--pod", POD, cwd=tmp_path)
    assert done.code == 5
    assert "kubectl was not found" in done.stderr


def test_a_cluster_that_hangs_is_left_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = replace(WELL["runs"].cluster(), delay=5.0)
    with reachable(state, tmp_path, monkeypatch):
        done = mlship_in_process("doctor", "--pod", POD, "--timeout", "1", cwd=tmp_path)
    assert done.code == 75
    assert "did not answer within 1 s" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--pod", "-A"), "is not the name of a pod"),
        (("--pod", "a/b/c"), "is not the name of a pod"),
        (("--pod", POD, "--image", "x"), "cannot be combined"),
        (("--pod", POD, "--root", "."), "cannot be used with `--root`"),
    ],
)
def test_what_cannot_be_asked(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = mlship_in_process("doctor", *options, cwd=tmp_path)
    assert done.code == 2
    assert said in done.stderr
