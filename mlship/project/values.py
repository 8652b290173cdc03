"""Types of the values in mlship.yaml: each validates one kind of text."""

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated

from packaging.utils import canonicalize_name
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mlship.units import bytes_of

_PLAIN = re.compile(r"[\w@%+=:,./ -]+", re.ASCII)  # the build finds no file with another letter
SAFE_CHARACTERS = "ASCII letters, digits, spaces and @%+=:,._/-"


def _relative(text: str) -> str:
    """Validate a path inside the repository, in POSIX form, that needs no quoting anywhere."""
    path = PurePosixPath(text)
    if not text or path.is_absolute() or ".." in path.parts or "~" in path.parts[:1]:
        raise ValueError(f"{text!r} is not a path inside the repository")
    if not needs_no_quoting(text):
        raise ValueError(
            f"{text!r} has characters that are unsafe in a Dockerfile (safe are {SAFE_CHARACTERS}); rename the file"
        )
    return str(path)


def needs_no_quoting(path: str) -> bool:
    """Whether a path is literal in a Dockerfile and a .dockerignore: no pattern, variable or newline."""
    return bool(_PLAIN.fullmatch(path)) and path == path.strip() and not path.startswith("-")


def matching(pattern: str, problem: str) -> AfterValidator:
    """Validate that a whole text matches; "'x' PROBLEM" is the error of any other."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} {problem}")
        return text

    return AfterValidator(check)


def parsed_by(parse: Callable[[str], object]) -> AfterValidator:
    """Validate that a function, which raises ValueError for other texts, accepts a text."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


def printable(text: str) -> str:
    """Validate that a text has no control characters."""
    if any(not c.isprintable() for c in text):
        raise ValueError("control characters and newlines are not allowed here")
    return text


RepoPath = Annotated[str, AfterValidator(_relative)]
PlainPath = Annotated[RepoPath, Field(pattern=r"^[\w./-]+$")]  # used in a --mount option, where commas separate
Entry = Annotated[
    str, matching(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", "does not have the form package.module:function")
]
Route = Annotated[str, matching(r"/[\w./~%:-]*", "is not a URL path such as /health/ready")]
Size = Annotated[str, parsed_by(bytes_of)]
Distribution = Annotated[
    str, matching(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", "is not a package name"), AfterValidator(canonicalize_name)
]
DebianPackage = Annotated[str, matching(r"[a-z0-9][a-z0-9+.-]+", "is not a Debian package name")]
Argument = Annotated[str, AfterValidator(printable), Field(min_length=1)]
Pattern = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(printable)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Section(BaseModel):
    """A section of mlship.yaml: frozen, without unknown keys."""

    # Built once, with the whole model, when a file is read: twice as fast as section by section.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
