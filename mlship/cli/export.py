"""`mlship export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlship.cli.options import HERE, Capabilities, Directory, Driver, Platform


class Export(StrEnum):
    """What is written."""

    BUILD = "build"
    TRITON = "triton"


def export_command(  # noqa: PLR0913, PLR0917  one argument an option is how Typer works
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for the build.", show_default=False)],
    secrets: Annotated[
        Path | None,
        typer.Option("--secrets", metavar="FOLDER", help="New folder for pip's settings here, with credentials."),
    ] = None,
    as_: Annotated[Export, typer.Option("--as", help="The build, or the ONNX models for Triton.")] = Export.BUILD,
    directory: Directory = HERE,
    platform: Platform = None,
    driver: Driver = None,
    compute_capability: Capabilities = None,
) -> None:
    """Write a folder that `docker build` builds without mlship.

    It holds the Dockerfile and every file that it needs, and gives the same layers as `mlship build`. Its image is
    not proven; `mlship smoke` proves it. With `--as triton`, the folder is a model repository of Triton.
    """
    if as_ is Export.TRITON:
        _export_triton(directory, folder, alone=not (secrets or platform or driver or compute_capability))
        return
    from mlship.build.export import export as write
    from mlship.build.prepare import prepare
    from mlship.cli.options import fleet_finder
    from mlship.console import say, warn

    prepared = prepare(directory, platform, fleet_finder(directory, driver, compute_capability))
    for warning in prepared.warnings:
        warn(warning)
    done = write(prepared, folder, secrets)
    say(f"wrote {done.folder} ({done.files} files); its README.md has the commands that build it")
    if done.secrets and not secrets:
        say(f"builds on this machine use pip's settings ({', '.join(done.secrets)}): `--secrets FOLDER` writes them")


def _export_triton(directory: Path, folder: Path, *, alone: bool) -> None:
    from mlship.console import say
    from mlship.deploy.triton import export_triton
    from mlship.errors import UsageError
    from mlship.project.load import load_config

    if not alone:
        raise UsageError("`--as triton` takes no other options than `-C`", hint="remove them")
    for model in export_triton(directory, load_config(directory), folder):
        say(f"wrote {folder / model.name}, from {model.path}")
        for note in model.notes:
            say(f"  {note}")
