"""Choose the requirements file to lock, or the contents of a new one. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from posixpath import relpath

from mlship.init.declared.collect import SERVING_INPUT
from mlship.init.declared.locks import NAMES as LOCK_FILES
from mlship.init.declared.result import Declared, Entry, distribution, is_development_package
from mlship.init.found import Detection
from mlship.init.import_needs import KnownImport, UnknownImport
from mlship.init.pickled import pickle_lines, pickle_notes
from mlship.init.python_version import DEFAULT, allows
from mlship.project.training import read_training
from mlship.redact import has_credentials
from mlship.requirement_line import specifiers
from mlship.system_packages import debian_name, system_needs
from mlship.units import few

FROM_IMPORTS = "the imports of the served code"
CONSTRAINTS = "requirements-constraints.txt"
INSTALLS = " installs it"  # ends the comment of a requirement that the Dockerfile names
_FOR_SERVERS = re.compile(r"requirements[-_.](serve|server|serving|inference|api|prod|production|deploy)\.txt$")
_DEBIAN = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_BARE = re.compile(r"[\w.-]+(\[[\w., -]*\])?")  # a requirement in any version
_OWNERS = ("pyproject.toml", "Pipfile")  # say which packages of a lock file beside them are required
# Names of packages that bring the same modules begin with these.
_VARIANTS = ("opencv", "tensorflow", "onnxruntime", "faiss", "psycopg2", "paddlepaddle", "pillow", "cupy")


@dataclass(frozen=True)
class LeftOut:
    """Requirements that the image probably does not need, and why."""

    why: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Dependencies:
    """The requirements keys of mlship.yaml and the file behind them.

    Attributes:
        template: template for `input`; None if the file exists.
        lines: requirement lines for the template.
        needs: server requirements for the template.
        every: requirement lines of the whole input, as far as they are known.
        unknown: imports whose package the user has to name in the template.
        optional: imports that the code can do without.
        options: pip's options and local packages for the template.
        left_out: requirements that the template has as comments.
        constraints: versions from the repository's lock file; empty without one that fits.
        pinned_by: the lock file of the constraints.
        system: Debian packages that the repository's files list, and the file.
        notes: what the user should know about the choice.
    """

    input: str
    lock: str
    template: str | None
    origin: str
    lines: tuple[str, ...]
    needs: tuple[str, ...]
    every: tuple[str, ...] = ()
    unknown: tuple[UnknownImport, ...] = ()
    optional: tuple[KnownImport, ...] = ()
    options: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    constraints: tuple[str, ...] = ()
    pinned_by: str = ""
    system: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def named(self) -> bool:
        """Whether the file names differ from the defaults, so mlship.yaml must state them."""
        return (self.input, self.lock) != ("requirements.in", "requirements.txt")


def choose_dependencies(found: Detection, needs: tuple[str, ...]) -> Dependencies:
    """Use an existing requirements file unchanged, or derive a new one; `needs` are the server's requirements."""
    source = _source(found)
    files = [file for file in reversed(found.declared) if found.server and not file.lock]  # not for one of ours
    stated = {one.name: one.text for file in files for one in file.main if one.always}
    needs = tuple(stated.get(distribution(need), need) for need in needs)
    if source is None:
        chosen = _from_imports(found, _as_trained(found, needs))
    else:
        chosen = _with_constraints(found, source, (_kept if source.usable else _written)(found, source, needs))
    unnamed = _unnamed(found, source, chosen.every) if source else ()
    notes = (*chosen.notes, *unnamed, *pickle_notes(found.pickles, source, found.python.value or DEFAULT))
    chosen = replace(chosen, notes=notes)
    listed = ((package, one.origin) for one in found.declared for package in one.system)
    return replace(chosen, system=tuple(pair for pair in listed if _DEBIAN.fullmatch(pair[0])))


