"""Commands to copy, for the place where they are run: its distribution, its engine, and what it lets a user change.

A program that the place lacks is never printed (`at_place`), and nothing is assumed about a place that is unknown.
Values from the facts are quoted: a facts file from someone else must not put its own commands on the clipboard.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from shlex import quote
from typing import Literal

from mlship.doctor.facts.fact import is_absent, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Containerd
from mlship.doctor.finding import Step
from mlship.doctor.queries import is_ubuntu, is_wsl, variable
from mlship.versioned import table_reader

WSL_1 = re.compile(r"^\d+\.\d+\.\d+-\d+-Microsoft$")
_NOTHING = "?"  # where there is no command: `at_place` drops it
_SHELL = re.compile(r"\|\||&&|[;|]|\$\(")
_SETTING = re.compile(r"^\w+=")
_RESTART = "sudo systemctl restart "


@dataclass(frozen=True)
class PackageManager:
    """A row of mlship/data/places.toml, which explains the keys."""

    name: str = ""
    systems: tuple[str, ...] = ()
    source: str = ""
    install: str = ""
    headers: str = ""
    kernels: dict[str, str] = field(default_factory=dict)
    initramfs: str = ""
    add_option: tuple[str, ...] = ()
    remove_option: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class DriverPackages:
    """A row of [drivers] in mlship/data/places.toml, which explains the keys."""

    first: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    old: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    legacy: tuple[str, ...] = ()
    r470: tuple[str, ...] = ()
    hold: str = ""
    source: str = ""


@dataclass(frozen=True)
class PlaceTable:
    """mlship/data/places.toml."""

    drivers: dict[str, DriverPackages]
    managers: tuple[PackageManager, ...]
    programs: dict[str, str]
    unchangeable: dict[str, tuple[str, ...]]
    libcuda: dict[str, dict[str, str]]
    restarts: dict[str, str]


place_data = table_reader(PlaceTable, "places")


def _row(facts: Facts) -> PackageManager:
    """The package manager of this host; without a name and commands if it is unknown."""
    rows, system = place_data().managers, facts.host.os
    of = {name: row for row in rows for name in row.systems}
    name, release = known(system.id) or "", (known(system.version_id) or "").partition(".")[0]
    build = re.search(r"[-+][A-Za-z]+$", known(facts.kernel.release) or "-")
    own = of.get(build[0] if build else "") or of.get(f"{name}-{release}") or of.get(name)
    if known(looked_up(facts.host.paths, "/run/ostree-booted")) and not (own and own.note):
        return rows[0]
    recorded = next((row for row in rows if row.name == known(facts.host.packages.manager)), None)
    like = (of[name] for name in (known(system.like) or "").split() if name in of)
    return own or recorded or next(like, PackageManager())


def manager(facts: Facts) -> str | None:
    return _row(facts).name or None


def install_start(facts: Facts) -> str:
    """The command up to the package's name."""
    return _row(facts).install or _NOTHING


def install_command(facts: Facts, *packages: str) -> str:
    return f"{install_start(facts)} {' '.join(packages)}"


def headers(facts: Facts) -> str:
    """Install the headers of the running kernel."""
    row, release = _row(facts), known(facts.kernel.release) or ""
    package = next((name for end, name in row.kernels.items() if re.search(end, release)), row.headers)
    return install_command(facts, package) if package else _NOTHING


def initramfs(facts: Facts) -> str:
    return _row(facts).initramfs or _NOTHING


def hold_driver(facts: Facts) -> str:
    """Pin the driver's packages to their version."""
    names, hold = known(facts.host.packages.installed), _driver_packages(facts).hold
    by_packages = names is None or any("nvidia" in name and "container" not in name for name in names)
    return hold if hold and by_packages else _NOTHING


def _driver_packages(facts: Facts) -> DriverPackages:
    kind, name, like = manager(facts) or "", known(facts.host.os.id), known(facts.host.os.like) or ""
    of_fedora = name == "fedora" or (kind == "ostree" and "rhel" not in f"{name} {like}")
    family = "fedora-" if of_fedora else "ubuntu-" if kind == "apt" and is_ubuntu(facts) else ""
    return place_data().drivers.get(f"{family}{kind}", DriverPackages())


def install_driver(facts: Facts, last: int | None) -> tuple[str, ...]:
    """As the distribution documents it, from its own packages if it has them; `last`: of which branch at most."""
    row = _driver_packages(facts)
    return replace_driver(facts, last, own=True) if last else _filled(facts, (*row.first, *row.new))


