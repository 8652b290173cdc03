"""The Kubernetes Job that runs the smoke test of an image: one object, with nothing mounted from the host. Pure.

It meets the restricted Pod Security Standard: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from mlship.project.testing import hidden_from
from mlship.resources import read_package_file
from mlship.smoke.run import inside
from mlship.smoke.seen import Device
from mlship.smoke.spec import SmokeSpec

Yaml: TypeAlias = "str | int | bool | list[Yaml] | dict[str, Yaml]"

CONTAINER = "smoke"
PENDING_SECONDS = 3600  # for a node and the image; afterwards the cluster ends the Job, whatever became of mlship
_KEPT_SECONDS = 3600
_OVERHEAD_SECONDS = 120
_GPU = "nvidia.com/gpu"


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

    @property
    def seconds(self) -> int:
        """The longest time that the test can take once it runs."""
        spec = self.spec
        return int(2 * spec.load_seconds + 4 * spec.startup_seconds + spec.grace_seconds) + _OVERHEAD_SECONDS


def job_of(test: PodTest, where: Placement, name: str) -> dict[str, Yaml]:
    """The Job as an object."""
    labels: dict[str, Yaml] = {"app.kubernetes.io/name": "mlship-smoke", "app.kubernetes.io/managed-by": "mlship"}
    metadata: dict[str, Yaml] = {"name": name, "labels": labels}
    if where.namespace:
        metadata["namespace"] = where.namespace
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": test.seconds + PENDING_SECONDS,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": _pod(test, where)},
        },
    }


def _pod(test: PodTest, where: Placement) -> dict[str, Yaml]:
    volumes: list[Yaml] = [{"name": "tmp", "emptyDir": {}}]
    if test.spec.shm is not None:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(test.spec.shm)}})
    pod: dict[str, Yaml] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "nodeSelector": {"kubernetes.io/arch": test.architecture, "kubernetes.io/os": "linux", **where.selector},
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(test, where)],
        "volumes": volumes,
    }
    if test.device == "gpu":
        pod["tolerations"] = [{"key": _GPU, "operator": "Exists", "effect": "NoSchedule"}]
        if where.claim:
            pod["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": where.claim}]
    if where.pull_secret:
        pod["imagePullSecrets"] = [{"name": where.pull_secret}]
    return pod


def _container(test: PodTest, where: Placement) -> dict[str, Yaml]:
    mounts: list[Yaml] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108  in the container
    if test.spec.shm is not None:
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108
    program, options, *texts = _arguments(test)
    container: dict[str, Yaml] = {
        "name": CONTAINER,
        "image": test.image,
        # Kubernetes expands $(NAME) in both; a doubled $ is a $.
        "command": ["python", "-c", program.replace("$", "$$")],
        "args": [text.replace("$", "$$") for text in (options, *texts)],
        "resources": _resources(test, where),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    if where.env_secret:
        container["envFrom"] = [{"secretRef": {"name": where.env_secret}}]
    return container


def _resources(test: PodTest, where: Placement) -> dict[str, Yaml]:
    memory = str(test.spec.memory)
    limits: dict[str, Yaml] = {"memory": memory}
    resources: dict[str, Yaml] = {"limits": limits, "requests": {"cpu": "500m", "memory": memory}}
    if test.device == "gpu":
        if where.claim:
            resources["claims"] = [{"name": "gpu"}]
        else:
            limits[_GPU] = 1
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
        "commands": commands,
        "gpu": test.device == "gpu",
        "load_seconds": spec.load_seconds,
        "startup_seconds": spec.startup_seconds,
        "grace_seconds": spec.grace_seconds,
        "hidden": {name: hidden_from(name) for name in spec.env},
    }
    return [read_package_file("smoke/inside/pod.py"), json.dumps(options), *texts]


def job_yaml(job: Mapping[str, Yaml]) -> str:
    """The Job as YAML that a person can read: programs are blocks."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, _data: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return yaml.dump(dict(job), Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)
