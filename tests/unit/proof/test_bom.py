"""The bill of materials is valid CycloneDX, and names each package as other programs do."""

import json
import shutil
import subprocess
import sys
from email import message_from_string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packageurl import PackageURL

from mlship.proof.bom import Inventory, make_bom
from mlship.proof.statement import resource
from mlship.resources import read_package_file
from mlship.smoke.inside.installed import debian_licenses, debian_packages, python_licenses

DIGEST = f"sha256:{'a' * 64}"
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
PACKAGES = st.lists(st.tuples(TEXT, TEXT), max_size=4, unique=True).map(tuple)
DEBS = st.lists(st.tuples(TEXT, TEXT, st.sampled_from(["all", "amd64"])), max_size=4, unique=True).map(tuple)


def components(installed: Inventory, *weights: str) -> list[dict[str, str]]:
    from cyclonedx.schema import SchemaVersion  # its grammars take seconds to compile
    from cyclonedx.validation.json import JsonStrictValidator

    made = make_bom("registry.example.com/team/model", "1", DIGEST, installed, [resource(w, DIGEST) for w in weights])
    assert made == make_bom(
        "registry.example.com/team/model", "1", DIGEST, installed, [resource(w, DIGEST) for w in weights]
    )
    text = made.data.decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found: list[dict[str, str]] = json.loads(text)["components"]
    return found


@pytest.mark.slow
@given(wheels=PACKAGES, debs=DEBS, weights=st.lists(TEXT, max_size=2, unique=True))
def test_every_package_is_named_once(
    wheels: tuple[tuple[str, str], ...], debs: tuple[tuple[str, str, str], ...], weights: list[str]
) -> None:
    found = components(Inventory("3.11.9", "debian", "12", wheels, debs), *weights)
    libraries = [row for row in found if row["type"] == "library"]
    assert [(row["name"], row["version"]) for row in libraries] == [*wheels, *((name, v) for name, v, _ in debs)]
    assert [row["name"] for row in found if row["type"] == "machine-learning-model"] == weights


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wheels", "debs", "purl"),
    [
        ((("PyYAML", "6.0"),), (), "pkg:pypi/pyyaml@6.0"),
        ((("torch", "2.9.0+cu128"),), (), "pkg:pypi/torch@2.9.0%2Bcu128"),
        (
            (),
            (("libstdc++6", "12.2.0-14", "amd64"),),
            "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64&distro=debian-12",
        ),
        ((), (("libgomp1", "1:2~a", "amd64"),), "pkg:deb/debian/libgomp1@1:2~a?arch=amd64&distro=debian-12"),
    ],
)
def test_package_urls_are_canonical(
    wheels: tuple[tuple[str, str], ...], debs: tuple[tuple[str, str, str], ...], purl: str
) -> None:
    found = components(Inventory("3.11.9", "debian", "12", wheels, debs))[-1]["purl"]
    assert found == purl
    assert PackageURL.from_string(purl).to_string() == purl


def test_the_program_lists_what_this_machine_has() -> None:
    """dpkg is the judge of the packages, this process of the distributions."""
    code = read_package_file("smoke/inside/installed.py")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "hypothesis" in dict(found["wheels"])
    if shutil.which("dpkg-query"):
        form = "${Package} ${Version} ${Architecture} ${db:Status-Status}\n"
        query = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True, timeout=60)
        rows = (line.rsplit(" ", 1) for line in query.stdout.splitlines())
        assert sorted(" ".join(row) for row in found["debs"]) == sorted(
            row for row, state in rows if state == "installed"
        )


def test_removed_and_damaged_packages_are_left_out() -> None:
    text = """Package: a
Status: install ok installed
Architecture: amd64
Description: first line
 Version: no field
Version: 1.0

Package: b
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: c
Status: install ok installed
"""
    assert debian_packages(text) == [("a", "1.0", "amd64")]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: other", ("MIT OR Apache-2.0", [])),
        ("License: BSD 3-Clause", ("", ["BSD 3-Clause"])),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License", ("", ["MIT License"])),
        ("License: Copyright 2020\n        All rights", ("", [])),
        (f"License: {'x' * 101}\nClassifier: License :: OSI Approved", ("", [])),
        ("Classifier: Programming Language :: Python", ("", [])),
        ("Classifier: License :: B\nClassifier: License :: OSI Approved :: A", ("", ["A", "B"])),
    ],
)
def test_the_license_of_a_wheel_is_its_expression_or_its_name(lines: str, found: tuple[str, list[str]]) -> None:
    assert python_licenses(message_from_string(f"Name: a\n{lines}\n\n")) == found


def test_the_licenses_of_a_debian_package_are_those_of_its_files() -> None:
    text = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
License: header

Files: *
Copyright: a
License: GPL-2+

Files: b c
Copyright: b
License: Expat
 text
 License: no field

License: GPL-2+
 text
"""
    assert debian_licenses(text) == ["Expat", "GPL-2+"]
    assert debian_licenses(text.replace("Format", "X")) == []
    assert debian_licenses("") == []


@pytest.mark.slow
def test_licenses_are_valid_and_unknown_ones_are_left_out() -> None:
    found = components(
        Inventory(
            "3.11.9",
            "debian",
            "12",
            (("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")),
            (("e", "1", "all"),),
            expressions={"a": "mit or apache-2.0", "b": "not spdx"},
            licenses={"c": ("BSD", "MIT License")},
            copyrights={"e": ("GPL-2+",)},
        )
    )
    assert {row["name"]: row.get("licenses") for row in found if row["type"] == "library"} == {
        "a": [{"expression": "MIT OR Apache-2.0"}],
        "b": [{"license": {"name": "not spdx"}}],
        "c": [{"license": {"name": "BSD"}}, {"license": {"name": "MIT License"}}],
        "d": None,
        "e": [{"license": {"name": "GPL-2+"}}],
    }


def test_the_program_lists_licenses_of_this_machine() -> None:
    code = read_package_file("smoke/inside/installed.py")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    assert found["expressions"]["hypothesis"] == "MPL-2.0"
    if Path("/usr/share/doc/dpkg/copyright").exists() and "dpkg" in {name for name, *_ in found["debs"]}:
        assert "GPL-2+" in found["copyrights"]["dpkg"]
