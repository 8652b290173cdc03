"""What pickled model files need: the packages that they name, and the scikit-learn that wrote them."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from packaging.specifiers import Specifier
from packaging.version import Version

from mlship.frameworks import has_wheel
from mlship.init.declared.result import Declared, distribution
from mlship.init.import_needs import Lookup
from mlship.init.tree import Tree
from mlship.project.model_code import loaded_names
from mlship.project.sklearn_version import FIRST_FOR_NUMPY_2, sklearn_of
from mlship.project.weights import WeightFile
from mlship.units import few

_FILES = 20
_SKLEARN = "scikit-learn"
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


def find_pickled(tree: Tree, files: Sequence[WeightFile], lookup: Lookup) -> Iterator[PickledModel]:
    """Read the pickles and skops files of a repository; modules of the repository itself need no package."""
    for file in [file for file in files if file.kind in ("pickle", "torch", "skops")][:_FILES]:
        modules: frozenset[str] = frozenset()
        with suppress(OSError, ValueError):  # a file that cannot be read is refused elsewhere
            names = loaded_names(tree.root / file.path, file.kind)
            modules = frozenset(name.rpartition(".")[0] for name in names if "." in name)
        foreign = (module for module in sorted(modules) if not lookup.is_provided(module))
        lines = {line for module in foreign if (line := lookup.requirement(module, modules))}
        yield PickledModel(file.path, tuple(sorted(lines)), sklearn_of(tree.root / file.path))


def pickle_lines(pickles: Sequence[PickledModel], source: Declared | None, python: str) -> tuple[str, ...]:
    """What the files need and `source` does not name: packages that they import, the scikit-learn that wrote them.

    Another scikit-learn may not read them, so its version counts, unless `source` names one or it has no wheel for this
    Python.
    """
    named = source.names | _COMMON if source else frozenset()
    lines = {
        line: f"{pickle.path} imports it when it is loaded"
        for pickle in reversed(pickles)
        for line in pickle.requirements
        if distribution(line) not in named
    }
    if version := pinned_sklearn(pickles, source, python):
        lines.pop(_SKLEARN, None)
        lines[f"{_SKLEARN}=={version}"] = f"it wrote {next(pickle.path for pickle in pickles if pickle.sklearn)}"
        if Version(version) < FIRST_FOR_NUMPY_2 and not _specifiers(source, "numpy"):
            lines.pop("numpy", None)
            lines["numpy<2"] = f"scikit-learn {version} does not support numpy 2"
    return tuple(f"{line}  # {why}" for line, why in sorted(lines.items()))


def pinned_sklearn(pickles: Sequence[PickledModel], source: Declared | None, python: str) -> str | None:
    """The one version that wrote the files, if it can be required."""
    versions = {pickle.sklearn for pickle in pickles if pickle.sklearn}
    if len(versions) != 1 or _specifiers(source, _SKLEARN):
        return None
    (version,) = versions
    return version if has_wheel("sklearn", version, python) else None


def pickle_notes(pickles: Sequence[PickledModel], source: Declared | None, python: str) -> Iterator[str]:
    """Versions of scikit-learn that wrote files, if neither `source` nor `pickle_lines` requires them."""
    if pinned_sklearn(pickles, source, python):
        return
    for version in sorted({pickle.sklearn for pickle in pickles if pickle.sklearn}):
        if not any(one.operator == "==" and one.contains(version) for one in _specifiers(source, _SKLEARN)):
            rewrite = "write it again with the locked version"
            fix = f"require `scikit-learn=={version}`, or {rewrite}"
            if not has_wheel("sklearn", version, python):
                fix = f"that version has no wheel for Python {python}, so {rewrite}"
            named = few(f"`{one.path}`" for one in pickles if one.sklearn == version)
            yield f"scikit-learn {version} wrote {named}, and other versions may not read it: {fix}"


def _specifiers(source: Declared | None, name: str) -> tuple[Specifier, ...]:
    """What a file says about the version of a package."""
    entries = [one.requirement for one in source.main if one.name == name] if source else []
    return tuple(one for requirement in entries if requirement for one in requirement.specifier)
