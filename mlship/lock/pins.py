"""The requirements lock as a value: exact versions with hashes, and no option that would bypass them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from mlship.errors import LockError
from mlship.lock.record import Code
from mlship.requirement_line import parse_requirement
from mlship.units import first_rows

_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HASH = re.compile(r"(?:^|\s)--hash(?:=|\s+)(\S+)")
_COMMENT = re.compile(r"(^|\s)#.*$")


@dataclass(frozen=True)
class Pin:
    """One locked distribution.

    Attributes:
        name: canonical (PEP 503).
        hashes: in pip's form, such as "sha256:<hex>"; a file must match one of them.
        marker: when it is installed; None for always.
        url: the address of the wheel, for a pin that names one.
        code: device code that was measured in its wheel; empty where it was not.
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    marker: str | None = None
    extras: tuple[str, ...] = ()
    url: str | None = None
    code: Code = ()


def parse_lock(text: str, name: str) -> tuple[Pin, ...]:
    """Read a lock in pip's requirements format.

    Args:
        name: the file name, for messages.

    Raises:
        LockError: a line is not a pin, or its pin would be installed unchecked; the message has line numbers.
    """
    pins: dict[str, Pin] = {}
    problems: list[str] = []
    for number, line in joined_lines(text):
        try:
            pin = _pin(line)
        except _RefusedError as refusal:
            problems.append(f"{name}, line {number}: {refusal}")
            continue
        if pin.name in pins:
            problems.append(f"{name}, line {number}: `{pin.name}` is pinned twice")
        pins[pin.name] = pin
    if problems:
        raise LockError("\n".join(first_rows(problems, 8)))
    return tuple(pins.values())


def with_code(pins: Iterable[Pin], code: Mapping[str, Code]) -> tuple[Pin, ...]:
    """The same pins with their measured code."""
    return tuple(replace(pin, code=code.get(pin.name, ())) for pin in pins)


class _RefusedError(Exception):
    """Why a line is not a pin."""


def joined_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, joined at backslashes, with the number of their first line."""
    start, parts = 0, list[str]()
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.rstrip("\r")
        continued = line.endswith("\\") and not line.lstrip().startswith("#")
        start = start or number
        parts.append(_COMMENT.sub("", line.removesuffix("\\") if continued else line))
        if continued:
            continue
        if joined := " ".join(parts).strip():
            yield start, joined
        start, parts = 0, []
    if joined := " ".join(parts).strip():
        yield start, joined


def _pin(line: str) -> Pin:
    if line.startswith("-"):
        raise _RefusedError(_option(line.split(maxsplit=1)[0].split("=", maxsplit=1)[0]))
    hashes = tuple(_hash(text) for text in _HASH.findall(line))
    requirement = _requirement(_HASH.sub("", line).strip())
    version = _wheel_version(requirement) if requirement.url else _exact_version(requirement)
    if not hashes:
        raise _RefusedError(f"`{requirement.name}` has no --hash, so any file could be installed in its place")
    return Pin(
        name=canonicalize_name(requirement.name),
        version=version,
        hashes=hashes,
        marker=str(requirement.marker) if requirement.marker else None,
        extras=tuple(sorted(requirement.extras)),
        url=requirement.url,
    )


def _option(option: str) -> str:
    """Show the option only: an index address may hold a password."""
    if option in {"-e", "--editable"}:
        return "an editable install has no hash; list your own code under `source` in mlship.yaml"
    return f"{option} does not belong in the lock; configure indexes in pip"


def _hash(text: str) -> str:
    algorithm, _, digest = text.partition(":")
    if not re.fullmatch(r"[0-9a-f]+", digest) or len(digest) != _DIGITS.get(algorithm):
        raise _RefusedError("a --hash is not sha256:, sha384: or sha512: followed by its hexadecimal digits")
    return text


def _requirement(text: str) -> Requirement:
    if parsed := parse_requirement(text):
        return parsed
    shown = "an address without a name" if "://" in text else repr(text[:60])
    raise _RefusedError(f"{shown} does not have the form name==version --hash=sha256:...")


def _exact_version(requirement: Requirement) -> str:
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator != "==" or specifiers[0].version.endswith("*"):
        raise _RefusedError(f"`{requirement.name}` is not pinned to one version with ==")
    return specifiers[0].version


def _wheel_version(requirement: Requirement) -> str:
    """The version in a wheel's file name; any other file would have to be built before it can be checked."""
    name = requirement.name
    try:
        url = urlsplit(requirement.url or "")
        file = PurePosixPath(unquote(url.path)).name
        wheel, version, *_ = parse_wheel_filename(file)
    except (ValueError, InvalidWheelFilename) as error:
        raise _RefusedError(f"the address of `{name}` is not a wheel, so it would be built unchecked") from error
    if url.scheme != "https" or wheel != canonicalize_name(name):
        raise _RefusedError(f"`{name}` does not come from an https:// address of its own wheel")
    if url.username or url.password:
        raise _RefusedError(f"the address of `{name}` contains a password; move it to `~/.netrc`")
    return str(version)
