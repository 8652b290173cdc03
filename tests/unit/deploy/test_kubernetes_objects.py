"""What `mlship kubernetes` prints: valid for the API, confined, and with probes from the measured start."""

import json
import math
import re
import string
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlship.deploy.objects import Deployment, label_of, name_of, notes_of
from mlship.deploy.options import LONGEST_NAME, DeployKind, DeployOptions
from mlship.deploy.probes import MeasuredStart, probes
from mlship.errors import UsageError
from mlship.smoke.spec import SmokeSpec
from tests.helpers.cluster_api import Object
from tests.helpers.deployed import GPU, SERVER_IMAGE, START, USUAL, app, objects_of
from tests.helpers.smoke_events import IMAGE, SPEC

NAMES = st.text(string.ascii_letters + string.digits + "._-/", min_size=1, max_size=120)
VERSIONS = ("1.31", "1.34", "1.37")


def of_kind(objects: list[Object], kind: str) -> Object:
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def pod(asked: DeployOptions = USUAL, spec: SmokeSpec = SPEC) -> Object:
    found = cast("Object", of_kind(objects_of(app(asked, spec)), "Deployment")["spec"])
    return cast("Object", cast("Object", found["template"])["spec"])


def kinds(built: Deployment) -> set[object]:
    return {each["kind"] for each in objects_of(built)}


def check(document: Object, version: str) -> None:
    import kubernetes_validate  # reading its schemas takes a second

    kubernetes_validate.validate(document, version, strict=True)


def valid(objects: list[Object], version: str) -> None:
    """Kinds of operators have no schema there; the pods of Knative and KServe are validated as pods."""
    for each in objects:
        if each["kind"] == "ResourceClaimTemplate" and version < "1.35":
            continue
        if not str(each["apiVersion"]).startswith(("serving.", "monitoring.")):
            check(each, version)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("spec", [SPEC, GPU], ids=["cpu", "gpu"])
def test_it_is_valid(version: str, spec: SmokeSpec) -> None:
    valid(objects_of(app(spec=spec)), version)
    if spec is GPU:
        valid(objects_of(app(DeployOptions(claim="one-gpu", namespace="ml"), spec=spec)), version)


@pytest.mark.slow
@given(
    image=NAMES,
    port=st.integers(1025, 65535),
    route=st.from_regex(r"/[a-z0-9./_-]{0,30}", fullmatch=True),
    values=st.dictionaries(
        st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs", "Cc"])),
        max_size=3,
    ),
    tag=st.text(max_size=80),
    ready=st.floats(0.01, 3600),
    spec=st.sampled_from([SPEC, GPU]),
    version=st.sampled_from(VERSIONS),
    claim=st.sampled_from([None, "one-gpu"]),
)
@settings(max_examples=20)
def test_any_image_gives_valid_objects(  # noqa: PLR0917  one argument a strategy
    image: str,
    port: int,
    route: str,
    values: dict[str, str],
    tag: str,
    ready: float,
    spec: SmokeSpec,
    version: str,
    claim: str | None,
) -> None:
    asked = DeployOptions(
        claim=claim if spec.gpu else None, env=tuple(f"{name}={value}" for name, value in values.items())
    )
    try:
        asked.check()
    except UsageError:
        return
    served = replace(spec, port=port, ready=route, live=route)
    info = replace(SERVER_IMAGE, labels={"org.opencontainers.image.version": tag})
    built = app(asked, served, replace(START, ready_s=ready), info, f"reg.example/{image.lower()}")
    valid(objects_of(built), version)
    for each in objects_of(built):
        metadata = cast("Object", each["metadata"])
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", str(metadata["name"]))
        assert len(str(metadata["name"])) <= LONGEST_NAME
    container = cast("list[Object]", pod(asked, spec=served)["containers"])[0]
    env = {one["name"]: str(one["value"]).replace("$$", "$") for one in cast("list[Object]", container.get("env", []))}
    assert env == values


@given(st.floats(0.01, 3600), st.floats(0, 60), st.floats(0.1, 3600))
def test_a_start_five_times_as_slow_as_measured_is_not_restarted(ready: float, answer: float, limit: float) -> None:
    start = MeasuredStart(ready, answer, isolated=True, source="")
    found = {name: cast("Object", probe) for name, probe in probes(replace(SPEC, startup_seconds=limit), start).items()}
    first = found["startupProbe"]
    budget = cast("int", first["periodSeconds"]) * cast("int", first["failureThreshold"])
    assert max(5 * ready, limit) <= budget <= max(5 * ready, limit) + 12
    for probe in found.values():
        assert min(cast("int", probe["periodSeconds"]), cast("int", probe["failureThreshold"])) > 0
        assert cast("int", probe["timeoutSeconds"]) == min(30, max(1, math.ceil(10 * answer)))


