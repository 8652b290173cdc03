"""Paths of mlship.yaml: there, and inside the repository."""

from pathlib import Path

import pytest

from mlship.errors import UsageError
from mlship.project.config import Config
from mlship.project.load import parse_config
from mlship.project.paths import check_paths, link_targets, private_files
from tests.helpers.planted import PRIVATE_NAMES

YAML = """\
name: digits
model: {load: "serving.model:load", sample: sample.json}
serve: {command: [uvicorn]}
source: [serving]
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = tmp_path / "repo"
    (repo / "serving").mkdir(parents=True)
    (repo / "serving/app.py").write_text("")
    (repo / "sample.json").write_text("{}")
    return repo


@pytest.fixture
def config() -> Config:
    return parse_config(YAML)


def refusal(repo: Path, config: Config) -> str:
    with pytest.raises(UsageError) as caught:
        check_paths(repo, config)
    return caught.value.message


def test_a_sound_repository_passes(repo: Path, config: Config) -> None:
    (repo / "serving/link.py").symlink_to("app.py")
    check_paths(repo, config)


def test_missing_source(repo: Path, config: Config) -> None:
    (repo / "serving/app.py").unlink()
    (repo / "serving").rmdir()
    assert "source[0]: `serving` does not exist" in refusal(repo, config)


def test_a_sample_must_be_a_file(repo: Path, config: Config) -> None:
    (repo / "sample.json").unlink()
    (repo / "sample.json").mkdir()
    assert "model.sample: `sample.json` is not a file" in refusal(repo, config)


@pytest.mark.parametrize("name", ["serving/link.py", "sample.json"])
def test_links_out_of_the_repository_are_refused(repo: Path, config: Config, name: str) -> None:
    (repo.parent / "outside").write_text("secret")
    (repo / name).unlink(missing_ok=True)
    (repo / name).symlink_to(repo.parent / "outside")
    assert "symbolic link out of the repository" in refusal(repo, config)


@pytest.mark.parametrize("content", [b"", b"{x}", b"\xff\xfe\0", b"[" * 100_000])
def test_a_sample_must_be_json(repo: Path, config: Config, content: bytes) -> None:
    (repo / "sample.json").write_bytes(content)
    assert "model.sample: `sample.json` is not JSON" in refusal(repo, config)


def test_links_inside_are_followed_step_by_step(repo: Path) -> None:
    (repo / "data").mkdir()
    (repo / "data/b.json").touch()
    (repo / "hop").symlink_to("data")
    (repo / "hop/a.json").symlink_to("../data/b.json")
    (repo / "link.json").symlink_to("hop/a.json")
    assert link_targets(repo, ["link.json", "sample.json"]) == ("hop", "data/a.json", "data/b.json")


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside"])
def test_links_that_the_engine_cannot_follow(repo: Path, target: str) -> None:
    (repo / "link.json").symlink_to(target)
    with pytest.raises(UsageError, match=r"link\.json` is a symbolic link"):
        link_targets(repo, ["link.json"])


def test_links_in_a_circle_are_refused(repo: Path, config: Config) -> None:
    (repo / "sample.json").unlink()
    (repo / "sample.json").symlink_to("sample.json")
    assert "sample.json" in refusal(repo, config)


@pytest.mark.parametrize("planted", PRIVATE_NAMES)
@pytest.mark.parametrize("source", ["app", "."])
def test_credentials_are_named_and_left_out(planted: str, source: str, tmp_path: Path) -> None:
    path = tmp_path / "app" / "deep" / planted
    path.parent.mkdir(parents=True)
    path.write_text("x")
    (found,) = private_files(tmp_path, (source,))
    assert f"app/deep/{planted}".startswith(found)
    assert private_files(tmp_path, (source, found)) == ()


@pytest.mark.parametrize("name", ["env.py", "keys.py", "environment.yml", "model.pt", "tokenizer.json", "config.json"])
def test_ordinary_files_are_no_credentials(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("x")
    assert private_files(tmp_path, (".",)) == ()
