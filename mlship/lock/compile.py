"""Run pip-compile: on this machine if it matches the image, otherwise in the base image. Both give the same bytes."""

import platform
import re
import shlex
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

from mlship import process
from mlship.console import say
from mlship.engine.base import BuildEvent, BuildRequest, Engine, StepOutput
from mlship.errors import BuildError, MlshipError, UsageError
from mlship.files import read_regular
from mlship.lock.failures import explain
from mlship.lock.indexes import PipSettings, local_path
from mlship.lock.inputs import InputFile
from mlship.lock.installable import GLIBC
from mlship.lock.localfiles import local_files
from mlship.lock.pins import parse_lock
from mlship.lock.secrets import build_secrets
from mlship.lock.wheelhouse import INSTALLER, stage, write_stubs
from mlship.project.base import this_platform
from mlship.project.config import Config
from mlship.render import render
from mlship.requirement_line import parse_requirement
from mlship.resources import read_template

_FLAGS = (
    *("--no-config", "--verbose", "--resolver=backtracking", "--newline=lf"),
    *("--strip-extras", "--allow-unsafe", "--annotation-style=line"),
    *("--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options"),
)
_ENVIRONMENT = {
    "CUSTOM_COMPILE_COMMAND": "mlship lock",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "NO_COLOR": "1",
    "COLUMNS": "200",
}
_LOCK = "requirements.txt"
_CONSTRAINTS = "mlship-constraints.txt"
_LIMITS = "mlship-limits.txt"
_IN_IMAGE = Path("/wheelhouse")
_CONSTRAINT = re.compile(r"(The user requested \(constraint\)) (\S+)")
_SOURCE = re.compile(r"(?:Downloading|Using cached|Processing) (?:\S*/)?([^\s/]+)\.(?:tar\.gz|tar\.bz2|zip)\b")
_WHEEL = re.compile(r"^\S+ @ file://\S*/([^/\s]+\.whl)", re.MULTILINE)


@dataclass(frozen=True)
class Upgrade:
    """Which pins may move; all others stay if they still fit."""

    all: bool = False
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompileRequest:
    """The input of pip-compile.

    Attributes:
        previous: the lock so far, whose pins are kept; empty without a lock.
        limits: requirements that allow only versions built for the chosen CUDA.
        hashes: let pip-compile add hashes too. It downloads each file that PyPI's JSON API does not list: twenty files
            of 800 MB for one torch from another index. mlship.lock.hashes reads the indexes' own pages instead.
        said: what the resolver printed, which it adds.
    """

    config: Config
    files: tuple[InputFile, ...]
    settings: PipSettings
    upgrade: Upgrade
    previous: str
    limits: tuple[str, ...] = ()
    hashes: bool = False
    said: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ResolverPlace:
    local: bool
    reason: str


def choose_place(config: Config) -> ResolverPlace:
    """This machine if its Python, processor and C library match the image's; otherwise the base image."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    libc, libc_version = platform.libc_ver()
    if here != config.python or sys.implementation.name != "cpython":
        return ResolverPlace(local=False, reason=f"mlship runs on Python {here}, the image on {config.python}")
    if sys.platform != "linux" or libc != "glibc":
        return ResolverPlace(local=False, reason="this machine does not run Linux with glibc")
    if this_platform() != config.platform:
        return ResolverPlace(local=False, reason=f"this machine is {platform.machine()}, the image {config.platform}")
    if tuple(int(part) for part in libc_version.split(".")[:2]) > GLIBC[config.base.distro]:
        reason = f"glibc {libc_version} of this machine is newer than that of {config.base.distro}"
        return ResolverPlace(local=False, reason=reason)
    reason = f"this machine has Python {config.python} on {config.platform}, like the image"
    return ResolverPlace(local=True, reason=reason)


def compile_here(question: CompileRequest, work: Path) -> str:
    """Run pip-compile with this interpreter; `work` is a folder for its files.

    Returns:
        The pins; with hashes only if `question.hashes`.

    Raises:
        UsageError, TransientError: see mlship.lock.failures.
    """
    output, inputs = work / _LOCK, work / "repo"
    named = local_files(question.settings, _own_wheels(question.files))
    _write_inputs(question, inputs, {name: file.path for name, file in named.items()})
    output.write_text(question.previous, encoding="utf-8")
    constraints = [str(path) for path in _write_constraints(question, work)]
    argv = [sys.executable, "-Ium", "piptools", *_command(question, str(output), constraints)]
    # pip leaves its temporary folders behind when it is interrupted.
    env = {**_ENVIRONMENT, "TMPDIR": str(work)}
    if question.settings.find_links:
        env["PIP_FIND_LINKS"] = " ".join(question.settings.find_links)
    if question.settings.retries:
        env["PIP_RETRIES"] = question.settings.retries
    lines = list[str]()
    done = process.run(argv, process.Options(cwd=inputs, env=env, on_stdout=partial(_hear, lines)))
    said = "\n".join([*lines, done.stderr])
    if not done.ok:
        raise _failure(said, question)
    question.said.append(said)
    return _without_places(output.read_text(encoding="utf-8"), question.settings, work)


def compile_in_image(question: CompileRequest, engine: Engine, base: str, work: Path, cache: Path) -> str:
    """Run pip-compile in the base image `base` (name@digest); see compile_here.

    Raises:
        UsageError, TransientError: see mlship.lock.failures.
        BuildError, EngineError: from the engine.
    """
    for folder in ("context/lock", "context/repo", "candidates", "out"):
        (work / folder).mkdir(parents=True)
    write_stubs(local_files(question.settings), work / "candidates")
    output: list[str] = []

    def watch(event: BuildEvent) -> None:
        if isinstance(event, StepOutput):
            _hear(output, event.text)

    request = _request(question, base, work, cache)
    try:
        engine.build(request, watch)
    except BuildError as error:
        raise _failure("\n".join(output), question, error) from error
    question.said.append("\n".join(output))
    text = (work / "out" / _LOCK).read_text(encoding="utf-8")
    return _without_places(text, question.settings, Path("/repo"))


def _hear(lines: list[str], line: str) -> None:
    """Keep a line of pip-compile, and say when pip builds a package to read what it requires."""
    lines.append(line)
    if found := _SOURCE.search(line):
        say(f"pip builds {found[1]} from source to read what it requires; this can take minutes")


def _failure(said: str, question: CompileRequest, otherwise: BuildError | None = None) -> MlshipError:
    """The error in pip-compile's output, with the origin of mlship's own constraints: pip calls them the user's."""
    texts = {"--upgrade-package requests": question.upgrade.packages, "mlship requires": question.limits}
    own = [(words, one) for words, lines in texts.items() for line in lines if (one := parse_requirement(line))]

    def named(found: re.Match[str]) -> str:
        asked = parse_requirement(found[2]) or Requirement("unknown")
        same = [(words, one) for words, one in own if canonicalize_name(one.name) == canonicalize_name(asked.name)]
        mine = [(words, one) for words, one in same if one.specifier and {*one.specifier} <= {*asked.specifier}]
        theirs = {*asked.specifier}.difference(*(one.specifier for _, one in mine))
        rest = [f"{found[1]} {asked.name}{SpecifierSet(','.join(map(str, theirs)))}"] if theirs else []
        return "\n".join([*(f"{words} {one}" for words, one in mine), *rest]) if mine else found[0]

    said = _CONSTRAINT.sub(named, said)
    return explain(said, question.config, otherwise, question.settings, question.files)


