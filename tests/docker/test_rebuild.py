"""Rebuild the same image with a real engine: another folder, other file times and modes, no build cache."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlship.build.record import read_metadata
from tests.helpers.command import Command, mlship
from tests.helpers.gits import committed, git
from tests.helpers.patience import limit
from tests.helpers.repos import safetensors
from tests.helpers.toy import MODEL, YAML, toy

pytestmark = pytest.mark.docker
NAME = f"mlship-test-rebuild-{uuid.uuid4().hex[:8]}"


def docker(*arguments: str) -> str:
    return subprocess.run(("docker", *arguments), capture_output=True, text=True, check=True, timeout=limit(60)).stdout


@pytest.fixture(scope="module", autouse=True)
def _images_go() -> Iterator[None]:
    yield
    for image in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split():
        if NAME in image:
            docker("image", "rm", "--force", image)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A locked and committed repository whose weights are not committed."""
    repo = toy(
        tmp_path_factory.mktemp("first"), mlship_yaml=YAML.replace("model:\n", "model:\n  weights: [w.safetensors]\n")
    )
    (repo / "w.safetensors").write_bytes(safetensors())
    (repo / ".gitignore").write_text("*.safetensors\n")
    done = mlship("lock", cwd=repo)
    assert done.code == 0, done.stderr
    committed(repo)
    return repo


