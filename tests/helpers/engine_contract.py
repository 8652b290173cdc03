"""Checks that every engine passes: FakeEngine always, the real engine with --run-docker."""

import io
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from mlship.engine.base import (
    BuildEvent,
    BuildRequest,
    Engine,
    ExitState,
    RunRequest,
    StepFinished,
    StepOutput,
    StepStarted,
    started,
)
from mlship.errors import BuildError, EngineError, UsageError
from tests.helpers.patience import limit

SAY = ("sh", "-c", "echo one; echo two; echo beside >&2; exit 3")
SLEEP = ("sleep", "60")
HUNGRY = ("tail", "/dev/zero")
MEMORY = 64 << 20
EPOCH = 1_600_000_000
REPRODUCIBLE = f"mlship-test-reproducible:{uuid4().hex[:8]}"  # the caller removes it

Check = Callable[[Engine, str, Path], None]


def request(image: str, folder: Path, last: str, *, tag: str | None = None, export: Path | None = None) -> BuildRequest:
    """A build on the small image with this last instruction."""
    dockerfile = f"FROM {image} AS work\nUSER 0\nRUN echo working\n{last}\n"
    return BuildRequest(dockerfile, "", folder, "linux/amd64", tag=tag, export=export)


def a_container_prints_and_ends(engine: Engine, image: str, _: Path) -> None:
    with started(engine, RunRequest(image, command=SAY)) as container:
        assert list(engine.output(container)) == ["one", "two"]
        assert engine.wait(container, 10) == ExitState(3, out_of_memory=False)
        assert engine.errors(container) == "beside\n"


def waiting_for_a_running_container_ends_in_time(engine: Engine, image: str, _: Path) -> None:
    with started(engine, RunRequest(image, command=SLEEP)) as container:
        begun = time.monotonic()
        assert engine.wait(container, 0.2) is None
        assert time.monotonic() - begun < limit(5)


def a_signal_stops_it_and_is_ignored_afterwards(engine: Engine, image: str, _: Path) -> None:
    with started(engine, RunRequest(image, command=SLEEP)) as container:
        engine.signal(container, "SIGKILL")
        assert engine.wait(container, 10) == ExitState(137, out_of_memory=False)
        engine.signal(container, "SIGTERM")


def removing_twice_is_allowed(engine: Engine, image: str, _: Path) -> None:
    run = RunRequest(image, command=SLEEP)
    container = engine.start(run)
    engine.remove(container)
    engine.remove(container)
    engine.remove(run.name)
    engine.signal(container, "SIGTERM")


def exceeding_the_memory_limit_is_reported(engine: Engine, image: str, _: Path) -> None:
    with started(engine, RunRequest(image, command=HUNGRY, memory=MEMORY)) as container:
        assert engine.wait(container, 30) == ExitState(137, out_of_memory=True)


def a_name_is_given_and_taken_away(engine: Engine, image: str, _: Path) -> None:
    name = f"mlship-test-name:{uuid4().hex[:8]}"
    engine.tag(image, name)
    named, original = engine.image(name), engine.image(image)
    assert named is not None
    assert original is not None
    assert named.id == original.id
    engine.untag(name)
    engine.untag(name)
    assert engine.image(name) is None
    assert engine.image(image) == original


def an_unknown_image_is_none_and_cannot_start(engine: Engine, _: str, __: Path) -> None:
    assert engine.image("mlship-test-nothing:0") is None
    with pytest.raises(UsageError, match="no image"):
        engine.start(RunRequest("mlship-test-nothing:0"))


def a_missing_gpu_is_an_error_and_leaves_no_container(engine: Engine, image: str, _: Path) -> None:
    run = RunRequest(image, command=SLEEP, gpu=True)
    with pytest.raises(EngineError, match="cannot give containers a GPU") as caught:
        engine.start(run)
    assert "--gpus all: " in caught.value.message
    assert "nvidia-ctk" in caught.value.hint
    with started(engine, replace(run, gpu=False)) as container:  # nothing with its name is left
        assert engine.wait(container, 0) is None


