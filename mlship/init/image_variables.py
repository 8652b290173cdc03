"""The variables that the repository's own image sets: its server may read them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from posixpath import normpath

from mlship.dockerfile.words import UNKNOWN
from mlship.init.builds import Build
from mlship.init.tree import Tree
from mlship.project.config import SECRET
from mlship.project.paths import WORKDIR
from mlship.units import few

# Those of the shell, of Python and of installers: the generated image decides them itself.
_OURS = re.compile(
    r"(PATH|HOME|USER|SHELL|TERM|LANG|LANGUAGE|LC_\w+|DEBIAN_FRONTEND|VIRTUAL_ENV|LD_\w+"
    r"|(PYTHON|PIP|UV|POETRY|PIPENV|PDM|CONDA|MAMBA|NVIDIA|CUDA|XDG)_?\w*)"
)


@dataclass(frozen=True)
class ImageVariables:
    """Values by name, with paths as in the generated image, and notes about variables that are left out."""

    values: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def image_variables(tree: Tree, build: Build) -> ImageVariables:
    """The variables of ENV in the stage that is shipped, as far as the Dockerfile decides them."""
    found, secret, unknown, elsewhere = dict[str, str](), list[str](), list[str](), list[str]()
    for name, value in build.stage.env.items() if build.stage else ():
        if _OURS.fullmatch(name):
            continue
        if SECRET.search(name):
            secret.append(f"`{name}`")
        elif UNKNOWN in value or not value.isprintable():
            unknown.append(f"`{name}`")
        elif (path := _moved(tree, build, value)) is None:
            elsewhere.append(f"`{name}` ({value})")
        else:
            found[name] = path
    return ImageVariables(found, tuple(_notes(build.dockerfile, secret, unknown, elsewhere)))


def _moved(tree: Tree, build: Build, value: str) -> str | None:
    """A path below the other image's working folder in the generated one; None for one that it has not."""
    if not value.startswith("/") or value.split("/")[1] == "tmp":
        return value
    workdir = build.stage.workdir if build.stage else "/"
    if workdir == "/" or not f"{value}/".startswith(f"{workdir}/"):
        return None
    inside = normpath(f"{build.folder or '.'}/{value[len(workdir) :]}")
    return normpath(f"{WORKDIR}/{inside}") if inside == "." or inside in tree or inside in tree.folders else None


def _notes(dockerfile: str, secret: list[str], unknown: list[str], elsewhere: list[str]) -> Iterator[str]:
    head = f"of the variables that {dockerfile} sets"
    if secret:
        yield f"{head}, {few(secret)} may be secret: set it when the container starts, and under `smoke.env`"
    if unknown:
        yield f"{head}, the value of {few(unknown)} is known only when it is built: set it under `env`"
    if elsewhere:
        yield f"{head}, {few(elsewhere)} is a path that the image does not have: set it under `env` if it is needed"
