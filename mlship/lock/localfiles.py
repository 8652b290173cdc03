"""Distributions in local folders: find-links, and PEP 503 indexes with file: addresses."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from mlship.lock.indexes import PipSettings, local_path
from mlship.lock.pages import read_html, release_in

_ARCHIVES = (".whl", ".tar.gz", ".zip")


@dataclass(frozen=True)
class LocalFile:
    """A wheel or source archive on this machine."""

    path: Path
    name: NormalizedName
    version: Version


def local_files(settings: PipSettings, names: frozenset[str] | None = None) -> dict[str, LocalFile]:
    """Local distributions by file name; the first folder with a name wins.

    Args:
        names: canonical names of the projects to look for; None for all.
    """
    found: dict[str, LocalFile] = {}
    for path in _candidates(settings, names):
        if path.name not in found and (file := _local_file(path)) and (names is None or file.name in names):
            found[path.name] = file
    return dict(sorted(found.items()))


def _candidates(settings: PipSettings, names: frozenset[str] | None) -> Iterator[Path]:
    for link in settings.find_links:
        path = local_path(link)
        if path and path.is_dir():
            yield from sorted(path.iterdir())
        elif path:
            yield from _linked(path)
    for index in settings.indexes():
        root = local_path(index)
        if root and root.is_dir():
            projects = sorted(names) if names is not None else sorted(child.name for child in root.iterdir())
            for project in projects:
                yield from _linked(root / canonicalize_name(project) / "index.html")


def _linked(page: Path) -> Iterator[Path]:
    """Local files that an index page links to."""
    try:
        text = page.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return  # like pip: the index lacks this project, or the folder is missing
    yield from (path for file in read_html(text, page.absolute().as_uri()) if (path := local_path(file.url)))


def _local_file(path: Path) -> LocalFile | None:
    if not path.name.endswith(_ARCHIVES) or not re.fullmatch(r"[\w.+!-]+", path.name) or not path.is_file():
        return None
    found = release_in(path.name)
    return LocalFile(path, *found) if found else None
