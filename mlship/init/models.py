"""Find model files by content, and missing ones that the code names."""

import posixpath
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from mlship.errors import UsageError
from mlship.init.found import AbsentFile, ModelFiles
from mlship.init.known import init_table
from mlship.init.load_calls import UNNAMED
from mlship.init.native import HUB_TEXTS, native_files, read_native
from mlship.init.sources import Module
from mlship.init.tree import Tree
from mlship.project.formats import CODE, MODELS
from mlship.project.text_links import refuse_text_links, text_links
from mlship.project.values import SAFE_CHARACTERS, needs_no_quoting
from mlship.project.weights import WeightFile, external_files, weight_file, with_data_files
from mlship.units import few

_PATTERNS, _NAMES = init_table().patterns, init_table().names
_DATA = {"data", "dataset", "datasets"}
_MODEL_NAME, _SUFFIX = _PATTERNS["model_name"], _PATTERNS["model_suffix"].pattern
_MODEL = re.compile(f"{_MODEL_NAME.pattern}|{_SUFFIX}")
_FILES = 2_000
_ABSENT = "the code loads files that are not here"
_NAMED = "the served code names these files"
_FOLDER = "the served code names their folder"
_REFUSED = CODE | {"lfs-pointer"}
_BESIDE = MODELS | {"text", "npy", "npz", "onnx-data", "savedmodel-data", "sentencepiece"}


@dataclass(frozen=True)
class LoadClues:
    """What determines the relevant model files.

    Attributes:
        modules: the loading code.
        served: whether the repository has a loader or a server.
        model: the file that the user chose.
        folder: where the code runs.
    """

    modules: tuple[Module, ...]
    served: bool
    model: str | None = None
    folder: str = ""


def find_weights(tree: Tree, clues: LoadClues) -> ModelFiles:
    """Find the model files and the value of model.weights.

    Raises:
        UsageError: a model file cannot be shipped under its name.
    """
    _refuse_misnamed(tree)
    links = text_links(tree.root)
    refuse_text_links({path: target for path, target in links.items() if _is_needed(tree, target)}, tree.root)
    files = with_data_files(tree.root, list(_identified(tree)))
    strings = served_strings(clues.modules)
    arrays = {f.path for f in files if f.kind in ("npy", "npz") and _named(f.path, strings)}
    every = [f for f in files if f.kind in MODELS | _REFUSED or f.path in arrays]
    missing = tuple(_absent(tree, clues))
    absent = tuple(one for one in missing if "*" not in one.path)
    hub = tuple(_from_hub(tree, clues.modules, alone=not (every or absent)))
    if clues.served and not (every or absent or hub):
        absent = tuple(_named_only(tree, clues.modules))
    exact = {posixpath.normpath(f"{clues.folder}/{file.text}") for module in clues.modules for file in module.loaded}
    near = [f for f in every if f.path.startswith(f"{clues.folder}/") or f.path in exact] if clues.folder else []
    chosen, why = _relevant(near or every, strings if clues.served else frozenset(), absent)
    models = tuple(f for f in chosen if f.kind not in _REFUSED)
    refused = tuple(f for f in chosen if f.kind in _REFUSED)
    if clues.served or not models:
        wanted = chosen if why == _NAMED else models or refused
        listed = tuple(dict.fromkeys(f.listed for f in absent if f.listed)) if clues.served and not wanted else ()
        absent += tuple(one for file in wanted if file.kind == "onnx" for one in _absent_tensors(tree, file.path))
        absent += tuple(one for one in missing if "*" in one.path)
        shipped = _grouped(tree, wanted, files, named=why == _FOLDER) or listed
        misplaced = tuple(_misplaced(tree, clues.modules))
        return ModelFiles(models, refused, shipped, absent, (), why, None, hub, misplaced, *_unreachable(clues.modules))
    named = [f for f in models if _named(f.path, strings)]
    if absent and not (named or clues.model):
        return ModelFiles((), refused, (), absent, (), _ABSENT)
    return _one_of(tree, models, refused, clues.model, why, named)


