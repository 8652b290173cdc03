"""pip-compile's text -> an error with a remedy. Every pattern has captured text as its test."""

import re

from mlship.errors import MlshipError, TransientError, UsageError
from mlship.project.config import Config
from mlship.redact import redact

_CONFLICT = re.compile(r"ERROR: (Cannot install .+?) because these package versions have conflicting", re.DOTALL)
_CAUSES = re.compile(r"The conflict is caused by:\n(.+?)\n\s*\n", re.DOTALL)
_MISSING = re.compile(r"Could not find a version that satisfies the requirement (.+?) \(from versions: ([^)]*)\)")
_INVALID = re.compile(r"Invalid requirement: (.+)")
_BROKEN = re.compile(r"metadata-generation-failed|subprocess-exited-with-error|Failed to build|BackendUnavailable")
_UNREACHABLE = re.compile(r"connection broken by|Read timed out|Could not resolve host|ProxyError|HTTP error 5\d\d")
_WHEEL_INDEX = re.compile(r"no connection to the wheel index (\S+): (.*)")
_REFUSED = re.compile(r"(?:WARNING: )?(40[137] (?:Error|Client Error)[^\n]*)")
_CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED|invalid path: .*CA|SSLError")
_RAISED = re.compile(r"(?!pip\.|subprocess\.)[\w.]*(Error|Exception): \S|error: command |fatal error: ")
_OTHER_PYTHON = "require a different python version"
_SHOWN = 6


def explain(output: str, config: Config, otherwise: MlshipError | None = None) -> MlshipError:
    """What pip-compile's output means; passwords in addresses are never in it.

    Args:
        otherwise: returned where the output says nothing known.
    """
    text = redact(output)
    for reason in (_disk, _certificate, _refused, _wheel_index, _unreachable, _conflict, _missing, _invalid, _broken):
        if error := reason(text, config):
            return error
    if otherwise:
        return otherwise
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
    return UsageError(
        f"pip-compile failed: {last[:300]}", hint=f"check {config.requirements.input}, then `mlship lock`"
    )


def _disk(text: str, _config: Config) -> MlshipError | None:
    if "No space left on device" not in text:
        return None
    return TransientError("the disk is full, so nothing could be resolved", hint="make room, then run `mlship lock`")


def _certificate(text: str, _config: Config) -> MlshipError | None:
    if not _CERTIFICATE.search(text):
        return None
    return UsageError(
        "an index's certificate is not trusted (a proxy of your company's, with a CA of its own?)",
        hint="name the bundle that has that CA: `pip config set global.cert /path/to/ca.pem`, or PIP_CERT",
    )


def _refused(text: str, _config: Config) -> MlshipError | None:
    match = _REFUSED.search(text)
    if match is None:
        return None
    return UsageError(
        f"an index refused us: {match[1][:200]}",
        hint="correct name and password in ~/.netrc or in the index's address (`pip config list`)",
    )


def _wheel_index(text: str, _config: Config) -> MlshipError | None:
    match = _WHEEL_INDEX.search(text)
    if match is None:
        return None
    return TransientError(
        f"the wheel index of the chosen CUDA cannot be reached: {match[1]} ({match[2][:200]})",
        hint="check the network and `pip config list`, or name a mirror of it as gpu.wheel_index in mlship.yaml "
        "(or MLSHIP_WHEEL_INDEX); then run `mlship lock` again",
    )


def _unreachable(text: str, _config: Config) -> MlshipError | None:
    match = _UNREACHABLE.search(text)
    if match is None:
        return None
    line = next(line.strip() for line in text.splitlines() if _UNREACHABLE.search(line))
    said = re.search(r"(?:\[Errno[^'\"]*|Read timed out|Could not resolve host[^\n]*)", line)
    return TransientError(
        f"an index cannot be reached: {said[0] if said else line[:200]}",
        hint="check the network and `pip config list`, then run `mlship lock` again",
    )


def _conflict(text: str, config: Config) -> MlshipError | None:
    match = _CONFLICT.search(text)
    if match is None:
        return None
    causes = _CAUSES.search(text)
    lines = [line.strip() for line in causes[1].splitlines()] if causes else [match[1]]
    listed = "".join(f"\n- {line}" for line in lines[:_SHOWN])
    return UsageError(
        f"these requirements exclude each other:{listed}",
        hint=f"loosen one of them in {config.requirements.input}, then run `mlship lock` again",
    )


def _missing(text: str, config: Config) -> MlshipError | None:
    match = _MISSING.search(text)
    if match is None:
        return None
    known = [] if match[2] == "none" else match[2].split(", ")
    where = f"Python {config.python} on {config.platform}"
    if known:
        what = f"no version of {match[1]} fits {where}; there is {', '.join(known[-_SHOWN:])}"
    else:
        what = f"no index has {match[1]} for {where}"
    if _OTHER_PYTHON in text:
        what += " (there are versions for other Pythons)"
    hint = f"correct it in {config.requirements.input}, or `python` in mlship.yaml, or the index (`pip config list`)"
    return UsageError(what, hint=hint)


def _invalid(text: str, config: Config) -> MlshipError | None:
    match = _INVALID.search(text)
    if match is None:
        return None
    return UsageError(f"not a requirement: {match[1][:200]}", hint=f"correct it in {config.requirements.input}")


def _broken(text: str, config: Config) -> MlshipError | None:
    if not _BROKEN.search(text):
        return None
    stripped = [line.strip() for line in text.splitlines()]
    raised = [line for line in stripped if _RAISED.match(line)]
    lines = raised or [line for line in stripped if re.search(r"(?i)\berror\b", line)]
    said = "".join(f"\n- {line[:200]}" for line in lines[-3:])
    return UsageError(
        f"a package has no wheel for Python {config.python}, and its source does not build:{said}",
        hint=f"ask for a version with wheels in {config.requirements.input}",
    )
