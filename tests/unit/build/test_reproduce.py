"""What --reproducible refuses and warns of, and what --metadata notes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlship import __version__
from mlship.build.preflight import check_metadata
from mlship.build.prepare import Prepared, prepare
from mlship.build.record import Metadata, Proof, TargetHost, Tools, Weight
from mlship.build.report import BuildReport
from mlship.build.reproduce import build_metadata, check_reproducible
from mlship.build.run import BuildOptions, build
from mlship.cuda.hosts.profile import COMMAND_LINE, Fleet, HostGpu, HostProfile
from mlship.engine.base import EngineInfo, ImageLayer, Manifest
from mlship.errors import EngineError, UsageError
from mlship.files import sha256_file
from mlship.image.titles import named_layers
from mlship.smoke.result import Figures, SmokeReport
from tests.helpers.build_records import BUILT, digest
from tests.helpers.build_reporters import IMAGE, Silent
from tests.helpers.fakes import FakeEngine
from tests.helpers.gits import committed, git
from tests.helpers.locked_repos import locked
from tests.helpers.repos import safetensors
from tests.helpers.toy import YAML, toy

ENGINE = EngineInfo("26.1.5", "0.13.1", "linux/amd64", rootless=False)
HOST = HostProfile("a", "550.54.15", (HostGpu("A100", "8.0"),), "linux/amd64")


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("MLSHIP_BASE_MIRROR", "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A project below the top of its git repository, with weights that git ignores."""
    yaml = YAML.replace("model:\n", "model:\n  weights: [w]\n").replace("source: [", "source: [package, ")
    repo = toy(tmp_path, mlship_yaml=yaml)
    for name, data in {"w/a.safetensors": safetensors(), "package/x.py": b"", ".gitignore": b"*.safetensors\n"}.items():
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).write_bytes(data)
    locked(repo)
    committed(tmp_path)
    return repo


def report(**changed: object) -> BuildReport:
    names = ("toy:dev",)
    plain = BuildReport(*names, names, names, True, "sha256:1", "linux/amd64", "python@x", 1000, 1.0, None, None, None)
    return replace(plain, **changed)  # type: ignore[arg-type]  # the values have different types


def test_a_clean_commit_may_be_built(repo: Path) -> None:
    assert check_reproducible(prepare(repo)) == ()
    (repo / "notes.txt").write_text("not in the image")
    assert check_reproducible(prepare(repo)) == ()


