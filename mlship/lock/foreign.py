"""Locks of any tool as pins: what each package is locked to on Linux, for questions about them. Nothing is installed.

Read by content: pip's requirements (with or without hashes, `pip freeze`), uv.lock, poetry.lock, pdm.lock, pylock.toml,
Pipfile.lock, conda-lock.yml, pixi.lock, environment.yml, the output of `conda list`, and an environment's folder.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from mlship import plain
from mlship.errors import UsageError
from mlship.files import read_regular
from mlship.lock.conda import CONDA_SUBDIRS, CondaDocument, read_conda_document, rows_in
from mlship.lock.pages import release_in
from mlship.lock.pins import Pin, joined_lines
from mlship.requirement_line import marker_may_hold, requirement_in, specifiers

_MOST = 50_000_000  # bytes; the largest locks have some 5 MB
_PYTHONS = tuple(f"3.{minor}" for minor in range(8, 15))
_REQUIRES_PYTHON = re.compile(r'^(?:requires-python|python-versions) = "([^"]*)"', re.MULTILINE)
_OPTION = re.compile(r"\s--[a-z].*")  # of one requirement, such as --hash
_INDEX = re.compile(r"^(?:-i|--index-url|--extra-index-url|-f|--find-links)[\s=]+(\S+)", re.MULTILINE)
_PLACE = re.compile(r"^\.{1,2}(?:\[|$)|^\.{0,2}/|^[\w.-]+/|://|\.(?:whl|zip|tar\.gz)\b")
_EGG = re.compile(r"[#&]egg=([A-Za-z0-9][\w.-]*)")
_SHA256 = re.compile(r"sha256\W{1,8}([0-9a-f]{64})\b")
# Before the first table: Poetry and setuptools have a key of that name in theirs.
_TABLES = re.compile(r"^\[\[packages?\]\]|\A(?:(?!\[).*\n)*?packages? *= *\[", re.MULTILINE)
_EXTRA = re.compile(r"\bextra *== *['\"]([^'\"]+)")
_GROUPS = ("optional-dependencies", "dev-dependencies", "dependency-groups")  # of uv.lock
# `conda list`, `conda list --export` (which `--explicit` begins like), and `pip list`
_CONDA_HEADS = ("# packages in environment", "# This file may be used to create an environment")
_CONDA = re.compile(r"(?P<name>\S+)\s+(?P<version>\S+)\s+\S+(?:\s+(?P<channel>\S+))?")
_EXPORTED = re.compile(r"(?:\S+/)?(?P<name>[^\s=/]+?)[=-](?P<version>[^\s=/-]+)[=-](?P<channel>pypi|[^\s=/-]+)(?:_0)?")
_PIP_LIST = re.compile(r"Package +Version.*\n-[- ]*\n")
_FORMATS = (
    "a requirements file with versions, `pip freeze`, uv.lock, poetry.lock, pdm.lock, pylock.toml, Pipfile.lock, "
    "conda-lock.yml, pixi.lock, environment.yml, `pip list` or `conda list` output, or the folder of an environment"
)


@dataclass(frozen=True)
class ForeignLock:
    """What a lock of any tool says.

    Attributes:
        loose: entries without one version on this platform, as they are written; nothing is known of what they install.
        foreign: packages of conda, whose builds differ from PyPI's.
        stray: files with device code that belong to no package, or whose device code cannot be read.
        whole: the tool lists every package that is installed. A requirements file without hashes may be a list that
            a person wrote, without what these packages require.
        places: the indexes and pages of wheels that the file names.
        more: the tool also lists packages of extras and of development.
        in_image: of an image of mlship, which has the CUDA libraries that its packages lack.
        require: the image's NVIDIA_REQUIRE_CUDA.
    """

    pins: tuple[Pin, ...]
    loose: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    stray: tuple[str, ...] = ()
    whole: bool = True
    places: tuple[str, ...] = ()
    more: bool = False
    in_image: bool = False
    require: str = ""


@dataclass(frozen=True)
class _Entry:
    """One entry: version None where it names none."""

    name: str
    version: str | None
    markers: tuple[str, ...] = ()
    conda: bool = False
    hashes: tuple[str, ...] = ()
    extras: frozenset[str] = frozenset()


def read_foreign_lock(path: Path, platform: str) -> ForeignLock:
    """Read the pins for a platform, such as linux/amd64.

    Raises:
        UsageError: the file or folder cannot be read, or is no lock.
    """
    try:
        text = "" if path.is_dir() else _text(path)
        conda = read_conda_document(text, platform)
        if conda:
            text = conda.pip
        holds = partial(_may_hold, platform, _pythons(text))
        entries = [*_installed(path)] if path.is_dir() else [*_entries(text, holds)]
    except (ValueError, RecursionError) as error:  # not TOML, JSON or YAML
        raise UsageError(f"cannot read `{path}`: {error}", hint=f"pass {_FORMATS}") from error
    entries += [_Entry(name, version, conda=True) for name, version in (conda.conda if conda else ())]
    if not entries:
        raise _nothing(path, platform, conda)
    here = [entry for entry in entries if holds(entry.markers)]
    tables = _TABLES.search(text) is not None
    # pip-compile and `uv pip compile` write hashes or `# via`, and `pip freeze` every package
    listed = text.lstrip().startswith(("{", "[", *_CONDA_HEADS)) or (conda is not None and conda.whole)
    whole = path.is_dir() or tables or listed or "--hash" in text
    return replace(
        _folded(here), whole=whole or "# via" in text, more=tables, places=() if whole else tuple(_INDEX.findall(text))
    )


def read_names(text: str) -> ForeignLock:
    """Read pins that are separated by spaces, as in an image's label."""
    return replace(_folded([_requirement(each) or _Entry(each, None) for each in text.split()]), in_image=True)


