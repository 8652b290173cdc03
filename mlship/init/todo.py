"""Manual steps before `mlship lock` that follow from what a repository lacks."""

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlship.init.dependencies import Dependencies
from mlship.init.file_plan import FilePlan, starts_generated
from mlship.init.found import AbsentFile, Detection, Routes
from mlship.init.generated import DATA_URI, loader_example
from mlship.init.known import init_table
from mlship.init.load_calls import UNNAMED
from mlship.project.model_code import loaded_names
from mlship.project.sklearn_version import sklearn_of
from mlship.project.weights import WeightFile
from mlship.units import few

MEANINGS, _TEXTS, _PATTERNS = init_table().routes, init_table().steps, init_table().patterns


@dataclass(frozen=True)
class Todo:
    """A manual step before `mlship lock`.

    Attributes:
        keys: keys of mlship.yaml; the step is done when one of them is set.
        example: lines of code to start from.
    """

    text: str
    keys: tuple[str, ...] = ()
    example: str = ""


def steps(found: Detection, plan: FilePlan) -> Iterator[Todo]:
    """All steps, in the order of their work."""
    yield from map(Todo, _model_steps(found))
    yield from map(Todo, found.server.steps if found.server else ())
    if found.beside and plan.generated and starts_generated(found) is False:
        yield Todo(_TEXTS["move_server"].format(", ".join(plan.command)))
    if plan.load is None and not found.tests_server_only:
        yield Todo(_TEXTS["write_loader"], ("model.load", "serve.command"), loader_example(found))
    if refused := refused_files(found):
        files = ", ".join(f"`{file.path}`" for file in refused)
        yield Todo(
            _TEXTS["convert"].format(files), ("model.allow_pickle",), "\n".join(_conversion_steps(found.root, refused))
        )
    yield from _sample_step(found, plan)
    if found.server and not found.server.port_known:
        yield Todo("Set `serve.port` in mlship.yaml: the port that the server listens on.", ("serve.port",))
    for key, meaning in MEANINGS.items() if found.server else ():
        if found.server and getattr(found.server.routes, key) is None:
            paths = few([f"`{path}`" for path in found.server.routes.posts_to]) if key == "predict" else ""
            one_of = f", one of {paths}" if paths else ""
            yield Todo(f"Set `serve.{key}` in mlship.yaml: {meaning}{one_of}.", (f"serve.{key}",))
    yield from map(Todo, _import_steps(found, plan.dependencies))
    yield from map(Todo, _gpu_steps(found)) if found.gpus.wanted else ()
    if found.gpus.wanted and found.tests_server_only:
        yield Todo(_TEXTS["prove_on_gpu"], ("model.load",))
    if found.training:  # it and hosts/ may be newer than mlship.yaml
        yield Todo(f"Set `model.metadata` to `{found.training}`, the record of the training.", ("model.metadata",))
    if found.gpus.hosts:
        yield Todo("Add `gpu: {hosts: hosts}` to mlship.yaml to build an image for the GPUs in hosts/.", ("gpu",))


def _sample_step(found: Detection, plan: FilePlan) -> Iterator[Todo]:
    handler = found.server.routes.handler if found.server else None
    if plan.made_up and found.native is not None:
        zeros = "the text" if found.native.row.template == "texts" else "the zeros"
        yield Todo(f"Replace {zeros} in `sample.json` with a real request; {zeros.removeprefix('the ')} test little.")
    if plan.sample is not None:
        return
    if found.server and found.tests_server_only and request_lines(found.server.routes):
        yield Todo("Complete `smoke.request` in mlship.yaml with one valid request.", ("smoke.request", "model.sample"))
    else:
        names = handler.json if handler else found.cog.required if found.cog else ()
        if found.native and found.native.row.template != "onnx":
            names = ("instances",)
        fields = f", a JSON object with {', '.join(names)}," if names else ""
        keys = ("model.sample", "smoke.request")
        files = [name for name in names if found.cog and name in found.cog.files]
        example = DATA_URI.replace("NAME", files[0]) if files else ""
        yield Todo(f"Write a valid request{fields} to `sample.json` and set `model.sample` to it.", keys, example)


def request_lines(routes: Routes) -> tuple[str, ...]:
    """Lines of `smoke.request`, for the user to complete; none if a JSON file is the whole request."""
    handler = routes.handler
    if handler is None or not any(handler.reads(part) for part in ("form", "files", "query")):
        return ()
    parts = {
        "form": dict.fromkeys(handler.form or (("FIELD",) if "form" in handler.whole else ()), "VALUE"),
        "files": dict.fromkeys(handler.files, "FILE"),
        "query": dict.fromkeys(handler.query, "VALUE"),
    }
    body = ("body: FILE",) if handler.reads("json") and not (parts["form"] or parts["files"]) else ()
    shown = {name: ", ".join(f"{key}: {value}" for key, value in of.items()) for name, of in parts.items() if of}
    lines = [f"{name}: {{{text}}}" for name, text in shown.items()]
    return (f"method: {'POST' if routes.posts else 'GET'}", f"path: {routes.predict}", *lines, *body)


