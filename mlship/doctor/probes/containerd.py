"""containerd and CRI-O on a Kubernetes node: the runtimes in their configuration."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from mlship.doctor.facts.engine import Containerd, RuntimeHandler
from mlship.doctor.facts.fact import UNKNOWN, Fact, Unreadable
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Host
from mlship.doctor.probes import plain, programs
from mlship.doctor.probes.base import Look, Probe

# Distribution, configuration file, program.
_CONTAINERD = (
    (
        "k3s",
        "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        "/var/lib/rancher/k3s/data/current/bin/containerd",
    ),
    ("rke2", "/var/lib/rancher/rke2/agent/etc/containerd/config.toml", "/var/lib/rancher/rke2/bin/containerd"),
    ("microk8s", "/var/snap/microk8s/current/args/containerd.toml", "/snap/microk8s/current/bin/containerd"),
    ("k0s", "/run/k0s/containerd-cri.toml", "/var/lib/k0s/bin/containerd"),
    ("k0s", "/etc/k0s/containerd.toml", "/var/lib/k0s/bin/containerd"),
    ("containerd", "/etc/containerd/config.toml", "containerd"),
)
_CRIO = ("/etc/crio/crio.conf", "/etc/crio/crio.conf.d", "/etc/crio/conf.d")
_PLUGINS = ("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri")  # containerd 2, containerd 1
_VERSION = re.compile(r"\bv?(\d+\.\d+\.\d+)")


class ContainerdProbe(Probe):
    name = "containerd"
    seconds = 4.0
    host_only = True

    def read(self, look: Look) -> Facts:
        return Facts(host=Host(containerd=containerd(look.root), crio=crio(look.root)))


def containerd(root: Path) -> Fact[Containerd]:
    """The first containerd that serves Kubernetes; None if none does. Docker's own has CRI disabled."""
    for distribution, path, program in _CONTAINERD:
        text = programs.read(root, path)
        if isinstance(text, Unreadable):
            return Containerd(distribution=distribution, config_path=path, runtimes=text, error=UNKNOWN)
        if text is not None and not _cri_is_off(text):
            return replace(_containerd(root, path, text), distribution=distribution, version=_version(root, program))
    return None


def _cri_is_off(text: str) -> bool:
    tree = _parsed(text)
    return not isinstance(tree, str) and "cri" in (plain.texts(tree, "disabled_plugins") or ())


def _parsed(text: str) -> dict[str, object] | str:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return str(error)


def _containerd(root: Path, path: str, text: str) -> Containerd:
    tree = _parsed(text)
    if isinstance(tree, str):
        return Containerd(config_path=path, error=tree)
    imports = plain.texts(tree, "imports") or ()
    whole = Containerd(config_path=path, imports=imports, runtimes={}, error=None)
    # The main file is read first, and later files win.
    for source in (path, *_imported(root, path, imports)):
        found = programs.read(root, source)
        part = _parsed(found) if isinstance(found, str) else {}
        if isinstance(part, str):
            return replace(whole, error=f"{source}: {part}")
        whole = _with_part(whole, part, source)
    return whole


def _imported(root: Path, path: str, patterns: tuple[str, ...]) -> Iterator[str]:
    for pattern in patterns:
        whole = pattern if pattern.startswith("/") else f"{path.rpartition('/')[0]}/{pattern}"
        folder, _, name = whole.rpartition("/")
        yield from (file for file in programs.files(root, folder) if fnmatchcase(file.rpartition("/")[2], name))


def _with_part(whole: Containerd, tree: dict[str, object], source: str) -> Containerd:
    """Merge one file, with the plugin names of containerd 1 and 2."""
    runtimes = dict(whole.runtimes) if isinstance(whole.runtimes, dict) else {}
    default, cdi, folders = whole.default_runtime_name, whole.cdi, whole.cdi_spec_dirs
    for plugin in _PLUGINS:
        cri = plain.at(tree, "plugins", plugin)
        for name, one in plain.table(cri, "containerd", "runtimes").items():
            binary = plain.text(one, "options", "BinaryName")
            runtimes[name] = RuntimeHandler(plain.text(one, "runtime_type"), binary, source)
        default = plain.text(cri, "containerd", "default_runtime_name") or default
        cdi = _either(plain.flag(cri, "enable_cdi"), cdi)
        folders = plain.texts(cri, "cdi_spec_dirs") or folders
    return replace(
        whole,
        runtimes=runtimes,
        default_runtime_name=default if default != UNKNOWN else None,
        cdi=cdi if cdi != UNKNOWN else None,
        cdi_spec_dirs=folders if folders != UNKNOWN else None,
    )


def _either(new: bool | None, old: Fact[bool]) -> Fact[bool]:
    return old if new is None else new


def _version(root: Path, program: str) -> Fact[str]:
    path = programs.program(root, program) if "/" not in program else program
    done = programs.say(root, [path, "--version"], 1.5) if path else None
    found = _VERSION.search(done.stdout) if done else None
    return found[1] if found else UNKNOWN


def crio(root: Path) -> Fact[Containerd]:
    """CRI-O; None without a configuration and a program."""
    main, *folders = _CRIO
    sources = (main, *(file for folder in folders for file in programs.files(root, folder, ".conf", ".toml")))
    texts = {source: text for source in sources if isinstance(text := programs.read(root, source), str)}
    if not texts and programs.program(root, "crio") is None:
        return None
    whole = Containerd(
        version=_version(root, "crio"), config_path=main if main in texts else None, runtimes={}, error=None
    )
    for source, text in texts.items():
        tree = _parsed(text)
        if isinstance(tree, str):
            return replace(whole, error=f"{source}: {tree}")
        whole = _with_crio(whole, tree, source)
    return whole


def _with_crio(whole: Containerd, tree: dict[str, object], source: str) -> Containerd:
    runtimes = dict(whole.runtimes) if isinstance(whole.runtimes, dict) else {}
    own = plain.at(tree, "crio", "runtime")
    for name, one in plain.table(own, "runtimes").items():
        runtimes[name] = RuntimeHandler(plain.text(one, "runtime_type"), plain.text(one, "runtime_path"), source)
    default, folders = plain.text(own, "default_runtime"), plain.texts(own, "cdi_spec_dirs")
    return replace(
        whole,
        runtimes=runtimes,
        default_runtime_name=default or (whole.default_runtime_name if whole.default_runtime_name != UNKNOWN else None),
        cdi_spec_dirs=folders or (whole.cdi_spec_dirs if whole.cdi_spec_dirs != UNKNOWN else None),
    )