def _nothing(path: Path, platform: str, conda: CondaDocument | None) -> UsageError:
    if not conda or not conda.subdirs or (subdir := CONDA_SUBDIRS[platform]) in conda.subdirs:
        return UsageError(f"no package in `{path}`", hint=f"pass {_FORMATS}")
    known = next((name for name, own in CONDA_SUBDIRS.items() if own in conda.subdirs), "")
    hint = f"lock it for {subdir}: `conda-lock lock --platform {subdir}` or `pixi workspace platform add {subdir}`"
    why = f"`{path}` has no package for {platform} ({subdir}): it is locked for {', '.join(conda.subdirs)}"
    return UsageError(why, hint=hint + (f", or judge it for `--platform {known}`" if known else ""))


def _text(path: Path) -> str:
    try:
        return read_regular(path, _MOST)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror or error if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"cannot read `{path}`: {why}", hint=f"pass {_FORMATS}") from error


def _may_hold(platform: str, pythons: tuple[str, ...], markers: tuple[str, ...]) -> bool:
    """Whether any of these markers may be true, with any extra, or there is none."""
    tried = ((each, python, extra) for each in markers for python in pythons for extra in ("", *_EXTRA.findall(each)))
    return not markers or any(marker_may_hold(each, platform, python, extra) for each, python, extra in tried)


def _entries(text: str, holds: Callable[[tuple[str, ...]], bool]) -> Iterator[_Entry]:
    start = text.lstrip()
    if start.startswith("{"):
        yield from _pipfile(json.loads(start))
    elif start[:1] == "[" and start[1:].lstrip()[:1] == "{":  # `pip list` or `conda list` as JSON
        yield from map(_packaged, rows_in(json.loads(start)))
    elif _TABLES.search(text):
        document = tomllib.loads(start)
        _refuse_alternatives(document)
        yield from map(_packaged, _reached(document, holds))
    elif start.startswith(_CONDA_HEADS):
        form = _CONDA if start.startswith(_CONDA_HEADS[0]) else _EXPORTED
        found = (form.fullmatch(line.strip()) for line in text.splitlines() if not line.startswith("#"))
        yield from (_Entry(each["name"], each["version"], conda=each["channel"] != "pypi") for each in found if each)
    elif head := _PIP_LIST.match(start):
        rows = (line.split() for line in start[head.end() :].splitlines())
        yield from (_Entry(row[0], row[1]) for row in rows if len(row) > 1)
    else:
        yield from _requirements(text)


def _reached(document: dict[str, object], holds: Callable[[tuple[str, ...]], bool]) -> list[dict[str, object]]:
    """The packages that uv.lock's projects or scripts require, by dependencies whose markers may hold; else all."""
    rows, manifest = rows_in(document.get("package", document.get("packages"))), plain.table(document, "manifest")
    found = [manifest, *(row for row in rows if {"editable", "virtual"} & plain.table(row, "source").keys())]
    names = set[object]()
    for row in found:
        tables = (plain.table(row, key).values() for key in _GROUPS)
        listed = (row.get("dependencies"), row.get("requirements"), *(each for table in tables for each in table))
        edges = (edge for each in listed for edge in rows_in(each) if holds(_texts(edge.get("marker"))))
        new = {edge.get("name") for edge in edges} - names
        names |= new
        found += (one for one in rows if one.get("name") in new)
    return found[1:] or rows


def _refuse_alternatives(document: Mapping[str, object]) -> None:
    """Refuse extras that conflict: uv locks them side by side and never installs them together."""
    items = (item for each in plain.items(document, "conflicts") for item in rows_in(each))
    options = sorted(dict.fromkeys(map(_option, items)), key=lambda option: "cpu" in option)
    if options:
        raise UsageError(
            f"the lock contains alternatives that are never installed together: {', '.join(options)}",
            hint=f"export the one that you install: `uv export --frozen --no-dev {options[0]} --output-file chosen.txt`"
            ", then run `mlship fits chosen.txt`",
        )


def _option(item: Mapping[str, object]) -> str:
    """The option of `uv export` for one side of a conflict."""
    kind = next((kind for kind in ("extra", "group", "package") if isinstance(item.get(kind), str)), "extra")
    return f"--{kind} {item.get(kind, 'NAME')}"


