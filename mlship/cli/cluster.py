"""`mlship smoke --kubernetes`: the Job that is printed, or created and judged."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from mlship.cli.options import only_one
from mlship.console import emit, say
from mlship.errors import UsageError

if TYPE_CHECKING:
    from mlship.engine.base import ImageInfo
    from mlship.smoke.cluster.job import Placement, PodTest
    from mlship.smoke.result import SmokeReport
    from mlship.smoke.spec import Device, SmokeSpec

InKubernetes = Annotated[
    bool, typer.Option("--kubernetes", help="Print a Job that tests the image, which is in a registry, in a pod.")
]
Apply = Annotated[bool, typer.Option("--apply", help="Create the Job with kubectl, judge its log, and remove it.")]
LogFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Judge the saved log of the Job; - is stdin.")]
Context = Annotated[str | None, typer.Option(metavar="NAME", help="Context of kubectl.")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Namespace. [default: kubectl's]")
]
Node = Annotated[str | None, typer.Option(metavar="NAME", help="Hostname label of the node to test on.")]
Selector = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Label that the node must have; repeatable.")
]
Claim = Annotated[
    str | None, typer.Option(metavar="NAME", help="ResourceClaimTemplate for the GPU, instead of nvidia.com/gpu.")
]
PullSecret = Annotated[str | None, typer.Option(metavar="NAME", help="Secret with the registry's credentials.")]
EnvSecret = Annotated[str | None, typer.Option(metavar="NAME", help="Secret with the variables of `smoke.env`.")]


@dataclass(frozen=True)
class ClusterOptions:
    """What the command line says about Kubernetes."""

    kubernetes: bool
    apply: bool
    log: Path | None
    context: str | None
    namespace: str | None
    node: str | None
    node_selector: tuple[str, ...]
    claim: str | None
    pull_secret: str | None
    env_secret: str | None

    def check(self, *, attest: bool) -> None:
        """Refuse options that do not go together.

        Raises:
            UsageError: some do not.
        """
        given = [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value]
        if given and not self.kubernetes:
            raise UsageError(f"`{given[0]}` needs `--kubernetes`", hint=f"add `--kubernetes`, or remove `{given[0]}`")
        if self.log:
            only_one(dict.fromkeys(given[1:], True))
        for flag, value in {"--context": self.context, "--attest": self.kubernetes and attest}.items():
            if value and not self.apply:  # a proof is about a test that mlship ran itself
                raise UsageError(f"`{flag}` needs `--apply`", hint=f"add `--apply`, or remove `{flag}`")

    def placement(self, spec: "SmokeSpec") -> "Placement":
        """Where the Job runs.

        Raises:
            UsageError: a selector is not KEY=VALUE, or the test needs variables that no Secret has.
        """
        from mlship.smoke.cluster.job import Placement

        labels = {"kubernetes.io/hostname": self.node} if self.node else {}
        for text in self.node_selector:
            key, equals, value = text.partition("=")
            if not key or not equals or labels.setdefault(key, value) != value:
                wrong = f"`--node-selector {text}` is not KEY=VALUE, or another value is given for its key"
                raise UsageError(wrong, hint="`kubectl get nodes --show-labels` lists them")
        if spec.env and self.env_secret is None:
            literals = " ".join(f"--from-literal={name}=..." for name in spec.env)
            raise UsageError(
                f"the smoke test needs {', '.join(spec.env)}, and their values must not be in the Job",
                hint=f"`kubectl create secret generic smoke-env {literals}`, then add `--env-secret smoke-env`",
            )
        return Placement(self.namespace, labels, self.claim, self.pull_secret, self.env_secret)


def smoke_in_kubernetes(  # noqa: PLR0913  called once
    image: str,
    options: ClusterOptions,
    spec_of: Callable[["ImageInfo"], "SmokeSpec"],
    device: "Device | None",
    *,
    attest: bool,
    verbose: bool,
    json: bool,
) -> "SmokeReport | None":
    """The judged test, if there was one; otherwise the Job is printed."""
    from mlship.cli.reporter import ConsoleReporter
    from mlship.registry.images import image_in_registry
    from mlship.smoke.cluster.job import PodTest
    from mlship.smoke.cluster.kubectl import Cluster
    from mlship.smoke.cluster.run import report_of_log, smoke_on_cluster
    from mlship.smoke.pod_log import read_pod_log

    pinned, info = image_in_registry(image)
    spec = spec_of(info)
    test = PodTest.of(pinned, info, spec, device)
    listen = say if verbose else lambda _line: None
    if options.log is not None:
        saved = options.log
        text = sys.stdin.read() if str(saved) == "-" else saved.read_text(encoding="utf-8", errors="replace")
        return report_of_log(test, info, read_pod_log(text), None, listen)
    where = options.placement(spec)
    name = f"mlship-smoke-{info.id.removeprefix('sha256:')[:10]}"
    if not options.apply:
        _print(test, where, name, image, json=json)
        return None
    cluster = Cluster(options.context, options.namespace)
    step = ConsoleReporter(verbose=verbose).step
    report = smoke_on_cluster(cluster, test, info, where, f"{name}-{uuid4().hex[:6]}", step, listen)
    if attest and report.passed:
        attach_result(image, info.id, report, f"Kubernetes {cluster.version()}")
    return report


def attach_result(image: str, digest: str, report: "SmokeReport", engine: str, platform: str = "") -> None:
    """Attach the proof to an image in its registry; see `attach_proof`."""
    from mlship.proof.attach import attach_proof

    say(f"attached the proof {attach_proof(image, digest, report, (), engine, platform)}")


def _print(test: "PodTest", where: "Placement", name: str, image: str, *, json: bool) -> None:
    from mlship.smoke.cluster.job import job_of
    from mlship.versioned import to_json
    from mlship.yaml_text import yaml_text

    job = job_of(test, where, name)
    emit(to_json(job) if json else yaml_text(job))
    space = f" -n {where.namespace}" if where.namespace else ""
    say("Create it with `kubectl create -f FILE`, then save its log and judge it:")
    say(f"  kubectl logs{space} --follow --pod-running-timeout=20m job/{name} > smoke.log")
    say(f"  mlship smoke {image} --kubernetes --on {test.device} --log smoke.log")
