"""What `mlship init` writes: valid, from what was found, never pretending, never overwriting."""

import ast
import json
import re
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.errors import UsageError
from mlship.init.detect import detect
from mlship.init.generated import SERVER_NEEDS
from mlship.init.native import made_up_sample
from mlship.init.scaffold import NewFile, Scaffold, keep_existing, scaffold, write_scaffold
from mlship.project.load import parse_config
from mlship.project.onnx_header import OnnxHeader, Tensor
from tests.helpers.repos import onnx_bytes, safetensors, write

LOADER = "import torch\ndef load(): ..."
FLASK = "from flask import Flask\nimport onnxruntime\napp = Flask(__name__)\ndef load(): ..."


def plan(repo: Path, files: dict[str, str | bytes]) -> dict[str, str]:
    """The text of each file that would be written, by path."""
    return {file.path: file.text for file in planned(repo, files).files}


def planned(repo: Path, files: dict[str, str | bytes]) -> Scaffold:
    return keep_existing(scaffold(detect(write(repo, files))), repo)


SERVER_FILES = (
    "__init__", "__main__", "app", "batching", "connections", "errors", "handling", "logs", "metrics", "model",
    "openapi", "openinference", "predictor", "runtime", "schema", "settings", "tensors",
)  # fmt: skip


def test_a_bare_onnx_model_gets_everything(tmp_path: Path) -> None:
    files = plan(tmp_path, {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[0, 0, 0, 0]]}'})
    assert sorted(files) == [
        ".dockerignore", ".mlship/schema.json", "mlship.yaml", "monitoring/alerts.yml",
        "monitoring/dashboard.json", "requirements.in",
        *(f"serving/{name}.py" for name in SERVER_FILES), "tests/test_serving.py",
    ]  # fmt: skip
    config = parse_config(files["mlship.yaml"])
    assert config.model.load == "serving.model:load"
    assert config.model.weights == ("model.onnx",)
    assert config.serve.command == ("python", "-m", "serving")
    assert config.source == ("serving",)
    assert files["mlship.yaml"].splitlines()[0] == "# yaml-language-server: $schema=.mlship/schema.json"
    assert json.loads(files[".mlship/schema.json"])["title"] == "mlship.yaml"
    assert files["requirements.in"].split("server:\n")[1].split() == sorted([*SERVER_NEEDS, "numpy", "onnxruntime"])


ONNX: dict[str, str | bytes] = {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[0, 0, 0, 0]]}'}
STATISTICS = json.dumps({"statistics": {"inputs": {"x[0]": {"deciles": [1, 2], "mean": 1, "variance": 1}}}})


@pytest.mark.parametrize(
    ("files", "parts", "most"),
    [
        (ONNX, (), 1235),
        ({**ONNX, "golden.json": '{"y": [[0, 0]]}'}, (), 1270),
        ({**ONNX, "metadata.json": STATISTICS}, (), 1385),
        ({**ONNX, "metadata.json": '{"features": {"x[0]": {"max": 9}}}'}, (), 1455),
        (ONNX, ("shadow",), 1540),
        (ONNX, ("workers",), 1380),
        ({"echo.py": LOADER, "sample.json": "{}"}, (), 915),
    ],
    ids=["arrays", "golden", "drift", "limits", "shadow", "workers", "plain"],
)
def test_a_server_stays_small(tmp_path: Path, files: dict[str, str | bytes], parts: tuple[str, ...], most: int) -> None:
    """Lines of `serving/` by kind of repository, at most 150 a file; lower a bound where a change allows it."""
    texts = {file.path: file.text for file in scaffold(detect(write(tmp_path, files)), frozenset(parts)).files}
    lines = [len(text.splitlines()) for path, text in texts.items() if path.startswith("serving/")]
    assert max(lines) <= 150
    assert most - 50 < sum(lines) <= most


