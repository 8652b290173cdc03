"""`mlship build` on a minimal repository: its results in the engine, and its failures."""

import json
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlship.build.preflight import unproven_name
from mlship.engine.base import OWNER
from mlship.leftovers import OWN_IMAGES, is_dead, is_dead_image
from tests.helpers.command import mlship
from tests.helpers.patience import limit
from tests.helpers.toy import MODEL, SERVER, YAML, toy

pytestmark = pytest.mark.docker
TAG = f"mlship-test-toy:{uuid.uuid4().hex[:8]}"  # other sessions may share the engine
UNPROVEN = unproven_name(TAG)


@pytest.fixture(scope="module")
def once_locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lock and trace once, which takes longer than most tests."""
    repo = toy(tmp_path_factory.mktemp("locked"))
    done = mlship("lock", cwd=repo)
    assert done.code == 0, done.stderr
    assert "the server imports" in done.stderr
    return repo


@pytest.fixture
def locked(once_locked: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(once_locked, tmp_path / "toy"))


@pytest.fixture(scope="module", autouse=True)
def _images_go() -> Iterator[None]:
    yield
    subprocess.run(("docker", "rmi", "--force", TAG, UNPROVEN), capture_output=True, check=False, timeout=limit(60))


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check that the test leaves no containers of its image and no temporary files."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    yield
    for name in (TAG, UNPROVEN):
        owners = docker("ps", "--all", "--format", f'{{{{.Label "{OWNER}"}}}}', "--filter", f"ancestor={name}").split()
        assert not list(filter(is_dead, owners))  # another worker may run the same image
    assert list(temporary.iterdir()) == []


def docker(*arguments: str) -> str:
    return subprocess.run(("docker", *arguments), capture_output=True, text=True, check=True, timeout=limit(60)).stdout


def test_report_lists_what_was_proven(locked: Path) -> None:
    done = mlship("build", "--tag", TAG, "--progress", "plain", cwd=locked)  # which also names cached steps
    assert done.code == 0, done.stderr
    assert "PROVEN" in done.stdout.splitlines()[0]
    assert "RUN" not in done.stderr
    assert "COPY" not in done.stderr
    assert "and compile bytecode of imported modules" in done.stderr
    assert "cpu" in done.stdout


def test_labels_match_the_plan(locked: Path) -> None:
    mlship("build", "--tag", TAG, "--no-smoke", cwd=locked)
    planned = json.loads(mlship("plan", "--json", cwd=locked).stdout)["labels"]
    labels = json.loads(docker("image", "inspect", UNPROVEN))[0]["Config"]["Labels"]
    assert planned.items() <= labels.items()


def test_without_smoke_the_report_claims_nothing_proven(locked: Path) -> None:
    done = mlship("build", "--tag", TAG, "--no-smoke", cwd=locked)
    assert done.code == 0
    assert "NOT PROVEN" in done.stdout
    assert json.loads(mlship("build", "--tag", TAG, "--no-smoke", "--json", cwd=locked).stdout)["smoke"] is None


def test_smoke_needs_no_repository(locked: Path, tmp_path: Path) -> None:
    mlship("build", "--tag", TAG, "--no-smoke", cwd=locked)
    done = mlship("smoke", UNPROVEN, cwd=tmp_path)
    assert done.code == 0, done.stdout + done.stderr


def test_a_failing_model_fails_the_build_and_is_not_pushed(locked: Path) -> None:
    (locked / "model.py").write_text(MODEL.replace("* w for", "* float('nan') for"))
    never = f"127.0.0.1:9/never-{uuid.uuid4().hex[:8]}"
    done = mlship("build", "--tag", f"{never}:pushed", "--push", cwd=locked)
    assert done.code == 1
    assert "NOT PROVEN" in done.stdout
    assert "pushing" not in done.stderr
    names = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", never).split()
    docker("rmi", *names)
    assert names == [f"{never}:unproven-pushed"]


def test_labels_and_env_survive_quoting(locked: Path) -> None:
    odd = "a \"b\" $HOME $(id) {{x}} 'c' \\ \\n é"
    (locked / "mlship.yaml").write_text(YAML + f"env:\n  ODD: {json.dumps(odd, ensure_ascii=False)}\n")
    assert mlship("build", "--tag", TAG, "--no-smoke", cwd=locked).code == 0
    environment = json.loads(docker("image", "inspect", UNPROVEN))[0]["Config"]["Env"]
    assert f"ODD={odd}" in environment


def test_code_is_readable_regardless_of_file_modes(locked: Path) -> None:
    (locked / "model.py").chmod(0o600)
    assert mlship("build", "--tag", TAG, cwd=locked).code == 0


def test_push_goes_to_a_real_registry(locked: Path, registry: str) -> None:
    done = mlship("build", "--tag", f"{registry}/mlship-test/toy:1", "--push", "--json", cwd=locked)
    assert done.code == 0, done.stderr
    digest = json.loads(done.stdout)["digest"]
    assert digest.startswith("sha256:")
    docker("buildx", "imagetools", "inspect", f"{registry}/mlship-test/toy@{digest}")


def test_a_registry_that_does_not_answer_is_transient(locked: Path) -> None:
    done = mlship("build", "--tag", "127.0.0.1:9/toy:1", "--push", cwd=locked)
    assert done.code == 75, done.stderr


def test_an_unknown_debian_package_fails_the_build(locked: Path) -> None:
    (locked / "mlship.yaml").write_text(YAML + "system: {build: [no-such-package-anywhere]}\n")
    done = mlship("build", "--tag", TAG, cwd=locked)
    assert done.code == 6
    assert "no-such-package-anywhere" in done.stderr
    assert "hint:" in done.stderr


def test_links_inside_the_repository_are_followed(locked: Path) -> None:
    (locked / "data").mkdir()
    for name in ("model.py", "sample.json", "golden.json", "requirements.txt", "weights.txt"):
        (locked / name).rename(locked / "data" / name)
        (locked / name).symlink_to(f"data/{name}")
    done = mlship("build", "--tag", TAG, cwd=locked)
    assert done.code == 0, done.stderr


def test_debian_packages_reach_the_final_image(locked: Path) -> None:
    (locked / "mlship.yaml").write_text(YAML + "system: {run: [libgomp1, fuse3]}\n")
    done = mlship("build", "--tag", TAG, cwd=locked)
    assert done.code == 0, done.stderr
    listed = docker("run", "--rm", "--network=none", TAG, "ls", "/usr/lib/x86_64-linux-gnu", "/var/lib/apt/lists")
    assert "libgomp.so.1" in listed
    assert "_Packages" not in listed
    found = docker("run", "--rm", "--user=0", TAG, "find", "/", "-xdev", "-type", "f", "-perm", "/6000")
    assert found == ""
    # setuid in Debian: a requested program stays, without the bit; the base image's are gone
    assert docker("run", "--rm", TAG, "stat", "-c", "%a", "/usr/bin/fusermount3").strip() == "755"
    assert "su" not in docker("run", "--rm", TAG, "ls", "/usr/bin").split()


def containers() -> set[str]:
    """Containers of this module's image only, because other tests may run at the same time."""
    listed = docker("ps", "--all", "--format", "{{.Image}} {{.ID}}", "--filter", "label=dev.mlship.owner")
    return {line for line in listed.splitlines() if line.startswith((TAG, UNPROVEN))}


