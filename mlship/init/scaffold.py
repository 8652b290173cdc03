"""What `mlship init` writes: pure texts from what was found, and one small step that never overwrites."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeAlias

from mlship.errors import UsageError
from mlship.files import write_new
from mlship.init.dependencies import FROM_IMPORTS, Dependencies, choose_dependencies
from mlship.init.found import Detected, Detection, Routes
from mlship.project.commands import app_command
from mlship.project.config import json_schema
from mlship.project.onnx_header import OnnxHeader, Tensor
from mlship.project.paths import LEFT_OUT, leads_outside
from mlship.render import render

_MEANINGS = {
    "live": "200 as soon as the process answers",
    "ready": "200 once the model is loaded and warm",
    "predict": "POST; takes the sample",
}
_OWN_ROUTES = Routes("/health/live", "/health/ready", "/predict")
_SAMPLE = "sample.json"
_OWN_INPUT = "init/requirements.in.j2"
_LARGEST_SAMPLE = 200_000  # numbers in the file

Nested: TypeAlias = "float | int | bool | str | list[Nested]"


@dataclass(frozen=True)
class NewFile:
    """A file that belongs into the repository, and why."""

    path: str
    text: str
    why: str


@dataclass(frozen=True)
class Kept:
    """A file of the repository that stays as it is, and what that means."""

    path: str
    why: str


@dataclass(frozen=True)
class Scaffold:
    """What to write, what stays, and what remains for a person to do before `mlship lock`."""

    files: tuple[NewFile, ...]
    kept: tuple[Kept, ...]
    todo: tuple[str, ...]


@dataclass(frozen=True)
class _Plan:
    load: str | None
    generated: bool
    sample: str | None
    made_up: str | None
    command: tuple[str, ...]
    dependencies: Dependencies
    source: tuple[str, ...]


def scaffold(found: Detection) -> Scaffold:
    """Everything that a repository like this one needs, whether it has it already or not."""
    plan = _decide(found)
    return Scaffold(
        files=(
            NewFile("mlship.yaml", _yaml(found, plan), "what is shipped, and how it is known to work"),
            *_requirements(plan.dependencies),
            NewFile(".dockerignore", _dockerignore(found, plan), "nothing but what is shipped reaches the engine"),
            *(_server(found, plan) if plan.generated and plan.load else ()),
            *([NewFile(_SAMPLE, plan.made_up, "zeros in the shape of the model's inputs")] if plan.made_up else []),
            NewFile(
                ".mlship/schema.json", json.dumps(json_schema(), indent=2) + "\n", "editors check mlship.yaml by it"
            ),
        ),
        kept=tuple(_kept(found, plan)),
        todo=tuple(_todo(found, plan)),
    )


def settle(planned: Scaffold, repo: Path) -> Scaffold:
    """The same, where the files that are there already are kept instead."""
    there = {file.path for file in planned.files if os.path.lexists(repo / file.path)}
    return Scaffold(
        files=tuple(file for file in planned.files if file.path not in there),
        kept=(*(Kept(file.path, "it is there already") for file in planned.files if file.path in there), *planned.kept),
        todo=planned.todo,
    )


def write_files(repo: Path, files: tuple[NewFile, ...]) -> tuple[str, ...]:
    """Write files, each whole or not at all; returns those that were written. What exists is never replaced.

    Raises:
        UsageError: a folder on the way is a symbolic link out of the repository.
        OSError: the repository cannot be written, or the disk is full.
    """
    for file in files:
        if leads_outside(repo, (repo / file.path).parent):
            raise UsageError(
                f"{file.path} would be written outside of {repo}: its folder is a symbolic link",
                hint="remove the link, then run `mlship init` again",
            )
    return tuple(file.path for file in files if write_new(repo / file.path, file.text))


def _decide(found: Detection) -> _Plan:
    load = found.loader.value or ("serving.model:load" if found.onnx else None)
    generated = found.server is None and load is not None
    made_up = made_up_sample(found.onnx) if found.onnx and found.sample.value is None else None
    needs = ["fastapi", "uvicorn", *(["numpy", _onnxruntime(found)] if found.onnx else [])] if generated else []
    if found.server:
        needs = [*found.server.needs]
    own = app_command("fastapi", "serving.app:app", factory=False) if generated else ()
    return _Plan(
        load=load,
        generated=generated,
        sample=found.sample.value or (_SAMPLE if made_up else None),
        made_up=made_up,
        command=found.server.command if found.server else own,
        dependencies=choose_dependencies(found, tuple(sorted(needs)), generated=generated),
        source=tuple(sorted({*found.source, *(["serving"] if generated else [])})),
    )


def _onnxruntime(found: Detection) -> str:
    """For GPUs with the wheels of CUDA's libraries; but not beside an onnxruntime that is asked for already."""
    named = any("onnxruntime" in declared.names for declared in found.declared)
    return "onnxruntime-gpu[cuda,cudnn]" if found.gpus.wanted and not named else "onnxruntime"