def refused_files(found: Detection) -> list[WeightFile]:
    """The files that run code when loaded, and that the image needs."""
    named = set(found.weights.named)
    return [file for file in found.weights.refused if file.path in named and file.kind != "lfs-pointer"]


def _model_steps(found: Detection) -> Iterator[str]:
    """Models to download, pointers first: what else is known depends on them."""
    if pointers := [f"`{file.path}`" for file in found.weights.refused if file.kind == "lfs-pointer"]:
        yield f"Run `git lfs pull`, then `mlship init` again. Not downloaded yet: {few(pointers)}."
    if not (found.server or found.loader.value or found.native or found.cog):
        return
    weights = found.weights
    yield from _about([one for one in weights.absent if one.listed], _TEXTS["download"])
    yield from _about([one for one in weights.absent if not one.listed and "*" not in one.path], _TEXTS["find_out"])
    yield from _about([one for one in weights.absent if "*" in one.path], _TEXTS["computed"])
    yield from _about(weights.hub, _TEXTS["from_hub"])
    for one in weights.misplaced:
        yield f"Move `{one.listed}` to `{one.path}`, where the code loads it ({one.where}), or change that path."
    yield from _about(weights.outside, _TEXTS["outside"])
    yield from _about(weights.downloads, _TEXTS["downloaded"], quote="")


def _about(files: Sequence[AbsentFile], text: str, quote: str = "`") -> Iterator[str]:
    """A step for the files of a kind, if there are any."""
    unnamed = "a model that the call does not name"
    names = (unnamed if one.path == UNNAMED else f"{quote}{one.path}{quote}" for one in files)
    if files:
        yield text.format(few([f"{name} ({one.where})" for name, one in zip(names, files, strict=True)]))


def _conversion_steps(root: Path, refused: Iterable[WeightFile]) -> Iterator[str]:
    """Commands for the refused files that mlship can convert."""
    for file in refused:
        stem = file.path.removesuffix(PurePosixPath(file.path).suffix)
        if file.kind == "torch" and _uses_only(_PATTERNS["state"], root, file):
            yield shlex.join(("mlship", "convert", file.path, f"{stem}.safetensors"))
        elif sklearn_of(root / file.path) and _uses_only(_PATTERNS["estimators"], root, file):
            yield shlex.join(("mlship", "convert", file.path, f"{stem}.onnx", "--sample", "rows.json"))


def _uses_only(names: re.Pattern[str], root: Path, file: WeightFile) -> bool:
    with suppress(OSError, ValueError):
        return all(map(names.fullmatch, loaded_names(root / file.path, file.kind)))
    return False


def _import_steps(found: Detection, chosen: Dependencies) -> Iterator[str]:
    """Imports that no requirement and no import root answers."""
    if found.compiled:
        names = few([f"`{name}` ({file})" for name, file in found.compiled])
        build = f"`pip wheel --no-deps --wheel-dir wheels .` on Linux with Python {found.python.value}"
        yield f"This repository compiles {names}: run {build}, and add the wheel's path to `{chosen.input}`."
    if chosen.unknown:
        names = ", ".join(f"`{one.module}` ({one.path})" for one in chosen.unknown)
        yield f"Name the packages of these imports in `{chosen.input}`: {names}."
    here = (found.root / found.server.place).glob("*") if found.server and found.server.place else ()
    known = {path.stem for path in here if path.suffix == ".py" or path.is_dir()}  # Python finds them where it runs
    unclear = {one.name: one for one in reversed(found.local) if not (one.certain or one.handled or one.name in known)}
    for name, one in sorted(unclear.items()):
        yield _TEXTS["not_imported"].format(one=one, name=name, folder=one.parents[0].replace(".", "/"))


def _gpu_steps(found: Detection) -> Iterator[str]:
    """Manual steps for a GPU image."""
    loads = {found.native and found.native.loader, *(one for need in found.imports.known for one in need.modules)}
    if {"onnxruntime", "onnx"} & loads and any("onnxruntime" in one.names for one in found.declared if not one.lock):
        yield "Replace `onnxruntime`, which supports only the CPU, with `onnxruntime-gpu[cuda,cudnn]`."
    if not found.gpus.hosts:
        yield _TEXTS["record_hosts"]
