"""The smoke report as people and GitHub see it. The golden texts are to be read in review."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlship.engine.base import ExitState
from mlship.report.github import add_step_summary, markdown
from mlship.report.smoke import show_smoke, smoke_text
from mlship.smoke.events import Failed, Output
from mlship.smoke.result import Check, Figures, SmokeReport
from mlship.smoke.run import report_of
from mlship.smoke.seen import ModelRun, Observed
from mlship.versioned import to_json
from tests.conftest import Golden
from tests.helpers.smoke_events import GOOD, IMAGE, MODEL, SPEC, served, stages
from tests.helpers.smoke_gpu_events import BEFORE, FELL_BACK, IDLE, ORT_LOAD
from tests.helpers.smoke_gpu_events import observed as on_gpu

TRACE = ("File /app/model.py, line 12, in <module>", "    import sklearn")


def report(observed: Observed) -> SmokeReport:
    return report_of("digits-onnx:1a2b3c4", observed)


def broken() -> SmokeReport:
    missing = Failed("import", "ModuleNotFoundError", "No module named 'sklearn'", "sklearn", None, TRACE)
    run = ModelRun((*stages("import"), missing), ExitState(1, out_of_memory=False))
    return report(Observed(SPEC, IMAGE, run, None))


def faulty() -> SmokeReport:
    """Two failures and two warnings."""
    events = tuple(Output({"scores": [1.5]}, ()) if isinstance(event, Output) else event for event in MODEL.events)
    spec = replace(SPEC, live="/healthz", ready="/healthz")
    run = served(ended=ExitState(3, out_of_memory=False), log=("Traceback (most recent call last):", "KeyError: 'x'"))
    return report(Observed(spec, replace(IMAGE, user="app"), replace(MODEL, events=events), run))


def simulated() -> SmokeReport:
    return report(on_gpu(replace(BEFORE, cuda=replace(BEFORE.cuda, simulated=True))))


def fallen_back() -> SmokeReport:
    cudnn = ORT_LOAD + "libcudnn.so.9: cannot open shared object file: No such file or directory"
    return report(on_gpu(after=replace(IDLE, words=(FELL_BACK,), libraries=()), log=(cudnn,)))


ALL = {
    "proven": report(GOOD),
    "broken": broken(),
    "faulty": faulty(),
    "gpu": report(on_gpu()),
    "gpu-simulated": simulated(),
    "gpu-fallen-back": fallen_back(),
}


@pytest.mark.parametrize(("name", "made"), ALL.items())
def test_reports(name: str, made: SmokeReport, golden: Golden) -> None:
    golden(f"smoke/{name}.txt", smoke_text(made))
    golden(f"smoke/{name}.md", markdown(made))


@pytest.mark.parametrize("made", ALL.values(), ids=ALL)
def test_nothing_is_wider_than_80_columns_but_the_verdict(made: SmokeReport) -> None:
    assert max(len(line) for line in smoke_text(made).splitlines()[1:]) <= 80


def test_the_verdict_is_the_first_line() -> None:
    assert smoke_text(report(GOOD)).startswith("PROVEN on cpu: digits-onnx:1a2b3c4\n")
    assert smoke_text(broken()).startswith("NOT PROVEN: model.import: ModuleNotFoundError")
    assert smoke_text(SmokeReport("a", "b", "cpu", (), Figures())).startswith("NOT PROVEN: nothing was checked")


def test_a_simulated_gpu_is_called_so_wherever_it_is_named() -> None:
    made = simulated()
    assert smoke_text(made).startswith("PROVEN on a simulated gpu, which proves nothing about a real one (NVIDIA A100")
    assert "PROVEN on a simulated gpu" in markdown(made)
    document = json.loads(to_json(made))
    assert (document["device"], document["simulated"], document["driver"]) == ("simulated gpu", True, "550.54.15")
    real = json.loads(to_json(report(on_gpu())))
    assert (real["device"], real["simulated"], real["gpus"]) == ("gpu", False, ["NVIDIA A100-SXM4-80GB"])
    assert real["gpu_seen"][1]["nvml"]["devices"][0]["processes"] == [{"memory": 600 << 20, "pid": 4711}]


def test_what_comes_from_the_image_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = Check("model.load", "the model loads", "fail", "\x1b[2Jgone [bold]x[/bold]\n\x1b]0;title\x07", "do")
    show_smoke(SmokeReport("a", "b", "cpu", (evil,), Figures()))
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "[bold]x[/bold]" in said


def test_what_comes_from_the_image_is_no_markup() -> None:
    evil = Check("model.load", "loads", "fail", "| <script> `x` [a](b)\n``` fence\nlast", "use <b>")
    text = markdown(SmokeReport("a|b", "b", "cpu", (evil,), Figures()))
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "````text\n``` fence\nlast\n````" in text


def test_summary_is_appended_where_github_asks_for_it(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    add_step_summary(report(GOOD), {"GITHUB_STEP_SUMMARY": str(file)})
    add_step_summary(report(GOOD), {})
    text = file.read_text()
    assert text.startswith("before\n### ✓ PROVEN on cpu")
    assert text.count("PROVEN") == 1


def test_json_says_whether_it_passed_and_is_the_same_every_time() -> None:
    made = json.loads(to_json(report(GOOD)))
    assert made["passed"] is True
    assert made["checks"][0] == {
        "id": "image.user",
        "remedy": "",
        "seen": "user 1001",
        "status": "pass",
        "title": "runs as non-root",
    }
    assert to_json(report(GOOD)) == to_json(report(GOOD))
    assert json.loads(to_json(broken()))["passed"] is False