def a_local_image_is_described(engine: Engine, image: str, _: Path) -> None:
    info = engine.image(image)
    assert info is not None
    assert (info.user, info.command) == ("1001:1001", ("sleep", "60"))
    assert info.platform == engine.info().platform
    assert sum(count for _, count in engine.history(image)) > 0
    assert engine.history("mlship-test-nothing:0") == ()


def an_image_is_saved_as_an_image_layout(engine: Engine, image: str, _: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(engine.save(image)))) as tar:
        assert {"index.json", "oci-layout"} <= {name.removeprefix("./") for name in tar.getnames()}


def reading_an_image_partly_leaves_nothing_open(engine: Engine, image: str, _: Path) -> None:
    with closing(engine.save(image)) as chunks:
        assert next(iter(chunks))
    assert engine.image(image) is not None


def an_unknown_image_cannot_be_saved(engine: Engine, _: str, __: Path) -> None:
    with pytest.raises(UsageError, match="no image `mlship-test-nothing:0`"):
        next(iter(engine.save("mlship-test-nothing:0")))


def a_build_reports_its_steps_in_order_and_exports(engine: Engine, image: str, folder: Path) -> None:
    events: list[BuildEvent] = []
    out = folder / "out, put"
    out.mkdir()
    engine.build(request(image, folder, "FROM scratch\nCOPY --from=work /etc/group /", export=out), events.append)
    run = next(event.id for event in events if isinstance(event, StepStarted) and "RUN echo" in event.name)
    kinds = [type(event) for event in events if event.id == run]
    assert kinds in ([StepStarted, StepOutput, StepFinished], [StepStarted, StepFinished])
    assert (out / "group").read_bytes() == b"root:x:0:\n"


def a_reproducible_build_is_the_same_whenever_its_steps_run(engine: Engine, image: str, folder: Path) -> None:
    dockerfile = (
        f"FROM scratch AS changing\nFROM {image}\nUSER 0\n"
        "RUN --mount=type=bind,from=changing,target=/mnt mkdir /new && echo words > /new/file\n"
    )
    request = BuildRequest(
        dockerfile, "", folder, "linux/amd64", tag=REPRODUCIBLE, epoch=EPOCH, reproducible=True, compression="gzip"
    )
    built = []
    for compression in ("gzip", "zstd", "zstd"):  # whatever the cache holds as gzip
        folders = {"changing": {"nonce": uuid4().bytes}}  # so no step comes from the cache
        built.append(engine.build(replace(request, folders=folders, compression=compression), lambda _: None))
    found = engine.image(REPRODUCIBLE)
    assert found is not None
    assert built[1] is not None
    assert found.digest == built[1].digest
    assert built[1] == built[2]
    assert "mkdir /new" in built[1].layers[-1].what


def a_failed_step_is_named_with_its_lines(engine: Engine, image: str, folder: Path) -> None:
    with pytest.raises(BuildError) as caught:
        engine.build(request(image, folder, "RUN echo last words >&2; exit 7"), lambda _: None)
    assert "RUN echo last words" in caught.value.message
    assert "| last words" in caught.value.message
    assert caught.value.hint


CONTRACT: tuple[Check, ...] = (
    a_container_prints_and_ends,
    waiting_for_a_running_container_ends_in_time,
    a_signal_stops_it_and_is_ignored_afterwards,
    removing_twice_is_allowed,
    exceeding_the_memory_limit_is_reported,
    a_name_is_given_and_taken_away,
    an_unknown_image_is_none_and_cannot_start,
    a_missing_gpu_is_an_error_and_leaves_no_container,
    a_local_image_is_described,
    an_image_is_saved_as_an_image_layout,
    reading_an_image_partly_leaves_nothing_open,
    an_unknown_image_cannot_be_saved,
    a_build_reports_its_steps_in_order_and_exports,
    a_reproducible_build_is_the_same_whenever_its_steps_run,
    a_failed_step_is_named_with_its_lines,
)
