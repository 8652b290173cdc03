"""The plan as text: Dockerfile and .dockerignore. The plan has decided everything; this only prints."""

import json
import re
from collections.abc import Sequence

from mlship.image.gpu import GpuPlan
from mlship.image.plan import BuildPlan
from mlship.project.paths import LEFT_OUT
from mlship.render import render
from mlship.resources import read_package_file, read_template

_STEPS = {"RUN", "COPY", "WORKDIR"}


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
        copies=[exec_form((*w.files, f"{plan.workdir}/{w.folder}/".replace("//", "/"))) for w in plan.weights],
        sources=[exec_form((path, f"./{path}")) for path in plan.source],
        moved=exec_form(("rm", "-f", *moved)) if (moved := [f"./{f}" for w in plan.weights for f in w.files]) else "",
        labels=[f"{quote(name)}={quote(value)}" for name, value in plan.labels.items()],
        environment=[f"{name}={quote(value)}" for name, value in plan.env.items()],
        command=exec_form(plan.command),
        health=exec_form(("python", "-ISc", _health(plan))),
        installed=plan.pins - len(plan.gpu.compiled if plan.gpu else ()),
        libraries=read_package_file("image/libraries.py") if plan.gpu else "",
        architectures=_architectures(plan.gpu) if plan.gpu else (),
    )


def copied(plan: BuildPlan) -> tuple[str, ...]:
    """The paths of the repository that the Dockerfile names."""
    return tuple(dict.fromkeys((plan.lock, *plan.source, *(path for w in plan.weights for path in w.files))))


def dockerignore(plan: BuildPlan, linked: tuple[str, ...] = ()) -> str:
    """What the engine may see of the repository: nothing but what the Dockerfile copies, and what its links lead to."""
    return render("dockerignore.j2", paths=list(dict.fromkeys((*copied(plan), *linked))), left_out=LEFT_OUT)


def _health(plan: BuildPlan) -> str:
    return f"import urllib.request as r; r.urlopen('{plan.health.url}', timeout=3)"


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
