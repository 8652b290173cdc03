"""imports.toml: every row is well formed, and a name that it does not list has no distribution."""

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlship.imports import (
    candidates_for,
    distribution_of,
    import_table,
    in_standard_library,
    is_namespace,
    known_modules,
    requirement_for,
)

TABLE = import_table()


def test_every_row_is_listed_once_and_has_a_source() -> None:
    rows = [module for group in TABLE.groups for module in (*group.same, *group.differ)]
    assert len(rows) == len(set(rows)) > 700
    assert {group.source for group in TABLE.groups} <= TABLE.sources.keys()
    assert not {*TABLE.unclear, *TABLE.removed} & set(rows)


def test_every_row_is_a_module_outside_the_standard_library_and_a_requirement() -> None:
    for module, line in known_modules().items():
        assert re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", module)
        assert module.partition(".")[0] not in sys.stdlib_module_names - TABLE.removed.keys()
        assert not Requirement(line).url
        assert Requirement(line).name == canonicalize_name(Requirement(line).name)


@pytest.mark.parametrize(
    ("module", "distribution"),
    [
        ("attr", "attrs"),
        ("faiss", "faiss-cpu"),
        ("google", None),
        ("google.cloud.storage.blob", "google-cloud-storage"),
        ("google.protobuf.message", "protobuf"),
        ("hummingbird.ml", "hummingbird-ml"),
        ("mpl_toolkits.mplot3d", "matplotlib"),
        ("opentelemetry", None),
        ("opentelemetry.trace", "opentelemetry-api"),
        ("pkg_resources", "setuptools"),
        ("sklearn.svm", "scikit-learn"),
        ("umap", "umap-learn"),
        ("whisper", "openai-whisper"),
        ("utils", None),
        ("sklearn_extra_of_mine", None),
    ],
)
def test_distribution_of(module: str, distribution: str | None) -> None:
    assert distribution_of(module) == distribution


@given(st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(lambda name: name not in known_modules()))
def test_a_name_that_is_not_listed_has_no_distribution(name: str) -> None:
    assert distribution_of(name) is None


def test_modules_that_left_the_standard_library() -> None:
    assert in_standard_library("distutils.util", "3.11")
    assert requirement_for("distutils.util", "3.11") is None
    assert not in_standard_library("distutils.util", "3.12")
    assert requirement_for("distutils.util", "3.12") == "setuptools"
    assert requirement_for("imp", "3.12") is None
    assert not in_standard_library("imp", "3.12")


def test_unclear_names_have_candidates_and_no_requirement() -> None:
    assert candidates_for("clip")[0].startswith("git+https://")
    assert requirement_for("clip.model") is None
    assert is_namespace("google.cloud")
    assert not is_namespace("numpy")
