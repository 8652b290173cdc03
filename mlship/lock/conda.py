"""Environment files of conda, and locks of conda-lock and pixi: what conda installs, and pip beside it. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mlship.conda_spec import conda_spec
from mlship.yaml_text import parse_yaml

_KEY = r"""["']?(?:dependencies|packages?)["']?[ \t]*:"""
_BLOCK = re.compile(f"^{_KEY}", re.MULTILINE)
_FLOW = re.compile(rf"[\s{{,]{_KEY}")
_VERSION = re.compile(r"=*\s*([\w.*!+-]*)")
CONDA_SUBDIRS = {"linux/amd64": "linux-64", "linux/arm64": "linux-aarch64"}
_WITHOUT_CODE = {"python", "pip", "setuptools", "wheel"}


@dataclass(frozen=True)
class CondaDocument:
    """What a file of conda's asks for on one platform.

    Attributes:
        conda: name and version of its packages, without Python and pip themselves; the version may be empty.
        pip: requirements for pip, a line each.
        whole: a lock, which lists every package.
        subdirs: platforms for which a lock has packages, as conda names them.
    """

    conda: tuple[tuple[str, str], ...]
    pip: str
    whole: bool
    subdirs: tuple[str, ...] = ()


def read_conda_document(text: str, platform: str) -> CondaDocument | None:
    """Read an environment file (YAML, or JSON of `conda env export --json`) or a lock; None for other texts.

    Raises:
        ValueError: it is not YAML.
    """
    if not (_FLOW if text.lstrip().startswith("{") else _BLOCK).search(text):  # TOML and requirements are no YAML
        return None
    document = parse_yaml(text)
    if not isinstance(document, dict):
        return None
    if listed := rows_in(document.get("package")):
        rows = [row for row in listed if row.get("platform") == CONDA_SUBDIRS[platform]]
        conda = [(str(r.get("name")), str(r.get("version"))) for r in rows if r.get("manager") == "conda"]
        pip = "\n".join(f"{r.get('name')}=={r.get('version')}" for r in rows if r.get("manager") == "pip")
        subdirs = tuple(sorted({str(row.get("platform")) for row in listed}))
        return CondaDocument(_coded(conda), pip, whole=True, subdirs=subdirs)
    if isinstance(environments := document.get("environments"), dict):
        return _pixi(environments.values(), rows_in(document.get("packages")), CONDA_SUBDIRS[platform])
    items = [] if (found := document.get("dependencies", 0)) is None else found
    if not isinstance(items, list):
        return None
    conda = [_pinned(item) for item in items if not isinstance(item, dict)]
    lines_of = [str(line) for item in rows_in(items) if isinstance(lines := item.get("pip"), list) for line in lines]
    return CondaDocument(_coded(conda), "\n".join(lines_of), whole=False)


def _pixi(environments: Iterable[object], packages: list[dict[str, object]], subdir: str) -> CondaDocument:
    """All environments together: a package with two versions has none."""
    listed = [found for one in rows_in([*environments]) if isinstance(found := one.get("packages"), dict)]
    rows = [row for found in listed for row in rows_in(found.get(subdir))]
    files = [str(row["conda"]).rpartition("/")[2].rsplit("-", 2) for row in rows if "conda" in row]
    named = {
        row.get("pypi"): f"{row['name']}=={row['version']}" for row in packages if {"name", "version"} <= row.keys()
    }
    pip = dict.fromkeys(str(named.get(row["pypi"], row["pypi"])) for row in rows if "pypi" in row)
    subdirs = tuple(sorted({str(key) for found in listed for key in found}))
    return CondaDocument(_coded([(name, "".join(rest[:1])) for name, *rest in files]), "\n".join(pip), True, subdirs)


def rows_in(found: object) -> list[dict[str, object]]:
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _coded(packages: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, version) for name, version in packages if name not in _WITHOUT_CODE)


def _pinned(item: object) -> tuple[str, str]:
    name, rest = conda_spec(str(item))
    version = _VERSION.match(rest)
    return name or str(item), version[1] if version else ""
