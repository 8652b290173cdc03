"""`mlship smoke --kubernetes`: the Job that is printed, or created and judged."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlship.engine.base import ImageInfo
    from mlship.smoke.cluster.job import Placement, PodTest
    from mlship.smoke.result import SmokeReport
    from mlship.smoke.seen import Device
    from mlship.smoke.spec import SmokeSpec

InKubernetes = Annotated[
    bool, typer.Option("--kubernetes", help="Print a Job that tests the image, which is in a registry, in a pod.")
]
Apply = Annotated[bool, typer.Option("--apply", help="Create the Job with kubectl, judge its log, and remove it.")]
LogFile = Annotated[
    Path | None, typer.Option("--log", metavar="FILE", help="Judge the saved log of the Job; - is stdin.")
]
Context = Annotated[str | None, typer.Option("--context", metavar="NAME", help="Context of kubectl.")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Namespace. [default: kubectl's]")
]
Node = Annotated[str | None, typer.Option("--node", metavar="NAME", help="Hostname label of the node to test on.")]
Selector = Annotated[
    list[str] | None,
    typer.Option("--node-selector", metavar="KEY=VALUE", help="Label that the node must have; repeatable."),
]
Claim = Annotated[
    str | None,
    typer.Option("--claim", metavar="NAME", help="ResourceClaimTemplate for the GPU, instead of nvidia.com/gpu."),
]
PullSecret = Annotated[
    str | None, typer.Option("--pull-secret", metavar="NAME", help="Secret with the registry's credentials.")
]
EnvSecret = Annotated[
    str | None, typer.Option("--env-secret", metavar="NAME", help="Secret with the variables of `smoke.env`.")
]


@dataclass(frozen=True)
class ClusterOptions:
    """What the command line says about Kubernetes."""

    kubernetes: bool
    apply: bool
    log: Path | None
    context: str | None
    namespace: str | None
    node: str | None
    selector: tuple[str, ...]
    claim: str | None
    pull_secret: str | None
    env_secret: str | None

    def check(self, *, attest: bool, record_golden: bool) -> None:
        """Refuse options that do not go together.

        Raises:
            UsageError: some do not.
        """
        from mlship.errors import UsageError

        given = [flag for flag, value in self._flags() if value]
        if not self.kubernetes and given:
            raise UsageError(f"`{given[0]}` needs `--kubernetes`", hint=f"add `--kubernetes`, or remove `{given[0]}`")
        if self.apply and self.log:
            raise UsageError("`--apply` cannot be used with `--log`", hint="remove one of them")
        if self.kubernetes and record_golden:
            raise UsageError(
                "`--record-golden` cannot be used with `--kubernetes`", hint="record it with an engine, without it"
            )
        if self.kubernetes and attest and not self.apply:
            raise UsageError(
                "`--attest` needs `--apply`: a proof is about a test that mlship ran itself", hint="add `--apply`"
            )

    def placement(self) -> "Placement":
        """Where the Job runs.

        Raises:
            UsageError: a selector is not KEY=VALUE.
        """
        from mlship.errors import UsageError
        from mlship.smoke.cluster.job import Placement

        bad = next((text for text in self.selector if not text.partition("=")[0] or "=" not in text), None)
        if bad is not None:
            raise UsageError(f"`--node-selector {bad}` is not KEY=VALUE", hint="`kubectl get nodes --show-labels`")
        labels = {key: value for key, _, value in (text.partition("=") for text in self.selector)}
        if self.node:
            labels["kubernetes.io/hostname"] = self.node
        return Placement(self.namespace, labels, self.claim, self.pull_secret, self.env_secret)

    def _flags(self) -> tuple[tuple[str, object], ...]:
        return (
            ("--apply", self.apply),
            ("--log", self.log),
            ("--context", self.context),
            ("--namespace", self.namespace),
            ("--node", self.node),
            ("--node-selector", self.selector),
            ("--claim", self.claim),
            ("--pull-secret", self.pull_secret),
            ("--env-secret", self.env_secret),
        )


def smoke_in_kubernetes(  # noqa: PLR0913  called once
    image: str,
    options: ClusterOptions,
    spec_of: "Callable[[ImageInfo], SmokeSpec]",
    device: "Device | None",
    *,
    attest: bool,
    verbose: bool,
    json: bool,
) -> "SmokeReport | None":
    """The judged test, if there was one; otherwise the Job is printed."""
    from mlship.cli.reporter import ConsoleReporter
    from mlship.console import say
    from mlship.registry.images import image_in_registry
    from mlship.smoke.cluster.job import PodTest
    from mlship.smoke.cluster.kubectl import Cluster
    from mlship.smoke.cluster.run import report_of_log, smoke_on_cluster
    from mlship.smoke.pod_log import read_pod_log

    pinned, info = image_in_registry(image)
    spec = spec_of(info)
    test = PodTest(
        pinned, info.command, info.platform.partition("/")[2], spec, device or ("gpu" if spec.gpu else "cpu")
    )
    listen = say if verbose else lambda _line: None
    if options.log is not None:
        return report_of_log(test, info, read_pod_log(_text_of(options.log)), None, listen)
    where = options.placement()
    _check_env(spec, where)
    name = f"mlship-smoke-{info.id.removeprefix('sha256:')[:10]}"
    if not options.apply:
        _print(test, where, name, image, json=json)
        return None
    cluster = Cluster(options.context, options.namespace)
    step = ConsoleReporter(verbose=verbose).step
    report = smoke_on_cluster(cluster, test, info, where, f"{name}-{_random()}", step, listen)
    if attest and report.passed:
        from mlship.proof.attach import attach_proof

        attached = attach_proof(image, info.id, report, (), f"Kubernetes {cluster.version()}")
        say(f"attached the proof {attached}")
    return report


def _random() -> str:
    from uuid import uuid4

    return uuid4().hex[:6]


def _text_of(file: Path) -> str:
    import sys

    return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8", errors="replace")


def _check_env(spec: "SmokeSpec", where: "Placement") -> None:
    from mlship.errors import UsageError

    if spec.env and where.env_secret is None:
        literals = " ".join(f"--from-literal={name}=..." for name in spec.env)
        raise UsageError(
            f"the smoke test needs {', '.join(spec.env)}, and their values must not be in the Job",
            hint=f"`kubectl create secret generic smoke-env {literals}`, then add `--env-secret smoke-env`",
        )


def _print(test: "PodTest", where: "Placement", name: str, image: str, *, json: bool) -> None:
    from mlship.console import emit, say
    from mlship.smoke.cluster.job import job_of
    from mlship.versioned import to_json
    from mlship.yaml_text import yaml_text

    job = job_of(test, where, name)
    emit(to_json(job) if json else yaml_text(job))
    space = f" -n {where.namespace}" if where.namespace else ""
    say("Create it with `kubectl create -f FILE`, then save its log and judge it:")
    say(f"  kubectl logs{space} --follow --pod-running-timeout=20m job/{name} > smoke.log")
    say(f"  mlship smoke {image} --kubernetes --log smoke.log")