def _pipfile(document: object) -> Iterator[_Entry]:
    for name, row in plain.table(document, "default").items():
        version = plain.text(row, "version") or ""
        exact = version.removeprefix("==") if version.startswith("==") else None
        yield _Entry(name, exact, _texts(plain.at(row, "markers")))


def _packaged(row: Mapping[str, object]) -> _Entry:
    """A package of uv.lock (`resolution-markers`: any of them), poetry.lock (`markers`) or others (`marker`)."""
    markers = _texts(row.get("resolution-markers", row.get("markers", row.get("marker"))))
    name, version = (next(iter(_texts(row.get(key))), "") for key in ("name", "version"))
    conda = row.get("channel", "pypi") != "pypi"
    hashes = tuple(_SHA256.findall(str(row)))
    return _Entry(name or "(no name)", (name and version) or None, markers, conda, hashes)


def _texts(found: object) -> tuple[str, ...]:
    """One text, or those of a list, or of a table (poetry has a marker for each group)."""
    listed = found.values() if isinstance(found, dict) else found if isinstance(found, list) else (found,)
    return tuple(each for each in listed if isinstance(each, str))


def _requirements(text: str) -> Iterator[_Entry]:
    for number, joined in joined_lines(text):
        line = _OPTION.sub("", joined)
        if line.startswith(("-r", "--requirement", "-e", "--editable")):
            yield _place(line)
        elif line and not line.startswith("-"):
            entry = _requirement(line)
            if entry is None:
                lock = "lock the project, such as by `uv lock`, then run `mlship fits uv.lock`"
                hint = lock if line.startswith("[") else f"correct that line, or pass {_FORMATS}"
                raise UsageError(f"line {number} is no requirement: {line[:60]!r}", hint=hint)
            yield replace(entry, hashes=tuple(_SHA256.findall(joined)))


def _requirement(line: str) -> _Entry | None:
    """One requirement; None for a line that is neither one nor the address or path of a package."""
    parsed = requirement_in(line)
    if parsed is None:
        return (_wheel(line) or _place(line[:80])) if _PLACE.search(line) else None
    wheel, clauses = _wheel(parsed.url or ""), list(parsed.specifier)
    exact = len(clauses) == 1 and clauses[0].operator == "==" and not clauses[0].version.endswith("*")
    version = wheel.version if wheel else clauses[0].version if exact else None
    markers = (str(parsed.marker),) if parsed.marker else ()
    return _Entry(parsed.name, version, markers, extras=frozenset(parsed.extras))


def _place(line: str) -> _Entry:
    named = _EGG.search(line)  # as `pip freeze` writes it
    return _Entry(named[1] if named else line, None)


def _wheel(address: str) -> _Entry | None:
    found = release_in(address) if address.partition("#")[0].endswith(".whl") else None
    return _Entry(found[0], str(found[1])) if found else None


def _installed(folder: Path) -> Iterator[_Entry]:
    """The distributions of a site-packages folder, or of the environment that contains it."""
    sites = [*folder.glob("lib/python*/site-packages"), *folder.glob("lib/python*/dist-packages")] or [folder]
    for distribution in distributions(path=[str(site) for site in sites]):
        name = distribution.metadata["Name"]
        by_conda = (distribution.read_text("INSTALLER") or "").strip() == "conda"
        yield _Entry(str(name), distribution.version if name else None, conda=by_conda)


def _pythons(text: str) -> tuple[str, ...]:
    """The Pythons that a lock is for: those that its project requires, or any."""
    head, metadata = text.partition("\n[")[0], text.rpartition("\n[metadata]\n")[2]
    found = _REQUIRES_PYTHON.search(head) or (_REQUIRES_PYTHON.search(metadata) if metadata != text else None)
    allowed = specifiers(found[1] if found else "")
    # The newest patch release is unknown: ">=3.10.4" allows 3.10.
    return tuple(one for one in _PYTHONS if f"{one}.0" in allowed or f"{one}.99" in allowed) or _PYTHONS


def _folded(entries: list[_Entry]) -> ForeignLock:
    """One pin a package; a package with two versions on one platform has none."""
    versions: dict[str, set[str | None]] = {}
    for entry in entries:
        if not entry.conda:
            name = canonicalize_name(entry.name) if entry.version else entry.name
            versions.setdefault(name, set()).add(entry.version)
    hashes = {canonicalize_name(entry.name): entry.hashes for entry in entries}
    extras = {(canonicalize_name(entry.name), extra) for entry in entries for extra in entry.extras}
    pins, loose = list[Pin](), list[str]()
    for name, found in sorted(versions.items()):
        exact = sorted(version for version in found if version)
        if len(exact) == 1:
            asked = tuple(sorted(extra for of, extra in extras if of == name))
            pins.append(Pin(name, exact[0], hashes[canonicalize_name(name)], extras=asked))
        else:
            loose.append(f"{name} {' or '.join(exact)}".strip())
    foreign = sorted({f"{entry.name} {entry.version or ''}".strip() for entry in entries if entry.conda})
    return ForeignLock(tuple(pins), tuple(loose), tuple(foreign))
