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
    assert "weights: [a.onnx]" in (tmp_path / "mlship.yaml").read_text()
