"""Every row of data/conda.toml is a valid name, and no package is in two parts of it."""

import re

from packaging.requirements import Requirement

from mlship.init.declared.conda import conda_table


def test_every_row_is_valid() -> None:
    table = conda_table()
    for name, line in table.names.items():
        assert name == name.lower()
        assert Requirement(line).specifier == ""
    for packages in table.system.values():
        assert packages
        assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", package) for package in packages)
    assert not table.names.keys() & table.system.keys()
    assert not {*table.names, *table.system} & {*table.parts}
