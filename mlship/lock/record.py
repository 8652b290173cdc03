"""`mlship.lock`: what the requirements lock was made from; a changed input makes it stale, never silently wrong."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from mlship.errors import LockError
from mlship.files import write_atomic

FILE_NAME = "mlship.lock"
SCHEMA = 1
# These reach FROM, so a lock edited by hand must not be able to say anything else there.
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
BaseName = Annotated[str, Field(pattern=r"^python:3\.\d+-slim-[a-z]+$")]
CudaName = Annotated[str, Field(pattern=r"^nvidia/cuda:[0-9.]+-[a-z0-9-]+-ubuntu[0-9.]+$")]

HINT = "run `mlship lock` and commit what it writes"


@dataclass(frozen=True)
class LockRecord:
    """One `mlship lock`, written beside the requirements lock and committed with it.

    Attributes:
        inputs: what was resolved, by name: "python", "platform", "base", and one entry "file <path>" for each
            requirements or constraints file read, as sha256 of its text; for GPUs "cuda", the choice in a line.
        requirements: sha256 of the requirements lock as mlship wrote it; another one was edited by hand.
        base: the base image without registry, such as python:3.11-slim-bookworm.
        digest: the base image's digest (sha256:...).
        resolver: for people: "pip-tools 7.6.2".
        images: digests of NVIDIA's images that something is taken from, by name and tag without registry.
    """

    inputs: dict[str, str]
    requirements: Digest
    base: BaseName
    digest: Digest
    resolver: str
    images: dict[CudaName, Digest] = field(default_factory=dict)
    schema: int = SCHEMA

    def write(self, repo: Path) -> None:
        """Write `mlship.lock`, atomically; the same record gives the same bytes."""
        write_atomic(repo / FILE_NAME, _adapter().dump_json(self, indent=2).decode() + "\n")


def read_record(repo: Path) -> LockRecord:
    """Read `mlship.lock`.

    Raises:
        LockError: it is missing, malformed or of a newer mlship.
    """
    try:
        text = (repo / FILE_NAME).read_text(encoding="utf-8")
        record = _adapter().validate_json(text)
    except FileNotFoundError as error:
        raise LockError(f"there is no {FILE_NAME}: the dependencies were never locked", hint=HINT) from error
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise LockError(f"{FILE_NAME} cannot be read: it is not what mlship wrote", hint=HINT) from error
    if record.schema != SCHEMA:
        raise LockError(f"{FILE_NAME} was written by a newer mlship", hint="update mlship, or " + HINT)
    return record


@cache
def _adapter() -> TypeAdapter[LockRecord]:
    return TypeAdapter(LockRecord)
