"""Which distributions the served code imports. Only known names are written; the rest are questions for the user.

Known is what the user's environment installed under that name, then data/imports.toml. A name that the repository
itself could answer is neither.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mlship.imports import (
    candidates_for,
    distribution_of,
    in_standard_library,
    is_namespace,
    known_distributions,
    prefixes,
    requirement_for,
)
from mlship.init.declared.result import Declared
from mlship.init.environment import Installed
from mlship.init.local_names import LocalNames
from mlship.init.sources import Module


@dataclass(frozen=True)
class KnownImport:
    """A requirement line, and the modules that it is written for."""

    line: str
    modules: tuple[str, ...]


@dataclass(frozen=True)
class UnknownImport:
    """An import that no requirement is written for.

    Attributes:
        path: a file that imports it.
        answer: what in the repository could answer it.
        candidates: requirements to choose from.
    """

    module: str
    path: str
    answer: str | None = None
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportNeeds:
    """What the served code imports.

    Attributes:
        optional: known modules that the code can do without.
    """

    known: tuple[KnownImport, ...] = ()
    unknown: tuple[UnknownImport, ...] = ()
    optional: tuple[KnownImport, ...] = ()


@dataclass(frozen=True)
class Lookup:
    """Where names are looked up.

    Attributes:
        own: whether a dotted name is one of the repository's modules, so that nothing has to be installed.
        installed: packages of the user's environment; called only if a name is not the repository's.
    """

    python: str
    own: Callable[[str], bool]
    local: LocalNames
    installed: Callable[[], Installed]

    def requirement(self, module: str, imported: frozenset[str]) -> str | None:
        """The requirement line for a foreign module; None if unknown."""
        top = module.partition(".")[0]
        if self.local.answers(top, imported):
            return None
        return self.installed().requirement_for(module) or requirement_for(module, self.python)

    def is_provided(self, module: str) -> bool:
        """Whether the standard library or a module of the repository answers."""
        return in_standard_library(module, self.python) or self.own(module)

    def is_known(self, name: str, imported: frozenset[str]) -> bool:
        return self.is_provided(name) or self.requirement(name, imported) is not None


def find_needs(served: Sequence[Module], lookup: Lookup, *, certain: bool = True) -> ImportNeeds:
    """Look up every import of the served code; `certain`: it is known what runs, and so what is called."""
    first: dict[str, str] = {}
    optional: set[str] = set()
    for module in served:
        needed, other = _split(module, lookup)
        lazy = set[str]() if certain else needed & module.statements.lazy
        needed, optional = needed - lazy, optional | other | lazy
        for name in sorted(needed):
            first.setdefault(name, module.path)
    imported = frozenset(first) | optional
    known, unknown = _looked_up(first, imported, lookup)
    spare, _ = _looked_up(dict.fromkeys(optional, ""), imported, lookup)
    lines = {need.line for need in known}
    return ImportNeeds(known, unknown, tuple(need for need in spare if need.line not in lines))


def _split(module: Module, lookup: Lookup) -> tuple[set[str], set[str]]:
    """Names that the module needs, and others. Of several choices, the first that is known counts."""
    needed, other = set(module.statements.needed), set[str]()
    for choice in module.statements.choices:
        imported = frozenset(name for names in choice for name in names)
        taken = frozenset[str]() if frozenset() in choice else next(
            (names for names in choice if all(lookup.is_known(name, imported) for name in names)), choice[0]
        )  # fmt: skip
        needed |= taken
        other |= imported - taken
    foreign = {name for name in needed if name and not lookup.is_provided(name)}
    return foreign, {name for name in other - needed if not lookup.is_provided(name)}


def _looked_up(
    first: dict[str, str], imported: frozenset[str], lookup: Lookup
) -> tuple[tuple[KnownImport, ...], tuple[UnknownImport, ...]]:
    modules: dict[str, set[str]] = {}
    unknown: dict[str, UnknownImport] = {}
    for name in sorted(first):
        top = name.partition(".")[0]
        if line := lookup.requirement(name, imported):
            modules.setdefault(line, set()).add(_shown(name))
        elif not (is_namespace(name) and any(other.startswith(f"{name}.") for other in imported)):
            shown = name if is_namespace(top) else top
            answer = lookup.local.answers(top, imported)
            unknown.setdefault(shown, UnknownImport(shown, first[name], answer, () if answer else candidates_for(name)))
    known = tuple(KnownImport(line, tuple(sorted(names))) for line, names in sorted(modules.items()))
    return known, tuple(unknown.values())


def _shown(name: str) -> str:
    """The part of a dotted name that the distribution certainly brings as a module."""
    return next((part for part in prefixes(name) if not is_namespace(part)), name.partition(".")[0])


def misnamed(declared: Iterable[Declared], served: Iterable[Module]) -> Iterator[str]:
    """Requirements named like a module that another distribution brings: `sklearn`, `cv2`, `whisper`."""
    imported = {name.partition(".")[0] for module in served for name in module.statements.all}
    for file in declared:
        for name in sorted(file.names & imported - known_distributions()):
            if (right := distribution_of(name)) and right != name and right not in file.names:
                yield f"`{file.origin}` requires `{name}`, but `import {name}` is in `{right}`; replace it"
