"""What init, plan and dockerfile say of each example, word for word. A person reads the diff when it changes."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlship.cli.app import app
from mlship.files import sha256_text
from mlship.lock.inputs import collect_inputs
from mlship.lock.record import LockRecord
from mlship.project.base import base_name
from mlship.project.load import load_config
from tests.conftest import Golden
from tests.examples import Example, examples, with_tiny_weights


@pytest.fixture(params=examples(), ids=lambda example: example.name)
def example(request: pytest.FixtureRequest) -> Example:
    found: Example = request.param
    return found


def stand_in_lock(repo: Path) -> None:
    """A lock without an index and an engine: each name that is asked for, once, with a made-up version and hash."""
    config = load_config(repo, {})
    asked = (repo / config.requirements.input).read_text().split("\n")
    names = sorted({line.split(">")[0].split("=")[0].strip() for line in asked if line[:1].isalpha()})
    text = "".join(f"{name}==1.0 \\\n    --hash=sha256:{'0' * 64}\n" for name in names)
    (repo / config.requirements.lock).write_text(text)
    digest = f"sha256:{'1' * 64}"
    LockRecord(collect_inputs(repo, config), sha256_text(text), base_name(config), digest, "pip-tools 7").write(repo)


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_example(example: Example, tmp_path: Path, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLSHIP_BASE_MIRROR", "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    repo = with_tiny_weights(example, example.copy(tmp_path))
    said("init", "--yes", "-C", str(repo))
    stand_in_lock(repo)
    golden(f"{example.name}/mlship.yaml", (repo / "mlship.yaml").read_text())
    golden(f"{example.name}/plan.txt", said("plan", "-C", str(repo)))
    golden(f"{example.name}/plan.json", said("plan", "--json", "-C", str(repo)))
    golden(f"{example.name}/Dockerfile", said("dockerfile", "-C", str(repo)))
