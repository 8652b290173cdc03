"""The Dockerfile that builds the server's image, which may be that of a compose file or of a folder."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from posixpath import dirname, join, normpath, relpath

from mlship import plain
from mlship.dockerfile.lexer import DockerfileError
from mlship.dockerfile.shell import program_and_arguments
from mlship.dockerfile.stages import BuildStage, ParsedDockerfile, Run, Start, parse_dockerfile
from mlship.init.declared.documents import document_if_any, table_in
from mlship.init.sources import parse_module
from mlship.init.start_scripts import read_start_script
from mlship.init.tree import SIDE_FOLDERS, Tree
from mlship.project.commands import is_server, parse_command, program_name, python_module, takes_no_sample
from mlship.units import few

_COMPOSE = r"(docker-)?compose([.-][\w-]+)*\.ya?ml"
_DOCKERFILE = r"Dockerfile([.-][\w-]+)*|[\w-]+\.[Dd]ockerfile"
_SIDE = {*SIDE_FOLDERS, "example", "train", "ci"}
_INSTALLS = r"(?s)(pip|uv|poetry|pdm|pipenv|conda|mamba|micromamba) (.* )?(install|sync|add|create|env update)( .*)?"
_DEFAULT = re.compile(r"(?<!\$)\$\{\w+:?-([^{}$]*)\}")
_MOST = 50  # files read of a kind


@dataclass(frozen=True)
class Build:
    """How the repository builds an image.

    Attributes:
        stage: the stage that is shipped; None without a readable Dockerfile.
        origin: the file with the command.
        folder: the folder that the image has, below the repository; empty for all of it.
        notes: Dockerfiles that are not used, and why.
        runs: what the image's stages run; dockerfile: the file that has them.
    """

    stage: BuildStage | None = None
    origin: str = "Dockerfile"
    folder: str = ""
    notes: tuple[str, ...] = ()
    runs: tuple[Run, ...] = ()
    dockerfile: str = "Dockerfile"

    def source(self, tree: Tree, path: str) -> str:
        """The file of the repository that the image has at a path; empty if its COPY instructions say none."""
        places = self.stage.files.sources(path) if self.stage else ()
        return next((at for one in places if (at := normpath(f"{self.folder or '.'}/{one}")) in tree), "")

    def placed(self, tree: Tree, command: Sequence[str]) -> tuple[tuple[str, ...], str]:
        """A command with the scripts that the image has under other names, and the folder that its modules are from."""
        words, folder = list(command), self.folder
        for at, word in enumerate(words):
            name = word.partition(":")[0].removeprefix("./")
            path = name if name.endswith(".py") else f"{name.replace('.', '/')}.py"
            source = self.source(tree, path)
            if source == path or source.endswith(f"/{path}"):
                folder = source.removesuffix(path).rstrip("/")
            elif source and path == name:
                words[at] = source
        return tuple(words), folder


def find_build(tree: Tree) -> Build:
    """The repository's Dockerfile; without one, or if that starts something else, the only other with a server.

    A compose file may say the command for the repository's Dockerfile.
    """
    root = Build()
    if text := tree.text("Dockerfile"):
        try:
            parsed = parse_dockerfile(text)
        except DockerfileError as error:
            return Build(notes=(f"ignored Dockerfile, because BuildKit rejects it: {error}",))
        root = Build(parsed.stages[-1], runs=_runs(parsed))
    if (stage := root.stage) and _serves(tree, root):
        return root
    any_file = not stage or takes_no_sample(parse_command(stage.command, stage.env) or ())
    root = replace(root, stage=replace(stage, ports=())) if stage and any_file else root
    of = [one for one in _builds(tree) if any_file or one.dockerfile == "Dockerfile"]
    built = [(one, one.stage) for one in of if one.stage and _serves(tree, one)]
    first = reversed(built)  # of equal ones
    found = {(one.folder, stage.workdir, stage.command): one for one, stage in first}
    if len(found) > 1:
        origins = few([f"`{origin}`" for origin in dict.fromkeys(one.origin for one, _ in built)])
        several = f"{origins} start several servers; for one in a folder of its own, run `mlship init -C FOLDER`"
        return replace(root, notes=(several,))
    alike = [f"`{path}`" for path in dict.fromkeys(one.dockerfile for one, _ in built)]
    same = f"{few(alike)} start the same server; what {alike[0]} installs is used" if alike[1:] else ""
    return replace(next(iter(found.values()), root), notes=(same,) * bool(same))


def _serves(tree: Tree, build: Build) -> bool:
    """Whether the command starts a known server, or Python code that has one."""
    started, variables = (build.stage.command, build.stage.env) if build.stage else ((), {})
    script = read_start_script(tree, started, variables)
    command = script.command if script else parse_command(started, variables)
    if not command or is_server(command):
        return bool(command)
    name = python_module(command).replace(".", "/") or "".join(command[1:2]).removeprefix("./").removesuffix(".py")
    path = build.source(tree, f"{name}.py") or normpath(f"{build.folder or '.'}/{name}.py")
    module = parse_module(path, tree.text(path) or "") if program_name(command).startswith("python") else None
    return bool(module and (module.apps or module.served or module.start))


def _builds(tree: Tree) -> Iterator[Build]:
    """The builds of compose files, and those of other Dockerfiles."""
    composed = [one for path in _named(tree, _COMPOSE) for one in _services(tree, path)]
    known = {file for file, *_ in composed}
    alone = [(path, dirname(path), "", None) for path in _named(tree, _DOCKERFILE) if path not in known]
    for file, folder, compose, service in (*composed, *alone):
        try:
            parsed = parse_dockerfile(tree.text(file) or "")
        except DockerfileError:
            continue
        stage = _as_service(own := parsed.stages[-1], folder, compose, service)
        origin = file if stage.command == own.command else compose
        yield Build(stage, origin, folder, (), _runs(parsed), file)


def _runs(parsed: ParsedDockerfile) -> tuple[Run, ...]:
    """What the shipped stages run, or all of them if these install no packages: a stage may be copied from another."""
    shipped = tuple(run for stage in parsed.shipped for run in stage.runs)
    ran = (program_and_arguments(command) for run in shipped for command in run.commands)
    if any(re.fullmatch(_INSTALLS, " ".join((program, *arguments))) for program, arguments in ran):
        return shipped
    return tuple(run for stage in parsed.stages for run in stage.runs)


def _named(tree: Tree, pattern: str) -> list[str]:
    served = (path for path in tree.files if _SIDE.isdisjoint(path.lower().split("/")[:-1]))
    return [path for path in served if re.fullmatch(pattern, PurePosixPath(path).name)][:_MOST]


def _services(tree: Tree, path: str) -> Iterator[tuple[str, str, str, object]]:
    """The Dockerfile and the folder of each service of a compose file that is built from this repository.

    https://docs.docker.com/reference/compose-file/build/
    """
    for service in table_in(document_if_any(tree, path), "services").values():
        if not (build := plain.at(service, "build")):
            continue
        table = table_in(build) if isinstance(build, Mapping) else {"context": build}
        context, dockerfile = table.get("context", "."), table.get("dockerfile", "Dockerfile")
        folder = normpath(f"{dirname(path) or '.'}/{context}")
        if (file := normpath(f"{folder}/{dockerfile}")) in tree:
            yield file, "" if folder == "." else folder, path, service


def _words(value: object) -> tuple[str, ...] | None:
    """A command of a compose file, which is split as a shell does, but not run by one; None without a certain one."""
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError:
            return None
    words = tuple(_DEFAULT.sub(r"\1", str(word)) for word in value) if isinstance(value, Sequence) else ()
    return words if words and not any("$" in word for word in words) else None


def _as_service(stage: BuildStage, folder: str, compose: str, service: object) -> BuildStage:
    """The stage as a compose file runs it; an entrypoint there also removes the Dockerfile's command."""
    given = {name: _words(plain.at(service, name)) for name in ("command", "entrypoint")}
    starts = {name: Start(0, shlex.join(words), words) for name, words in given.items() if words}
    cmd = starts.get("command", None if "entrypoint" in starts else stage.cmd)
    place = plain.text(service, "working_dir") or stage.workdir
    pairs = [one.split(":") for one in plain.texts(service, "volumes") or () if re.match(r"\..*:", one)]
    mounted = ((to, relpath(join(dirname(compose), source), folder or "."), True) for source, to, *_ in pairs)
    copied = (*stage.copied, *mounted)
    return replace(stage, entrypoint=starts.get("entrypoint", stage.entrypoint), cmd=cmd, workdir=place, copied=copied)
