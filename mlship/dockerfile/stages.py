"""The stages of a Dockerfile with what each of them does, as far as its text decides it. Pure."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from posixpath import basename, dirname, join, normpath, relpath

from mlship.dockerfile.lexer import DockerfileError, Instruction, lex
from mlship.dockerfile.shell import SHELLS, Command, command_table, commands
from mlship.dockerfile.words import UNKNOWN, expand, pairs, split_words

_MOST_COPIED = 10_000  # paths: stages that copy from each other can double them
# Set by BuildKit for the platforms of a build, and for proxies.
_OF_PLATFORM = {f"{where}{what}" for where in ("TARGET", "BUILD") for what in ("PLATFORM", "OS", "ARCH", "VARIANT")}


@dataclass(frozen=True)
class TakenImage:
    """An image that the build takes from a registry, or UNKNOWN in it; `line` names it."""

    image: str
    line: int


@dataclass(frozen=True)
class Setting:
    """A variable or label that the file sets; the value is None for an ARG without one."""

    kind: str
    name: str
    value: str | None
    line: int


@dataclass(frozen=True)
class CopiedFiles:
    """Files of the build context in an image.

    Attributes:
        places: paths in the image, each with what is copied there, and whether that may be a folder; the last is last.
    """

    workdir: str = "/"
    places: tuple[tuple[str, str, bool], ...] = ()

    def sources(self, path: str) -> Iterator[str]:
        """The paths in the build context that a path in the image may come from, the last copy first."""
        inside = normpath(join(self.workdir, path))
        for place, source, is_folder in reversed(self.places):
            if fnmatchcase(inside, place):
                yield normpath(join(dirname(source), basename(inside)) if "*" in source else source)
            elif is_folder and inside.startswith(below := f"{place.rstrip('/')}/"):
                yield normpath(join(source, inside.removeprefix(below)))


@dataclass(frozen=True)
class Run:
    """A RUN instruction.

    Attributes:
        commands: what it runs; `known` says whether that is all.
        files: what it can read.
        mounts: the options of each mount, and the `user` who runs the commands; empty if the base decides.
        env: variables of package managers that are set for it.
    """

    line: int
    text: str
    commands: tuple[Command, ...]
    mounts: tuple[Mapping[str, str], ...]
    known: bool = True
    files: CopiedFiles = field(default_factory=CopiedFiles, compare=False)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """How a container starts: CMD, ENTRYPOINT or the command of HEALTHCHECK."""

    line: int
    text: str
    exec_form: tuple[str, ...] | None


@dataclass(eq=False)
class BuildStage:
    """One stage. What it takes from a stage of this file is in it; what it takes from another image is not.

    Attributes:
        base: the image or stage that it starts from; `parent` is the number of that stage.
        root: the image in a registry that it starts from, after all stages between; "scratch" for none.
        env: of the environment, what the file sets.
        workdir: the folder of the last WORKDIR; "/" without one, though the base may have another.
        ports: those of EXPOSE, such as 8080/tcp.
        copied: where files and folders of the build context are, each with its path there.
        parts: lines and absolute paths of COPY from another stage, or from an image (None).
        user, cmd, entrypoint, healthcheck: the last of each, with its line; None where the file has none.
    """

    name: str
    base: str
    parent: int | None
    root: TakenImage
    env: dict[str, str] = field(default_factory=dict)
    args: dict[str, str | None] = field(default_factory=dict)
    user: tuple[str, int] | None = None
    cmd: Start | None = None
    entrypoint: Start | None = None
    healthcheck: Start | None = None
    shell: tuple[str, ...] = ("/bin/sh", "-c")
    ports: tuple[str, ...] = ()
    workdir: str = "/"
    copied: tuple[tuple[str, str, bool], ...] = ()
    runs: list[Run] = field(default_factory=list)
    parts: dict["BuildStage | None", list[tuple[int, str]]] = field(default_factory=dict)
    taken: list[TakenImage] = field(default_factory=list)
    triggers: list[Instruction] = field(default_factory=list)

    @property
    def files(self) -> CopiedFiles:
        return CopiedFiles(self.workdir, self.copied)

    @property
    def command(self) -> tuple[str, ...]:
        """The argument list that a container starts, as Docker joins ENTRYPOINT and CMD; empty if the base decides."""
        if self.entrypoint and self.entrypoint.exec_form is None:  # a shell form takes no arguments
            return self.argv(self.entrypoint)
        return (*self.argv(self.entrypoint), *self.argv(self.cmd))

    def argv(self, start: Start | None) -> tuple[str, ...]:
        """CMD or ENTRYPOINT as it is in the image: the shell form is an argument of the shell."""
        if start is None:
            return ()
        return (*self.shell, start.text) if start.exec_form is None else start.exec_form

    def lookup(self, name: str) -> str | None:
        """A variable's value; unknown unless this file decides it."""
        found = self.env.get(name, self.args.get(name))
        unset = None if self.root.image == "scratch" and name not in self.args else UNKNOWN
        return unset if found is None else found


