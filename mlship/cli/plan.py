"""`mlship plan`, `mlship dockerfile` and `mlship export`: what a build does, without building."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlship.cli.options import HERE, Capabilities, Directory, Driver, Json, Platform, fleet_finder
from mlship.console import emit, say, warn
from mlship.errors import UsageError
from mlship.units import count_of


def plan_command(
    directory: Directory = HERE,
    platform: Platform = None,
    driver: Driver = None,
    compute_capability: Capabilities = None,
    json: Json = False,
) -> None:
    """Show what will be built, and why. Needs no container engine and no network."""
    from mlship.build.prepare import prepare
    from mlship.report.plan import show_plan

    prepared = prepare(directory, platform, fleet_finder(directory, driver, compute_capability))
    for warning in prepared.warnings:
        warn(warning)
    if json:
        emit(prepared.plan.to_json())
    else:
        show_plan(prepared.plan)


def dockerfile_command(
    directory: Directory = HERE,
    platform: Platform = None,
    driver: Driver = None,
    compute_capability: Capabilities = None,
) -> None:
    """Print the Dockerfile that `mlship build` builds."""
    from mlship.build.prepare import prepare

    emit(prepare(directory, platform, fleet_finder(directory, driver, compute_capability)).dockerfile)


def export_command(  # noqa: PLR0913, PLR0917  one argument an option is how Typer works
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for the build.", show_default=False)],
    secrets: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="New folder for pip's settings here, with credentials.")
    ] = None,
    as_: Annotated[
        Literal["build", "triton", "compose"],
        typer.Option("--as", help="The build, ONNX models for Triton, or a Compose file."),
    ] = "build",
    directory: Directory = HERE,
    platform: Platform = None,
    driver: Driver = None,
    compute_capability: Capabilities = None,
) -> None:
    """Write a folder that `docker build` builds without mlship.

    It holds the Dockerfile and every file that it needs, and gives the same layers as `mlship build`. Its image is
    not proven; `mlship smoke` proves it. With `--as triton`, the folder is a model repository of Triton. With
    `--as compose`, it runs the server with Prometheus and Grafana on one machine.
    """
    if as_ != "build":
        if secrets or platform or driver or compute_capability:
            raise UsageError(f"`--as {as_}` takes no other options than `-C`", hint="remove them")
        _export_as(as_, directory, folder)
        return
    from mlship.build.export import export as write
    from mlship.build.prepare import prepare

    prepared = prepare(directory, platform, fleet_finder(directory, driver, compute_capability))
    for warning in prepared.warnings:
        warn(warning)
    done = write(prepared, folder, secrets)
    say(f"wrote {done.folder} ({count_of(done.files, 'file')}); its README.md has the commands that build it")
    if done.secrets and not secrets:
        say(f"builds on this machine use pip's settings ({', '.join(done.secrets)}): `--secrets FOLDER` writes them")


def _export_as(kind: str, directory: Path, folder: Path) -> None:
    from mlship.deploy.compose import export_compose
    from mlship.deploy.triton import export_triton
    from mlship.project.load import load_config

    config = load_config(directory)
    if kind == "compose":
        files = export_compose(directory, config, folder)
        say(f"wrote {folder} ({', '.join(files)}); the first lines of compose.yaml have the command")
        return
    for model in export_triton(directory, config, folder):
        say(f"wrote {folder / model.name}, from {model.path}")
        for note in model.notes:
            say(f"  {note}")
