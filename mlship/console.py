"""Terminal output: data on stdout, messages on stderr. External values are stripped of control characters."""

import sys
from collections.abc import Iterable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING

from mlship.errors import MlshipError
from mlship.redact import redact

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)))
# Written out: they reorder the text on a terminal, so that it shows something else than it says.
_REORDERING = {
    code: f"\\u{code:04x}" for code in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")
_SHOWN = _CONTROL | _REORDERING | _SURROGATES


def clean(text: str) -> str:
    """`text` as a terminal may show it: without credentials, control characters and what UTF-8 cannot write."""
    return redact(text).translate(_SHOWN).replace("\r", "\n")


def _console(*, stderr: bool) -> "Console":
    """Honours NO_COLOR; no hard wraps, so that CI logs stay greppable."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False, emoji=False)


talk = cache(partial(_console, stderr=True))  # the console for messages
_data = cache(partial(_console, stderr=False))
_problems = cache(partial(_console, stderr=True))  # so that --quiet cannot silence errors and warnings


def say(text: str = "", *, style: str | None = None) -> None:
    """Print a message on stderr, without interpreting markup."""
    if style is None and not talk.cache_info().currsize:  # import rich only when there is something to colour
        print(clean(text), file=sys.stderr, flush=True)  # noqa: T201
    else:
        talk().print(clean(text), style=style, markup=False)


def out(text: str = "", *, style: str | None = None) -> None:
    """Print a line of a command's result on stdout, without interpreting markup."""
    if style is None and not _data.cache_info().currsize:  # as in say()
        print(clean(text))  # noqa: T201
        return
    _data().print(clean(text), style=style, markup=False)


def out_lines(lines: Iterable[str], styles: Mapping[str, str] | None = None) -> None:
    """Print lines; `styles` has the style of those that start with a text."""
    for line in lines:
        out(line, style=next((style for start, style in (styles or {}).items() if line.startswith(start)), None))


def emit(text: str) -> None:
    """Write machine-readable data to stdout, byte for byte."""
    sys.stdout.write((text if text.endswith("\n") else f"{text}\n").translate(_SURROGATES))
    sys.stdout.flush()


def problem(error: MlshipError) -> None:
    _labelled("error:", "bold red", error.message)
    _problems().print()
    _labelled("hint:", "bold cyan", error.hint)


def warn(text: str) -> None:
    _labelled("warning:", "bold yellow", text)


def _labelled(label: str, style: str, text: str) -> None:
    _problems().print(label, style=style, end=" ")
    _problems().print(clean(text), markup=False)


def set_quiet() -> None:
    """Silence messages, but not errors and warnings, for the rest of the run."""
    talk().quiet = True
