"""CDI specifications on this host, and host paths in them that no longer exist."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mlship import plain
from mlship.doctor.facts.fact import UNKNOWN, Fact, Unreadable
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Cdi, CdiSpec, Host
from mlship.doctor.probes import files, moments
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.driver import driver_version_of
from mlship.yaml_text import parse_yaml

FOLDERS = ("/etc/cdi", "/var/run/cdi", "/run/cdi")
_LARGEST = 2_000_000
_IN_FOLDER = re.compile(r"/lib/firmware/nvidia/(\d{3,}\.\d+(?:\.\d+)?)/")
_IN_ARGUMENT = re.compile(r"^--host-driver-version=(\S+)$")


def read_cdi(look: Look) -> Facts:
    return Facts(host=Host(cdi=Cdi(specs=tuple(specs(look.root)), listed=_listed(look.root))))


def specs(root: Path) -> Iterator[CdiSpec]:
    """NVIDIA's specifications, and files that cannot be read or parsed, because engines fail on those."""
    seen: set[Path] = set()
    for folder in FOLDERS:
        for path in files.files_in(root, folder, ".yaml", ".json"):
            real = files.below(root, path)
            if real not in seen:
                seen.add(real)
                spec = _spec(root, path, real)
                if not isinstance(spec.kind, str) or "nvidia" in spec.kind:
                    yield spec


def _spec(root: Path, path: str, real: Path) -> CdiSpec:
    mode: Fact[str] = UNKNOWN
    written: Fact[str] = UNKNOWN
    with suppress(OSError):
        status = real.stat()
        mode, written = f"{status.st_mode & 0o7777:04o}", moments.moment(status.st_mtime)
    text = files.text_at(root, path)
    if not isinstance(text, str):
        why = text or Unreadable("the file disappeared")
        return CdiSpec(path, why, why, why, why, why, why, mode, False, written, UNKNOWN)
    return replace(spec_of(path, text, root), mode=mode, written_at=written)


def spec_of(path: str, text: str, root: Path) -> CdiSpec:
    """A specification, from the text of its file."""
    try:
        tree = _parsed(path, text)
    except ValueError as error:
        return CdiSpec(path, readable=True, error=" ".join(str(error).split("\n")[:3])[:300])
    edits = tuple(_edits(tree))
    nodes = tuple(node for edit in edits for node in plain.items(edit, "deviceNodes"))
    paths = tuple(dict.fromkeys(plain.text(node, "path") or "" for node in nodes))
    on_host = (plain.text(node, "hostPath") or plain.text(node, "path") for node in nodes)
    return CdiSpec(
        path=path,
        kind=plain.text(tree, "kind"),
        cdi_version=plain.text(tree, "cdiVersion"),
        devices=tuple(name for one in plain.items(tree, "devices") if (name := plain.text(one, "name"))),
        driver_versions=tuple(sorted({version for edit in edits for version in _versions(edit)})),
        device_nodes=tuple(filter(None, paths)),
        missing=tuple(one for one in (*dict.fromkeys(on_host), *_others(edits)) if one and _is_missing(root, one)),
        readable=True,
        error=None,
    )


def _parsed(path: str, text: str) -> object:
    """Parse the file.

    Raises:
        ValueError: the file is too large, invalid or not a CDI specification.
    """
    if len(text) > _LARGEST:
        raise ValueError(f"larger than {_LARGEST // 1_000_000} MB")
    try:
        tree: object = json.loads(text) if path.endswith(".json") else parse_yaml(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(tree, dict):
        raise ValueError("not a CDI specification")  # noqa: TRY004  the file is wrong, not a type of ours
    return tree


def _edits(tree: object) -> Iterator[object]:
    yield plain.at(tree, "containerEdits")
    for device in plain.items(tree, "devices"):
        yield plain.at(device, "containerEdits")


def _others(edits: tuple[object, ...]) -> tuple[str, ...]:
    """Host paths of mounts and of hook programs."""
    found = (
        plain.text(one, key)
        for edit in edits
        for kind, key in (("mounts", "hostPath"), ("hooks", "path"))
        for one in plain.items(edit, kind)
    )
    return tuple(dict.fromkeys(filter(None, found)))


def _versions(edit: object) -> Iterator[str]:
    for mount in plain.items(edit, "mounts"):
        path = plain.text(mount, "hostPath") or ""
        folder = _IN_FOLDER.search(path)
        if version := driver_version_of(path) or (folder and folder[1]):
            yield version
    for hook in plain.items(edit, "hooks"):
        for argument in plain.texts(hook, "args") or ():
            if found := _IN_ARGUMENT.match(argument):
                yield found[1]


def _is_missing(root: Path, path: str) -> bool:
    """A path without read permission does not count as missing."""
    try:
        files.below(root, path).stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False


def _listed(root: Path) -> Fact[tuple[str, ...]]:
    done = files.run_here(root, ["nvidia-ctk", "cdi", "list"], 2) if files.program(root, "nvidia-ctk") else None
    if done is None or not done.ok:
        return UNKNOWN
    return tuple(line.strip() for line in done.stdout.splitlines() if "=" in line and "/" in line)
