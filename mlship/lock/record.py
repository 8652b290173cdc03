"""`mlship.lock`: what the requirements lock was made from, so that a changed input makes it stale."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import Field, ValidationError

from mlship.errors import LockError
from mlship.files import read_regular, write_atomic
from mlship.versioned import adapter, dump

FILE_NAME = "mlship.lock"
SCHEMA = 2
# These appear in FROM lines, so a lock edited by hand must not be able to put anything else there.
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
BaseName = Annotated[str, Field(pattern=r"^python:3\.\d+-slim-[a-z]+$")]
# Names of packages and modules, which must not lead out of the folder where bytecode is compiled.
Name = Annotated[str, Field(pattern=r"^[\w.+-]+$")]
Folder = Annotated[str, Field(pattern=r"^(\.|[\w+-][\w.+-]*(/[\w+-][\w.+-]*)*)$")]
Modules = Annotated[str, Field(pattern=r"^[\w.+-]+( [\w.+-]+)*$")]
Capabilities = Annotated[str, Field(pattern=r"^([0-9]{1,2}\.[0-9]( [0-9]{1,2}\.[0-9])*)?$")]
Majors = Annotated[str, Field(pattern=r"^([0-9]{2}( [0-9]{2})*)?$")]
CudaName = Annotated[str, Field(pattern=r"^nvidia/cuda:[0-9.]+-[a-z0-9-]+-ubuntu[0-9.]+$")]


@dataclass(frozen=True)
class MeasuredCode:
    """What some libraries of a wheel contain for GPUs, as texts such as "8.0 9.0"; see `DeviceCode`."""

    cubins: Capabilities = ""
    specific: Capabilities = ""
    ptx: Capabilities = ""
    compressed: bool = False
    cuda: Majors = ""


Code: TypeAlias = tuple[MeasuredCode, ...]


@dataclass(frozen=True)
class Trace:
    """The Python modules that the server imports before its first response: the build compiles bytecode for these.

    Folders are below site-packages or the standard library, "." for the folder itself. The modules of a folder are
    file names without ".py", sorted, on one line.

    Attributes:
        packages: folders and their modules by package.
        python: folders and their modules of the standard library.
        code: hash of the code that was served; None if an older mlship traced it.
    """

    packages: dict[Name, dict[Folder, Modules]]
    python: dict[Folder, Modules]
    code: Digest | None = None

    @property
    def count(self) -> int:
        folders = (self.python, *self.packages.values())
        return sum(len(modules.split()) for folder in folders for modules in folder.values())


@dataclass(frozen=True)
class LockRecord:
    """One `mlship lock`, written beside the requirements lock and committed with it.

    Attributes:
        inputs: what was resolved, by name: "python", "platform", "base"; "file <path>" with the sha256 of each
            requirements or constraints file; "folder <path>" with that of a package folder; for GPUs "cuda", the
            choice on one line.
        requirements: sha256 of the requirements lock as mlship wrote it.
        base: the base image without registry, such as python:3.11-slim-bookworm.
        digest: the base image's digest (sha256:...).
        resolver: for display, such as "pip-tools 7.6.2".
        images: digests of NVIDIA's images that the build copies from, by name and tag without registry.
        sizes: bytes of the wheel that each pin installs, by package; sizes that the index does not report are absent.
        trace: None if nothing was traced.
        untraced: hash of the code of a server that could not be traced with these packages.
        wheels: for GPUs, sha256 of the file that each pin installs, by package; unknown ones are absent.
        code: device code that was measured in these files, by package; absent where it was not measured.
    """

    inputs: dict[str, str]
    requirements: Digest
    base: BaseName
    digest: Digest
    resolver: str
    images: dict[CudaName, Digest] = field(default_factory=dict)
    sizes: dict[Name, int] = field(default_factory=dict)
    trace: Trace | None = None
    untraced: Digest | None = None
    wheels: dict[Name, Sha256] = field(default_factory=dict)
    code: dict[Name, Code] = field(default_factory=dict)
    schema: int = SCHEMA

    def write(self, repo: Path, name: str = FILE_NAME) -> None:
        """Write `mlship.lock` atomically; the same record gives the same bytes."""
        write_atomic(repo / name, dump(self) + "\n")


def earlier_record(repo: Path, name: str) -> LockRecord | None:
    """The record that `read_record` reads; None where it would raise."""
    with suppress(LockError):
        return read_record(repo, name)
    return None


def read_record(repo: Path, name: str = FILE_NAME) -> LockRecord:
    """Read `mlship.lock`, or the record of the lock for another platform.

    Raises:
        LockError: it is missing, malformed, or written by another version of mlship.
    """
    try:
        text = read_regular(repo / name)
        record = adapter(LockRecord).validate_json(text)
    except FileNotFoundError as error:
        raise LockError(f"no `{name}`: the dependencies have not been locked") from error
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise LockError(f"`{name}` is not a valid lock record") from error
    if record.schema > SCHEMA:
        raise LockError(f"`{name}` was written by a newer mlship", hint="update mlship, or run `mlship lock` again")
    if record.schema < SCHEMA:
        raise LockError(f"`{name}` was written by an older mlship, which did not record wheel sizes")
    return record
