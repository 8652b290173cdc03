"""The Kubernetes Job that runs the smoke test of an image: one object, with nothing mounted from the host. Pure.

It meets the restricted Pod Security Standard: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlship.engine.base import ImageInfo
from mlship.errors import UsageError
from mlship.project.testing import hidden_from
from mlship.resources import read_package_file
from mlship.smoke.run import inside
from mlship.smoke.spec import Device, SmokeSpec
from mlship.yaml_text import Yaml

CONTAINER = "smoke"
PENDING_SECONDS = 3600  # for a node and the image; afterwards the cluster ends the Job, whatever became of mlship
_KEPT_SECONDS = 3600
_OVERHEAD_SECONDS = 120
_GPU = "nvidia.com/gpu"
POD_SECURITY: dict[str, Yaml] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER_SECURITY: dict[str, Yaml] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class Placement:
    """Where in a cluster the image is tested.

    Attributes:
        selector: labels that the node must have.
        claim: name of a ResourceClaimTemplate (dynamic resource allocation), instead of the GPU's resource.
        pull_secret: name of the Secret with the registry's credentials.
        env_secret: name of the Secret with the values of `smoke.env`.
    """

    namespace: str | None = None
    selector: Mapping[str, str] = field(default_factory=dict)
    claim: str | None = None
    pull_secret: str | None = None
    env_secret: str | None = None


@dataclass(frozen=True)
class PodTest:
    """What is tested in a cluster.

    Attributes:
        image: with its digest, so that the pod runs what the report names.
        command: the image's entrypoint and command.
        architecture: as Kubernetes names it, such as amd64.
    """

    image: str
    command: tuple[str, ...]
    architecture: str
    spec: SmokeSpec
    device: Device = "cpu"

    @classmethod
    def of(cls, image: str, info: ImageInfo, spec: SmokeSpec, device: Device | None = None) -> "PodTest":
        """The test of an image on a device; None is the one that it is built for."""
        return cls(image, info.command, info.platform.split("/")[1], spec, device or spec.device)

    @property
    def seconds(self) -> int:
        """The longest time that the test can take once it runs."""
        spec = self.spec
        return int(2 * spec.load_seconds + 4 * spec.startup_seconds + spec.grace_seconds) + _OVERHEAD_SECONDS


def job_of(test: PodTest, where: Placement, name: str) -> dict[str, Yaml]:
    """The Job as an object."""
    labels: dict[str, Yaml] = {"app.kubernetes.io/name": "mlship-smoke", "app.kubernetes.io/managed-by": "mlship"}
    space: dict[str, Yaml] = {"namespace": where.namespace} if where.namespace else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels, **space},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": test.seconds + PENDING_SECONDS,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": _pod(test, where)},
        },
    }


def _pod(test: PodTest, where: Placement) -> dict[str, Yaml]:
    program, options, *texts = _arguments(test)
    # Kubernetes expands $(NAME) in both; a doubled $ is a $.
    command: dict[str, Yaml] = {
        "command": ["python", "-c", program.replace("$", "$$")],
        "args": [text.replace("$", "$$") for text in (options, *texts)],
    }
    container = confined_container(test, where, CONTAINER, "500m") | command
    return {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, **confined_pod(test, where, container)}


def confined_pod(test: PodTest, where: Placement, container: Yaml) -> dict[str, Yaml]:
    """The specification of a pod around a container, as confined as the containers of a local test."""
    volumes: list[Yaml] = [{"name": "tmp", "emptyDir": {}}]
    if test.spec.shm is not None:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(test.spec.shm)}})
    pod: dict[str, Yaml] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "nodeSelector": {"kubernetes.io/arch": test.architecture, "kubernetes.io/os": "linux", **where.selector},
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": volumes,
    }
    if test.device == "gpu":
        pod["tolerations"] = [{"key": _GPU, "operator": "Exists", "effect": "NoSchedule"}]
        if where.claim:
            pod["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": where.claim}]
    if where.pull_secret:
        pod["imagePullSecrets"] = [{"name": where.pull_secret}]
    return pod


def confined_container(
    test: PodTest, where: Placement, name: str, cpu: str, *, limited: bool = False
) -> dict[str, Yaml]:
    """A container of the image with its resources and mounts; `cpu` is requested, and the limit too if `limited`."""
    mounts: list[Yaml] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108  in the container
    if test.spec.shm is not None:
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108
    container: dict[str, Yaml] = {
        "name": name,
        "image": test.image,
        "resources": _resources(test, where, cpu, limited=limited),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": mounts,
    }
    if where.env_secret:
        container["envFrom"] = [{"secretRef": {"name": where.env_secret}}]
    return container


def _resources(test: PodTest, where: Placement, cpu: str, *, limited: bool) -> dict[str, Yaml]:
    memory = str(test.spec.memory)
    limits: dict[str, Yaml] = {"memory": memory, **({"cpu": cpu} if limited else {})}
    resources: dict[str, Yaml] = {"limits": limits, "requests": {"cpu": cpu, "memory": memory}}
    if test.device == "gpu":
        if where.claim:
            resources["claims"] = [{"name": "gpu"}]
        else:
            limits[_GPU] = 1
    elif where.claim:
        raise UsageError("`--claim` is for a GPU, and this image runs on the CPU", hint="remove `--claim`")
    return resources


def _arguments(test: PodTest) -> list[str]:
    """The program, its options, and the texts that the options name by their index, each once."""
    spec = test.spec
    parts = {"client": inside("client", spec)} if test.command else {}
    if spec.load:
        parts["model"] = inside("model", spec, gpu=test.device == "gpu")
    texts = list(dict.fromkeys(word for command in parts.values() for word in command if "\n" in word))
    commands: dict[str, Yaml] = {
        part: [texts.index(word) if word in texts else word for word in command] for part, command in parts.items()
    }
    if test.command:
        commands["server"] = [*test.command]
    options = {
        "image": test.image,
        "commands": commands,
        "gpu": test.device == "gpu",
        "load_seconds": spec.load_seconds,
        "startup_seconds": spec.startup_seconds,
        "grace_seconds": spec.grace_seconds,
        "hidden": {name: hidden_from(name) for name in spec.env},
    }
    return [read_package_file("smoke/inside/pod.py"), json.dumps(options), *texts]
