"""The output of pip-compile as an error with cause and fix; the known messages are in known_texts.toml."""

import re
from collections.abc import Sequence

from packaging.utils import canonicalize_name

from mlship.errors import MlshipError, UsageError
from mlship.known_texts import bounded, first_match, phrase
from mlship.lock.doubts import instead_of
from mlship.lock.index import index_fault
from mlship.lock.indexes import PipSettings
from mlship.lock.inputs import InputFile
from mlship.lock.old_pins import OldPins, find_old_pins
from mlship.project.config import Config
from mlship.redact import redact
from mlship.units import count_of, few

_CONFLICT = re.compile(r"The conflict is caused by:\n(.+?)\n\s*\n", re.DOTALL)
_RAISED = re.compile(r"(?!pip\.|subprocess\.)[\w.]*(Error|Exception): \S|error: command |fatal error: ")
_IGNORED = re.compile(r"Ignored the following (?P<yanked>yanked )?versions(?: that require)?")
# What pip prints while it works; its reason comes before.
_PROGRESS = re.compile(
    r"(Downloading|Using cached|Collecting|Obtaining|Preparing|Getting|Installing|Looking in) |"
    r"[^\w]*[\d./]+ \w?B\b|[-━╸ ]+$"
)
_EXCEPTION = re.compile(r"(?:[a-z_]\w*\.)+[A-Z]\w*: (?P<message>.+)")
_NAME = re.compile(r"(?:requested|depends on|satisfies the requirement|Collecting) ([A-Za-z0-9][\w.-]*)")
_SHOWN = 6
_ABOUT_WHEELS = {
    *("lock-source-build-failed", "lock-build-imports-torch", "lock-build-dependency"),
    *("lock-package-missing", "lock-version-missing", "lock-conflict-constraint", "lock-conflict-limit"),
}
# pip does not report an index that gave no answer, only what it did not find there.
_ABOUT_INDEXES = {
    *("lock-conflict", "lock-package-missing", "lock-version-missing", "lock-build-dependency"),
    *("lock-conflict-constraint", "lock-conflict-limit", "lock-conflict-upgrade"),
    *("lock-host-unknown", "lock-unreachable", "lock-index-failing", "lock-certificate", "lock-download-failed"),
}


def explain(
    output: str,
    config: Config,
    otherwise: MlshipError | None = None,
    settings: PipSettings | None = None,
    files: Sequence[InputFile] = (),
) -> MlshipError:
    """The error that pip-compile's output describes, without passwords in addresses.

    Args:
        otherwise: returned if the output holds no known message.
        settings: of the indexes, which are asked about the packages that pip could not find.
        files: the requirements.
    """
    text = bounded(redact(output))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if match := first_match(text, "lock"):
        indexes = [redact(index) for index in settings.indexes()] if settings else []
        conflict = _conflict(text, match.groups.get("requirements", ""))
        bad = re.match(r"(['\"])(.+?)\1", match.groups.get("requirement") or "")
        named, package = bad[2] if bad else match.groups.get("expected"), _collected(text)
        lines_of = ((file.path, *line) for file in files if named for line in file.lines() if named in line[1])
        path, number, _ = next(lines_of, (config.requirements.input, 0, ""))
        if number and not bad:
            expected = " or ".join(re.findall(r"^ +Expected +\w+ +([0-9a-f]{32,})", text, re.MULTILINE))
            why = phrase("other_hash").format(expected=expected, received=match.groups["received"])
            return UsageError(f"{path}, line {number}: the file of {package} {why}", hint=phrase("check_hash"))
        error = match.as_error(
            input=f"{path}, line {number}" if number else path,
            python=config.python,
            platform=config.platform,
            ignored=_ignored(text),
            conflict=conflict,
            raised=_raised(lines),
            package=package,
            indexes="a package index" + (f" ({', '.join(indexes)})" if indexes else ""),
            instead=instead_of(package.strip("`"), "require {}, or "),
        )
        if settings and error.cause in _ABOUT_INDEXES:
            names = dict.fromkeys(_NAME.findall(f"{conflict}\n{text}")[-_SHOWN:])
            if fault := index_fault(settings, names):
                return fault
        old = find_old_pins(files, config, settings) if settings and error.cause in _ABOUT_WHEELS else None
        return _about_old(error, old, config, _NAME.findall(text)[-1:]) if old else error
    if otherwise:
        return otherwise
    hint = f"check `{config.requirements.input}`, then run `mlship lock` again"
    return UsageError(f"pip-compile failed: {_last(lines)[:300]}", hint=hint)


def _about_old(error: MlshipError, old: OldPins, config: Config, failed: list[str]) -> MlshipError:
    pins = f"{count_of(len(old.pins), 'requirement')} {'has' if len(old.pins) == 1 else 'have'}"
    named = few((str(pin.requirement) for pin in old.pins), 5)
    newer = [str(pin) for pin in old.pins if pin.newer]
    elsewhere = [str(pin) for pin in old.pins if pin.elsewhere]
    found = {canonicalize_name(pin.requirement.name) for pin in old.pins}
    apart = error.cause in _ABOUT_INDEXES and found.isdisjoint(map(canonicalize_name, failed))
    itself = f"{error.hint}; also " if apart else ""
    ways = [
        *([f'set `python: "{old.python}"` in mlship.yaml, for which every pin has a wheel'] if old.python else []),
        *([f"require {', '.join(newer)}"] if newer else []),
    ]
    linux = f"add the marker `sys_platform != 'linux'` to {', '.join(elsewhere)}: no file is for Linux"
    steps = "; also ".join([", or ".join(ways)] * bool(ways) + [linux] * bool(elsewhere))
    message = f"{error.message}\n{pins} no wheel for Python {config.python} on Linux: {named}"
    return UsageError(message, hint=f"{itself}{steps}; then run `mlship lock` again", cause=error.cause)


def _last(lines: list[str]) -> str:
    """The last exception; without one, the last line that does not only report progress."""
    raised = [match["message"] for line in lines if (match := _EXCEPTION.match(line))]
    said = raised or [line for line in lines if not _PROGRESS.match(line)] or lines
    return said[-1] if said else "it printed nothing"


def _ignored(text: str) -> str:
    """Why pip ignored versions of a package."""
    found = (match["yanked"] for match in _IGNORED.finditer(text))
    reasons = {"they are yanked" if yanked else "they need another Python" for yanked in found}
    return f"; other versions were ignored because {' or '.join(sorted(reasons))}" if reasons else ""


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
    raised = [one for one in lines if _RAISED.match(one)] or [one for one in lines if re.search(r"(?i)\berror\b", one)]
    return "".join(f"\n- {line[:200]}" for line in raised[-3:])