def test_statistics_of_the_training_get_their_metrics_or_a_reason(tmp_path: Path) -> None:
    feature = {"deciles": [1, 2], "mean": 1, "variance": 1}
    for name, deciles in (("good", [1, 2]), ("bad", [2, 1])):
        metadata = json.dumps({"statistics": {"inputs": {"x[0]": {**feature, "deciles": deciles}}}})
        found = planned(tmp_path / name, {"model.onnx": onnx_bytes(), "metadata.json": metadata})
        files = {file.path: file.text for file in found.files}
        good = name == "good"
        assert ("serving/drift.py" in files, "import Drift" in files["serving/runtime.py"]) == (good, good)
        assert parse_config(files["mlship.yaml"]).source == (("metadata.json", "serving") if good else ("serving",))
        assert ("!metadata.json" in files[".dockerignore"].splitlines()) == good
    notes = detect(tmp_path / "bad").notes
    assert notes == ("the statistics in metadata.json are not used: `statistics.inputs.x[0]`: `deciles` must increase",)


def test_wrong_limits_of_features_are_named(tmp_path: Path) -> None:
    metadata = json.dumps({"features": {"x[0]": {"missing": 0}}})
    found = planned(tmp_path, {"model.onnx": onnx_bytes(), "metadata.json": metadata})
    assert "serving/features.py" not in {file.path for file in found.files}
    (note,) = detect(tmp_path).notes
    assert note.startswith("the features in metadata.json are not used: `features.x[0]`: a number in `missing` needs")


