"""What a person sees of a build, on a terminal and off it."""

import io

import pytest
from rich.console import Console

from mlship.engine.base import BuildEvent, StepBytes, StepFinished, StepOutput, StepStarted
from mlship.report import progress as module
from mlship.report.progress import ProgressMode, progress, shorten

RUN = "[builder 2/4] RUN --mount=type=cache,target=/root/.cache/uv   uv pip install   torch[cuda]"
STORY: tuple[BuildEvent, ...] = (
    StepStarted("i", "[internal] load .dockerignore"),
    StepFinished("i", "[internal] load .dockerignore", 0.01, cached=False),
    StepStarted("b", "[builder 1/4] FROM python:3.11"),
    StepFinished("b", "[builder 1/4] FROM python:3.11", 0.02, cached=False),
    StepStarted("b", "[builder 1/4] FROM python:3.11"),
    StepBytes("b", "sha256:aa", 2_000_000, 4_000_000),
    StepBytes("b", "sha256:aa", 4_000_000, 4_000_000),
    StepFinished("b", "[builder 1/4] FROM python:3.11", 0.5, cached=False),
    StepStarted("r", RUN),
    StepOutput("r", "Installed \x1b[31m43 packages [red]"),
    StepFinished("r", RUN, 12.34, cached=False),
    StepStarted("c", "[builder 3/4] COPY . /app"),
    StepFinished("c", "[builder 3/4] COPY . /app", 0.0, cached=True),
    StepStarted("f", "[builder 4/4] RUN false"),
    StepFinished("f", "[builder 4/4] RUN false", 75.0, cached=False, error="exit code: 1"),
)


def show(
    *, mode: ProgressMode = "plain", verbose: bool = False, quiet: bool = False, events: tuple[BuildEvent, ...] = STORY
) -> str:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=mode == "tty", width=100, quiet=quiet)
    with progress(lambda: console, mode=mode, verbose=verbose) as watch:
        for event in events:
            watch(event)
    return screen.getvalue()


def test_off_a_terminal_one_line_a_step() -> None:
    assert show() == (
        "✓ [builder 1/4] FROM python:3.11  0.0 s\n"
        "✓ [builder 2/4] RUN uv pip install torch[cuda]  12.3 s\n"
        "✓ [builder 3/4] COPY . /app  CACHED\n"
        "✗ [builder 4/4] RUN false  1 min 15 s\n"
    )


def test_output_of_steps_only_when_asked_for_and_without_control_characters() -> None:
    assert "  | Installed [31m43 packages [red]\n" in show(verbose=True)
    assert "Installed" not in show()


@pytest.mark.parametrize("mode", ["tty", "lines"])
def test_cached_steps_are_one_line(mode: ProgressMode) -> None:
    cached = [StepFinished(str(n), f"[builder {n}/4] RUN {n}", 0.0, cached=True) for n in range(4)]
    own = StepFinished("i", "[internal] [context packages] load", 0.0, cached=True)
    ran = StepFinished("r", "[builder 4/4] RUN true", 2.0, cached=False)
    lines = show(mode=mode, events=(*cached[:2], own, ran, *cached[2:])).splitlines()
    assert [line.partition("✓")[2].partition("\x1b")[0] for line in lines if "✓" in line] == [
        " [builder 4/4] RUN true  2.0 s",
        " 4 steps CACHED",
    ]


def test_quiet_says_nothing() -> None:
    assert show(quiet=True) == ""
    assert show(mode="quiet", verbose=True) == ""


def test_a_step_that_took_longer_again_is_said_with_its_size() -> None:
    events = (
        StepStarted("b", "FROM x"),
        StepBytes("b", "sha256:aa", 40_000_000, 40_000_000),
        StepFinished("b", "FROM x", 3.0, cached=False),
    )
    assert show(events=(StepFinished("b", "FROM x", 0.0, cached=False), *events)).splitlines() == [
        "✓ FROM x  0.0 s",
        "✓ FROM x  3.0 s  40.0 MB",
    ]


def test_a_cache_that_is_not_there_yet_is_no_failure() -> None:
    name = "importing cache manifest from registry/x:cache"
    events = (StepFinished("m", name, 0.0, cached=False, error="registry/x:cache: not found"),)
    assert show(events=events) == f"! {name}: none is there, or it cannot be read; built without\n"


def test_bookkeeping_that_took_its_time_is_said_without_its_mark() -> None:
    events = (StepFinished("i", "[internal] load build context", 3.0, cached=False),)
    assert show(events=events) == "✓ load build context  3.0 s\n"


def test_on_a_terminal_running_steps_move_and_finished_ones_stay() -> None:
    seen = show(mode="tty")
    assert "\x1b[" in seen
    assert "✓ [builder 2/4] RUN uv pip install torch[cuda]  12.3 s" in seen


def test_the_terminal_table_has_a_bar_where_bytes_are_counted() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    view = module._View(lambda: console, verbose=False, every=True)
    view.watch(StepStarted("b", "[builder 1/4] FROM python:3.11"))
    view.watch(StepBytes("b", "sha256:aa", 2_000_000, 4_000_000))
    view.watch(StepStarted("r", RUN))
    with console.capture() as capture:
        console.print(view.table())
    first, second = capture.get().rstrip().splitlines()
    assert "2.0/4.0 MB" in first
    assert "━" in first
    assert "RUN uv pip install torch[cuda]" in second
    assert "━" not in second


def test_a_slow_step_is_announced_once_where_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLOW_SECONDS", -1.0)
    screen = io.StringIO()
    console = Console(file=screen, width=100)
    view = module._View(lambda: console, verbose=False, every=True)
    view.watch(StepStarted("r", RUN))
    view.slow_steps()
    view.slow_steps()
    assert screen.getvalue() == "… [builder 2/4] RUN uv pip install torch[cuda]\n"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("[1/2] FROM x@sha256:" + "a" * 64, "[1/2] FROM x@aaaaaaaaaaaa"),
        ("[b 2/2] COPY --link --from=a --chmod=0555 b c", "[b 2/2] COPY --from=a b c"),
        ("[b 2/2] RUN a\n  && b", "[b 2/2] RUN a && b"),
        ("[b 2/2] RUN " + "x" * 100, "[b 2/2] RUN " + "x" * 47 + "…"),
    ],
)
def test_names_are_short_enough_to_read(name: str, short: str) -> None:
    assert shorten(name, 60) == short
