"""The variables that the repository's own image sets, because its server may read them, and others that it reads."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from posixpath import normpath

from mlship.dockerfile.words import UNKNOWN
from mlship.init.builds import Build
from mlship.init.known import init_table
from mlship.init.sources import Module
from mlship.init.tree import Tree
from mlship.project.config import SECRET, VARIABLE
from mlship.project.paths import WORKDIR
from mlship.redact import has_credentials
from mlship.units import few

_OURS = init_table().patterns["own_variables"]


@dataclass(frozen=True)
class ImageVariables:
    """Values by name, with paths as in the generated image, and notes about variables that are left out."""

    values: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def image_variables(tree: Tree, build: Build, served: Iterable[Module] = ()) -> ImageVariables:
    """The variables of ENV in the stage that is shipped, as far as the Dockerfile decides them."""
    given = build.stage.env if build.stage else {}
    found, secret, unknown, elsewhere, odd = dict[str, str](), list[str](), list[str](), list[str](), list[str]()
    for name, value in given.items():
        if _OURS.fullmatch(name):
            continue
        if not re.fullmatch(VARIABLE, name) or not value.replace(UNKNOWN, "").isprintable():
            odd.append(f"`{name}`")
        elif SECRET.search(name) or has_credentials(value):
            secret.append(f"`{name}`")
        elif UNKNOWN in value:
            unknown.append(f"`{name}`")
        elif (path := _moved(tree, build, value)) is None:
            elsewhere.append(f"`{name}` ({value})")
        else:
            found[name] = path
    left_out = {
        "may be secret; set when the container starts, and under `smoke.env`": secret,
        "known only when that image is built; set under `env`": unknown,
        "a path that the image does not have; set under `env` if needed": elsewhere,
        "a name or a value that mlship.yaml cannot hold": odd,
    }
    notes = [f"not copied from {build.dockerfile}: {', '.join(of)}: {why}" for why, of in left_out.items() if of]
    reads = frozenset[str]().union(*(module.variables for module in served)) - given.keys()
    if unset := [f"`{name}`" for name in sorted(reads) if not _OURS.fullmatch(name)]:
        why = "set under `env` what it needs, and secrets under `smoke.env` and when the container starts"
        notes.append(f"the image does not set {few(unset, 9)}, which the code reads from its environment: {why}")
    return ImageVariables(found, tuple(notes))


def _moved(tree: Tree, build: Build, value: str) -> str | None:
    """A path below the other image's working folder in the generated one; None for one that it has not."""
    if not value.startswith("/") or value.split("/")[1] == "tmp":
        return value
    workdir = build.stage.workdir if build.stage else "/"
    if workdir == "/" or not f"{value}/".startswith(f"{workdir}/"):
        return None
    inside = normpath(f"{build.folder or '.'}/{value[len(workdir) :]}")
    return normpath(f"{WORKDIR}/{inside}") if inside == "." or inside in tree or inside in tree.folders else None
