"""Install packages on Debian for scripts/engine, with one extra apt source. Nothing is removed."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from _machine import RUN_AGAIN, Problem, Result, code_for, last_lines, run, run_unbroken, say, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ENGINE_PACKAGES = ("docker.io", "docker-cli", "docker-buildx", "containerd")
BUILDX_PACKAGES = ("docker-buildx",)
STANDIN_PACKAGES = ("mmdebstrap", "docker-registry")
# Other programs read in the tests what mlship wrote to a registry, and run what it exports. Debian 12 has no oras, and
# Compose 1.
JUDGE_PACKAGES = {"skopeo": False, "oras": True, "docker-compose": True}  # whether the package comes from trixie

_APT = Path("/etc/apt")
_SOURCE = _APT / "sources.list.d/mlship-trixie.sources"
_PIN = _APT / "preferences.d/mlship-trixie"
_POLICY = Path("/usr/sbin/policy-rc.d")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_TRIXIE = 13


@dataclass(frozen=True)
class Mirror:
    """The Debian mirror of this machine, which containers use too, so that no other host has to be reachable."""

    main: str = "http://deb.debian.org/debian"
    security: str = ""
    keyring: str = _KEYRING


@dataclass(frozen=True)
class _Source:
    uri: str
    suites: tuple[str, ...]
    keyring: str


def os_release() -> dict[str, str]:
    with contextlib.suppress(OSError):
        lines = Path("/etc/os-release").read_text().splitlines()
        return {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}
    return {}


def can_install() -> bool:
    """Whether packages can be installed. Debian only: packages from trixie can break its derivatives."""
    return os_release().get("ID") == "debian" and os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str], *, trixie: bool) -> None:
    """Install packages, with `trixie` from that release, and start no services."""
    older = _is_older_than_trixie(os_release())
    names = [f"{name}/trixie" if trixie and older else name for name in packages]
    say(f"installing {' '.join(packages)} with apt")
    if trixie and older:
        _add_trixie()
    with _no_services_started():
        _install([*names, *_companions(packages)], lists_are_fresh=not trixie)
    _keep_services_off(packages)


def _install(names: Sequence[str], *, lists_are_fresh: bool) -> None:
    """Try without `apt-get update` first if the lists may be fresh, which saves seconds; then with it."""
    refreshed = Result(0, "", "") if lists_are_fresh else _apt(["update"])
    done = _apt(["install", "-y", "--no-install-recommends", "--no-remove", *names])
    if not done.ok and lists_are_fresh:
        return _install(names, lists_are_fresh=False)
    if not done.ok:
        output = done.err if refreshed.ok else f"{refreshed.err}\n{done.err}"
        what, hint = f"`apt-get` cannot install {' '.join(names)}", f"fix the cause, then {RUN_AGAIN}"
        raise Problem(what, last_lines(output), hint, code_for(output))
    return None


def mirror() -> Mirror:
    """The machine's Debian source, or Debian's public mirror if no source of the machine works in a container."""
    codename = os_release().get("VERSION_CODENAME", "")
    main = next((source for source in _sources() if codename in source.suites), None)
    security = next((source.uri for source in _sources() if f"{codename}-security" in source.suites), "")
    if main is None:
        return Mirror()
    return Mirror(main.uri, security, main.keyring)


def _apt(arguments: list[str]) -> Result:
    options = ["-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"]
    return run_unbroken(["apt-get", *options, *arguments], {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"})


def _companions(packages: Sequence[str]) -> list[str]:
    # dockerd needs the iptables program for its bridge network; the one of the machine's own release works.
    return ["iptables"] if "docker.io" in packages else []


def _add_trixie() -> None:
    own = mirror()
    # Priority 100 is below the installed release's 500: apt takes from trixie only what names it.
    write_whole(_PIN, "Package: *\nPin: release n=trixie\nPin-Priority: 100\n")
    write_whole(_SOURCE, f"Types: deb\nURIs: {own.main}\nSuites: trixie\nComponents: main\nSigned-By: {own.keyring}\n")


def _is_older_than_trixie(release: dict[str, str]) -> bool:
    # Testing and unstable have no VERSION_ID; both are newer than trixie or equal to it.
    number = release.get("VERSION_ID", "")
    return number.isdigit() and int(number) < _TRIXIE


@contextlib.contextmanager
def _no_services_started() -> Iterator[None]:
    """Keep Debian from starting services on installation; this script starts them with its own configuration."""
    created = not _POLICY.exists()
    if created:
        write_whole(_POLICY, "#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if created:
            _POLICY.unlink(missing_ok=True)


def _keep_services_off(packages: Sequence[str]) -> None:
    """Disable the services: after a reboot, Debian's docker-registry would listen on all interfaces."""
    units = {"docker-registry": ["docker-registry.service"], "docker.io": ["docker.service", "docker.socket"]}
    for package in packages:
        if package in units and shutil.which("systemctl"):
            run(["systemctl", "disable", "--quiet", *units[package]])


def _sources() -> list[_Source]:
    found: list[_Source] = []
    for path in sorted(_APT.glob("sources.list.d/*.sources")):
        if path != _SOURCE:
            found += parse_deb822(path.read_text(errors="replace"))
    for path in [_APT / "sources.list", *sorted(_APT.glob("sources.list.d/*.list"))]:
        if path.exists():
            found += parse_one_line(path.read_text(errors="replace"))
    # Schemes such as mirror+file: name files of this machine, which a container does not have.
    return [source for source in found if source.uri.startswith(("http://", "https://"))]


def parse_deb822(text: str) -> list[_Source]:
    """Parse a .sources file, ignoring comments and continuation lines (an embedded key)."""
    found = []
    for stanza in text.split("\n\n"):
        lines = [line.partition(":") for line in stanza.splitlines() if line and line[0] not in "# \t"]
        fields = {key.strip().lower(): value.strip() for key, _, value in lines}
        if "deb" in fields.get("types", "").split() and fields.get("uris") and fields.get("enabled") != "no":
            found.append(
                _source(fields["uris"].split()[0], fields.get("suites", "").split(), fields.get("signed-by", ""))
            )
    return found


def parse_one_line(text: str) -> list[_Source]:
    """Parse lines such as `deb [options] URI SUITE COMPONENT...`."""
    found = []
    for line in text.splitlines():
        kind, _, rest = line.strip().partition(" ")
        options, rest = rest.strip()[1:].split("]", 1) if rest.strip().startswith("[") and "]" in rest else ("", rest)
        keyring = next((o.partition("=")[2] for o in options.split() if o.lower().startswith("signed-by=")), "")
        if kind == "deb" and len(rest.split()) >= 2:
            found.append(_source(rest.split()[0], [rest.split()[1]], keyring))
    return found


def _source(uri: str, suites: Sequence[str], keyring: str) -> _Source:
    return _Source(uri.rstrip("/"), tuple(suites), keyring if keyring.startswith("/") else _KEYRING)