@dataclass(frozen=True)
class ParsedDockerfile:
    """A Dockerfile.

    Attributes:
        stages: up to the one that is built; `settings` and `instructions` are those of the whole file.
    """

    stages: tuple[BuildStage, ...]
    settings: tuple[Setting, ...]
    instructions: tuple[Instruction, ...]

    @property
    def shipped(self) -> tuple[BuildStage, ...]:
        """The last stage, and the stages that it starts from: their layers are in the image."""
        return self.chain(self.stages[-1])

    def chain(self, stage: BuildStage | None) -> tuple[BuildStage, ...]:
        """A stage, after the stages that it starts from; none for an image."""
        found = [stage] if stage else []
        while found and (parent := found[-1].parent) is not None:
            found.append(self.stages[parent])
        return tuple(found[::-1])

    @property
    def images(self) -> tuple[TakenImage, ...]:
        """Every image that the build takes from a registry."""
        bases = (stage.root for stage in self.stages if stage.parent is None and stage.base != "scratch")
        taken = (one for stage in self.stages for one in stage.taken)
        return tuple(sorted({*bases, *taken}, key=lambda one: (one.line, one.image)))


def parse_dockerfile(text: str, target: str = "") -> ParsedDockerfile:
    """Read a Dockerfile up to the stage `target`, or to its last one.

    Raises:
        DockerfileError: BuildKit would refuse it, or it has no such stage.
    """
    instructions, escape = lex(text)
    reader = _Reader(escape)
    for instruction in instructions:
        reader.take(instruction)
    if not reader.stages:
        raise DockerfileError(1, "it has no FROM")
    last = reader.stage(target) if target else reader.stages[-1]
    if last is None:
        names = ", ".join(one.name or str(number) for number, one in enumerate(reader.stages))
        raise DockerfileError(1, f"it has no stage `{target}`, only {names}", "pass one of these to `--target`")
    return ParsedDockerfile(tuple(reader.stages[: reader.stages.index(last) + 1]), tuple(reader.settings), instructions)


