"""conda's environment files: packages by their names on PyPI, Debian packages, and Python's version."""

import re
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache

from packaging.utils import canonicalize_name

from mlship.conda_spec import conda_spec
from mlship.frameworks import framework_table
from mlship.imports import known_modules
from mlship.init.declared.documents import list_in
from mlship.init.declared.requirement_files import read_requirements_text
from mlship.init.declared.result import Declared, Entry, few_notes, is_development_package
from mlship.init.tree import Tree
from mlship.requirement_line import parse_requirement
from mlship.versioned import TableRow, table_reader

_BARE = re.compile(r"[<>=!~\[; ]")


class CondaTable(TableRow):
    """data/conda.toml, whose header explains the keys."""

    parts: tuple[str, ...]
    names: dict[str, str]
    system: dict[str, tuple[str, ...]]


conda_table = table_reader(CondaTable, "conda")


def read_conda(tree: Tree, path: str, document: dict[str, object]) -> Declared | None:
    """Read an environment file; None if it has no dependencies."""
    items = list_in(document, "dependencies")
    if not items:
        return None
    specs = [item for item in items if isinstance(item, str)]
    pip = [line for item in items for line in list_in(item, "pip") if isinstance(line, str)]
    listed = read_requirements_text(tree, path, "\n".join(pip))
    found = [_converted(spec) for spec in specs]
    names = [conda_spec(spec)[0] for spec in specs]
    gpu = sorted(set(names) & framework_table().gpu_only.conda)
    strangers = [name for name, one in zip(names, found, strict=True) if one is None and not _is_part(name)]
    unknown = [f"{path}: no known name on PyPI: {', '.join(strangers)}"] if strangers else []
    return replace(
        listed,
        entries=(*(Entry(one) for one in found if one), *listed.entries),
        python=next((_python(spec) for spec in specs if conda_spec(spec)[0] == "python"), None),
        system=tuple(dict.fromkeys(name for one in names for name in conda_table().system.get(one, ()))),
        gpu=f"requires {', '.join(gpu)}" if gpu else None,
        notes=few_notes([*unknown, *listed.notes]),
    )


def _is_part(name: str) -> bool:
    table = conda_table()
    return name in table.system or any(fnmatchcase(name, pattern) for pattern in table.parts)


@cache
def _known() -> frozenset[str]:
    """Distributions that this program knows by name."""
    listed = (_BARE.split(line)[0] for line in known_modules().values())
    frameworks = (name for row in framework_table().frameworks for name in row.distributions)
    return frozenset(canonicalize_name(name) for name in (*listed, *frameworks))


def _converted(spec: str) -> str | None:
    """`numpy=1.26` means numpy==1.26.*, and `numpy=1.26.4=py311h` numpy==1.26.4; None without a package on PyPI."""
    name, version = conda_spec(spec)
    own = canonicalize_name(name)
    known = own in _known() or is_development_package(own)
    pypi = conda_table().names.get(name) or (own if known and not _is_part(name) else None)
    if pypi is None:
        return None
    text = f"{pypi}{_version(version)}"
    return text if parse_requirement(text) else pypi


def _version(spec: str) -> str:
    exact = re.fullmatch(r"(==?)\s*([\w.]+?)(\.\*)?(=[\w.*]*)?", spec)
    if exact:
        whole = exact[1] == "==" or (bool(exact[4]) and exact[2].count(".") > 1)  # conda's 2.1 may be PyPI's 2.1.0
        return f"=={exact[2]}" if whole and not exact[3] else f"=={exact[2]}.*"
    return re.sub(r"\s+", "", spec.partition(" ")[0] if "," not in spec and spec[:1].isdigit() else spec)


def _python(spec: str) -> str | None:
    match = re.search(r"([<>=~!]=?)\s*(\d+\.\d+)", spec)
    if not match:
        return None
    return f"=={match[2]}.*" if match[1] in ("=", "==", "~=") else f"{match[1]}{match[2]}"
