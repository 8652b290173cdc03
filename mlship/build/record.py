"""What a build leaves behind, so that the same image can be built again: one frozen value with JSON both ways."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from mlship.engine.base import Compression, Manifest
from mlship.errors import UsageError

SCHEMA = 1
_SIZE_LIMIT = 5_000_000
_HOW = "`mlship build --metadata FILE` writes one"


def _below(path: str) -> str:
    """A path that cannot lead out of its folder."""
    if path.startswith("/") or ".." in PurePosixPath(path).parts or "\0" in path:
        raise ValueError("the path leads out of the repository")
    return path


# These reach git's command line and the disk, so a file that somebody else made must not be able to say anything there.
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
Below = Annotated[str, AfterValidator(_below)]


@dataclass(frozen=True)
class SourceCommit:
    """The code that was built; None where nobody knows.

    Attributes:
        commit: full hash. describe: as `git describe` named it then.
        url: of the remote, without credentials.
        path: of the project inside the git repository; empty where it is its top.
        dirty: files that git tracks were not as in the commit.
        epoch: seconds since 1970: the image's date.
    """

    commit: Commit | None
    describe: str | None
    url: str | None
    path: Below | None
    dirty: bool | None
    epoch: int


@dataclass(frozen=True)
class BaseImage:
    """What the image stands on."""

    reference: str
    digest: Digest


@dataclass(frozen=True)
class LockHashes:
    """sha256 of the two files that `mlship lock` writes.

    Attributes:
        requirements: of the requirements lock; record: of mlship.lock.
    """

    requirements: Digest
    record: Digest


@dataclass(frozen=True)
class Weight:
    """A file of the model, below the project; size in bytes."""

    path: Below
    sha256: Digest
    size: int


@dataclass(frozen=True)
class Proof:
    """What the image was proven on: "cpu", "gpu", "simulated gpu"; names of the GPUs."""

    device: str
    gpus: tuple[str, ...]
    driver: str | None


@dataclass(frozen=True)
class Tools:
    """Versions of what built the image."""

    mlship: str
    engine: str
    buildx: str


@dataclass(frozen=True)
class TargetHost:
    """The GPU host that the command line named."""

    driver: str
    compute_capabilities: tuple[str, ...]


@dataclass(frozen=True)
class Metadata:
    """One build that succeeded.

    Attributes:
        digest: of the image's manifest as it is tagged; None where the engine's image store keeps none.
        pushed: digest that the registry confirmed; None where it was not pushed.
        built: what was built, layer by layer; for GPUs, before the label of the proof. None of builds that were not
            reproducible.
        proven: None where nothing was tested.
        host: None where the hosts are files of the repository, and for the CPU.
    """

    tag: str
    platform: str
    image_id: str
    digest: Digest | None
    pushed: Digest | None
    reproducible: bool
    compression: Compression
    source: SourceCommit
    base: BaseImage
    lock: LockHashes
    weights: tuple[Weight, ...]
    built: Manifest | None
    proven: Proof | None
    tools: Tools
    host: TargetHost | None = None
    schema: int = SCHEMA

    def to_json(self) -> str:
        """JSON with a newline at its end; the same value gives the same bytes."""
        return _adapter().dump_json(self, indent=2).decode() + "\n"

    @staticmethod
    def from_json(text: str, name: str) -> "Metadata":
        """Read it back.

        Args:
            name: of the file, for messages.

        Raises:
            UsageError: it is something else, or of another schema.
        """
        _check_schema(text, name)
        try:
            return _adapter().validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"{name} is not the metadata of a build: {where}: {first['msg']}", hint=_HOW) from error


def read_metadata(path: Path) -> Metadata:
    """Read a file that `mlship build --metadata` wrote.

    Raises:
        UsageError: it is not there, cannot be read, or is something else.
    """
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise UsageError(f"{path} is too large to be the metadata of a build", hint=_HOW)
        return Metadata.from_json(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not the metadata of a build: it is no text", hint=_HOW) from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", hint=f"check the path; {_HOW}") from error


def _check_schema(text: str, name: str) -> None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not the metadata of a build: it is no JSON", hint=_HOW) from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if not isinstance(schema, int) or "tag" not in found or "source" not in found:
        raise UsageError(f"{name} is not the metadata of a build", hint=_HOW)
    if schema > SCHEMA:
        raise UsageError(
            f"{name} was written by a newer mlship (schema {schema}, known: {SCHEMA})", hint="update mlship"
        )


@cache
def _adapter() -> TypeAdapter[Metadata]:
    return TypeAdapter(Metadata)
