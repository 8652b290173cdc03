"""Registers the model of a repository, finds registered models and fetches them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue, ValidationError

from mlship.errors import CheckFailed, UsageError
from mlship.files import read_regular, sha256_file, write_atomic
from mlship.models.registered import (
    METADATA_FILE,
    SCHEMA,
    ModelVersion,
    RegisteredModel,
    read_registered,
    sealed,
    version_for,
)
from mlship.models.stores import ModelStore, StoredFile, check_stored
from mlship.project.config import Config
from mlship.project.onnx_header import Tensor, read_onnx
from mlship.project.training import TrainedFile, check_files, read_training
from mlship.project.weights import check_weights
from mlship.versioned import adapter, first_error
from mlship.weights.fetch import Watch, place_locked
from mlship.weights.locked import LockedFile

_DESCRIBE = "pass the model's files to `record(..., files=[...])` in the training script"


@dataclass(frozen=True)
class Registered:
    """The outcome of a registration.

    Attributes:
        version: NAME/COMMIT/TIME.
        new: False if exactly this model was registered before.
        sources: address of each file, as `model.sources` has it.
        dirty: the training code differed from its commit; None if unknown.
    """

    version: str
    checksum: str
    new: bool
    dirty: bool | None
    sources: Mapping[str, str]


@dataclass(frozen=True)
class TrainedModel:
    """A model to register.

    Attributes:
        record: of its training; its files are beside it. shown: its path for messages.
        sample, golden: one valid input and the output for it; None without one.
    """

    name: str
    record: Path
    shown: str
    sample: Path | None = None
    golden: Path | None = None


def model_of(repo: Path, config: Config, name: str | None) -> TrainedModel:
    """The model of a repository, all of whose files the record of its training describes.

    Args:
        name: None for that of mlship.yaml.

    Raises:
        UsageError: there is no record, or it does not describe a file.
        CheckFailed: a file is not the recorded one.
    """
    record = config.model.metadata
    if record is None:
        raise UsageError(
            "mlship.yaml has no `model.metadata`, so what the model was trained with is unknown",
            hint="record the training with `training_record.py` (`mlship training-record` prints it) and name its file",
        )
    unknown = check_files(
        repo, record, read_training(repo / record, record, key="model.metadata"), check_weights(repo, config.model)
    )
    if unknown:
        raise UsageError(unknown[0], hint=_DESCRIBE)
    tested = (
        repo / path if path and (repo / path).is_file() else None for path in (config.model.sample, config.model.golden)
    )
    return TrainedModel(name or config.name, repo / record, record, *tested)


def register(model: TrainedModel, store: ModelStore, address: str, parents: Iterable[str]) -> Registered:
    """Register the files that the record of a training describes, with the sample and its golden output.

    Raises:
        UsageError: the record describes no files or no commit, or the store refuses.
        CheckFailed: a file is not what the record describes, or the store has another model in this place.
        TransientError: the store does not answer.
    """
    record, training = model.shown, read_training(model.record, model.shown)
    if not training.files:
        raise UsageError(f"`{record}` describes no files", hint=_DESCRIBE)
    version = version_for(model.name, training, record)
    files = {path: StoredFile(model.record.parent / path, described) for path, described in training.files.items()}
    extra = _tested(model, files)
    document: dict[str, JsonValue] = json.loads(read_regular(model.record))
    document["files"] = {path: file.described.model_dump(mode="json") for path, file in files.items()}
    if "signature" not in document and (signature := _signature(files)):
        document["signature"] = signature
    found = [find_model(store, address, parent) for parent in parents]
    document["registration"] = {
        "schema": SCHEMA,
        "version": str(version),
        "parents": [{"version": str(parent.version), "checksum": parent.checksum} for parent in found],
        **extra,
    }
    try:
        data = sealed(document)
        checksum = adapter(RegisteredModel).validate_json(data).checksum
    except ValueError as error:  # also NaN and infinity, which JSON lacks
        why = first_error(error) if isinstance(error, ValidationError) else str(error)
        message = f"`{record}` cannot be registered: {why}"
        raise UsageError(message, hint="correct the training script, and train again") from error
    for path, file in files.items():
        if not file.source.is_file():
            raise UsageError(f"`{record}` describes `{path}`, which is not here", hint="run `mlship fetch`")
        check_stored(file.source, path, file.described)
    new = store.put(version, files, data)
    if store.metadata(version) != data:
        raise CheckFailed(
            f"{address} has another model as {version}; registered models never change",
            hint=f"compare them: `mlship models show {version} --store {address}`; train again to get a new version",
        )
    dirty = training.git.dirty if training.git else None
    return Registered(str(version), checksum, new, dirty, {path: store.address(version, path) for path in files})


def _signature(files: Mapping[str, StoredFile]) -> JsonValue:
    """Inputs and outputs of the one ONNX file; None without one."""
    models = [file.source for path, file in files.items() if path.endswith(".onnx") and file.source.is_file()]
    header = read_onnx(models[0]) if len(models) == 1 else None
    if header is None:
        return None
    return {"inputs": list(map(_tensor, header.inputs)), "outputs": list(map(_tensor, header.outputs))}


def _tensor(tensor: Tensor) -> JsonValue:
    shape = None if tensor.shape is None else list[JsonValue](tensor.shape)
    return {"name": tensor.name, "type": tensor.element, "shape": shape}


def _tested(model: TrainedModel, files: dict[str, StoredFile]) -> dict[str, JsonValue]:
    """Add the sample and the golden output to the files."""
    found: dict[str, JsonValue] = {}
    for key, path in (("sample", model.sample), ("golden", model.golden)):
        if path is None:
            continue
        described = TrainedFile(sha256=sha256_file(path).removeprefix("sha256:"), size=path.stat().st_size)
        name = path.name
        if name == METADATA_FILE or (name in files and files[name].described != described):
            raise UsageError(f"`{path}` has the name of another file of the model", hint=f"rename `{path}`")
        files[name] = StoredFile(path, described)
        found[key] = name
    return found


def find_model(store: ModelStore, address: str, text: str) -> RegisteredModel:
    """A registered model by `NAME`, `NAME/COMMIT` or `NAME/COMMIT/TIME`: the newest one of these.

    The commit may be shortened.

    Raises:
        UsageError: there is none.
        CheckFailed: its metadata was changed.
    """
    version = ModelVersion.parse(text)
    if version is None:
        name, _, rest = text.partition("/")
        start = f"{name}/{rest}"
        version = max((one for one in store.versions(name) if str(one).startswith(start)), default=None)
    data = store.metadata(version) if version else None
    if version is None or data is None:
        raise UsageError(
            f"{address} has no model `{text}`", hint="`mlship models ls` lists the models, `mlship models ls NAME` one"
        )
    return read_registered(data, version, address)


def pull_model(store: ModelStore, address: str, text: str, folder: Path, cache: Path, watch: Watch) -> RegisteredModel:
    """Fetch a registered model into a folder, its metadata last.

    Raises:
        CheckFailed: a byte of it was changed.
        UsageError: there is no such model, or another file in the way.
        TransientError: the store does not answer; what arrived stays for the next time.
    """
    found = find_model(store, address, text)
    data = store.metadata(found.version)
    for path in (*found.files, METADATA_FILE):
        _check_free(folder / path, found, path, data)
    for path, file in found.files.items():
        target = folder / path
        if target.exists():
            continue
        source = store.address(found.version, path)
        try:
            with watch(path) as progress:
                place_locked(target, LockedFile(source, file.sha256, file.size), cache, progress)
        except CheckFailed as error:
            hint = f"the store is damaged: restore `{path}` from a backup, or register the model again elsewhere"
            raise CheckFailed(error.message, hint=hint) from error
    write_atomic(folder / METADATA_FILE, (data or b"").decode())
    return found


def _check_free(target: Path, found: RegisteredModel, path: str, data: bytes | None) -> None:
    """Refuse to replace a file that is not the registered one."""
    if not target.exists():
        return
    if path == METADATA_FILE:
        same = target.read_bytes() == data
    else:
        same = target.is_file() and sha256_file(target) == f"sha256:{found.files[path].sha256}"
    if not same:
        raise UsageError(f"`{target}` is another file than that of {found.version}", hint="pull into an empty folder")
