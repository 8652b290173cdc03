"""The output of pip-compile as an error with cause and fix; the known messages are in known_texts.toml."""

import re

from mlship.errors import MlshipError, UsageError
from mlship.known_texts import first_match
from mlship.project.config import Config
from mlship.redact import redact

_CONFLICT = re.compile(r"The conflict is caused by:\n(.+?)\n\s*\n", re.DOTALL)
_RAISED = re.compile(r"(?!pip\.|subprocess\.)[\w.]*(Error|Exception): \S|error: command |fatal error: ")
_OTHER_PYTHON = "require a different python version"
# What pip prints while it works; its reason comes before.
_PROGRESS = re.compile(
    r"(Downloading|Using cached|Collecting|Obtaining|Preparing|Getting|Installing) |[^\w]*[\d./]+ \w?B\b|[-━╸ ]+$"
)
_SHOWN = 6


def explain(output: str, config: Config, otherwise: MlshipError | None = None) -> MlshipError:
    """The error that pip-compile's output describes, without passwords in addresses.

    Args:
        otherwise: returned if the output holds no known message.
    """
    text = redact(output)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if match := first_match(text, "lock"):
        return match.as_error(
            input=config.requirements.input,
            python=config.python,
            platform=config.platform,
            other_python=" (other versions need another Python)" if _OTHER_PYTHON in text else "",
            conflict=_conflict(text, match.groups.get("requirements", "")),
            raised=_raised(lines),
            package=_collected(text),
        )
    if otherwise:
        return otherwise
    telling = [line for line in lines if not _PROGRESS.match(line)] or lines
    return UsageError(
        f"pip-compile failed: {telling[-1][:300] if telling else 'it printed nothing'}",
        hint=f"check `{config.requirements.input}`, then run `mlship lock` again",
    )


def _conflict(text: str, requirements: str) -> str:
    """The requirements that conflict, a line each."""
    causes = _CONFLICT.search(text)
    lines = [line.strip() for line in causes[1].splitlines()] if causes else [requirements]
    return "".join(f"\n- {line}" for line in lines[:_SHOWN])


def _collected(text: str) -> str:
    """The package that pip was working on when it stopped."""
    named = re.findall(r"^\s*Collecting ([A-Za-z0-9][\w.-]*)", text, re.MULTILINE)
    return f"`{named[-1]}`" if named else "a package"


def _raised(lines: list[str]) -> str:
    """The last errors of a source build, a line each."""
    raised = [line for line in lines if _RAISED.match(line)]
    shown = raised or [line for line in lines if re.search(r"(?i)\berror\b", line)]
    return "".join(f"\n- {line[:200]}" for line in shown[-3:])
