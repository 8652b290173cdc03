"""What scripts/engine does to a Debian machine: one extra apt source, and packages from it. Nothing is removed."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from _machine import Problem, Result, code_for, last_lines, run, run_unbroken, say, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ENGINE_PACKAGES = ("docker.io", "docker-cli", "docker-buildx", "containerd")
BUILDX_PACKAGES = ("docker-buildx",)
STANDIN_PACKAGES = ("mmdebstrap", "docker-registry")

_APT = Path("/etc/apt")
_SOURCE = _APT / "sources.list.d/mlship-trixie.sources"
_PIN = _APT / "preferences.d/mlship-trixie"
_POLICY = Path("/usr/sbin/policy-rc.d")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_TRIXIE = 13


@dataclass(frozen=True)
class Mirror:
    """Where this machine gets Debian from, so that nothing else has to be reachable."""

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
    """Only Debian itself: on its derivatives, packages from trixie can break the machine."""
    return os_release().get("ID") == "debian" and os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str], *, trixie: bool) -> None:
    """Install packages, those of the engine from trixie; no service is started by it."""
    older = _is_older_than_trixie(os_release())
    names = [f"{name}/trixie" if trixie and older else name for name in packages]
    say(f"installing {' '.join(packages)} with apt")
    if trixie and older:
        _add_trixie()
    with _no_services_started():
        _install([*names, *_companions(packages)], lists_are_fresh=not trixie)
    _keep_services_off(packages)


def _install(names: Sequence[str], *, lists_are_fresh: bool) -> None:
    """Without `apt-get update` first, if the lists may do as they are: it costs seconds. With it where they did not."""
    refreshed = Result(0, "", "") if lists_are_fresh else _apt(["update"])
    done = _apt(["install", "-y", "--no-install-recommends", "--no-remove", *names])
    if not done.ok and lists_are_fresh:
        return _install(names, lists_are_fresh=False)
    if not done.ok:
        words = f"{refreshed.err}\n{done.err}" if not refreshed.ok else done.err
        remedy = "mend that, then: scripts/engine up"
        raise Problem(f"apt-get could not install {' '.join(names)}", last_lines(words), remedy, code_for(words))
    return None


def mirror() -> Mirror:
    """The machine's own Debian source, or Debian's public mirror where it has none that others can use."""
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
    # dockerd needs the iptables program for its bridge network; the machine's own release of it will do.
    return ["iptables"] if "docker.io" in packages else []


def _add_trixie() -> None:
    here = mirror()
    # Priority 100 is below the installed release's 500: trixie is used only where it is asked for by name.
    write_whole(_PIN, "Package: *\nPin: release n=trixie\nPin-Priority: 100\n")
    write_whole(
        _SOURCE, f"Types: deb\nURIs: {here.main}\nSuites: trixie\nComponents: main\nSigned-By: {here.keyring}\n"
    )


def _is_older_than_trixie(release: dict[str, str]) -> bool:
    # Testing and unstable have no VERSION_ID; both are newer.
    number = release.get("VERSION_ID", "")
    return number.isdigit() and int(number) < _TRIXIE


@contextlib.contextmanager
def _no_services_started() -> Iterator[None]:
    """Debian starts a service as its package comes in; this script starts its own, with its own configuration."""
    mine = not _POLICY.exists()
    if mine:
        write_whole(_POLICY, "#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if mine:
            _POLICY.unlink(missing_ok=True)


def _keep_services_off(packages: Sequence[str]) -> None:
    """Debian's docker-registry would listen on all interfaces from the next boot on."""
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
    # mirror+file: and the like name files of this machine, which a container does not have.
    return [source for source in found if source.uri.startswith(("http://", "https://"))]


def parse_deb822(text: str) -> list[_Source]:
    """The stanzas of a .sources file; comments and continued lines (an embedded key) are passed over."""
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
    """`deb [options] URI SUITE COMPONENT...`, one a line."""
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
