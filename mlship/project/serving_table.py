"""What serves models in Python: data/serving.toml, whose header explains the keys."""

from functools import cached_property
from typing import Literal

from mlship.versioned import TableRow, table_reader


class ServerProgram(TableRow):
    """A program that serves."""

    module: str | None = None
    package: str
    port: int | None = None
    live: str | None = None
    ready: str | None = None
    predict: str | None = None
    step: str = ""
    source: str


class AppRow(TableRow):
    """A kind of app object."""

    made_by: str
    title: str
    package: str
    command: tuple[str, ...]
    source: str


class ServingLibrary(TableRow):
    """A library that serves."""

    title: str
    marks: tuple[str, ...]
    kind: Literal["http", "other"]
    port: int | None = None
    live: str | None = None
    ready: str | None = None
    predict: str | None = None
    source: str


class ServingTable(TableRow):
    """The whole file."""

    others: frozenset[str]
    pages: dict[str, str]
    languages: dict[str, str]
    server: dict[str, ServerProgram]
    app: dict[str, AppRow]
    library: tuple[ServingLibrary, ...]

    @cached_property
    def programs(self) -> dict[str, ServerProgram]:
        """By name, and by what `python -m` runs."""
        return {row.module: row for row in self.server.values() if row.module} | self.server

    @cached_property
    def by_mark(self) -> dict[str, ServingLibrary]:
        return {mark: row for row in self.library for mark in row.marks}


serving_table = table_reader(ServingTable, "serving")