def _relevant(
    every: Sequence[WeightFile], strings: frozenset[str], absent: Sequence[AbsentFile]
) -> tuple[Sequence[WeightFile], str]:
    """The files that the code names, otherwise those outside of folders for data and examples, otherwise these."""
    if named := [file for file in every if _named(file.path, strings)]:
        return named, _NAMED
    if named := [file for file in every if "/" in file.path and _named(str(PurePosixPath(file.path).parent), strings)]:
        return named, _FOLDER
    if strings and absent:  # other files are no substitute
        return (), _ABSENT
    runs = [file for file in every if strings and _is_below(file.path, {"mlruns"})]  # what trainings logged
    every = [file for file in every if file not in runs]
    main = [file for file in every if not _is_below(file.path, _NAMES["side_folders"])]
    beside = [file for file in every if not (_is_below(file.path, _NAMES["test_folders"]) or _is_data(file))]
    if not (main or beside):
        where = " outside of mlruns" if runs else ""
        return (), _ABSENT if absent else f"no model files of a known format found{where}"
    return main or beside, "found by content; the served code names none of them" if strings else "found by content"


def _is_data(file: WeightFile) -> bool:
    """Whether a pickle is probably data: it is in a folder for data, and not named like a model."""
    return file.kind in ("pickle", "npy", "npz") and _is_below(file.path, _DATA) and not _MODEL_NAME.search(file.path)


def _named(path: str, strings: frozenset[str]) -> bool:
    """Whether a string is the path, or its end, the file name at least."""
    return any(path == text or path.endswith(f"/{text}") for text in strings)


def _is_below(path: str, folders: AbstractSet[str]) -> bool:
    return any(part.lower() in folders for part in PurePosixPath(path).parts[:-1])


def _refuse_misnamed(tree: Tree) -> None:
    candidates = (path for path in tree.misnamed[:_FILES] if not _is_below(path, _NAMES["test_folders"]))
    for path in candidates:
        if _could_be_model(PurePosixPath(path)) and _is_model(tree, path):
            new = _safe_name(path)
            folder = PurePosixPath(new).parent
            made = "" if folder == PurePosixPath(path).parent else f"mkdir -p {shlex.quote(str(folder))} && "
            raise UsageError(
                f"the image cannot have `{path}` under its name (safe are {SAFE_CHARACTERS}, no spaces at the ends)",
                hint=f"rename it here and in your code, for example: `{made}{shlex.join(('mv', path, new))}`",
            )


def _safe_name(path: str) -> str:
    """A similar name for a file that the image can have."""
    plain = unicodedata.normalize("NFKD", path).encode("ascii", "ignore").decode()
    *folders, name = (re.sub(r"[^\w.-]+", "-", part).strip("-") for part in plain.split("/"))
    return "/".join([*(folder or "folder" for folder in folders), f"model{name}" if name.startswith(".") else name])


def linked_away(tree: Tree) -> Iterator[str]:
    """Links that may be meant for model files, as a note."""
    if links := [f"`{path}`" for path in tree.outside if _could_be_model(PurePosixPath(path))]:
        yield f"not read, because these links lead out of the repository or nowhere: {few(links)}"


def in_dvc(tree: Tree) -> Iterator[str]:
    """Model files that DVC keeps outside of git, as a note."""
    kept = [path.removesuffix(".dvc") for path in tree.files if path.endswith(".dvc")]
    if files := [f"`{path}`" for path in kept if _MODEL.search(path) and not (path in tree or tree.below(path))]:
        yield f"not here but in DVC: {few(files)}; run `dvc pull`, then `mlship init` again"


def in_checkpoints(tree: Tree) -> Iterator[str]:
    """Checkpoints of TensorFlow, each of several files, as a note."""
    first = ".data-00000-of-"
    stems = [path.partition(first)[0] for path in tree.files if first in path]
    found = [f"`{one}`" for one in stems if f"{one}.index" in tree and not one.endswith("variables/variables")]
    yield from [init_table().notes["checkpoints"].format(few(found))] if found else ()


def _is_model(tree: Tree, path: str) -> bool:
    with suppress(OSError):
        return weight_file(tree.root, path).kind in MODELS | _REFUSED
    return False


def _is_needed(tree: Tree, target: str) -> bool:
    """Whether a link leads to a model, to code or to a folder."""
    return target.endswith(".py") or (tree.root / target).is_dir() or _is_model(tree, target)


def served_strings(modules: Iterable[Module]) -> frozenset[str]:
    """String constants of the given modules, paths without "./", "../" and "/" around them."""
    texts = (text for module in modules for text in module.strings if 0 < len(text) < 200)
    loaded = (file.text for module in modules for file in module.loaded)
    found = {re.sub(r"^([.?@]{1,2}/)+", "", text).strip("/") for text in (*texts, *loaded)}
    return frozenset(found - {"", ".", ".."})


