"""Converts a model file into a format that runs no code when loaded, or that is mapped instead of copied."""

import json
import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from mlship import __version__
from mlship.convert.in_container import ComparedModel, ContainerConversion, library_of
from mlship.convert.onnx_external import compare_external, write_external
from mlship.convert.torch_state import compare_safetensors, open_torch_state, write_safetensors
from mlship.errors import UsageError
from mlship.files import check_new, check_readable, read_regular, save_new, sha256_file
from mlship.frameworks import framework_table
from mlship.leftovers import temporary_folder
from mlship.project.formats import ModelFormat, identify
from mlship.project.model_code import loaded_names
from mlship.project.training import Training, read_training


@dataclass(frozen=True)
class Conversion:
    """A conversion that was compared with its original.

    Attributes:
        files: what was written.
        tensors: how many were compared, each the same bit for bit; None if outputs were compared instead.
        outputs: how both models answered the sample; None if tensors were compared.
        record: the record of the training that was written for the new files; None if not wanted.
    """

    source: str
    files: tuple[str, ...]
    tensors: int | None
    outputs: ComparedModel | None = None
    record: str | None = None


@dataclass(frozen=True)
class ConversionOptions:
    """Options of the command line.

    Attributes:
        key: of the model in a file that holds more: the state dict in a checkpoint of torch, an estimator in a pickle.
        record: of the training; a new one beside the target gets the new files.
        sample: inputs to compare both models on, if a container converts.
    """

    key: str | None = None
    record: Path | None = None
    sample: Path | None = None


InContainer: TypeAlias = Callable[[ContainerConversion], ComparedModel]


def convert(source: Path, target: Path, options: ConversionOptions, in_container: InContainer) -> Conversion:
    """Convert by the format of the source and the suffix of the target.

    Args:
        in_container: converts what only its own libraries can read.

    Raises:
        UsageError: there is no such conversion, the source is damaged, or a file to write exists.
        CheckFailed: what was written differs from the source, or the source from its record.
    """
    if source.is_dir():
        raise UsageError(
            f"`{source}` is a folder, and `mlship convert` reads one file",
            hint="name the file; a SavedModel becomes ONNX where TensorFlow is installed: "
            f"`python -m tf2onnx.convert --saved-model {shlex.quote(str(source))} --output model.onnx`",
        )
    if not source.is_file():
        raise UsageError(f"no file `{source}`", hint="name the model file to convert")
    kind, record = identify(source), options.record
    _check_library(source, target, kind)
    files = _written(source, target, kind)
    _check_options(source, kind, options)
    new_record = target.parent / record.name if record else None
    for path in (*files, *([new_record] if new_record else ())):
        check_new(path)
    training = read_training(record, str(record)) if record else None
    document = _new_record(source, record, training) if record and training else None
    tensors, outputs = None, None
    with temporary_folder("convert", beside=target) as folder:  # on the same disk
        temporary = tuple(folder / path.name for path in files)
        if options.sample:
            outputs = in_container(
                ContainerConversion(source, kind, temporary[0], options.sample, training, options.key or "")
            )
        elif kind == "torch":
            state = open_torch_state(source, str(source), options.key)
            write_safetensors(state, temporary[0])
            tensors = compare_safetensors(state, temporary[0])
        else:
            tensors = write_external(source, str(source), temporary[0], temporary[1], files[1].name)
            compare_external(source, temporary[0], temporary[1])
        for one, path in zip(temporary[::-1], files[::-1], strict=True):
            _place(one, path)
    if new_record and document is not None:
        described = {
            path.name: {"sha256": sha256_file(path).removeprefix("sha256:"), "size": path.stat().st_size}
            for path in files
        }
        save_new(new_record, json.dumps({**document, "files": described}, indent=2) + "\n")
    return Conversion(str(source), tuple(map(str, files)), tensors, outputs, str(new_record) if new_record else None)


