"""`mlship smoke`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlship.cli.options import HERE, Directory, Json, On

if TYPE_CHECKING:
    from mlship.cli.reporter import ConsoleReporter
    from mlship.engine.base import Engine
    from mlship.smoke.observed import Device
    from mlship.smoke.result import SmokeReport
    from mlship.smoke.spec import SmokeSpec


def smoke(  # noqa: PLR0913, PLR0917  one argument an option is how Typer works
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Name or ID of a local image.")],
    directory: Directory = HERE,
    on: Annotated[
        On | None,
        typer.Option("--on", help="Test on the CPU or on the host's GPUs. Default: what the image is made for."),
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Memory limit, such as 512m or 2g.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Longest time to load, and longest to get ready."),
    ] = None,
    record_golden: Annotated[
        Path | None,
        typer.Option("--record-golden", metavar="FILE", help="Only write the model's answer to the sample to FILE."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what the image's programs print.")] = False,
    json: Json = False,
) -> None:
    """Prove that an image works as it will run: its model loads, warms and answers, its server starts and stops.

    What to test stands in the image's label; for images that mlship did not build, in mlship.yaml.
    """
    from mlship.cli.reporter import ConsoleReporter
    from mlship.console import say
    from mlship.engine import connect
    from mlship.smoke.run import smoke as run_smoke

    engine, reporter = connect(), ConsoleReporter(verbose=verbose)
    spec = _limited(_spec(engine, image, directory), memory, timeout)
    device: Device = on.value if on else "gpu" if spec.gpu else "cpu"
    if record_golden is not None:
        _record(engine, image, spec, record_golden, reporter, device)
        return
    listen = say if verbose else lambda _line: None
    report = run_smoke(engine, image, spec, reporter.step, device=device, listen=listen)
    _show(report, json=json)


def _show(report: "SmokeReport", *, json: bool) -> None:
    from mlship.console import emit
    from mlship.report.json import to_json
    from mlship.report.smoke import show_smoke

    if json:
        emit(to_json(report))
    else:
        show_smoke(report)
    conclude(report)


def conclude(report: "SmokeReport") -> None:
    """What follows from a report that was shown: CI's summary, and exit code 1 where something failed.

    Raises:
        CheckFailed: naming the first check that failed, and its remedy.
    """
    from mlship.console import warn
    from mlship.errors import CheckFailed
    from mlship.report.github import VARIABLE, add_step_summary

    try:
        add_step_summary(report)
    except OSError as error:  # the verdict stands, whoever cannot show it
        warn(f"no step summary: {VARIABLE}: {error.strerror or error}")
    bad = report.failure
    if bad is not None:
        raise CheckFailed(f"{report.image} is not proven: {bad.id}", hint=bad.remedy)


def _record(
    engine: "Engine", image: str, spec: "SmokeSpec", file: Path, reporter: "ConsoleReporter", device: "Device"
) -> None:
    from mlship.console import say
    from mlship.errors import UsageError
    from mlship.files import write_atomic
    from mlship.smoke.run import record_golden

    if file.exists():
        raise UsageError(
            f"{file} exists, and a recorded answer is never overwritten",
            hint="remove it first, or record to another file and compare the two",
        )
    write_atomic(file, record_golden(engine, image, spec, reporter.step, device=device))
    say(f"wrote {file}; name it in mlship.yaml: `model: {{golden: {file}}}`")


def _spec(engine: "Engine", image: str, directory: Path) -> "SmokeSpec":
    """What the image's label says, or else mlship.yaml."""
    from mlship.errors import UsageError
    from mlship.project.load import FILE_NAME, load_config
    from mlship.smoke.run import find_image
    from mlship.smoke.spec import LABEL, SmokeSpec

    label = find_image(engine, image).labels.get(LABEL)
    if label is not None:
        return SmokeSpec.from_json(label)
    if not (directory / FILE_NAME).exists():
        raise UsageError(
            f"{image} has no label {LABEL}, and there is no {FILE_NAME} in {directory.resolve()}: "
            "what to test is not known",
            hint="build it with `mlship build`, or write an mlship.yaml with `mlship init` (-C names its folder)",
        )
    return SmokeSpec.from_config(load_config(directory))


def _limited(spec: "SmokeSpec", memory: str | None, timeout: float | None) -> "SmokeSpec":
    """The limits of the command line instead of the image's."""
    from mlship.errors import UsageError
    from mlship.units import bytes_of

    if memory is not None:
        try:
            spec = replace(spec, memory=bytes_of(memory))
        except ValueError as error:
            raise UsageError(f"--memory: {error}", hint="write it as 512m or 2g") from error
    if timeout is not None:
        spec = replace(spec, load_seconds=timeout, startup_seconds=timeout)
    return spec
