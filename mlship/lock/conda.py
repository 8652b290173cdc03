"""conda's environment files and the locks of conda-lock: what conda installs, and what pip installs beside it. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mlship.yaml_text import parse_yaml

_DOCUMENT = re.compile(r"^(?:dependencies|package):\s*(?:#.*)?$", re.MULTILINE)
_SPEC = re.compile(
    r"(?:[\w./-]+::)?(?P<name>[\w.-]+)\s*(?:\[.*\])?\s*=*\s*(?P<version>[\w.*!+-]*)"
)  # channel::name=version=build
_SUBDIRS = {"linux/amd64": "linux-64", "linux/arm64": "linux-aarch64"}
_WITHOUT_CODE = {"python", "pip", "setuptools", "wheel"}


@dataclass(frozen=True)
class CondaDocument:
    """What a file of conda's asks for on one platform.

    Attributes:
        conda: name and version of its packages, without Python and pip themselves; the version may be empty.
        pip: requirements for pip, a line each.
        whole: a lock, which lists every package.
    """

    conda: tuple[tuple[str, str], ...]
    pip: str
    whole: bool


def read_conda_document(text: str, platform: str) -> CondaDocument | None:
    """Read an environment file or a lock of conda-lock; None for any other text.

    Raises:
        ValueError: it is not YAML.
    """
    if not _DOCUMENT.search(text):
        return None
    document = parse_yaml(text)
    if not isinstance(document, dict):
        return None
    if isinstance(packages := document.get("package"), list):
        rows = [row for row in packages if isinstance(row, dict) and row.get("platform") == _SUBDIRS[platform]]
        of = {
            kind: [(str(r.get("name")), str(r.get("version"))) for r in rows if r.get("manager") == kind]
            for kind in ("conda", "pip")
        }
        return CondaDocument(
            _coded(of["conda"]), "\n".join(f"{name}=={version}" for name, version in of["pip"]), whole=True
        )
    items = document.get("dependencies")
    items = items if isinstance(items, list) else []
    return CondaDocument(_coded(_specs(items)), "\n".join(_lines(items)), whole=False)


def _coded(packages: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, version) for name, version in packages if name not in _WITHOUT_CODE)


def _specs(items: list[object]) -> list[tuple[str, str]]:
    found = [_SPEC.match(item.strip()) for item in items if isinstance(item, str)]
    return [(one["name"], one["version"]) for one in found if one]


def _lines(items: list[object]) -> Iterator[str]:
    for item in items:
        lines = item.get("pip") if isinstance(item, dict) else None
        yield from (str(line) for line in lines) if isinstance(lines, list) else ()
