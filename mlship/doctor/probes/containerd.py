"""containerd and CRI-O on a Kubernetes node: the runtimes in their configuration."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from mlship import plain
from mlship.doctor.facts.fact import UNKNOWN, Fact, Unreadable
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Containerd, Host, RuntimeHandler
from mlship.doctor.probes import files
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.tables import RuntimeTable, probe_tables

T = TypeVar("T")

_CRIO = ("/etc/crio/crio.conf", "/etc/crio/crio.conf.d", "/etc/crio/conf.d")


_VERSION = re.compile(r"\bv?(\d+\.\d+\.\d+)")


def read_containerd(look: Look) -> Facts:
    return Facts(host=Host(containerd=containerd(look.root), crio=crio(look.root)))


def containerd(root: Path) -> Fact[Containerd]:
    """The first containerd that serves Kubernetes; None if none does. Docker's own has CRI disabled."""
    for row in probe_tables().containerd:
        whole = Containerd(distribution=row.distribution, config_path=row.config)
        text = files.text_at(root, row.config)
        if isinstance(text, Unreadable):
            return replace(whole, runtimes=text)
        tree = None if text is None else _parsed(text)
        if tree is None or "cri" in (plain.texts(tree, "disabled_plugins") or ()):
            continue
        whole = replace(whole, version=_version(root, row.program))
        if isinstance(tree, str):
            return replace(whole, error=tree)
        imports = plain.texts(tree, "imports") or ()
        sources = (row.config, *_imported(root, row.config, imports))
        return _merged(root, replace(whole, imports=imports), sources, probe_tables().cri)
    return None


def _parsed(text: str) -> dict[str, object] | str:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return str(error)


def _imported(root: Path, path: str, patterns: tuple[str, ...]) -> Iterator[str]:
    for pattern in patterns:
        whole = pattern if pattern.startswith("/") else f"{path.rpartition('/')[0]}/{pattern}"
        folder, _, name = whole.rpartition("/")
        yield from (file for file in files.files_in(root, folder) if fnmatchcase(file.rpartition("/")[2], name))


def _merged(root: Path, whole: Containerd, sources: Iterable[str], tables: tuple[RuntimeTable, ...]) -> Containerd:
    """Merge the files in order; later ones win, even over the main file."""
    runtimes: dict[str, RuntimeHandler] = {}
    whole = replace(whole, runtimes=runtimes, error=None)
    for source in sources:
        text = files.text_at(root, source)
        tree = _parsed(text) if isinstance(text, str) else {}
        if isinstance(tree, str):
            return replace(whole, error=f"{source}: {tree}")
        for keys in tables:
            table = plain.table(tree, *keys.table)
            for name, one in plain.table(table, *keys.runtimes).items():
                program = plain.text(one, *keys.program)
                runtimes[name] = RuntimeHandler(plain.text(one, "runtime_type"), program, source)
            whole = replace(
                whole,
                default_runtime_name=_later(whole.default_runtime_name, plain.text(table, *keys.default)),
                cdi=_later(whole.cdi, plain.flag(table, *keys.cdi)) if keys.cdi else UNKNOWN,
                cdi_spec_dirs=_later(whole.cdi_spec_dirs, plain.texts(table, "cdi_spec_dirs") or None),
            )
    return whole


def _later(old: Fact[T], new: T | None) -> Fact[T]:
    """The value of a later file; absent if no file has one."""
    if new is not None:
        return new
    return None if old == UNKNOWN else old


def _version(root: Path, program: str) -> Fact[str]:
    path = files.program(root, program) if "/" not in program else program
    done = files.run_here(root, [path, "--version"], 1.5) if path else None
    found = _VERSION.search(done.stdout) if done else None
    return found[1] if found else UNKNOWN


def crio(root: Path) -> Fact[Containerd]:
    """CRI-O; None without a configuration and a program."""
    main, *folders = _CRIO
    paths = (main, *(file for folder in folders for file in files.files_in(root, folder, ".conf", ".toml")))
    sources = [path for path in paths if isinstance(files.text_at(root, path), str)]
    if not sources and files.program(root, "crio") is None:
        return None
    whole = Containerd(version=_version(root, "crio"), config_path=main if main in sources else None)
    return _merged(root, whole, sources, probe_tables().crio)
