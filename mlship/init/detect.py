"""Detect the framework, Python version, model files, loader, server and sample of a repository, with reasons.

Files are read, never run. Reports state the rule that chose between several candidates.
"""

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatch
from functools import cache
from itertools import islice
from pathlib import Path, PurePosixPath
from posixpath import dirname

from mlship.errors import UsageError
from mlship.frameworks import framework_table
from mlship.init.builds import Build, find_build
from mlship.init.computed_names import with_matches
from mlship.init.declared.collect import Collected, collect, shown_folders
from mlship.init.declared.documents import document_if_any, text_in
from mlship.init.declared.requirement_files import read_requirements
from mlship.init.declared.result import Declared, ImageInstalls
from mlship.init.environment import Installed, read_user_environment
from mlship.init.extensions import imported_extensions
from mlship.init.found import Detected, Detection, ExistingServer, ModelFiles
from mlship.init.frameworks import Clues, find_framework, tops
from mlship.init.gpus import find_gpus
from mlship.init.image_installs import read_image_installs
from mlship.init.image_variables import image_variables
from mlship.init.import_needs import Lookup, find_needs, misnamed
from mlship.init.local_imports import LocalImport, path_entries, resolve_locally
from mlship.init.local_names import read_local_names
from mlship.init.models import LoadClues, find_weights, in_checkpoints, in_dvc, linked_away, served_strings
from mlship.init.not_served import page_apps, page_notes, retired_servers
from mlship.init.page_folders import shipped_folders
from mlship.init.pickled import find_pickled
from mlship.init.predictors import CogPredictor, find_predictor
from mlship.init.python_version import DEFAULT, find_python
from mlship.init.servers import find_server
from mlship.init.serving_starts import foreign_code, unknown_starts
from mlship.init.sources import LOADERS, Module, is_served, parse_module, reachable, with_routes
from mlship.init.tree import Tree, read_tree
from mlship.json_path import json_objects
from mlship.project.metadata import METADATA, features_of, statistics_of
from mlship.project.onnx_header import read_onnx
from mlship.project.paths import WORKDIR
from mlship.project.syntax import CANNOT_PARSE, tree_or_problem
from mlship.project.training import is_training
from mlship.units import few

_SAMPLES = ("sample*.json", "*request*.json", "*example*.json", "input*.json")
_GOLDENS = ("golden*.json", "expected*.json")
_RECORDS = ("*metadata*.json",)
_MODULES = 2_000
_LARGEST_SAMPLE = 32 << 20  # bytes
_DOCUMENTS, _LARGEST_SETTINGS = (".yaml", ".yml", ".toml", ".json"), 50_000
_MODEL_MODULES = {"model", "models", "predictor", "predict", "inference", "infer", "loader", "service"}
_SETTINGS = re.compile(r"conf|settings|options|env$|dataset|data$|^io$|logg|i18n|locale|plugin")
_TABLES = re.compile(r"(?i)\.(csv|tsv|parquet|feather|arrow|jsonl|xlsx?|ipynb)$")  # probably of the training
_NO_DATA = re.compile(r"(?i)(^|/)(readme|licen[cs]e|dockerfile|requirements|pyproject|setup)|\.(json5?lock|lock|md)$")
_SETTINGS_READERS = {"json", "yaml", "toml", "tomllib", "configparser", "dotenv", "csv", "ruamel"}
_NUMERIC = {"numpy", "safetensors"}  # a loader may load arrays without any framework


