"""The objects that run an image in a cluster: Deployment, Service and what goes with them. Pure.

The pod meets the restricted Pod Security Standard: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlship.deploy.options import LONGEST_NAME, DeployOptions
from mlship.deploy.probes import MeasuredStart, probes, startup_budget
from mlship.render import render
from mlship.smoke.cluster.job import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    Placement,
    PodTest,
    confined_container,
    confined_pod,
)
from mlship.yaml_text import Yaml, yaml_text

_NAME = "app.kubernetes.io/name"
_PULL_SECONDS = 600  # for the image, before the pod can start
_STOP_SENDING = 5  # seconds until kube-proxy and load balancers have stopped sending requests
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
    space = {"namespace": app.where.namespace} if app.where.namespace else {}
    metadata: dict[str, Yaml] = {"name": app.name, **space, "labels": app.labels}
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