@dataclass
class _Reader:
    escape: str
    stages: list[BuildStage] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    arguments: dict[str, str | None] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)

    def take(self, one: Instruction) -> None:
        if one.name == "FROM":
            self._start(one)
        elif self.stages:
            self._apply(self.stages[-1], one)
        elif one.name == "ARG":
            for name, value in pairs(one.text, self.escape, self._global, arguments=True):
                self.arguments[name] = value
                self.settings.append(Setting("ARG", name, value, one.line))
        else:
            raise DockerfileError(one.line, f"{one.name} comes before the first FROM")

    def _global(self, name: str) -> str | None:
        if name in _OF_PLATFORM or (name in self.arguments and self.arguments[name] is None):
            return UNKNOWN
        return self.arguments.get(name)

    def _start(self, one: Instruction) -> None:
        words = one.text.split()
        if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
            raise DockerfileError(one.line, "FROM needs an image, and optionally `AS name`")
        base = expand(words[0], self.escape, self._global)
        parent = self.names.get(base.lower())  # of two stages with one name, the later
        name = words[2].lower() if len(words) == 3 else ""
        if name:
            self.names[name] = len(self.stages)
        if parent is None:
            self.stages.append(BuildStage(name, base, None, TakenImage(base or UNKNOWN, one.line)))
            return
        of = self.stages[parent]
        start = (of.user, of.cmd, of.entrypoint, of.healthcheck, of.shell, of.ports, of.workdir, of.copied)
        stage = BuildStage(name, base, parent, of.root, dict(of.env), {}, *start)
        self.stages.append(stage)
        for trigger in of.triggers:
            self._apply(stage, trigger)

    def stage(self, source: str) -> BuildStage | None:
        """A stage by its name or number."""
        number = int(source) if re.fullmatch("[0-9]{1,9}", source) else self.names.get(source.lower())
        return self.stages[number] if number is not None and number < len(self.stages) else None

    def _apply(self, stage: BuildStage, one: Instruction) -> None:
        if one.name in ("ARG", "ENV", "LABEL"):
            self._set(stage, one)
        elif one.name == "USER":
            stage.user = (expand(one.text, self.escape, stage.lookup), one.line)
        elif one.name == "WORKDIR":
            stage.workdir = normpath(join(stage.workdir, expand(one.text, self.escape, stage.lookup)))
        elif one.name in ("CMD", "ENTRYPOINT", "HEALTHCHECK"):
            setattr(stage, one.name.lower(), Start(one.line, one.text, one.exec_form))
            if one.name == "ENTRYPOINT" and stage.parent is not None and stage.cmd is self.stages[stage.parent].cmd:
                stage.cmd = None  # an inherited one, which belongs to the other entrypoint
        elif one.name == "SHELL":
            stage.shell = one.exec_form or ()
        elif one.name == "EXPOSE":
            words = (expand(word, self.escape, stage.lookup) for word in split_words(one.text, self.escape))
            stage.ports = (*stage.ports, *words)
        elif one.name == "RUN":
            stage.runs.append(self._run(stage, one))
        elif one.trigger:
            stage.triggers.append(one.trigger)
        self._take(stage, one)

    def _take(self, stage: BuildStage, one: Instruction) -> None:
        """Images that it copies from or mounts, and files of the build context that it copies."""
        if one.name in ("ADD", "COPY"):
            given = one.exec_form or split_words(one.text, self.escape)
            *words, target = [expand(word, self.escape, stage.lookup) for word in given] or [""]
            of = [self.stage(expand(name, self.escape, self._global)) for name in one.values("from")]
            has = (("/", "", True),) if not of else of[-1].copied if of[-1] else ()
            for source in of:
                stage.parts.setdefault(source, []).extend((one.line, normpath(join("/", word))) for word in words)
            into = join(stage.workdir, target)
            copied = (*stage.copied, *(copy for word in words for place in has for copy in _copies(word, place, into)))
            stage.copied = copied if len(copied) < _MOST_COPIED else (("/", "", True),)
        sources = [*one.values("from"), *(mount.get("from", "") for mount in self._mounts(stage, one))]
        named = (expand(source, self.escape, self._global) for source in sources if source)
        stage.taken += [TakenImage(name, one.line) for name in named if self.stage(name) is None]

    def _set(self, stage: BuildStage, one: Instruction) -> None:
        for name, given in pairs(one.text, self.escape, stage.lookup, arguments=one.name == "ARG"):
            value = self.arguments.get(name) if given is None and one.name == "ARG" else given
            if one.name == "ENV":
                stage.env[name] = value or ""
            elif one.name == "ARG":
                stage.args[name] = value
            self.settings.append(Setting(one.name, name, value, one.line))

    def _run(self, stage: BuildStage, one: Instruction) -> Run:
        script = one.text if one.exec_form is None else shlex.join(one.exec_form)
        known, found = True, commands(script, stage.lookup)
        if one.exec_form is None and not _is_shell(stage.shell):
            known, found = False, ()
        elif one.heredocs:
            # Without a command, the shell runs the document; a program such as `python` reads it otherwise.
            alone = not found or (len(found) == 1 and found[0].program in SHELLS)
            start = one.heredocs[0].partition("\n")[0]
            is_shell = alone and (not start.startswith("#!") or _is_shell(start[2:].split()))
            inside = tuple(each for body in one.heredocs for each in commands(body, stage.lookup)) if is_shell else ()
            known, found = is_shell or bool(found), inside or found
        text, mounts = "\n".join((one.text, *one.heredocs)), tuple(self._mounts(stage, one))
        places = (one for one in mounts if one.get("type", "bind") == "bind" and "from" not in one)
        bound = ((normpath(join(stage.workdir, one["target"])), one.get("source", "."), True) for one in places)
        values = ((name, stage.env.get(name, stage.args.get(name))) for name in command_table().variables)
        env = {name: value for name, value in values if value}
        return Run(one.line, text, found, mounts, known, CopiedFiles(stage.workdir, stage.copied + tuple(bound)), env)

    def _mounts(self, stage: BuildStage, one: Instruction) -> Iterator[Mapping[str, str]]:
        for value in one.values("mount"):
            found = dict(part.partition("=")[::2] for part in expand(value, self.escape, stage.lookup).split(","))
            target = found.get("target") or found.get("dst") or found.get("destination") or ""
            yield {**found, "target": target, "user": stage.user[0].partition(":")[0] if stage.user else ""}


def _copies(word: str, copied: tuple[str, str, bool], target: str) -> Iterator[tuple[str, str, bool]]:
    """Where COPY puts a file, or a folder's files, each place with its source and whether that may be a folder."""
    place, source, is_folder = copied
    if rest := _rest(place, word):
        yield normpath(join(target, rest)), source, is_folder
    elif rest is not None:
        name, inner = basename(word), normpath(join(source, relpath(f"/{word}", place)))
        yield normpath(join(target, name)), inner, False
        if basename(target).strip(".") or "." not in name.strip("."):
            yield normpath(target), inner, True  # a folder, whose files are copied, or the name of the file


def _rest(path: str, word: str) -> str | None:
    """What a path has below the folder or pattern that COPY names; empty if it may have that in it, None if neither."""
    parts, named = ([one for one in normpath(f"/{text}").split("/") if one] for text in (path, word))
    is_made = bool(parts) and any(one.endswith("venv") for one in named[len(parts) :])  # by a step
    return None if is_made or not all(map(fnmatchcase, parts, named)) else "/".join(parts[len(named) :])


def _is_shell(words: Sequence[str]) -> bool:
    """Whether a program such as `conda run` starts a shell, or this is one."""
    return any(word.rpartition("/")[2] in SHELLS for word in words)
