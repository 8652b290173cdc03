"""The server and loader that `mlship init` writes, and what they need."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlship.errors import UsageError
from mlship.frameworks import framework_table
from mlship.init.found import Detection
from mlship.init.request_type import rejecting, request_type
from mlship.project.metadata import METADATA, TrainingStatistics, features_of, statistics_of
from mlship.project.onnx_header import read_onnx
from mlship.project.paths import WORKDIR
from mlship.render import render
from mlship.resources import read_template
from mlship.versioned import TableRow, table_reader

SERVING = "serving"
_PART_NEEDS = {"shadow": ("h11",)}
_PARTS = {"shadow": "app.py", "workers": "__main__.py"}  # options of `mlship init`, and the file that uses them
SERVER_NEEDS = ("httptools", "msgspec", "prometheus-client", "uvicorn", "uvloop")
_ON_ARRAYS = ("onnx", "rows", "keras")
_ANY_OUTPUTS = ("onnx", "skops")  # classifiers of scikit-learn return labels, which may be text
_ENDS = (".py", "/__init__.py")
DATA_URI = """\
printf '{"NAME": "data:%s;base64,%s"}' "$(file -b --mime-type FILE)" "$(base64 -w0 FILE)" > sample.json"""


class _GeneratedTable(TableRow):
    """data/generated.toml, whose header explains the keys."""

    server: dict[str, tuple[str, ...]]
    around: dict[str, str]


_table = table_reader(_GeneratedTable, "generated")


def server_files(found: Detection, load: str, sample: str, *, parts: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    """Path, text and purpose of the files of a generated server."""
    package, tensors = server_package(found), bool(found.native and found.native.row.template in _ON_ARRAYS)
    features = isinstance(features_of(found.root), dict)
    given = {
        "": True,
        **_shapes(found, tensors=tensors),
        "tensors": tensors,
        "plain": not tensors,
        "features": features,
        "limits tensors": features and tensors,
        "limits plain": features and not tensors,
        "drift": isinstance(statistics_of(found.root), TrainingStatistics),
        "golden": found.golden.value if found.sample.value else None,
        **{part: part in parts for part in _PARTS},
    }
    yield f"{package}/model.py", _model(found, load, sample, given, package), _purpose(found, load)
    for template in (one for needed, templates in _table().server.items() if given[needed] for one in templates):
        name, path = re.sub(r"_(plain|tensors)|\.j2$", "", template), f"init/serving/{template}"
        text = render(path, **given) if path.endswith(".j2") else read_template(path)
        own = text if package == SERVING else re.sub(rf"\b(from|import) {SERVING}\b", rf"\1 {package}", text)
        yield f"{package}/{name}", own, "the server around it"
    for name, why in _table().around.items():
        yield name, render(f"init/{name}.j2", **given, package=package, sample=sample), why


def server_parts(found: Detection, wanted: frozenset[str], *, generated: bool) -> frozenset[str]:
    """The optional parts of the server, such as `shadow`: those that are wanted, and those that it has already.

    Raises:
        UsageError: one is wanted without a generated server, or beside one that would not use it.
    """
    folder = found.root / server_package(found)
    for part in sorted(wanted):
        _check_part(found, part, folder / _PARTS[part], generated=generated)
    return wanted | {part for part in _PARTS if generated and (folder / f"{part}.py").is_file()}


def _check_part(found: Detection, part: str, user: Path, *, generated: bool) -> None:
    if not generated:
        raise UsageError(
            f"`--{part}` is part of the server that `mlship init` writes, and none is written here",
            hint="add `--serving`" if found.server else "write `load()` (see `mlship init`), then try again",
        )
    if user.is_file() and f".{part} import".encode() not in user.read_bytes():
        place = f"{user.parent.name}/"
        raise UsageError(
            f"`{place}{user.name}` exists and does not use `{part}.py`; `mlship init` never changes it",
            hint=f"move `{place}` away, run `mlship init --{part}`, and put your `{place}model.py` back",
        )


def server_source(found: Detection) -> tuple[str, ...]:
    """The folder of a generated server, and the file with the training and the limits of inputs that it reads."""
    read = isinstance(statistics_of(found.root), TrainingStatistics) or isinstance(features_of(found.root), dict)
    return (*[METADATA] * read, server_package(found))


def server_package(found: Detection) -> str:
    """The folder of a generated server; another one if the repository has code of its own at the usual place."""
    usual = found.root / SERVING
    written = all((usual / name).is_file() for name in ("runtime.py", "batching.py"))  # by an earlier run
    own = usual.with_suffix(".py").exists() or any(usual.glob("*.py"))
    return f"model_{SERVING}" if own and not written else SERVING


def _purpose(found: Detection, load: str) -> str:
    if found.cog:
        return f"runs {found.cog.cls} of cog.yaml"
    return f"loads {found.native.path}" if found.native else f"names `{load}` and the fields of a request"


def _shapes(found: Detection, *, tensors: bool) -> dict[str, bool]:
    """Whether the model may have a batch axis, and inputs or outputs that are not numbers, as far as its file says."""
    if not tensors or found.native is None:
        return {"batches": False, "texts": True}
    header = read_onnx(found.root / found.native.path) if found.native.loader == "onnx" else None
    if header is None:
        return {"batches": True, "texts": found.native.loader in _ANY_OUTPUTS}
    every = (*header.inputs, *header.outputs)
    return {
        "batches": all(tensor.shape is None or tensor.first_axis is not None for tensor in every),
        "texts": any(tensor.element in (None, "string") for tensor in every),
    }


def _model(found: Detection, load: str, sample: str, given: Mapping[str, object], package: str) -> str:
    request = request_type(found, sample)
    if found.cog:
        return render("init/models/cog.py.j2", cog=found.cog, sample=sample, package=package)
    if native := found.native:
        return render(
            f"init/models/{native.row.template}.py.j2",
            model=native.path,
            title=native.row.title,
            loader=native.loader,
            task=native.task,
            backend=loader_needs(found)[-1].removesuffix("-cpu"),  # of Keras, among these packages
            gpu=found.gpus.wanted,
            sample=sample,
            request=request,
            package=package,
            **given,
        )
    module, _, function = load.partition(":")
    roots = [root.removeprefix(WORKDIR).strip("/") for root in f":{found.python_path or ''}".split(":")]
    places = (found.root / root / (module.replace(".", "/") + end) for root in roots for end in _ENDS)
    source = next((place.read_text(encoding="utf-8", errors="replace") for place in places if place.is_file()), "")
    return render(
        "init/models/loader.py.j2",
        module=module,
        function=function,
        sample=sample,
        request=request,
        rejects=rejecting(source),
    )


def server_needs(found: Detection, *, parts: frozenset[str]) -> tuple[str, ...]:
    """The packages of the generated server and its loader."""
    return (*SERVER_NEEDS, *(need for part in parts for need in _PART_NEEDS.get(part, ())), *loader_needs(found))


def loader_needs(found: Detection) -> tuple[str, ...]:
    """The packages of the generated loader, with what the repository requires instead of one of them."""
    if found.cog:
        return ("cog",)
    if found.native is None:
        return ()
    row, named = found.native.row, frozenset[str]().union(*(declared.names for declared in found.declared))
    instead = next((name for name in row.instead if name in named), None)
    if instead:
        return (*row.requires[:-1], instead)
    if found.native.loader == "onnx" and found.gpus.wanted and "onnxruntime" not in named:
        return ("numpy", "onnxruntime-gpu[cuda,cudnn]")
    return row.requires


def loader_example(found: Detection) -> str:
    """A `load()` for the first model file whose format has one, starting on a line of its own."""
    formats = framework_table().formats
    every = (*found.weights.models, *found.weights.refused)
    # Changes to another model are loaded by that: https://huggingface.co/docs/peft/developer_guides/checkpoint
    whole = (file for file in every if not (found.root / file.path).with_name("adapter_config.json").is_file())
    files = [file for file in whole if file.kind in formats]
    examples = ((formats[file.kind].example, file.path) for file in files)
    return next((text.format(path=path, folder=path.rpartition("/")[0]) for text, path in examples if text), "")