def _yaml(found: Detection, plan: _Plan) -> str:
    routes = found.server.routes if found.server else _OWN_ROUTES
    return render(
        "init/mlship.yaml.j2",
        name=found.name,
        python=Detected(found.python.value, _one_line(found.python.why)),
        requirements=plan.dependencies,
        load=plan.load,
        weights=found.weights.named,
        sample=plan.sample,
        golden=found.golden.value,
        command=plan.command,
        origin=_one_line(found.server.why) if found.server else "",
        port=found.port,
        routes=[(key, getattr(routes, key), meaning) for key, meaning in _MEANINGS.items()],
        source=plan.source,
        python_path=found.python_path,
        gpus=_one_line("; ".join(found.gpus.evidence)),
    )


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _requirements(chosen: Dependencies) -> tuple[NewFile, ...]:
    if chosen.template is None:
        return ()
    text = render(chosen.template, origin=chosen.origin, lines=chosen.lines, needs=chosen.needs)
    named = f"what {chosen.origin} name{'' if chosen.origin == FROM_IMPORTS else 's'}" if chosen.origin else ""
    server = f"for the server: {', '.join(chosen.needs)}" if chosen.needs else ""
    why = "; ".join(part for part in (named, server) if part)
    return (NewFile(chosen.input, text, why or "empty, since nothing here says what the code needs"),)


def _dockerignore(found: Detection, plan: _Plan) -> str:
    shipped = (plan.sample, found.golden.value, *plan.source, *found.weights.named)
    needed = (plan.dependencies.lock, *([] if plan.dependencies.template else [plan.dependencies.input]))
    paths = [path for path in (*needed, *shipped) if path]
    return render("init/dockerignore.j2", paths=list(dict.fromkeys(paths)), left_out=LEFT_OUT)


def _server(found: Detection, plan: _Plan) -> tuple[NewFile, ...]:
    module, _, function = (plan.load or "").partition(":")
    app = render("init/app.py.j2", module=module, function=function, sample=plan.sample or _SAMPLE)
    files = (
        NewFile("serving/__init__.py", render("init/package.py.j2"), "makes serving a package"),
        NewFile("serving/app.py", app, "a small FastAPI server, since the repository has none"),
    )
    if found.onnx is None:
        return files
    model = render("init/model.py.j2", model=found.weights.named[0], gpu=found.gpus.wanted)
    return (*files, NewFile("serving/model.py", model, f"loads {found.weights.named[0]}"))


def _kept(found: Detection, plan: _Plan) -> Iterator[Kept]:
    chosen = plan.dependencies
    if chosen.template != _OWN_INPUT:
        yield Kept(chosen.origin, "your requirements; the lock is made from them")
    if found.server:
        yield Kept(found.server.path, "your server; it is what is shipped")


def _todo(found: Detection, plan: _Plan) -> Iterator[str]:
    absent, lacking = found.weights.absent, plan.dependencies.lacking
    if absent:
        yield f"fetch the model: not here, but named by the code: {', '.join(absent)}"
    if plan.load is None:
        yield _write_loader(found)
    if plan.sample is None:
        yield "write one valid request to sample.json, and name it in model.sample"
    if plan.made_up:
        yield "put a real request into sample.json: zeros prove little"
    if found.server and (unknown := [key for key in _MEANINGS if getattr(found.server.routes, key) is None]):
        yield f"name the server's routes in mlship.yaml: {', '.join(f'serve.{key}' for key in unknown)}"
    yield from _gpu_todo(found)
    if lacking:
        yield f"add {', '.join(lacking)} to {plan.dependencies.input}: the server needs it"


def _gpu_todo(found: Detection) -> Iterator[str]:
    """What an image for GPUs needs that no file of a repository can tell."""
    if not found.gpus.wanted:
        return
    if any("onnxruntime" in declared.names for declared in found.declared):
        yield "ask for onnxruntime-gpu[cuda,cudnn] instead of onnxruntime, which runs on the CPU alone"
    if not found.gpus.hosts:
        yield (
            "record the hosts that it will run on: `mlship hosts record hosts/NAME.json` on each kind of GPU host "
            "(a cluster: `kubectl get nodes -o json | mlship hosts import -`)"
        )


def _write_loader(found: Detection) -> str:
    if found.server:
        return (
            "write a function load() that returns what the server asks for its predictions, as a callable or an "
            "object with .predict that takes the sample, and name it in model.load"
        )
    return (
        "write a function load() that returns the predictor, remove mlship.yaml (and .dockerignore, where "
        "`mlship init` wrote it), and run `mlship init` again: it then names the function and writes the server"
    )


def made_up_sample(header: OnnxHeader) -> str | None:
    """JSON with zeros for every input; None where a shape or a type does not say enough."""
    shapes = {tensor.name: _shape(tensor) for tensor in header.inputs}
    if not shapes or None in shapes.values() or any(_zero(tensor) is None for tensor in header.inputs):
        return None
    if sum(prod(shape) for shape in shapes.values() if shape is not None) > _LARGEST_SAMPLE:
        return None
    values = {t.name: _filled(shape, zero) for t in header.inputs
              if (shape := shapes[t.name]) is not None and (zero := _zero(t)) is not None}  # fmt: skip
    return json.dumps(values) + "\n"


def _shape(tensor: Tensor) -> list[int] | None:
    """One for the batch, and for the length of a sequence; an open height or width is nobody's guess."""
    if tensor.shape is None:
        return None
    free = 2 if len(tensor.shape) <= 2 else 1
    known = all(size is not None for size in tensor.shape[free:])
    return [size or 1 for size in tensor.shape] if known else None


def _zero(tensor: Tensor) -> float | bool | str | None:
    match tensor.element:
        case "float" | "double" | "float16":
            return 0.0
        case "bool":
            return False
        case "string":
            return "text"
        case str() as element if "int" in element:
            return 0
        case _:
            return None


def _filled(shape: list[int], zero: float | bool | str) -> Nested:
    value: Nested = zero
    for size in reversed(shape):
        value = [value] * size
    return value
