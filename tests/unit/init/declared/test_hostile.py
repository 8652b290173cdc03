"""Whatever files a repository has, `init` says what it cannot read, never raises, and a second run changes nothing."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlship.errors import UsageError
from mlship.init.declared.collect import collect
from mlship.init.detect import detect
from mlship.init.scaffold import keep_existing, scaffold, write_scaffold
from mlship.init.tree import read_tree
from tests.helpers.repos import write
from tests.helpers.sampling import examples

FORMATS = [
    "requirements.txt", "requirements.in", "pyproject.toml", "setup.py", "setup.cfg", "Pipfile", "Pipfile.lock",
    "uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "environment.yml", "cog.yaml", "bentofile.yaml", "MLmodel",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.sampled_from(
        ["numpy", "torch>=2", "./lib", "-e .", "^1.2", "*", ">=3.11", "git+https://example.org/x.git", "-r a.txt"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([
        "project", "dependencies", "tool", "poetry", "group", "name", "version", "python", "uv", "sources", "workspace",
        "package", "packages", "default", "build", "python_packages", "pip", "system_packages", "path", "git", "marker",
        "source", "resolution-markers", "metadata", "_meta", "requires", "optional-dependencies", "dependency-groups",
        "flavors", "python_function", "docker", "gpu", "predict", "python_version", "requires-python", "extras",
    ]), inner, max_size=6), max_leaves=12,
)  # fmt: skip
CODE = st.sampled_from(
    ["R", "['numpy']", "open('requirements.txt')", "R + ['x']", "{'a': R}", "f()", "[l for l in R]", "R[0]"]
)
MODULES = ["import numpy\ndef load(): ...", "from fastapi import FastAPI\napp = FastAPI()", "print()", "import utils"]


def toml(value: object) -> str:
    """A table as TOML; JSON's strings, numbers and lists are TOML's."""
    if not isinstance(value, dict):
        return ""
    return "\n".join(f"{json.dumps(key)} = {inline(item)}" for key, item in value.items())


def inline(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(inline(item) for item in value) + "]"
    return '""' if value is None else json.dumps(value)


def setup_code(parts: tuple[str, str]) -> str:
    return f"R = {parts[0]}\nsetup(install_requires={parts[1]}, extras_require={parts[0]})"


def texts(name: str) -> st.SearchStrategy[str]:
    """Contents that have the form of the file's format, with values of any type."""
    if name.startswith("requirements"):
        lines = st.sampled_from([
            "numpy==1.26", "-r requirements.in", "-r requirements.txt", "-c c.txt", "-e ../shared", "./lib", "\\",
            "--hash=sha256:00", "-i https://u:p@example.org", "a @ file:///x", "???",
        ])  # fmt: skip
        return st.lists(lines | st.text(max_size=10), max_size=5).map("\n".join)
    if name == "setup.py":
        return st.tuples(CODE, CODE).map(setup_code)
    if name == "setup.cfg":
        return st.text(max_size=20).map("[options]\ninstall_requires =\n  numpy\n  {}\n".format)
    if name.endswith((".yml", ".yaml", "MLmodel")):
        return VALUES.map(yaml.safe_dump)
    if name == "Pipfile.lock":
        return VALUES.map(json.dumps)
    return VALUES.map(toml)


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=examples(40))
@given(data=st.data())
def test_init_never_raises_and_a_second_run_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    repo = tmp_path_factory.mktemp("repo")
    files: dict[str, str | bytes] = {}
    folders = data.draw(st.lists(st.sampled_from(["", "api/", "packages/shared/", "a b/"]), min_size=1, max_size=3))
    for folder in folders:
        for name in data.draw(st.sets(st.sampled_from(FORMATS), max_size=4)):
            text = data.draw(texts(name))
            cut = data.draw(st.sampled_from([None, None, None, len(text) // 2]))
            files[folder + name] = text[:cut].encode("utf-8", "surrogatepass")
        if data.draw(st.booleans()):
            files[folder + data.draw(st.sampled_from(["main.py", "utils.py"]))] = data.draw(st.sampled_from(MODULES))
    write(repo, files)
    try:
        planned = keep_existing(scaffold(detect(repo)), repo)
    except UsageError:
        assert len(collect(read_tree(repo)).projects) > 1
        return
    written = write_scaffold(repo, planned.files)
    assert set(written) == {file.path for file in planned.files}
    assert keep_existing(scaffold(detect(repo)), repo).files == ()


def broken(name: str) -> list[bytes]:
    return [
        b"", b"\x00" * 50, b"\xff\xfe\xfa", b"\xef\xbb\xbf[", b"{", b"[[", b"- a: [", b"a: &a [*a]\n",
        b"x = 1\nx = 1\n",        b"&" * 9, b"[" * 3000, b"!!python/object:os.system {}", b"(" * 5000, name.encode(),
    ]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_malformed_files_are_said_or_skipped(tmp_path: Path, name: str) -> None:
    for content in broken(name):
        found = collect(read_tree(write(tmp_path, {name: content})))
        assert all("\n" not in note and len(note) < 400 for note in found.notes)


@pytest.mark.parametrize(
    "name",
    [
        "uv.lock",
        "poetry.lock",
        "pdm.lock",
        "pylock.toml",
        "pyproject.toml",
        "Pipfile",
        "Pipfile.lock",
        "cog.yaml",
        "environment.yml",
    ],
)
def test_a_cut_file_is_said(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: '{"a": [' if name.endswith(("Pipfile.lock", "ml")) and name[0] in "Pce" else "[project"})
    notes = collect(read_tree(tmp_path)).notes
    assert [note.split(": ")[:2] for note in notes] == [[name, "not used"]]


def test_nested_lists_are_read_unless_they_are_hundreds(tmp_path: Path) -> None:
    def notes(depth: int) -> tuple[str, ...]:
        text = f"name: {'[' * depth}{']' * depth}\n"
        return collect(read_tree(write(tmp_path, {"environment.yml": text}))).notes

    assert not any("nested" in note for note in notes(90))
    assert "environment.yml: not used: nested too deeply" in notes(101)[0]


def test_a_file_that_is_too_large_is_said(tmp_path: Path) -> None:
    notes = collect(
        read_tree(write(tmp_path, {"uv.lock": b"#" * 10_000_001, "requirements.txt": b"#" * 1_000_001}))
    ).notes
    assert notes == (
        "requirements.txt: cannot be read, or is larger than 1 MB",
        "uv.lock: not used: cannot be read, or is larger than 10 MB",
    )


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [fifo, folder, loop])
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_file_is_not_read(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / name)
    assert collect(read_tree(tmp_path)).declared == ()
