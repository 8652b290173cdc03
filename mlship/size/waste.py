"""Find files that an image may not need, with their size and advice. Pure."""

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeAlias

from mlship.size.content import BIG, File
from mlship.size.owners import Distribution, site_of, source_of
from mlship.size.report import SizeGroup, Waste
from mlship.units import count_of, first_rows
from mlship.versioned import TableRow, table_reader

_EXAMPLES = 3
_NAMED = 4
_SMALLEST_WASTE = 1 << 16  # bytes
_LIBRARY = re.compile(r"(?P<stem>lib[^/]+?)(?:-[0-9a-f]{8,})?\.so(?:\.[\w.]+)?$")
_PYTHON = re.compile(r"(?:^|/)python(\d)\.(\d+)/")


@dataclass(frozen=True, slots=True)
class Placed:
    """A visible file with its layer, owner and group."""

    path: str
    file: File
    layer: int
    owner: Distribution | None
    group: SizeGroup
    part: str


PlacedFiles: TypeAlias = Sequence[Placed]
FoundWaste: TypeAlias = Iterator[tuple[str, str, str, PlacedFiles]]
WasteRule: TypeAlias = Callable[[PlacedFiles], FoundWaste]


def wasted(placed: PlacedFiles, hidden: Sequence[dict[str, int]], base: int = 0) -> tuple[Waste, ...]:
    """Find waste, largest first. A file matched by one rule is not passed to the next.

    Args:
        placed: visible files.
        hidden: hidden bytes by path, for each layer.
        base: number of layers in the base image.
    """
    found = list(_hidden(hidden, base))
    left = [each for each in placed if each.file.size and each.file.regular]
    every = {each.path for each in placed}
    by_path: list[WasteRule] = [partial(row.found, every) for row in _table().row]
    for rule in (_identical, _twice_installed, _libraries, *by_path):
        for name, what, advice, files in rule(left):
            found.append(_waste(name, what, advice, {each.path: each.file.size for each in files}))
            taken = {each.path for each in files}
            left = [each for each in left if each.path not in taken]
    worth = [waste for waste in found if waste.bytes >= _SMALLEST_WASTE]
    return tuple(sorted(worth, key=lambda waste: (-waste.bytes, waste.id, waste.what)))


def _waste(name: str, what: str, advice: str, sizes: dict[str, int]) -> Waste:
    largest = sorted(sizes, key=lambda path: (-sizes[path], path))[:_EXAMPLES]
    return Waste(name, sum(sizes.values()), what, advice, tuple(f"/{path}" for path in largest))


def _hidden(layers: Sequence[dict[str, int]], base: int) -> Iterator[Waste]:
    for number, sizes in enumerate(layers, 1):
        if sizes:
            whose, advice = ("", "hidden") if number > base else (" (base image)", "hidden-in-base")
            what = f"{count_of(len(sizes), 'file')} of layer {number}{whose} that later layers replace or remove"
            yield _waste("hidden", what, _table().advice[advice], sizes)


def _identical(left: PlacedFiles) -> FoundWaste:
    """Find big files with the same content; all copies but one are waste."""
    same: dict[str, list[Placed]] = defaultdict(list)
    for each in left:
        if each.file.digest is not None:
            same[each.file.digest].append(each)
    twice = [(files, posixpath.basename(_kept_first(files)[0].path)) for files in same.values() if len(files) > 1]
    for parts, taken, names in _by_parts(twice):
        one, several = f"{parts[0]} has more than one copy of files", f"{_listed(parts)} have the same content"
        what = one if len(parts) == 1 else several
        advice = "own-copies" if len(parts) > 1 and _of_packages(taken) else "links"
        yield "identical", f"{what}: {_listed(names)}", _table().advice[advice], taken


def _by_parts(twice: Iterable[tuple[Sequence[Placed], str]]) -> Iterator[tuple[list[str], list[Placed], list[str]]]:
    """Merge copies shared by the same parts: yield the parts, the redundant files and their names."""
    found: dict[tuple[str, ...], tuple[list[Placed], list[str]]] = {}
    for files, name in sorted(twice, key=lambda pair: (-_bytes(pair[0]), pair[1])):
        taken, names = found.setdefault(tuple(sorted({each.part for each in files})), ([], []))
        taken.extend(_kept_first(files)[1:])
        names.append(name)
    for parts, (taken, names) in found.items():
        yield list(parts), taken, list(dict.fromkeys(names))


