"""The Job of a smoke test: what it is allowed, where it runs, and the log of a pod that was cut off."""

import json
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.engine.base import ExitState
from mlship.errors import UsageError
from mlship.smoke.cluster.job import Placement, PodTest, job_of
from mlship.smoke.inside.pod import on_gpu
from mlship.smoke.pod_log import observed_of, read_pod_log
from tests.helpers.cluster_api import Object, container_of
from tests.helpers.smoke_events import IMAGE, MODEL, SERVE, SPEC
from tests.helpers.smoke_scripts import lines_of

TEST = PodTest("reg.example/toy@sha256:1", ("python", "server.py"), "arm64", SPEC)
GPU = replace(TEST, device="gpu")
ANYWHERE = Placement()


def pod_of(job: Object) -> Object:
    return cast("Object", cast("Object", cast("Object", job["spec"])["template"])["spec"])


def job(test: PodTest = TEST, where: Placement = ANYWHERE) -> Object:
    return cast("Object", job_of(test, where, "mlship-smoke-1"))


def test_it_meets_the_restricted_standard() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted."""
    pod, container = pod_of(job(GPU)), container_of(job(GPU))
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert {key for volume in cast("list[Object]", pod["volumes"]) for key in volume} == {"name", "emptyDir"}
    assert pod["automountServiceAccountToken"] is False


def test_it_ends_by_itself() -> None:
    spec = cast("Object", job()["spec"])
    assert spec["backoffLimit"] == 0
    assert isinstance(spec["activeDeadlineSeconds"], int)
    assert spec["ttlSecondsAfterFinished"]


@pytest.mark.parametrize(
    ("test", "where", "limits", "claims"),
    [
        (TEST, Placement(), None, None),
        (GPU, Placement(), 1, None),
        (GPU, Placement(claim="one-gpu"), None, [{"name": "gpu"}]),
    ],
)
def test_a_gpu_is_asked_for_once(test: PodTest, where: Placement, limits: int | None, claims: list[Object]) -> None:
    made = job(test, where)
    resources = cast("Object", container_of(made)["resources"])
    assert cast("Object", resources["limits"]).get("nvidia.com/gpu") == limits
    assert resources.get("claims") == claims
    named = [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}] if claims else None
    assert pod_of(made).get("resourceClaims") == named


def test_a_claim_of_an_image_for_the_cpu_is_refused() -> None:
    with pytest.raises(UsageError, match="is for a GPU"):
        job(TEST, Placement(claim="one-gpu"))


def test_it_runs_where_it_is_placed() -> None:
    made = job(where=Placement("ml", {"pool": "a100"}, None, "regcred", "env"))
    pod = pod_of(made)
    assert cast("Object", made["metadata"])["namespace"] == "ml"
    assert pod["nodeSelector"] == {"kubernetes.io/arch": "arm64", "kubernetes.io/os": "linux", "pool": "a100"}
    assert pod["imagePullSecrets"] == [{"name": "regcred"}]
    assert container_of(made)["envFrom"] == [{"secretRef": {"name": "env"}}]


def log_text(*parts: tuple[str, str]) -> str:
    return "".join(json.dumps({"part": part, "out": line}) + "\n" for part, line in parts)


def test_a_cut_log_is_judged_only_with_the_end_of_the_pod() -> None:
    events = [("model", line) for line in lines_of(*MODEL.events)]
    log = read_pod_log("garbage\n[]\n" + log_text(*events))
    killed = ExitState(137, out_of_memory=True)
    assert observed_of(log, SPEC, IMAGE, "cpu", killed).model.ended == killed
    with pytest.raises(UsageError, match="not complete"):
        observed_of(log, SPEC, IMAGE, "cpu")


def test_a_server_that_was_running_died_with_the_pod() -> None:
    lines = log_text(*(("client", line) for line in lines_of(*SERVE.events[:3])))
    ended = json.dumps({"part": "model", "ended": {"code": 0, "out_of_memory": False}})
    observed = observed_of(read_pod_log(f"{ended}\n{lines}"), SPEC, IMAGE, "cpu", ExitState(137, out_of_memory=True))
    assert observed.model.ended == ExitState(0, out_of_memory=False)
    assert observed.serve is not None
    assert observed.serve.died == ExitState(137, out_of_memory=True)


def test_a_pod_under_another_user_proves_that_any_user_works() -> None:
    log = read_pod_log(log_text(*(("model", line) for line in lines_of(*MODEL.events))))
    other = replace(IMAGE, user="1000:0")
    killed = ExitState(0, out_of_memory=False)
    assert observed_of(log, SPEC, other, "cpu", killed).by_any == observed_of(log, SPEC, other, "cpu", killed).model
    assert observed_of(log, SPEC, IMAGE, "cpu", killed).by_any is None


LEAVES = st.none() | st.integers() | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(st.text() | VALUES.map(json.dumps))
def test_any_log_can_be_read(text: str) -> None:
    log = read_pod_log(f'{text}\n{{"part": "pod", "sound": true}}')
    assert log.complete
    assert observed_of(log, SPEC, IMAGE, "cpu").model.ended is None


CUDA = ["/usr/lib/x86_64-linux-gnu/libcuda.so.1"]


@pytest.mark.parametrize(
    ("after", "used"),
    [
        ({}, False),
        ({"libraries": ["/usr/lib/libcudart.so"], "words": []}, False),
        ({"libraries": CUDA, "words": []}, True),
        ({"libraries": CUDA, "words": [{"uses": {"cpu": 3}}]}, False),
        ({"libraries": CUDA, "words": [{"uses": {"cpu": 3}, "peak": 1 << 20}]}, True),
        ({"libraries": CUDA, "words": [{"uses": {"cpu": 3}}, {"uses": {"cuda:0": 1}}]}, True),
        ({"libraries": [], "words": [{"uses": {"cuda:0": 1}}]}, False),
        ({"libraries": CUDA, "words": [{"problem": "?"}]}, True),
    ],
)
def test_the_exit_code_of_the_pod_depends_on_the_gpu(after: dict[str, object], used: bool) -> None:
    assert on_gpu(after) is used
