"""Model files that need no code: init writes the loader and the server, and the image is proven."""

import json
from pathlib import Path

import pytest

from tests.helpers.command import mlship

pytestmark = pytest.mark.docker
MODELS = Path(__file__).parents[1] / "fixtures/models"


@pytest.mark.parametrize("name", ["model.ubj", "model.txt", "model.cbm", "model.skops", "model.keras"])
def test_a_native_model_is_proven_with_what_init_writes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes((MODELS / name).read_bytes())
    (tmp_path / "sample.json").write_text('{"instances": [[0.5, -1.0, 0.25, 2.0]]}')
    assert mlship("init", "--yes", cwd=tmp_path).code == 0
    locked = mlship("lock", cwd=tmp_path, seconds=300)
    assert locked.code == 0, locked.stderr
    tag = f"mlship-test-native/{name.replace('.', '-')}:latest"
    built = mlship("build", "--tag", tag, "--json", cwd=tmp_path, seconds=600)
    assert built.code == 0, built.stderr + built.stdout
    status = {check["id"]: check["status"] for check in json.loads(built.stdout)["smoke"]["checks"]}
    assert "fail" not in status.values()
    assert {status["model.load"], status["model.finite"], status["serve.predict"], status["serve.malformed"]} == {
        "pass"
    }
