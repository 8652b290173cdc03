"""Files whose names the code computes: `f"{name}.pkl"` stands for the files that match `*.pkl`."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from mlship.init.known import init_table
from mlship.init.load_calls import LoadedFile
from mlship.init.sources import Module
from mlship.init.tree import Tree

_FILES = 100  # more are no answer
_DEPTH = 5  # of `**`


def with_matches(modules: Mapping[str, Module], tree: Tree) -> dict[str, Module]:
    """The modules with the files that match in place of each pattern; a pattern without any, or with many, stays."""
    return {
        name: replace(module, loaded=tuple(one for file in module.loaded for one in _files(file, tree)))
        if any("*" in file.text for file in module.loaded)
        else module
        for name, module in modules.items()
    }


def _files(file: LoadedFile, tree: Tree) -> list[LoadedFile]:
    found = sorted(_matching(file, tree)) if "*" in file.text else []
    exact = [text for text, at_root in found if at_root and not file.anchored]
    texts = dict.fromkeys(exact or (text for text, _ in found))
    return [replace(file, text=text) for text in texts] if 0 < len(texts) <= _FILES else [file]


def _matching(file: LoadedFile, tree: Tree) -> Iterator[tuple[str, bool]]:
    """The ends of paths that match, as the code has them, and whether the whole path matches."""
    text = file.text.removeprefix("../")
    patterns = [text.replace("**/", "*/" * depth) for depth in range(_DEPTH if "**/" in text else 1)]
    paths = [PurePosixPath(path) for path in tree.files if path.endswith(PurePosixPath(text).suffix)]
    for pattern in patterns:
        size = pattern.count("/") + 1
        for path in (path for path in paths if path.match(pattern)):
            at_root = len(path.parts) == size
            if at_root or init_table().names["test_folders"].isdisjoint(path.parts[:-size]):
                yield "/".join(path.parts[-size:]), at_root