def _identified(tree: Tree) -> Iterator[WeightFile]:
    links = {path: (tree.root / path).resolve() for path in tree.files if (tree.root / path).is_symlink()}
    linked = {target.relative_to(tree.root.resolve()).as_posix() for target in links.values()}
    candidates = [path for path in tree.files if _could_be_model(PurePosixPath(path)) and path not in linked]
    candidates.sort(key=lambda path: _is_below(path, _NAMES["side_folders"]))
    for path in candidates[:_FILES]:
        with suppress(OSError):
            yield weight_file(tree.root, path)


def _could_be_model(path: PurePosixPath) -> bool:
    not_model = _PATTERNS["no_model"].search(path.name) and not _PATTERNS["compressed_model"].search(path.name)
    return not (not_model or path.name.startswith("."))


def _one_of(
    tree: Tree,
    models: Sequence[WeightFile],
    refused: tuple[WeightFile, ...],
    chosen: str | None,
    found: str,
    named: Sequence[WeightFile],
) -> ModelFiles:
    """The model that a generated server loads: the chosen one, one that code loads, model.onnx, or the largest."""
    main = {f for f in models if PurePosixPath(f.path).name == "model.onnx"}
    ordered = sorted(models, key=lambda f: (f not in named, f not in main, f.path.count("/"), -f.size, f.path))
    natives = dict.fromkeys(native for file in ordered if (native := read_native(tree, file)))
    # A folder is one model, also if it holds other formats of it.
    folders = {native.path for native in natives if native.path in tree.folders}
    choices = [n for n in natives if folders.isdisjoint(map(str, PurePosixPath(n.path).parents))]
    native = next((n for n in choices if n.path == chosen), next(iter(choices), None))
    if native is None:
        return ModelFiles(tuple(models), refused, tuple(map(_place, models)), (), (), found)
    pointers = tuple(file for file in refused if file.kind == "lfs-pointer")  # no other file is loaded
    data = tuple(external_files(tree.root, native.path)) if native.loader == "onnx" else ()
    shipped = (*native_files(tree, native), *(path for path in data if path in tree))
    absent = tuple(_absent_tensors(tree, native.path)) if native.loader == "onnx" else ()
    order = "ordered by the name model.onnx, then depth, then size"
    by_code = f"code names it; {order}" if len(named) > 1 else "code names it"
    several = "chosen by you" if chosen else by_code if named else order
    paths = tuple(n.path for n in choices) if len(choices) > 1 else ()
    why = f"{several}; not {few([path for path in paths if path != native.path])}" if paths else "the only model"
    return ModelFiles(tuple(models), pointers, shipped, absent, paths, why, native)


def _absent_tensors(tree: Tree, path: str) -> Iterator[AbsentFile]:
    missing = (name for name in external_files(tree.root, path) if name not in tree)
    yield from (AbsentFile(name, f"tensors of `{path}`", name) for name in missing)


def _grouped(tree: Tree, wanted: Sequence[WeightFile], files: Sequence[WeightFile], *, named: bool) -> tuple[str, ...]:
    """Folders that hold only model files (with tokenizers and labels), else single files; `named`: by their folder."""
    kinds = {f.path: f.kind for f in files}
    names: dict[str, None] = {}
    for file in wanted:
        folder = str(PurePosixPath(file.path).parent)
        inside = tree.below(folder)
        whole = folder != "." and len(inside) > 1 and all(kinds.get(path) in _BESIDE for path in inside)
        beside = _texts_beside(inside, folder) if named and not whole else ()
        names |= dict.fromkeys((folder if whole else _place(file), *beside))
    outer = tuple(name for name in names if not any(name.startswith(f"{other}/") for other in names))
    return tuple(sorted(outer))


def _texts_beside(inside: Sequence[str], folder: str) -> Iterator[str]:
    """The settings and the tokenizer that are read together with the weights in a folder of a model on the Hub."""
    direct = [path for path in inside if path.rpartition("/")[0] == folder]
    if any(PurePosixPath(path).name in _NAMES["hub_settings"] for path in direct):
        yield from (path for path in direct if HUB_TEXTS.fullmatch(PurePosixPath(path).name))