def test_without_a_commit_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    repo = locked(toy(tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match="has no commit") as caught:
        check_reproducible(prepare(repo))
    assert "git init" in caught.value.hint
    git(repo, "init", "--quiet")
    with pytest.raises(UsageError, match="has no commit"):
        check_reproducible(prepare(repo))


def test_what_is_not_as_committed_is_refused_and_named(repo: Path, tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}").touch()
    committed(tmp_path, "two")
    for number in range(7):
        (tmp_path / f"{number}").write_text("changed")
    with pytest.raises(UsageError, match="uncommitted changes") as caught:
        check_reproducible(prepare(repo))
    assert caught.value.message.splitlines()[1:] == ["- 0", "- 1", "- 2", "- 3", "- 4", "- and 2 more"]
    assert "git stash" in caught.value.hint


@pytest.mark.parametrize("name", ["package/new.py", "package/ignored.safetensors"])
def test_source_that_is_in_no_commit_is_refused_and_named(repo: Path, name: str) -> None:
    (repo / name).write_text("x = 1\n")
    with pytest.raises(UsageError, match="are not committed") as caught:
        check_reproducible(prepare(repo))
    assert f"\n- {name}" in caught.value.message


def test_a_lock_that_is_in_no_commit_is_refused(repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "rm", "--quiet", "--cached", "toy/mlship.lock")
    committed_without = git(tmp_path, "commit", "--quiet", "--message", "no lock")
    assert committed_without == ""
    with pytest.raises(UsageError, match=r"\n- mlship\.lock"):
        check_reproducible(prepare(repo))


def test_debian_packages_are_a_warning(repo: Path, tmp_path: Path) -> None:
    with (repo / "mlship.yaml").open("a") as file:
        file.write("system: {run: [libgomp1], build: [g++]}\n")
    committed(tmp_path, "two")
    (warning,) = check_reproducible(prepare(repo))
    assert "g++, libgomp1" in warning


def gpu(prepared: Prepared, fleet: Fleet) -> Prepared:
    return replace(prepared, fleet=fleet)


def test_a_host_that_only_this_machine_is_is_refused(repo: Path) -> None:
    prepared = prepare(repo)
    with pytest.raises(UsageError, match="which another machine cannot do") as caught:
        check_reproducible(gpu(prepared, Fleet((HOST,), "this machine", committed=False)))
    assert "mlship hosts record" in caught.value.hint
    for fleet in (Fleet((HOST,), COMMAND_LINE, committed=False), Fleet((HOST,), "hosts/", committed=True)):
        assert check_reproducible(gpu(prepared, fleet)) == ()


def test_an_engine_that_keeps_no_digest_is_refused_before_anything_is_built(repo: Path) -> None:
    engine = FakeEngine(built=IMAGE, keeps_manifests=False)
    with pytest.raises(EngineError, match="containerd image store") as caught:
        build(prepare(repo), engine, BuildOptions(reproducible=True), Silent())
    assert "containerd-snapshotter" in caught.value.hint
    assert engine.requests == []


def test_everything_is_noted(repo: Path, tmp_path: Path) -> None:
    prepared = prepare(repo)
    proof = SmokeReport("toy:dev", "sha256:1", "cpu", (), Figures())
    made = report(manifest=digest(1), built=BUILT, smoke=proof, digest=digest(1))
    options = BuildOptions(reproducible=True, compression="gzip")
    found = build_metadata(prepared, made, options, ENGINE)
    assert (found.digest, found.pushed, found.built, found.image_id) == (digest(1), digest(1), BUILT, "sha256:1")
    assert (found.reproducible, found.compression, found.platform) == (True, "gzip", "linux/amd64")
    assert found.source.commit == git(repo, "rev-parse", "HEAD")
    assert (found.source.path, found.source.dirty, found.source.url) == ("toy", False, None)
    assert found.source.epoch == int(git(repo, "log", "-1", "--format=%ct"))
    assert found.base.reference == "python:3.11-slim-bookworm"
    assert found.lock.requirements == prepared.lock.record.requirements
    assert found.lock.record == sha256_file(repo / "mlship.lock")
    weight = repo / "w/a.safetensors"
    assert found.weights == (Weight("w/a.safetensors", sha256_file(weight), weight.stat().st_size),)
    assert found.proven == Proof("cpu", (), None)
    assert found.tools == Tools(__version__, "26.1.5", "0.13.1")
    assert Metadata.from_json(found.to_json(), "x") == found


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    prepared = prepare(locked(toy(tmp_path)))
    found = json.loads(build_metadata(prepared, report(), BuildOptions(), ENGINE).to_json())
    assert [found[key] for key in ("digest", "pushed", "built", "proven", "host")] == [None] * 5
    source = found["source"]
    assert [source[key] for key in ("commit", "describe", "url", "path", "dirty")] == [None] * 5
    assert source["epoch"] == prepared.plan.epoch


def test_a_changed_file_is_noted_and_so_is_a_named_host(repo: Path) -> None:
    (repo / "model.py").write_text("changed")
    fleet = Fleet((HOST,), COMMAND_LINE, committed=False)
    found = build_metadata(gpu(prepare(repo), fleet), report(), BuildOptions(), ENGINE)
    assert found.source.dirty is True
    assert found.host == TargetHost("550.54.15", ("8.0",))


def test_where_metadata_cannot_be_written_is_said_first(tmp_path: Path) -> None:
    check_metadata(tmp_path / "new/folder/build.json", images=1)
    with pytest.raises(UsageError, match="is a folder"):
        check_metadata(tmp_path, images=1)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write to"):
        check_metadata(tmp_path / "file/build.json", images=1)


def test_layers_are_called_as_the_steps_that_made_them() -> None:
    titles = {"builder": ("add programs",), "system": ("name the user",), "runtime": ("add the code",)}
    layers = (ImageLayer(digest(1), 1, "BASE"), ImageLayer(digest(2), 2, "RUN x"), ImageLayer(digest(3), 3, "COPY y"))
    named = named_layers(Manifest(digest(1), digest(2), layers), titles)
    assert [layer.what for layer in named.layers] == ["BASE", "name the user", "add the code"]
    short = Manifest(digest(1), digest(2), layers[:1])
    assert named_layers(short, titles) == short
