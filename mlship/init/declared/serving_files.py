"""cog.yaml, bentofile.yaml and MLflow's model folders."""

from dataclasses import replace
from posixpath import normpath

from mlship.init.declared.documents import list_in, table_in, text_in
from mlship.init.declared.requirement_files import read_requirements, read_requirements_text
from mlship.init.declared.result import Declared, few_notes, one_python
from mlship.init.tree import Tree
from mlship.redact import has_credentials


def read_cog(tree: Tree, path: str, document: dict[str, object]) -> Declared:
    """Read cog.yaml."""
    build = table_in(document, "build")
    run = [f"{path}: not used: `run` commands"] if build.get("run") else []
    listed = _listed(tree, path, build, "python_packages", "python_requirements")
    return replace(
        listed,
        python=one_python(text_in(build, "python_version")),
        system=_texts(build, "system_packages"),
        gpu="has `gpu: true`" if build.get("gpu") is True else None,
        predictor=text_in(document, "predict") or text_in(document, "run"),
        notes=few_notes([*listed.notes, *run]),
    )


def read_bentofile(tree: Tree, path: str, document: dict[str, object]) -> Declared:
    """Read bentofile.yaml."""
    python, docker = table_in(document, "python"), table_in(document, "docker")
    options = tuple(
        f"--{key.replace('_', '-')} {url}"
        for key in ("index_url", "extra_index_url", "find_links")
        for url in (text_in(python, key) or "", *_texts(python, key))
        if url and not has_credentials(url)
    )
    listed = _listed(tree, path, python, "packages", "requirements_txt")
    models = [one if isinstance(one, str) else text_in(one, "tag") for one in list_in(document, "models")]
    stored = ", ".join(f"`{one}`" for one in models if one)
    store = [f"{path}: {stored} of BentoML's model store is not in the image; load a file of the repository"]
    return replace(
        listed,
        notes=few_notes([*listed.notes, *(store if stored else [])]),
        options=(*options, *listed.options),
        python=one_python(text_in(docker, "python_version")),
        system=_texts(docker, "system_packages"),
        gpu="has `cuda_version`" if docker.get("cuda_version") else None,
        predictor=text_in(document, "service"),
    )


def read_mlmodel(tree: Tree, path: str, document: dict[str, object]) -> Declared:
    """Read MLmodel and the environment beside it."""
    function = table_in(document, "flavors", "python_function")
    beside = normpath(f"{path.rpartition('/')[0] or '.'}/requirements.txt")
    listed = read_requirements(tree, beside) if beside in tree else Declared(beside)
    python, predictor = one_python(text_in(function, "python_version")), text_in(function, "loader_module")
    return replace(listed, origin=path, lock=False, ours=False, usable=False, python=python, predictor=predictor)


def _listed(tree: Tree, path: str, table: dict[str, object], packages: str, requirements: str) -> Declared:
    """Packages from a list, and from the requirements file that the table names."""
    text = "\n".join(_texts(table, packages))
    if (file := text_in(table, requirements)) is not None:
        text += f"\n-r {file.removeprefix('./')}"
    return read_requirements_text(tree, path, text)


def _texts(table: dict[str, object], key: str) -> tuple[str, ...]:
    return tuple(" ".join(item.split()) for item in list_in(table, key) if isinstance(item, str) and item.strip())
