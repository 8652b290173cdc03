"""Asks the locked wheels themselves whether they bring the modules that requirements were written for.

`mlship init` writes `scikit-learn  # import sklearn`. The file names of a wheel are at its end, so a few kilobytes of
it are read, never the whole.
"""

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from packaging.utils import canonicalize_name

from mlship.lock.hashes import HashedPin
from mlship.lock.index import remote_names
from mlship.lock.indexes import PipSettings, local_path
from mlship.lock.inputs import InputFile
from mlship.lock.pages import IndexFile

_MARKED = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)[^#\n]*# import (?P<modules>[\w., ]+)$", re.MULTILINE)
_AT_ONCE = 16

FileNames = Callable[[IndexFile], tuple[str, ...] | None]


def absent_modules(files: Iterable[InputFile], pins: Iterable[HashedPin], names_in: FileNames) -> tuple[str, ...]:
    """A sentence for each module that a locked wheel lacks, and for each wheel that cannot be asked.

    Args:
        names_in: the names of the files in a wheel; None if unknown.
    """
    locked = {pin.name: pin for pin in pins}
    asked = [(locked[name], modules) for name, modules in marked_modules(files) if name in locked]
    pairs = list(zip(asked, wheel_names((pin for pin, _ in asked), names_in), strict=True))
    unknown = [pin.name for (pin, _), names in pairs if names is None]
    absent = [line for (pin, modules), names in pairs if names is not None for line in _absent(pin, modules, names)]
    if unknown:
        absent.append(f"unknown whether the modules that you import are in {', '.join(unknown)}: no wheel to look into")
    return tuple(absent)


def wheel_names(pins: Iterable[HashedPin], names_in: FileNames) -> list[tuple[str, ...] | None]:
    """The names of the files in each pin's wheel; None if unknown."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda pin: names_in(pin.installed) if pin.installed else None, pins))


def marked_modules(files: Iterable[InputFile]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Distributions with the modules that their lines name."""
    for file in files:
        for match in _MARKED.finditer(file.text):
            modules = (module.strip() for module in match["modules"].split(","))
            yield str(canonicalize_name(match["name"])), tuple(module for module in modules if module)


def _absent(pin: HashedPin, modules: tuple[str, ...], names: tuple[str, ...]) -> Iterator[str]:
    for module in modules:
        if not has_module(names, module):
            shown = pin.lines.split()[0]
            yield f"{shown} has no module {module}, for which it is required; it has {_top_level(names)}"


def has_module(names: Iterable[str], module: str) -> bool:
    """Whether the files of a wheel have a module, a package or a namespace of this dotted name."""
    path = module.replace(".", "/")
    return any(re.match(rf"{re.escape(path)}(/|\.(py|so|pyd)$|\.[\w-]+\.so$)", _installed_at(name)) for name in names)


def _installed_at(name: str) -> str:
    """The path below site-packages: `x.data/purelib/` is left out."""
    return re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", name)


def _top_level(names: Iterable[str]) -> str:
    paths = (path for path in map(_installed_at, names) if not re.match(r"[^/]+\.(dist-info|data)/", path))
    tops = sorted({top for path in paths if (top := path.split("/")[0].split(".")[0]).isidentifier()})
    return ", ".join(tops[:5]) or "none"


def wheel_files(settings: PipSettings, file: IndexFile) -> tuple[str, ...] | None:
    """The names of the files in a wheel; None if it is no wheel or cannot be read."""
    if not file.filename.endswith(".whl"):
        return None
    path = local_path(file.url)
    try:
        if path is None:
            return remote_names(settings, file)
        with zipfile.ZipFile(path) as archive:
            return tuple(archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError):  # errors of requests are OSErrors
        return None
