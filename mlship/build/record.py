"""The metadata of a build, from which the image can be rebuilt: one frozen value with JSON both ways."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from mlship.engine.base import Compression, Manifest
from mlship.errors import UsageError
from mlship.files import read_regular
from mlship.versioned import dump, parse_versioned

SCHEMA = 1
_SIZE_LIMIT = 5_000_000
_HOW = "name a file that `mlship build --metadata FILE` wrote"


def _below(path: str) -> str:
    """Refuse a path that leads out of its folder."""
    if path.startswith("/") or ".." in PurePosixPath(path).parts or "\0" in path:
        raise ValueError("the path leads out of the repository")
    return path


# These reach git's command line and the disk, and the file may come from anywhere: only safe values pass.
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
Below = Annotated[str, AfterValidator(_below)]


@dataclass(frozen=True)
class SourceCommit:
    """The code that was built; None for unknown values.

    Attributes:
        commit: full hash; describe: output of `git describe`.
        url: remote, without credentials.
        path: the project's folder in the git repository; empty for its top.
        dirty: tracked files differed from the commit.
        epoch: the image's date in seconds since 1970.
    """

    commit: Commit | None
    describe: str | None
    url: str | None
    path: Below | None
    dirty: bool | None
    epoch: int


@dataclass(frozen=True)
class BaseImage:
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
    """A model file; path relative to the project, size in bytes."""

    path: Below
    sha256: Digest
    size: int


@dataclass(frozen=True)
class Proof:
    """The device the image was proven on ("cpu", "gpu", "simulated gpu"), and its GPUs."""

    device: str
    gpus: tuple[str, ...]
    driver: str | None


@dataclass(frozen=True)
class Tools:
    """Versions of the tools that built the image."""

    mlship: str
    engine: str
    buildx: str


@dataclass(frozen=True)
class TargetHost:
    driver: str
    compute_capabilities: tuple[str, ...]


@dataclass(frozen=True)
class Metadata:
    """One successful build.

    Attributes:
        digest: digest of the tagged image's manifest; None if the engine's image store keeps none.
        pushed: digest that the registry confirmed; None if the image was not pushed.
        built: manifest of a reproducible build; for a GPU image, before the proof label was added.
        proven: None if the smoke test was skipped.
        host: None if the hosts are files of the repository, and for a CPU image.
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
        """JSON with a final newline; the same value gives the same bytes."""
        return dump(self) + "\n"

    @staticmethod
    def from_json(text: str, name: str) -> "Metadata":
        """Read metadata from JSON.

        Args:
            name: name of the file, for messages.

        Raises:
            UsageError: `text` is not metadata of a build, or has another schema.
        """
        return parse_versioned(text, Metadata, SCHEMA, f"`{name}` is not build metadata", _HOW)


def read_metadata(path: Path) -> Metadata:
    """Read a file that `mlship build --metadata` wrote.

    Raises:
        UsageError: the file does not exist, cannot be read, or is not build metadata.
    """
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise UsageError(f"`{path}` is too large to be build metadata", hint=_HOW)
        return Metadata.from_json(read_regular(path), str(path))
    except UnicodeDecodeError as error:
        raise UsageError(f"`{path}` is not build metadata: not UTF-8 text", hint=_HOW) from error
    except OSError as error:
        raise UsageError(f"cannot read `{path}`: {error.strerror or error}", hint=_HOW) from error
