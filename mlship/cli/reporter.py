"""Progress on the screen."""

import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass

from mlship import console
from mlship.engine.base import BuildWatcher


@dataclass(frozen=True)
class ConsoleReporter:
    """Writes to stderr; if `verbose`, with the output of build steps."""

    verbose: bool

    def step(self, text: str) -> None:
        console.say(f"• {text}")

    def warn(self, text: str) -> None:
        console.warn(text)

    def building(self) -> AbstractContextManager[BuildWatcher]:
        from mlship.report.progress import progress, progress_lines

        if sys.stderr.isatty():
            return progress(console.talk(), verbose=self.verbose)
        return progress_lines(console.talk, verbose=self.verbose)
