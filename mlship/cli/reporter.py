"""Progress on the screen."""

import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass

from mlship import console
from mlship.cli.options import Shown
from mlship.engine.base import BuildWatcher


@dataclass(frozen=True)
class ConsoleReporter:
    """Writes to stderr; if `verbose`, with the output of build steps."""

    verbose: bool = False
    shown: Shown = Shown.AUTO

    def step(self, text: str) -> None:
        console.say(f"• {text}")

    def warn(self, text: str) -> None:
        console.warn(text)

    def building(self) -> AbstractContextManager[BuildWatcher]:
        from mlship.report.progress import ProgressMode, progress

        modes: dict[Shown, ProgressMode] = {Shown.TTY: "tty", Shown.PLAIN: "plain", Shown.QUIET: "quiet"}
        automatic: ProgressMode = "tty" if sys.stderr.isatty() else "lines"
        return progress(console.talk, mode=modes.get(self.shown, automatic), verbose=self.verbose)
