"""What killed runs leave is removed by the next one, and nothing of a run that lives or is somewhere else."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlship.build.preflight import check_tag
from mlship.leftovers import is_dead, is_dead_image, own_image_name, remove_dead_folders, temporary_folder, this_run

OTHER_RUN = """
import sys
from mlship.leftovers import temporary_folder, this_run
with temporary_folder("build") as folder:
    (folder / "Dockerfile").write_text("FROM x")
    print(folder, this_run(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def other_run(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path, str]]:
    program = [sys.executable, "-c", OTHER_RUN]
    env = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        path, _, run = process.stdout.readline().strip().partition(" ")
        yield process, Path(path), run
        process.kill()


def test_a_folder_is_removed_in_the_end_and_private(folder: Path) -> None:
    with temporary_folder("build") as made:
        assert (made.parent, made.stat().st_mode & 0o777) == (folder, 0o700)
        (made / "file").touch()
    assert not any(folder.iterdir())


def test_a_folder_of_a_killed_run_is_removed_and_of_a_living_one_is_not(folder: Path) -> None:
    with other_run(folder) as (process, theirs, run):
        with temporary_folder("lock") as ours:
            assert theirs.is_dir()
            assert not is_dead(run)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert theirs.is_dir()
        with temporary_folder("lock") as ours:
            assert [path.name for path in folder.iterdir()] == [ours.name]
        assert is_dead(run)


def test_an_image_name_is_valid_unique_and_dies_with_its_run(folder: Path) -> None:
    names = {own_image_name() for _ in range(3)}
    assert len(names) == 3
    assert set(map(check_tag, names)) == names
    assert not any(map(is_dead_image, names))
    with other_run(folder) as (process, _, run):
        name = f"mlship-run:{run.replace('/', '_')}_1"
        assert not is_dead_image(name)
        process.kill()
        process.wait()
        assert is_dead_image(name)
        assert not is_dead_image(f"host/{name}"), "not a name that mlship gives"
        assert not is_dead_image("mlship-run:1.0")


def test_the_folder_of_an_export_is_beside_it(folder: Path) -> None:
    dead = folder / ".out.mlship-run-export-abc"
    (dead / "out").mkdir(parents=True)
    unrelated = folder / ".other.mlship-run-export-abc"
    unrelated.mkdir()
    with temporary_folder("export", beside=folder / "out") as made:
        assert made.parent == folder
        assert not dead.exists()
        assert unrelated.exists()


def test_links_and_files_of_that_name_stay(folder: Path) -> None:
    (folder / "kept").mkdir()
    (folder / "mlship-run-link").symlink_to(folder / "kept")
    (folder / "mlship-run-file").touch()
    remove_dead_folders(folder)
    assert len(list(folder.iterdir())) == 3
    remove_dead_folders(folder / "missing")


def test_only_runs_of_this_boot_and_namespace_and_user_are_known_to_be_dead() -> None:
    here, pid, started = this_run().split("/")
    assert not is_dead(this_run())
    assert is_dead(f"{here}/{pid}/{int(started) + 1}")  # the number was given to another process
    for other in ("unknown", f"x{here}", here.replace("-", "_")):
        assert not is_dead(f"{other}/{pid}/{int(started) + 1}")
    for damaged in ("", here, f"{here}/", f"{here}/x/1", f"{here}/{pid}/unknown"):
        assert not is_dead(damaged)
