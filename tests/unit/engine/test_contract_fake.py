"""FakeEngine keeps the contract, so that tests which use it are about the real one."""

from dataclasses import replace
from pathlib import Path

import pytest

from mlship.engine.base import (
    BuildRequest,
    BuildWatcher,
    ExitState,
    ImageInfo,
    ImageLayer,
    Manifest,
    RunRequest,
    StepFinished,
    StepOutput,
    StepStarted,
    started,
)
from mlship.engine.failures import FailedBuild, build_failure
from tests.helpers.engine_contract import CONTRACT, HUNGRY, SAY, SLEEP, Check
from tests.helpers.fakes import FakeEngine, Script

IMAGE = ImageInfo("sha256:1", 1, "linux/amd64", "1001:1001", "/", ("sleep", "60"), {}, {})
RUN = "[work 3/3] RUN echo working"
DIGEST = f"sha256:{'d' * 64}"
MANIFEST = Manifest(DIGEST, f"sha256:{'c' * 64}", (ImageLayer(f"sha256:{'1' * 64}", 10, "RUN mkdir /new"),))
FAILED = FailedBuild("[work 4/4] RUN echo last words >&2; exit 7", ("last words",), "exit code: 7")


class Builder(FakeEngine):
    """A fake whose builds fail when their Dockerfile says so."""

    def build(self, request: BuildRequest, watch: BuildWatcher) -> Manifest | None:
        self.failure = build_failure(FAILED) if "exit 7" in request.dockerfile else None
        return super().build(request, watch)


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_contract(check: Check, tmp_path: Path) -> None:
    engine = Builder(
        steps=(("RUN one", 1),),
        images={"tiny:1": IMAGE},
        scripts={
            SAY: Script(("one", "two"), "beside\n", ExitState(3, out_of_memory=False)),
            SLEEP: Script(ends=None),
            HUNGRY: Script(ends=ExitState(137, out_of_memory=True)),
        },
        events=(StepStarted("r", RUN), StepOutput("r", "working"), StepFinished("r", RUN, 0.1, cached=False)),
        files={"group": b"root:x:0:\n"},
        built=replace(IMAGE, digest=DIGEST),
        manifest=MANIFEST,
        gpus=False,
    )
    check(engine, "tiny:1", tmp_path)
    assert not engine.running


def test_what_starts_is_removed_even_if_starting_is_interrupted() -> None:
    class Interrupted(FakeEngine):
        def start(self, request: RunRequest) -> str:
            super().start(request)
            raise KeyboardInterrupt

    engine = Interrupted(images={"tiny:1": IMAGE}, scripts={SLEEP: Script(ends=None)})
    with pytest.raises(KeyboardInterrupt), started(engine, RunRequest("tiny:1", command=SLEEP)):
        pass
    assert not engine.running
