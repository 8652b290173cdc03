"""Templates: a missing value is an error, and a YAML scalar reads back as what it was."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment, UndefinedError

from mlship import render as module
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


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module._environment.cache_clear()
    yield tmp_path / "mlship/templates"
    module._environment.cache_clear()


def _ignore() -> str:
    module._environment.cache_clear()  # as in another process
    return render("dockerignore.j2", paths=["a"], left_out=(), named=[])


def test_a_template_is_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _ignore()
    assert list(cache.iterdir())

    def compiled(*_: object, **__: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(Environment, "_generate", compiled)
    assert _ignore() == first
    with pytest.raises(AssertionError, match="compiled again"):
        render("Dockerfile.j2")


def test_an_edited_template_is_compiled_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _ignore()
    monkeypatch.setattr(module, "read_template", lambda _name: "edited")
    assert _ignore() == "edited" != first
    assert list(cache.iterdir())


def test_templates_need_no_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _ignore()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)  # the folder of another user
    monkeypatch.setattr("jinja2.FileSystemBytecodeCache.load_bytecode", None)
    assert _ignore() == first
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert _ignore() == first
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    for file in cache.iterdir():
        file.unlink()
    monkeypatch.setattr("os.replace", _full)
    monkeypatch.setattr("tempfile.NamedTemporaryFile", _full)
    assert _ignore() == first
    assert not list(cache.iterdir())


def _full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")
