"""Reading a facts file that somebody recorded or wrote by hand: whatever is in it, the answer is facts or one error."""

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mlship.doctor.facts.engine import Docker
from mlship.doctor.facts.facts import SCHEMA, Facts, adapter
from mlship.doctor.facts.host import Packages
from mlship.doctor.facts.kernel import ProcDriver
from mlship.doctor.facts.toolkit import Cdi, Toolkit
from mlship.errors import UsageError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SIZE_LIMIT = 20_000_000
_HINT = "docs/doctor-facts.md describes the format, `mlship doctor --facts-schema` prints its JSON schema"
_NOT_ABOUT_THE_VALUE = {"dataclass_type", "needs_python_object", "none_required"}
_SHOWN = 3
# Groups that a writer may call absent as a whole. Without a container or an image in question, nothing is known of it.
_CAN_BE_ABSENT: dict[str, tuple[str, ...]] = {
    "kernel.nvidia": tuple(field.name for field in fields(ProcDriver)),
    "host.packages": tuple(field.name for field in fields(Packages)),
    "host.toolkit": tuple(field.name for field in fields(Toolkit)),
    "host.cdi": tuple(field.name for field in fields(Cdi)),
    "host.docker": tuple(field.name for field in fields(Docker)),
    **dict.fromkeys(("container", "image", "container.host_config"), ()),
}


def read_facts(path: Path) -> Facts:
    """The facts of a file.

    Raises:
        UsageError: it cannot be read, is too large, is no facts file, or one of another schema.
    """
    try:
        with path.open("rb") as file:  # bounded, whatever it is: a pipe has no size
            data = file.read(SIZE_LIMIT + 1)
        text = data.decode()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text, so it is no facts file", hint=_HINT) from error
    if len(data) > SIZE_LIMIT:
        raise UsageError(
            f"{path} is larger than {SIZE_LIMIT // 1_000_000} MB, so it is no facts file",
            hint="record it again: `mlship doctor --record facts.json`",
        )
    return parse_facts(text, str(path))


def parse_facts(text: str, name: str) -> Facts:
    """The facts in a text.

    Args:
        name: of the file, for messages.

    Raises:
        UsageError: as `read_facts`.
    """
    plain = _check_schema(text, name)
    try:
        return adapter().validate_json(json.dumps(plain) if _absent_groups(plain) else text, strict=True)
    except ValidationError as error:
        raise UsageError(f"{name} is not a facts file: {_first_slips(error, text)}", hint=_HINT) from error


def _absent_groups(plain: dict[str, object]) -> bool:
    """Null for a whole group says that none of it is there; True where there was one, and it was written out."""
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
    """The number comes first: a newer file has keys that this mlship does not know."""
    try:
        plain: object = json.loads(text)
    except RecursionError as error:
        raise UsageError(f"{name} is not a facts file: it is nested too deeply", hint=_HINT) from error
    except ValueError as error:
        raise UsageError(f"{name} is not JSON: {error}", hint="record it again; it may be cut off") from error
    if not isinstance(plain, dict) or "schema" not in plain:
        raise UsageError(f'{name} is not a facts file: it has no "schema"', hint=_HINT)
    schema: object = plain["schema"]
    if schema != SCHEMA:
        raise UsageError(
            f"{name} was written by another mlship (facts schema {str(schema)[:40]}, known: {SCHEMA})",
            hint="update mlship, or record the facts again with this one",
        )
    return plain


def _first_slips(error: ValidationError, text: str) -> str:
    """Where the file is wrong, as its writer would say it; the first few."""
    plain: object = json.loads(text)
    slips: dict[str, None] = {}
    for detail in error.errors(include_url=False, include_input=False):
        if detail["type"] not in _NOT_ABOUT_THE_VALUE and "Unreadable" not in detail["loc"]:
            slips[_slip(detail, plain)] = None
    shown = list(slips)[:_SHOWN] or [_slip(error.errors()[0], plain)]
    return "; ".join(shown) + (f"; and {len(slips) - _SHOWN} more" if len(slips) > _SHOWN else "")


def _slip(detail: "ErrorDetails", plain: object) -> str:
    where = _place(detail["loc"], plain)
    what = "there is no such key" if detail["type"] == "unexpected_keyword_argument" else detail["msg"]
    return f"{where}: {what[0].lower()}{what[1:200]}"


def _place(loc: tuple[int | str, ...], plain: object) -> str:
    """The branches of unions are named too; only what is really in the file is a place in it."""
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
