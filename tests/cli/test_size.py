"""`mlship size`: its output for people and machines, what it compares with, and its exit codes."""

import json
from pathlib import Path
from typing import Protocol

import pytest
from typer.testing import CliRunner, Result

import mlship.engine
from mlship.cli.app import app
from mlship.size.report import SizeReport
from tests.helpers.fakes import FakeEngine
from tests.helpers.size_changes import NEWER
from tests.helpers.size_reports import IMAGE
from tests.helpers.smoke_events import IMAGE as INFO


class Run(Protocol):
    def __call__(self, *arguments: str) -> Result: ...


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    found = FakeEngine(
        images={"app:2": INFO, "app:1": INFO, "cut:1": INFO},
        saved={"app:2": NEWER.saved(), "app:1": IMAGE.saved(), "cut:1": IMAGE.saved()[:5000]},
    )
    monkeypatch.setattr(mlship.engine, "connect", lambda: found)
    return found


@pytest.fixture
def run(engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["size", *arguments])

    return invoke


def test_the_report(run: Run) -> None:
    result = run("app:2")
    assert result.exit_code == 0
    assert result.stdout.startswith("app:2 (linux/amd64): ")
    assert "six 1.18" not in result.stdout
    assert "six 1.18" in run("app:2", "--verbose").stdout
    assert result.stderr == ""


def test_json_is_the_same_report(run: Run) -> None:
    result = run("app:2", "--json")
    assert result.exit_code == 0
    assert SizeReport.from_json(result.stdout, "it").image == "app:2"
    assert json.loads(result.stdout)["schema"] == 1
    assert run("app:2", "--json").stdout == result.stdout


def test_against_an_image_and_against_its_report(run: Run, engine: FakeEngine) -> None:
    by_image = run("app:2", "--against", "app:1")
    Path("old.json").write_text(run("app:1", "--json").stdout)
    engine.images.pop("app:1")
    by_file = run("app:2", "--against", "old.json")
    assert by_image.exit_code == by_file.exit_code == 0
    assert by_image.stdout == by_file.stdout
    assert "a host with app:1 pulls " in by_file.stdout
    assert "in 1 layer" in by_file.stdout
    assert "1.17 -> 1.18" in by_file.stdout
    found = SizeReport.from_json(run("app:2", "--against", "old.json", "--json").stdout, "it").against
    assert found is not None
    assert found.pulled == (5,)


def test_the_same_image_has_nothing_to_pull(run: Run) -> None:
    assert "pulls nothing: all layers are the same" in run("app:1", "--against", "app:1").stdout


def test_a_page_is_written_once(run: Run, engine: FakeEngine) -> None:
    result = run("app:2", "--html", "size.html")
    assert (result.exit_code, result.stderr) == (0, "wrote size.html\n")
    assert Path("size.html").read_text().startswith("<!DOCTYPE html>")
    engine.calls.clear()
    again = run("app:2", "--html", "size.html")
    assert again.exit_code == 2
    assert "`size.html` already exists" in again.stderr
    assert engine.calls == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nothing:1",), 2, "no image `nothing:1`"),
        ((".",), 2, "no image `.`"),
        (("app:2", "--against", "nothing:1"), 2, "no image `nothing:1`"),
        (("app:2", "--against", "nothing.json"), 2, "no file `nothing.json`"),
        (("app:2", "--against", "other.json"), 2, "`other.json` is not a report of `mlship size --json`"),
        (("cut:1",), 5, "cannot read image `cut:1`"),
    ],
)
def test_errors(run: Run, arguments: tuple[str, ...], code: int, said: str) -> None:
    Path("other.json").write_text("{}")
    for more in ((), ("--json",)):
        result = run(*arguments, *more)
        assert result.exit_code == code
        assert said in result.stderr
        assert "hint:" in result.stderr
        assert result.stdout == ""


def test_reading_a_large_image_reports_progress(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlship.cli.size._QUIET", 10)
    monkeypatch.setattr("mlship.size.stream.CHUNK", 10_000)
    said = run("app:2").stderr.splitlines()
    assert len(said) > 1
    assert all(line.startswith("• app:2: read 0 of about 0 MB") for line in said)
