"""Progress on the screen."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal

from mlship import console
from mlship.cli.options import Shown
from mlship.engine.base import BuildWatcher


@contextmanager
def transfer(title: str, line: Callable[[int, int | None], None]) -> Iterator[Callable[[int, int | None], None]]:
    """Progress of a transfer (bytes, and of how many if known): a bar on a terminal, else `line` is called."""
    if not console.talk().is_terminal or console.talk().is_dumb_terminal:
        yield line
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.talk(), transient=True) as bar:
        task = bar.add_task(console.clean(title), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@dataclass(frozen=True)
class ConsoleReporter:
    """Writes to stderr; if `verbose`, with the output of build steps."""

    verbose: bool = False
    shown: Shown = "auto"

    def step(self, text: str) -> None:
        console.say(f"• {text}")

    def warn(self, text: str) -> None:
        console.warn(text)

    def building(self) -> AbstractContextManager[BuildWatcher]:
        from mlship.report.progress import progress

        automatic: Literal["tty", "lines"] = "tty" if sys.stderr.isatty() else "lines"
        mode = automatic if self.shown == "auto" else self.shown
        return progress(console.talk, mode=mode, verbose=self.verbose)
