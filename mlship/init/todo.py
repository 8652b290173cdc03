"""Manual steps before `mlship lock` that follow from what a repository lacks."""

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from mlship.init.dependencies import Dependencies
from mlship.init.found import Detection
from mlship.init.load_calls import UNNAMED
from mlship.project.sklearn_version import sklearn_of
from mlship.project.weights import WeightFile
from mlship.units import few


def model_steps(found: Detection) -> Iterator[str]:
    """Models to download, pointers first: what else is known depends on them."""
    if pointers := [f"`{file.path}`" for file in found.weights.refused if file.kind == "lfs-pointer"]:
        yield f"Run `git lfs pull`, then `mlship init` again. Not downloaded yet: {few(pointers)}."
    served = bool(found.server or found.loader.value or found.native or found.cog)
    for listed in (True, False):
        if absent := [file for file in found.weights.absent if served and bool(file.listed) == listed]:
            files = few([f"`{file.path}` ({file.where})" for file in absent])
            yield (
                f"Download what the code loads: {files}. To let `mlship build` do that, add it to `model.sources`."
                if listed
                else f"Find out where the code expects {files}, and list it in `model.weights`."
            )
    if models := [f"{_on_hub(model.path)} ({model.where})" for model in found.weights.hub if served]:
        yield (
            f"Ship what the code loads from the Hugging Face Hub, because the image is tested without network: "
            f"{few(models)}. Run `hf download MODEL --local-dir models/MODEL`, load that folder, and list it in "
            "`model.weights`. To let `mlship build` download its files, add `hf://` addresses to `model.sources`."
        )
    for one in found.weights.misplaced if served else ():
        yield f"Move `{one.listed}` to `{one.path}`, where the code loads it ({one.where}), or change that path."
    if outside := [f"`{one.path}` ({one.where})" for one in found.weights.outside if served]:
        yield f"Load {few(outside)} by a path in the repository: the image has no other files."
    if downloads := [f"{one.path} ({one.where})" for one in found.weights.downloads if served]:
        yield (
            f"Put what the code downloads into the repository, and load it from there: {few(downloads)}. The image is "
            "tested without network."
        )


def conversion_steps(root: Path, refused: Iterable[WeightFile]) -> Iterator[str]:
    """Commands for the refused files that mlship can convert."""
    for file in refused:
        stem = file.path.removesuffix(PurePosixPath(file.path).suffix)
        if file.kind == "torch":
            yield shlex.join(("mlship", "convert", file.path, f"{stem}.safetensors"))
        elif sklearn_of(root / file.path):
            yield shlex.join(("mlship", "convert", file.path, f"{stem}.onnx", "--sample", "rows.json"))


def _on_hub(name: str) -> str:
    return "a model that is named elsewhere" if name == UNNAMED else f"`{name}`"


def import_steps(found: Detection, chosen: Dependencies) -> Iterator[str]:
    """Imports that no requirement and no import root answers."""
    if found.compiled:
        names = few([f"`{name}` ({file})" for name, file in found.compiled])
        build = f"`pip wheel --no-deps --wheel-dir wheels .` on Linux with Python {found.python.value}"
        yield f"This repository compiles {names}: run {build}, and add the wheel's path to `{chosen.input}`."
    if chosen.unknown:
        names = ", ".join(f"`{one.module}` ({one.path})" for one in chosen.unknown)
        yield f"Name the packages of these imports in `{chosen.input}`: {names}."
    unclear = {one.name: one for one in reversed(found.local) if not (one.certain or one.handled)}
    for name, one in sorted(unclear.items()):
        folder = one.parents[0].replace(".", "/")
        yield (
            f"`{one.path}` imports `{name}`, which is `{one.found}` in this repository: set `env.PYTHONPATH` in "
            f"mlship.yaml to its folder (`{folder}`), or import it by its full name."
        )


def gpu_steps(found: Detection) -> Iterator[str]:
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
