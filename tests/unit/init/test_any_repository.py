"""Whatever a repository holds: init does not fail, writes what loads, guesses nothing, and a second run is quiet."""

import shutil
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlship.errors import UsageError
from mlship.init.detect import detect
from mlship.init.scaffold import keep_existing, scaffold, write_scaffold
from mlship.project.load import parse_config
from tests.helpers.repos import onnx_bytes, safetensors, write
from tests.helpers.sampling import examples

MODELS = Path(__file__).parents[2] / "fixtures/models"
CONTENTS: dict[str, bytes] = {
    "m.onnx": onnx_bytes(),
    "x.onnx": onnx_bytes(external="x.data"),
    "m.safetensors": safetensors(),
    "m.pkl": b"\x80\x04N.",
    "m.pt": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "config.json": b'{"architectures": ["BertModel"]}',
    "tokenizer.json": b"{}",
    "requirements.txt": b"torch==2.8.0\nnumpy\n",
    "labels.txt": b"cat\nbig dog\nRabbit\n",
    "empty.bin": b"",
    "noise.bin": bytes(range(256)),
    **{path.name: path.read_bytes() for path in sorted(MODELS.glob("model.*"))},
}
SERVER = "from fastapi import FastAPI\nimport joblib\napp = FastAPI()\nMODEL = joblib.load({!r})\n"
LOADER = "import onnxruntime\ndef load():\n    return onnxruntime.InferenceSession({!r})\n"
NAMES = st.text("aé (1)'$-_.中", min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))
FOLDERS = st.sampled_from(["", "data/", "tests/", "models/", "a/b/", "src/pkg/", "hub/models--o--m/blobs/"])
FILES = st.dictionaries(st.tuples(FOLDERS, st.sampled_from(sorted(CONTENTS))), st.none() | NAMES, max_size=6)
CODE = st.none() | st.tuples(
    st.sampled_from([SERVER, LOADER]), st.sampled_from(["m.pkl", "data/m.onnx", "../up.pkl", "/opt/m.pkl", "é.onnx"])
)
LINKS = st.lists(
    st.tuples(NAMES, st.sampled_from(["m.onnx", "data", "..", "../out.onnx", "nowhere", "loop"])), max_size=3
)


def build(repo: Path, files: dict[tuple[str, str], str | None], code: tuple[str, str] | None) -> None:
    for (folder, name), other in files.items():
        write(repo, {f"{folder}{(other or '') + PurePosixPath(name).suffix if other else name}": CONTENTS[name]})
    if code:
        write(repo, {"app.py": code[0].format(code[1])})


def link(repo: Path, links: list[tuple[str, str]]) -> None:
    for name, target in links:
        path = repo / (name if target != "loop" else target)
        if not (path.exists() or path.is_symlink()):
            path.symlink_to(target)


def snapshot(repo: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(repo.rglob("*")) if path.is_file()}


def run_init(repo: Path) -> tuple[str, ...]:
    found = detect(repo)
    planned = keep_existing(scaffold(found), repo)
    write_scaffold(repo, planned.files)
    if planned.completed:
        (repo / planned.completed.path).write_text(planned.completed.text)
    return planned.todo


def check_written(repo: Path, steps: tuple[str, ...]) -> None:
    """mlship.yaml loads, or lacks keys that steps are for; a path that does not exist is in a step."""
    try:
        config = parse_config((repo / "mlship.yaml").read_text())
    except UsageError as error:
        if not steps or not ("is missing" in error.message or "nothing to test with" in error.message):
            raise
        return
    listed = [*config.model.weights, *config.source, config.model.sample]
    missing = [path for path in listed if path and not (repo / path).exists()]
    assert all(any(f"`{path}`" in step for step in steps) for path in missing)


@given(FILES, CODE, LINKS)
@example({("", "x.onnx"): None}, None, [])
@example({("", "m.onnx"): "é"}, None, [("a", "..")])
@settings(max_examples=examples(40), deadline=None)
def test_init_runs_and_a_second_run_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[tuple[str, str], str | None],
    code: tuple[str, str] | None,
    links: list[tuple[str, str]],
) -> None:
    repo = tmp_path_factory.mktemp("any") / "repo"
    repo.mkdir()
    build(repo, files, code)
    link(repo, links)
    before = snapshot(repo)
    try:
        steps = run_init(repo)
    except UsageError as error:
        if not ("under its name" in error.message or "several projects" in error.message):
            raise
        assert snapshot(repo) == before
        return
    written = snapshot(repo)
    assert before.items() <= written.items()  # nothing of the user's changed
    check_written(repo, steps)
    run_init(repo)
    assert snapshot(repo) == written
    shutil.rmtree(repo)
