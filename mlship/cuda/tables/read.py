"""What the files in mlship/data/cuda share: fields, sources, and errors that name the file, the row and the key."""

import re
import tomllib
from collections.abc import Callable, Hashable, Iterable
from typing import Annotated, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from mlship.cuda.versions import Capability, Cuda, Driver
from mlship.resources import read_package_file

_T = TypeVar("_T")
_Table = TypeVar("_Table", bound="TableFile")


def from_text(parse: Callable[[str], _T]) -> PlainValidator:
    """Read a value from its text; `parse` raises ValueError for any other text."""

    def read(value: object) -> _T:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not text")  # noqa: TRY004  pydantic reports ValueError only
        return parse(value)

    return PlainValidator(read)


def _driver(text: str) -> Driver:
    driver = Driver.parse(text)
    if driver is None:
        raise ValueError(f"{text!r} is not a driver version such as 550.54.15")
    return driver


def once(
    keys: Callable[[_T], Iterable[Hashable]], order: Callable[[_T], tuple[object, ...]] | None = None
) -> AfterValidator:
    """Reject a key that two rows share, then sort the rows; they keep the file's order where `order` is None."""

    def check(rows: tuple[_T, ...]) -> tuple[_T, ...]:
        seen: set[Hashable] = set()
        for number, row in enumerate(rows, 1):
            for key in keys(row):
                if key in seen:
                    raise ValueError(f"row {number}: {key} is listed twice")
                seen.add(key)
        return rows if order is None else tuple(sorted(rows, key=order))

    return AfterValidator(check)


def ascending(found: tuple[Capability, ...]) -> tuple[Capability, ...]:
    if list(found) != sorted(set(found)):
        raise ValueError("must ascend, without duplicates")
    return found


def _source(key: str, info: ValidationInfo[object]) -> str:
    sources = info.context
    if not isinstance(sources, dict) or key not in sources:
        raise ValueError(f"{key!r} is not listed under [sources]")
    if not _DAY.search(str(sources[key])):
        raise ValueError(f"the source {key!r} has no date on which it was read, such as 2026-11-24")
    return str(sources[key])


_DAY = re.compile(r"\b20\d\d-\d\d-\d\d\b")

Text: TypeAlias = Annotated[str, Field(pattern=r"\S")]
CudaText: TypeAlias = Annotated[Cuda, from_text(Cuda.parse)]
CapabilityText: TypeAlias = Annotated[Capability, from_text(Capability.parse)]
Capabilities: TypeAlias = Annotated[tuple[CapabilityText, ...], Field(min_length=1), AfterValidator(ascending)]
DriverText: TypeAlias = Annotated[Driver, from_text(_driver)]


class Row(BaseModel):
    """One row. `source` holds the text that the file's [sources] gives for the row's key."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    source: Annotated[Text, AfterValidator(_source)]
    note: Text | None = None

    @property
    def read_on(self) -> str:
        """The newest day on which its source was read, such as "2026-11-24"."""
        return str(max(_DAY.findall(self.source)))


class TableFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    sources: dict[str, Text]

    @property
    def read_on(self) -> str:
        """The newest day on which one of the sources was read, such as "2026-11-24"."""
        return max(_DAY.findall(" ".join(self.sources.values())), default="")


def read_table(model: type[_Table], name: str, text: str | None = None) -> _Table:
    """Read a file of mlship/data/cuda, or `text` in its place.

    Raises:
        ValueError: the file is not TOML, or has bad rows; a line for each, with the file, the row and the key.
    """
    try:
        document: dict[str, object] = tomllib.loads(read_package_file(f"data/cuda/{name}") if text is None else text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name}: is not TOML: {error}") from error
    try:
        return model.model_validate(document, context=document.get("sources"))
    except ValidationError as error:
        raise ValueError("\n".join(f"{name}: {_rejection(each, document)}" for each in error.errors())) from error


def _rejection(error: ErrorDetails, document: object) -> str:
    """Where, by row number and the row's first value, and why."""
    where: list[str] = []
    value = document
    for part in error["loc"]:
        if isinstance(value, list) and isinstance(part, int):
            value = value[part]
            first = next(iter(value.values()), "") if isinstance(value, dict) else value
            where[-1] += f" row {part + 1} ({first})"
        else:
            value = value.get(part) if isinstance(value, dict) else None
            where.append(str(part))
    return ": ".join([", ".join(where), error["msg"].removeprefix("Value error, ")])
