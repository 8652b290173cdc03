"""The options of `mlship kubernetes`, checked as a cluster would check them. Pure."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.errors import UsageError
from mlship.project.config import SECRET

LONGEST_NAME = 45  # with the two hashes of a pod's name it is not shortened
DeployKind: TypeAlias = Literal["deployment", "knative", "kserve"]
_NAME = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_OBJECT = (rf"(?=.{{1,253}}$){_NAME}(\.{_NAME})*", "a name in Kubernetes (lower-case letters, digits, - and .)")
_FORMS = {
    "--name": (
        rf"(?=[a-z].{{0,{LONGEST_NAME - 1}}}$){_NAME}",
        f"a name like model-1 of up to {LONGEST_NAME} characters",
    ),
    "--namespace": (rf"(?=.{{1,63}}$){_NAME}", "a namespace (lower-case letters, digits and -)"),
    "--cpu": (r"(?=.*[1-9])([0-9]{1,4}(\.[0-9]{1,3})?|[0-9]{1,7}m)", "a quantity such as 2, 0.5 or 500m"),
    "--metrics": (r"/[\w./~%:-]*", "a URL path such as /metrics"),
    "--in-flight": (r"[A-Za-z_:][\w:]*", "the name of a metric"),
    "--env-secret": _OBJECT,
    "--pull-secret": _OBJECT,
    "--claim": _OBJECT,
}


@dataclass(frozen=True)
class DeployOptions:
    """What the command line says.

    Attributes:
        replicas, max_replicas: the smallest and the largest number of pods.
        target: requests in flight for each pod, for the autoscaler.
        metrics, in_flight: route and gauge; None for those of the generated server, if it is that.
    """

    kind: DeployKind = "deployment"
    name: str | None = None
    namespace: str | None = None
    replicas: int = 2
    max_replicas: int | None = None
    target: int = 16
    cpu: str = "1"
    env: tuple[str, ...] = ()
    env_secret: str | None = None
    pull_secret: str | None = None
    claim: str | None = None
    metrics: str | None = None
    in_flight: str | None = None

    def check(self) -> None:
        """Refuse values that a cluster would refuse, or that do not go together.

        Raises:
            UsageError: there is one.
        """
        for flag, (form, what) in _FORMS.items():
            text = getattr(self, flag[2:].replace("-", "_"))
            if text is not None and not re.fullmatch(form, text, re.ASCII):
                raise UsageError(f"`{flag} {text}` is not {what}", hint=f"correct `{flag}`")
        if self.most < self.replicas:
            raise UsageError(f"`--max-replicas {self.most}` is less than `--replicas`", hint="raise `--max-replicas`")
        unused = {"--claim": self.claim, "--metrics": self.metrics, "--in-flight": self.in_flight}
        for flag in (flag for flag, value in unused.items() if value and self.kind != "deployment"):
            raise UsageError(f"`--kind {self.kind}` does not use `{flag}`", hint=f"remove `{flag}` or `--kind`")
        self.variables()

    @property
    def most(self) -> int:
        return self.max_replicas or 2 * self.replicas

    def variables(self) -> dict[str, str]:
        """The variables of `--env`.

        Raises:
            UsageError: one is not NAME=VALUE, or looks like a secret.
        """
        found: dict[str, str] = {}
        for text in self.env:
            name, _, value = text.partition("=")
            if not re.fullmatch(r"[A-Za-z_]\w*=.*", text, re.ASCII | re.DOTALL) or not value.isprintable():
                raise UsageError(f"`--env {name}` is not NAME=VALUE with printable text", hint="correct `--env`")
            if SECRET.search(name):
                raise UsageError(
                    f"`--env {name}` looks like a secret, which everyone could read in the Deployment",
                    hint=f"`kubectl create secret generic model-env --from-literal={name}=...`, "
                    "then add `--env-secret model-env`",
                )
            if found.setdefault(name, value) != value:
                raise UsageError(f"`--env {name}` has two values", hint="remove one of them")
        return found
