"""What pickled model files need: the packages that they name, and the scikit-learn that wrote them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement

from mlship.init.declared.result import Declared
from mlship.init.import_needs import Lookup, listed
from mlship.init.requirements import distribution
from mlship.init.tree import Tree
from mlship.project.pickle_names import read_pickle_names
from mlship.project.weights import WeightFile

_FILES = 20
_COMMON = {"numpy", "scipy", "joblib"}  # packages of models bring them


@dataclass(frozen=True)
class PickledModel:
    """A pickled model file.

    Attributes:
        requirements: known packages that loading it imports.
        sklearn: version of scikit-learn that wrote it; None if it holds no estimator.
    """

    path: str
    requirements: tuple[str, ...]
    sklearn: str | None


def find_pickled(tree: Tree, refused: Sequence[WeightFile], lookup: Lookup) -> Iterator[PickledModel]:
    """Read the pickles of a repository; modules of the repository itself need no package."""
    for file in [file for file in refused if file.kind in ("pickle", "torch")][:_FILES]:
        names = read_pickle_names(tree.root / file.path)
        foreign = (module for module in sorted(names.modules) if not lookup.is_provided(module))
        lines = {line for module in foreign if (line := lookup.requirement(module, names.modules))}
        yield PickledModel(file.path, tuple(sorted(lines)), names.sklearn)


def pickle_notes(pickles: Sequence[PickledModel], declared: Sequence[Declared]) -> Iterator[str]:
    """Packages that no requirements file names, and another scikit-learn than the one that wrote a file."""
    declared = [one for one in declared if one.main]
    named = frozenset(name for one in declared for name in one.names)
    for pickle in pickles:
        missing = [line for line in pickle.requirements if distribution(line) not in named | _COMMON]
        if declared and missing:
            yield f"`{pickle.path}` imports {', '.join(missing)}, which `{declared[0].origin}` does not name"
    for version in sorted({pickle.sklearn for pickle in pickles if pickle.sklearn}):
        paths = [pickle.path for pickle in pickles if pickle.sklearn == version]
        if not _asks_for(declared, version):
            yield (
                f"scikit-learn {version} wrote {listed(paths)}, and other versions may not read it: require "
                f"`scikit-learn=={version}`, or write it again with the locked version"
            )


def _asks_for(declared: Sequence[Declared], version: str) -> bool:
    """Whether a file pins this version of scikit-learn."""
    lines = [line for one in declared for line in one.lines if distribution(line) == "scikit-learn"]
    pins = (Requirement(re.split(r"\s+#|\s--hash", line, maxsplit=1)[0].rstrip("\\ ")) for line in lines)
    return any(spec.operator == "==" and spec.contains(version) for pin in pins for spec in pin.specifier)
