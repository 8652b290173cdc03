"""A build's events as a person sees them: running steps and transfers on a terminal, plain lines elsewhere."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Event as Flag
from threading import Lock, Thread
from typing import TYPE_CHECKING, Literal, TypeAlias

from mlship.console import clean
from mlship.engine.base import BuildEvent, BuildWatcher, StepBytes, StepFinished, StepOutput, StepStarted
from mlship.units import count_of, cut

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

ProgressMode: TypeAlias = Literal["tty", "lines", "plain", "quiet"]

_SLOW_SECONDS = 10.0
_NARROWEST = 20
_WIDEST = 120
_BESIDE = 24  # columns for sign, time and size
_BESIDE_BAR = 52
_SMALL = 1_000_000  # a transfer below this many bytes is over before it is read
_TICK = 0.5
_CACHE_IMPORT = "importing cache manifest"  # BuildKit goes on where there is none, as before the first --cache-to


@dataclass
class _Step:
    """A step that is running.

    Attributes:
        transfers: bytes done and bytes in all, by what is transferred.
        announced: a plain line has said that it runs.
    """

    name: str
    since: float
    transfers: dict[str, tuple[int, int]] = field(default_factory=dict)
    announced: bool = False

    def moved(self) -> tuple[int, int]:
        """Bytes done and in all; 0 in all where some transfer's size is not known."""
        sizes = self.transfers.values()
        total = 0 if any(of == 0 for _, of in sizes) else sum(of for _, of in sizes)
        return sum(done for done, _ in sizes), total


class _View:
    """What is known of the build, and the lines that stay. The engine's thread writes, the screen's reads."""

    def __init__(self, console: "Callable[[], Console]", *, verbose: bool, every: bool) -> None:
        self._console = console
        self._verbose = verbose
        self._every = every
        self._cached = 0
        self._running: dict[str, _Step] = {}
        self._said: set[str] = set()
        self._lock = Lock()

    def watch(self, event: BuildEvent) -> None:
        match event:
            case StepStarted():
                with self._lock:
                    self._running[event.id] = _Step(event.name, time.monotonic())
            case StepBytes():
                with self._lock:
                    if event.id in self._running:
                        self._running[event.id].transfers[event.what] = (event.current, event.total)
            case StepOutput():
                if self._verbose:
                    self._print(f"  | {event.text}", style="dim")
            case StepFinished():
                with self._lock:
                    step = self._running.pop(event.id, None)
                # Printed without our lock: rich has one of its own, and takes them the other way round.
                self._finished(event, step.moved()[0] if step else 0)

    def slow_steps(self) -> None:
        """Where nothing moves on the screen, say once what takes its time."""
        with self._lock:
            now = time.monotonic()
            slow = [s for s in self._running.values() if not s.announced and now - s.since > _SLOW_SECONDS]
            for step in slow:
                step.announced = True
        for step in slow:
            self._print(f"… {self._short(step.name)}")

    def table(self) -> "RenderableType":
        """One line for each running step; a bar where bytes are counted."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        rows = Table.grid(padding=(0, 1))
        with self._lock:
            for step in self._running.values():
                done, total = step.moved()
                bar = ProgressBar(total=total, completed=done, width=20) if total >= _SMALL else Text()
                size = Text(_size(done, total) if max(done, total) >= _SMALL else "", style="dim")
                elapsed = _seconds(time.monotonic() - step.since)
                rows.add_row(
                    Text("•", style="cyan"), Text(self._short(step.name, _BESIDE_BAR)), Text(elapsed), bar, size
                )
        return rows

    def _finished(self, event: StepFinished, moved: int) -> None:
        if event.error and event.name.startswith(_CACHE_IMPORT):
            self._print(
                f"! {self._short(event.name)}: none is there, or it cannot be read; built without", style="yellow"
            )
        elif event.error:
            self._print(f"✗ {self._short(event.name)}  {_seconds(event.seconds)}", style="red")
        elif event.cached and not self._every:
            self._cached += not event.name.startswith("[internal]")
        elif self._is_worth_saying(event):
            size = f"  {_size(moved, 0)}" if moved >= _SMALL else ""
            end = "CACHED" if event.cached else _seconds(event.seconds) + size
            self._print(f"✓ {self._short(event.name)}  {end}", style="dim" if event.cached else None)

    def end(self) -> None:
        """Count the steps that came from the cache: a line for each would hide those that ran."""
        if self._cached:
            self._print(f"✓ {count_of(self._cached, 'step')} CACHED", style="dim")

    def _is_worth_saying(self, event: StepFinished) -> bool:
        """Not BuildKit's own short steps, and a step that BuildKit runs in parts only when it took longer again."""
        if event.seconds < 1 and (event.id in self._said or event.name.startswith("[internal]")):
            return False
        self._said.add(event.id)
        return True

    def _short(self, name: str, beside: int = _BESIDE) -> str:
        """A step's name, cut so that what stands beside it fits on the line."""
        width = self._console().width if self._console().is_terminal else _WIDEST
        return shorten(name, max(_NARROWEST, min(width, _WIDEST) - beside))

    def _print(self, text: str, style: str | None = None) -> None:
        self._console().print(clean(text), style=style, markup=False, highlight=False)


def progress(
    console: "Callable[[], Console]", *, mode: ProgressMode, verbose: bool
) -> AbstractContextManager[BuildWatcher]:
    """A watcher for people, for as long as the build runs.

    Args:
        console: called when the first step ends, while the build runs, unless the mode is `tty`.
        mode: `tty` shows running steps; `plain` prints each step, `lines` only those that ran; `quiet` nothing.
        verbose: print every step and its output.
    """
    if mode == "quiet":
        return nullcontext(lambda _event: None)
    view = _View(console, verbose=verbose, every=verbose or mode == "plain")
    moving = mode == "tty" and not console().is_dumb_terminal and not console().quiet
    return _live(view, console()) if moving else _plain(view)


def shorten(name: str, width: int) -> str:
    """A step's name on one line: no mounts and options, no more than `width` characters, `…` where it is cut."""
    name = name.removeprefix("[internal] ")
    text = re.sub(r"(?<=\s)--(?:mount|link|chown|chmod|network|security)(?:=\S+)?\s+", "", f"{clean(name)} ")
    text = re.sub(r"@sha256:([0-9a-f]{12})[0-9a-f]{52}", r"@\1", " ".join(text.split()))
    return cut(text, width)


@contextmanager
def _live(view: _View, console: "Console") -> Iterator[BuildWatcher]:
    from rich.live import Live

    try:
        with Live(console=console, get_renderable=view.table, transient=True, refresh_per_second=8):
            yield view.watch
    finally:
        view.end()


@contextmanager
def _plain(view: _View) -> Iterator[BuildWatcher]:
    over = Flag()

    def tick() -> None:
        while not over.wait(_TICK):
            view.slow_steps()

    ticker = Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield view.watch
    finally:
        over.set()
        ticker.join()
        view.end()


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60:02} s"


def _size(done: int, total: int) -> str:
    return f"{done / 1e6:.1f}/{total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"
