"""The server and loader that `mlship init` writes, and what they need."""

from collections.abc import Iterator

from mlship.frameworks import framework_table
from mlship.init.found import Detection
from mlship.render import render

DATA_URI = """\
printf '{"NAME": "data:%s;base64,%s"}' "$(file -b --mime-type FILE)" "$(base64 -w0 FILE)" > sample.json"""


def server_files(found: Detection, load: str, sample: str) -> Iterator[tuple[str, str, str]]:
    """Path, text and purpose of the files of a generated server."""
    module, _, function = load.partition(":")
    app = render("init/app.py.j2", module=module, function=function, sample=sample)
    yield "serving/__init__.py", render("init/package.py.j2"), "makes `serving` a package"
    yield "serving/app.py", app, "FastAPI server, because no server was found"
    if found.cog:
        yield "serving/model.py", render("init/models/cog.py.j2", cog=found.cog), f"runs {found.cog.cls} of cog.yaml"
    elif native := found.native:
        model = render(
            f"init/models/{native.row.template}.py.j2",
            model=native.path,
            title=native.row.title,
            loader=native.loader,
            task=native.task,
            backend=_backend(found),
            gpu=found.gpus.wanted,
        )
        yield "serving/model.py", model, f"loads {native.path}"


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


def _backend(found: Detection) -> str:
    """The backend for Keras among these packages."""
    return loader_needs(found)[-1].removesuffix("-cpu")


def loader_example(found: Detection) -> str:
    """A `load()` for the first model file whose format has one, starting on a line of its own."""
    formats = framework_table().formats
    files = [file for file in (*found.weights.models, *found.weights.refused) if file.kind in formats]
    examples = ((formats[file.kind].example, file.path) for file in files)
    return next((text.format(path=path, folder=path.rpartition("/")[0]) for text, path in examples if text), "")