def test_a_shadow_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    written: dict[str, str | bytes] = dict.fromkeys(("serving/app.py", "serving/runtime.py", "serving/batching.py"), "")
    found = detect(write(tmp_path, {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[0, 0, 0, 0]]}', **written}))
    with pytest.raises(UsageError) as caught:
        scaffold(found, frozenset({"shadow"}))
    assert "`serving/app.py` exists and does not use `shadow.py`" in caught.value.message
    assert "serving/shadow.py" not in {file.path for file in scaffold(found).files}
    (tmp_path / "serving/app.py").unlink()
    files = {file.path: file.text for file in scaffold(found, frozenset({"shadow"})).files}
    assert {"serving/shadow.py", "serving/shadow_log.py", "serving/candidate.py"} < {*files}
    assert all(len(files[path].splitlines()) <= 150 for path in files if path.startswith("serving/"))
    assert "from serving.shadow import with_shadow" in files["serving/app.py"]
    assert "h11" in files["requirements.in"].split()
    write_scaffold(tmp_path, keep_existing(scaffold(found, frozenset({"shadow"})), tmp_path).files)
    again = {file.path: file.text for file in scaffold(detect(tmp_path)).files}
    assert "from serving.shadow import with_shadow" in again["serving/app.py"]
    assert scaffold(detect(tmp_path), frozenset({"shadow"})) == scaffold(detect(tmp_path))


def test_a_shadow_needs_the_server_that_init_writes(tmp_path: Path) -> None:
    cases: dict[str, str | bytes] = {"app.py": FLASK, "model.safetensors": safetensors()}
    for name, content in cases.items():
        with pytest.raises(UsageError) as caught:
            scaffold(detect(write(tmp_path / name[0], {name: content})), frozenset({"shadow"}))
        assert "`--shadow` is part of the server that `mlship init` writes" in caught.value.message


def test_a_repository_with_a_loader_gets_a_server_that_imports_it(tmp_path: Path) -> None:
    files = plan(tmp_path, {"net/model.py": LOADER, "net/__init__.py": "", "input.json": "{}"})
    assert "from net.model import load\n" in files["serving/model.py"]
    assert "serving/tensors.py" not in files
    assert parse_config(files["mlship.yaml"]).source == ("net", "serving")
    assert "torch" in files["requirements.in"].split()


def test_what_was_not_found_is_left_out_and_named_as_the_next_step(tmp_path: Path) -> None:
    found = planned(tmp_path, {"model.safetensors": safetensors()})
    files = {file.path: file.text for file in found.files}
    assert "serving/app.py" not in files
    with pytest.raises(UsageError) as caught:
        parse_config(files["mlship.yaml"])
    for key in ("serve.command", "source"):
        assert f"{key}: is missing" in caught.value.message
    open_lines = [n for n, line in enumerate(files["mlship.yaml"].splitlines(), 1) if "FILL IN" in line]
    assert f"lines {', '.join(map(str, open_lines))})" in caught.value.hint
    assert files["mlship.yaml"].count("FILL IN") == 4
    assert [step.split()[0:2] for step in found.todo] == [["Write", "a"], ["Write", "a"]]


def test_a_server_that_loads_its_own_model_gets_no_generated_loader(tmp_path: Path) -> None:
    server = (
        "from fastapi import FastAPI\nimport onnxruntime\nS = onnxruntime.InferenceSession('m.onnx')\napp = FastAPI()"
    )
    found = planned(tmp_path, {"main.py": server, "m.onnx": onnx_bytes(), "requirements.txt": "fastapi\nuvicorn\n"})
    assert [file.path for file in found.files] == ["mlship.yaml", ".dockerignore", ".mlship/schema.json"]
    with pytest.raises(UsageError, match="nothing to test with"):
        parse_config(found.files[0].text)
    assert not any("`load()`" in step for step in found.todo)
    text = found.files[0].text.replace("# sample:", "sample:")
    assert parse_config(text).model.load is None


def test_an_empty_repository_gets_the_reasons(tmp_path: Path) -> None:
    found = detect(write(tmp_path, {"train.ipynb": "{}"}))
    why = {file.path: file.why for file in scaffold(found).files}
    assert found.weights.why == "no model files of a known format found"
    assert why["requirements.in"] == "empty: no dependencies of served code found"


def test_requirements_from_imports_state_their_origin(tmp_path: Path) -> None:
    files = planned(tmp_path, {"score.py": LOADER}).files
    why = next(file.why for file in files if file.path == "requirements.in")
    assert why.startswith("from the imports of the served code; for the server: httptools, msgspec, prometheus-client")


def test_the_keys_to_fill_in_are_valid_once_they_are_filled_in(tmp_path: Path) -> None:
    text = plan(tmp_path, {"model.safetensors": safetensors()})["mlship.yaml"]
    for key in ("load: ", "sample: ", "command: "):
        text = text.replace(f"# {key}", key)
    config = parse_config(text.replace("# FILL IN: source", "source"))
    assert (config.model.load, config.model.sample) == ("package.module:function", "sample.json")
    assert config.serve.command[:2] == ("uvicorn", "package.module:app")
    assert config.source == ("package",)


def test_a_handwritten_requirements_file_is_used_and_never_the_lock(tmp_path: Path) -> None:
    found = planned(
        tmp_path,
        {"app.py": FLASK, "requirements.txt": "flask\ngunicorn\n", "model.onnx": onnx_bytes(), "sample.json": "{}"},
    )
    files = {file.path: file.text for file in found.files}
    config = parse_config(files["mlship.yaml"])
    assert (config.requirements.input, config.requirements.lock) == ("requirements.txt", "requirements.lock")
    assert "requirements.in" not in files
    assert found.todo == (
        "Set `serve.live` in mlship.yaml: returns 200 once the process responds (mlship.yaml, line 25).",
        "Set `serve.ready` in mlship.yaml: returns 200 once the model is loaded and warm (mlship.yaml, line 27).",
        "Set `serve.predict` in mlship.yaml: POST route that accepts the sample (mlship.yaml, line 29).",
    )
    assert "requirements.txt" in [kept.path for kept in found.kept]


HOST = '{"name": "t4", "driver": "535.1", "gpus": []}'


@pytest.mark.parametrize(("section", "asked"), [("", True), ("gpu:\n", False), ("gpu: {hosts: t4}\n", False)])
def test_hosts_that_are_newer_than_mlship_yaml_need_its_gpu_section(tmp_path: Path, section: str, asked: bool) -> None:
    files = {"m.py": LOADER, "hosts/t4.json": HOST}
    assert not any("gpu:" in step for step in planned(tmp_path, {**files}).todo)
    steps = planned(tmp_path, {"mlship.yaml": f"name: m\n{section}"}).todo
    assert any("Add `gpu: {hosts: hosts}` to mlship.yaml" in step for step in steps) == asked


def test_a_record_that_is_newer_than_mlship_yaml_is_to_be_named_there(tmp_path: Path) -> None:
    step = "Set `model.metadata` to `metadata.json`, the record of the training"
    record = json.dumps({"schema": 1, "packages": {"torch": "2.1"}, "imported": {"torch": "torch"}})
    assert not any(step in one for one in planned(tmp_path, {"m.py": LOADER, "metadata.json": record}).todo)
    for section, asked in (("", True), ("model: {metadata: metadata.json}\n", False)):
        steps = planned(tmp_path, {"mlship.yaml": f"name: m\n{section}"}).todo
        assert any(step in one for one in steps) == asked


def test_a_server_on_gpus_needs_a_loader(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"app.py": FLASK.partition("def load")[0], "sample.json": "{}"}
    asked = "set `model.load` to a function that returns the predictor"
    assert not any(asked in step for step in planned(tmp_path, files).todo)
    found = planned(tmp_path, {"hosts/t4.json": HOST})
    assert any(asked in step for step in found.todo)
    text = next(file.text for file in found.files if file.path == "mlship.yaml")
    with pytest.raises(UsageError, match=r"gpu needs model\.load"):
        parse_config(text)
    (tmp_path / "mlship.yaml").write_text(text.replace("model:\n", "model:\n  load: app:load\n"))
    assert not any(asked in step for step in planned(tmp_path, {}).todo)


def test_what_an_existing_server_lacks_stands_beside_its_requirements(tmp_path: Path) -> None:
    files = plan(tmp_path, {"app.py": FLASK, "requirements.txt": "flask\n"})
    assert files["serving/requirements.in"].splitlines()[1:] == ["-r ../requirements.txt", "gunicorn"]
    assert "input: serving/requirements.in" in files["mlship.yaml"]


def test_what_the_written_server_needs_stands_beside_it(tmp_path: Path) -> None:
    mine = "\n".join({"torch", *SERVER_NEEDS} - {"msgspec", "uvicorn"})
    files = plan(tmp_path, {"m.py": LOADER, "requirements.in": mine, "sample.json": "{}"})
    assert files["serving/requirements.in"].splitlines()[1:] == ["-r ../requirements.in", "msgspec", "uvicorn"]
    assert parse_config(files["mlship.yaml"]).requirements.input == "serving/requirements.in"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"pyproject.toml": "[project]\ndependencies = ['torch==2.1+cpu']"}, ["torch==2.1+cpu", *SERVER_NEEDS]),
        ({"environment.yml": "dependencies: [pytorch=2.1]"}, ["torch==2.1.*", *SERVER_NEEDS]),
        ({}, ["torch  # import torch", *SERVER_NEEDS]),
    ],
)
def test_requirements_come_from_where_the_repository_names_them(
    tmp_path: Path, files: dict[str, str | bytes], expected: list[str]
) -> None:
    text = plan(tmp_path, {"m.py": LOADER, **files})["requirements.in"]
    assert [line for line in text.splitlines() if not line.startswith("#")] == expected