def _unnamed(found: Detection, source: Declared, every: tuple[str, ...]) -> Iterator[str]:
    """Imports that no file of the repository requires by name; another package may bring them."""
    named = [entry.name for one in found.declared for entry in one.entries if entry.name]
    families = {_family(line) for line in (*named, *every)}
    lacking = [one for one in found.imports.known if _family(one.line) not in families]
    modules = [f"`{module}`" for one in lacking for module in one.modules]
    if modules and (found.server or found.loader.value):
        them = "it" if len(modules) == 1 else "them"
        yield f"`{source.origin}` does not name {few(modules)}; `mlship lock` warns if no other package brings {them}"


def _family(line: str) -> str:
    """The name, or what the names of its variants begin with."""
    name = distribution(line) or ""
    return next((variant for variant in _VARIANTS if name.startswith(variant)), name)


def _source(found: Detection) -> Declared | None:
    """The file with the requirements; a requirements file for developers only if no other file has any."""
    projects = (one for one in found.declared if one.origin in found.installs.projects and one.main)
    if installed := [*found.installs.direct, *projects]:
        return installed[0]
    owners = {one.folder for one in found.declared if one.origin.rpartition("/")[2] in _OWNERS}
    named = [one for one in found.declared if one.lists_any]
    named = [one for one in named if one.folder not in owners or one.origin.rpartition("/")[2] not in LOCK_FILES]
    direct = [one for one in named if not one.lock]
    if found.server and direct and direct[0].origin.rpartition("/")[2] == "requirements.txt":
        folder, command = direct[0].folder, found.server.command
        served = [one for one in direct if one.predictor in command or _FOR_SERVERS.search(one.origin)]
        direct = sorted(direct, key=lambda one: one.folder != folder or one not in served)
    development = [one for one in direct if _development(one)]
    serious = [one for one in direct if one not in development]
    return next(iter([*(serious if development[:1] == direct[:1] else direct), *direct, *named]), None)


def _development(source: Declared) -> tuple[Entry, ...]:
    return tuple(entry for entry in source.main if entry.name and is_development_package(entry.name))


def _kept(found: Detection, source: Declared, needs: tuple[str, ...]) -> Dependencies:
    """The user's file as it is, included by one with what it lacks."""
    lacking = tuple(need for need in needs if distribution(need) not in source.names)
    lock = _lock_name(found, source)
    named = few((f"{entry.name} (line {entry.line})" for entry in _development(source)), 8)
    note = f"`{source.origin}` has development packages: {named}; delete them there to keep them out of the image"
    notes = (note,) if named else ()
    lacking += (*_for_pickles(found, source), *_in_image(found, source))
    others = [one for one in found.installs.direct if one != source]
    options = _image_options(found)
    if lacking or others or options:
        every = (*source.lines, *(line for one in others for line in one.lines), *lacking)
        files = tuple(f"-r ../{one.origin}" for one in others)
        return Dependencies(
            SERVING_INPUT, lock, "init/serving_requirements.in.j2", source.origin, (), lacking, every,
            options=(*files, *options), notes=notes,
        )  # fmt: skip
    return Dependencies(source.origin, lock, None, source.origin, (), (), source.lines, notes=notes)


def _in_image(found: Detection, source: Declared) -> tuple[str, ...]:
    """What the Dockerfile installs besides its files."""
    if source == found.installs.packages:
        return ()
    listed = source.names.union(*(one.names for one in found.installs.files))
    lines = (entry.text for entry in found.installs.packages.entries if entry.name not in listed)
    return tuple(f"{line}  # {found.installs.packages.origin}{INSTALLS}" for line in lines)


def _image_options(found: Detection) -> tuple[str, ...]:
    """Where the Dockerfile's packages come from, and its local packages."""
    installs = found.installs.packages
    return (*installs.options, *(_as_path(package.path) for package in installs.packages))


def _for_pickles(found: Detection, source: Declared | None) -> tuple[str, ...]:
    return pickle_lines(found.pickles, source, found.python.value or DEFAULT)


