"""NVIDIA Container Toolkit on this host: programs, versions, configuration and log."""

import os
import re
import tomllib
from contextlib import suppress
from pathlib import Path

from mlship import plain
from mlship.doctor.facts.fact import UNKNOWN, Fact, Unreadable, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Host, Toolkit, ToolkitConfig
from mlship.doctor.probes import files, moments
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.dockerd import HOOKS

PROGRAMS = ("nvidia-ctk", "nvidia-container-cli", "nvidia-container-runtime", *HOOKS)
_CONFIG = "nvidia-container-runtime/config.toml"
_VERSION = re.compile(r"(?:version|cli-version)[: ]+v?(\d+\.\d+\.\d+(?:[~-]rc\.?\d+)?)")
_LOG_LINES = 20
_LOG_MATTERS = re.compile(r"mode as|[Ee]rror|[Ff]ailed|unsatisfied|not found")


def read_toolkit(look: Look) -> Facts:
    binaries = {name: files.program(look.root, name) for name in PROGRAMS}
    found = config(look.root)
    toolkit = Toolkit(
        version=_version(look.root, binaries["nvidia-ctk"]),
        cli_version=_version(look.root, binaries["nvidia-container-cli"]),
        binaries=dict(binaries),
        installed_at=_installed_at(look.root, tuple(filter(None, (binaries[name] for name in HOOKS)))),
        config=found,
        log=log(look.root, known(found)),
    )
    return Facts(host=Host(toolkit=toolkit))


def _version(root: Path, program: str | None) -> Fact[str]:
    if program is None:
        return None
    done = files.run_here(root, [program, "--version"], 1.5)
    if done is None:
        return UNKNOWN if not files.live(root) else Unreadable(f"{program} --version does not answer")
    return version_of(done.stdout) or Unreadable(f"{program} --version says {done.stdout.strip()[:80]!r}")


def version_of(said: str) -> str | None:
    """`NVIDIA Container Toolkit CLI version 1.17.8`, or `cli-version: 1.17.8`."""
    found = _VERSION.search(said)
    return found[1] if found else None


def _installed_at(root: Path, hooks: tuple[str, ...]) -> Fact[str]:
    """The inode's change time, because packages preserve build times as modification times."""
    times = []
    for hook in hooks:
        with suppress(OSError):
            times.append(files.below(root, hook).stat().st_ctime)
    return moments.moment(max(times)) if times else None


def config(root: Path) -> Fact[ToolkitConfig]:
    """The configuration that the toolkit reads; None if there is no file."""
    for path in _config_paths():
        found = files.text_at(root, path)
        if isinstance(found, str):
            return config_of(path, found)
        if found is not None:
            return found
    return None


def _config_paths() -> tuple[str, ...]:
    """Candidates in the toolkit's own order."""
    configured, home = os.environ.get("NVIDIA_CTK_CONFIG_FILE_PATH"), os.environ.get("XDG_CONFIG_HOME")
    if configured:
        return (configured,)
    return (
        *((f"{home}/{_CONFIG}",) if home else ()),
        f"/etc/{_CONFIG}",
        f"/usr/local/nvidia/toolkit/.config/{_CONFIG}",  # of the GPU Operator
    )


def config_of(path: str, toml: str) -> Fact[ToolkitConfig]:
    try:
        tree: object = tomllib.loads(toml)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return Unreadable(f"invalid TOML in {path}: {error}")
    cli, runtime = plain.at(tree, "nvidia-container-cli"), plain.at(tree, "nvidia-container-runtime")
    features = plain.table(tree, "features")
    return ToolkitConfig(
        path=path,
        mode=plain.text(runtime, "mode"),
        no_cgroups=plain.flag(cli, "no-cgroups"),
        ldconfig=plain.text(cli, "ldconfig"),
        root=plain.text(cli, "root"),
        user=plain.text(cli, "user"),
        load_kmods=plain.flag(cli, "load-kmods"),
        disable_require=plain.flag(tree, "disable-require"),
        supported_driver_capabilities=plain.text(tree, "supported-driver-capabilities"),
        accept_envvar_when_unprivileged=plain.flag(tree, "accept-nvidia-visible-devices-envvar-when-unprivileged"),
        accept_as_volume_mounts=plain.flag(tree, "accept-nvidia-visible-devices-as-volume-mounts"),
        cdi_spec_dirs=plain.texts(runtime, "modes", "cdi", "spec-dirs"),
        cdi_default_kind=plain.text(runtime, "modes", "cdi", "default-kind"),
        cuda_compat_mode=plain.text(runtime, "modes", "legacy", "cuda-compat-mode"),
        runtimes=plain.texts(runtime, "runtimes"),
        features={name: value for name, value in features.items() if isinstance(value, bool)},
    )


def log(root: Path, found: ToolkitConfig | None) -> Fact[tuple[str, ...]]:
    """The last relevant log lines, if nvidia-container-runtime.debug names a log file."""
    if found is None:
        return UNKNOWN
    text = files.text_at(root, known(found.path) or "")
    tree: object = tomllib.loads(text) if isinstance(text, str) else {}
    path = plain.text(tree, "nvidia-container-runtime", "debug")
    lines = files.text_at(root, path) if path else None
    if not isinstance(lines, str):
        return lines
    return tuple(line for line in lines.splitlines()[-500:] if _LOG_MATTERS.search(line))[-_LOG_LINES:]
