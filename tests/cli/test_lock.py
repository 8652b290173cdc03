"""`mlship lock` as a user meets it, short of an engine."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mlship.cli.lock import lock
from mlship.errors import LockError, UsageError
from mlship.files import sha256_text
from mlship.lock.inputs import collect_inputs
from mlship.lock.record import LockRecord
from mlship.project.load import parse_config

YAML = 'name: demo\nmodel: {load: "a:b", sample: s.json}\nserve: {command: [python]}\nsource: [a.py]\n'
TEXT = f"numpy==2.0 --hash=sha256:{'a' * 64}\n"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLSHIP_BASE_MIRROR", raising=False)
    (tmp_path / "mlship.yaml").write_text(YAML)
    (tmp_path / "requirements.in").write_text("numpy\n")
    (tmp_path / "requirements.txt").write_text(TEXT)
    inputs = collect_inputs(tmp_path, parse_config(YAML))
    LockRecord(inputs, sha256_text(TEXT), "python:3.11-slim-bookworm", "sha256:" + "0" * 64, "pip-tools").write(
        tmp_path
    )
    return tmp_path


def app() -> typer.Typer:
    one = typer.Typer()
    one.command()(lock)
    return one


def test_check_of_a_fresh_lock(repo: Path) -> None:
    done = CliRunner().invoke(app(), ["--check", "--json", "-C", str(repo)])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["pins"] == 1


def test_check_of_a_stale_lock_says_what_changed(repo: Path) -> None:
    (repo / "requirements.in").write_text("numpy\nfastapi\n")
    done = CliRunner().invoke(app(), ["--check", "-C", str(repo)])
    assert isinstance(done.exception, LockError)
    assert "requirements.in changed since the lock" in done.exception.message


def test_check_and_upgrade_exclude_each_other(repo: Path) -> None:
    done = CliRunner().invoke(app(), ["--check", "-P", "numpy", "-C", str(repo)])
    assert isinstance(done.exception, UsageError)
