"""`mlship fits`."""

from pathlib import Path
from typing import Annotated

import typer

from mlship.cli.options import HERE, Capabilities, Driver, Json

_Lock = Annotated[
    Path,
    typer.Argument(metavar="LOCK", help="Any lock, `pip freeze` or `conda list` output, or an environment's folder."),
]
_Hosts = Annotated[Path, typer.Option("--hosts", metavar="DIR", help="Folder of host files.", file_okay=False)]
_Platform = Annotated[str, typer.Option("--platform", help="Platform of the hosts.", metavar="OS/ARCH")]


def fits(
    lock: _Lock,
    hosts: _Hosts = Path("hosts"),
    driver: Driver = None,
    compute_capability: Capabilities = None,
    platform: _Platform = "linux/amd64",
    json: Json = False,
) -> None:
    """Tell whether a lock runs on GPU hosts, and why; no project, engine or network needed.

    Exit code 4 if a host does not run it, or if that is unknown.
    """
    from mlship.cli.options import check_host
    from mlship.console import emit
    from mlship.cuda.fit.fits import fit_lock
    from mlship.cuda.hosts.nvml import fleet_of
    from mlship.cuda.hosts.profile import named_fleet
    from mlship.errors import UsageError
    from mlship.lock.foreign import read_foreign_lock
    from mlship.project.base import PLATFORMS
    from mlship.report.fits import show_fits
    from mlship.versioned import to_json

    if platform not in PLATFORMS:
        raise UsageError(f"unsupported platform `{platform}`", hint=f"use {' or '.join(PLATFORMS)}")
    check_host(driver, compute_capability)
    read = read_foreign_lock(lock, platform)
    fleet = named_fleet(driver, tuple(compute_capability or ()), platform) if driver else fleet_of(HERE, str(hosts))
    found = fit_lock(read, fleet, platform)
    if json:
        emit(to_json({"schema": 1, "lock": str(lock), "origin": fleet.origin, "platform": platform, **vars(found)}))
    else:
        show_fits(found, str(lock), fleet.origin)
    if found.outcome != "runs":
        raise typer.Exit(4)
