"""Read a facts file, recorded or hand-written. Any content gives facts or one error."""

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mlship.doctor.facts.facts import SCHEMA, Facts
from mlship.doctor.facts.host import Cdi, Docker, Packages, Toolkit
from mlship.doctor.facts.kernel import ProcDriver
from mlship.errors import UsageError
from mlship.units import first_rows
from mlship.versioned import adapter

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SIZE_LIMIT = 20_000_000
_HINT = "see docs/doctor-facts.md for the format, or run `mlship doctor --facts-schema` for its JSON schema"
_NOT_ABOUT_THE_VALUE = {"dataclass_type", "needs_python_object", "none_required"}
_SHOWN = 3
# Groups that a file may declare absent as a whole. An absent container or image leaves its facts unknown.
_CAN_BE_ABSENT: dict[str, tuple[str, ...]] = {
    "kernel.nvidia": tuple(field.name for field in fields(ProcDriver)),
    "host.packages": tuple(field.name for field in fields(Packages)),
    "host.toolkit": tuple(field.name for field in fields(Toolkit)),
    "host.cdi": tuple(field.name for field in fields(Cdi)),
    "host.docker": tuple(field.name for field in fields(Docker)),
    **dict.fromkeys(("container", "image", "container.host_config"), ()),
}


def read_facts(path: Path) -> Facts:
    """Read the facts of a file.

    Raises:
        UsageError: the file is unreadable, too large, not a facts file, or of another schema version.
    """
    try:
        with path.open("rb") as file:  # bounded, whatever it is: a pipe has no size
            data = file.read(SIZE_LIMIT + 1)
        text = data.decode()
    except OSError as error:
        raise UsageError(
            f"cannot read `{path}`: {error.strerror}", hint="check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"`{path}` is not a facts file: not UTF-8 text", hint=_HINT) from error
    if len(data) > SIZE_LIMIT:
        raise UsageError(
            f"`{path}` is not a facts file: larger than {SIZE_LIMIT // 1_000_000} MB",
            hint="record it again: `mlship doctor --record facts.json`",
        )
    return parse_facts(text, str(path))


def parse_facts(text: str, name: str) -> Facts:
    """Parse the text of a facts file.

    Args:
        name: file name for messages.

    Raises:
        UsageError: as for `read_facts`.
    """
    plain = _check_schema(text, name)
    try:
        return adapter(Facts).validate_json(json.dumps(plain) if _absent_groups(plain) else text, strict=True)
    except ValidationError as error:
        raise UsageError(f"`{name}` is not a facts file: {_first_errors(error, text)}", hint=_HINT) from error


def _absent_groups(plain: dict[str, object]) -> bool:
    """Expand null for a whole group to null for each of its facts; True if there was one."""
    found = False
    for path, names in _CAN_BE_ABSENT.items():
        *parents, last = path.split(".")
        inside: object = plain
        for part in parents:
            inside = inside.get(part) if isinstance(inside, dict) else None
        if isinstance(inside, dict) and last in inside and inside[last] is None:
            inside[last] = dict.fromkeys(names)
            found = True
    return found


def _check_schema(text: str, name: str) -> dict[str, object]:
    """Check the version first: a newer file may have unknown keys."""
    try:
        plain: object = json.loads(text)
    except RecursionError as error:
        raise UsageError(f"`{name}` is not a facts file: nested too deeply", hint=_HINT) from error
    except ValueError as error:
        raise UsageError(
            f"`{name}` is not valid JSON: {error}", hint="record it again: the file may be truncated"
        ) from error
    if not isinstance(plain, dict) or "schema" not in plain:
        raise UsageError(f'`{name}` is not a facts file: no key "schema"', hint=_HINT)
    schema: object = plain["schema"]
    if schema != SCHEMA:
        raise UsageError(
            f"unsupported facts schema {str(schema)[:40]} in `{name}` (expected {SCHEMA})",
            hint="update mlship, or record the facts again with this version",
        )
    return plain


def _first_errors(error: ValidationError, text: str) -> str:
    """The first few errors in the file, each with its key."""
    plain: object = json.loads(text)
    texts: dict[str, None] = {}
    for detail in error.errors(include_url=False, include_input=False):
        if detail["type"] not in _NOT_ABOUT_THE_VALUE and "Unreadable" not in detail["loc"]:
            texts[_error_text(detail, plain)] = None
    return "; ".join(first_rows(texts, _SHOWN)) or _error_text(error.errors()[0], plain)


def _error_text(detail: "ErrorDetails", plain: object) -> str:
    where = _path_of(detail["loc"], plain)
    what = "unknown key" if detail["type"] == "unexpected_keyword_argument" else detail["msg"]
    return f"{where}: {what[0].lower()}{what[1:200]}"


def _path_of(loc: tuple[int | str, ...], plain: object) -> str:
    """The path in the file; pydantic also names branches of unions, which are skipped."""
    parts: list[str] = []
    for part in loc:
        found, inside = _step(plain, part)
        if found or (part == loc[-1] and isinstance(plain, dict)):
            parts.append(str(part)[:80])
            plain = inside
    return ".".join(parts) or "at the top"


def _step(plain: object, part: int | str) -> tuple[bool, object]:
    if isinstance(plain, dict) and part in plain:
        return True, plain[part]
    if isinstance(plain, list) and isinstance(part, int) and part < len(plain):
        return True, plain[part]
    return False, None