@pytest.fixture(scope="module")
def note(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of the first build."""
    path = tmp_path_factory.mktemp("notes") / "build.json"
    done = mlship("build", "--reproducible", "--metadata", str(path), "--tag", f"{NAME}:first", cwd=repo)
    assert done.code == 0, done.stderr
    return path


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Check that the test leaves nothing in the temporary folder."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    yield temporary
    assert list(temporary.iterdir()) == []


def forgetful(folder: Path) -> dict[str, str]:
    """A `docker` that wraps the real one and builds without a cache."""
    folder.mkdir()
    real = shutil.which("docker")
    (folder / "docker").write_text(
        "#!/bin/sh\n"
        f'if [ "$1 $2" = "buildx build" ]; then shift 2; exec {real} buildx build --no-cache "$@"; fi\n'
        f'exec {real} "$@"\n'
    )
    (folder / "docker").chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def clone(repo: Path, folder: Path) -> Path:
    """Another checkout, with the file times and modes of another machine."""
    git(repo, "clone", "--quiet", str(repo), str(folder))
    for path in folder.glob("*"):
        path.chmod(0o600 if path.is_file() else 0o700)
        os.utime(path, (1, 1))
    shutil.copyfile(repo / "w.safetensors", folder / "w.safetensors")
    return folder


def worktrees(repo: Path) -> int:
    return len(git(repo, "worktree", "list").splitlines())


def rebuilt(note: Path, where: Path, *options: str, env: dict[str, str] | None = None) -> Command:
    done = mlship("rebuild", str(note), "--no-smoke", "--tag", f"{NAME}:again", *options, cwd=where, env=env)
    assert worktrees(where) == 1
    return done


def test_the_record_matches_the_engine(note: Path) -> None:
    found = read_metadata(note)
    (image,) = json.loads(docker("image", "inspect", f"{NAME}:first"))
    assert image["Id"] == found.digest == found.image_id
    assert found.built is not None
    assert len(found.built.layers) == len(image["RootFS"]["Layers"])
    assert found.built.layers[-1].what == "add the code"


def test_layers_of_the_base_are_those_of_the_registry(note: Path) -> None:
    found = read_metadata(note)
    raw = docker("buildx", "imagetools", "inspect", "--raw", f"{found.base.reference}@{found.base.digest}")
    base = json.loads(raw)
    if "manifests" in base:
        (one,) = (entry for entry in base["manifests"] if entry["platform"]["architecture"] == "amd64")
        base = json.loads(docker("buildx", "imagetools", "inspect", "--raw", f"{found.base.reference}@{one['digest']}"))
    assert found.built is not None
    layers = [layer["digest"] for layer in base["layers"]]
    assert [layer.digest for layer in found.built.layers][: len(layers)] == layers


def test_another_checkout_without_a_cache_gives_the_same_image(note: Path, repo: Path, tmp_path: Path) -> None:
    other = clone(repo, tmp_path / "other")
    done = rebuilt(note, other, env=forgetful(tmp_path / "bin"))
    assert done.code == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"SAME IMAGE: {NAME}:unproven-again\n")
    (image,) = json.loads(docker("image", "inspect", f"{NAME}:unproven-again"))
    assert image["Id"] == read_metadata(note).digest


def test_later_changes_do_not_matter(note: Path, repo: Path, tmp_path: Path) -> None:
    other = clone(repo, tmp_path / "other")
    (other / "model.py").write_text(MODEL + "# later\n")
    (other / "w.safetensors").chmod(0o600)
    committed(other, "later")
    (other / "server.py").write_text("and not finished")
    done = mlship("rebuild", str(note), "--json", cwd=other)
    docker("image", "rm", "--force", json.loads(done.stdout)["build"]["tag"])
    assert done.code == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["same"], found["build"]["smoke"]["passed"]) == (True, True)
    assert found["rebuilt"] == read_metadata(note).digest
    assert (other / "server.py").read_text() == "and not finished"


def test_other_weights_are_refused(note: Path, repo: Path, tmp_path: Path) -> None:
    other = clone(repo, tmp_path / "other")
    (other / "w.safetensors").write_bytes(safetensors((7.0,)))
    done = rebuilt(note, other)
    assert done.code == 2
    assert "the recorded `w.safetensors` is not in the commit" in done.stderr


def test_another_plan_is_another_image_and_the_layers_are_named(note: Path, repo: Path, tmp_path: Path) -> None:
    found = json.loads(note.read_text())
    found["source"]["describe"] = "v9"
    found["built"]["digest"] = f"sha256:{1:064d}"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(found))
    done = rebuilt(other, repo)
    assert done.code == 1
    assert done.stdout.startswith("DIFFERENT IMAGE")
    assert "≠" not in done.stdout
    assert "every layer is the same; the difference is in labels, environment or command" in done.stdout


def test_gzip_layers_are_gzip_after_a_zstd_build(note: Path, repo: Path, registry: str) -> None:
    tag = f"{registry}/{NAME}/gzip:1"
    done = mlship("build", "--compression", "gzip", "--no-smoke", "--push-unproven", "--json", "--tag", tag, cwd=repo)
    assert done.code == 0, done.stderr
    manifest = json.loads(docker("buildx", "imagetools", "inspect", "--raw", tag))
    assert {layer["mediaType"].rpartition("+")[2] for layer in manifest["layers"]} == {"gzip"}


def test_the_pushed_digest_is_the_recorded_one(repo: Path, registry: str, tmp_path: Path) -> None:
    tag, path = f"{registry}/{NAME}/pushed:1", tmp_path / "build.json"
    done = mlship(
        *("build", "--reproducible", "--no-smoke", "--push-unproven", "--metadata", str(path), "--tag", tag, "--json"),
        cwd=repo,
    )
    assert done.code == 0, done.stderr
    found = read_metadata(path)
    assert json.loads(done.stdout)["digest"] == found.pushed == found.digest
    docker("buildx", "imagetools", "inspect", f"{tag.rpartition(':')[0]}@{found.digest}")


def interrupted(repo: Path, until: str, *arguments: str) -> tuple[int, str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "mlship", *arguments],
        cwd=repo,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if until in said:
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=limit(60))
    return process.returncode, said + rest


@pytest.mark.parametrize("until", ["checking out", "building", "add the code"])
def test_an_interruption_leaves_nothing_behind(note: Path, repo: Path, until: str) -> None:
    code, said = interrupted(repo, until, "rebuild", str(note), "--no-smoke", "-v", "--tag", f"{NAME}:interrupted")
    assert code == 130, said
    assert worktrees(repo) == 1
    assert not (repo / ".git/worktrees").exists()


def test_a_full_temporary_folder_is_transient(repo: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)),
        capture_output=True,
        check=False,
        timeout=limit(10),
    )
    if mounted.returncode:
        pytest.skip("a small file system needs the right to mount one")
    try:
        done = mlship(
            *("build", "--reproducible", "--no-smoke", "--tag", f"{NAME}:full"), cwd=repo, env={"TMPDIR": str(small)}
        )
        left = list(small.iterdir())
    finally:
        subprocess.run(("umount", str(small)), check=True, timeout=limit(10))
    assert done.code == 75, done.stderr
    assert "TMPDIR" in done.stderr
    assert left == []
