"""Values of `smoke.env`: environment variables for tests only, which may be credentials."""

from collections.abc import Callable, Mapping
from urllib.parse import quote, quote_plus

from mlship.errors import UsageError
from mlship.project.config import SECRET

_LONG = 8  # characters; a shorter value is hidden only if it is named or given like a credential
_SHORTEST = 4


def resolve_test_values(env: Mapping[str, str | None], environment: Mapping[str, str]) -> dict[str, str]:
    """The variables with their values; None takes the value of this process's environment.

    Raises:
        UsageError: the environment lacks one.
    """
    missing = sorted(name for name, value in env.items() if value is None and name not in environment)
    if missing:
        raise UsageError(
            f"the smoke test needs {', '.join(missing)}, which the environment does not have",
            hint=f"`export {missing[0]}=...`, or write a value for tests under `smoke.env` in mlship.yaml",
        )
    return {name: environment[name] if value is None else value for name, value in sorted(env.items())}


def hidden_from(name: str) -> int:
    """The length from which a variable's value is hidden."""
    return _SHORTEST if SECRET.search(name) else _LONG


def hider(values: Mapping[str, str]) -> Callable[[str], str]:
    """A function that replaces credentials among the values in a text."""
    hidden = {
        written
        for name, value in values.items()
        if len(value) >= hidden_from(name)
        for written in (value, quote(value, safe=""), quote_plus(value))
    }

    def hide(text: str) -> str:
        for value in sorted(hidden, key=len, reverse=True):
            text = text.replace(value, "***")
        return text

    return hide
