"""Which wheels install in the image, by their tags and Python. Pure."""

from collections.abc import Iterable
from functools import lru_cache

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from mlship.lock.pages import IndexFile
from mlship.project.config import Config
from mlship.requirement_line import MACHINES, specifiers

GLIBC = {"bookworm": (2, 36), "trixie": (2, 41)}


def supported_tags(config: Config) -> tuple[Tag, ...]:
    """The wheel tags that the image's Python, processor and C library support, the most specific first."""
    return _tags(config.python, config.platform, config.base.distro)


@lru_cache(maxsize=20)
def _tags(version: str, platform: str, distro: str) -> tuple[Tag, ...]:
    major, newest = GLIBC[distro]
    machine = MACHINES[platform]
    names = [f"manylinux_{major}_{minor}" for minor in range(newest, 4, -1)]
    platforms = [f"{name}_{machine}" for name in (*names, "manylinux2014", "manylinux2010", "manylinux1", "linux")]
    python = tuple(int(part) for part in version.split("."))
    interpreter = f"cp{version.replace('.', '')}"
    return (*cpython_tags(python, platforms=platforms), *compatible_tags(python, interpreter, platforms))


@lru_cache(maxsize=1000)  # pages have thousands of files, and few different limits
def allows_python(requires: str, python: str) -> bool:
    """Whether a file with this limit installs on a version of Python; pip ignores a limit that is malformed."""
    return specifiers(requires).contains(python, prereleases=True)


def wheel_versions(files: Iterable[IndexFile], config: Config) -> dict[Version, bool]:
    """Every version that has wheels, and whether one of them fits the image; indexes have invalid names of old ones."""
    found: dict[Version, bool] = {}
    supported = frozenset(supported_tags(config))
    for file in files:
        try:
            _, version, _, tags = parse_wheel_filename(file.filename)
        except InvalidWheelFilename:
            continue
        fits = not supported.isdisjoint(tags) and allows_python(file.requires_python, f"{config.python}.0")
        found[version] = found.get(version, False) or fits
    return found