def interrupt(
    repo: Path,
    when: Callable[[str], bool],
    *arguments: str,
    number: signal.Signals = signal.SIGINT,
    before: Callable[[], object] = set,
) -> tuple[int, str]:
    """Start mlship and send a signal when its output matches `when`; `before` is called while it still runs."""
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
        if when(said):
            break
    time.sleep(1.0)
    before()
    process.send_signal(number)
    _, rest = process.communicate(timeout=limit(60))
    return process.returncode, said + rest


def test_interrupted_while_building(locked: Path) -> None:
    (locked / "requirements.in").write_text("iniconfig\npackaging\n")
    mlship("lock", cwd=locked)
    (locked / "mlship.yaml").write_text(YAML + "system: {build: [file, less, tree, unzip, bc]}\n")
    code, said = interrupt(locked, lambda text: "building" in text, "build", "--tag", TAG)
    assert code == 130, said
    assert "Traceback" not in said


def test_interrupted_while_loading_the_model(locked: Path) -> None:
    (locked / "model.py").write_text(
        "import time\n" + MODEL.replace("    weights =", "    time.sleep(60)\n    weights =")
    )
    code, said = interrupt(locked, lambda text: "as it will run" in text, "build", "--tag", TAG)
    assert code == 130, said


def test_interrupted_while_serving(locked: Path) -> None:
    (locked / "server.py").write_text(SERVER.replace("    predict = model.load()", "    import time; time.sleep(60)"))
    mlship("build", "--tag", TAG, "--no-smoke", cwd=locked)
    code, said = interrupt(locked, lambda text: "serv" in text, "smoke", UNPROVEN, number=signal.SIGHUP)
    assert code == 130, said
    assert not containers()


def of_runs() -> tuple[set[str], set[str]]:
    """Owners of containers, and names of images, of all runs that this engine has something of."""
    owners = docker("ps", "--all", "--filter", f"label={OWNER}", "--format", f'{{{{.Label "{OWNER}"}}}}').split()
    names = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", OWN_IMAGES).split()
    return set(owners), set(names)


def test_a_run_that_is_killed_leaves_what_the_next_one_removes(locked: Path, tmp_path: Path) -> None:
    (locked / "server.py").write_text(SERVER.replace("    predict = model.load()", "    import time; time.sleep(60)"))
    noted: list[tuple[set[str], set[str]]] = []  # before the kill: other tests' runs remove what is dead, too
    building = ("build", "--tag", TAG)
    code, _ = interrupt(
        locked,
        lambda text: "starting the server" in text,
        *building,
        number=signal.SIGKILL,
        before=lambda: noted.append(of_runs()),
    )
    assert code == -signal.SIGKILL
    owners, names = set(filter(is_dead, noted[0][0])), set(filter(is_dead_image, noted[0][1]))
    assert owners
    assert names
    code, _ = interrupt(locked, lambda text: "building" in text, *building, number=signal.SIGKILL)
    assert code == -signal.SIGKILL
    (locked / "server.py").write_text(SERVER)
    done = mlship(*building, cwd=locked)
    assert done.code == 0, done.stderr
    left = of_runs()
    assert not owners & left[0]
    assert not names & left[1]
    assert not any((tmp_path / "temporary").iterdir())


def test_interrupted_lock_keeps_the_old_one(locked: Path) -> None:
    before = (locked / "requirements.txt").read_bytes(), (locked / "mlship.lock").read_bytes()
    (locked / "requirements.in").write_text("iniconfig\nscikit-learn\n")
    code, said = interrupt(locked, bool, "lock")
    assert code == 130, said
    assert ((locked / "requirements.txt").read_bytes(), (locked / "mlship.lock").read_bytes()) == before
    assert not list(locked.glob(".*requirements*"))
