"""From observations to checks: each fault has its own check and remedy, and nothing else fails."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mlship.engine.base import ExitState, ImageInfo
from mlship.smoke.events import (
    Begin,
    Event,
    Failed,
    Hello,
    Latency,
    MemoryUse,
    Modules,
    Output,
    RouteChange,
    ServerResponse,
    StageName,
    Stop,
    Warm,
)
from mlship.smoke.judge import verdict
from mlship.smoke.judge.verdict import judge
from mlship.smoke.remedy import advise, how_ended, remedy_for_end
from mlship.smoke.result import Check, failed, titles
from mlship.smoke.seen import ModelRun, Observed
from tests.helpers.smoke_events import (
    CODE_0,
    GOOD,
    IMAGE,
    MIB,
    MODEL,
    SERVE,
    SPEC,
    VALUE,
    answer,
    answers,
    served,
    stages,
)


def checks(observed: Observed) -> Mapping[str, Check]:
    return {check.id: check for check in judge(observed)[0]}


def only_failure(observed: Observed) -> Check:
    """The one check that fails; a failure without a remedy is none of ours."""
    failed = [check for check in judge(observed)[0] if check.status == "fail"]
    assert len(failed) == 1, [check.id for check in failed]
    assert failed[0].remedy
    return failed[0]


def model(*events: Event, ended: ExitState | None = CODE_0, log: tuple[str, ...] = ()) -> Observed:
    return Observed(SPEC, IMAGE, ModelRun(events, ended, log), None)


def answering(value: Output) -> Observed:
    events = tuple(value if isinstance(event, Output) else event for event in MODEL.events)
    return replace(GOOD, model=replace(MODEL, events=events))


def test_all_is_well() -> None:
    found = judge(GOOD)
    assert {check.status for check in found[0]} == {"pass"}
    assert [check.id for check in found[0]] == [name for name in titles() if not name.startswith(("gpu.", "model.jit"))]
    assert not any(check.remedy for check in found[0])


def test_every_check_has_a_title() -> None:
    judges = "".join(path.read_text() for path in Path(verdict.__file__).parent.glob("*.py"))
    assert set(re.findall(r'"((?:image|gpu|model|serve)\.\w+)"', judges)) == set(titles())


def test_figures() -> None:
    figures = judge(GOOD)[1]
    assert (figures.load_s, figures.first_s, figures.p50_s, figures.runs) == (0.5, 0.1, 0.01, 200)
    assert figures.private_over_weights == 1.0
    assert figures.live_s == pytest.approx(0.4)
    assert figures.ready_s == 2.0
    assert (figures.answer_s, figures.exit_s) == (0.02, 0.7)


def test_memory_that_cannot_be_read_is_not_guessed() -> None:
    events = tuple(MemoryUse(None, None, None, 0) if isinstance(e, MemoryUse) else e for e in MODEL.events)
    found = replace(GOOD, model=replace(MODEL, events=events))
    assert judge(found)[1].private_over_weights is None
    assert checks(found)["model.memory"].status == "skip"


def test_what_is_not_declared_is_skipped_and_never_passes() -> None:
    found = checks(replace(GOOD, spec=replace(SPEC, golden=None, output_shape=None)))
    assert (found["model.golden"].status, found["model.shape"].status) == ("skip", "skip")


@pytest.mark.parametrize(
    ("stage", "check"),
    [("import", "model.import"), ("load", "model.load"), ("warm", "model.warm"), ("answer", "model.finite")],
)
def test_an_exception_fails_its_own_check_only(stage: StageName, check: str) -> None:
    failed = Failed(stage, "ValueError", "torn\nsecond line", None, None, ("File app/model.py, line 3, in load",))
    found = only_failure(model(*stages(stage), failed, ended=ExitState(1, out_of_memory=False)))
    assert found.id == check
    assert "torn" in found.seen
    assert "line 3" in found.seen.splitlines()[-1]


def test_after_a_failure_nothing_passes_that_was_not_reached() -> None:
    failed = Failed("load", "ValueError", "torn", None, None, ())
    found = checks(model(*stages("load"), failed, ended=ExitState(1, out_of_memory=False)))
    assert {found[name].status for name in titles() if name.startswith("serve.")} == {"skip"}
    assert {found[name].status for name in ("model.warm", "model.finite", "model.golden", "model.memory")} == {"skip"}


@pytest.mark.parametrize(
    ("ended", "log", "words", "remedy"),
    [
        (ExitState(137, out_of_memory=True), (), "killed for memory (limit 2 GiB) in load()", "smoke.memory"),
        (ExitState(137, out_of_memory=False), (), "probably for memory", "smoke.memory"),
        (ExitState(139, out_of_memory=False), (), "died of SIGSEGV in load()", "native library"),
        (ExitState(132, out_of_memory=False), (), "died of SIGILL", "instructions"),
        (ExitState(3, out_of_memory=False), ("bye",), "ended with exit code 3 in load()", "last lines"),
        (None, (), "hangs in load(): not finished after 120 s", "smoke.timeout_seconds"),
        (ExitState(1, out_of_memory=False), ("Timeout (0:02:00)!", 'File "m.py", line 3'), "hangs in load()", "where"),
    ],
)
def test_an_end_without_an_exception_is_located(
    ended: ExitState | None, log: tuple[str, ...], words: str, remedy: str
) -> None:
    found = only_failure(model(*stages("load"), ended=ended, log=log))
    assert found.id == "model.load"
    assert words in found.seen
    assert remedy in found.remedy


def test_a_hang_shows_the_users_frames_only() -> None:
    log = (
        "chatter",
        "Timeout (0:00:04)!",
        "Thread 1:",
        '  File "m.py", line 3 in load',
        '  File "<string>", line 9 in x',
    )
    found = only_failure(model(*stages("load"), ended=ExitState(1, out_of_memory=False), log=log))
    assert found.seen.splitlines()[1:] == ["Thread 1:", '  File "m.py", line 3 in load']


@pytest.mark.parametrize(
    ("stage", "kind", "message", "file", "words"),
    [
        ("warm", "FileNotFoundError", "[Errno 2] sample.json", "sample.json", "add sample.json to the image"),
        ("warm", "KeyError", "'x'", None, "let the predictor accept sample.json"),
        ("load", "AttributeError", "module 'app.model' has no attribute 'load'", None, "app.model has no load"),
        ("answer", "TypeError", "the answer holds a Tree", None, "let the predictor return numbers"),
        ("load", "ValueError", "odd", None, "import app.model; app.model.load()"),
    ],
)
def test_an_error_of_the_users_code_gets_its_remedy(
    stage: StageName, kind: str, message: str, file: str | None, words: str
) -> None:
    error = Failed(stage, kind, message, None, file, ())
    found = next(
        c for c in judge(model(*stages(stage), error, ended=ExitState(1, out_of_memory=False)))[0] if c.status == "fail"
    )
    assert words in found.remedy


def test_a_model_near_its_limit_is_a_warning() -> None:
    events = tuple(e for e in MODEL.events if not isinstance(e, MemoryUse))
    near = replace(MODEL, events=(*events, MemoryUse(1900 * MIB, 30 * MIB, 20 * MIB, 10 * MIB)))
    found = replace(GOOD, model=near)
    assert checks(found)["model.memory"].status == "warn"
    assert judge(found)[1].private_over_weights == 0  # it shrank


def test_a_model_that_fails_after_its_first_answers_is_not_warm() -> None:
    events = (
        *stages("measure"),
        Warm(0.1, 5),
        Output(VALUE, (VALUE,)),
        Failed("measure", "ValueError", "torn", None, None, ()),
    )
    found = next(c for c in judge(model(*events, ended=ExitState(1, out_of_memory=False)))[0] if c.status == "fail")
    assert found.id == "model.warm"
    assert "while answering the sample repeatedly" in found.seen


def test_the_exec_form_is_suggested_for_a_server_behind_a_shell() -> None:
    shell = replace(IMAGE, command=("/usr/bin/dash", "run.sh"))
    found = checks(replace(GOOD, image=shell, serve=served(ended=None, exit_s=None)))["serve.sigterm"]
    assert "use the exec form" in found.remedy
    found = checks(replace(GOOD, serve=served(ended=None, exit_s=None)))["serve.sigterm"]
    assert "tini" in found.remedy


@pytest.mark.parametrize(
    ("code", "words", "remedy"),
    [
        (137, "killed (SIGKILL), probably for memory (limit 2 GiB)", "smoke.memory"),
        (132, "died of SIGILL", "older processors"),
        (139, "died of SIGSEGV", "PYTHONFAULTHANDLER"),
        (134, "died of SIGABRT", "PYTHONFAULTHANDLER"),
        (160, "died of signal 32", "see its last lines"),
        (3, "ended with exit code 3", "see its last lines"),
    ],
)
def test_how_a_process_ended(code: int, words: str, remedy: str) -> None:
    state = ExitState(code, out_of_memory=False)
    assert how_ended(state, SPEC) == words
    assert remedy in remedy_for_end(state, SPEC)


def test_python_that_cannot_start_is_the_import() -> None:
    log = ("app:1 cannot start: python: executable file not found in $PATH",)
    found = only_failure(model(ended=ExitState(127, out_of_memory=False), log=log))
    assert found.id == "model.import"
    assert "no `python`" in found.remedy


@pytest.mark.parametrize(
    ("output", "check", "words"),
    [
        (Output({"scores": [[float("nan"), 1.0]]}, (VALUE,)), "model.finite", "nan at scores[0][0]"),
        (Output({"scores": [1.0, 2.0]}, ({"scores": [1.0, 2.0]},)), "model.shape", "declared any x 2, found scores 2"),
        (Output({"scores": [[0.25, 0.7]]}, (VALUE,)), "model.golden", "1 of 2 numbers differ"),
        (Output(VALUE, ()), "model.golden", "golden.json is not in the image"),
        (Output({"scores": [[1.0], [1.0, 2.0]]}, (VALUE,)), "model.shape", "declared any x 2, found scores ragged"),
    ],
)
def test_a_wrong_answer(output: Output, check: str, words: str) -> None:
    found = checks(answering(output))[check]
    assert found.status == "fail"
    assert words in found.seen
    assert found.remedy


def test_an_answer_without_numbers_is_a_warning() -> None:
    assert checks(answering(Output("cat", ("cat",))))["model.finite"].status == "warn"


@pytest.mark.parametrize("user", ["", "0", "root", "root:root", "0:0"])
def test_root_fails(user: str) -> None:
    assert only_failure(replace(GOOD, image=replace(IMAGE, user=user))).id == "image.user"


def test_a_user_by_name_is_a_warning() -> None:
    assert checks(replace(GOOD, image=replace(IMAGE, user="app")))["image.user"].status == "warn"


def test_root_by_another_name_fails() -> None:
    events = (Begin(0, "3.11"), *MODEL.events[1:])
    found = replace(GOOD, image=replace(IMAGE, user="toor"), model=replace(MODEL, events=events))
    assert only_failure(found).id == "image.user"


def test_a_shell_is_a_warning_and_no_command_a_failure() -> None:
    shell = replace(IMAGE, command=("/bin/sh", "-c", "uvicorn app:app"))
    assert checks(replace(GOOD, image=shell))["image.command"].status == "warn"
    assert only_failure(replace(GOOD, image=replace(IMAGE, command=()))).id == "image.command"


def serving(*events: Event, **changed: object) -> Observed:
    return replace(GOOD, serve=served(*events, **changed))


UP = (Hello(), RouteChange("live", 200, 1.4), RouteChange("ready", 200, 3.0))


@pytest.mark.parametrize(
    ("events", "check", "words"),
    [
        ((Hello(), RouteChange("ready", 503, 1.1), RouteChange("live", 200, 1.1), Stop(inflight=False)),
         "serve.ready", "503"),
        ((Hello(), RouteChange("ready", 0, 1.1), RouteChange("live", 0, 1.1), Stop(inflight=False)),
         "serve.ready", "nothing"),
        ((*UP, answer("first", 200, 3.0), Latency(0.02, 0.03, 20), *answers()[1:]), "serve.ready", "before the model"),
        ((Hello(), RouteChange("ready", 200, 2.0), RouteChange("live", 404, 2.0), *answers()), "serve.live", "404"),
        ((*UP, answer("first", 500, text="boom")), "serve.predict", "500: boom"),
        ((*UP, answer("first", 0, text="timed out")), "serve.predict", "nothing: timed out"),
        ((*UP, *answers(half=answer("half", 500))), "serve.malformed", "half a JSON text with 500"),
        ((*UP, *answers(kind=answer("kind", 200))), "serve.malformed", "JSON of another kind with 200"),
        ((*UP, *answers(after=answer("after", 503))), "serve.malformed", "after malformed requests"),
        ((*UP, *answers(), Stop(inflight=True), answer("inflight", 0, text="cut")), "serve.inflight", "nothing: cut"),
        ((*UP, *answers(), Stop(inflight=True)), "serve.inflight", "answered nothing"),
        ((Hello(), RouteChange("live", 200, 70.0), RouteChange("ready", 200, 70.0), *answers()),
         "serve.ready", "(limit 60 s)"),
    ],
)  # fmt: skip
def test_a_faulty_server(events: tuple[Event, ...], check: str, words: str) -> None:
    found = only_failure(serving(*events))
    assert found.id == check
    assert words in found.seen


def test_a_server_that_answers_once_only_has_no_latency_and_proves_nothing_else() -> None:
    once = (*UP, answer("first", 200), answer("again", 0, text="ConnectionRefusedError"), Stop(inflight=False))
    lines = ("loaded", "INFO:     Shutting down", "INFO:     Finished server process [1]")
    failing = checks(serving(*once, log=lines))
    assert failing["serve.predict"].status == "fail"
    expected = "the first request is answered 200, a later one nothing: ConnectionRefusedError"
    assert failing["serve.predict"].seen == f"{expected}\nloaded"
    ended = checks(serving(*once, died=ExitState(3, out_of_memory=False)))
    assert [ended[f"serve.{name}"].status for name in ("predict", "first", "malformed", "inflight", "sigterm")] == [
        "fail", "skip", "skip", "skip", "fail"
    ]  # fmt: skip
    assert "docker run" in ended["serve.predict"].remedy
    refused = checks(serving(*UP, *answers(half=answer("half", 500)), log=lines))["serve.malformed"]
    assert refused.seen.endswith(" instead of 4xx\nloaded")
    known = checks(serving(*once, log=("OSError: [Errno 30] Read-only file system: '/app/log'",)))
    assert "read-only except /tmp" in known["serve.predict"].remedy


@pytest.mark.parametrize(
    ("first", "steady", "status", "seen"),
    [
        (0.06, Latency(0.02, 0.03, 20), "warn", "3.0 times the median of later ones (20 ms), above 1.5"),
        (0.031, Latency(0.02, 0.03, 20), "warn", "1.6 times the median of later ones (20 ms), above 1.5"),
        (0.03, Latency(0.02, 0.03, 20), "pass", "1.5 times the median of later ones (20 ms)"),
        (0.06, Latency(0.02, 0.06, 20), "pass", "3.0 times the median of later ones (20 ms), as one of them"),
        (0.01, Latency(0.001, 0.002, 20), "pass", "10.0 times the median of later ones (1 ms), less than 10 ms more"),
        (0.012, Latency(0.001, 0.002, 20), "warn", "12.0 times the median of later ones (1 ms), above 1.5"),
    ],
)
def test_a_first_request_slower_than_all_later_ones_warns(
    first: float, steady: Latency, status: str, seen: str
) -> None:
    found = checks(serving(*UP, answer("first", 200, first), steady, *answers()[1:]))["serve.first"]
    assert (found.status, found.seen, bool(found.remedy)) == (status, seen, status == "warn")


def test_a_first_request_is_not_compared_without_later_ones_or_if_the_server_was_cold() -> None:
    assert checks(serving(*UP, *answers()))["serve.first"].status == "skip"
    cold = serving(*UP, answer("first", 200, 3.0), Latency(0.02, 0.03, 20), *answers()[1:])
    assert checks(cold)["serve.first"].seen == "the server was not warm when it was ready"


def test_an_answer_over_http_that_is_no_json_fails_and_one_without_numbers_warns() -> None:
    page = ServerResponse("first", 200, 0.02, (), "<html>")
    found = only_failure(serving(*UP, page))
    assert (found.id, found.seen.splitlines()[0]) == ("serve.predict", "the answer is not JSON: <html>")
    assert checks(serving(*UP, ServerResponse("first", 200, 0.02, ("cat",), "")))["serve.predict"].status == "warn"


def test_a_server_that_is_no_longer_alive_when_it_is_ready_fails() -> None:
    flaps = (Hello(), RouteChange("live", 200, 1.4), RouteChange("live", 500, 2.0), RouteChange("ready", 200, 3.0))
    found = only_failure(serving(*flaps, *answers()))
    assert (found.id, found.seen) == ("serve.live", "/health/live answers 500 when /health/ready answers 200")


def test_a_quick_server_may_be_alive_and_ready_at_once() -> None:
    quick = (Hello(), RouteChange("live", 200, 1.4), RouteChange("ready", 200, 1.5))
    assert checks(serving(*quick, *answers()))["serve.live"].status == "pass"
    slow = (Hello(), RouteChange("live", 200, 9.4), RouteChange("ready", 200, 9.5))
    assert checks(serving(*slow, *answers()))["serve.live"].status == "warn"


def test_nan_in_an_answer_over_http_fails() -> None:
    bad = ServerResponse("first", 200, 0.02, ({"scores": [float("nan")]},), "")
    assert only_failure(serving(*UP, bad)).id == "serve.predict"


def test_an_empty_object_may_be_a_request() -> None:
    found = checks(serving(*UP, *answers(empty=answer("empty", 200))))["serve.malformed"]
    assert found.status == "warn"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"ended": None, "exit_s": None}, "still running 10 s after SIGTERM"),
        ({"ended": ExitState(3, out_of_memory=False)}, "exit code 3"),
        ({"ended": ExitState(143, out_of_memory=False)}, "died of SIGTERM"),
        ({"died": ExitState(139, out_of_memory=False), "ended": None, "exit_s": None}, "before SIGTERM was sent"),
    ],
)
def test_a_server_that_does_not_stop_well(changed: dict[str, object], words: str) -> None:
    found = only_failure(replace(GOOD, serve=served(**changed)))
    assert found.id == "serve.sigterm"
    assert words in found.seen


def test_flasks_development_server_is_replaced_by_gunicorn() -> None:
    log = ("INFO:werkzeug:127.0.0.1 - POST /predict 200",)
    found = only_failure(replace(GOOD, serve=served(ended=None, exit_s=None, log=log)))
    assert "gunicorn" in found.remedy


def test_a_server_that_dies_at_start_shows_its_last_lines() -> None:
    run = served(
        Hello(), RouteChange("ready", 0, 0.1), died=ExitState(1, out_of_memory=False), log=("a", "configuration!")
    )
    found = only_failure(replace(GOOD, serve=run))
    assert (found.id, found.seen.splitlines()[-1]) == ("serve.ready", "configuration!")


def test_one_route_for_live_and_ready_is_a_warning_that_says_what_it_means() -> None:
    found = checks(replace(GOOD, spec=replace(SPEC, live="/healthz", ready="/healthz")))["serve.live"]
    assert found.status == "warn"
    assert "same route" in found.seen


def test_a_server_that_is_dead_while_it_loads_is_a_warning() -> None:
    events = (Hello(), RouteChange("live", 200, 8.0), RouteChange("ready", 200, 8.0), *answers())
    assert checks(serving(*events))["serve.live"].status == "warn"


AT_ROOT = replace(IMAGE, env={"PATH": "/root/.local/bin:/usr/bin"})


@pytest.mark.parametrize(
    ("text", "image", "words"),
    [
        ("No module named 'numpy'", IMAGE, "add numpy to requirements.in"),
        ("No module named 'cv2'", IMAGE, "opencv-python-headless"),
        ("No module named 'google.protobuf'", IMAGE, "add protobuf"),
        (
            "No module named 'sklearn.linear_model.base'",
            IMAGE,
            "the installed scikit-learn has no module sklearn.linear",
        ),
        ("No module named 'google.cloud.storage'", IMAGE, "add google-cloud-storage"),
        ("No module named 'app'", IMAGE, "under `source`"),
        ("No module named 'numpy'", AT_ROOT, "install into /opt/venv"),
        (
            "PermissionError: [Errno 13] Permission denied: '/root/.local/lib/x.py'",
            IMAGE,
            "only root can read /root",
        ),
        ("No module named 'numpy'", replace(AT_ROOT, user="0"), "add numpy"),
        ("exec /usr/local/bin/python: exec format error", IMAGE, "another processor (linux/amd64)"),
        ("OSError: [Errno 30] Read-only file system: '/app/cache'", IMAGE, "/tmp"),
        (
            "PermissionError: [Errno 13] Permission denied: '/data/m.bin'",
            IMAGE,
            "/data/m.bin is not accessible to user 1001",
        ),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'm.bin'", IMAGE, "m.bin is not in the image"),
        ("<urlopen error [Errno -3] Temporary failure in name resolution>", IMAGE, "model.weights"),
        ("ImportError: libGL.so.1: cannot open shared object file", IMAGE, "libgl1 under `system.run`"),
        (
            "ImportError: libgthread-2.0.so.0: cannot open shared object file",
            replace(IMAGE, labels={"org.opencontainers.image.base.name": "docker.io/library/python:3.11-slim-trixie"}),
            "libglib2.0-0t64",
        ),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'ffprobe'", IMAGE, "Debian package ffmpeg, which"),
        ("No module named 'clip'", IMAGE, "git+https://github.com/openai/CLIP.git or openai-clip"),
        ("No module named 'utils_of_mine'", IMAGE, "the package that provides utils_of_mine"),
        ("ImportError: libodd.so.7: cannot open shared object file", IMAGE, "provides libodd.so.7"),
        ("ImportError: libcuda.so.1: cannot open shared object file", IMAGE, "asks for a GPU"),
        ("OSError: [Errno 98] Address already in use", IMAGE, "only one server"),
        ("x cannot start: uvicorn: executable file not found in $PATH", IMAGE, "serve.command"),
        ("MemoryError", IMAGE, "now 2 GiB"),
        ("it returned Session, which is neither callable nor has a .predict", IMAGE, "load() returns no predictor"),
    ],
)
def test_remedies(text: str, image: ImageInfo, words: str) -> None:
    assert words in str(advise(text, replace(GOOD, image=image)))


def test_what_is_not_known_gets_no_advice() -> None:
    assert advise("the weights are {torn}", GOOD) is None


def test_modules_that_each_start_compiles_are_a_warning() -> None:
    names = ("scipy.a", "scipy.b", "scipy.c", "scipy.d")
    events = tuple(Modules(names, 0) if isinstance(e, Modules) else e for e in MODEL.events)
    check = checks(replace(GOOD, model=replace(MODEL, events=events)))["model.compiled"]
    assert check.status == "warn"
    assert check.seen.endswith("scipy.a, scipy.b, scipy.c and 1 more")
    assert "mlship lock --trace" in check.remedy


def test_the_last_lines_of_the_evidence_are_shown() -> None:
    check = failed("model.load", "it failed", "fix it", map(str, range(20)))
    assert check.seen.splitlines() == ["it failed", *map(str, range(8, 20))]


KILLED = ExitState(137, out_of_memory=True)


@pytest.mark.parametrize("count", range(len(MODEL.events)))
def test_a_model_killed_at_any_moment_is_not_proven(count: int) -> None:
    checks, _ = judge(replace(GOOD, model=ModelRun(MODEL.events[:count], KILLED), serve=None, by_any=None))
    assert [check.id for check in checks if check.status == "fail"]


@pytest.mark.parametrize("count", range(len(SERVE.events) + 1))
def test_a_server_killed_at_any_moment_is_not_proven(count: int) -> None:
    killed = replace(SERVE, events=SERVE.events[:count], died=KILLED, ended=None, exit_s=None)
    checks, _ = judge(replace(GOOD, serve=killed))
    assert [check.id for check in checks if check.status == "fail"]