def _from_imports(found: Detection, needs: tuple[str, ...]) -> Dependencies:
    pickled = {distribution(line): line for line in _for_pickles(found, None)}
    known = [one for one in found.imports.known if distribution(one.line) not in {distribution(need) for need in needs}]
    imported = {distribution(one.line) for one in known}
    lines = tuple(_explained(one, pickled.get(distribution(one.line))) for one in known)
    lines += tuple(line for name, line in pickled.items() if name not in imported)
    chosen = _new_file(found, FROM_IMPORTS if lines else "", _as_trained(found, lines), needs)
    unknown = tuple(one for one in found.imports.unknown if one.module not in dict(found.compiled))
    options = _image_options(found)
    return replace(chosen, unknown=unknown, optional=found.imports.optional, options=options)


def _as_trained(found: Detection, lines: tuple[str, ...]) -> tuple[str, ...]:
    """The same requirements, those without a version in the version of the training."""
    if found.training is None:
        return lines
    record = read_training(found.root / found.training, found.training)
    return tuple(_in_version(line, record.release_of(distribution(line) or "")) for line in lines)


def _in_version(line: str, release: tuple[str, str] | None) -> str:
    requirement, mark, comment = line.partition("  #")
    if release is None or not _BARE.fullmatch(requirement):
        return line
    return f"{requirement}=={release[1].partition('+')[0]}{mark or '  #'}{comment or ' as in the training'}"


def _written(found: Detection, source: Declared, needs: tuple[str, ...]) -> Dependencies:
    """A new file from another format; extras and groups that the served code imports are requirements too."""
    imported = {distribution(one.line) for one in found.imports.known}
    names, secret = source.names, [entry for entry in source.entries if has_credentials(entry.text)]
    source = replace(source, entries=tuple(entry for entry in source.entries if entry not in secret))
    certain = found.server is not None or found.loader.value is not None
    others = [one for one in source.entries if certain and one.role != "main" and one.name in imported - names]
    first = {entry.name: entry.group for entry in reversed(others)}  # `cpu` and `cuda` exclude each other
    promoted = {entry.text for entry in others if first[entry.name] == entry.group}
    development = {entry.text for entry in _development(source) if entry.name not in imported}
    lines = tuple(dict.fromkeys(entry.text for entry in source.main if entry.text not in development))
    lines += tuple(f"{text}  # imported by the served code" for text in sorted(promoted))
    lines += tuple(line for one in found.installs.direct if one != source for line in one.lines)
    lines = (*dict.fromkeys(lines), *_in_image(found, source))
    pickled = _for_pickles(found, source)
    lines = tuple(line for line in lines if line not in {distribution(one) for one in pickled}) + pickled
    chosen = _new_file(found, source.origin, lines, needs)
    own = {".", source.folder or "."}
    local = tuple(_as_path(package.path) for package in source.packages if package.path not in {*own, ""})
    workspace = [package.name for package in source.packages if not package.path]
    notes = [f"{source.origin}: package `{name}` of the workspace not found below this folder" for name in workspace]
    notes += [f"{source.origin}: `{one.name}` not copied, because its address contains a password" for one in secret]
    left_out = [*([LeftOut("Development packages", tuple(sorted(development)))] if development else []),
                *_groups(source, promoted)]  # fmt: skip
    more = (option for one in found.installs.direct for option in one.options)
    options = tuple(dict.fromkeys((*source.options, *local, *more, *_image_options(found))))
    return replace(chosen, options=options, left_out=tuple(left_out), notes=tuple(notes))


def _as_path(path: str) -> str:
    return path if path.startswith(("/", "../")) else f"./{path}"


def _groups(source: Declared, promoted: set[str]) -> list[LeftOut]:
    """Extras, each with its requirements; groups for development only by name."""
    required = {*promoted, *source.lines}
    extras = [entry for entry in source.entries if entry.role == "extra" and entry.text not in required]
    extras.sort(key=lambda entry: entry.group)
    rows = [LeftOut(f"Extra `{group}`", tuple(entry.text for entry in entries))
            for group, entries in groupby(extras, lambda entry: entry.group)]  # fmt: skip
    dev = sorted({entry.group for entry in source.entries if entry.role == "dev"})
    return [*rows, *([LeftOut(f"Groups for development: {', '.join(dev)}", ())] if dev else [])]


