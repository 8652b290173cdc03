"""The scikit-learn that wrote a model is found in every protocol and container, without loading anything."""

import bz2
import gzip
import json
import lzma
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.project.sklearn_version import sklearn_of

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
STATE = {"model": OrderedDict(a=Decimal(1)), "array": np.arange(3), "_sklearn_version": "1.2.2", "coef": 1}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress, lzma.compress, zlib.compress])
def test_every_protocol_and_compression(tmp_path: Path, protocol: int, packed: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "m.pkl"
    file.write_bytes(packed(pickle.dumps(STATE, protocol)))
    assert sklearn_of(file) == "1.2.2"


def test_arrays_between_the_opcodes_hide_nothing(tmp_path: Path) -> None:
    file = tmp_path / "m.joblib"
    first, second = pickle.dumps(np.arange(3), 2), pickle.dumps({"_sklearn_version": "0.20.3", "d": Decimal(1)}, 4)
    file.write_bytes(first[:-1] + bytes(range(256)) * 9 + second)
    assert sklearn_of(file) == "0.20.3"


def test_a_torch_archive(tmp_path: Path) -> None:
    file = tmp_path / "m.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/data/0", pickle.dumps({"_sklearn_version": "9.9"}))
        archive.writestr("m/data.pkl", pickle.dumps(STATE, 2))
    assert sklearn_of(file) == "1.2.2"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any"
    for content in (data, b"PK\x03\x04" + data, b"x\x9c" + data, b"BZh9" + data):
        file.write_bytes(content)
        sklearn_of(file)


def test_a_missing_file_has_no_version(tmp_path: Path) -> None:
    assert sklearn_of(tmp_path / "gone") is None


@given(version=st.from_regex(r"[0-9]\.[0-9]{1,2}(\.[0-9]{1,2})?", fullmatch=True), indent=st.sampled_from([None, 2]))
def test_a_skops_file_says_who_wrote_it(
    tmp_path_factory: pytest.TempPathFactory, version: str, indent: int | None
) -> None:
    """https://github.com/skops-dev/skops/blob/main/skops/io/_general.py, JsonNode."""
    node = {"__class__": "str", "__loader__": "JsonNode", "content": json.dumps(version), "is_json": True, "__id__": 1}
    schema = {"__class__": "SVC", "content": {"content": {"_sklearn_version": node, "x": {"content": '"9.9"'}}}}
    file = tmp_path_factory.mktemp("model") / "m.skops"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema, indent=indent))
    assert sklearn_of(file) == version
