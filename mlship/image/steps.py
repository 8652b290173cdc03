"""The stages and steps of a plan: what each is called, mounts and copies. Pure; templates/Dockerfile.j2 prints them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from mlship.image.plan import BuildPlan, WeightFolder
from mlship.lock.groups import GROUPS, LockGroup, PackageLayer


@dataclass(frozen=True)
class InstallGroup:
    """The stage that installs one group of the lock.

    Attributes:
        options: options of `uv pip install` that depend on the group.
        cache: path of the cache mount.
        at_once: whether the packages are compiled in the step that installs them. Not large ones: a trace needs them
            only installed, and the build after it reuses that. Not if nvcc compiles others, which need their headers.
    """

    name: LockGroup
    title: str
    options: str
    cache: str
    at_once: bool = False

    @property
    def stage(self) -> str:
        """The stage with the group's layers as they ship."""
        return f"install-{self.name}" if self.at_once else f"{self.name}-packages"


@dataclass(frozen=True)
class WeightsStep:
    """The step that installs the weights of one folder: each file is mounted, and copied with a fixed mode."""

    title: str
    mounts: tuple[str, ...]
    commands: tuple[str, ...]


@dataclass(frozen=True)
class ShippedLayer:
    """A layer of the final image, copied from another stage."""

    title: str
    stage: str
    path: str


def install_groups(plan: BuildPlan) -> tuple[InstallGroup, ...]:
    """The groups that have packages, in order."""
    return tuple(
        _install_group(plan, name, packages)
        for name in GROUPS
        if (packages := [package for layer in plan.layers if layer.group == name for package in layer.packages])
    )


def _install_group(plan: BuildPlan, name: LockGroup, packages: list[str]) -> InstallGroup:
    if name == "compiled":
        title = f"compile {', '.join(packages)} with nvcc"
        sources = "".join(f" --no-binary {package}" for package in packages)
        options = f"--no-cache --no-build-isolation{sources}"
        return InstallGroup(name, title, options, "/root/.cache/mlship")
    what = packages[0] if len(packages) == 1 else f"{len(packages)} packages"
    at_once = name == "light" and not any(layer.group == "compiled" for layer in plan.layers)
    return InstallGroup(name, f"install {what} from {plan.lock}", "--quiet", "/root/.cache", at_once)


def weight_steps(plan: BuildPlan, repo: str = "") -> tuple[WeightsStep, ...]:
    """The steps; `repo` is the folder of the repository in the build context, with its slash."""
    return tuple(_weights_step(weights, plan.workdir, repo) for weights in plan.weights)


def _weights_step(weights: WeightFolder, workdir: str, repo: str) -> WeightsStep:
    target = f"/layers/weights{workdir}/{weights.folder}".rstrip("/")
    mounts, commands = [], []
    for number, path in enumerate(weights.files):
        mounts.append(_mount(repo + path, f"/weights/{number}"))
        name = shlex.quote(f"{target}/{PurePosixPath(path).name}")
        commands.append(f"install -D --mode=0444 /weights/{number} {name}")
    title = f"copy weights from {weights.folder}" if weights.folder else "copy weights"
    return WeightsStep(title, tuple(mounts), tuple(commands))


def _mount(source: str, target: str) -> str:
    """A bind mount of a repository file. Mount options are CSV, and a shell word if they need quotes."""
    if re.fullmatch(r"[\w./-]+", source):
        return f"--mount=type=bind,source={source},target={target}"
    return f"""--mount='type=bind,"source={source}",target={target}'"""


def shipped_layers(plan: BuildPlan) -> tuple[ShippedLayer, ...]:
    """The layers of the final image below the code: large and rarely changed ones first."""
    return tuple(_shipped_layers(plan))


def _shipped_layers(plan: BuildPlan) -> Iterator[ShippedLayer]:
    if plan.gpu and plan.gpu.runtime:
        yield ShippedLayer("add CUDA libraries", "cuda-libraries", "/layers/cuda-libraries/")
    if plan.gpu and plan.gpu.compat:
        yield ShippedLayer("add CUDA forward-compatibility libraries", "compat", "/layers/compat/")
    yield ShippedLayer(
        "add virtual environment and bytecode of the standard library", "python-modules", "/layers/python/"
    )
    stages = {group.name: group.stage for group in install_groups(plan)}
    yield from (_package_layer(layer, stages[layer.group]) for layer in plan.layers if layer.group != "light")
    if plan.weights:
        yield ShippedLayer("add weights", "weights", "/layers/weights/")
    yield from (_package_layer(layer, stages[layer.group]) for layer in plan.layers if layer.group == "light")


def _package_layer(layer: PackageLayer, stage: str) -> ShippedLayer:
    what = ", ".join(layer.packages) if len(layer.packages) < 4 else f"{len(layer.packages)} small packages"
    return ShippedLayer(f"add {what}", stage, f"/layers/{layer.group}/{layer.name}/")


def step_titles(plan: BuildPlan) -> dict[str, tuple[str, ...]]:
    """The title of each step by stage, in the order of the Dockerfile: the instructions that BuildKit numbers."""
    return dict(_step_titles(plan))


def _step_titles(plan: BuildPlan) -> Iterator[tuple[str, tuple[str, ...]]]:
    groups = install_groups(plan)
    bytecode = "bytecode of imported modules" if plan.bytecode == "traced" else "all bytecode"
    yield "builder", ("add mlship's build programs",)
    yield "uv", (f"check the base image for Python {plan.python} on glibc, and install uv",)
    yield "environment", _debian(plan.packages.build)
    for group in groups:
        others = [f"add {other.name} packages" for other in groups[:-1]] if group.name == "compiled" else []
        check = ", and check all packages against the lock" if group is groups[-1] else ""
        if group.at_once:
            yield group.stage, (f"{group.title}, compile {bytecode}{check}",)
            continue
        yield f"install-{group.name}", (*others, f"{group.title}{check}")
        yield group.stage, (f"compile {bytecode}",)
    yield "python-modules", (f"prepare the environment, and compile {bytecode}, standard library",)
    if plan.gpu and plan.gpu.runtime:
        yield "cuda-libraries", (f"copy CUDA {plan.gpu.cuda} from {plan.gpu.runtime.reference}",)
    if plan.gpu and plan.gpu.compat:
        yield "compat", ("copy CUDA forward-compatibility libraries",)
    yield "source", ("copy the code, compile it, and make it read-only",)
    yield "weights", tuple(step.title for step in weight_steps(plan))
    system = ("remove pip and add user 1001", f"set the working directory to {plan.workdir}")
    yield "system", (*system, *_debian(plan.packages.run))
    yield "traced", tuple(_traced_titles(plan, groups))
    yield "trace", ("export the trace",)
    loader = ("check that the loader finds CUDA's libraries",) if plan.gpu else ()
    yield "runtime", (*(layer.title for layer in shipped_layers(plan)), *loader, "add the code")


def _debian(packages: tuple[str, ...]) -> tuple[str, ...]:
    return (f"install Debian packages: {' '.join(packages)}",) if packages else ()


def _traced_titles(plan: BuildPlan, groups: tuple[InstallGroup, ...]) -> Iterator[str]:
    if plan.weights:
        yield "add weights"
    yield "add virtual environment"
    yield from (f"add {group.name} packages" for group in groups)
    yield "add the code"
    yield "start the server, send the sample, record imports"
