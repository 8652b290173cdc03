"""Folders with the pages of a server: which ones the code names, and templates that Flask would not find there."""

import ast
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mlship.init.load_calls import PathConstants, constant_path
from mlship.init.tree import Tree
from mlship.project.syntax import constant_text, last_name

_KEYWORDS = {"template_folder", "static_folder", "directory"}
_DEFAULT = "templates"  # https://flask.palletsprojects.com/en/stable/api/#flask.Flask


@dataclass(frozen=True)
class PageFolders:
    """What one module says about pages.

    Attributes:
        named: folders as they are in the code; None for one that is not constant.
        templates: names of rendered templates, with their lines.
    """

    named: frozenset[str | None] = frozenset()
    templates: Mapping[str, int] = field(default_factory=dict)


def read_page_folders(nodes: Sequence[ast.AST], constants: PathConstants) -> PageFolders:
    """The folders and templates that the calls of a module name; `constants` are the module's."""
    named: set[str | None] = set()
    templates: dict[str, int] = {}
    for call in nodes:
        if isinstance(call, ast.Call):
            named |= {constant_path(one.value, constants) for one in call.keywords if one.arg in _KEYWORDS}
            name = constant_text(next(iter(call.args), None))
            if name is not None and last_name(call.func) == "render_template":
                templates.setdefault(name, call.lineno)
    return PageFolders(frozenset(named), templates)


def shipped_folders(tree: Tree, pages: Mapping[str, PageFolders], working: str) -> Iterator[str]:
    """The folders of the repository that the code names, relative to the file (`pages` has its path) or `working`."""
    for path, one in pages.items():
        for text in one.named - {None}:
            rooted = (text or "").startswith("@/")
            bases = ("",) if rooted else (posixpath.dirname(path), working)
            places = (posixpath.normpath(posixpath.join(base, (text or "").removeprefix("@/"))) for base in bases)
            yield from (place for place in places if tree.below(place))


def template_steps(tree: Tree, pages: Mapping[str, PageFolders]) -> Iterator[str]:
    """Steps for templates that are in no folder where Flask could look; none if a folder is unknown."""
    named = {name for one in pages.values() for name in one.named}
    if None in named:
        return
    folders = {_DEFAULT, *(posixpath.basename(posixpath.normpath(name or "")) for name in named)}
    for path, one in pages.items():
        for name, line in one.templates.items():
            if not any(f"/{file}".endswith(f"/{folder}/{name}") for folder in folders for file in tree.files):
                target = posixpath.join(posixpath.dirname(path), _DEFAULT, name)
                found = next((file for file in tree.files if f"/{file}".endswith(f"/{name}")), None)
                move = f"Move `{found}` to `{target}`" if found else f"Add `{target}`"
                yield f"{move}, where Flask looks for what `{path}` renders in line {line}."