def resolver_version(place: ResolverPlace) -> str:
    """The version of pip-tools that resolves at this place."""
    pins = {pin.name: pin.version for pin in parse_lock(read_template("resolver.txt"), "resolver.txt")}
    return version("pip-tools") if place.local else pins["pip-tools"]


def _request(question: CompileRequest, base: str, work: Path, cache: Path) -> BuildRequest:
    context, resolver = work / "context", read_template("resolver.txt")
    if question.previous:
        (context / "lock" / _LOCK).write_text(question.previous, encoding="utf-8")
    _write_inputs(question, context / "repo", {name: _IN_IMAGE / name for name in local_files(question.settings)})
    constraints = [path.name for path in _write_constraints(question, context / "repo")]
    command = _command(question, f"/lock/{_LOCK}", constraints)
    return BuildRequest(
        dockerfile=render(
            "lock.Dockerfile.j2",
            base=base,
            resolver=resolver,
            nonce=uuid.uuid4().hex,
            environment=" ".join(f"{name}={shlex.quote(value)}" for name, value in _ENVIRONMENT.items()),
            command=shlex.join(["/resolver/bin/python", "-Ium", "piptools", *command]),
        ),
        ignore="",
        context=context,
        platform=question.config.platform,
        export=work / "out",
        secrets=build_secrets(question.settings),
        contexts={
            "wheelhouse": stage(question.settings, {INSTALLER: parse_lock(resolver, "resolver.txt")}, cache),
            "candidates": work / "candidates",
        },
    )


def _write_inputs(question: CompileRequest, folder: Path, wheels: Mapping[str, Path]) -> None:
    for file in question.files:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(file.resolved(wheels), encoding="utf-8", newline="")


def _own_wheels(files: Iterable[InputFile]) -> frozenset[str]:
    """Names of the packages that the requirements name by a wheel in the repository."""
    paths = (PurePosixPath(path) for file in files for path in file.wheels.values())
    return frozenset(parse_wheel_filename(path.name)[0] for path in paths)


def _command(question: CompileRequest, output: str, constraints: list[str]) -> list[str]:
    return [
        *("compile", *_FLAGS, *(["--generate-hashes"] if question.hashes else []), "--output-file", output),
        *(part for name in constraints for part in ("--constraint", name)),
        *(["--upgrade"] if question.upgrade.all else []),
        *(part for name in question.upgrade.packages for part in ("--upgrade-package", name)),
        *("--", question.config.requirements.input),
    ]


def _write_constraints(question: CompileRequest, folder: Path) -> Iterator[Path]:
    """Write pip's `constraint` setting and the limits of the chosen CUDA to files.

    Files, because addresses in the setting may hold a password and argv is public.
    """
    parts = [f"-c {c}" if (path := local_path(c)) is None else _text(path) for c in question.settings.constraints]
    for name, lines in ((_CONSTRAINTS, parts), (_LIMITS, question.limits)):
        if lines:
            (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
            yield folder / name


def _text(path: Path) -> str:
    try:
        return read_regular(path)
    except (OSError, UnicodeDecodeError) as error:
        hint = "correct the `constraint` setting; see `pip config list` and PIP_CONSTRAINT"
        raise UsageError(f"cannot read `{path}`, the constraints file in pip's configuration", hint=hint) from error


def _without_places(text: str, settings: PipSettings, folder: Path) -> str:
    """Name wheels by their version, also one required with `===`, and constraints files in comments by their origin.

    A path or address of this machine means nothing elsewhere.
    """
    text = text.replace("===", "==")
    text = _WHEEL.sub(lambda found: "{}=={}".format(*parse_wheel_filename(unquote(found[1]))[:2]), text)
    for name in (str(folder / _CONSTRAINTS), _CONSTRAINTS, *settings.constraints):
        text = text.replace(f"-c {name}", "-c pip.conf")
    for name in (str(folder / _LIMITS), _LIMITS):
        text = text.replace(f"-c {name}", "-c mlship.lock")
    return text
