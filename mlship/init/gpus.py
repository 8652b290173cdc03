"""Detect from host files, requirements, the base image and the served code whether the model needs NVIDIA GPUs.

Code that falls back to the CPU is inconclusive: most training code does so, and a GPU image is gigabytes larger and
needs a GPU for its smoke test. The report mentions it and the user decides.
"""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch

from packaging.utils import canonicalize_name

from mlship import plain
from mlship.dockerfile.stages import BuildStage
from mlship.dockerfile.words import shown_image
from mlship.frameworks import framework_table, is_gpu_only
from mlship.init.declared.result import Declared, distribution
from mlship.init.found import GpuUse
from mlship.init.sources import Module
from mlship.init.tree import Tree
from mlship.requirement_line import requirement_in
from mlship.units import count_of, few

HOSTS = "hosts"
_HOST = re.compile(rf"{HOSTS}/[^/]*\.json")
_BASES = re.compile(r"(^|/)nvidia/cuda[:@]|^nvcr\.io/nvidia/|:\S*cuda\d|(^|/)vllm-openai[:@]|:\S*-gpu\b")


def find_gpus(tree: Tree, served: Sequence[Module], declared: Sequence[Declared], stage: BuildStage | None) -> GpuUse:
    """Whether to build a GPU image, and why.

    Args:
        served: the modules that the loader and the server import.
    """
    hosts = tuple(path for path in tree.files if _HOST.fullmatch(path) and _is_host(tree.text(path) or ""))
    code, note = _from_code(served)
    base = shown_image(stage.root.image) if stage else ""
    evidence = (
        *([f"{HOSTS}/ has {count_of(len(hosts), 'host file')}"] if hosts else []),
        *_from_requirements(declared),
        *([f"the Dockerfile starts from {base}"] if _BASES.search(base) else []),
        *code,
    )
    return GpuUse(evidence, hosts, note)


def _is_host(text: str) -> bool:
    """Whether `mlship hosts record` wrote a file."""
    host = plain.json_of(text)
    return isinstance(plain.at(host, "driver"), str) and isinstance(plain.at(host, "gpus"), list)


def _from_requirements(declared: Sequence[Declared]) -> Iterator[str]:
    optional = {entry.name for file in declared for entry in file.entries if not file.lock and entry.role != "main"}
    for file in declared:
        lines = (line for line in file.lines if not (file.lock and distribution(line) in optional))
        if named := sorted({name for line in lines if (name := _gpu_name(line))}):
            yield f"{file.origin} requires {few(named)}"
        elif file.gpu:
            yield f"{file.origin} {file.gpu}"


def _gpu_name(line: str) -> str | None:
    """The GPU-only package or extra in a requirement line."""
    requirement = requirement_in(line)
    if requirement is None:
        return None
    name = canonicalize_name(requirement.name)
    pattern = framework_table().gpu_only.extras.get(name, "")
    extras = sorted(extra for extra in requirement.extras if fnmatch(extra, pattern))
    if extras:
        return f"{name}[{','.join(extras)}]"
    built = next((found[0] for spec in requirement.specifier if (found := re.search(r"\+cu\d+$", spec.version))), None)
    if built:
        return f"{name} built for CUDA ({built})"
    return name if is_gpu_only(name) else None


def _from_code(served: Sequence[Module]) -> tuple[tuple[str, ...], str | None]:
    """Evidence, or a note if the code falls back to the CPU; never both."""
    if not (uses := [(one.path, one.cuda) for one in served if one.cuda.named or one.cuda.required]):
        return (), None
    if requiring := [path for path, use in uses if use.required]:
        return (f"{requiring[0]} fails without a GPU",), None
    named = [f"{path} uses {few(use.named)}" for path, use in uses]
    if not any(module.cuda.checks for module in served):
        return tuple(named), None
    return (), f"{uses[0][0]} checks whether there is a GPU, so this is a CPU image; for GPUs add `gpu:` to mlship.yaml"
