"""Converts a model that only its own libraries can read: they run in a throw-away container without network."""

import re
import shlex
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from packaging.version import Version
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mlship.engine.base import BuildRequest, BuildWatcher, Engine
from mlship.errors import CheckFailed, UsageError
from mlship.imports import known_modules
from mlship.leftovers import temporary_folder
from mlship.project.base import base_reference, this_platform
from mlship.project.config import Config
from mlship.project.formats import ModelFormat, identify
from mlship.project.load import FILE_NAME, load_unfinished
from mlship.project.model_code import loaded_names
from mlship.project.sklearn_version import FIRST_FOR_NUMPY_2, sklearn_of
from mlship.project.training import Training
from mlship.render import render
from mlship.resources import read_template

_PROGRAM, _SAMPLE, _REPORT = "program.py", "sample.json", "report.json"
_SUFFIXES = {"keras": ".keras", "hdf5": ".h5", "skops": ".skops"}
_RELEASE = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?")  # pip can install it from an index: no local version
_LIMIT = 1 << 20  # bytes of a file inside an archive of Keras
# What the converters choose for themselves: the training's versions could be too old for them.
_FREE = {"scikit-learn", "onnx", "onnxruntime", "protobuf", "ml-dtypes", "flatbuffers", "skl2onnx", "skops"}
# The last Python that has wheels of the scikit-learn before each release, by the files on PyPI.
_LAST_PYTHON = ((Version("0.24"), "3.8"), (Version("1.1.3"), "3.9"))
_OLDEST_SKLEARN, _OLDEST_PYTHON = Version("0.22"), Version("3.8")  # the program in the container needs Python 3.8
# `Model.export(format="onnx")`: https://github.com/keras-team/keras/releases/tag/v3.8.0
_KERAS_WITH_EXPORT, _KERAS_3 = Version("3.8"), Version("3")


ConversionStage: TypeAlias = Literal["load", "key", "sample", "convert", "differs"]
ModelLibrary: TypeAlias = Literal["scikit-learn", "keras"]
_REMEDIES: dict[ConversionStage, str] = {
    "load": "convert it where it was trained, or give the record of its training: `--record metadata.json`",
    "key": "name the estimator with `--key KEY`; without it, the whole file has to be one",
    "sample": "give rows as the model was trained with: `--sample FILE`",
    "convert": "convert it where it was trained",
    "differs": "keep the original, and report this to the converter's project",
}


class NotConverted(BaseModel):
    """Why the program in the container refused."""

    model_config = ConfigDict(frozen=True)
    error: str
    stage: ConversionStage


class ComparedModel(BaseModel):
    """Both models gave the same outputs for the sample.

    Attributes:
        rows: of the sample.
        largest: absolute difference of two numbers.
        tolerance: relative and absolute.
        outputs: that were compared; uncompared: further ones of the new model.
        trusted: types that loading a skops file has to trust.
        versions: of the libraries in the container.
    """

    model_config = ConfigDict(frozen=True)
    rows: Annotated[int, Field(ge=1)]
    largest: float
    tolerance: tuple[float, float]
    outputs: Annotated[tuple[str, ...], Field(min_length=1)]
    uncompared: tuple[str, ...]
    trusted: tuple[str, ...]
    versions: dict[str, str]


@dataclass(frozen=True)
class ContainerConversion:
    """What to convert.

    Attributes:
        kind: format of `source`; the suffix of `target` says what to write.
        sample: JSON: rows of numbers or texts, or objects with a value for each column or input.
        key: of the estimator in a pickled dictionary or list; empty if the pickle is the estimator.
        training: versions of its libraries are kept.
        secrets: pip's settings, as secrets of the build.
    """

    source: Path
    kind: ModelFormat
    target: Path
    sample: Path
    training: Training | None
    key: str = ""
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Libraries:
    """What the container needs.

    Attributes:
        python: its version, such as 3.11; None for that of mlship.yaml.
        constraints: versions that pip keeps to, if it installs these packages at all.
    """

    python: str | None
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()


def library_of(source: Path, kind: ModelFormat) -> ModelLibrary | None:
    """The library that reads the file and is known to convert it; None if there is none."""
    if kind in ("keras", "hdf5"):
        return "keras"
    return "scikit-learn" if kind in ("pickle", "skops") and sklearn_of(source) else None


def convert_in_container(wanted: ContainerConversion, engine: Engine, watch: BuildWatcher) -> ComparedModel:
    """Write the target (.onnx, or .skops) from a model of scikit-learn or Keras, and compare both on the sample.

    Raises:
        UsageError: the libraries do not read or convert this model, or not with this sample.
        CheckFailed: the outputs differ.
        EngineError, BuildError, TransientError: from the engine.
    """
    with temporary_folder("convert") as work:
        context, out = work / "context", work / "out"
        for folder in (context, out):
            folder.mkdir()
        source = f"model{_SUFFIXES.get(wanted.kind, '.pkl')}"  # libraries decide by the name
        shutil.copyfile(wanted.source, context / source)
        shutil.copyfile(wanted.sample, context / _SAMPLE)
        (context / _PROGRAM).write_text(read_template(f"convert/{_PROGRAM}"), encoding="utf-8")
        target = out / f"model{wanted.target.suffix}"
        engine.build(_request(wanted, work, source, target.name), watch)
        compared = _outcome(out / _REPORT, wanted)
        if identify(target) != target.suffix.removeprefix("."):
            raise CheckFailed(f"what was written is no {target.suffix} file", hint=_REMEDIES["differs"])
        shutil.copyfile(target, wanted.target)
    return compared


