"""Which lines of a program's output a report quotes."""

from collections.abc import Iterable

from mlship.smoke.gpu_causes import of_text
from mlship.smoke.spec import SmokeSpec

LOG_LINES = 40
_EARLY_LINES = 5


def last_lines(lines: Iterable[str], *, gpu: bool) -> tuple[str, ...]:
    """The last lines, after those that say why a GPU is not used: they are printed when the model loads."""
    printed = [line.rstrip() for line in lines if line.strip()]
    early = [line for line in printed[:-LOG_LINES] if gpu and of_text(line)]
    return (*early[:_EARLY_LINES], *printed[-LOG_LINES:])


def without_own_requests(lines: Iterable[str], spec: SmokeSpec) -> list[str]:
    """A server's lines without those about the test's own requests."""
    ours = tuple(f'"{ask}' for ask in (f"GET {spec.live} ", f"GET {spec.ready} ", spec.asked.shown))
    return [line for line in lines if not any(request in line for request in ours)]
