"""Requirement lines, and the project's own table."""

import re
import tomllib

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mlship.init.tree import Tree


def distribution(line: str) -> str | None:
    """The normalised name in a requirement line; None for options, URLs and invalid lines."""
    text = re.split(r"\s+#|\s--hash", line, maxsplit=1)[0].strip().rstrip("\\").strip()
    try:
        return canonicalize_name(Requirement(text).name)
    except (InvalidRequirement, RecursionError):
        return None


def pyproject(tree: Tree) -> dict[str, object]:
    """The contents of pyproject.toml; empty if missing or invalid."""
    try:
        return tomllib.loads(tree.text("pyproject.toml") or "")
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}
