"""Reading recorded progress of real builds (buildx 0.13.1, Engine 26.1.5), and whatever else may come."""

import base64
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.engine.base import BuildEvent, StepBytes, StepFinished, StepOutput, StepStarted
from mlship.engine.rawjson import LAST_LINES, Progress

RECORDED = Path(__file__).parents[2] / "fixtures" / "buildx"


def read(name: str) -> tuple[Progress, list[BuildEvent]]:
    progress = Progress()
    lines = (RECORDED / f"{name}.jsonl").read_text().splitlines()
    return progress, [event for line in lines for event in progress.feed(line)]


def feed(progress: Progress, **status: object) -> list[BuildEvent]:
    return progress.feed(json.dumps(status))


def log(text: bytes) -> dict[str, str]:
    return {"vertex": "v", "data": base64.b64encode(text).decode()}


def test_success() -> None:
    progress, events = read("success")
    printed = [event.text for event in events if isinstance(event, StepOutput)]
    done = [event for event in events if isinstance(event, StepFinished)]
    assert printed == ["one", "three"]
    assert progress.failed is None
    run = next(event for event in done if " RUN " in event.name)
    assert not run.cached
    assert 0.4 < run.seconds < 30


def test_lines_and_indented_objects_read_alike() -> None:
    assert read("success-compact")[1] == read("success")[1]


def test_every_step_starts_before_it_ends_and_prints_between() -> None:
    running: Counter[str] = Counter()  # BuildKit runs some steps in parts, side by side even
    for event in read("success")[1]:
        if isinstance(event, StepStarted):
            running[event.id] += 1
        else:
            assert running[event.id]
        if isinstance(event, StepFinished):
            running[event.id] -= 1
    assert not running.total()


def test_cached() -> None:
    done = [event for event in read("cached")[1] if isinstance(event, StepFinished)]
    assert {event.cached for event in done if "RUN" in event.name or "COPY" in event.name} == {True}


def test_failing_step_keeps_its_own_lines() -> None:
    progress, _ = read("failing")
    assert progress.failed is not None
    assert progress.failed.name.startswith("[2/2] RUN")
    assert progress.last_lines(progress.failed.id) == ("out", "boom happened")
    assert progress.text[-1].startswith("ERROR: failed to solve")


def test_cancelled_neighbours_are_not_the_reason() -> None:
    progress = Progress()
    for name, error in (("a", "failed: context canceled"), ("b", "exit code: 1")):
        times = {"started": "2026-01-01T00:00:00Z", "completed": "2026-01-01T00:00:01Z"}
        feed(progress, vertexes=[{"digest": name, "name": name, "error": error, **times}])
    assert progress.failed is not None
    assert progress.failed.name == "b"


def test_transfers_are_reported_once_per_state() -> None:
    progress = Progress()
    status = {"id": "sha256:aa", "vertex": "v", "current": 5, "total": 10}
    assert feed(progress, statuses=[status]) == [StepBytes("v", "sha256:aa", 5, 10)]
    assert feed(progress, statuses=[status]) == []


def test_a_line_may_come_in_pieces() -> None:
    progress = Progress()
    assert feed(progress, logs=[log(b"caf\xc3")]) == []
    assert feed(progress, logs=[log(b"\xa9\n\xff\nrest")]) == [
        StepOutput("v", "café"),
        StepOutput("v", "\N{REPLACEMENT CHARACTER}"),
    ]
    assert progress.last_lines("v")[-1] == "rest"


def test_progress_bars_leave_their_last_state() -> None:
    assert feed(Progress(), logs=[log(b"10%\r50%\r100%\r\n")]) == [StepOutput("v", "100%")]


def test_only_the_last_lines_are_kept() -> None:
    progress = Progress()
    feed(progress, logs=[log(b"\n".join(b"%d" % n for n in range(100)) + b"\n")])
    assert progress.last_lines("v") == tuple(str(n) for n in range(100 - LAST_LINES, 100))


@pytest.mark.parametrize("line", ["", "WARN: x", "{", "}", "{}", '{"vertexes": 3}', '{"logs": [{}]}', "[1]", "null"])
def test_other_lines_never_stop_it(line: str) -> None:
    progress = Progress()
    progress.feed(line)
    progress.feed("}")
    assert feed(progress, logs=[log(b"on\n")]) == [StepOutput("v", "on")]


@given(st.lists(st.text()))
def test_any_text_is_survived(lines: list[str]) -> None:
    progress = Progress()
    for line in lines:
        progress.feed(line)