def _place(file: WeightFile) -> str:
    """The file, or the folder that the format consists of."""
    folder = file.path.rpartition("/")[0]
    return folder if folder and file.kind == "savedmodel" else file.path


def _absent(tree: Tree, clues: LoadClues) -> Iterator[AbsentFile]:
    """Model files that the code loads, and folders with a name for models that git ignores."""
    lines = (line.strip().strip("/") for line in (tree.text(".gitignore") or "").splitlines())
    ignored = [line for line in lines if _PATTERNS["model_folder"].fullmatch(line.rpartition("/")[2])]
    found: dict[str, AbsentFile] = {}
    for module in clues.modules:
        for file in module.loaded:
            path = posixpath.normpath(posixpath.join("" if file.anchored or file.rooted else clues.folder, file.text))
            folder = next((name for name in ignored if f"{path}/".startswith(f"{name}/")), None)
            whole = folder is not None and not tree.below(folder)
            if (file.is_model or whole) and not (path.startswith("../") or _is_present(tree, path)):
                place = folder or path
                listed = place if needs_no_quoting(place) and not file.anchored else None
                found.setdefault(path, AbsentFile(path, f"{module.path}, line {file.line}", listed))
    return iter(found.values())


def _named_only(tree: Tree, modules: Iterable[Module]) -> Iterator[AbsentFile]:
    """Model files that strings name, where no call is known to load one: their folder is unknown.

    Modules are called .model, .weights and tensorflow.keras, too, and arrays are what servers answer with.
    """
    name = re.compile(rf"\w[\w./-]*{_SUFFIX}(?<!\.model)(?<!\.weights)(?<!flow\.keras)(?<!\.np[yz])")
    named = ((text, module) for module in modules for text in sorted(module.strings) if name.fullmatch(text))
    found = {text: module.path for text, module in named if text not in {one.text for one in module.written}}
    yield from (AbsentFile(text, path) for text, path in found.items() if not _is_present(tree, text))


def _misplaced(tree: Tree, modules: Iterable[Module]) -> Iterator[AbsentFile]:
    """Files whose place beside the code is certain, and that are in the repository, but elsewhere."""
    places = {file.text: (file, one.path) for one in modules for file in one.loaded if file.rooted and file.is_model}
    for file, path in places.values():
        elsewhere = [other for other in tree.files if PurePosixPath(other).name == PurePosixPath(file.text).name]
        if elsewhere and file.text not in elsewhere:
            end = f"/{'/'.join(file.text.split('/')[-2:])}"
            elsewhere = [other for other in elsewhere if other.endswith(end)] or elsewhere
            yield AbsentFile(file.text, f"{path}, line {file.line}", "` or `".join(elsewhere[:3]))


def _unreachable(modules: Iterable[Module]) -> tuple[tuple[AbsentFile, ...], tuple[AbsentFile, ...]]:
    """Absolute paths, and downloads, each once."""
    outside, downloads = dict[str, AbsentFile](), dict[str, AbsentFile]()
    for module in modules:
        for file in module.outside:
            outside.setdefault(file.text, AbsentFile(file.text, f"{module.path}, line {file.line}"))
        for one in module.downloads:
            downloads.setdefault(f"{one.title} {one.what}", AbsentFile(one.title, f"{module.path}, line {one.line}"))
    return tuple(outside.values()), tuple(downloads.values())


def _from_hub(tree: Tree, modules: Iterable[Module], *, alone: bool) -> Iterator[AbsentFile]:
    """Models of the Hub. An unknown name may also be that of a folder, unless there is no model file at all."""
    found: dict[str, AbsentFile] = {}
    for module in modules:
        for file in module.loaded:
            unknown = file.text == UNNAMED and (file.anchored or alone)
            if unknown or (file.is_hub_name and not _is_present(tree, file.text)):
                where = f"{module.path}, line {file.line}"
                found.setdefault(where if unknown else file.text, AbsentFile(file.text, where))
    yield from found.values()


def _is_present(tree: Tree, path: str) -> bool:
    """Whether a file or folder exists, in any folder; for a file, its name counts. `net.model` may be a module."""
    module = path.replace(".", "/")
    name = PurePosixPath(path).name  # that of a checkpoint of TensorFlow is no file
    ends = (f"/{name}", f"/{name}.index", f"/{module}.py", f"/{module}/__init__.py")
    return bool(tree.below(path)) or any(f"/{file}".endswith(ends) for file in (*tree.files, *tree.misnamed))
