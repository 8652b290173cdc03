"""What programs print in a foreign container: any output gives facts or none, and never ends the diagnosis."""

import importlib.util
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.doctor.facts.fact import UNKNOWN, known
from mlship.doctor.facts.place import Place
from mlship.doctor.probes.inside import INSIDE
from mlship.doctor.probes.inside_programs import printed_environments
from mlship.doctor.probes.look_inside import _part
from mlship.driver.child import ChildResult

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters()),
    lambda inside: st.lists(inside) | st.dictionaries(st.text() | st.sampled_from(["os", "libc", "torch"]), inside),
    max_leaves=8,
)
ODD = [
    "[" * 100_000,
    '{"os": ' * 5_000,
    '{"os": {"id": "\\ud800"}}',
    '{"os": NaN}',
    "9" * 5_000,
    "",
    "{}",
    "null",
    "\0",
]


def printed(*lines: str) -> ChildResult:
    return ChildResult(list(lines), "ended", 0)


@given(JSON.map(json.dumps) | st.text())
def test_any_output(text: str) -> None:
    assert isinstance(_part(printed(*text.splitlines())), Place)
    printed_environments(printed(*text.splitlines()))


@pytest.mark.parametrize("text", ODD)
def test_odd_output(text: str) -> None:
    assert _part(printed(text)) == Place()
    assert printed_environments(printed(text)) in (UNKNOWN, ())


def test_the_last_object_counts() -> None:
    place = _part(printed("a warning", '{"os": {"id": "debian"}}', ""))
    assert known(place.os.id) == "debian"


@pytest.mark.parametrize(
    ("entry", "metadata", "version"),
    [
        (
            "torch-2.11.0_cu130.dist-info",
            "Metadata-Version: 2.1\nVersion: 2.11.0+cu130\n\nVersion: 9",
            "+",
        ),
        ("torch-2.11.0.dist-info", "Version: 9", None),
        ("torch-2.11.0_cu130.dist-info", "no headers", None),
        ("torch-2.11.0_cu130.dist-info", None, None),
    ],
)
def test_version_of_a_local_build(tmp_path: Path, entry: str, metadata: str | None, version: str | None) -> None:
    spec = importlib.util.spec_from_file_location("python_env", INSIDE / "python_env.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / entry).mkdir()
    if metadata is not None:
        (tmp_path / entry / "METADATA").write_text(metadata)
    assert module.version_of(str(tmp_path), entry) == ("2.11.0+cu130" if version else None)
