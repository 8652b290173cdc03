"""The record of a training run, `metadata.json`: what a model was made with. `training_record.py` writes it."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mlship.errors import CheckFailed, UsageError
from mlship.files import has_content, read_regular
from mlship.project.values import Distribution, Sha256, printable
from mlship.project.weights import WeightFile
from mlship.units import few
from mlship.versioned import adapter, first_error

_LIMIT = 5_000_000  # bytes; registries return larger ones only in parts


Printable = Annotated[str, AfterValidator(printable)]


class _Recorded(BaseModel):
    """Other tools may add keys of their own."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class TrainedCode(_Recorded):
    """The commit that the training ran from; `dirty` if files differed from it."""

    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]
    dirty: bool | None = None


class TrainedFile(_Recorded):
    """A file of the model, as it was written."""

    sha256: Sha256
    size: Annotated[int, Field(ge=0, description="Bytes.")]


class Training(_Recorded):
    """`metadata.json`: the libraries that trained a model, and the files that came out."""

    format: Annotated[Literal[1], Field(alias="schema", description="1.")]
    created: datetime | None = Field(None, description="When the record was written, with a time zone.")
    python: Printable | None = Field(None, description="Version of Python.")
    platform: Printable | None = Field(None, description="Operating system and architecture.")
    cuda: Printable | None = Field(None, description="CUDA version that the framework was built for.")
    git: TrainedCode | None = Field(None, description="Commit of the training code; `dirty` if files differed from it.")
    packages: dict[Distribution, Printable] = Field(description="Installed packages and their versions.")
    imported: dict[Printable, Distribution] | None = Field(
        None,
        description="Top-level modules that the training imported, and the package that brought each; without it, all "
        "of `packages` count.",
    )
    files: dict[Printable, TrainedFile] = Field(
        default_factory=dict, description="Path of each file of the model, from the record's folder, with its hash."
    )

    def release_of(self, name: str, modules: Iterable[str] = ()) -> tuple[str, str] | None:
        """Name and version of what the training imported as this package; None if it did not, or is unknown.

        Args:
            modules: top-level modules of the package; another distribution may have brought them, as `cv2`.
        """
        imported = self.imported
        if imported is None:
            names = [name]
        else:
            names = [name] if name in imported.values() else [imported[top] for top in modules if top in imported]
        return next(((found, self.packages[found]) for found in names if found in self.packages), None)


def is_training(path: Path) -> bool:
    """Whether a file is such a record."""
    try:
        adapter(Training).validate_json(read_regular(path, _LIMIT))
    except (OSError, ValueError):
        return False
    return True


def read_training(path: Path, shown: str, *, key: str = "") -> Training:
    """Read a record.

    Args:
        key: of mlship.yaml, if it names the record.

    Raises:
        UsageError: it cannot be read, or is no such record.
    """
    hint = "write it with `training_record.py` where the model is trained (`mlship training-record` prints the script)"
    record = f"{key}: `{shown}`" if key else f"`{shown}`"
    try:
        return adapter(Training).validate_json(read_regular(path, _LIMIT))
    except OSError as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise UsageError(f"{record} {why}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{record} is not UTF-8 text", hint=hint) from error
    except ValidationError as error:
        message = f"{record} is not a record of a training: {first_error(error)}"
        raise UsageError(message, hint=hint) from error


def check_files(repo: Path, record: str, training: Training, weights: Iterable[WeightFile]) -> tuple[str, ...]:
    """Compare the model's files with the record. Returns what the record does not describe.

    Raises:
        CheckFailed: a file is not the one that the training wrote.
    """
    folder = PurePosixPath(record).parent
    written = {str(folder / name): file for name, file in training.files.items()}
    weights = tuple(file for file in weights if file.path != record)
    known = ((file.path, written[file.path]) for file in weights if file.path in written)
    other = [path for path, file in known if not has_content(repo / path, file.sha256, file.size)]
    if other:
        raise CheckFailed(
            f"`{other[0]}` is not the file that `{record}` describes: its content differs",
            hint=f"use the model and the `{PurePosixPath(record).name}` of one training run",
        )
    missing = [file.path for file in weights if file.path not in written]
    if not missing or not training.files:
        return ()
    return (f"`{record}` does not describe {few(missing, 5)}: where they come from is unknown",)
