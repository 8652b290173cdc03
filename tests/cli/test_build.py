"""`mlship build` as a user meets it, with a scripted engine: what it asks, what it says, and what it never pushes."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from typer.testing import CliRunner, Result

import mlship.engine
from mlship.cli.app import app
from mlship.engine.base import BuildRequest, ExitState, StepFinished, StepOutput, StepStarted
from tests.helpers.attached import Attached
from tests.helpers.fakes import Script
from tests.helpers.locked_repos import DIGEST, locked
from tests.helpers.smoke_engine import Engine
from tests.helpers.smoke_events import IMAGE, stages
from tests.helpers.smoke_scripts import lines_of
from tests.helpers.toy import toy


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return locked(toy(tmp_path))


TAG = "toy:dev"
STEP = "[python-modules 1/1] RUN --mount=type=secret,id=mlship-env uv pip install"


class Run(Protocol):
    def __call__(self, *arguments: str) -> Result: ...


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    Attached.instead_of_a_registry(monkeypatch)
    events = (
        StepStarted("1", STEP),
        StepOutput("1", "Installed 1 package"),
        StepFinished("1", STEP, 2.0, cached=False),
    )
    found = Engine(built=IMAGE, events=events, digests={TAG: DIGEST, "reg.example/x:1": DIGEST})
    monkeypatch.setattr(mlship.engine, "connect", lambda: found)
    return found


@pytest.fixture
def run(engine: Engine, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    for name in ("GITHUB_STEP_SUMMARY", "MLSHIP_BASE_MIRROR", "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield lambda *arguments: CliRunner().invoke(app, ["build", "-C", str(repo), *arguments])
    assert engine.running == {}


def request(engine: Engine) -> BuildRequest:
    found = engine.requests[0]
    assert isinstance(found, BuildRequest)
    return found


def broken(engine: Engine) -> None:
    engine.model = Script(lines_of(*stages("load")), ends=ExitState(1, out_of_memory=False))


def test_a_build_is_proven_and_says_so_first(run: Run, engine: Engine) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"PROVEN on cpu: {TAG}\n")
    for words in (
        f"name              {TAG}",
        "id                sha256:1",
        "linux/amd64",
        DIGEST,
        "built in",
        "tested in",
    ):
        assert words in done.stdout
    assert "pushed" not in done.stdout
    assert "testing the image as it will run in production" in done.stderr
    assert "✓ python-modules: prepare the environment, and compile all b" in done.stderr
    assert "Installed 1 package" not in done.stderr
    assert sorted(engine.calls[:2]) == ["build", "info"]  # side by side
    assert "push" not in engine.calls


def test_verbose_shows_what_steps_print(run: Run) -> None:
    assert "| Installed 1 package" in run("--verbose").stderr


def test_what_was_proven_is_pushed_and_nothing_else(run: Run, engine: Engine) -> None:
    done = run("--push", "--tag", "reg.example/x:1")
    assert done.exit_code == 0, done.output
    assert f"pushed as         {DIGEST}" in done.stdout
    assert engine.calls.count("start") == 3
    assert engine.calls[-2:] == ["push", "info"]
    assert "`mlship verify reg.example/x:1` reads it" in done.stdout


def test_what_fails_its_test_is_not_pushed(run: Run, engine: Engine) -> None:
    broken(engine)
    done = run("--push")
    assert done.exit_code == 1
    assert done.stdout.startswith("NOT PROVEN: model.load")
    assert "error: toy:unproven-dev is not proven: model.load" in done.stderr
    assert "not tagged        toy:dev: only a proven image gets this name" in done.stdout
    assert "push" not in engine.calls


def test_without_the_test_nothing_is_called_proven(run: Run, engine: Engine) -> None:
    done = run("--no-smoke")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("NOT PROVEN: toy:unproven-dev was built but not tested")
    assert "tested in" not in done.stdout
    assert "start" not in engine.calls
    assert list(engine.images) == ["toy:unproven-dev"]


def test_an_untested_image_is_pushed_only_by_its_own_flag(run: Run, engine: Engine) -> None:
    refused = run("--no-smoke", "--push")
    assert refused.exit_code == 2
    assert "`--push` pushes proven images only" in refused.stderr
    assert engine.calls == []
    done = run("--no-smoke", "--push-unproven")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("NOT PROVEN: toy:dev was built but not tested\nPushed unproven")
    assert engine.calls[-1] == "push"


def test_tags_repeat(run: Run, engine: Engine) -> None:
    done = run("-t", "a:1", "-t", "b:2", "--json")
    assert json.loads(done.stdout)["tags"] == ["a:1", "b:2"]
    assert sorted(engine.images) == ["a:1", "b:2"]


def test_json_is_alone_on_stdout_and_keeps_the_exit_code(run: Run, engine: Engine) -> None:
    report = json.loads(run("--json").stdout)
    assert (report["tag"], report["image_id"], report["digest"]) == (TAG, "sha256:1", None)
    assert report["smoke"]["passed"] is True
    assert report["base"] == f"python:3.11-slim-bookworm@{DIGEST}"
    broken(engine)
    failed = run("--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["smoke"]["passed"] is False


def test_what_the_engine_is_asked(run: Run, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setenv("PIP_INDEX_URL", "https://u:hunter2@pypi.example/simple")
    run("--builder", "mine", "--cache-from", "a", "--cache-from", "b", "--cache-to", "c")
    asked = request(engine)
    assert (asked.platform, asked.builder) == ("linux/amd64", "mine")
    assert asked.epoch == 1_700_000_000
    assert (asked.cache_from, asked.cache_to) == (("a", "b"), ("c",))
    assert f"FROM python:3.11-slim-bookworm@{DIGEST}" in asked.dockerfile
    assert asked.ignore.startswith("#")
    assert b"hunter2" in asked.secrets["mlship-env"]
    assert "hunter2" not in asked.dockerfile
    assert asked.contexts["wheelhouse"].is_dir()


def test_the_platform_of_mlship_yaml_may_be_repeated(run: Run) -> None:
    assert run("--platform", "linux/amd64").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--platform", "windows/amd64"), "unsupported platform `windows/amd64`"),
        (("-t", "$(id)"), "invalid image name"),
    ],
)
def test_usage_errors_reach_no_engine(run: Run, engine: Engine, arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert engine.calls == []


def test_the_image_that_was_built_is_the_one_that_is_tested(run: Run, engine: Engine) -> None:
    engine.built = replace(IMAGE, user="root")
    done = run()
    assert done.exit_code == 1
    assert "image.user: runs as root" in done.stdout


@pytest.mark.parametrize(
    ("pin", "code", "words"),
    [
        ("faiss-gpu-cu12==9.9", 4, "the named host: faiss-gpu-cu12 9.9: faiss-gpu-cu12 9.9 is newer"),
        ("numpy==2.3.2", 4, "no locked package is known to use CUDA"),
        ("nvidia-cuda-runtime-cu12==12.8.90", 4, "is known to use CUDA's libraries (nvidia-cuda-runtime)"),
        ("torch==2.8.0+cu128", 0, ""),
    ],
)
def test_strict_builds_only_what_is_known_to_run(run: Run, repo: Path, pin: str, code: int, words: str) -> None:
    (repo / "mlship.yaml").write_text((repo / "mlship.yaml").read_text() + "gpu: {}\n")
    locked(repo, f"{pin} --hash=sha256:{'a' * 64}\n", "12.8")
    host = ("--driver", "580.95.05", "--compute-capability", "8.0", "--no-smoke")
    result = run(*host, "--strict")
    assert (result.exit_code, words in result.stderr) == (code, True), result.stderr
    assert run(*host).exit_code == 0
