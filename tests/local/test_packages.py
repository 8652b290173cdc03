"""Wheels of package folders, built by the real pip."""

import zipfile
from pathlib import Path

import pytest

from mlship.errors import UsageError
from mlship.lock.packages import build_packages
from tests.helpers.repos import write

PROJECT = "[project]\nname = 'shared'\nversion = '1.0'\n[tool.setuptools]\npackages = ['shared']\n"


def test_the_wheel_has_the_code_and_the_folder_stays_as_it_was(tmp_path: Path) -> None:
    shared = write(tmp_path / "shared", {"pyproject.toml": PROJECT, "shared/__init__.py": "x = 1\n"})
    repo = write(tmp_path / "api", {"model.py": ""})
    (path,) = build_packages(repo, ["../shared"], {})
    assert path == "wheels/shared/shared-1.0-py3-none-any.whl"
    assert "shared/__init__.py" in zipfile.ZipFile(repo / path).namelist()
    assert sorted(entry.name for entry in shared.iterdir()) == ["pyproject.toml", "shared"]
    first = (repo / path).read_bytes()
    write(shared, {"note.txt": ""})
    assert list(build_packages(repo, ["../shared"], {"folder ../shared": "sha256:0"})) == [path]
    assert (repo / path).read_bytes() == first


def test_a_package_that_cannot_be_built_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"lib/setup.py": "raise ValueError('no')\n"})
    with pytest.raises(UsageError, match=r"the package in `lib` cannot be built to a wheel: .*no"):
        list(build_packages(tmp_path, ["lib"], {}))
    assert not (tmp_path / "wheels").exists()