def detect(repo: Path, model: str | None = None, *, serving: bool = False) -> Detection:
    """Inspect a repository. The user may choose the `model` to serve, and ask for a server beside an existing one.

    Raises:
        UsageError: `repo` is unreadable, or holds several projects, or a model file under an unusable name.
    """
    root, modules, bare = _rooted_modules(tree := read_tree(repo))
    found, notes = find_server(tree, modules, build := find_build(tree))
    server, beside, notes = (None, found.path if found else "", ()) if serving else (found, "", notes)
    loader = _loader(modules, server, bare=not serving)
    needs, collected, installs = _needs(tree, _entry(server, loader, modules), server, build)
    cog, loader = (None, loader) if server else _predictor(tree, modules, needs, loader)
    served = _served(modules, cog.module if cog else loader.value, server)
    certain = bool(server or loader.value or cog)
    weights, served = _weights(tree, LoadClues(served, certain, model, server.place if server else ""), collected)
    run, apps = (served, {}) if certain else ((), {} if weights.native else page_apps(served))
    paths = {module.path for module in run}
    local = tuple(one for one in bare if one.path in paths)
    idle = () if certain else tuple(_idle(tree, weights, needs, (*page_notes(apps), *unknown_starts(modules))))
    python = find_python(tree, needs, build.stage)
    lookup = _lookup(tree, modules, bare, needs, python.value or DEFAULT)
    clues = replace(_clues(tree, modules, served, weights, needs, lookup), loads_itself=certain)
    framework, evidence = find_framework(clues)
    return Detection(
        root=tree.root,
        name=_name(tree),
        python=python,
        framework=framework,
        evidence=evidence,
        weights=weights,
        loader=loader,
        native=weights.native,
        cog=cog,
        server=server,
        beside=beside,
        sample=_json_file(tree, _SAMPLES, "sample input", server),
        golden=_json_file(tree, _GOLDENS, "recorded output"),
        training=next((path for path in _matching(tree, _RECORDS) if is_training(tree.root / path)), None),
        declared=needs,
        installs=installs,
        imports=find_needs([one for one in served if one.path not in apps], lookup, certain=certain),
        source=_source(tree, served, weights, server),
        python_path=_python_path(root, served, local, server),
        local=local,
        notes=(*build.notes, *notes, *collected.notes, *idle, *_notes(tree, weights, modules, needs, served)),
        variables=image_variables(tree, build if not server or server.written or not build.folder else Build(), run),
        gpus=find_gpus(tree, served, installs.decided or needs, build.stage),
        pickles=clues.pickles,
        compiled=imported_extensions(tree, served, needs),
        at_root=read_requirements(tree, "requirements.txt") if "requirements.txt" in tree else None,
    )


def _needs(
    tree: Tree, entry: str | None, server: ExistingServer | None, build: Build
) -> tuple[tuple[Declared, ...], Collected, ImageInstalls]:
    """All that is required: what the Dockerfile that starts the server installs, then what files say."""
    installs = read_image_installs(tree, build if server is None or server.written else Build())
    collected = collect(tree, entry, {one.folder for one in installs.files})
    collected = replace(collected, notes=(*installs.packages.notes, *collected.notes))
    return installs.before(collected.declared), collected, installs


def _predictor(
    tree: Tree, modules: Mapping[str, Module], needs: tuple[Declared, ...], loader: Detected
) -> tuple[CogPredictor | None, Detected]:
    """The predictor of cog.yaml, which comes before any loader."""
    cog = find_predictor(tree, modules, needs)
    return cog, Detected(None, f"`{cog.module}:{cog.cls}` (cog.yaml) runs the model") if cog else loader


def _rooted_modules(tree: Tree) -> tuple[str, dict[str, Module], tuple[LocalImport, ...]]:
    """The import root, the modules by name, and bare imports of the repository's own modules.

    The root is `src` for a layout with packages in it, unless the code itself imports from `src`.
    """
    layout = "src/__init__.py" not in tree and any(path.endswith(".py") for path in tree.below("src"))
    modules = _modules(tree, "src") if layout else {}
    named = any("src" in tops(one.imports) for one in modules.values() if is_served(one.path))
    root = "src" if layout and not named else ""
    return root, *resolve_locally(with_matches(with_routes(modules if root else _modules(tree, "")), tree))


def _modules(tree: Tree, root: str) -> dict[str, Module]:
    """By name; Python finds `app.py` before `src/app.py`, which is `src.app` then."""
    paths = [path for path in tree.files if path.endswith(".py")][:_MODULES]
    rooted = {path for path in paths if path.startswith(f"{root}/") and path.removeprefix(f"{root}/") not in tree}
    parsed = (parse_module(path, tree.text(path) or "", root if path in rooted else "") for path in paths)
    return {module.name: module for module in parsed if module and module.name}


