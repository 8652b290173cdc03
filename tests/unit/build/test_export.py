"""An export holds the Dockerfile and what it copies, and nothing that `mlship build` would leave out."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.build.export import export
from mlship.build.prepare import prepare
from mlship.errors import UsageError
from mlship.files import sha256_text
from mlship.lock.inputs import collect_inputs
from mlship.lock.record import LockRecord
from mlship.project.load import load_config
from tests.helpers.command import mlship_in_process
from tests.helpers.toy import YAML, toy

PIN = f"iniconfig==2.3.1 --hash=sha256:{'a' * 64}\n"


def locked(folder: Path) -> Path:
    """A locked repository that ships all its files."""
    repo = toy(folder, mlship_yaml=YAML.replace("[model.py, server.py, weights.txt]", "[.]"))
    (repo / "requirements.txt").write_text(PIN)
    inputs = collect_inputs(repo, load_config(repo, {}))
    digest = f"sha256:{'1' * 64}"
    LockRecord(inputs, sha256_text(PIN), "python:3.11-slim-bookworm", digest, "pip-tools 7").write(repo)
    return repo


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return locked(tmp_path)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_repository_gives_the_same_folder(repo: Path, tmp_path: Path) -> None:
    first, second = (export(prepare(repo), tmp_path / name).folder for name in ("first", "second"))
    assert files(first) == files(second)
    assert {"Dockerfile", "docker-bake.json", "README.md", "repository/server.py"} <= files(first).keys()
    assert not list(tmp_path.glob(".first*"))


def test_every_context_of_the_dockerfile_is_in_the_folder(repo: Path, tmp_path: Path) -> None:
    folder = export(prepare(repo), tmp_path / "out").folder
    lines = (folder / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1] for line in lines if line.startswith("COPY mlship/")]
    assert [f"mlship/{path.name}/" for path in sorted((folder / "mlship").iterdir())] == copied
    assert any("--mount=type=bind,source=repository,target=/repository " in line for line in lines)


def test_bake_builds_the_same_platform_and_tag(repo: Path, tmp_path: Path) -> None:
    folder = export(prepare(repo), tmp_path / "out").folder
    target = json.loads((folder / "docker-bake.json").read_text())["target"]["default"]
    assert (target["platforms"], target["tags"]) == (["linux/amd64"], ["toy:dev"])


@pytest.mark.parametrize("private", [".env", "sub/.env.local", "tls/server.pem", "id_rsa", ".git/config", "a/b.pyc"])
def test_private_files_stay_behind(private: str, repo: Path, tmp_path: Path) -> None:
    (repo / private).parent.mkdir(parents=True, exist_ok=True)
    (repo / private).write_text("canary")
    folder = export(prepare(repo), tmp_path / "out").folder
    assert b"canary" not in files(folder).values()


@pytest.mark.slow
@given(names=st.sets(st.text("ab .=@-", min_size=1, max_size=5).filter(lambda n: n.strip(". ")), max_size=4))
def test_files_keep_names_modes_and_links(names: set[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    tmp_path = tmp_path_factory.mktemp("export")
    repo = locked(tmp_path)
    for name in names:
        (repo / f"d{name}").write_text(name)
        (repo / f"d{name}").chmod(0o755)
        (repo / f"link{name}").symlink_to(f"d{name}")
    written = export(prepare(repo), tmp_path / "out").folder / "repository"
    for name in names:
        assert (written / f"d{name}").read_text() == name
        assert os.access(written / f"d{name}", os.X_OK)
        assert (written / f"link{name}").readlink() == Path(f"d{name}")


def test_nothing_is_overwritten_and_no_image_copies_the_export(repo: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="already exists"):
        export(prepare(repo), tmp_path)
    with pytest.raises(UsageError, match="which the image copies"):
        export(prepare(repo), repo / "out")
    with pytest.raises(UsageError, match="which the image copies"):
        export(prepare(repo), tmp_path / "out", secrets=repo / "secrets")
    for inside in ("out", "out/secrets"):
        with pytest.raises(UsageError, match="is in the exported folder, which must not hold credentials"):
            export(prepare(repo), tmp_path / "out", secrets=tmp_path / inside)
    assert not (tmp_path / "out").exists()


def test_credentials_are_only_in_the_folder_for_secrets(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://name:canary@pypi.example/simple")
    done = mlship_in_process("export", str(tmp_path / "out"), "--secrets", str(tmp_path / "secrets"), cwd=repo)
    assert done.code == 0, done.stderr
    assert b"canary" not in b"".join(files(tmp_path / "out").values())
    assert "UV_DEFAULT_INDEX=https://***@pypi.example/simple" in (tmp_path / "out/README.md").read_text()
    assert b"canary" in (tmp_path / "secrets/mlship-env").read_bytes()
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()} == {0o600}
