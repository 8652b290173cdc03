"""The objects that run an image in a cluster: Deployment, Service and what goes with them. Pure.

The pod meets the restricted Pod Security Standard: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlship.deploy.monitoring import autoscaler, pod_monitor, prometheus_rule
from mlship.deploy.options import LONGEST_NAME, DeployOptions
from mlship.deploy.probes import MeasuredStart, probes, startup_budget
from mlship.smoke.cluster.job import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    Placement,
    PodTest,
    confined_container,
    confined_pod,
)
from mlship.yaml_text import Yaml

_NAME = "app.kubernetes.io/name"
_PULL_SECONDS = 600  # for the image, before the pod can start
_STOP_SENDING = 5  # seconds until kube-proxy and load balancers have stopped sending requests
_SERVERLESS = ("containers", "enableServiceLinks", "automountServiceAccountToken", "imagePullSecrets", "volumes")
_GPU_NODES = ("affinity", "tolerations")


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
    def selector(self) -> dict[str, Yaml]:
        return {_NAME: self.name}

    @property
    def labels(self) -> dict[str, Yaml]:
        return {**self.selector, **({"app.kubernetes.io/version": self.version} if self.version else {})}

    def document(self, version: str, kind: str, spec: Mapping[str, Yaml]) -> dict[str, Yaml]:
        """An object with the name, namespace and labels of all."""
        metadata: dict[str, Yaml] = {"name": self.name}
        if self.where.namespace:
            metadata["namespace"] = self.where.namespace
        return {
            "apiVersion": version,
            "kind": kind,
            "metadata": {**metadata, "labels": self.labels},
            "spec": dict(spec),
        }


def name_of(repository: str) -> str:
    """A name for a Deployment and a Service, from that of an image."""
    plain = re.sub(r"[^a-z0-9]+", "-", repository.rpartition("/")[2].lower()).strip("-")
    named = plain if plain[:1].isalpha() else f"model-{plain}"
    return named[:LONGEST_NAME].strip("-")


def label_of(version: str) -> str:
    """A version as the value of a label; empty if it cannot be one."""
    return version if re.fullmatch(r"[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", version, re.ASCII) else ""


def deployment(app: Deployment) -> list[dict[str, Yaml]]:
    """Everything for a cluster with the Prometheus Operator."""
    documents = [_deployment(app), _service(app), _network_policy(app)]
    disruption: dict[str, Yaml] = {"maxUnavailable": 1, "selector": {"matchLabels": app.selector}}
    disruption["unhealthyPodEvictionPolicy"] = "AlwaysAllow"
    documents.append(app.document("policy/v1", "PodDisruptionBudget", disruption))
    if app.in_flight:
        scale = autoscaler(app.name, app.in_flight, app.asked.target, app.asked.replicas, app.asked.most)
        documents.append(app.document("autoscaling/v2", "HorizontalPodAutoscaler", scale))
    if app.metrics:
        monitor = pod_monitor(app.selector, app.metrics)
        documents.append(app.document("monitoring.coreos.com/v1", "PodMonitor", monitor))
    rules = prometheus_rule(app.name, app.where.namespace, app.requests, startup_budget(app.test.spec, app.start))
    documents.append(app.document("monitoring.coreos.com/v1", "PrometheusRule", rules))
    return [*documents, *([dict(app.claim)] if app.claim else [])]


def knative(app: Deployment) -> list[dict[str, Yaml]]:
    """A Knative Service, which scales by requests in flight itself."""
    annotations: dict[str, Yaml] = {
        "autoscaling.knative.dev/metric": "concurrency",
        "autoscaling.knative.dev/target": str(app.asked.target),
        "autoscaling.knative.dev/min-scale": str(app.asked.replicas),
        "autoscaling.knative.dev/max-scale": str(app.asked.most),
        "serving.knative.dev/progress-deadline": f"{_progress_seconds(app)}s",
    }
    template: dict[str, Yaml] = {
        "metadata": {"labels": app.labels, "annotations": annotations},
        "spec": _serverless_pod(app, "server"),
    }
    return [app.document("serving.knative.dev/v1", "Service", {"template": template})]


def kserve(app: Deployment) -> list[dict[str, Yaml]]:
    """A KServe InferenceService with a container of its own, in Knative mode."""
    scale: dict[str, Yaml] = {"minReplicas": app.asked.replicas, "maxReplicas": app.asked.most}
    scale |= {"scaleMetric": "concurrency", "scaleTarget": app.asked.target}
    predictor: dict[str, Yaml] = {**scale, **_serverless_pod(app, "kserve-container")}
    return [app.document("serving.kserve.io/v1beta1", "InferenceService", {"predictor": predictor})]


def _deployment(app: Deployment) -> dict[str, Yaml]:
    pod = _pod(app)
    grace = int(app.test.spec.grace_seconds) + 1 + _STOP_SENDING
    spread: dict[str, Yaml] = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname"}
    spread |= {"whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": app.selector}}
    pod |= {"terminationGracePeriodSeconds": grace, "topologySpreadConstraints": [spread]}
    waits = app.test.device == "gpu" and app.asked.replicas > 1  # there may be no spare GPU for a new pod
    spec: dict[str, Yaml] = {} if app.in_flight else {"replicas": app.asked.replicas}
    spec |= {
        "progressDeadlineSeconds": _progress_seconds(app),
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 0 if waits else 1, "maxUnavailable": 1 if waits else 0},
        },
        "selector": {"matchLabels": app.selector},
        "template": {"metadata": {"labels": app.labels}, "spec": pod},
    }
    return app.document("apps/v1", "Deployment", spec)


def _progress_seconds(app: Deployment) -> int:
    return startup_budget(app.test.spec, app.start) + _PULL_SECONDS


def _pod(app: Deployment) -> dict[str, Yaml]:
    container = _container(app, "server", "http")
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": _STOP_SENDING}}}
    return {**confined_pod(app.test, app.where, container), **app.affinity}


def _serverless_pod(app: Deployment, name: str) -> dict[str, Yaml]:
    """What Knative accepts: no lifecycle, and the security context of the container instead of the pod."""
    container = {**_container(app, name, "http1"), "securityContext": {**POD_SECURITY, **CONTAINER_SECURITY}}
    pod = {**confined_pod(app.test, app.where, container), **app.affinity}
    return {key: value for key, value in pod.items() if key in (*_SERVERLESS, *_GPU_NODES)}


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


def _service(app: Deployment) -> dict[str, Yaml]:
    port: dict[str, Yaml] = {"name": "http", "port": 80, "targetPort": app.test.spec.port, "protocol": "TCP"}
    return app.document("v1", "Service", {"type": "ClusterIP", "selector": app.selector, "ports": [port]})


def _network_policy(app: Deployment) -> dict[str, Yaml]:
    """Only the server's port, and nothing outwards if the smoke test ran without a network."""
    kinds: list[Yaml] = ["Ingress", "Egress"] if app.start.isolated else ["Ingress"]
    ingress: dict[str, Yaml] = {"ports": [{"port": app.test.spec.port, "protocol": "TCP"}]}
    spec: dict[str, Yaml] = {"podSelector": {"matchLabels": app.selector}, "policyTypes": kinds, "ingress": [ingress]}
    return app.document("networking.k8s.io/v1", "NetworkPolicy", spec)