def _loader(modules: Mapping[str, Module], server: ExistingServer | None, *, bare: bool) -> Detected:
    """A `load()` may read settings: modules that import a framework or are named after models come first.

    A server that has several models, or runs in another folder, is tested alone. Without a server, the first is chosen.
    """
    handler = server.routes.handler if server else None
    if server and server.folder:
        return Detected(None, f"the server runs in `{server.folder.path}` and is tested alone")
    if handler and (handler.reads("files") or handler.reads("form")):
        return Detected(None, "the server takes a form or files, which are no sample, and is tested alone")
    served = [module for module in modules.values() if is_served(module.path)]
    pages = page_apps(served)  # importing one runs the page
    found = [(module, name) for module in served if module.path not in pages for name in module.loaders
             if bare or name not in module.bare]  # fmt: skip
    likely = [pair for pair in found if not _reads_settings(*pair)]
    ranked = [(LOADERS.index(n), not _has_model(m, modules), m.path.count("/"), m, n) for m, n in likely]
    ranked.sort(key=lambda row: (*row[:3], row[3].path))
    likely = [(module, name) for *_, module, name in ranked]
    if not likely:
        settings = next((f"; `load()` in {module.path} seems to read settings" for module, _ in found), "")
        return Detected(None, f"no `load()`, `load_model()`, `get_model()` or similar in the served code{settings}")
    module, name = likely[0]
    alike = [f"{one.name}:{function}" for *rank, one, function in ranked if rank == [*ranked[0][:3]]]
    if len(alike) > 1 and server:
        return Detected(None, f"several functions load models: {few(alike)}; the server is tested alone")
    if server and name in module.bare:
        return Detected(None, f"{name}() of {module.path} returns a bare model; the server is tested alone")
    others = f"; not {', '.join(f'{m.name}:{n}' for m, n in likely[1:4])} (ordered by name, then depth)"
    return Detected(f"{module.name}:{name}", f"{module.path} has {name}(){others if len(likely) > 1 else ''}")


def _has_model(module: Module, modules: Mapping[str, Module]) -> bool:
    known = {name for framework in framework_table().frameworks for name in framework.imports} | _NUMERIC
    reached = {top for one in reachable([module.name or ""], modules) for top in tops(one.imports)}
    return PurePosixPath(module.path).stem in _MODEL_MODULES or bool(known & reached)


def _reads_settings(module: Module, name: str) -> bool:
    """Whether a `load()` is for settings or data: its module is named so, or imports only what reads them."""
    if name != "load":
        return False
    imported = tops(module.imports) - sys.stdlib_module_names
    readers = tops(module.imports) & _SETTINGS_READERS
    return bool(_SETTINGS.search(PurePosixPath(module.path).stem)) or bool(readers and not imported - _SETTINGS_READERS)


def _entry(server: ExistingServer | None, loader: Detected, modules: Mapping[str, Module]) -> str | None:
    """The file of the server or loader."""
    return server.path if server else modules[loader.value.partition(":")[0]].path if loader.value else None


def _served(modules: Mapping[str, Module], loader: str | None, server: ExistingServer | None) -> tuple[Module, ...]:
    """Modules that the loader and server import; without either, all code except tests and training."""
    start = [*([loader.partition(":")[0]] if loader else []), *(server.modules if server else ())]
    if start:
        return reachable(start, modules)
    return tuple(module for module in modules.values() if is_served(module.path))


def _weights(tree: Tree, clues: LoadClues, collected: Collected) -> tuple[ModelFiles, tuple[Module, ...]]:
    """The model files and the served code, of which the loader of a native model imports nothing."""
    found = find_weights(tree, clues)
    if collected.projects and not (clues.served or found.native):
        raise UsageError(
            f"`{tree.root}` holds several projects, and nothing says which one to ship",
            hint=f"run `mlship init -C FOLDER` with one of {shown_folders(collected.projects)}",
        )
    return found, () if found.native else clues.modules


