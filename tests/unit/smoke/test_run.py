"""The smoke test's orchestration against a scripted engine: what is started, removed and reported."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from mlship.engine.base import ExitState, RunRequest
from mlship.errors import CheckFailed, EngineError, TransientError, UsageError
from mlship.project.request import SampleRequest
from mlship.smoke.events import Failed, Hello, Output, RouteChange, Stop
from mlship.smoke.gpu_seen import GpuAfter
from mlship.smoke.result import Check, SmokeReport
from mlship.smoke.run import Bench, inside, record_golden, smoke
from tests.helpers.fakes import Script
from tests.helpers.smoke_events import IMAGE, MODEL, SERVE, SPEC, VALUE, stages
from tests.helpers.smoke_gpu_events import AFTER, BEFORE, FELL_BACK, IDLE, ORT_REQUIRE
from tests.helpers.smoke_scripts import Served, lines_of

QUICK = replace(SPEC, grace_seconds=0.2)
RUNS = None  # the image's own command


def engine(model: Script, client: Script, server: Script) -> Served:
    scripts = {inside("model", QUICK): model, inside("client", QUICK): client, RUNS: server}
    return Served(images={"app:1": IMAGE}, scripts=scripts)


def good() -> Served:
    return engine(Script(("garbage", *lines_of(*MODEL.events))), Script(lines_of(*SERVE.events)), Script(ends=None))


def on_gpu(after: GpuAfter = AFTER, stderr: str = "") -> Served:
    """The same, where a GPU is looked for."""
    model = Script(lines_of(*MODEL.events, BEFORE, after), stderr)
    found = good()
    found.scripts = {**found.scripts, inside("model", QUICK, gpu=True): model}
    return found


def check_of(report: SmokeReport, name: str) -> Check:
    return next(check for check in report.checks if check.id == name)


def quiet(_: str) -> None:
    pass


def test_a_good_image_is_proven_and_nothing_is_left() -> None:
    found, steps = good(), list[str]()
    report = smoke(Bench(found, "app:1", QUICK, steps.append))
    assert report.passed, [check for check in report.checks if check.status == "fail"]
    assert (report.image, report.image_id, report.device) == ("app:1", IMAGE.id, "cpu")
    assert found.running == {}
    assert steps == ["loading and warming the model", "starting the server", "stopping the server"]


def test_the_server_joins_the_clients_network_and_nothing_else() -> None:
    found = good()
    smoke(Bench(found, "app:1", QUICK, quiet))
    model, client, server = (request for request in found.requests if isinstance(request, RunRequest))
    assert (model.network, client.network) == ("none", "none")
    assert server.network == f"container:{client.name}"
    assert server.command is None
    assert {request.memory for request in (model, client, server)} == {QUICK.memory}


def test_the_model_and_the_server_get_the_gpu_and_the_client_does_not() -> None:
    found = on_gpu()
    report = smoke(Bench(found, "app:1", QUICK, quiet, device="gpu"))
    assert [request.gpu for request in found.requests if isinstance(request, RunRequest)] == [True, False, True]
    assert (report.passed, report.device, report.driver) == (True, "gpu", "550.54.15")
    assert report.gpu_seen == (BEFORE, AFTER)


def test_without_one_no_gpu_is_asked_for() -> None:
    found, spec = good(), replace(QUICK, gpu=True)
    found.scripts = {inside("model", spec): found.scripts[inside("model", QUICK)], **found.scripts}
    smoke(Bench(found, "app:1", spec, quiet))
    assert not any(request.gpu for request in found.requests if isinstance(request, RunRequest))


def test_an_engine_without_a_gpu_is_no_failed_check() -> None:
    found = on_gpu()
    found.gpus = False
    with pytest.raises(EngineError, match="cannot give containers a GPU"):
        smoke(Bench(found, "app:1", QUICK, quiet, device="gpu"))
    assert found.running == {}


def test_what_says_why_a_gpu_is_not_used_is_kept_among_all_that_is_printed() -> None:
    stderr = f"{ORT_REQUIRE}\n" + "chatter\n" * 100
    found = on_gpu(replace(IDLE, words=(FELL_BACK,)), stderr)
    bad = smoke(Bench(found, "app:1", QUICK, quiet, device="gpu")).failure
    assert bad is not None
    assert (bad.id, "needs cuDNN 9.* and CUDA 12.*" in bad.seen) == ("gpu.used", True)


def test_sigterm_reaches_the_server_before_the_client_is_notified() -> None:
    found = good()
    smoke(Bench(found, "app:1", QUICK, quiet))
    signals = [call for call in found.calls if call.startswith("signal")]
    assert signals[:2] == ["signal SIGTERM", "signal SIGUSR1"]


def test_the_model_runs_as_a_user_that_the_image_does_not_know_and_the_server_as_its_own() -> None:
    found = good()
    report = smoke(Bench(found, "app:1", QUICK, quiet))
    users = [request.user for request in found.requests if isinstance(request, RunRequest)]
    assert (users, check_of(report, "model.any_user").status) == (["1000760000:0", None, None], "pass")


class OnlyItsOwn(Served):
    """Its model fails under any user but the image's."""

    def start(self, request: RunRequest) -> str:
        wrong = Script(
            lines_of(*stages("load"), Failed("load", "KeyError", "uid not found", None, None, (), "/app/m.py, line 3")),
            ends=ExitState(1, out_of_memory=False),
        )
        usual = self.scripts
        self.scripts = {**usual, request.command: wrong} if request.user else usual
        name = super().start(request)
        self.scripts = usual
        return name


