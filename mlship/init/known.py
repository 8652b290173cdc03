"""What data/init.toml knows of code that loads models, and the steps of `mlship init`."""

import re

from mlship.versioned import TableRow, table_reader


class InitTable(TableRow):
    """data/init.toml, whose header explains the keys."""

    patterns: dict[str, re.Pattern[str]]
    names: dict[str, frozenset[str]]
    steps: dict[str, str]
    notes: dict[str, str]
    routes: dict[str, str]
    writers: dict[str, tuple[int, str]]


init_table = table_reader(InitTable, "init")
