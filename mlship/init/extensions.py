"""Modules that the repository's own build compiles. Shipping the source does not make them importable."""

import re
from collections.abc import Iterable

from mlship.init.declared.documents import document_if_any, table_in, text_in
from mlship.init.declared.result import Declared
from mlship.init.sources import Module
from mlship.init.tree import Tree

# https://setuptools.pypa.io/en/latest/userguide/ext_modules.html; pybind11 and torch have subclasses.
_EXTENSION = re.compile(r"""\b\w*Extension\(\s*(?:name\s*=\s*)?["']([\w.]+)["']""")


def imported_extensions(
    tree: Tree, served: Iterable[Module], declared: Iterable[Declared]
) -> tuple[tuple[str, str], ...]:
    """The compiled modules that the served code imports, each with the file that says so; none if a wheel has them."""
    if any(package.path.endswith(".whl") for one in declared for package in one.packages):
        return ()
    imported = {name for module in served for name in module.statements.needed | module.statements.relative}
    of_rust = text_in(table_in(document_if_any(tree, "pyproject.toml"), "tool", "maturin"), "module-name") or ""
    compiled = dict.fromkeys(_EXTENSION.findall(tree.text("setup.py") or ""), "setup.py") | {of_rust: "pyproject.toml"}
    return tuple((name, file) for name, file in compiled.items() if name in imported)
