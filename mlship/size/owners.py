"""Map files to Python distributions, by RECORD or else by folder. Pure."""

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.utils import canonicalize_name

_SITE = re.compile(r"(?:.*/)?(?:site|dist)-packages(?=/)")
_DIST_INFO = re.compile(r"(?P<name>[^/]+?)-(?P<version>[^/-]+)\.dist-info")
_PYC = re.compile(r"(?P<folder>.*/)?__pycache__/(?P<stem>[^/]+?)\.(?P<tag>[^./]+)(?:\.opt-[^./]+)?\.pyc")


@dataclass(frozen=True, order=True)
class Distribution:
    """An installed distribution.

    Attributes:
        name: normalized name.
        site: folder that it is installed into.
    """

    name: str
    version: str | None
    site: str


class Owners:
    """Finds the distribution that owns a path.

    Args:
        records: the paths listed in each visible RECORD, by the path of the RECORD.
    """

    def __init__(self, records: Mapping[str, Iterable[str]]) -> None:
        self._named: dict[str, Distribution] = {}
        self._folders: dict[str, Distribution | None] = {}
        for record, paths in sorted(records.items()):
            owner = _distribution(record)
            if owner is not None:
                self._add(owner, (record, *paths))

    def of(self, path: str) -> Distribution | None:
        """Return the owner. A site-packages file in no RECORD belongs to a distribution named after its folder."""
        source = source_of(path)
        named = self._named.get(path) or (self._named.get(source[0]) if source else None)
        return named or self._by_folder(path)

    def _add(self, owner: Distribution, paths: Iterable[str]) -> None:
        for path in paths:
            self._named.setdefault(path, owner)
            folder = posixpath.dirname(path)
            while folder != owner.site and folder.startswith(owner.site):
                if self._folders.setdefault(folder, owner) != owner:
                    self._folders[folder] = None  # a namespace shared by several distributions
                folder = posixpath.dirname(folder)

    def _by_folder(self, path: str) -> Distribution | None:
        found = _SITE.match(path)
        if found is None:
            return None
        site, folder = found[0], posixpath.dirname(path)
        while folder != site:
            if folder in self._folders:
                return self._folders[folder] or _unnamed(path, site)
            folder = posixpath.dirname(folder)
        return _unnamed(path, site)


def site_of(path: str) -> str | None:
    """Return the site-packages folder that contains a path, or None."""
    found = _SITE.match(path)
    return found[0] if found else None


def source_of(path: str) -> tuple[str, str] | None:
    """The source of bytecode in `__pycache__`, and its interpreter, such as cpython-311; None for any other file."""
    found = _PYC.fullmatch(path)
    return (f"{found['folder'] or ''}{found['stem']}.py", found["tag"]) if found else None


def _distribution(record: str) -> Distribution | None:
    folder = posixpath.dirname(record)
    found = _DIST_INFO.fullmatch(posixpath.basename(folder))
    if found is None:
        return None
    return Distribution(canonicalize_name(found["name"]), found["version"], posixpath.dirname(folder))


def _unnamed(path: str, site: str) -> Distribution:
    """Name a distribution after the first folder or module below site-packages."""
    top = path.removeprefix(f"{site}/").partition("/")[0]
    base = re.sub(r"(?:-[\d.]+[^/]*)?\.(?:dist-info|egg-info|egg|libs|py|pth|so)$", "", top)
    return Distribution(canonicalize_name(base or top), None, site)
