"""`mlship build --reproducible --metadata` and `mlship rebuild` as a user meets them, with a scripted engine."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from typer.testing import CliRunner, Result

import mlship.build.rebuild
import mlship.engine
from mlship.build.record import read_metadata
from mlship.cli.app import app
from mlship.engine.base import BuildRequest, ExitState, Manifest
from mlship.engine.failures import FailedBuild, build_failure
from tests.helpers.build_records import BUILT, digest
from tests.helpers.fakes import Script
from tests.helpers.gits import committed, git
from tests.helpers.locked_repos import DIGEST, locked
from tests.helpers.repos import safetensors
from tests.helpers.smoke_engine import Engine
from tests.helpers.smoke_events import IMAGE, stages
from tests.helpers.smoke_scripts import lines_of
from tests.helpers.toy import YAML, toy


class Run(Protocol):
    def __call__(self, *arguments: str) -> Result: ...


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    found = Engine(built=replace(IMAGE, digest=BUILT.digest), manifest=BUILT, digests={"toy:dev": DIGEST})
    monkeypatch.setattr(mlship.engine, "connect", lambda: found)
    yield found
    assert found.running == {}


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("GITHUB_STEP_SUMMARY", "MLSHIP_BASE_MIRROR", "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    yield
    assert list(temporary.iterdir()) == []


def project(folder: Path) -> Path:
    """A repository with weights that git ignores; nothing is committed yet."""
    repo = toy(folder, mlship_yaml=YAML.replace("model:\n", "model:\n  weights: [w.safetensors]\n"))
    (repo / "w.safetensors").write_bytes(safetensors())
    (repo / ".gitignore").write_text("*.safetensors\n")
    return locked(repo)


@pytest.fixture(scope="module")
def committed_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repo = project(tmp_path_factory.mktemp("committed"))
    committed(repo)
    return repo


@pytest.fixture
def repo(tmp_path: Path, committed_project: Path) -> Iterator[Path]:
    repo = tmp_path / committed_project.name
    shutil.copytree(committed_project, repo)
    yield repo
    assert len(git(repo, "worktree", "list").splitlines()) == 1


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "build.json"


@pytest.fixture
def run(engine: Engine, repo: Path) -> Run:
    return lambda *arguments: CliRunner().invoke(app, [*arguments[:1], "-C", str(repo), *arguments[1:]])


@pytest.fixture(scope="module")
def recorded() -> list[str]:
    """The record of the build, after the first test that needs one."""
    return []


@pytest.fixture
def built(run: Run, engine: Engine, note: Path, recorded: list[str]) -> Path:
    if not recorded:
        done = run("build", "--reproducible", "--metadata", str(note))
        assert done.exit_code == 0, done.output
        engine.requests.clear()
        recorded.append(note.read_text())
    note.write_text(recorded[0])
    return note


def asked(engine: Engine) -> BuildRequest:
    (found,) = (request for request in engine.requests if isinstance(request, BuildRequest))
    return found


def test_a_reproducible_build_is_asked_for_and_noted(run: Run, engine: Engine, note: Path) -> None:
    done = run("build", "--reproducible", "--metadata", str(note), "--compression", "gzip")
    assert done.exit_code == 0, done.output
    assert (asked(engine).reproducible, asked(engine).compression) == (True, "gzip")
    assert f"wrote {note}" in done.stderr
    found = read_metadata(note)
    assert (found.digest, found.built, found.compression) == (BUILT.digest, BUILT, "gzip")
    assert found.proven is not None


def test_a_build_is_plain_where_nothing_is_asked(run: Run, engine: Engine, note: Path) -> None:
    done = run("build", "--metadata", str(note), "--no-smoke")
    assert done.exit_code == 0, done.output
    assert (asked(engine).reproducible, asked(engine).compression) == (False, "zstd")
    found = json.loads(note.read_text())
    assert (found["reproducible"], found["built"], found["proven"]) == (False, None, None)


def test_what_failed_its_test_is_not_noted(run: Run, engine: Engine, note: Path) -> None:
    engine.model = Script(lines_of(*stages("load")), ends=ExitState(1, out_of_memory=False))
    assert run("build", "--metadata", str(note)).exit_code == 1
    assert not note.exists()


@pytest.mark.parametrize("arguments", [("--reproducible",), ("--metadata", ".")])
def test_refusals_come_before_the_build(run: Run, engine: Engine, repo: Path, arguments: tuple[str, ...]) -> None:
    (repo / "model.py").write_text("changed")
    done = run("build", *arguments)
    assert done.exit_code == 2
    assert engine.calls == []


def test_a_rebuild_is_the_same_and_proven(run: Run, engine: Engine, repo: Path, built: Path) -> None:
    commit = read_metadata(built).source.commit or ""
    (repo / "model.py").write_text("work that goes on")
    git(repo, "tag", "later")
    git(repo, "remote", "add", "origin", "https://elsewhere.example/toy")
    done = run("rebuild", str(built))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"SAME IMAGE: toy:rebuild-{commit[:12]}\n")
    assert BUILT.digest in done.stdout.splitlines()[1]
    assert "PROVEN on cpu" in done.stdout
    request = asked(engine)
    assert request.reproducible
    assert request.context != repo
    assert '.version"="later"' not in request.dockerfile
    assert "elsewhere.example" not in request.dockerfile
    assert (repo / "model.py").read_text() == "work that goes on"


def test_another_engine_is_a_reason(run: Run, engine: Engine, built: Path) -> None:
    built.write_text(built.read_text().replace('"26.1.5"', '"23.0.1"'))
    engine.manifest = replace(BUILT, digest=digest(10), layers=(replace(BUILT.layers[0], digest=digest(11)),))
    done = run("rebuild", str(built))
    assert done.exit_code == 1
    assert "Docker Engine 23.0.1 and buildx 0.13.1 built the recorded image, 26.1.5 and 0.13.1 this one" in done.stdout
    assert "unknown" not in done.stdout


@pytest.mark.parametrize(
    ("tagged", "words"), [(BUILT.digest, "with the same proof label"), (digest(30), f"; recorded {digest(30)}")]
)
def test_a_proof_label_is_reported_separately(
    run: Run, engine: Engine, built: Path, monkeypatch: pytest.MonkeyPatch, tagged: str, words: str
) -> None:
    found = json.loads(built.read_text())
    found["digest"] = tagged
    found["built"]["digest"] = digest(31)
    built.write_text(json.dumps(found))
    engine.manifest = replace(BUILT, digest=digest(31))
    done = run("rebuild", str(built))
    assert done.exit_code == 0, done.output
    assert words in done.stdout.splitlines()[2]


def test_a_rebuild_says_nothing_of_what_it_has_not_tested(run: Run, engine: Engine, built: Path) -> None:
    engine.calls.clear()
    done = run("rebuild", str(built), "--no-smoke", "--tag", "mine:1")
    assert done.exit_code == 0
    assert "NOT PROVEN: mine:unproven-1 was built but not tested" in done.stdout
    assert "start" not in engine.calls


def test_a_rebuild_that_fails_its_test_is_no_success(run: Run, engine: Engine, built: Path) -> None:
    engine.model = Script(lines_of(*stages("load")), ends=ExitState(1, out_of_memory=False))
    done = run("rebuild", str(built))
    assert done.exit_code == 1
    assert done.stdout.startswith("SAME IMAGE")
    assert "NOT PROVEN: model.load" in done.stdout


def test_another_digest_is_shown_layer_by_layer(run: Run, engine: Engine, built: Path) -> None:
    layers = (BUILT.layers[0], replace(BUILT.layers[1], digest=digest(40)))
    engine.manifest = Manifest(digest(10), BUILT.config, layers)
    done = run("rebuild", str(built))
    assert done.exit_code == 1
    assert done.stdout.startswith("DIFFERENT IMAGE: toy:rebuild-")
    assert f"recorded  {BUILT.digest}\n  rebuilt   {digest(10)}" in done.stdout
    same, other = (line for line in done.stdout.splitlines() if line.startswith(("  = ", "  ≠ ")))
    assert "rebuilt" not in same
    assert " recorded, " in other
    assert "Likely reasons\n  - unknown: mlship, engine, base, lock and weights are the same" in done.stdout
    assert "is not the recorded image" in done.stderr


def test_json_has_the_answer_and_keeps_the_exit_code(run: Run, engine: Engine, built: Path) -> None:
    found = json.loads(run("rebuild", str(built), "--json").stdout)
    assert (found["same"], found["recorded"], found["reasons"]) == (True, BUILT.digest, [])
    assert found["build"]["smoke"]["passed"] is True
    engine.manifest = replace(BUILT, digest=digest(10), config=digest(20))
    other = run("rebuild", str(built), "--json")
    assert other.exit_code == 1
    found = json.loads(other.stdout)
    assert found["same"] is False
    assert found["reasons"][0] == "every layer is the same; the difference is in labels, environment or command"


def test_another_mlship_is_a_warning_first(
    run: Run, engine: Engine, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlship.build.rebuild, "__version__", "9.9.9")
    done = run("rebuild", str(built))
    warning = "mlship 0.1.0 built the image, and this is mlship 9.9.9: the digest will differ"
    assert warning in done.stderr.split("•")[0]
    engine.manifest = replace(BUILT, digest=digest(10))
    assert f"  - {warning}" in run("rebuild", str(built)).stdout


def test_other_weights_are_refused_with_both_hashes(run: Run, engine: Engine, repo: Path, built: Path) -> None:
    engine.calls.clear()
    (repo / "w.safetensors").write_bytes(safetensors((9.0,)))
    done = run("rebuild", str(built))
    assert done.exit_code == 2
    assert f"{repo / 'w.safetensors'}` has another hash, sha256:" in done.stderr
    assert read_metadata(built).weights[0].sha256 in done.stderr
    (repo / "w.safetensors").unlink()
    done = run("rebuild", str(built))
    assert done.exit_code == 2
    assert "does not exist (expected sha256:" in done.stderr
    assert "hint: download the recorded version" in done.stderr
    assert engine.calls == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reproducible": False}, "records a build without --reproducible"),
        ({"built": None}, "records a build without --reproducible"),
        ({"source": {"dirty": True}}, "uncommitted changes"),
        ({"source": {"commit": "1" * 40}}, "does not contain the commit 1111"),
        ({"source": {"path": "elsewhere"}}, "has no mlship.yaml in elsewhere"),
        ({"lock": {"requirements": digest(9)}}, "is not the one that the recorded image was built from"),
        ({"base": {"digest": digest(9)}}, "is not the one that the recorded image was built from"),
        ({"platform": "windows/amd64"}, "unsupported platform `windows/amd64`"),
        ({"schema": 2}, "unsupported schema 2 (expected 1)"),
    ],
)
def test_what_cannot_be_built_again_is_said(
    run: Run, engine: Engine, built: Path, changes: dict[str, object], words: str
) -> None:
    engine.calls.clear()
    found = json.loads(built.read_text())
    for key, value in changes.items():
        found[key] = {**found[key], **value} if isinstance(value, dict) else value
    built.write_text(json.dumps(found))
    done = run("rebuild", str(built))
    assert done.exit_code == 2
    assert words in done.stderr
    assert engine.calls == []


def test_a_base_that_is_gone_has_its_own_advice(run: Run, engine: Engine, built: Path) -> None:
    gone = FailedBuild("", (), f"python@{DIGEST}: not found")
    engine.failure = build_failure(gone)
    done = run("rebuild", str(built))
    assert done.exit_code == 6
    assert "no longer has the locked digest" in done.stderr
    assert "MLSHIP_BASE_MIRROR" in done.stderr
    assert "run `mlship lock`" not in done.stderr


def test_weights_of_the_commit_are_its_own(run: Run, engine: Engine, repo: Path, note: Path) -> None:
    git(repo, "add", "--force", "w.safetensors")
    committed(repo, "weights too")
    assert run("build", "--reproducible", "--metadata", str(note)).exit_code == 0
    (repo / "w.safetensors").write_bytes(safetensors((9.0,)))
    committed(repo, "other weights")
    assert run("rebuild", str(note)).exit_code == 0


def test_a_project_below_the_top_is_found_again(engine: Engine, tmp_path: Path, note: Path) -> None:
    models = tmp_path / "top/models"
    models.mkdir(parents=True)
    committed(project(models).parents[1])
    done = CliRunner().invoke(
        app, ["build", "-C", str(models / "toy"), "--reproducible", "--metadata", str(note), "--no-smoke"]
    )
    assert done.exit_code == 0, done.output
    for where in (models.parent, models, models / "toy"):
        done = CliRunner().invoke(app, ["rebuild", str(note), "-C", str(where), "--no-smoke"])
        assert done.exit_code == 0, done.output
