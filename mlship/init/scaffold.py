"""Generate the files of `mlship init` and write them without overwriting."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import starmap
from pathlib import Path
from textwrap import indent

from mlship.errors import UsageError
from mlship.files import read_regular, sha256_file, write_new
from mlship.init.complete import complete, keys_of, open_line, with_requirements, with_weights
from mlship.init.declared.collect import SERVING_INPUT
from mlship.init.declared.result import distribution
from mlship.init.dependencies import CONSTRAINTS, INSTALLS, Dependencies, system_packages
from mlship.init.file_plan import SAMPLE, FilePlan, plan_files, starts_generated
from mlship.init.found import Detected, Detection, Routes
from mlship.init.generated import server_files
from mlship.init.todo import MEANINGS, Todo, refused_files, request_lines, steps
from mlship.project.config import Base, config_schema
from mlship.project.git import ignored_paths
from mlship.project.load import FILE_NAME as CONFIG
from mlship.project.paths import LEFT_OUT, PRIVATE, leads_outside
from mlship.render import render
from mlship.units import few

_INPUTS = {"requirements.in", SERVING_INPUT}
_CODE_INDENT = " " * 7
_OWN_ROUTES = Routes("/health/live", "/health/ready", "/predict")
_OPEN = ("load", "sample", "command", "source", *MEANINGS)  # what mlship.yaml may leave open
_OWN_INPUT = "init/requirements.in.j2"


@dataclass(frozen=True)
class NewFile:
    """A file to add to the repository, and why."""

    path: str
    text: str
    why: str


@dataclass(frozen=True)
class Kept:
    """An existing file that stays unchanged, and why."""

    path: str
    why: str


@dataclass(frozen=True)
class Scaffold:
    """Files to write, files to keep, and manual steps before `mlship lock`.

    Attributes:
        unfinished: mlship.yaml with one key left open, by key.
        notes: remarks about the choices.
        completed: an existing mlship.yaml with lines that were left open and are known now; None without any.
    """

    files: tuple[NewFile, ...]
    kept: tuple[Kept, ...]
    steps: tuple[Todo, ...]
    unfinished: Mapping[str, str] = field(default_factory=dict)
    completed: NewFile | None = None
    notes: tuple[str, ...] = ()

    @property
    def todo(self) -> tuple[str, ...]:
        return tuple(step.text + indent(f"\n{step.example}", _CODE_INDENT).rstrip() for step in self.steps)


def scaffold(found: Detection, parts: frozenset[str] = frozenset()) -> Scaffold:
    """Plan all files, whether or not they exist already; `parts` are options of `mlship init`, such as `shadow`."""
    plan = plan_files(found, parts)
    why = "zeros with the shape of the model inputs" if found.native else "the example in your code"
    other = found.beside and starts_generated(found) is False  # mlship.yaml is of the other server
    load, schema = plan.load if plan.generated else None, json.dumps(config_schema(), indent=2) + "\n"
    served = server_files(found, load, plan.sample or SAMPLE, parts=plan.parts) if load else ()
    return Scaffold(
        files=(
            NewFile("mlship.yaml", _yaml(found, plan), "what to ship and how to test it"),
            *_requirements(plan.dependencies),
            NewFile(".dockerignore", _dockerignore(found, plan), "limits the build context to shipped files"),
            *starmap(NewFile, served),
            *([NewFile(SAMPLE, plan.made_up, why)] if plan.made_up else []),
            NewFile(".mlship/schema.json", schema, "schema of mlship.yaml for editors"),
        ),
        kept=tuple(_kept(found, plan)),
        steps=tuple(steps(found, plan)),
        unfinished={} if other else {key: _yaml(found, plan, key) for key in _OPEN},
        notes=(*plan.dependencies.notes, *found.variables.notes),
    )


def keep_existing(planned: Scaffold, repo: Path) -> Scaffold:
    """Keep files that exist in the repository instead of writing them, but complete open lines of mlship.yaml."""
    planned = _completed(planned, repo)
    existing = {file.path for file in planned.files if os.path.lexists(repo / file.path)}
    return Scaffold(
        files=tuple(file for file in planned.files if file.path not in existing),
        kept=(*(Kept(file.path, "already exists") for file in planned.files if file.path in existing), *planned.kept),
        steps=(*planned.steps, *_unrequired(planned, repo)),
        completed=planned.completed,
        notes=(*planned.notes, *_hidden(planned, repo)),
    )


def _unrequired(planned: Scaffold, repo: Path) -> Iterator[Todo]:
    """Requirements of a new server or model that an earlier run did not write into its file."""
    for file in planned.files:
        if file.path in _INPUTS and (repo / file.path).is_file():
            named = {distribution(line) for line in read_regular(repo / file.path).splitlines()}
            lines = [line.partition("#")[0].strip() for line in file.text.splitlines()]
            if missing := [line for line in lines if (name := distribution(line)) and name not in named]:
                yield Todo(f"Add these lines to `{file.path}`.", example="\n".join(missing))


def _hidden(planned: Scaffold, repo: Path) -> Iterator[str]:
    """Files of the image that git would not commit."""
    if hidden := ignored_paths(repo, [file.path for file in planned.files]):
        paths = few([f"`{path}`" for path in hidden])
        yield f"git ignores {paths}, so other checkouts lack {'it' if len(hidden) == 1 else 'them'}: change .gitignore"


def _completed(planned: Scaffold, repo: Path) -> Scaffold:
    """Drop the steps that mlship.yaml shows to be done, and say where the others are."""
    now = next(file for file in planned.files if file.path == CONFIG)
    text, completed = now.text, None
    with suppress(OSError, UnicodeDecodeError):
        written = read_regular(repo / CONFIG)
        text, filled = complete(written, now.text, planned.unfinished)
        if "command" in filled:
            text = with_requirements(text, now.text)
        if "load" in filled:
            text = with_weights(text, now.text)
        if filled:
            completed = NewFile(CONFIG, text, f"completed: {', '.join(filled)}")
    present = keys_of(text)
    open_ = ((one, open_line(text, one.keys)) for one in planned.steps if present.isdisjoint(one.keys))
    steps = (replace(one, text=f"{one.text[:-1]} ({CONFIG}, line {line}).") if line else one for one, line in open_)
    return replace(planned, steps=tuple(steps), completed=completed, files=tuple(_wanted(planned.files, text)))


def _wanted(files: Sequence[NewFile], config: str) -> Iterator[NewFile]:
    """Without a requirements file, and its constraints, that mlship.yaml does not name."""
    named = re.search(r"^  input: (\S+)", config, re.MULTILINE)
    unnamed = _INPUTS - {named[1] if named else "requirements.in"}
    dropped = {file.path for file in files if file.path in unnamed}
    yield from (file for file in files if file.path not in dropped and not (dropped and file.path == CONSTRAINTS))


def write_scaffold(repo: Path, files: tuple[NewFile, ...]) -> tuple[str, ...]:
    """Write each file atomically and return the paths written. Existing files are never replaced.

    Raises:
        UsageError: a parent folder is a symbolic link out of the repository.
        OSError: the repository is not writable, or the disk is full.
    """
    for file in files:
        if leads_outside(repo, (repo / file.path).parent):
            raise UsageError(
                f"`{file.path}` would be written outside `{repo}`: its folder is a symbolic link",
                hint="remove the link, then run `mlship init` again",
            )
    return tuple(file.path for file in files if write_new(repo / file.path, file.text))


def _yaml(found: Detection, plan: FilePlan, left_open: str = "") -> str:
    """The text of mlship.yaml, with one key left open although its value is known."""
    routes = found.server.routes if found.server else _OWN_ROUTES
    load = None if left_open == "load" else plan.load
    sample = None if left_open == "sample" else plan.sample
    return render(
        "init/mlship.yaml.j2",
        name=found.name,
        python=Detected(found.python.value, _one_line(found.python.why)),
        requirements=plan.dependencies,
        load=load,
        weights=found.weights.named,
        sample=sample,
        request=request_lines(routes) if found.tests_server_only and sample is None else (),
        tests_server_only=found.tests_server_only,
        pickles=[
            (one.path, sha256_file(found.root / one.path).removeprefix("sha256:")) for one in refused_files(found)
        ],
        golden=found.golden.value,
        training=found.training,
        command=() if left_open == "command" else plan.command,
        origin=_one_line(found.server.why) if found.server else "",
        opaque=not plan.generated and bool(found.server and found.server.opaque),
        port=found.port,
        port_known=plan.generated or not found.server or found.server.port_known,
        routes=[(k, None if k == left_open else getattr(routes, k), meaning) for k, meaning in MEANINGS.items()],
        source=() if left_open == "source" else plan.source,
        python_path=found.python_path,
        variables=found.variables.values,
        system=system_packages(plan.dependencies, Base().distro),
        gpus=_one_line("; ".join(found.gpus.evidence)),
    )


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _requirements(chosen: Dependencies) -> tuple[NewFile, ...]:
    if chosen.template is None:
        return ()
    purposes: dict[str, list[str]] = {"for the server": [], "for the model files": [], "as in your Dockerfile": []}
    for line in chosen.needs:
        commented = "as in your Dockerfile" if line.endswith(INSTALLS) else "for the model files"
        purposes[commented if "  #" in line else "for the server"].append(line.partition("  #")[0])
    origin = [f"from {chosen.origin}"] if chosen.origin else []
    why = "; ".join([*origin, *(f"{purpose}: {', '.join(needs)}" for purpose, needs in purposes.items() if needs)])
    text = render(chosen.template, **vars(chosen))
    new = NewFile(chosen.input, text, why or "empty: no dependencies of served code found")
    if not chosen.constraints:
        return (new,)
    constraints = render("init/constraints.txt.j2", origin=chosen.pinned_by, lines=chosen.constraints)
    return (new, NewFile(CONSTRAINTS, constraints, f"the versions in {chosen.pinned_by}, which the lock starts from"))


def _dockerignore(found: Detection, plan: FilePlan) -> str:
    shipped = (plan.sample, found.golden.value, *plan.source, *found.weights.named)
    needed = (plan.dependencies.lock, *([] if plan.dependencies.template else [plan.dependencies.input]))
    paths = [path for path in (*needed, *shipped) if path]
    return render("init/dockerignore.j2", paths=list(dict.fromkeys(paths)), left_out=LEFT_OUT + PRIVATE, named=())


def _kept(found: Detection, plan: FilePlan) -> Iterator[Kept]:
    chosen = plan.dependencies
    if chosen.template != _OWN_INPUT:
        yield Kept(chosen.origin, "your requirements, used for the lock")
    server = found.beside or (found.server.path if found.server else "")
    if server and not re.search("Dockerfile|Procfile", server):  # of a program that is not the repository's
        another = (ours := starts_generated(found)) or (ours is None and found.beside)
        config = read_regular(found.root / CONFIG) if ours is not None else ""
        source = re.findall(r"[\w./-]+", "".join(re.findall(r"(?ms)^source:.*?(?=^[^\s#-]|\Z)", config)))
        ships = ours is None or any(f"{server}/".startswith(f"{one}/") for one in source)
        how = "shipped unchanged" if ships else f"unchanged; add it to `source` in {CONFIG}"
        yield Kept(server, f"your server, {f'unchanged; {CONFIG} starts another' if another else how}")