def test_a_lock_without_its_input_is_copied_not_overwritten(tmp_path: Path) -> None:
    lock = "# This file is autogenerated by pip-compile\ntorch==2.1 \\\n    --hash=sha256:00\n"
    files = plan(tmp_path, {"m.py": LOADER, "requirements.txt": lock, "sample.json": "{}"})
    assert "torch==2.1\n" in files["requirements.in"]
    assert parse_config(files["mlship.yaml"]).requirements.lock == "requirements.lock"


def test_a_sample_is_made_up_where_the_model_says_enough(tmp_path: Path) -> None:
    found = planned(tmp_path, {"model.onnx": onnx_bytes()})
    files = {file.path: file.text for file in found.files}
    assert json.loads(files["sample.json"]) == {"x": [[0.0, 0.0, 0.0, 0.0]]}
    assert parse_config(files["mlship.yaml"]).model.sample == "sample.json"
    assert found.todo == ("Replace the zeros in `sample.json` with a real request; zeros test little.",)


@pytest.mark.parametrize(
    ("tensor", "sample"),
    [
        (Tensor("ids", "int64", (None, None)), {"ids": [[0]]}),
        (Tensor("b", "bool", ()), {"b": False}),
        (Tensor("s", "string", (2,)), {"s": ["text", "text"]}),
        (Tensor("image", "float", (None, 3, None, None)), None),
        (Tensor("image", "float", (None, 3, 1000, 1000)), None),
        (Tensor("x", "float", None), None),
        (Tensor("x", "bfloat16", (1,)), None),
        (Tensor("x", None, (1,)), None),
    ],
)
def test_a_sample_is_no_guess(tensor: Tensor, sample: dict[str, object] | None) -> None:
    text = made_up_sample(OnnxHeader((tensor,), (), {}))
    assert (None if text is None else json.loads(text)) == sample
    if sample is not None and tensor.shape is not None:
        assert np.array(sample[tensor.name]).ndim == len(tensor.shape)


