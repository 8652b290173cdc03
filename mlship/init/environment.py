"""Packages of the user's environment, read from its files. Nothing is run, and nothing is imported from it."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.utils import canonicalize_name, is_normalized_name

_IN_REPOSITORY = (".venv", "venv", "env")
_VARIABLES = ("VIRTUAL_ENV", "CONDA_PREFIX")
_ACCIDENTAL = {"test", "tests", "doc", "docs", "example", "examples", "scripts", "tools", "benchmarks"}


@dataclass(frozen=True)
class Installed:
    """Distributions by top-level module.

    Attributes:
        place: the environment; None if there is none.
    """

    place: str | None = None
    modules: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def requirement_for(self, module: str) -> str | None:
        """The one distribution that brings a module; None if unknown or shared by several."""
        found = self.modules.get(module.partition(".")[0], frozenset[str]())
        return next(iter(found)) if len(found) == 1 else None


def read_user_environment(repo: Path, variables: Mapping[str, str] = os.environ) -> Installed:
    """The environment in the repository, otherwise the active one."""
    active = (variables.get(name) for name in _VARIABLES)
    for folder in (*(repo / name for name in _IN_REPOSITORY), *(Path(path) for path in active if path)):
        sites = sorted(folder.glob("lib/python3*/site-packages"))
        if sites and ((folder / "pyvenv.cfg").exists() or (folder / "conda-meta").exists()):
            return Installed(str(folder), _modules(sites[-1]))
    return Installed()


def _modules(site: Path) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for distribution in distributions(path=[str(site)]):
        name = str(canonicalize_name(distribution.metadata["Name"] or ""))
        if is_normalized_name(name) and _is_from_index(distribution):
            for module in {*_top_level(distribution)} - _ACCIDENTAL:
                found[module].add(name)
    return {module: frozenset(names) for module, names in found.items()}


def _is_from_index(distribution: Distribution) -> bool:
    """False for local folders, files and Git: an index may have another project under the name."""
    with suppress(ValueError, OSError):
        return json.loads(distribution.read_text("direct_url.json") or "null") is None
    return False


def _top_level(distribution: Distribution) -> Iterator[str]:
    text = distribution.read_text("top_level.txt")
    if text:
        yield from (line.strip() for line in text.splitlines() if line.strip().isidentifier())
        return
    for path in distribution.files or ():
        first = path.parts[0]
        name = first if len(path.parts) > 1 else first.split(".")[0] if path.suffix in (".py", ".so") else ""
        if name.isidentifier() and name != "__pycache__":
            yield name
