"""Detect the library that runs the model from imports, model files and requirements."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mlship.frameworks import Framework, framework_table
from mlship.init.declared.result import Declared, distribution
from mlship.init.found import Detected
from mlship.init.pickled import PickledModel
from mlship.init.sources import Module
from mlship.project.weights import WeightFile

_SERVED, _MODEL, _NAMED, _ELSEWHERE = 8, 4, 2, 1  # each outweighs the sum of those after it


@dataclass(frozen=True)
class Clues:
    """The evidence to weigh.

    Attributes:
        elsewhere: imports of code that is not served: training, tests.
        details: inputs and outputs from the header, by path of the model file.
        loads_itself: the repository has code that loads the model: OpenCV reads ONNX files, too.
    """

    served: tuple[Module, ...]
    elsewhere: frozenset[str]
    models: tuple[WeightFile, ...]
    declared: tuple[Declared, ...]
    details: Mapping[str, str]
    pickles: tuple[PickledModel, ...] = ()
    loads_itself: bool = False


def tops(imports: Iterable[str]) -> frozenset[str]:
    """Top-level names of dotted names."""
    return frozenset(name.split(".")[0] for name in imports)


def find_framework(clues: Clues) -> tuple[Detected, tuple[str, ...]]:
    """The framework and the evidence for it.

    Imports of the served code outweigh model files, then requirements, then all other code.
    """
    weighed = [(tuple(_evidence(framework, clues)), framework) for framework in framework_table().frameworks]
    rows, best = max(weighed, key=lambda pair: (sum({one for one, _ in pair[0]}), len(pair[0])))
    if not rows:
        return Detected(None, "no supported framework detected"), ()
    return Detected(best.name, rows[0][1]), tuple(text for _, text in rows)


def _evidence(framework: Framework, clues: Clues) -> Iterator[tuple[int, str]]:
    for module in clues.served:
        if found := framework.imports & tops(module.imports):
            yield _SERVED, f"{module.path} imports {', '.join(sorted(found))}"
    used = any(framework.imports & tops(module.imports) for module in clues.served)
    used = used or any(framework.distributions & declared.names for declared in clues.declared)
    for file in clues.models if used or not clues.loads_itself else ():
        if file.kind in framework.files:
            title = framework_table().formats[file.kind].title if file.kind in framework_table().formats else ""
            yield _MODEL, f"{file.path} is {title or file.kind}{clues.details.get(file.path, '')}"
    for pickle in clues.pickles:
        if imported := framework.distributions & {distribution(line) for line in pickle.requirements}:
            yield _MODEL, f"{pickle.path} imports {', '.join(sorted(imported))} when it is loaded"
    for declared in clues.declared:
        own = framework.distributions & declared.names
        if named := own or framework.required_by & declared.names:
            text = f"{declared.origin} names {', '.join(sorted(named))}"
            yield (_NAMED, text) if own else (_ELSEWHERE, f"{text}, which needs it")
    if other := framework.imports & tops(clues.elsewhere):
        yield _ELSEWHERE, f"other code imports {', '.join(sorted(other))}"