def _with_constraints(found: Detection, source: Declared, chosen: Dependencies) -> Dependencies:
    """The versions of the repository's lock file as constraints, unless the file has its own or the Python differs."""
    locks = [one for one in found.declared if one.lock and one.main and one.folder == source.folder and one != source]
    locks = [one for one in locks if one.origin != chosen.lock]
    if not locks or any(option.startswith("-c") for option in source.options):
        return chosen
    lock = locks[0]
    version = found.python.value or ""
    if lock.python and not allows(specifiers(lock.python), version):
        meant = lock.python.removeprefix("==").removesuffix(".*")
        note = f"the versions in `{lock.origin}` are for Python {meant}, so they are not used for Python {version}"
        return replace(chosen, notes=(*chosen.notes, note))
    asked = {entry.name: entry for entry in source.main}
    lines = tuple(entry.text for entry in lock.main if _agrees(entry, asked.get(entry.name)))
    input_ = chosen.input if chosen.template else SERVING_INPUT
    template = chosen.template or "init/serving_requirements.in.j2"
    reference = f"-c {relpath(CONSTRAINTS, input_.rpartition('/')[0] or '.')}"
    others = [f"`{one.origin}` is not used, because `{lock.origin}` pins the versions" for one in locks[1:]]
    chosen = replace(chosen, input=input_, template=template, options=(*chosen.options, reference))
    return replace(chosen, constraints=lines, pinned_by=lock.origin, notes=(*chosen.notes, *others))


def _agrees(pin: Entry, asked: Entry | None) -> bool:
    """A pin that the requirements exclude would make the lock impossible."""
    version = next((one.version for one in pin.requirement.specifier), None) if pin.requirement else None
    if asked is None or asked.requirement is None or version is None:
        return True
    return asked.requirement.url is None and asked.requirement.specifier.contains(version, prereleases=True)


def _new_file(found: Detection, origin: str, lines: tuple[str, ...], needs: tuple[str, ...]) -> Dependencies:
    entries = [Entry(line.partition("  #")[0]) for line in lines]
    named = {entry.name for entry in entries if entry.always}
    lacking = tuple(need for need in needs if distribution(need) not in named)
    lock = _lock_name(found, None)
    return Dependencies("requirements.in", lock, "init/requirements.in.j2", origin, lines, lacking, (*lines, *lacking))


def _explained(need: KnownImport, pickled: str | None) -> str:
    """The requirement with the imports that it is for: `mlship lock` checks that the locked wheel has them."""
    line = pickled.partition("  #")[0] if pickled else ""
    return f"{line if '=' in line or '<' in line else need.line}  # import {', '.join(need.modules)}"


def system_packages(chosen: Dependencies, distro: str) -> dict[str, dict[str, str]]:
    """The reason for each Debian package that the requirements need, by key of `system` in mlship.yaml."""
    found: dict[str, dict[str, str]] = {"build": {}, "run": {}}
    for name, row in system_needs(chosen.every):
        alternative = row.alternative(name)
        why = f"{name} {row.why}" + (f"; {alternative} needs none of it" if alternative else "")
        for key, packages in (("build", row.build), ("run", row.run)):
            for package in packages:
                found[key].setdefault(debian_name(package, distro), why)
    for package, origin in chosen.system:
        found["run"].setdefault(debian_name(package, distro), f"{origin} lists it")
    return {key: packages for key, packages in found.items() if packages}


def _lock_name(found: Detection, source: Declared | None) -> str:
    """requirements.txt, unless it is the user's or the only record of the pins."""
    text = found.at_root
    taken = text is not None and (not text.ours or source is None)
    return "requirements.lock" if taken else "requirements.txt"
