"""`mlship export`."""

from pathlib import Path
from typing import Annotated

import typer

from mlship.cli.options import HERE, Capabilities, Directory, Driver, Platform


def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for the build.", show_default=False)],
    secrets: Annotated[
        Path | None,
        typer.Option("--secrets", metavar="FOLDER", help="New folder for pip's settings here, with credentials."),
    ] = None,
    directory: Directory = HERE,
    platform: Platform = None,
    driver: Driver = None,
    compute_capability: Capabilities = None,
) -> None:
    """Write a folder that `docker build` builds without mlship.

    It holds the Dockerfile and every file that it needs, and gives the same layers as `mlship build`. Its image is
    not proven; `mlship smoke` proves it.
    """
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
