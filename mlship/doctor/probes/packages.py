"""Relevant packages of the distribution: installed versions, history and sources."""

import gzip
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from mlship.doctor.facts.fact import UNKNOWN, Fact
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Host, PackageAction, PackageChange, Packages, PackageSource
from mlship.doctor.probes import moments
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.files import below, live, names_in, text_of
from mlship.doctor.probes.tables import probe_tables
from mlship.driver.child import run_child

_NVIDIA_SOURCE = re.compile(r"nvidia", re.IGNORECASE)
_MOST = 200


def read_packages(look: Look) -> Facts:
    """Reads the files of dpkg, pacman and apk; runs rpm if programs may be run."""
    root = look.root
    kind = next((name for path, name in probe_tables().managers.items() if below(root, path).exists()), None)
    return Facts(
        host=Host(
            packages=Packages(
                manager=kind or UNKNOWN,
                installed=installed_packages(root, kind),
                history=history(root, kind),
                sources=sources(root),
            )
        )
    )


def installed_packages(root: Path, kind: str | None) -> Fact[dict[str, str]]:
    if kind == "apt":
        return dpkg_status(text_of(below(root, "/var/lib/dpkg/status")) or "")
    if kind == "apk":
        pairs = re.findall(r"^P:(.+)\nV:(.+)$", text_of(below(root, "/lib/apk/db/installed")) or "", re.MULTILINE)
        return _ours(pairs)
    if kind == "pacman":
        names = names_in(below(root, "/var/lib/pacman/local")) or ()
        return _ours(tuple(found.groups()) for name in names if (found := re.match(r"(.+)-([^-]+-[^-]+)$", name)))
    if kind and live(root):
        ended = run_child(("rpm", "-qa", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE}\\n"), 3.5)
        return _ours(tuple(line.split(" ", 1)) for line in ended.lines if " " in line) if ended.ok else UNKNOWN
    return UNKNOWN


def dpkg_status(text: str) -> dict[str, str]:
    """Relevant installed packages from /var/lib/dpkg/status. Pure."""
    pairs = []
    for entry in text.split("\n\n"):
        name, version = (re.search(rf"^{key}: (.+)$", entry, re.MULTILINE) for key in ("Package", "Version"))
        if name and version and re.search(r"^Status: \S+ \S+ installed$", entry, re.MULTILINE):
            pairs.append((name[1], version[1]))
    return _ours(pairs)


def _matters(package: str) -> bool:
    return re.match(probe_tables().packages, package) is not None


def _ours(pairs: Iterable[tuple[str, ...] | list[str]]) -> dict[str, str]:
    return dict(sorted((pair[0], pair[1]) for pair in pairs if len(pair) > 1 and _matters(pair[0])))


def history(root: Path, kind: str | None) -> Fact[tuple[PackageChange, ...]]:
    if kind == "apt":
        folder = below(root, "/var/log/apt")
        texts = [_log(folder / name) for name in ("history.log.2.gz", "history.log.1.gz", "history.log")]
        return UNKNOWN if texts[-1] is None else apt_history("\n\n".join(text or "" for text in texts))
    if kind == "dnf":
        text = text_of(below(root, "/var/log/dnf.rpm.log"))
        return UNKNOWN if text is None else dnf_history(text)
    return UNKNOWN


def _log(path: Path) -> str | None:
    if path.suffix != ".gz":
        return text_of(path)
    try:
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
            return file.read(4_000_000)
    except (OSError, EOFError):
        return None


def apt_history(text: str) -> tuple[PackageChange, ...]:
    """Changes from /var/log/apt/history.log, which has local times. Pure except for the time zone."""
    found: list[PackageChange] = []
    for entry in re.split(r"\n\s*\n", text):
        fields = dict(line.partition(": ")[::2] for line in entry.strip().splitlines())
        command = fields.get("Commandline", "")
        by = "unattended-upgrade" if "unattended-upgrade" in command else command.split(" ")[0] or UNKNOWN
        at = _utc(" ".join(fields.get("Start-Date", "").split()), "%Y-%m-%d %H:%M:%S")
        for key, action in probe_tables().apt.items():
            for package, versions in re.findall(r"([^\s:,]+)(?::\w+)? \(([^)]*)\)", fields.get(key, "")):
                if _matters(package):
                    found.append(_change(at, action, package, versions, by))
    return tuple(found[-_MOST:])


def _change(at: Fact[str], action: PackageAction, package: str, versions: str, by: Fact[str]) -> PackageChange:
    words = [word for word in versions.split(", ") if word != "automatic"] or [""]
    old = None if action == "install" else words[0] or UNKNOWN
    new = None if action == "remove" else words[-1] or UNKNOWN
    return PackageChange(at=at, action=action, package=package, old=old, new=new, by=by)


def _utc(text: str, layout: str) -> Fact[str]:
    try:
        return moments.moment(datetime.strptime(text, layout).astimezone().timestamp())
    except (ValueError, OverflowError):
        return UNKNOWN


def dnf_history(text: str) -> tuple[PackageChange, ...]:
    """Changes from /var/log/dnf.rpm.log, best effort: new and old packages have separate lines. Pure."""
    pattern = r"^(\S+) \S+ (\w+): (.+)-(?:\d+:)?([^-\s]+-[^-\s]+)\.\w+$"
    found = []
    for at, verb, package, version in re.findall(pattern, text, re.MULTILINE):
        action = probe_tables().dnf.get(verb)
        if action and _matters(package):
            old, new = (version, None) if action == "remove" else (UNKNOWN, version)
            found.append(PackageChange(_utc(at, "%Y-%m-%dT%H:%M:%S%z"), action, package, old, new))
    return tuple(found[-_MOST:])


def sources(root: Path) -> Fact[tuple[PackageSource, ...]]:
    """Entries for NVIDIA in the sources of apt, dnf and zypper."""
    found: list[PackageSource] = []
    folders = ("/etc/apt/sources.list.d", "/etc/yum.repos.d", "/etc/zypp/repos.d")
    listed = [f"{folder}/{name}" for folder in folders for name in names_in(below(root, folder)) or ()]
    for path in ("/etc/apt/sources.list", *listed):
        text = text_of(below(root, path))
        if text and path.endswith((".list", ".sources", ".repo")):
            found += [PackageSource(path, uri, key) for uri, key in entries(path, text) if _NVIDIA_SOURCE.search(uri)]
    return tuple(found)


def entries(path: str, text: str) -> Iterator[tuple[str, str | None]]:
    """Address and key file of each enabled entry. Pure."""
    if path.endswith(".list"):
        for options, uri in re.findall(r"^\s*deb(?:-src)?\s+(?:\[([^\]]*)\]\s+)?(\S+)", text, re.MULTILINE):
            key = re.search(r"signed-by=(\S+)", options)
            yield uri, key[1] if key else None
    elif path.endswith(".sources"):
        for entry in re.split(r"\n\s*\n", text):
            rows = (row.partition(":") for row in entry.splitlines())
            fields = {key.lower(): value.strip() for key, _, value in rows}
            if fields.get("enabled", "yes").lower() != "no":
                yield from ((uri, fields.get("signed-by") or None) for uri in fields.get("uris", "").split())
    else:
        for entry in re.split(r"^\[", text, flags=re.MULTILINE):
            uri, key = (re.search(rf"^{name}\s*=\s*(\S+)", entry, re.MULTILINE) for name in ("baseurl", "gpgkey"))
            if uri and not re.search(r"^enabled\s*=\s*0", entry, re.MULTILINE):
                yield uri[1], key[1] if key else None
