"""The class that cog.yaml names to run the model, which `mlship init` writes a loader for. Parsed, never run.

https://github.com/replicate/cog/blob/main/docs/python.md
"""

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlship.init.declared.result import Declared
from mlship.init.handlers import is_required
from mlship.init.sources import Module
from mlship.init.tree import Tree
from mlship.project.syntax import last_name, parameters

_METHODS = ("predict", "run")


@dataclass(frozen=True)
class CogPredictor:
    """A predictor class.

    Attributes:
        module: dotted name; cls: the class; method: what handles a request.
        required, files: the inputs of the method that have no default, and those that are files.
    """

    module: str
    cls: str
    method: str
    has_setup: bool
    required: tuple[str, ...]
    files: tuple[str, ...]


def find_predictor(tree: Tree, modules: Mapping[str, Module], declared: Iterable[Declared]) -> CogPredictor | None:
    """The predictor of cog.yaml; None if it is not a class with plain methods in a module that can be imported."""
    named = next((one.predictor for one in declared if one.predictor and re.search(r"cog\.ya?ml$", one.origin)), "")
    file, _, cls = named.removeprefix("./").partition(":")
    module = next((one for one in modules.values() if one.path == file), None)
    if module is None or module.name is None:
        return None
    body = ast.parse(tree.text(file) or "").body
    classes = (one for one in body if isinstance(one, ast.ClassDef) and one.name == cls)
    return next((found for one in classes if (found := _read(module.name, one))), None)


def _read(module: str, cls: ast.ClassDef) -> CogPredictor | None:
    functions = {one.name: one for one in cls.body if isinstance(one, ast.FunctionDef)}
    method = next((functions[name] for name in _METHODS if name in functions), None)
    if method is None or method.args.vararg or method.args.kwarg:
        return None
    inputs = parameters(method)[1:]
    kinds = {one.arg: {last_name(node) for node in ast.walk(one.annotation or one)} for one, _ in inputs}
    if any("File" in kind for kind in kinds.values()):
        return None
    return CogPredictor(
        module,
        cls.name,
        method.name,
        "setup" in functions,
        tuple(one.arg for one, default in inputs if is_required(default)),
        tuple(name for name, kind in kinds.items() if "Path" in kind),
    )