def test_a_server_with_one_health_route_is_not_restarted_for_being_busy() -> None:
    both = replace(SPEC, live="/health", ready="/health")
    container = cast("list[Object]", pod(spec=both)["containers"])[0]
    assert cast("Object", container["livenessProbe"])["tcpSocket"] == {"port": 8080}
    assert cast("Object", container["readinessProbe"])["httpGet"] == {"path": "/health", "port": 8080}
    assert any("one health route, `/health`" in note for note in notes_of(app(spec=both)))
    assert not any("one health route" in note for note in notes_of(app()))


def test_nothing_is_claimed_about_a_server_of_its_own() -> None:
    own = app(info=IMAGE)
    assert kinds(app()) - kinds(own) == {"PodMonitor", "HorizontalPodAutoscaler"}
    assert cast("Object", of_kind(objects_of(own), "Deployment")["spec"])["replicas"] == 2
    assert "ModelServerErrors" not in str(of_kind(objects_of(own), "PrometheusRule"))
    assert sum(note.startswith(("no PodMonitor", "no alert", "no autoscaler")) for note in notes_of(own)) == 3
    named = app(DeployOptions(metrics="/stats", in_flight="busy"), info=IMAGE)
    assert {"PodMonitor", "HorizontalPodAutoscaler"} <= kinds(named)


def test_a_test_with_a_network_proves_nothing_about_connections_outwards() -> None:
    policy = of_kind(objects_of(app(start=replace(START, isolated=False))), "NetworkPolicy")
    assert cast("Object", policy["spec"])["policyTypes"] == ["Ingress"]
    policy = of_kind(objects_of(app()), "NetworkPolicy")
    assert cast("Object", policy["spec"])["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize("user", ["", "root", "0", "0:0", "app"])
def test_a_user_that_kubernetes_cannot_verify_is_refused(user: str) -> None:
    with pytest.raises(UsageError, match="numeric users"):
        app(info=replace(SERVER_IMAGE, user=user))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["knative", "kserve"])
def test_knative_gets_only_fields_that_it_accepts(kind: DeployKind) -> None:
    """https://github.com/knative/serving/blob/main/pkg/apis/serving/fieldmask.go."""
    outer = json.loads(json.dumps(objects_of(app(DeployOptions(kind=kind), GPU))))[0]["spec"]
    spec = outer.get("predictor") or outer["template"]["spec"]
    scale = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}
    serverless = {"containers", "volumes", "enableServiceLinks", "automountServiceAccountToken"}
    assert set(spec) - scale == serverless | {"affinity", "tolerations"}
    (container,) = spec["containers"]
    assert "lifecycle" not in container
    assert container["ports"][0]["name"] == "http1"
    assert container["securityContext"]["runAsNonRoot"] is True
    inner = {key: value for key, value in spec.items() if key not in scale}
    wrapped: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "toy"}, "spec": inner}
    for version in VERSIONS:
        check(wrapped, version)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (DeployOptions(name="Toy"), "--name Toy"),
        (DeployOptions(name="1toy"), "--name 1toy"),
        (DeployOptions(name="a" * 46), "up to 45"),
        (DeployOptions(namespace="ml_1"), "--namespace"),
        (DeployOptions(cpu="0"), "--cpu 0"),
        (DeployOptions(cpu="2 cores"), "--cpu"),
        (DeployOptions(metrics="metrics"), "--metrics"),
        (DeployOptions(in_flight="in flight"), "--in-flight"),
        (DeployOptions(env_secret="a..b"), "--env-secret"),
        (DeployOptions(replicas=3, max_replicas=2), "--max-replicas 2"),
        (DeployOptions(kind="knative", claim="one-gpu"), "`--kind knative` does not use `--claim`"),
        (DeployOptions(kind="kserve", metrics="/metrics"), "`--kind kserve` does not use `--metrics`"),
        (DeployOptions(kind="knative", in_flight="busy"), "`--kind knative` does not use `--in-flight`"),
        (DeployOptions(env=("NAME",)), "NAME=VALUE"),
        (DeployOptions(env=("1=2",)), "NAME=VALUE"),
        (DeployOptions(env=("A=1", "B=1", "A=2")), "`--env A` has two values"),
        (DeployOptions(env=("API_TOKEN=x",)), "looks like a secret"),
    ],
)
def test_options_that_a_cluster_would_refuse(asked: DeployOptions, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        asked.check()


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("reg.example:5000/team/Digits_v2.onnx", "digits-v2-onnx"),
        ("reg.example/4bit", "model-4bit"),
        ("reg.example/" + "a" * 80, "a" * 45),
        ("reg.example/" + "a" * 44 + "-b", "a" * 44),
        ("reg.example/__", "model"),
    ],
)
def test_a_name_from_an_image(image: str, name: str) -> None:
    assert name_of(image) == name


def test_a_tag_that_is_no_label() -> None:
    assert [label_of(tag) for tag in ("1.2", "1.2-", "v1_3", "a" * 64, "")] == ["1.2", "", "v1_3", "", ""]