def test_a_model_that_needs_its_own_user_is_a_warning_and_proven_for_that_user() -> None:
    found = OnlyItsOwn(**vars(good()))
    report = smoke(Bench(found, "app:1", QUICK, quiet))
    check = check_of(report, "model.any_user")
    assert (report.passed, check.status) == (True, "warn")
    assert "fails at /app/m.py, line 3 as user 1001 with group 0: KeyError: uid not found" in check.seen


def test_a_model_that_fails_for_every_user_is_not_blamed_on_the_user() -> None:
    broken = Script(lines_of(*stages("load"), Failed("load", "ValueError", "torn", None, None, ())))
    report = smoke(Bench(engine(broken, Script(), Script()), "app:1", QUICK, quiet))
    assert report.failure is not None
    assert report.failure.id == "model.load"
    assert check_of(report, "model.any_user").status == "skip"


def test_values_for_the_test_reach_the_containers_and_no_report() -> None:
    failing = Script(
        lines_of(*stages("load"), Failed("load", "ValueError", "bad key s3cret-value", None, None, ())),
        "s3cret-value\n",
    )
    found, lines = engine(failing, Script(), Script()), list[str]()
    report = smoke(Bench(found, "app:1", QUICK, quiet, env={"API_KEY": "s3cret-value"}, listen=lines.append))
    assert "s3cret" not in f"{report} {lines}"
    assert "bad key ***" in str(report.failure)
    assert all(
        request.env == {"API_KEY": "s3cret-value"} for request in found.requests if isinstance(request, RunRequest)
    )


def test_without_a_loader_the_server_alone_is_tested() -> None:
    spec = replace(QUICK, load=None, request=SampleRequest("POST", "/predict", "sample.json"))
    found = Served(
        images={"app:1": IMAGE},
        scripts={inside("client", spec): Script(lines_of(*SERVE.events)), RUNS: Script(ends=None)},
    )
    report = smoke(Bench(found, "app:1", spec, quiet))
    assert report.passed, report.failure
    assert {check.status for check in report.checks if check.id.startswith("model.")} == {"skip"}
    with pytest.raises(UsageError, match="no `model"):
        record_golden(Bench(found, "app:1", spec, quiet))


def test_no_server_is_started_for_a_model_that_fails() -> None:
    found = engine(Script(lines_of(*stages("load")), ends=ExitState(137, out_of_memory=True)), Script(), Script())
    report = smoke(Bench(found, "app:1", QUICK, quiet))
    assert not report.passed
    assert found.calls.count("start") == 1


def test_a_server_that_dies_is_noticed_and_heard() -> None:
    lines: list[str] = []
    dead = Script(("on stdout",), "on stderr\n", ExitState(4, out_of_memory=False))
    found = engine(
        Script(lines_of(*MODEL.events)),
        Script(lines_of(Hello(), RouteChange("ready", 0, 0.1), Stop(inflight=False))),
        dead,
    )
    report = smoke(Bench(found, "app:1", QUICK, quiet, listen=lines.append))
    ready = next(check for check in report.checks if check.id == "serve.ready")
    assert ready.status == "fail"
    assert "exit code 4" in ready.seen
    assert lines == ["on stdout", "on stderr"]


