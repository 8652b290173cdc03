"""`mlship fits`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from mlship.cli.options import HERE, Capabilities, Driver, Json, check_host, show_result
from mlship.console import emit, say
from mlship.errors import UsageError

if TYPE_CHECKING:
    from mlship.lock.foreign import ForeignLock


_Form: TypeAlias = Literal["nfd", "affinity", "claim"]
_Lock = Annotated[
    str,
    typer.Argument(
        metavar="LOCK|IMAGE",
        help="Any lock, `pip freeze` or `conda list` output, an environment's folder, or an image.",
    ),
]
_Hosts = Annotated[Path, typer.Option(metavar="DIR", help="Folder of host files.", file_okay=False)]
_Platform = Annotated[str | None, typer.Option(help="Platform of a lock. [default: linux/amd64]", metavar="OS/ARCH")]
_As = Annotated[
    _Form | None,
    typer.Option("--as", help="Print where it runs, for a cluster: NFD's artifact, node affinity, or a DRA claim."),
]
_FILES = (".txt", ".lock", ".toml", ".in", ".json")


def fits_command(  # noqa: PLR0913, PLR0917  one argument an option is how Typer works
    lock: _Lock,
    hosts: _Hosts = Path("hosts"),
    driver: Driver = None,
    compute_capability: Capabilities = None,
    platform: _Platform = None,
    as_: _As = None,
    json: Json = False,
) -> None:
    """Show whether a lock or an image runs on GPU hosts. Needs no project.

    Exit code 4: a host does not run it, or that is unknown.
    """
    from mlship.cuda.fit.fits import fit_lock
    from mlship.cuda.hosts.nvml import fleet_of
    from mlship.cuda.hosts.profile import named_fleet
    from mlship.report.fits import show_fits

    check_host(driver, compute_capability)
    if as_:
        _print_promise(lock, platform, as_, alone=not (driver or json))
        return
    read, platform, notes = _read(lock, platform)
    fleet = named_fleet(driver, tuple(compute_capability or ()), platform) if driver else fleet_of(HERE, str(hosts))
    found = fit_lock(read, fleet, platform)
    found = replace(found, notes=(*found.notes, *notes))
    document = {"schema": 1, "lock": lock, "origin": fleet.origin, "platform": platform, **vars(found)}
    show_result(document, lambda _: show_fits(found, lock, fleet.origin), json=json)
    if found.outcome != "runs":
        raise typer.Exit(4)


def _print_promise(lock: str, platform: str | None, form: _Form, *, alone: bool) -> None:
    """Print the GPUs and drivers that run it, for a cluster to choose its nodes by."""
    from mlship.cuda.fit.cluster import cluster_yaml
    from mlship.cuda.fit.promise import promise_of_lock

    if not alone:
        raise UsageError(
            "`--as` cannot be used with `--driver` or `--json`: it covers all GPUs and prints YAML",
            hint="remove one of them",
        )
    read, platform, _ = _read(lock, platform)
    emit(cluster_yaml(promise_of_lock(read, platform), form))


def _read(lock: str, platform: str | None) -> "tuple[ForeignLock, str, tuple[str, ...]]":
    """The packages, their platform and notes: of a file, or of an image where there is no such file."""
    from mlship.lock.foreign import read_foreign_lock
    from mlship.project.base import PLATFORMS

    if platform not in {None, *PLATFORMS}:
        raise UsageError(f"unsupported platform `{platform}`", hint=f"use {' or '.join(PLATFORMS)}")
    if Path(lock).exists() or lock.endswith(_FILES) or lock.startswith((".", "/", "~")):
        platform = platform or "linux/amd64"
        return _with_code(read_foreign_lock(Path(lock), platform), platform), platform, ()
    from mlship.build.installed import packages_of
    from mlship.build.preflight import check_reference

    if platform:
        raise UsageError("`--platform` cannot be used with an image, which has its own", hint="remove `--platform`")
    return packages_of(check_reference(lock), say)


def _with_code(lock: "ForeignLock", platform: str) -> "ForeignLock":
    """What builds on this machine have measured in these wheels."""
    from mlship.lock.measured import CodeCache, with_cached_code
    from mlship.resources import cache_folder

    return replace(lock, pins=with_cached_code(lock.pins, CodeCache(cache_folder(), platform)))