def _clues(
    tree: Tree, modules: Mapping[str, Module], served: tuple[Module, ...], weights: ModelFiles,
    needs: tuple[Declared, ...], lookup: Lookup,
) -> Clues:  # fmt: skip
    paths = {module.path for module in served}
    others = frozenset(name for module in modules.values() if module.path not in paths for name in module.imports)
    headers = {file.path: read_onnx(tree.root / file.path) for file in weights.models if file.kind == "onnx"}
    details = {path: f" ({header})" for path, header in headers.items() if header}
    shipped = [one for one in (*weights.models, *weights.refused) if _covered(one.path, weights.named)]
    return Clues(served, others, weights.models, needs, details, tuple(find_pickled(tree, shipped, lookup)))


def _lookup(
    tree: Tree, modules: Mapping[str, Module], local: Sequence[LocalImport], needs: Sequence[Declared], python: str
) -> Lookup:
    """Where names are looked up; the user's environment only if no file names the requirements."""
    own = tops(modules) | {one.name for one in local}

    @cache
    def installed() -> Installed:
        return Installed() if needs else read_user_environment(tree.root)

    return Lookup(python, lambda name: tops([name]) <= own, read_local_names(tree), installed)


def _python_path(
    root: str, served: Sequence[Module], local: Sequence[LocalImport], server: ExistingServer | None
) -> str | None:
    """The import root, if it is not the repository's, and folders that modules import from by a bare name."""
    place = server.folder if server else None
    first = [root] if root and any(module.path.startswith(f"{root}/") for module in served) else []
    more = ["/".join([*([root] if root else []), *entry.split(".")]) for entry in path_entries(local, served)]
    more = [*([server.import_root] if server and server.import_root not in {"", *more} else []), *more]
    if place is None:
        return ":".join([*first, *more]) or None
    folders = [*first, *([""] if place.needs_root and not first else []), *more]
    return ":".join(f"{WORKDIR}/{folder}".rstrip("/") for folder in folders if folder != place.path) or None


def _json_file(tree: Tree, patterns: Sequence[str], what: str, server: ExistingServer | None = None) -> Detected:
    """The first JSON file with a name, and with the fields that the server requires."""
    handler = server.routes.handler if server else None
    fields = handler.json if handler else ()
    every = [path for path in _matching(tree, patterns) if _is_json(tree, path)]
    found = [path for path in every if _is_json(tree, path, fields)]
    if not found:
        lacking = f"{few(every)} without fields that the server requires, such as {''.join(fields[:1])}"
        named = f"no JSON file named {', '.join(patterns)}"
        return Detected(None, f"no {what}: {lacking if every else named}")
    found.sort(key=lambda path: not server or PurePosixPath(path).parent != PurePosixPath(server.path).parent)
    order = "those beside the server first, then by name and depth" if server else "ordered by name, then depth"
    others = f"; not {', '.join(found[1:4])} ({order})" if len(found) > 1 else ""
    return Detected(found[0], f"{found[0]}{others}")


def _matching(tree: Tree, patterns: Sequence[str]) -> list[str]:
    """Files outside tests first, then in the order of the patterns, then by depth."""
    found = (path for one in patterns for path in tree.files if fnmatch(PurePosixPath(path).name.lower(), one))
    return sorted(dict.fromkeys(found), key=lambda path: "test" in path.lower())


def _is_json(tree: Tree, path: str, fields: Sequence[str] = ()) -> bool:
    """Whether it is a list or an object, or an object with these fields."""
    with suppress(OSError, ValueError, RecursionError):
        if (file := tree.root / path).stat().st_size <= _LARGEST_SAMPLE:
            document = json.loads(file.read_bytes())
            return {*fields} <= {*document} if isinstance(document, dict) else isinstance(document, list) and not fields
    return False


def _source(
    tree: Tree, served: Sequence[Module], weights: ModelFiles, server: ExistingServer | None
) -> tuple[str, ...]:
    """Top-level files and folders of the served code, plus files that the code or server command names."""
    paths = [module.path for module in served]
    started = [word.removeprefix("./").removeprefix(f"{WORKDIR}/") for word in server.command] if server else []
    unread = started if server and not server.modules else []  # such as a file that cannot be parsed
    started += [f"{word.partition(':')[0].replace('.', '/')}.py" for word in unread]
    words = [*served_strings(served), *started, "gunicorn.conf.py", *_beside(tree, served, weights.named)]
    given = [word for word in words if word in tree and not (word.startswith(".") or _NO_DATA.search(word))]
    folders = [folder for folder in ("templates", "static") if server and tree.below(folder)]
    pages = {module.path: module.pages for module in served}
    given += shipped_folders(tree, pages, server.folder.path if server and server.folder else "")
    tops_ = {path.split("/")[0] for path in paths} | set(folders)
    extra = {path for path in given if path.split("/")[0] not in tops_ and not _covered(path, weights.named)}
    return tuple(sorted(tops_ | extra))


