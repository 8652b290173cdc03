"""Requirements that no index may answer: `name @ file:///...`, and the project itself."""

import re
from dataclasses import replace
from posixpath import normpath

from packaging.utils import canonicalize_name

from mlship.init.declared.documents import document_if_any, project_names
from mlship.init.declared.result import Declared, Entry, LocalPackage, few_notes
from mlship.init.tree import Tree

# https://pdm-project.org/en/latest/reference/pep621/ and https://hatch.pypa.io/latest/config/context/
_BESIDE = re.compile(r"^(file:)?/*(\$\{PROJECT_ROOT\}|\{root(:uri)?\})/*")


def without_files(tree: Tree, declared: Declared) -> Declared:
    """Packages beside the project become local packages; of files on other machines only the names are known.

    The second kind is what `pip freeze` writes in a conda environment.
    """
    urls = [url for entry in declared.main if _BESIDE.match(url := _url(entry))]
    local = tuple(LocalPackage(normpath(f"{declared.folder or '.'}/{_BESIDE.sub('', url) or '.'}")) for url in urls)
    own = _own_names(tree, declared.folder)
    kept = [entry for entry in declared.entries if not _BESIDE.match(_url(entry)) and entry.name not in own]
    foreign = [entry for entry in kept if _url(entry).startswith("file:")]
    itself = {f"`{entry.name}`" for entry in declared.main if entry.name in own}
    notes = [f"{declared.origin}: {name} is this project itself, so it is not required" for name in sorted(itself)]
    if foreign:
        names = ", ".join(f"`{entry.name}`" for entry in foreign[:3]) + (" and more" if len(foreign) > 3 else "")
        notes.append(f"{declared.origin}: the version of {names} is unknown, because it was a file on another machine")
    if len(kept) == len(declared.entries) and not foreign:
        return declared
    return replace(
        declared,
        entries=tuple(entry.at("") if entry in foreign else entry for entry in kept),
        packages=(*declared.packages, *local),
        usable=False,
        notes=few_notes([*declared.notes, *notes]),
    )


def _url(entry: Entry) -> str:
    return (entry.requirement.url or "") if entry.requirement else ""


def _own_names(tree: Tree, folder: str) -> frozenset[str]:
    """Names of the project, if the repository has the package of that name."""
    place = f"{folder}/" if folder else ""
    names = [(folder or tree.root.resolve().as_posix()).rpartition("/")[2]]
    names += project_names(document_if_any(tree, f"{place}pyproject.toml"))
    return frozenset(
        canonicalize_name(name)
        for name in names
        for root in ("", "src/")
        if f"{place}{root}{name.lower().replace('-', '_')}/__init__.py" in tree
    )
