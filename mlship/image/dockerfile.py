"""The plan as text: Dockerfile and .dockerignore. The plan has decided everything; this only prints."""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mlship.image.gpu import GpuPlan
from mlship.image.health import health_code
from mlship.image.plan import BuildPlan, WeightFolder
from mlship.lock.groups import GROUPS, LockGroup, PackageLayer
from mlship.project.paths import LEFT_OUT
from mlship.render import render
from mlship.resources import read_package_file, read_template

_STEPS = {"RUN", "COPY", "WORKDIR"}
# The same bytes each time: whatever a step has written gets one date. 1980-01-01 is the first that a zip file knows;
# with the commit's, every layer would change with every commit. What has it already is left alone: a file of a step
# before would be copied for it, gigabytes of weights too.
_DATED = "find /layers -newermt @315532800 -exec touch --no-dereference --date=@315532800 {} +"
_STARTED = "export PYTHONDONTWRITEBYTECODE=1; started=$(($(date +%s) - 60)) && \\"
_SETTLED = (
    'find /etc /opt /usr /var -xdev -newermt "@$started" ! -path /etc/hosts ! -path /etc/resolv.conf '
    "-exec touch --no-dereference --date=@315532800 {} +"
)


def quote(text: str) -> str:
    """A word for LABEL and ENV: double-quoted, and nothing in it is expanded."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


def exec_form(words: Sequence[str]) -> str:
    """The JSON form of CMD and COPY: no shell, no word splitting."""
    return json.dumps(list(words), ensure_ascii=False)


def dockerfile(plan: BuildPlan) -> str:
    """The Dockerfile of a plan; the same plan gives the same bytes."""
    return render(
        "Dockerfile.j2",
        plan=plan,
        uv=read_template("uv.txt"),
        weights=[weights_step(weights, plan.workdir) for weights in plan.weights],
        groups=list(install_groups(plan)),
        layers=[(layer, _layer_title(layer)) for layer in plan.layers],
        compiled="byte code of what is imported" if plan.bytecode == "traced" else "all byte code",
        # Where Python keeps the byte code of what these programs import: the base has none of its own modules.
        pycache=f"/root/.cache/mlship/{plan.base.digest.removeprefix('sha256:')[:12]}",
        started=_STARTED,
        settled=_SETTLED,
        dated=_DATED,
        sources=[exec_form((path, f"./{path}")) for path in plan.source],
        moved=shlex.join(("rm", "-f", *moved)) if (moved := [f"./{f}" for w in plan.weights for f in w.files]) else "",
        labels=[f"{quote(name)}={quote(value)}" for name, value in plan.labels.items()],
        environment=[f"{name}={quote(value)}" for name, value in plan.env.items()],
        command=exec_form(plan.command),
        health=exec_form(("python", "-ISc", health_code(plan.health.url))),
        libraries=read_package_file("image/inside/libraries.py") if plan.gpu else "",
        architectures=_architectures(plan.gpu) if plan.gpu else (),
    )


def copied_paths(plan: BuildPlan) -> tuple[str, ...]:
    """The paths of the repository that the Dockerfile names."""
    return tuple(dict.fromkeys((*plan.source, *(path for w in plan.weights for path in w.files))))


def dockerignore(plan: BuildPlan, linked: tuple[str, ...] = ()) -> str:
    """What the engine may see of the repository: nothing but what the Dockerfile copies, and what its links lead to."""
    return render("dockerignore.j2", paths=list(dict.fromkeys((*copied_paths(plan), *linked))), left_out=LEFT_OUT)


@dataclass(frozen=True)
class InstallGroup:
    """A stage that installs one group of the lock."""

    name: LockGroup
    why: str
    title: str


_WHY: dict[LockGroup, str] = {
    "cuda": "CUDA's libraries: gigabytes that move with the framework at most.",
    "framework": "The framework, and what comes with it.",
    "heavy": "Other large wheels.",
    "light": "All the rest, which moves most often.",
    "compiled": "Compiled with nvcc, so setuptools, wheel and ninja must be locked where they are needed.\n"
    "# Without uv's cache, as that would give back what was compiled for another CUDA or another GPU.",
}


def _mount(source: str, target: str) -> str:
    """A file of the repository, mounted; quoted as CSV, which these options are, and as a word where it has to be."""
    if re.fullmatch(r"[\w./-]+", source):
        return f"--mount=type=bind,source={source},target={target}"
    return f"""--mount='type=bind,"source={source}",target={target}'"""


def install_groups(plan: BuildPlan) -> Iterator[InstallGroup]:
    """The groups that the lock has pins of, in order."""
    for name in GROUPS:
        packages = [package for layer in plan.layers if layer.group == name for package in layer.packages]
        if name == "compiled" and packages:
            yield InstallGroup(name, _WHY[name], f"compile {', '.join(packages)} with nvcc")
        elif packages:
            what = packages[0] if len(packages) == 1 else f"{len(packages)} {name} pins"
            yield InstallGroup(name, _WHY[name], f"install {what} from {plan.lock}, by hash")


def _layer_title(layer: PackageLayer) -> str:
    return ", ".join(layer.packages) if len(layer.packages) < 4 else f"{len(layer.packages)} small packages"


@dataclass(frozen=True)
class WeightsStep:
    """The step that takes the weights of one folder: each file is mounted, and copied with modes of our own."""

    folder: str
    mounts: tuple[str, ...]
    commands: tuple[str, ...]


def weights_step(weights: WeightFolder, workdir: str) -> WeightsStep:
    """How the weight files of one folder reach their layer."""
    target = f"/layers/weights{workdir}/{weights.folder}".rstrip("/")
    mounts, commands = [], []
    for number, path in enumerate(weights.files):
        mounts.append(_mount(path, f"/weights/{number}"))
        name = shlex.quote(f"{target}/{PurePosixPath(path).name}")
        commands.append(f"install -D --mode=0444 /weights/{number} {name}")
    return WeightsStep(weights.folder, tuple(mounts), tuple(commands))


def _architectures(gpu: GpuPlan) -> tuple[str, ...]:
    """Compute capabilities of the hosts, each once, in order; none where one of them is not known."""
    told = [re.search(r"\((\d+)\.(\d+)\)$", device) for device in gpu.devices]
    known = {(int(found[1]), int(found[2])) for found in told if found}
    return tuple(f"{major}.{minor}" for major, minor in sorted(known)) if all(told) else ()


def titles(text: str) -> dict[str, str]:
    """What each step of a Dockerfile is called, by the start of BuildKit's name for it: `[builder 3/`.

    BuildKit numbers, in each stage, the instructions that make a layer, and FROM where it names an image.
    """
    found: dict[str, str] = {}
    stage, number, title = "", 0, ""
    for line in text.splitlines():
        word = line.partition(" ")[0]
        if word == "FROM":
            stage, number = line.rpartition(" AS ")[2], int("@" in line)
        elif word in _STEPS:
            number += 1
            if title:
                found[f"[{stage} {number}/"] = title
        title = line.removeprefix("#: ") if line.startswith("#: ") else ""
    return found
