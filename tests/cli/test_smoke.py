"""`mlship smoke`: where its specification comes from, its exit codes, and what it writes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from typer.testing import CliRunner, Result

import mlship.engine
from mlship.cli.app import app
from mlship.engine.base import ExitState, RunRequest
from mlship.smoke.spec import LABEL, SmokeSpec
from tests.helpers.fakes import Script
from tests.helpers.smoke_engine import Engine
from tests.helpers.smoke_events import IMAGE, SPEC, stages
from tests.helpers.smoke_scripts import lines_of
from tests.helpers.toy import toy

LABELLED = replace(IMAGE, labels={LABEL: SPEC.to_json()})


class Run(Protocol):
    def __call__(self, *arguments: str) -> Result: ...


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    found = Engine(images={"app:1": LABELLED, "foreign:1": IMAGE})
    monkeypatch.setattr(mlship.engine, "connect", lambda: found)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return found


@pytest.fixture
def run(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["smoke", *arguments])

    return invoke


def options(engine: Engine) -> dict[str, object]:
    """The options that the two parts of the test received."""
    received: dict[str, object] = {}
    for request in engine.requests:
        assert isinstance(request, RunRequest)
        received.update(json.loads(request.command[4]) if request.command else {"memory": request.memory})
    return received


def test_a_proven_image(run: Run) -> None:
    done = run("app:1")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("PROVEN on cpu: app:1\n")


def test_the_report_comes_first_and_the_error_after_it(run: Run, engine: Engine) -> None:
    engine.model = Script(lines_of(*stages("load")), ends=ExitState(137, out_of_memory=True))
    done = run("app:1")
    assert done.exit_code == 1
    assert done.stdout.startswith("NOT PROVEN: model.load: killed for memory")
    assert "error: app:1 is not proven: model.load" in done.stderr


def test_json_alone_is_on_stdout(run: Run, engine: Engine) -> None:
    assert json.loads(run("app:1", "--json").stdout)["passed"] is True
    engine.model = Script(lines_of(*stages("load")), ends=ExitState(1, out_of_memory=False))
    failed = run("app:1", "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["passed"] is False


def test_the_label_wins_over_mlship_yaml(run: Run, engine: Engine, tmp_path: Path) -> None:
    repo = toy(tmp_path)
    run("app:1", "-C", str(repo))
    assert options(engine)["load"] == SPEC.load


def test_without_label_mlship_yaml_says_what_to_test(run: Run, engine: Engine, tmp_path: Path) -> None:
    repo = toy(tmp_path)
    run("foreign:1", "-C", str(repo))
    assert options(engine)["load"] == "model:load"


@pytest.mark.parametrize(
    ("made_for", "arguments", "asked"),
    [
        (False, (), False),
        (True, (), True),
        (True, ("--on", "cpu"), False),
        (False, ("--on", "gpu"), True),
        (True, ("--record-golden", "golden.json"), True),
    ],
)
def test_a_gpu_is_asked_for_where_the_image_is_made_for_one_or_the_option_says_so(
    run: Run, engine: Engine, made_for: bool, arguments: tuple[str, ...], asked: bool
) -> None:
    engine.images["app:1"] = replace(IMAGE, labels={LABEL: replace(SPEC, gpu=made_for).to_json()})
    run("app:1", *arguments)
    assert engine.requests
    first = engine.requests[0]
    assert isinstance(first, RunRequest)
    assert first.gpu is asked


def test_an_engine_without_a_gpu_ends_with_5_and_says_what_to_do(run: Run, engine: Engine) -> None:
    engine.gpus = False
    done = run("app:1", "--on", "gpu")
    assert (done.exit_code, done.stdout) == (5, "")
    assert "nvidia-ctk" in done.stderr


def test_a_label_from_before_there_were_gpus_is_of_an_image_for_the_cpu() -> None:
    label = json.loads(SPEC.to_json())
    del label["gpu"]
    assert SmokeSpec.from_json(json.dumps(label)) == SPEC


def test_limits_of_the_command_line(run: Run, engine: Engine) -> None:
    run("app:1", "--memory", "64m", "--timeout", "7")
    received = options(engine)
    assert (received["memory"], received["load_seconds"], received["startup_seconds"]) == (64 << 20, 7, 7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing:1",), "no image `nothing:1`"),
        (("foreign:1",), "there is no `mlship.yaml`"),
        (("app:1", "--memory", "lots"), "--memory: 'lots' is not a size"),
        (("app:1", "--timeout", "0"), "--timeout"),
        ((), "IMAGE"),
        (("app:1", "--record-golden", "a.json", "--json"), "`--record-golden` cannot be used with `--json`"),
        (("app:1", "--record-golden", "a.json", "--attest"), "`--record-golden` cannot be used with `--attest`"),
        (("app:1", "--record-golden", "a.json", "--kubernetes"), "`--record-golden` cannot be used with `--kube"),
        (("app:1", "--memory", "64g", "--attest"), "`--memory` cannot be used with `--attest`"),
        (("app:1", "--context", "lab"), "`--context` needs `--kubernetes`"),
        (("app:1", "--kubernetes", "--context", "lab"), "`--context` needs `--apply`"),
        (("app:1", "--kubernetes", "--attest"), "`--attest` needs `--apply`"),
        (("app:1", "--kubernetes", "--apply", "--log", "a"), "`--apply` cannot be used with `--log`"),
        (("app:1", "--kubernetes", "--log", "a", "--node", "gpu-1"), "`--log` cannot be used with `--node`"),
        (("app:1", "--kubernetes", "--log", "a", "--context", "lab"), "`--log` cannot be used with `--context`"),
    ],
)
def test_usage_errors(run: Run, arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stdout == ""


def test_an_invalid_label_is_rejected(run: Run, engine: Engine) -> None:
    engine.images["odd:1"] = replace(IMAGE, labels={LABEL: "{}"})
    assert run("odd:1").exit_code == 2


def test_golden_is_recorded_and_never_overwritten(run: Run, engine: Engine, tmp_path: Path) -> None:
    done = run("app:1", "--record-golden", "golden.json")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "golden.json").read_text()) == {"scores": [[0.25, 0.75]]}
    assert engine.calls.count("start") == 1
    (tmp_path / "golden.json").write_text("mine")
    again = run("app:1", "--record-golden", "golden.json")
    assert again.exit_code == 2
    assert (tmp_path / "golden.json").read_text() == "mine"
    assert engine.calls.count("start") == 1


def test_github_gets_a_summary(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    run("app:1", "--json")
    assert "PROVEN on cpu" in (tmp_path / "summary").read_text()


def test_a_summary_that_cannot_be_written_changes_no_verdict(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "none/summary"))
    done = run("app:1")
    assert done.exit_code == 0
    assert "warning: cannot write the step summary" in done.stderr


def test_the_specification_survives_its_label() -> None:
    assert SmokeSpec.from_json(SPEC.to_json()) == SPEC