def _beside(tree: Tree, served: Sequence[Module], named: Sequence[str]) -> Iterator[str]:
    """Files beside the model that the code opens below an unknown folder, or that a file of settings names."""
    folders = {folder for name in named for folder in (name, dirname(name))}
    files = [path for path in tree.files if dirname(path) in folders and not _TABLES.search(path)]
    texts = {one.text for module in served for one in module.loaded if one.anchored}
    for path in (text for text in served_strings(served) if text.endswith(_DOCUMENTS) and text in tree):
        small = len(tree.text(path) or "") < _LARGEST_SETTINGS
        objects = json_objects(document_if_any(tree, path)) if small else ()
        texts |= {text for one in objects for text in one.values() if isinstance(text, str) and text}
    yield from (path for path in files if any(f"/{path}".endswith(f"/{text}") for text in texts))


def _covered(path: str, named: Sequence[str]) -> bool:
    return any(path == name or path.startswith(f"{name}/") for name in named)


def _name(tree: Tree) -> str:
    """The project name in pyproject.toml, or the folder name, as a valid image name."""
    text = text_in(document_if_any(tree, "pyproject.toml").get("project"), "name") or tree.root.resolve().name
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:100].strip("-") or "model"


def _idle(tree: Tree, weights: ModelFiles, needs: Sequence[Declared], others: Sequence[str]) -> Iterator[str]:
    """What is served by `others` or by a predictor of another tool, or is in notebooks only."""
    yield from others
    named = [f"`{one.predictor}` ({one.origin})" for one in needs if one.predictor]
    if named:
        yield f"{named[0]} runs the model; `load()` can return a function that calls it"
    if absent := [f"`{file.path}` ({file.where})" for file in weights.absent if not weights.models]:
        yield f"the code loads files that are not here: {few(absent)}"
    yield from foreign_code(tree)
    if named or weights.models or weights.refused or others:
        return
    notebooks = [path for path in tree.files if path.endswith(".ipynb")]
    if notebooks and not any(path.endswith(".py") and is_served(path) for path in tree.files):
        yield (
            f"all code is in notebooks, which cannot be imported; for one of them, run "
            f"`jupyter nbconvert --to script {shlex.quote(notebooks[0])}`, and keep what loads the model"
        )
    else:
        yield f"found no server that `init` knows, and no model files, in {_name(tree)}"


def _notes(
    tree: Tree,
    weights: ModelFiles,
    modules: Mapping[str, Module],
    needs: tuple[Declared, ...],
    served: Sequence[Module],
) -> Iterator[str]:
    yield from misnamed(needs, served)
    yield from retired_servers(tree, modules, needs)
    read = {module.path for module in modules.values()}
    rest = (path for path in tree.files if path.endswith(".py") and path not in read and is_served(path))
    tried = ((path, tree_or_problem(tree.text(path) or "")) for path in islice(rest, _MODULES))
    if broken := [f"`{path}` ({problem})" for path, problem in tried if isinstance(problem, str)]:
        yield f"not read, because {CANNOT_PARSE}: {few(broken)}"
    if pickles := [f"`{file.path}` ({file.kind})" for file in weights.refused if file.kind != "lfs-pointer"]:
        runs = "runs" if len(pickles) == 1 else "run"
        yield f"{few(pickles)} {runs} code when loaded; rejected unless listed in `allow_pickle`"
    for part, wrong in (("statistics", statistics_of(tree.root)), ("features", features_of(tree.root))):
        if isinstance(wrong, str):
            yield f"the {part} in {METADATA} are not used: {wrong}"
    yield from (*linked_away(tree), *in_dvc(tree), *in_checkpoints(tree))
    if tree.cut:
        yield f"only the first {len(tree.files)} files of the repository were inspected"
