"""`mlship init` as a user meets it: exit codes, streams, and that nothing is lost."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from mlship.cli.init import init_command
from mlship.errors import UsageError
from mlship.init.tree import read_tree
from tests.helpers.repos import onnx_bytes, write

app = typer.Typer()
app.command()(init_command)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return write(tmp_path / "wine", {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[1, 2, 3, 4]]}'})


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=answer)


def contents(repo: Path) -> dict[str, bytes]:
    return {str(path.relative_to(repo)): path.read_bytes() for path in sorted(repo.rglob("*")) if path.is_file()}


def test_it_says_what_it_found_and_why_and_what_comes_next(repo: Path) -> None:
    result = run("-C", str(repo))
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "model.onnx is ONNX (x float[N,4] -> y float[N,2])" in result.stderr
    assert "wrote  serving/: the server around it" in result.stderr
    assert result.stderr.rstrip().endswith("Next: `mlship lock`")
    assert (repo / "mlship.yaml").is_file()


def test_running_twice_changes_nothing(repo: Path) -> None:
    run("-C", str(repo))
    before = contents(repo)
    result = run("-C", str(repo))
    assert result.exit_code == 0
    assert contents(repo) == before
    assert "wrote" not in result.stderr
    assert "kept   mlship.yaml" in result.stderr


@pytest.mark.parametrize("part", ["shadow", "workers"])
def test_a_part_that_is_asked_for_is_written(repo: Path, part: str) -> None:
    assert run("-C", str(repo), f"--{part}").exit_code == 0
    assert (repo / "serving" / f"{part}.py").is_file()
    before = contents(repo)
    assert run("-C", str(repo)).exit_code == 0
    assert contents(repo) == before


@pytest.mark.parametrize("part", ["shadow", "workers"])
def test_a_part_is_not_added_to_a_server_that_exists(repo: Path, part: str) -> None:
    assert run("-C", str(repo)).exit_code == 0
    error = run("-C", str(repo), f"--{part}").exception
    assert isinstance(error, UsageError)
    assert f"exists and does not use `{part}.py`" in error.message
    assert f"run `mlship init --{part}`" in (error.hint or "")


def test_what_exists_is_kept_as_it_is(repo: Path) -> None:
    mine: dict[str, str | bytes] = {
        "mlship.yaml": "mine",
        "requirements.in": "numpy\n",
        ".dockerignore": "mine",
        "serving/runtime.py": "mine",
        "serving/batching.py": "mine",
    }
    write(repo, mine)
    result = run("-C", str(repo))
    assert {name: (repo / name).read_text() for name in mine} == mine
    assert all(f"kept   {name}" in result.stderr for name in mine)


def test_dry_run_writes_nothing_and_prints_a_diff(repo: Path) -> None:
    before = contents(repo)
    result = run("-C", str(repo), "--dry-run")
    assert contents(repo) == before
    assert "--- /dev/null\n+++ b/mlship.yaml\n" in result.stdout
    assert "\n+name: wine\n" in result.stdout
    assert "would write  mlship.yaml" in result.stderr


def test_json_is_all_that_stands_on_stdout(repo: Path) -> None:
    first, second = json.loads(run("-C", str(repo), "--json").stdout), json.loads(run("-C", str(repo), "--json").stdout)
    assert first["found"]["framework"] == "onnxruntime"
    assert first["found"]["models"] == [
        {"path": "model.onnx", "kind": "onnx", "bytes": (repo / "model.onnx").stat().st_size}
    ]
    assert "mlship.yaml" in first["written"]
    assert second["written"] == []
    assert "mlship.yaml" in second["kept"]


def test_json_of_a_dry_run_says_that_nothing_was_written(repo: Path) -> None:
    result = run("-C", str(repo), "--json", "--dry-run")
    assert json.loads(result.stdout)["written"] == []
    assert not (repo / "mlship.yaml").exists()


def test_what_is_no_folder_is_a_usage_error(repo: Path) -> None:
    for path in (repo / "absent", repo / "model.onnx"):
        assert run("-C", str(path)).exit_code == 2
        with pytest.raises(UsageError, match="cannot read the folder"):
            read_tree(path)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command believe that a person sits in front of it."""
    monkeypatch.setattr("mlship.cli.init._is_terminal", lambda: True)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("arguments", "answer", "chosen"), [((), "2\n", "b.onnx"), ((), "\n", "a.onnx"), (("-y",), None, "a.onnx")]
)
def test_it_asks_only_where_nothing_decides(
    tmp_path: Path, arguments: tuple[str, ...], answer: str | None, chosen: str
) -> None:
    write(tmp_path, {"a.onnx": onnx_bytes(), "b.onnx": onnx_bytes()})
    result = run("-C", str(tmp_path), *arguments, answer=answer)
    assert ("Which model" in result.output) == (answer is not None)
    assert f"weights: [{chosen}]" in (tmp_path / "mlship.yaml").read_text()