@cache
def code_for_a_harmless_name() -> dict[str, str]:
    """The code that is written for the same repository under a harmless name."""
    with tempfile.TemporaryDirectory() as folder:
        files = plan(
            Path(folder),
            {"pyproject.toml": '[project]\nname = "plain"\n', "model.onnx": onnx_bytes(), "sample.json": "{}"},
        )
    return {path: text for path, text in files.items() if path.endswith(".py")}


@pytest.mark.slow
@given(st.text(min_size=1, max_size=40))
def test_a_hostile_name_reaches_neither_yaml_nor_code_unquoted(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    repo = tmp_path_factory.mktemp("hostile")
    write(
        repo,
        {"pyproject.toml": f"[project]\nname = {json.dumps(name)}\n", "model.onnx": onnx_bytes(), "sample.json": "{}"},
    )
    files = {file.path: file.text for file in scaffold(detect(repo)).files}
    assert re.fullmatch(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*", parse_config(files["mlship.yaml"]).name)
    code = {path: text for path, text in files.items() if path.endswith(".py")}
    assert code == code_for_a_harmless_name()
    assert all(ast.parse(text) for text in code.values())


def test_a_hostile_command_is_quoted(tmp_path: Path) -> None:
    web = "web: gunicorn app:app --bind :8000 --name '{{ x }}: \"y\" #z'"
    files = plan(tmp_path, {"app.py": FLASK, "Procfile": web, "sample.json": "{}"})
    assert parse_config(files["mlship.yaml"]).serve.command[-1] == '{{ x }}: "y" #z'


def test_writing_never_replaces_and_leaves_no_half_files(tmp_path: Path) -> None:
    write(tmp_path, {"a": "mine"})
    (tmp_path / "dangling").symlink_to("nowhere")
    files = tuple(NewFile(path, "theirs", "") for path in ("a", "dangling", "sub/b"))
    assert write_scaffold(tmp_path, files) == ("sub/b",)
    assert (tmp_path / "a").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "dangling", "sub"]


def test_nothing_is_written_through_a_link_out_of_the_repository(tmp_path: Path) -> None:
    repo, outside = tmp_path / "repo", tmp_path / "outside"
    repo.mkdir()
    outside.mkdir()
    (repo / "serving").symlink_to(outside)
    with pytest.raises(UsageError, match="outside"):
        write_scaffold(repo, (NewFile("mlship.yaml", "", ""), NewFile("serving/app.py", "", "")))
    assert not list(outside.iterdir())
    assert not (repo / "mlship.yaml").exists()


def test_debian_packages_are_foreseen_with_their_reason(tmp_path: Path) -> None:
    lines = "torch\nopencv-python\npsycopg2\npydub\n"
    text = plan(tmp_path, {"m.py": LOADER, "sample.json": "[1]", "requirements.txt": lines})["mlship.yaml"]
    config = parse_config(text)
    assert config.system.run == ("libgl1", "libglib2.0-0", "libpq5", "ffmpeg")
    assert config.system.build == ("gcc", "libc6-dev", "libpq-dev")
    assert "- libgl1  # opencv-python draws windows with Qt" in text
    assert "; psycopg2-binary needs none of it" in text
    assert "system:" not in plan(tmp_path, {"requirements.txt": "torch\n"})["mlship.yaml"]


def test_a_package_of_the_repository_keeps_its_name(tmp_path: Path) -> None:
    files = plan(tmp_path, {"serving/__init__.py": "", "serving/model.py": LOADER, "sample.json": "{}"})
    assert "from serving.model import load\n" in files["model_serving/model.py"]
    assert "from model_serving.schema import " in files["model_serving/predictor.py"]
    config = parse_config(files["mlship.yaml"])
    assert (config.model.load, config.serve.command) == ("serving.model:load", ("python", "-m", "model_serving"))
    assert config.source == ("model_serving", "serving")
