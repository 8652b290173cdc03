"""Which library runs the model: by what the served code imports, the model files are, and the requirements name."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from mlship.init.found import Detected
from mlship.init.requirements import Declared
from mlship.init.sources import Module
from mlship.project.formats import ModelFormat
from mlship.project.weights import WeightFile


@dataclass(frozen=True)
class Framework:
    """A library that runs models.

    Attributes:
        imports: top-level modules; distributions: normalised names.
        kinds: model files that speak for it.
    """

    name: str
    imports: frozenset[str]
    distributions: frozenset[str]
    kinds: frozenset[ModelFormat] = frozenset()


def _framework(name: str, imports: str, distributions: str, *kinds: ModelFormat) -> Framework:
    return Framework(name, frozenset(imports.split()), frozenset(distributions.split()), frozenset(kinds))


# In this order where the evidence is even: what wraps another comes after it.
FRAMEWORKS = (
    _framework("onnxruntime", "onnxruntime", "onnxruntime onnxruntime-gpu", "onnx"),
    _framework("torch", "torch transformers sentence_transformers", "torch transformers sentence-transformers"),
    _framework("tensorflow", "tensorflow keras", "tensorflow tensorflow-cpu keras", "keras", "hdf5", "tflite"),
    _framework("jax", "jax flax", "jax flax"),
    _framework("xgboost", "xgboost", "xgboost xgboost-cpu", "xgboost"),
    _framework("lightgbm", "lightgbm", "lightgbm", "lightgbm"),
    _framework("catboost", "catboost", "catboost", "catboost"),
    _framework("llama-cpp", "llama_cpp", "llama-cpp-python", "gguf"),
    _framework("sklearn", "sklearn joblib", "scikit-learn joblib"),
)
_TITLES: dict[ModelFormat, str] = {"onnx": "ONNX", "gguf": "GGUF", "hdf5": "HDF5", "xgboost": "an XGBoost model"}
_SERVED, _MODEL, _NAMED, _ELSEWHERE = 8, 4, 2, 1  # each outweighs all that is weaker


@dataclass(frozen=True)
class Clues:
    """What may speak for a framework.

    Attributes:
        elsewhere: imports of code that is not served: training, tests.
        details: by path of a model file, what its header says of inputs and outputs.
    """

    served: tuple[Module, ...]
    elsewhere: frozenset[str]
    models: tuple[WeightFile, ...]
    declared: tuple[Declared, ...]
    details: Mapping[str, str]


def tops(imports: Iterable[str]) -> frozenset[str]:
    """Top-level names of dotted ones."""
    return frozenset(name.split(".")[0] for name in imports)


def find_framework(clues: Clues) -> tuple[Detected, tuple[str, ...]]:
    """The framework and the evidence for it.

    What the served code imports outweighs the model files, these the requirements, these all other code.
    """
    weighed = [(tuple(_evidence(framework, clues)), framework) for framework in FRAMEWORKS]
    rows, best = max(weighed, key=lambda pair: sum({weight for weight, _ in pair[0]}))  # the first of equals
    if not rows:
        return Detected(None, "no model file, import or requirement speaks for any framework that mlship knows"), ()
    return Detected(best.name, rows[0][1]), tuple(text for _, text in rows)


def _evidence(framework: Framework, clues: Clues) -> Iterator[tuple[int, str]]:
    for module in clues.served:
        found = framework.imports & tops(module.imports)
        if found:
            yield _SERVED, f"{module.path} imports {', '.join(sorted(found))}"
    for file in clues.models:
        if file.kind in framework.kinds:
            yield _MODEL, f"{file.path} is {_TITLES.get(file.kind, file.kind)}{clues.details.get(file.path, '')}"
    for declared in clues.declared:
        named = {canonicalize_name(name) for name in framework.distributions} & declared.names
        if named:
            yield _NAMED, f"{declared.origin} names {', '.join(sorted(named))}"
    other = framework.imports & tops(clues.elsewhere)
    if other:
        yield _ELSEWHERE, f"code that is not served imports {', '.join(sorted(other))}"