def test_it_never_asks_without_a_terminal(tmp_path: Path) -> None:
    write(tmp_path, {"a.onnx": onnx_bytes(), "b.onnx": onnx_bytes()})
    result = run("-C", str(tmp_path), answer="2\n")
    assert "Which model" not in result.output
    assert "chosen by you" not in result.output
    assert "weights: [a.onnx]" in (tmp_path / "mlship.yaml").read_text()


SERVER = """
import onnxruntime
from fastapi import FastAPI
app = FastAPI()
def load_model(): return onnxruntime.InferenceSession("model.onnx")
@app.post("/predict")
def predict(body: dict): return load_model().run(None, body)
"""


def test_a_server_beside_another_one_is_written_only_when_asked_for(repo: Path) -> None:
    write(repo, {"main.py": SERVER, "requirements.txt": "fastapi\nuvicorn\nonnxruntime\n"})
    before = contents(repo)
    result = run("-C", str(repo), "--serving")
    assert result.exit_code == 0
    assert {name: text for name, text in contents(repo).items() if name in before} == before
    assert "kept   main.py: your server, unchanged; mlship.yaml starts another" in result.stderr
    config = (repo / "mlship.yaml").read_text()
    assert "  command: [python, -m, serving]\n" in config
    assert "  load: serving.model:load\n" in config  # main.py has a function that returns a bare session
    assert "msgspec" in (repo / "serving/requirements.in").read_text()
    assert (repo / "serving/runtime.py").is_file()
    after = contents(repo)
    again = run("-C", str(repo))
    assert contents(repo) == after
    assert "kept   main.py: your server, unchanged; mlship.yaml starts another" in again.stderr


def test_mlship_yaml_of_the_other_server_is_not_completed(repo: Path) -> None:
    write(repo, {"main.py": SERVER, "requirements.txt": "fastapi\nuvicorn\nonnxruntime\n"})
    (repo / "sample.json").unlink()
    assert "kept   main.py: your server, shipped unchanged" in run("-C", str(repo)).stderr
    assert not (repo / "serving").exists()
    before = contents(repo)
    assert b"FILL IN" in before["mlship.yaml"]  # which the new server would fill in with its own sample
    result = run("-C", str(repo), "--serving")
    assert {name: text for name, text in contents(repo).items() if name in before} == before
    assert "Let mlship.yaml start the new server: move the file away" in result.stderr
    assert "kept   main.py: your server, shipped unchanged" in result.stderr
    (repo / "mlship.yaml").unlink()
    (repo / ".dockerignore").unlink()
    assert "Let mlship.yaml start" not in run("-C", str(repo), "--serving").stderr
    assert "  command: [python, -m, serving]\n" in (repo / "mlship.yaml").read_text()


def test_without_another_server_the_option_changes_nothing(repo: Path, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {**contents(repo)}
    other = write(tmp_path / "other/wine", files)
    assert run("-C", str(repo), "--serving").exit_code == run("-C", str(other)).exit_code == 0
    assert contents(repo) == contents(other)
