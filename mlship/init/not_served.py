"""What mlship does not serve, and what the user does instead: pages for people, and servers that are given up. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import PurePosixPath

from mlship.init.declared.result import Declared
from mlship.init.known import init_table
from mlship.init.sources import Module
from mlship.init.tree import Tree
from mlship.project.serving_table import serving_table
from mlship.units import few

_STARTS = ("Procfile", "*Dockerfile*", "*.sh", "*compose*.y*ml", "*gunicorn*.py")
_UVICORN = re.compile(r"(?m)^(?!\s*#).*\buvicorn\.workers\b")  # its own warning names the replacement
_TORCHSERVE = {"torchserve", "torch-model-archiver", "torch-workflow-archiver"}


def page_apps(modules: Iterable[Module]) -> dict[str, str]:
    """The library of each file for Streamlit or Gradio, which has no route that takes a sample."""
    titles = serving_table().pages
    found = ((module.path, titles.keys() & module.statements.needed) for module in modules if not module.apps)
    return {path: titles[min(names)] for path, names in found if names}


def page_notes(apps: dict[str, str]) -> Iterator[str]:
    """What mlship does with them."""
    for title in sorted(set(apps.values())):
        paths = [f"`{path}`" for path, own in apps.items() if own == title]
        verb, pronoun = ("is", "it") if len(paths) == 1 else ("are", "them")
        yield init_table().notes["pages"].format(few(paths), verb, title, pronoun)


def retired_servers(tree: Tree, modules: Mapping[str, Module], needs: Iterable[Declared]) -> Iterator[str]:
    """Notes about TorchServe and uvicorn's own worker class for gunicorn."""
    starts = [path for path in tree.files if any(fnmatch(PurePosixPath(path).name, name) for name in _STARTS)]
    if old := [f"`{path}`" for path in starts if _UVICORN.search(tree.text(path) or "")]:
        yield init_table().notes["uvicorn_workers"].format(few(old))
    handlers = [module.path for module in modules.values() if any(one.startswith("ts.") for one in module.imports)]
    archives = [path for path in tree.files if path.endswith(".mar")]
    images = [path for path in starts if re.search(r"(?mi)^FROM\s.*torchserve", tree.text(path) or "")]
    listed = [file.origin for file in needs if any(entry.name in _TORCHSERVE for entry in file.entries)]
    own = any(path.startswith(("ts/", "src/ts/")) or path == "ts.py" for path in tree.files)
    if found := [f"`{path}`" for path in dict.fromkeys((*(() if own else handlers), *archives, *images, *listed))]:
        yield init_table().notes["torchserve"].format(few(found))
