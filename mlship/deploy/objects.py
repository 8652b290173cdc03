"""The objects that run an image in a cluster: Deployment, Service and what goes with them, with notes. Pure.

The pod meets the restricted Pod Security Standard: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mlship.deploy.options import LONGEST_NAME, DeployKind, DeployOptions
from mlship.deploy.probes import MeasuredStart, probe_notes, probes, startup_budget
from mlship.engine.base import ImageInfo
from mlship.errors import UsageError
from mlship.render import render
from mlship.smoke.cluster.job import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    Placement,
    PodTest,
    confined_container,
    confined_pod,
)
from mlship.smoke.spec import SmokeSpec
from mlship.yaml_text import Yaml, yaml_text

_NAME = "app.kubernetes.io/name"
_PULL_SECONDS = 600  # for the image, before the pod can start
_STOP_SENDING = 5  # seconds until kube-proxy and load balancers have stopped sending requests
_SERVER = ("-m", "serving")  # the server that `mlship init` writes, and its metrics
_METRICS, _IN_FLIGHT, _REQUESTS = "/metrics", "serving_requests_in_flight", "serving_requests_total"
_VERSION = "org.opencontainers.image.version"
_SERVERLESS = {
    *("containers", "enableServiceLinks", "automountServiceAccountToken", "imagePullSecrets", "volumes"),
    *("affinity", "tolerations"),
}


@dataclass(frozen=True)
class Deployment:
    """An image as a cluster runs it.

    Attributes:
        test: the image with its digest, and what its smoke test proved.
        metrics: path of the server's metrics; None where it has none.
        in_flight: name of the metric with the requests in flight.
        requests: name of the counter of responses, with a label `status`.
        affinity: a pod's `affinity`; empty for any node.
        claim: ResourceClaimTemplate of the GPU, if it is printed too.
        version: of the image, if it is valid as a label.
    """

    name: str
    test: PodTest
    where: Placement
    start: MeasuredStart
    asked: DeployOptions
    env: Mapping[str, str] = field(default_factory=dict)
    metrics: str | None = None
    in_flight: str | None = None
    requests: str | None = None
    affinity: Mapping[str, Yaml] = field(default_factory=dict)
    claim: Mapping[str, Yaml] = field(default_factory=dict)
    version: str = ""

    @property
    def labels(self) -> dict[str, Yaml]:
        return {_NAME: self.name, **({"app.kubernetes.io/version": self.version} if self.version else {})}


def deployment_request(
    image: str, info: ImageInfo, spec: SmokeSpec, start: MeasuredStart, asked: DeployOptions, nodes: Mapping[str, Yaml]
) -> Deployment:
    """What to deploy.

    Args:
        image: with its digest.
        nodes: where an image for GPUs runs: a pod's affinity, or a ResourceClaimTemplate if a claim is asked for; empty
            if that is unknown.

    Raises:
        UsageError: the image cannot run confined, or has no server.
    """
    user = info.user.partition(":")[0]
    if not user.isdecimal() or int(user) == 0:
        raise UsageError(
            f"the image's user is `{user or 'root'}`; as non-root, Kubernetes starts numeric users other than 0 only",
            hint="end its Dockerfile with a number, such as USER 1001:1001, then build and test it again",
        )
    own = info.command[-2:] == _SERVER
    name = asked.name or name_of(image.partition("@")[0])
    claim = {**nodes, "metadata": {"name": asked.claim, **_space(asked.namespace)}} if asked.claim and nodes else {}
    return Deployment(
        name=name,
        test=PodTest.of(image, info, spec),
        where=Placement(asked.namespace, {}, asked.claim, asked.pull_secret, asked.env_secret),
        start=start,
        asked=asked,
        env=asked.variables(),
        metrics=asked.metrics or (_METRICS if own else None),
        in_flight=asked.in_flight or (_IN_FLIGHT if own else None),
        requests=_REQUESTS if own else None,
        affinity={} if asked.claim else nodes,
        claim=claim,
        version=label_of(info.labels.get(_VERSION, "")),
    )


def _space(namespace: str | None) -> dict[str, Yaml]:
    return {"namespace": namespace} if namespace else {}


def name_of(repository: str) -> str:
    """A name for a Deployment and a Service, from that of an image."""
    plain = re.sub(r"[^a-z0-9]+", "-", repository.rpartition("/")[2].lower()).strip("-")
    named = plain if plain[:1].isalpha() else f"model-{plain}"
    return named[:LONGEST_NAME].strip("-")


def label_of(version: str) -> str:
    """A version as the value of a label; empty if it cannot be one."""
    return version if re.fullmatch(r"[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", version, re.ASCII) else ""


def manifests(app: Deployment) -> list[str]:
    """The objects, each as a YAML document."""
    metadata: dict[str, Yaml] = {"name": app.name, **_space(app.where.namespace), "labels": app.labels}
    budget = startup_budget(app.test.spec, app.start)
    text = render(
        f"kubernetes/{app.asked.kind}.yaml.j2",
        app=app,
        metadata=yaml_text({"metadata": metadata}).rstrip(),
        labels=yaml_text({"metadata": {"labels": app.labels}}).rstrip(),
        pod=yaml_text(_pod(app) if app.asked.kind == "deployment" else _serverless_pod(app)).rstrip(),
        budget=budget,
        progress_seconds=budget + _PULL_SECONDS,
        stop_seconds=math.ceil(app.test.spec.grace_seconds) + _STOP_SENDING,
    )
    documents = [f"{each.rstrip()}\n" for each in text.split("\n---\n")]
    return [*documents, *([yaml_text(app.claim)] if app.claim else [])]


def _pod(app: Deployment) -> dict[str, Yaml]:
    container = _container(app, "server", "http")
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": _STOP_SENDING}}}
    return {**confined_pod(app.test, app.where, container), **app.affinity}


def _serverless_pod(app: Deployment) -> dict[str, Yaml]:
    """What Knative accepts: no lifecycle, and the security context of the container instead of the pod."""
    name = "kserve-container" if app.asked.kind == "kserve" else "server"
    container = {**_container(app, name, "http1"), "securityContext": {**POD_SECURITY, **CONTAINER_SECURITY}}
    pod = {**confined_pod(app.test, app.where, container), **app.affinity}
    return {key: value for key, value in pod.items() if key in _SERVERLESS}


def _container(app: Deployment, name: str, port: str) -> dict[str, Yaml]:
    # Kubernetes expands $(NAME); a doubled $ is a $.
    env: list[Yaml] = [{"name": key, "value": value.replace("$", "$$")} for key, value in app.env.items()]
    return {
        **confined_container(app.test, app.where, name, app.asked.cpu, limited=True),
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": port, "containerPort": app.test.spec.port, "protocol": "TCP"}],
        **({"env": env} if env else {}),
        **probes(app.test.spec, app.start),
    }


def notes_of(app: Deployment) -> list[str]:
    """What a person should know before applying it."""
    return [*probe_notes(app.test.spec, app.start), *_notes(app)]


def _notes(app: Deployment) -> Iterator[str]:
    spec, kind = app.test.spec, app.asked.kind
    yield "the memory limit is that of the smoke test; it did not limit the CPU, so what `--cpu` has to be is unknown"
    yield f"{app.asked.target} requests in flight for each pod (`--target`) is a starting point; measure it under load"
    if spec.env and not app.where.env_secret:
        yield f"the smoke test set {', '.join(spec.env)}: if the server needs them, add `--env-secret NAME`"
    if kind != "deployment":
        yield from _serverless_notes(app, kind)
        return
    if app.start.isolated:
        yield "no connection outwards is allowed: the smoke test passed without a network"
    else:
        yield "connections outwards are not restricted: the smoke test ran in a cluster, with a network"
    if app.metrics is None:
        yield "no PodMonitor: no metrics route of this server is known; name it with `--metrics PATH`"
    if app.requests is None:
        yield "no alert on 5xx responses: no counter of this server is known"
    if app.in_flight is None:
        yield f"no autoscaler, {app.asked.replicas} pods: no gauge of requests in flight is known; `--in-flight METRIC`"
    else:
        yield f"the autoscaler needs `{app.in_flight}` in custom.metrics.k8s.io, such as from prometheus-adapter"


def _serverless_notes(app: Deployment, kind: DeployKind) -> Iterator[str]:
    if kind == "kserve":
        yield "for KServe in Knative mode; in Standard mode, remove scaleMetric and scaleTarget"
    if app.test.device == "gpu":
        yield "Knative accepts affinity and tolerations only with kubernetes.podspec-affinity and -tolerations enabled"
    yield f"all nodes are taken for {app.test.architecture}: choosing them needs kubernetes.podspec-nodeselector"
