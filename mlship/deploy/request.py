"""What is asked for on the command line and what is known of the image, as a deployment with notes about it. Pure."""

from collections.abc import Iterator, Mapping

from mlship.deploy.objects import Deployment, label_of, name_of
from mlship.deploy.options import DeployKind, DeployOptions
from mlship.deploy.probes import MeasuredStart, probe_notes
from mlship.engine.base import ImageInfo
from mlship.errors import UsageError
from mlship.smoke.cluster.job import Placement, PodTest
from mlship.smoke.spec import SmokeSpec
from mlship.yaml_text import Yaml

_SERVER = ("-m", "serving")  # the server that `mlship init` writes, and its metrics
_METRICS, _IN_FLIGHT, _REQUESTS = "/metrics", "serving_requests_in_flight", "serving_requests_total"
_VERSION = "org.opencontainers.image.version"


def deployment_request(
    image: str,
    info: ImageInfo,
    spec: SmokeSpec,
    start: MeasuredStart,
    asked: DeployOptions,
    nodes: Mapping[str, Yaml],
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
    claim = {**nodes, "metadata": {"name": asked.claim, **_space(asked)}} if asked.claim and nodes else {}
    return Deployment(
        name=name,
        test=PodTest(image, info.command, info.platform.split("/")[1], spec, "gpu" if spec.gpu else "cpu"),
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


def _space(asked: DeployOptions) -> dict[str, Yaml]:
    return {"namespace": asked.namespace} if asked.namespace else {}


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