def test_a_command_that_cannot_start_is_a_failed_check() -> None:
    class NoSuchProgram(Served):
        def start(self, request: RunRequest) -> str:
            if request.command is None:
                raise UsageError("app:1 cannot start: uvicorn: executable file not found in $PATH", hint="")
            return super().start(request)

    found = NoSuchProgram(**vars(good()))
    report = smoke(Bench(found, "app:1", QUICK, quiet))
    failed = [check for check in report.checks if check.status == "fail"]
    assert [check.id for check in failed] == ["serve.ready"]
    assert "serve.command" in failed[0].remedy
    assert found.running == {}


def test_an_image_without_python_is_a_failed_check() -> None:
    class NoPython(Served):
        def start(self, request: RunRequest) -> str:
            raise UsageError(f"{request.image} cannot start: python: executable file not found in $PATH", hint="")

    found = NoPython(**vars(good()))
    report = smoke(Bench(found, "app:1", QUICK, quiet))
    assert [check.id for check in report.checks if check.status == "fail"] == ["model.import"]
    assert found.running == {}


def test_a_server_that_dies_while_the_client_is_silent_is_noticed() -> None:
    class Silent(Served):
        def output(self, container: str) -> Iterator[str]:
            yield from super().output(container)
            if len(self.running) > 1 and self.running[container][0].stdout:
                over.wait(10)

    over = threading.Event()
    dead = Script(stderr="gone\n", ends=ExitState(4, out_of_memory=False))
    found = Silent(
        **vars(engine(Script(lines_of(*MODEL.events)), Script(lines_of(Hello(), RouteChange("live", 200, 0.1))), dead))
    )
    report = smoke(Bench(found, "app:1", QUICK, quiet))
    over.set()
    bad = report.failure
    assert bad is not None
    assert bad.seen.startswith("the server ended with exit code 4 before it was ready")


def test_there_is_no_such_image() -> None:
    with pytest.raises(UsageError) as caught:
        smoke(Bench(good(), "app:2", QUICK, quiet))
    assert "docker pull app:2" in caught.value.hint


@pytest.mark.parametrize("step", ["loading and warming the model", "starting the server", "stopping the server"])
def test_ctrl_c_leaves_no_container(step: str) -> None:
    def interrupt(text: str) -> None:
        if text == step:
            raise KeyboardInterrupt

    found = good()
    with pytest.raises(KeyboardInterrupt):
        smoke(Bench(found, "app:1", QUICK, interrupt))
    assert found.running == {}


def test_an_engine_that_fails_while_it_is_read_is_reported() -> None:
    class Gone(Served):
        def output(self, container: str) -> Iterator[str]:
            raise TransientError("gone", hint="again")

    found = Gone(**vars(good()))
    with pytest.raises(TransientError):
        smoke(Bench(found, "app:1", QUICK, quiet))
    assert found.running == {}


def test_a_client_that_cannot_start_is_the_engines_fault() -> None:
    found = engine(Script(lines_of(*MODEL.events)), Script(stderr="no loopback\n"), Script())
    with pytest.raises(EngineError, match="no loopback"):
        smoke(Bench(found, "app:1", QUICK, quiet))
    assert found.running == {}


def test_a_golden_file_is_the_answer() -> None:
    assert json.loads(record_golden(Bench(good(), "app:1", QUICK, quiet))) == VALUE


def test_what_is_not_finite_is_not_recorded() -> None:
    events = tuple(Output([float("nan")], ()) if isinstance(event, Output) else event for event in MODEL.events)
    with pytest.raises(CheckFailed, match="not finite"):
        record_golden(Bench(engine(Script(lines_of(*events)), Script(), Script()), "app:1", QUICK, quiet))


def test_an_image_without_golden_file_can_have_one_recorded() -> None:
    events = tuple(Output(VALUE, ()) if isinstance(event, Output) else event for event in MODEL.events)
    assert (
        json.loads(record_golden(Bench(engine(Script(lines_of(*events)), Script(), Script()), "app:1", QUICK, quiet)))
        == VALUE
    )


def test_a_test_on_a_gpu_gets_the_modules_that_cannot_report_theirs() -> None:
    options = json.loads(inside("model", QUICK, gpu=True)[4])
    assert {"ctranslate2", "numba.cuda", "tensorrt"} <= set(options["silent"])
    assert "silent" not in json.loads(inside("model", QUICK)[4])
