"""Sentences about what is locked and may not be what the model needs."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from mlship.frameworks import has_wheel
from mlship.known_texts import phrase, text_table
from mlship.lock.hashes import HashedPin
from mlship.lock.inputs import InputFile
from mlship.lock.installable import wheel_versions
from mlship.lock.pages import IndexFile
from mlship.lock.pins import Pin
from mlship.project.config import Config
from mlship.project.sklearn_version import sklearn_of
from mlship.redact import redact
from mlship.system_packages import debian_name, system_needs

_FAR = 50  # releases


def written_by_another(repo: Path, config: Config, pins: Iterable[Pin]) -> Iterator[str]:
    """A sentence for each other version of scikit-learn that wrote allowed pickles."""
    locked = next((pin.version for pin in pins if pin.name == "scikit-learn"), None)
    found: dict[str, list[str]] = {}
    for entry in config.model.allow_pickle:
        if version := sklearn_of(repo / entry.path):
            found.setdefault(version, []).append(entry.path)
    for version, paths in found.items():
        if locked and version != locked:
            fix = f"write the {'file' if len(paths) == 1 else 'files'} again with {locked}"
            if has_wheel("sklearn", version, config.python):
                fix = f"require `scikit-learn=={version}`, or {fix}"
            written = f"{', '.join(paths)} {'was' if len(paths) == 1 else 'were'} written by scikit-learn {version}"
            yield f"{written}, and {locked} is locked, which may not read {'it' if len(paths) == 1 else 'them'}: {fix}"


def warned_of(said: Iterable[str], pins: Iterable[Pin]) -> Iterator[str]:
    """A sentence for each of pip's known warnings about a version that is locked; it tried others before."""
    locked = {(pin.name, pin.version) for pin in pins}
    rows = [row for row in text_table().text if "lock-warning" in row.contexts]
    found = [(row, match) for text in said for row in rows for match in re.finditer(row.pattern, text)]
    here = [pair for pair in found if (canonicalize_name(pair[1]["package"]), pair[1]["version"]) in locked]
    yield from sorted({row.why.format(**match.groupdict()) for row, match in here})


def without_cpu_builds(pins: Iterable[Pin], unreachable: tuple[str, ...]) -> Iterator[str]:
    """What it means that the pages of CPU builds could not be reached, if torch is locked."""
    torch = next((pin for pin in pins if pin.name == "torch" and "+" not in pin.version), None)
    if torch and unreachable:
        yield phrase("torch_with_cuda").format(version=torch.version, page=redact(unreachable[0]))


def left_behind(
    files: Sequence[InputFile], pins: Iterable[Pin], config: Config, offered: Mapping[str, Sequence[IndexFile]]
) -> Iterator[str]:
    """A sentence for each requirement that is locked far behind: pip goes back as far as other pins force it.

    Args:
        offered: what the indexes have, by canonical name.
    """
    allowed: dict[str, SpecifierSet] = {}
    for one in (one for file in files for _, one in file.requirements() if one.url is None):
        own = canonicalize_name(one.name)
        allowed[own] = allowed.get(own, SpecifierSet()) & one.specifier
    exact = {name for name, of in allowed.items() if any(part.operator == "==" for part in of)}
    locked = {pin.name: Version(pin.version) for pin in pins if pin.name in allowed.keys() - exact}
    for name, version in sorted(locked.items()):
        fitting = (one for one, fits in wheel_versions(offered.get(name, ()), config).items() if fits)
        newer = [one for one in fitting if one > version and one in allowed[name] and not one.is_prerelease]
        if len(newer) > _FAR:
            yield (
                f"{name} {version} is locked, although `{name}{allowed[name]}` allows {max(newer)}: another pin "
                "excludes it; run `mlship lock --upgrade`, or require the newer version to see which pin"
            )


def built_from_source(pins: Iterable[HashedPin], config: Config) -> Iterator[str]:
    """A sentence for each pin without a wheel, unless mlship.yaml already lists what it is built with."""
    for pin in pins:
        if pin.installed is None or pin.installed.filename.endswith(".whl"):
            continue
        requirement = pin.lines.split()[0]
        needs = [row for _, row in system_needs([requirement])]
        build = _debian([one for row in needs for one in row.build], config)
        run = _debian([one for row in needs for one in row.run], config)
        if config.system.build and {*build} <= {*config.system.build} and {*run} <= {*config.system.run}:
            continue
        without = f"`{requirement}` has no wheel for Python {config.python} on {config.platform}; the build compiles it"
        if build:
            keys = ", ".join(f"{key}: [{', '.join(names)}]" for key, names in (("build", build), ("run", run)) if names)
            other = instead_of(pin.name, ", or require {}")
            yield f"{without}, for which mlship.yaml needs `system: {{{keys}}}`{other}"
        else:
            yield f"{without}; if that needs a compiler, add it as `system.build`, such as [gcc, libc6-dev]"


def _debian(packages: list[str], config: Config) -> list[str]:
    return list(dict.fromkeys(debian_name(package, config.base.distro) for package in packages))


def instead_of(name: str, text: str) -> str:
    """`text` with a distribution that has wheels and the same modules; empty if none is known."""
    others = [other for found, row in system_needs([name]) if (other := row.alternative(found))]
    return text.format(f"`{others[0]}`") if others else ""
