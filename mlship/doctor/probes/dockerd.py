"""The Docker daemon as a process of this host: start time, PATH and configuration file."""

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlship import plain
from mlship.doctor.facts.fact import UNKNOWN, Fact
from mlship.doctor.facts.host import DaemonJson
from mlship.doctor.probes import files, moments
from mlship.doctor.probes.kernel import boot_time

HOOKS = ("nvidia-container-runtime-hook", "nvidia-cdi-hook")
_SNAP_CONFIG = "/var/snap/docker/current/config/daemon.json"
_CONFIG = "/etc/docker/daemon.json"


@dataclass(frozen=True)
class Daemon:
    """A running dockerd.

    Attributes:
        pid: in this host's PID namespace.
        uid: 0 unless it is rootless.
        argv: its command line.
    """

    pid: int
    uid: int
    argv: tuple[str, ...]


def find_daemon(root: Path, *, rootless: bool) -> Daemon | None:
    """The daemon that runs as root, or the first rootless one; None if /proc shows none."""
    return next((one for one in _daemons(root) if (one.uid != 0) == rootless), None)


def _daemons(root: Path) -> list[Daemon]:
    found = []
    with suppress(OSError):
        for folder in files.below(root, "/proc").iterdir():
            with suppress(OSError):
                if folder.name.isdigit() and (folder / "comm").read_text().strip() == "dockerd":
                    argv = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    found.append(Daemon(int(folder.name), folder.stat().st_uid, tuple(filter(None, argv))))
    return sorted(found, key=lambda one: one.pid)


def started_at(root: Path, daemon: Daemon) -> Fact[str]:
    """Start time: boot time plus the ticks since boot."""
    stat, boot = (files.text_of(files.below(root, f"/proc/{name}")) or "" for name in (f"{daemon.pid}/stat", "stat"))
    ticks = stat.rpartition(")")[2].split()[19:20]  # field 22; the name in brackets may contain spaces
    return moments.moment_after(boot_time(boot), int(ticks[0]) / os.sysconf("SC_CLK_TCK")) if ticks else UNKNOWN


def hooks(root: Path, daemon: Daemon) -> Fact[dict[str, Fact[str]]]:
    """The toolkit's hooks on its PATH, which it searches once at start-up."""
    path = _path(root, daemon)
    if not isinstance(path, str):
        return path
    its_root = files.below(root, f"/proc/{daemon.pid}/root")
    seen = root
    with suppress(OSError):  # the file system view of a snap or rootless daemon, if accessible
        seen = its_root if any(its_root.iterdir()) else root
    folders = tuple(filter(None, path.split(":")))
    return {name: files.program(seen, name, folders) if folders else None for name in HOOKS}


def _path(root: Path, daemon: Daemon) -> Fact[str]:
    environ = files.text_at(root, f"/proc/{daemon.pid}/environ")
    if isinstance(environ, str):
        return next((entry[5:] for entry in environ.split("\0") if entry.startswith("PATH=")), "")
    return _unit_path(root, daemon) or environ or UNKNOWN


def _unit_path(root: Path, daemon: Daemon) -> str | None:
    """The PATH that systemd sets for docker.service, readable by every user."""
    argv = ["systemctl", "show", "docker.service", "--property=MainPID,Environment,EnvironmentFiles"]
    unit = files.run_here(root, argv, 1)
    if unit is None or f"MainPID={daemon.pid}" not in unit.lines or "EnvironmentFiles=/" in unit.stdout:
        return None
    own = re.search(r"^Environment=.*?\bPATH=(\S+)", unit.stdout, re.MULTILINE)
    if own:
        return own[1]
    manager = files.run_here(root, ["systemctl", "show-environment"], 1)
    found = re.search(r"^PATH=(\S+)", manager.stdout, re.MULTILINE) if manager else None
    return found[1] if found else None


def config_path(daemon: Daemon | None, *, rootless: bool, snap: bool) -> str:
    named = re.search(r"\0--config-file[=\0]([^\0]+)", "\0".join(daemon.argv if daemon else ()))
    if named:
        return named[1]
    if snap:
        return _SNAP_CONFIG
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return f"{home}/docker/daemon.json" if rootless else _CONFIG


def daemon_json(root: Path, path: str) -> Fact[DaemonJson]:
    """daemon.json; None if there is no such file."""
    found = files.text_at(root, path)
    if not isinstance(found, str):
        return found
    modified = moments.moment(files.below(root, path).stat().st_mtime)
    try:
        tree: object = json.loads(found)
    except (ValueError, RecursionError) as error:
        return DaemonJson(path=path, modified_at=modified, error=str(error))
    if not isinstance(tree, dict):
        return DaemonJson(path=path, modified_at=modified, error="not a JSON object")
    return DaemonJson(
        path=path,
        runtimes={name: plain.text(one, "path") or "" for name, one in plain.table(tree, "runtimes").items()},
        default_runtime=plain.text(tree, "default-runtime"),
        cdi=plain.flag(tree, "features", "cdi"),
        exec_opts=plain.texts(tree, "exec-opts"),
        modified_at=modified,
        error=None,
    )