def _kept_first(files: Sequence[Placed]) -> list[Placed]:
    """Sort the copy to keep first: owned by a package, then the largest."""
    return sorted(files, key=lambda each: (each.owner is None, -each.file.size, each.path))


def _twice_installed(left: PlacedFiles) -> FoundWaste:
    """Find distributions in several site-packages. One hides the others; assume that it is the largest."""
    sites: dict[str, dict[str, list[Placed]]] = defaultdict(lambda: defaultdict(list))
    for each in left:
        if each.owner is not None and each.owner.version is not None:
            sites[each.owner.name][each.owner.site].append(each)
    for name, by_site in sorted(sites.items()):
        if len(by_site) > 1:
            largest, *others = sorted(by_site, key=lambda site: (-_bytes(by_site[site]), site))
            yield (
                "installed-twice",
                f"{name} is installed in {len(by_site)} places: /{', /'.join(sorted(by_site))}",
                f"install into one environment only; keep the copy in /{largest}",
                [each for site in others for each in by_site[site]],
            )


def _libraries(left: PlacedFiles) -> FoundWaste:
    """Find shared libraries in several folders; all copies but one are waste."""
    named: dict[str, list[Placed]] = defaultdict(list)
    for each in left:
        found = _LIBRARY.match(posixpath.basename(each.path)) if each.file.size >= BIG else None
        if found:
            named[found["stem"]].append(each)
    twice = [
        (files, f"{stem}.so")
        for stem, files in named.items()
        if len({posixpath.dirname(each.path) for each in files}) > 1
    ]
    for parts, taken, names in _by_parts(twice):
        what = f"{_listed(parts)} {'has' if len(parts) == 1 else 'each have'} {_listed(names)}"
        where = " in several folders" if len(parts) == 1 else ""
        yield "library-twice", what + where, _table().advice[_advice(parts, taken)], taken


def _advice(parts: Sequence[str], taken: PlacedFiles) -> str:
    in_folders = {part.startswith("/") for part in parts}
    if len(in_folders) == 2 and any(each.group == "cuda" for each in taken):
        return "cuda-twice"
    return "own-copies" if len(in_folders) == 1 and _of_packages(taken) else "one-copy"


def _listed(names: Sequence[str]) -> str:
    *first, last = first_rows(names, _NAMED, "{} more")
    return f"{', '.join(first)} and {last}" if first else last


def _of_packages(files: PlacedFiles) -> bool:
    return all(each.owner is not None for each in files)


class _PathRow(TableRow):
    """A row of data/waste.toml."""

    id: str
    what: str
    advice: str
    source: str
    path: str = ""
    kept: tuple[SizeGroup, ...] = ()
    installed: bool = False
    never_read: bool = False

    def found(self, every: set[str], left: PlacedFiles) -> FoundWaste:
        yield self.id, self.what, self.advice, [each for each in left if self.fits(each, every)]

    def fits(self, each: Placed, every: set[str]) -> bool:
        if self.never_read:
            return _is_never_read(each.path, every)
        if each.group in self.kept or (self.installed and site_of(each.path) is None):
            return False
        return re.search(self.path, each.path) is not None


class _Table(TableRow):
    row: tuple[_PathRow, ...]
    advice: dict[str, str]


_table = table_reader(_Table, "waste")


@cache
def _cache_path() -> re.Pattern[str]:
    return re.compile(next(row.path for row in _table().row if row.id == "cache" and row.path))


def is_cache(path: str) -> bool:
    """Whether a file, by its path from the root, is in the cache of a package manager."""
    return _cache_path().search(path) is not None


def _is_never_read(path: str, every: set[str]) -> bool:
    """Python reads __pycache__ only beside its source and for its own version (https://peps.python.org/pep-3147/)."""
    found, python = source_of(path), _PYTHON.search(path)
    if found is None:
        return False
    source, compiled_by = found
    return source not in every or (python is not None and compiled_by != f"cpython-{python[1]}{python[2]}")


def _bytes(files: Iterable[Placed]) -> int:
    return sum(each.file.size for each in files)
