"""Prints a plan as Dockerfile and .dockerignore; it decides nothing."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from mlship.image.plan import BuildPlan
from mlship.image.steps import install_groups, shipped_layers, weight_steps
from mlship.project.paths import LEFT_OUT, PRIVATE, is_private
from mlship.render import render


def quote(text: str) -> str:
    """A double-quoted word for LABEL and ENV, in which nothing is expanded."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


def exec_form(words: Sequence[str]) -> str:
    """The JSON form of CMD and COPY: no shell, no word splitting."""
    return json.dumps(list(words), ensure_ascii=False)


def dockerfile(plan: BuildPlan, repo: str = "", contexts: Mapping[str, str] | None = None) -> str:
    """The Dockerfile of a plan; the same plan gives the same bytes.

    Args:
        repo: folder of the repository in the build context, with its slash.
        contexts: folders of the build context that hold the named contexts, by name; others stay empty unless the
            command line of the build provides them.
    """
    groups = install_groups(plan)
    without = ("--without", *plan.weight_paths) if plan.weight_paths else ()
    return render(
        "Dockerfile.j2",
        plan=plan,
        groups=groups,
        contexts=contexts or {},
        weights=weight_steps(plan, repo),
        shipped=shipped_layers(plan),
        site=f"/opt/venv/lib/python{plan.python}/site-packages",
        repository=f"source={repo.rstrip('/')}," if repo else "",
        code=shlex.join((*plan.source, *without)),
        labels=[f"{quote(name)}={quote(value)}" for name, value in plan.labels.items()],
        environment=[f"{name}={quote(value)}" for name, value in plan.env.items()],
        command=exec_form(plan.command),
        health=exec_form(("python", "-ISc", plan.health.code)),
    )


def copied_paths(plan: BuildPlan) -> tuple[str, ...]:
    """The repository paths that the Dockerfile copies or mounts."""
    return tuple(dict.fromkeys((*plan.source, *plan.weight_paths)))


def dockerignore(plan: BuildPlan, linked: tuple[str, ...] = ()) -> str:
    """Excludes everything but the copied paths and the targets of their symbolic links."""
    paths = list(dict.fromkeys((*copied_paths(plan), *linked)))
    named = [path for path in copied_paths(plan) if is_private(PurePosixPath(path).name)]
    return render("dockerignore.j2", paths=paths, left_out=LEFT_OUT + PRIVATE, named=named)