def _check_library(source: Path, target: Path, kind: ModelFormat) -> None:
    """Refuse a pickle that holds a model of another library than scikit-learn, also in a pipeline."""
    modules: set[str] = set()
    with suppress(ValueError):  # the container shows it
        modules = {name.partition(".")[0] for name in loaded_names(source, kind)} if kind == "pickle" else modules
    for row in framework_table().frameworks:
        if (save := row.unconverted.get(target.suffix)) and row.imports & modules:
            title, call = framework_table().loaders[row.name].title, save.format(stem=source.with_suffix(""))
            raise UsageError(
                f"`{source}` holds a model of {title}, which `mlship convert` cannot convert to {target.suffix}",
                hint=f"where it was trained, save it in the format of {title}: `{call}`",
            )


def _written(source: Path, target: Path, kind: ModelFormat) -> tuple[Path, ...]:
    """The files of a conversion."""
    if (kind, target.suffix) == ("onnx", ".onnx"):
        return target, target.with_name(f"{target.name}.data")
    if target.suffix in _targets(source, kind):
        return (target,)
    raise _impossible(source, target, kind)


def _targets(source: Path, kind: ModelFormat) -> tuple[str, ...]:
    if kind in ("torch", "onnx"):
        return {"torch": (".safetensors",), "onnx": (".onnx",)}[kind]
    library = library_of(source, kind)
    if library == "keras":
        return (".onnx",)
    return (".onnx", *((".skops",) if kind != "skops" else ())) if library else ()


def _check_options(source: Path, kind: ModelFormat, options: ConversionOptions) -> None:
    if options.key is not None and kind not in ("torch", "pickle"):
        raise UsageError(
            "`--key` is for files that hold more than a model: pickles and checkpoints of torch", hint="remove `--key`"
        )
    if kind in ("torch", "onnx"):
        if options.sample:
            raise UsageError("`--sample` is for models that have to run", hint="remove it: every tensor is compared")
        return
    if options.sample is None:
        raise UsageError(
            f"`{source}` can only be converted by its own libraries, and compared by its outputs",
            hint="give rows as the model was trained with: `--sample rows.json`, "
            'with [[5.1, 3.5], [4.9, 3.0]] or [{"age": 31, "city": "Oslo"}]',
        )
    check_readable(options.sample, "name a JSON file with rows, `--sample FILE`")
    try:
        json.loads(read_regular(options.sample))
    except ValueError as error:
        raise UsageError(f"`{options.sample}` is not JSON: {error}", hint="correct it") from error


def _impossible(source: Path, target: Path, kind: ModelFormat) -> UsageError:
    suffixes = _targets(source, kind)
    if suffixes:
        return UsageError(
            f"cannot convert `{source}` to `{target.name}`", hint=f"as target, give a name with {' or '.join(suffixes)}"
        )
    row = framework_table().formats.get(kind)
    fix = row.fix.format(path=source, stem=source.with_suffix("")) if row and row.fix else ""
    return UsageError(
        f"`{source}` is not a torch state dict, an ONNX file, or a scikit-learn or Keras model",
        hint=fix or "use it as it is, or export it to ONNX or safetensors where it was trained",
    )


def _new_record(source: Path, record: Path, training: Training) -> dict[str, object]:
    """The record without its files, and with what the new ones are made from.

    Raises:
        UsageError: it does not describe the source.
    """
    digest = sha256_file(source).removeprefix("sha256:")
    names = [name for name, file in training.files.items() if file.sha256 == digest]
    if not names or len(training.files) != 1:
        raise UsageError(
            f"`{record}` describes {', '.join(training.files) or 'no file'}, and not `{source}` alone",
            hint="name the record of the training that wrote this file",
        )
    document: dict[str, object] = json.loads(read_regular(record))
    return {
        **document,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "converted": {"from": names[0], "sha256": digest, "trained": document.get("created"), "mlship": __version__},
    }


def _place(file: Path, target: Path) -> None:
    """Give a finished file its name, unless something has it by now."""
    file.chmod(0o644)
    try:
        os.link(file, target)
    except FileExistsError:
        check_new(target)
