"""A real engine that dies, or whose disk is full: the cause is named, and the same build succeeds afterwards."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mlship.engine import connect
from mlship.engine.base import BuildEvent, BuildRequest, RunRequest, StepStarted
from mlship.errors import EngineError, MlshipError, TransientError
from tests.helpers.second_engine import SecondEngine, second_engine

TAG = "mlship-test:1"


@pytest.fixture(scope="module")
def engine() -> Iterator[SecondEngine]:
    with (
        tempfile.TemporaryDirectory(prefix="mlship-engine-") as folder,  # a socket's path has at most 107 bytes
        second_engine(Path(folder), 150) as found,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("DOCKER_HOST", found.host)
        yield found


def build(context: Path, mib: int) -> BuildRequest:
    """One layer of bytes that do not compress."""
    context.mkdir(exist_ok=True)
    (context / "data").write_bytes(os.urandom(mib << 20))
    text = "FROM scratch\nCOPY data /\n"
    return BuildRequest(text, "", context, "linux/amd64", tag=TAG)


def failure(request: BuildRequest) -> MlshipError:
    with pytest.raises(MlshipError) as caught:
        connect().build(request, lambda _: None)
    return caught.value


def test_an_engine_that_is_killed_while_it_exports(engine: SecondEngine, tmp_path: Path) -> None:
    request = build(tmp_path / "context", 20)

    def watch(event: BuildEvent) -> None:
        if isinstance(event, StepStarted) and event.name.startswith("exporting to"):
            engine.kill()

    with pytest.raises(EngineError, match="ended, or was restarted, during the build"):
        connect().build(request, watch)
    engine.start()
    assert connect().image(TAG) is None
    connect().build(request, lambda _: None)
    connect().untag(TAG)


def fill_up(path: Path) -> None:
    """Add to a file until the disk, of 150 MiB, has no page left."""
    with suppress(OSError), path.open("ab", buffering=0) as file:
        for _ in range(150 << 8):
            file.write(bytes(4096))


def failed_start(fill: Path) -> MlshipError:
    fill_up(fill)
    with pytest.raises(MlshipError) as caught:
        connect().start(RunRequest(TAG, ("/data",)))
    return caught.value


def test_a_disk_that_is_full(engine: SecondEngine, tmp_path: Path) -> None:
    """While the context is sent, while the layer is exported, and while a container is created."""
    context = tmp_path / "context"
    connect().build(build(context, 1), lambda _: None)  # so that the engine's databases need not grow on a full disk
    connect().untag(TAG)
    for mib in (100, 60):
        error = failure(build(context, mib))
        assert isinstance(error, TransientError), error
        assert "disk is full" in error.message.splitlines()[0]
        assert "docker system df" in error.hint
        assert connect().image(TAG) is None
        engine.docker("builder", "prune", "--all", "--force")
    small = build(context, 10)
    connect().build(small, lambda _: None)
    fill = engine.folder / "disk" / "fill"
    fill_up(fill)
    assert isinstance(failure(build(context, 11)), TransientError)
    found = failed_start(fill)
    while "/data: permission denied" in found.message:  # the failed build gave its space back in the background
        found = failed_start(fill)
    assert isinstance(found, TransientError), found
    assert "disk is full" in found.message
    fill.unlink()
    connect().build(small, lambda _: None)
    assert not engine.docker("ps", "--all", "--quiet")
