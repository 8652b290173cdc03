"""Find credentials in the files that go into the image, by their content: names miss most of them."""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

from mlship.errors import UsageError
from mlship.known_texts import phrase
from mlship.project.contents import is_binary, parts_of, searchable_text
from mlship.project.paths import is_private, shipped_paths
from mlship.units import few
from mlship.versioned import table_reader

_SHOWN = 50
_WORDS = re.compile(
    r"(?i)(?:my|your|the|db|some|super|strong|user|test|[_.-])*(?:passw(?:or|0r)d|passwd|pass|pwd|secret|token|user(?:name)?|"
    r"api_?key|key|postgres|mysql|root|admin|letmein|test)+[\d!@#_-]{0,4}"
)
Decode: TypeAlias = Literal["password", "basic", "jwt"]


@dataclass(frozen=True)
class Credential:
    """Where a credential is, and what it is, but never the credential.

    Attributes:
        what: such as "an AWS access key".
        line: from 1; None in a binary file.
    """

    what: str
    line: int | None


@dataclass(frozen=True)
class _Row:
    """A row of data/credentials.toml."""

    what: str
    texts: tuple[str, ...]
    pattern: str
    source: str
    unless: str | None = None
    decode: Decode | None = None

    def found(self, data: bytes) -> Iterator[Credential]:
        if not any(text.encode() in data for text in self.texts):
            return
        if self.unless and re.search(self.unless.encode(), data):
            return
        for match in re.finditer(self.pattern.encode(), data):
            value = (match.groupdict().get("value") or b"").decode("ascii", "replace")
            if not re.search(_table().placeholder, value) and (self.decode is None or _DECODES[self.decode](value)):
                yield Credential(self.what, data.count(b"\n", 0, match.start()) + 1)


@dataclass(frozen=True)
class _Table:
    """data/credentials.toml; what matches `placeholder` is no credential."""

    placeholder: str
    row: tuple[_Row, ...]


def _is_password(value: str) -> bool:
    return not _WORDS.fullmatch(value)


def _is_basic(value: str) -> bool:
    """Whether it is base64 of `user:password`, as in an Authorization header."""
    with suppress(ValueError):
        _user, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
        return bool(colon) and len(password) > 1 and password.isprintable() and _is_password(password)
    return False


def _is_jwt(value: str) -> bool:
    """Whether its parts are JSON; the sample of jwt.io and keys for anonymous users are public."""
    with suppress(ValueError):
        header, claims = (json.loads(base64.urlsafe_b64decode(part + "===")) for part in value.split(".")[:2])
        known = isinstance(header, dict) and isinstance(claims, dict) and "alg" in header
        return known and claims.get("role") != "anon" and claims.get("sub") != "1234567890"
    return False


_DECODES: dict[Decode, Callable[[str], bool]] = {"password": _is_password, "basic": _is_basic, "jwt": _is_jwt}


_table = table_reader(_Table, "credentials")


def find_credentials(data: bytes) -> Iterator[Credential]:
    """The credentials in the content of a file."""
    text = searchable_text(data)
    for row in _table().row:
        for found in row.found(text):
            yield replace(found, line=None) if is_binary(data) else found


def check_credentials(repo: Path, shipped: Iterable[str], meant: Iterable[str]) -> None:
    """Check that no shipped file holds a credential.

    Args:
        shipped: files and folders below `repo`; what the image leaves out of folders is not read.
        meant: files that may hold one.

    Raises:
        UsageError: one does; it is named with its line, without its value.
    """
    allowed = set(meant)
    files = (path for path in _files(repo, shipped) if path not in allowed)
    found = {path: credential for path in files for credential in islice(_credentials_of(repo / path), 1)}
    if found:
        shown = (f"`{path}` {f'line {each.line} ' if each.line else ''}({each.what})" for path, each in found.items())
        raise UsageError(
            "credentials would be in the image, where everyone who pulls it can read them: "
            + few(shown, _SHOWN)
            + " files" * (len(found) > _SHOWN),
            hint=phrase("credentials").format(next(iter(found))),
        )


def _credentials_of(path: Path) -> Iterator[Credential]:
    """The credentials in a file, and in the members of an archive."""
    for member, data in parts_of(path):
        for found in find_credentials(data):
            yield replace(found, what=f"{found.what}, in `{member}`") if member else found


def check_values(name: str, text: str) -> None:
    """Check that what the image gets from a file, as labels and environment, holds no credential.

    Raises:
        UsageError: it does.
    """
    for found in find_credentials(text.encode()):
        raise UsageError(
            f"{name} would put {found.what} into the image, where everyone who pulls it can read it",
            hint="set it when the container starts; values that only the smoke test needs belong in `smoke.env`",
        )


def _files(repo: Path, shipped: Iterable[str]) -> Iterator[str]:
    for path in dict.fromkeys(shipped):
        if not (repo / path).is_dir():
            yield path
        for place in shipped_paths(repo / path):
            if not place.is_dir() and not any(map(is_private, place.relative_to(repo / path).parts)):
                yield place.relative_to(repo).as_posix()
