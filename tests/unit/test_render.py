"""Templates: a missing value is an error, and a YAML scalar reads back as what it was."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from mlship.render import render, yaml_scalar

HARD = [
    "",
    "~",
    "no",
    "3.11",
    "8080",
    "1:30",
    "1e3",
    "null",
    "a b",
    "x: y",
    "#x",
    "*x",
    "@x",
    "%a",
    "-",
    "---",
    "...",
    "<<",
    "{{ x }}",
    "$(id)",
    "a\nb",
    "'\"",
]


@given(st.text() | st.sampled_from(HARD))
def test_a_yaml_scalar_reads_back_as_the_same_text(text: str) -> None:
    assert yaml.safe_load(f"[{yaml_scalar(text)}, end]") == [text, "end"]
    assert yaml.safe_load(f"key: {yaml_scalar(text)}\nnext: 1") == {"key": text, "next": 1}


def test_plain_words_stay_plain() -> None:
    assert [yaml_scalar(t) for t in ("serving.app:app", "--port", "0.0.0.0", "8080")] == [
        "serving.app:app",
        "--port",
        "0.0.0.0",
        '"8080"',
    ]


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="origin"):
        render("init/requirements.in.j2", lines=(), needs=())
