"""The files of facts, row by row: everything a row says is asked for, with its type, or the row is refused."""

import re
import tomllib
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

from mlship.cuda.versions import Capability, Cuda, Driver
from mlship.resources import read_package_file

_T = TypeVar("_T")
_SOURCES = "sources"


class Row:
    """One row of a file of facts.

    Every method raises ValueError, naming the file, the row and the reason, where the row holds something else.
    """

    def __init__(self, where: str, values: dict[str, object], sources: dict[str, str]) -> None:
        self.where = where
        self._left = dict(values)
        self._sources = sources

    def wrong(self, reason: str) -> ValueError:
        """The error that refuses this row."""
        return ValueError(f"{self.where}: {reason}")

    def done(self) -> None:
        """Refuse what nobody asked for: a key that is misspelt is a fact that is lost."""
        if self._left:
            raise self.wrong(f"unknown key {', '.join(sorted(self._left))}")

    def source(self) -> str:
        """Where the fact comes from, as the file's own list of sources tells it."""
        key = self.text("source")
        if key not in self._sources:
            raise self.wrong(f"its source {key!r} is not listed under [{_SOURCES}]")
        return self._sources[key]

    def text_or_none(self, key: str) -> str | None:
        value = self._left.pop(key, None)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(f"{key} must be text, and is {value!r}")
        return value

    def text(self, key: str) -> str:
        return self._needed(key, self.text_or_none(key))

    def number_or_none(self, key: str) -> int | None:
        value = self._left.pop(key, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self.wrong(f"{key} must be a whole number, and is {value!r}")
        return value

    def number(self, key: str) -> int:
        return self._needed(key, self.number_or_none(key))

    def flag(self, key: str) -> bool:
        """A boolean; False where the row does not have it."""
        value = self._left.pop(key, False)
        if not isinstance(value, bool):
            raise self.wrong(f"{key} must be true or false, and is {value!r}")
        return value

    def texts_or_none(self, key: str) -> tuple[str, ...] | None:
        value = self._left.pop(key, None)
        if value is None:
            return None
        if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
            raise self.wrong(f"{key} must be a list of texts, and is {value!r}")
        return tuple(str(item) for item in value)

    def texts(self, key: str) -> tuple[str, ...]:
        return self._needed(key, self.texts_or_none(key))

    def numbers(self, key: str) -> tuple[int, ...]:
        value = self._left.pop(key, [])
        if not isinstance(value, list) or any(isinstance(item, bool) or not isinstance(item, int) for item in value):
            raise self.wrong(f"{key} must be a list of whole numbers, and is {value!r}")
        return tuple(item for item in value if isinstance(item, int))

    def choice(self, key: str, allowed: tuple[_T, ...]) -> _T:
        """One of the allowed texts, typed as such."""
        value = self.text(key)
        for item in allowed:
            if item == value:
                return item
        raise self.wrong(f"{key} must be one of {', '.join(map(str, allowed))}, and is {value!r}")

    def choice_or_none(self, key: str, allowed: tuple[_T, ...]) -> _T | None:
        return self.choice(key, allowed) if key in self._left else None

    def cuda_or_none(self, key: str) -> Cuda | None:
        return self._parsed(key, Cuda.parse)

    def cuda(self, key: str) -> Cuda:
        return self._needed(key, self.cuda_or_none(key))

    def capability_or_none(self, key: str) -> Capability | None:
        return self._parsed(key, Capability.parse)

    def capabilities_or_none(self, key: str) -> tuple[Capability, ...] | None:
        """Compute capabilities in ascending order, each once."""
        texts = self.texts_or_none(key)
        if texts is None:
            return None
        found = tuple(self._as(key, text, Capability.parse) for text in texts)
        if list(found) != sorted(set(found)):
            raise self.wrong(f"{key} must ascend, each once")
        return found

    def capabilities(self, key: str) -> tuple[Capability, ...]:
        return self._needed(key, self.capabilities_or_none(key))

    def driver_or_none(self, key: str) -> Driver | None:
        return self._parsed(key, _driver)

    def driver(self, key: str) -> Driver:
        return self._needed(key, self.driver_or_none(key))

    def pattern(self, key: str) -> re.Pattern[str]:
        """A regular expression that ignores case."""
        return self._as(key, self.text(key), _pattern)

    def rows(self, key: str) -> "Iterator[Row]":
        """Rows within this row."""
        value = self._left.pop(key, [])
        if not isinstance(value, list):
            raise self.wrong(f"{key} must be a list of rows, and is {value!r}")
        for number, item in enumerate(value, 1):
            yield Row(f"{self.where}, {_named(key, number, item)}", _mapping(item, self.where), self._sources)

    def _parsed(self, key: str, parse: Callable[[str], _T]) -> _T | None:
        text = self.text_or_none(key)
        return None if text is None else self._as(key, text, parse)

    def _as(self, key: str, text: str, parse: Callable[[str], _T]) -> _T:
        try:
            return parse(text)
        except ValueError as error:
            raise self.wrong(f"{key}: {error}") from error

    def _needed(self, key: str, value: _T | None) -> _T:
        if value is None:
            raise self.wrong(f"has no {key}")
        return value


def read_rows(name: str, kinds: tuple[str, ...], text: str | None = None) -> dict[str, tuple[Row, ...]]:
    """The rows of one file, by kind.

    Args:
        name: of the file below mlship/data/cuda.
        kinds: every table of rows that the file must hold; it may hold no other.
        text: what the file holds; None reads mlship's own.

    Raises:
        ValueError: it is not TOML, or its tables are others.
    """
    try:
        document: dict[str, object] = tomllib.loads(read_package_file(f"data/cuda/{name}") if text is None else text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name}: is not TOML: {error}") from error
    if set(document) != {*kinds, _SOURCES}:
        raise ValueError(f"{name}: must hold exactly {', '.join((*kinds, _SOURCES))}, and holds {', '.join(document)}")
    listed = _mapping(document[_SOURCES], f"{name}: {_SOURCES}")
    sources = {key: value for key, value in listed.items() if isinstance(value, str) and value.strip()}
    if len(sources) != len(listed):
        raise ValueError(f"{name}: every source must be a text that says where to look")
    root = Row(name, {kind: document[kind] for kind in kinds}, sources)
    return {kind: tuple(root.rows(kind)) for kind in kinds}


def _named(kind: str, number: int, item: object) -> str:
    """What a row is called in messages: its number, and the first thing that it says."""
    first = next(iter(item.values()), "") if isinstance(item, dict) else ""
    return f"{kind} row {number}" + (f" ({first})" if isinstance(first, str | int) and first else "")


def _mapping(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: a row must be a table, and is {value!r}")  # noqa: TRY004  one error for a bad file
    return {str(key): item for key, item in value.items()}


def _driver(text: str) -> Driver:
    driver = Driver.parse(text)
    if driver is None:
        raise ValueError(f"{text!r} is not a driver version such as 550.54.15")
    return driver


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from error


def once(rows: Iterable[Row], read: Callable[[Row], _T], keys: Callable[[_T], Iterable[Hashable]]) -> tuple[_T, ...]:
    """Every row as a value.

    Raises:
        ValueError: see Row; a row says what nobody asks for, or shares a key with one before it.
    """
    found: list[_T] = []
    seen: set[Hashable] = set()
    for row in rows:
        item = read(row)
        row.done()
        for key in keys(item):
            if key in seen:
                raise row.wrong(f"{key} stands twice")
            seen.add(key)
        found.append(item)
    return tuple(found)
