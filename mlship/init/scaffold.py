"""Generate the files of `mlship init` and write them without overwriting."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from math import prod
from pathlib import Path
from typing import TypeAlias

from mlship.errors import UsageError
from mlship.files import write_new
from mlship.init.dependencies import Dependencies, choose_dependencies, system_packages
from mlship.init.found import Detected, Detection, Routes
from mlship.project.commands import app_command
from mlship.project.config import Base, config_schema
from mlship.project.onnx_header import OnnxHeader, Tensor
from mlship.project.paths import LEFT_OUT, leads_outside
from mlship.render import render

_MEANINGS = {
    "live": "returns 200 once the process responds",
    "ready": "returns 200 once the model is loaded and warm",
    "predict": "POST route that accepts the sample",
}
_OWN_ROUTES = Routes("/health/live", "/health/ready", "/predict")
_SAMPLE = "sample.json"
_OWN_INPUT = "init/requirements.in.j2"
_LARGEST_SAMPLE = 200_000  # numbers in the file

Nested: TypeAlias = "float | int | bool | str | list[Nested]"


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
    """Files to write, files to keep, and manual steps before `mlship lock`."""

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
    """Plan all files, whether or not they exist already."""
    plan = _decide(found)
    return Scaffold(
        files=(
            NewFile("mlship.yaml", _yaml(found, plan), "what to ship and how to test it"),
            *_requirements(plan.dependencies),
            NewFile(".dockerignore", _dockerignore(found, plan), "limits the build context to shipped files"),
            *(_server(found, plan) if plan.generated and plan.load else ()),
            *([NewFile(_SAMPLE, plan.made_up, "zeros with the shape of the model inputs")] if plan.made_up else []),
            NewFile(
                ".mlship/schema.json", json.dumps(config_schema(), indent=2) + "\n", "schema of mlship.yaml for editors"
            ),
        ),
        kept=tuple(_kept(found, plan)),
        todo=tuple(_todo(found, plan)),
    )


def keep_existing(planned: Scaffold, repo: Path) -> Scaffold:
    """Keep files that exist in the repository instead of writing them."""
    existing = {file.path for file in planned.files if os.path.lexists(repo / file.path)}
    return Scaffold(
        files=tuple(file for file in planned.files if file.path not in existing),
        kept=(*(Kept(file.path, "already exists") for file in planned.files if file.path in existing), *planned.kept),
        todo=planned.todo,
    )


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
    """The GPU package with CUDA wheels, unless the repository already requires onnxruntime."""
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
        system=system_packages(plan.dependencies, Base().distro),
        gpus=_one_line("; ".join(found.gpus.evidence)),
    )


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _requirements(chosen: Dependencies) -> tuple[NewFile, ...]:
    if chosen.template is None:
        return ()
    text = render(
        chosen.template,
        origin=chosen.origin,
        lines=chosen.lines,
        needs=chosen.needs,
        unknown=chosen.unknown,
        optional=chosen.optional,
    )
    named = f"from {chosen.origin}" if chosen.origin else ""
    server = f"for the server: {', '.join(chosen.needs)}" if chosen.needs else ""
    why = "; ".join(part for part in (named, server) if part)
    return (NewFile(chosen.input, text, why or "empty: no dependencies found"),)


def _dockerignore(found: Detection, plan: _Plan) -> str:
    shipped = (plan.sample, found.golden.value, *plan.source, *found.weights.named)
    needed = (plan.dependencies.lock, *([] if plan.dependencies.template else [plan.dependencies.input]))
    paths = [path for path in (*needed, *shipped) if path]
    return render("init/dockerignore.j2", paths=list(dict.fromkeys(paths)), left_out=LEFT_OUT)


def _server(found: Detection, plan: _Plan) -> tuple[NewFile, ...]:
    module, _, function = (plan.load or "").partition(":")
    app = render("init/app.py.j2", module=module, function=function, sample=plan.sample or _SAMPLE)
    files = (
        NewFile("serving/__init__.py", render("init/package.py.j2"), "makes `serving` a package"),
        NewFile("serving/app.py", app, "FastAPI server, because no server was found"),
    )
    if found.onnx is None:
        return files
    model = render("init/model.py.j2", model=found.weights.named[0], gpu=found.gpus.wanted)
    return (*files, NewFile("serving/model.py", model, f"loads {found.weights.named[0]}"))


def _kept(found: Detection, plan: _Plan) -> Iterator[Kept]:
    chosen = plan.dependencies
    if chosen.template != _OWN_INPUT:
        yield Kept(chosen.origin, "your requirements, used for the lock")
    if found.server:
        yield Kept(found.server.path, "your server, shipped unchanged")


def _todo(found: Detection, plan: _Plan) -> Iterator[str]:
    absent, lacking = found.weights.absent, plan.dependencies.lacking
    if absent:
        yield f"Download the model files that the code names: {', '.join(absent)}."
    if plan.load is None:
        yield _write_loader(found)
    if plan.sample is None:
        yield "Write a valid request to `sample.json` and set `model.sample` to it."
    if plan.made_up:
        yield "Replace the zeros in `sample.json` with a real request; zeros test little."
    if found.server and (unknown := [key for key in _MEANINGS if getattr(found.server.routes, key) is None]):
        yield f"Set the server routes in mlship.yaml: {', '.join(f'`serve.{key}`' for key in unknown)}."
    yield from _import_todo(found, plan.dependencies)
    yield from _gpu_todo(found)
    if lacking:
        yield f"Add {', '.join(lacking)} to `{plan.dependencies.input}`, because the server requires it."


def _import_todo(found: Detection, chosen: Dependencies) -> Iterator[str]:
    """Imports that no requirement and no import root answers."""
    if chosen.unknown:
        names = ", ".join(f"`{one.module}` ({one.path})" for one in chosen.unknown)
        yield f"Name the packages of these imports in `{chosen.input}`: {names}."
    for name, ones in groupby((one for one in found.local if not (one.certain or one.handled)), lambda one: one.name):
        one = next(ones)
        folder = one.parents[0].replace(".", "/")
        yield (
            f"`{one.path}` imports `{name}`, which is `{one.found}` in this repository: set `env.PYTHONPATH` in "
            f"mlship.yaml to its folder (`{folder}`), or import it by its full name."
        )


def _gpu_todo(found: Detection) -> Iterator[str]:
    """Manual steps for a GPU image."""
    if not found.gpus.wanted:
        return
    if any("onnxruntime" in declared.names for declared in found.declared):
        yield "Replace `onnxruntime`, which supports only the CPU, with `onnxruntime-gpu[cuda,cudnn]`."
    if not found.gpus.hosts:
        yield (
            "Record the target hosts: run `mlship hosts record hosts/NAME.json` on each kind of GPU host. For a "
            "Kubernetes cluster, run `kubectl get nodes -o json | mlship hosts import -`."
        )


def _write_loader(found: Detection) -> str:
    if found.server:
        return (
            "Write a function `load()` that returns the server's predictor (a callable, or an object with `.predict`, "
            "that accepts the sample), and set `model.load` to it."
        )
    return (
        "Write a function `load()` that returns the predictor. Remove mlship.yaml (and .dockerignore, if `mlship init` "
        "wrote it), then run `mlship init` again to set `model.load` and generate the server."
    )


def made_up_sample(header: OnnxHeader) -> str | None:
    """JSON with zeros for every input; None if a shape or type is unknown or too large."""
    shapes = {tensor.name: _shape(tensor) for tensor in header.inputs}
    if not shapes or None in shapes.values() or any(_zero(tensor) is None for tensor in header.inputs):
        return None
    if sum(prod(shape) for shape in shapes.values() if shape is not None) > _LARGEST_SAMPLE:
        return None
    values = {t.name: _filled(shape, zero) for t in header.inputs
              if (shape := shapes[t.name]) is not None and (zero := _zero(t)) is not None}  # fmt: skip
    return json.dumps(values) + "\n"


def _shape(tensor: Tensor) -> list[int] | None:
    """Use 1 for an open batch size or sequence length; other open dimensions have no sensible default."""
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