def replace_driver(facts: Facts, last: int, *, own: bool) -> tuple[str, ...]:
    """Install the proprietary driver of this branch; with `own`, the distribution's own if that is none of a later."""
    row = _driver_packages(facts)
    named = row.r470 if last == 470 and row.r470 else (own and row.old) or row.legacy
    return _filled(facts, (*row.first, *named) if last >= 470 else (), last)  # few distributions have an older one


def _filled(facts: Facts, templates: tuple[str, ...], branch: int = 0) -> tuple[str, ...]:
    start, of_kernel = install_start(facts), headers(facts)
    templates = templates or (_NOTHING,)
    return tuple(one.format(install=start, headers=of_kernel, branch=branch) for one in templates)


def install_open_driver(facts: Facts, least: int) -> tuple[str, ...]:
    """Install the driver with the open kernel module, of this branch or newer."""
    row = _driver_packages(facts)
    return _filled(facts, row.open or row.first, least)


def remove_option(facts: Facts, option: str) -> tuple[str, ...]:
    """Remove an option from the kernel command line, from the next boot on."""
    return tuple(one.format(option=quote(option)) for one in _row(facts).remove_option or (_NOTHING,))


def add_option(facts: Facts, option: str) -> tuple[str, ...]:
    """Add an option to the kernel command line, from the next boot on."""
    return tuple(one.format(option=quote(option)) for one in _row(facts).add_option or (_NOTHING,))


def engine(facts: Facts) -> Literal["docker", "podman", "nerdctl"]:
    """The engine of the container in question, or the one of this host; Docker if nothing speaks against it."""
    named, docker = known(facts.container.engine), facts.host.docker
    if named in {"docker", "podman", "nerdctl"}:
        return named  # type: ignore[return-value]  # one of the three
    if named is None and known(docker.version) is None and known(docker.binary) is None:
        if known(facts.host.podman) is not None:
            return "podman"
        if known(facts.host.containerd) is not None and known(facts.kubernetes) is None:
            return "nerdctl"
    return "docker"


def is_snap(facts: Facts) -> bool:
    """Docker is the snap, which is confined and has its own toolkit."""
    docker = facts.host.docker
    return "/snap/" in (known(docker.binary) or "") or (known(docker.root_dir) or "").startswith("/var/snap/")


def restart_engine(facts: Facts) -> str:
    """Restart the engine so that it reads its configuration; podman has no daemon."""
    if engine(facts) == "podman":
        return "# podman has no daemon: nothing to restart"
    if known(facts.host.docker.rootless):
        return "systemctl --user restart docker"
    if is_snap(facts):
        return "sudo snap restart docker"
    return f"{_RESTART}{'docker' if engine(facts) == 'docker' else 'containerd'}"


def restart_container(facts: Facts) -> str:
    return f"{engine(facts)} restart {quote(known(facts.container.name) or 'CONTAINER')}"


def gpu_options(facts: Facts) -> str:
    """The option of this engine that gives a container the GPUs."""
    if known(facts.host.tegra):
        return "--runtime=nvidia -e NVIDIA_VISIBLE_DEVICES=all"
    return "--device nvidia.com/gpu=all" if engine(facts) == "podman" else "--gpus all"


def refresh_cdi(facts: Facts) -> str:
    services = known(facts.host.services) or {}
    if known(services.get("nvidia-cdi-refresh")):
        return "sudo systemctl restart nvidia-cdi-refresh.service"
    return "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"


def install_libcuda(facts: Facts, version: str | None) -> str:
    """Install the package with libcuda next to NVML's; empty where the package is unknown, as with a .run driver."""
    names = known(facts.host.packages.installed) or {}
    branch, kind = (version or "").partition(".")[0], manager(facts)
    server = "-server" if any(name.startswith("libnvidia-") and name.endswith("-server") for name in names) else ""
    ubuntu = next((name for name in names if re.match(r"libnvidia-(cfg1|compute|common)-\d+", name)), None)
    packages = place_data().libcuda.get(kind or "", {})
    package = next((libcuda for driver, libcuda in packages.items() if driver in names), "")
    package = f"libnvidia-compute-{branch}{server}" if ubuntu and kind == "apt" else package
    return install_command(facts, package) if package else ""


