"""`mlship smoke`."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlship.cli import cluster
from mlship.cli.options import HERE, Directory, Json, On, Smoke, only_one, show_result
from mlship.console import say, warn
from mlship.errors import CheckFailed, UsageError
from mlship.units import bytes_of

if TYPE_CHECKING:
    from mlship.engine.base import ImageInfo
    from mlship.smoke.result import SmokeReport
    from mlship.smoke.run import Bench
    from mlship.smoke.spec import SmokeSpec


def smoke_command(  # noqa: PLR0913, PLR0917  one argument an option is how Typer works
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Name or ID of an image.")],
    directory: Directory = HERE,
    on: Smoke = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory limit, such as 2g. [default: the image's]")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.1, help="Limit for loading and for startup.")
    ] = None,
    record_golden: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the model's answer to FILE, then stop.")
    ] = None,
    attest: Annotated[
        bool, typer.Option("--attest", help="Attach the proof to the image in its registry, for `mlship verify`.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the output of the image's programs.")] = False,
    json: Json = False,
    kubernetes: cluster.InKubernetes = False,
    apply: cluster.Apply = False,
    log: cluster.LogFile = None,
    context: cluster.Context = None,
    namespace: cluster.Namespace = None,
    node: cluster.Node = None,
    node_selector: cluster.Selector = None,
    claim: cluster.Claim = None,
    pull_secret: cluster.PullSecret = None,
    env_secret: cluster.EnvSecret = None,
) -> None:
    """Prove that an image's model loads, answers and stops.

    The image's label says what to test. For an image that mlship did not build, mlship.yaml does. With --kubernetes,
    the image is in a registry and is tested in a pod, such as on a node with a GPU; no engine is needed.
    """
    asked = cluster.ClusterOptions(
        kubernetes, apply, log, context, namespace, node, tuple(node_selector or ()), claim, pull_secret, env_secret
    )
    asked.check(attest=attest)
    others = {"--kubernetes": kubernetes, "--attest": attest, "--json": json} if record_golden else {}
    only_one({"--record-golden": record_golden, **others})
    only_one({"--memory": memory and attest, "--attest": attest})  # a proof is about the image's own limit

    def spec_of(info: "ImageInfo") -> "SmokeSpec":
        return _limited(spec_of_image(info, image, directory), memory, timeout)

    if kubernetes:
        report = cluster.smoke_in_kubernetes(image, asked, spec_of, on, attest=attest, verbose=verbose, json=json)
    else:
        report = _smoke_here(*_bench(image, spec_of, directory, on, verbose=verbose), record_golden, attest=attest)
    if report is not None:
        _show(report, json=json)


def _bench(
    image: str, spec_of: Callable[["ImageInfo"], "SmokeSpec"], directory: Path, on: On | None, *, verbose: bool
) -> "tuple[Bench, ImageInfo]":
    """How a local image is tested."""
    from mlship.cli.reporter import ConsoleReporter
    from mlship.engine import connect
    from mlship.smoke.run import Bench, find_image

    engine = connect()
    info = find_image(engine, image)
    spec = spec_of(info)
    device = on or spec.device
    listen = say if verbose else lambda _line: None
    return Bench(engine, image, spec, ConsoleReporter().step, listen, device, _values(spec, directory)), info


def _smoke_here(bench: "Bench", info: "ImageInfo", record: Path | None, *, attest: bool) -> "SmokeReport | None":
    """Test a local image; None if its answer is recorded instead."""
    from mlship.smoke.run import smoke

    if record is not None:
        _record(bench, record)
        return None
    if attest and info.digest is None:
        raise UsageError(
            f"`{bench.image}` has no digest of a registry, so a proof cannot name it",
            hint=f"run `docker pull {bench.image}`, with the containerd image store enabled",
        )
    report = smoke(bench)
    if attest and report.passed:
        cluster.attach_result(bench.image, info.digest or "", report, bench.engine.info().version, info.platform)
    return report


def _show(report: "SmokeReport", *, json: bool) -> None:
    from mlship.report.smoke import show_smoke

    show_result(report, show_smoke, json=json)
    conclude(report)


def conclude(report: "SmokeReport") -> None:
    """Add the report to GitHub's step summary, and fail if a check failed.

    Raises:
        CheckFailed: a check failed; the message names the first one.
    """
    from mlship.report.github import VARIABLE, add_step_summary

    try:
        add_step_summary(report)
    except OSError as error:  # it does not change the verdict
        warn(f"cannot write the step summary ({VARIABLE}): {error.strerror or error}")
    bad = report.failure
    if bad is not None:
        raise CheckFailed(f"{report.image} is not proven: {bad.id}", hint=bad.remedy)


def _record(bench: "Bench", file: Path) -> None:
    from mlship.files import write_atomic
    from mlship.smoke.run import record_golden

    if file.exists():
        raise UsageError(
            f"`{file}` already exists, and a recorded answer is never overwritten",
            hint="remove it first, or record to another file and compare the two",
        )
    write_atomic(file, record_golden(bench))
    say(f"wrote {file}; name it in mlship.yaml: `model: {{golden: {file}}}`")


def spec_of_image(info: "ImageInfo", image: str, directory: Path) -> "SmokeSpec":
    """What to test, from the image's label or else from mlship.yaml."""
    from mlship.project.load import FILE_NAME, load_config
    from mlship.smoke.spec import LABEL, SmokeSpec

    label = info.labels.get(LABEL)
    if label is not None:
        return SmokeSpec.from_json(label)
    if not (directory / FILE_NAME).exists():
        raise UsageError(
            f"cannot tell what to test: `{image}` has no label `{LABEL}`, "
            f"and there is no `{FILE_NAME}` in `{directory.resolve()}`",
            hint="build it with `mlship build`, or run `mlship init` in the model repository and pass it with `-C`",
        )
    return SmokeSpec.from_config(load_config(directory))


def _values(spec: "SmokeSpec", directory: Path) -> Mapping[str, str]:
    """Values of the variables that the image's label names, from mlship.yaml or else from the environment."""
    from mlship.project.load import FILE_NAME, load_config
    from mlship.project.testing import resolve_test_values

    own = load_config(directory).smoke.env if spec.env and (directory / FILE_NAME).exists() else {}
    return resolve_test_values({name: own.get(name) for name in spec.env}, os.environ)


def _limited(spec: "SmokeSpec", memory: str | None, timeout: float | None) -> "SmokeSpec":
    if memory is not None:
        try:
            spec = replace(spec, memory=bytes_of(memory))
        except ValueError as error:
            raise UsageError(f"--memory: {error}", hint="write it as 512m or 2g") from error
    if timeout is not None:
        spec = replace(spec, load_seconds=timeout, startup_seconds=timeout)
    return spec
