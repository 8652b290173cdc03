"""`metadata.json` of a registered model: the record of its training, its place in the store, and a checksum."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from mlship.errors import CheckFailed, UsageError
from mlship.files import sha256_text
from mlship.project.training import Printable, TrainedFile, Training
from mlship.project.values import RepoPath, matching
from mlship.registry.reference import NAME_PART
from mlship.versioned import adapter, first_error

SCHEMA: Literal[1] = 1
METADATA_FILE = "metadata.json"
_VERSION = re.compile(rf"(?P<name>{NAME_PART})/(?P<commit>[0-9a-f]{{40,64}})/(?P<time>\d{{8}}T\d{{6}}Z)")
_KINDS = {"": "training", "packages": "package", "files": "file", "metrics": "metric", "statistics": "statistic"}
_DAMAGED = "restore the store from a backup, or register the model again"


@dataclass(frozen=True, order=True)
class ModelVersion:
    """A registered model: its name, the commit of the training code, and when it was trained (UTC)."""

    name: str
    time: str
    commit: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `NAME/COMMIT/TIME`; None if it is something else."""
        found = _VERSION.fullmatch(text)
        return cls(found["name"], found["time"], found["commit"]) if found else None

    @property
    def tag(self) -> str:
        """In a registry."""
        return f"{self.commit}-{self.time}"

    def __str__(self) -> str:
        return f"{self.name}/{self.commit}/{self.time}"


_Version = Annotated[str, matching(_VERSION.pattern, "is not a version such as NAME/COMMIT/TIME")]
StoredPath = Annotated[RepoPath, Field(pattern=r"^[\w@%+=:,./-]+$")]  # part of an address, which has no spaces


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ModelParent(_Part):
    """A registered model that this one was made from."""

    version: _Version
    checksum: str


class Registration(_Part):
    """`registration` of metadata.json, which `mlship register` adds."""

    format: Annotated[Literal[1], Field(alias="schema", description="1.")]
    version: _Version = Field(description="NAME/COMMIT/TIME; its place in the store.")
    parents: tuple[ModelParent, ...] = Field((), description="Registered models that this one was made from.")
    sample: RepoPath | None = Field(None, description="The file in `files` with one valid input.")
    golden: RepoPath | None = Field(None, description="The file in `files` with the output for it.")


class RegisteredModel(Training):
    """A record of a training that was registered. Its files are beside it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    files: dict[StoredPath, TrainedFile] = Field(min_length=1, description="Path of each file, with its hash.")
    metrics: dict[Printable, JsonValue] = Field(default_factory=dict, description="Figures of the training, by name.")
    statistics: JsonValue = Field(None, description="What the model saw, as above.")
    signature: JsonValue = Field(
        None, description="Inputs and outputs of the model; those of an ONNX file if the record has none."
    )
    registration: Registration = Field(description="What `mlship register` adds.")
    checksum: Printable = Field(description="sha256 of this file, without this line's value.")

    @property
    def version(self) -> ModelVersion:
        found = ModelVersion.parse(self.registration.version)
        if found is None:
            raise ValueError(self.registration.version)
        return found


def version_for(name: str, training: Training, record: str) -> ModelVersion:
    """The version under which a training is registered.

    Raises:
        UsageError: the record does not say which commit it ran from, or when.
    """
    hint = "train in a git checkout and write the record with `training_record.py` (`mlship training-record` prints it)"
    if training.git is None or len(training.git.commit) < 40:
        raise UsageError(f"`{record}` has no full git commit, so the model cannot be traced", hint=hint)
    if training.created is None or training.created.tzinfo is None or not 1970 <= training.created.year < 9999:
        raise UsageError(f"`{record}` does not say when the model was trained", hint=hint)
    time = training.created.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    found = ModelVersion.parse(f"{name}/{training.git.commit}/{time}")
    if found is None:
        raise UsageError(f"{name!r} is not a name for a model", hint="use lower-case letters, digits and single . _ -")
    return found


def sealed(document: Mapping[str, JsonValue]) -> bytes:
    """The bytes of metadata.json, with their checksum; the same document gives the same bytes."""
    open_text = _text({**document, "checksum": ""})
    return _text({**document, "checksum": sha256_text(open_text)}).encode()


def _text(document: Mapping[str, JsonValue]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


def read_registered(data: bytes, version: ModelVersion, where: str) -> RegisteredModel:
    """The metadata of a version, if not one byte of it has changed.

    Raises:
        CheckFailed: it was changed, or is of another version.
    """
    try:
        found = adapter(RegisteredModel).validate_json(data)
        if sealed(json.loads(data)) != data:
            raise CheckFailed(f"{METADATA_FILE} of {version} in {where} was changed after registering", hint=_DAMAGED)
    except (ValueError, RecursionError) as error:
        why = first_error(error) if isinstance(error, ValidationError) else "it is no JSON"
        raise CheckFailed(f"{METADATA_FILE} of {version} in {where} is damaged: {why}", hint=_DAMAGED) from error
    if found.registration.version != str(version):
        message = f"{where} has {found.registration.version} in the place of {version}"
        raise CheckFailed(message, hint=_DAMAGED)
    return found


@dataclass(frozen=True)
class ModelChange:
    """A fact that differs; None where a model does not have it.

    Attributes:
        kind: "training", "package", "file", "metric" or "statistic".
    """

    kind: str
    name: str
    before: JsonValue
    after: JsonValue


def model_changes(before: RegisteredModel, after: RegisteredModel) -> tuple[ModelChange, ...]:
    """All differences, by kind and name; that of place and time alone is none."""
    old, new = _facts(before), _facts(after)
    return tuple(
        ModelChange(kind, ".".join(path), old.get((kind, path)), new.get((kind, path)))
        for kind, path in sorted(old.keys() | new.keys(), key=lambda fact: ([*_KINDS.values()].index(fact[0]), fact))
        if json.dumps(old.get((kind, path))) != json.dumps(new.get((kind, path)))  # 1 is neither 1.0 nor true
    )


def _facts(model: RegisteredModel) -> Mapping[tuple[str, tuple[str, ...]], JsonValue]:
    """What is recorded of a model, by kind and path; keys that mlship does not know count."""
    found = model.model_dump(
        mode="json", by_alias=True, exclude={"created": True, "checksum": True, "registration": {"version"}}
    )
    found["files"] = {path: f"sha256:{file.sha256}" for path, file in model.files.items()}
    found |= found.pop("git") or {}
    return {
        (_KINDS.get(path[0], "training"), path[1:] if path[0] in _KINDS else path): value
        for path, value in _leaves(found)
    }


def _leaves(value: JsonValue, path: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], JsonValue]]:
    if isinstance(value, dict) and (value or ".".join(path) in _KINDS):
        for name, part in value.items():
            yield from _leaves(part, (*path, name))
    else:
        yield path, value