def kinds(facts: Facts) -> frozenset[str]:
    """What this place is known to be, and what it may be because nothing is known."""
    named, in_use = known(facts.container.engine), engine(facts)
    there = {
        "wsl": is_wsl(facts),
        "wsl1": WSL_1.match(known(facts.kernel.release) or "") is not None,
        "lxc": known(facts.host.virtualization) in {"lxc", "lxc-libvirt", "systemd-nspawn"},
        "slurm": known(variable(facts.host, "SLURM_JOB_ID")) is not None,
        "ubuntu": "ubuntu" in f"{known(facts.host.os.id)} {known(facts.host.os.like)}",
        "snap": is_snap(facts),
        "docker": in_use == "docker" and named in {None, "docker"} and not _lacks_docker(facts),
        "podman": in_use == "podman",
        "nerdctl": in_use == "nerdctl",
        "kubernetes": not is_absent(facts.kubernetes),
    }
    distribution = known((known(facts.host.containerd) or Containerd()).distribution) or ""  # such as "k3s"
    return frozenset({kind for kind, holds in there.items() if holds} | {manager(facts) or "", distribution})


def _here(command: str, here: frozenset[str]) -> str:
    """The restart of a service as this place does it: as the distribution of containerd, not as its system."""
    kinds = sorted(here, key=lambda kind: (kind == "apk", kind))
    ways = (place_data().restarts.get(f"{kind} {command.removeprefix(_RESTART)}") for kind in kinds)
    return next(filter(None, ways), command)


def _lacks_docker(facts: Facts) -> bool:
    docker = facts.host.docker
    others = (facts.host.podman, facts.host.containerd, facts.host.crio)
    other = any(known(engine) is not None for engine in others) or known(facts.kubernetes) is not None
    return known(docker.version) is None and (is_absent(docker.binary) or (other and known(docker.binary) is None))


def programs_of(command: str) -> Iterator[str]:
    """The programs that a command starts, and sudo."""
    for part in _SHELL.split(re.sub(r"'[^']*'|\"[^\"$]*\"", "X", command.partition(" #")[0])):
        words = [word for word in part.split() if not _SETTING.match(word)]
        yield from words[: 2 if words[:1] == ["sudo"] else 1]


def is_possible(command: str, here: frozenset[str]) -> bool:
    """Every program of the command is at this place, which lets a user change what the command changes."""
    data = place_data()
    if any(text in command for kind in here for text in data.unchangeable.get(kind, ())):
        return False
    for program in () if command.startswith("#") else programs_of(command):
        where = data.programs.get(program, "").split()
        wanted = {kind for kind in where if not kind.startswith("!")}
        barred = {kind[1:] for kind in where if kind.startswith("!")}
        if program == _NOTHING or barred & here or (wanted and not wanted & here):
            return False
    return True


def at_place(facts: Facts, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps without commands that cannot work here. A step that loses them stays in words."""
    here, row, done = kinds(facts), _row(facts), ""
    found = []
    for one in steps:
        step = replace(one, commands=tuple(_here(command, here) for command in one.commands))
        found.append(_at(step, here, replace(row, note="") if row.note.removesuffix(".") in done else row))
        done += found[-1].say
    return tuple(found)


def _at(step: Step, here: frozenset[str], row: PackageManager) -> Step:
    possible = [command for command in step.commands if is_possible(command, here - {"lxc"})]
    is_far = not all(is_possible(command, here) for command in possible)  # the kernel is another machine's
    kept = tuple(command for command in possible if not is_far or is_possible(command, here - {"lxc", row.name}))
    lost = [command for command in step.commands if command not in kept]
    kept = () if lost and {*kept} <= {"sudo reboot", "sudo modprobe nvidia"} else kept  # alone, they change nothing
    installs = bool(row.install) and any(command.startswith(row.install) for command in kept)
    barred = place_data().unchangeable.get(row.name, ())
    shut = any(_NOTHING in command[:7] or any(text in command for text in barred) for command in lost)
    note = row.note if (installs if row.install else shut) and not is_far else ""
    say = step.say if kept or not step.say.endswith(":") else f"{step.say[:-1]}."
    if note:
        say = f"{say.rstrip(':.')}. {note.removesuffix('.') if kept else note}{':' if kept else ''}"
    if is_far:
        say = say.removeprefix("On the host, ")
        start, what = ("Or on", say[3:]) if say.startswith("Or ") else ("On", f"{say[:1].lower()}{say[1:]}")
        say = f"{start} the machine that runs this system container, {what}"
    return replace(step, say=say, commands=kept)