def _request(wanted: ContainerConversion, work: Path, source: str, target: str) -> BuildRequest:
    libraries, config = libraries_for(wanted), _config(work)
    if libraries.python:  # bookworm has images of each
        base = config.base.model_copy(update={"distro": "bookworm"})
        config = config.model_copy(update={"python": libraries.python, "base": base})
    return BuildRequest(
        dockerfile=render(
            "convert/Dockerfile.j2",
            base=base_reference(config),
            requirements=libraries.requirements,
            constraints=libraries.constraints,
            source=source,
            sample=_SAMPLE,
            target=target,
            key=shlex.quote(wanted.key),
            report=_REPORT,
        ),
        ignore="",
        context=work / "context",
        platform=this_platform() or config.platform,
        export=work / "out",
        secrets=wanted.secrets,
    )


def libraries_for(wanted: ContainerConversion) -> Libraries:
    """The packages that read the source and write the target."""
    training = wanted.training
    every = training.packages.items() if training else ()
    recorded = {name: text for name, text in every if _RELEASE.fullmatch(text)}
    sklearn = sklearn_of(wanted.source)
    if sklearn is None:
        return Libraries(None, _keras_packages(wanted, recorded.get("keras")))
    release = Version(sklearn)
    if release < _OLDEST_SKLEARN:
        raise UsageError(
            f"scikit-learn {release} wrote `{wanted.source}`, which is older than {_OLDEST_SKLEARN}",
            hint="convert it where it was trained, or train it again with a newer scikit-learn",
        )
    named_python = re.match(r"3\.\d+(?=\.|$)", training.python or "") if training else None
    python = named_python[0] if named_python and Version(named_python[0]) >= _OLDEST_PYTHON else None
    converters = ("skops",) if wanted.target.suffix == ".skops" else ("skl2onnx", "onnxruntime")
    named = {f"scikit-learn=={release}", "pandas", "joblib", *converters, *_imported(wanted)}
    if release < FIRST_FOR_NUMPY_2:
        named.add("numpy<2")
    return Libraries(
        python or next((last for before, last in _LAST_PYTHON if release < before), None),
        tuple(sorted(named)),
        tuple(f"{name}=={text}" for name, text in sorted(recorded.items()) if name not in _FREE),
    )


def _keras_packages(wanted: ContainerConversion, recorded: str | None) -> tuple[str, ...]:
    version = recorded or _keras_version(wanted.source)
    exports = version is not None and Version(version) >= _KERAS_WITH_EXPORT
    keras = f"keras=={version}" if exports else f"keras>={_KERAS_WITH_EXPORT}"
    # Keras 2 wrote most files of HDF5; tf-keras is that, and requires TensorFlow by this name.
    if wanted.kind == "hdf5" or (version and Version(version) < _KERAS_3):
        backend: tuple[str, ...] = ("tensorflow", "tf-keras")
    else:
        backend = ("tensorflow-cpu" if this_platform() == "linux/amd64" else "tensorflow",)
    return keras, *backend, "tf2onnx", "onnxruntime"


def _imported(wanted: ContainerConversion) -> set[str]:
    """Packages that loading the file imports, as far as it is known which package brings a module."""
    try:
        names = loaded_names(wanted.source, wanted.kind)
    except ValueError:  # loading it in the container shows it
        return set()
    modules = {name.partition(".")[0] for name in names}
    return {known_modules()[module] for module in modules - {"sklearn", "numpy"} if module in known_modules()}


def _keras_version(source: Path) -> str | None:
    """The version that wrote an archive of Keras 3: https://keras.io/api/saving/model_saving_and_loading/."""
    if not zipfile.is_zipfile(source):
        return None
    with zipfile.ZipFile(source) as archive, archive.open("metadata.json") as file:
        found = re.search(rb'"keras_version": *"(\d+(?:\.\d+)+)"', file.read(_LIMIT))
    return found[1].decode() if found else None


def _config(work: Path) -> Config:
    """Of the project here, for its base image; without one, what mlship chooses."""
    if Path(FILE_NAME).is_file():
        return load_unfinished(Path())[0]
    (work / FILE_NAME).write_text("name: convert\n", encoding="utf-8")
    return load_unfinished(work)[0]


def _outcome(file: Path, wanted: ContainerConversion) -> ComparedModel:
    adapter: TypeAdapter[NotConverted | ComparedModel] = TypeAdapter(NotConverted | ComparedModel)
    try:
        outcome = adapter.validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckFailed("the conversion produced no report", hint="run it again; if it repeats, report it") from error
    if isinstance(outcome, ComparedModel):
        return outcome
    hint = _REMEDIES[outcome.stage]
    if outcome.stage == "convert" and wanted.kind == "pickle" and wanted.target.suffix == ".onnx":
        hint = f"write skops, which holds nearly all estimators: give a name with .skops as target; or {hint}"
    raise (CheckFailed if outcome.stage == "differs" else UsageError)(f"`{wanted.source}`: {outcome.error}", hint=hint)
