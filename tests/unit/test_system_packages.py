"""system_packages.toml: every row is well formed, and names are right for each Debian release."""

import re
from typing import get_args

import pytest
from packaging.utils import is_normalized_name
from packaging.version import Version

from mlship.project.config import Base
from mlship.system_packages import debian_name, package_of_library, system_needs, system_table

TABLE = system_table()
DISTROS = get_args(Base.model_fields["distro"].annotation)


def test_every_row_is_well_formed() -> None:
    for row in TABLE.rows:
        assert row.run or row.build
        assert row.source
        assert row.below is None or str(Version(row.below)) == row.below
        assert all(is_normalized_name(name) for name in row.distributions)
    assert DISTROS == ("bookworm", "trixie")


def test_every_package_is_a_debian_name_and_every_other_name_is_used() -> None:
    packages = {package for row in TABLE.rows for package in (*row.run, *row.build)}
    packages |= {*TABLE.libraries.values(), *TABLE.programs.values()}
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name) for name in (*packages, *TABLE.trixie.values()))
    assert TABLE.trixie.keys() <= packages


def test_names_differ_by_release() -> None:
    assert debian_name("libglib2.0-0", "bookworm") == "libglib2.0-0"
    assert debian_name("libglib2.0-0", "trixie") == "libglib2.0-0t64"
    assert package_of_library("libgthread-2.0.so.0", "trixie") == "libglib2.0-0t64"
    assert package_of_library("libGL.so.1", "trixie") == "libgl1"
    assert package_of_library("libnothing.so.1", "bookworm") is None


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        ("opencv-python", True),
        ("OpenCV_Python>=4  # import cv2", True),
        ("opencv-python-headless", False),
        ("soundfile", False),
        ("soundfile>=0.10", False),
        ("soundfile==0.10.3", True),
        ("soundfile<0.11", True),
        ("soundfile==0.12.1", False),
        ("soundfile==0.10.*", True),
        ("psycopg2-binary", False),
        ("psycopg2==2.9 --hash=sha256:00", True),
        ("not a requirement", False),
    ],
)
def test_requirement_lines(line: str, needed: bool) -> None:
    assert bool(list(system_needs([line]))) == needed


def test_an_alternative_is_named() -> None:
    ((name, row),) = system_needs(["opencv-contrib-python==5.0"])
    assert row.alternative(name) == "opencv-contrib-python-headless"
