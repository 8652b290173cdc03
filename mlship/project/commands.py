"""Commands that start servers: of a Procfile, a Dockerfile or an app object, and their ports. Pure."""

import re
import shlex
from collections.abc import Mapping, Sequence

from mlship.dockerfile.shell import SHELLS, run_by, script_of
from mlship.project.serving_table import serving_table

PORT = 8080
GRACE = 8  # seconds; two less than the default of grace_seconds
_NEEDS_SHELL = re.compile(r"[`$*?~]|^#|^[();<>|&]+$")
_LITERAL = {ord(sign): 0xF0000 + ord(sign) for sign in "`$*?~#();<>|&"}  # quoted, so these need no shell
_QUOTED = {sign: mark for sign, mark in _LITERAL.items() if chr(sign) not in "`$"}
_VARIABLE = re.compile(r"\\.|\$(?:(\w+)|\{(\w+)(?:(:?)([-=?+])([^{}\\]*))?\})")
_PIECE = re.compile(rf"""{_VARIABLE.pattern}|'[^']*'|"(?:[^"\\]|\\.)*\"""")
_DEEPEST = 8  # expansions in expansions
_RELOAD = re.compile("\0--reload(-[^\0=]+[\0=][^\0]*)?(?=\0|$)")  # a flag, or an option with its value
_ONE_WORD = re.compile(r"[\w./:=,@%+$ -]*")  # means the same in a script as in a variable
_PORT_FLAGS = ("--bind", "-b", "--port", "-p")
_HOST_FLAGS = ("--bind", "-b", "--host", "-h")
_CHDIR = "--chdir="
_EVERYWHERE = "0.0.0.0"  # noqa: S104  a container must listen on all interfaces


def procfile_web(text: str) -> str | None:
    """The `web` line of a Procfile."""
    match = re.search(r"(?m)^web:[ \t]*(\S.*)$", text)
    return match[1].strip() if match else None


def parse_command(command: Sequence[str], variables: Mapping[str, str]) -> tuple[str, ...] | None:
    """The argument list that a command comes down to, without shells and programs that only run it.

    Args:
        variables: those of the environment, for a shell's script. PORT replaces $PORT where nothing else gives it; some
            platforms set it, but an image must not depend on it.

    Returns:
        None if it needs a shell.
    """
    words, before = list(command), None
    while words and words != before:
        before = list(words)
        if re.match(r"/(\S+/)?bin/[\w.-]+$", words[0]):  # of another image's environment; PATH has ours
            words[0] = words[0].rpartition("/")[2]
        if is_shell(words) and (script := script_of(words)) is not None and words[-1] == script:
            words = _split(script, variables)
        run = run_by(words) if words and program_name(words) not in ("env", "timeout") else None
        words = words if run is None else list(run)
    usable = words and "=" not in words[0] and not is_shell(words) and all(w and w.isprintable() for w in words)
    return tuple(words) if usable else None


def run_in(folder: str, command: Sequence[str]) -> tuple[str, ...]:
    """The command with another working directory; `env` becomes the program, so signals reach it."""
    return (*(("env", f"{_CHDIR}{folder}") if folder else ()), *command)


def _started(command: Sequence[str]) -> Sequence[str]:
    """The command without what `run_in` adds."""
    return command[2:] if [*command[:1]] == ["env"] and "".join(command[1:2]).startswith(_CHDIR) else command


def program_name(command: Sequence[str]) -> str:
    """The program that a command runs, without its folder; empty for an empty command."""
    return next(iter(_started(command)), "").rpartition("/")[2]


def is_shell(command: Sequence[str]) -> bool:
    """Whether a command runs a shell, which would not forward SIGTERM to the server."""
    return program_name(command) in SHELLS


def is_server(command: Sequence[str]) -> bool:
    """Whether a command starts a known server, directly or as `python -m`."""
    return any(word.rpartition("/")[2] in serving_table().programs for word in _started(command)[:3])


def takes_no_sample(command: Sequence[str]) -> bool:
    """Whether a command starts something else than a server that takes a sample, such as a Streamlit page."""
    name, first = program_name(command), _started(command)[1:2]
    return not serving_table().others.isdisjoint((name, " ".join((name, *first)), python_module(command)))


def python_module(command: Sequence[str]) -> str:
    """The module of `python -m MODULE`; empty for another command."""
    words = _started(command)
    return words[2] if program_name(command).startswith("python") and [*words[1:2]] == ["-m"] and len(words) > 2 else ""


def server_module(command: Sequence[str]) -> str | None:
    """The module that a command runs: of `python -m uvicorn`, and of programs that are named after theirs."""
    name = program_name(command)
    if row := serving_table().server.get(name):
        return (name if row.module is None else row.module) or None
    return python_module(command) or None


def app_command(kind: str, app: str, *, factory: bool) -> tuple[str, ...]:
    """The command that serves an app object: gunicorn for WSGI, as Flask and Django have it, otherwise uvicorn."""
    given = {"app": app, "call": "()" * factory, "factory": "--factory" * factory, "host": _EVERYWHERE}
    words = (word.format(**given, port=PORT, grace=GRACE) for word in serving_table().app[kind].command)
    return tuple(word for word in words if word)


def port_of(command: Sequence[str]) -> int | None:
    """The port in a command; None without one."""
    for index in _values(command, _PORT_FLAGS):
        if digits := re.search(r"(\d{1,5})$", command[index]):
            return int(digits[1])
    return None


def without_reload(command: Sequence[str]) -> tuple[str, ...]:
    """The command without the options of uvicorn and gunicorn that watch the sources, for development."""
    return tuple(_RELOAD.sub("", "".join(f"\0{word}" for word in command)).split("\0")[1:])


def listen_on(command: Sequence[str], port: int) -> tuple[str, ...]:
    """The same command, listening on `port` and on all interfaces.

    By default uvicorn and gunicorn listen on 127.0.0.1, which is unreachable from outside the container.
    """
    words = list(command)
    for index in _values(words, _HOST_FLAGS):
        words[index] = re.sub(r"^(.*=)?(127\.0\.0\.1|localhost)(?=:|$)", r"\g<1>" + _EVERYWHERE, words[index])
    addresses = _values(words, _PORT_FLAGS)
    for index in addresses:
        words[index] = re.sub(r"\d{1,5}$", str(port), words[index])
    flags = {word.partition("=")[0] for word in words}
    if program_name(words) == "uvicorn" and not any(word.startswith(("--host", "--uds")) for word in words):
        words += ["--host", _EVERYWHERE]
    if program_name(words) in ("uvicorn", "bentoml", "vllm"):
        words += [] if addresses else ["--port", str(port)]
    elif program_name(words) == "gunicorn" and not (addresses or {"-c", "--config"} & flags):
        words += ["--bind", f"{_EVERYWHERE}:{port}"]
    return tuple(words)


def _values(command: Sequence[str], flags: tuple[str, ...]) -> list[int]:
    """Indexes of the words that hold the values of some flags: the word after the flag, or the same one."""
    parts = [(index, word.partition("=")) for index, word in enumerate(command)]
    found = [index if equals else index + 1 for index, (flag, equals, _) in parts if flag in flags]
    return [index for index in found if index < len(command)]


def _split(script: str, variables: Mapping[str, str]) -> list[str]:
    """Split a shell line into words; empty if it has operators, unknown variables or patterns, which need a shell.

    A shell also starts tests and groups with brackets, and Docker reads an invalid exec form as a shell line.
    """
    if script.startswith(("[", "{")):
        return []

    def value(match: re.Match[str]) -> str:
        if not (name := match[1] or match[2]):  # in quotation marks, or an escaped character
            text = _VARIABLE.sub(value, match[0]) if match[0].startswith('"') else match[0]
            return text.translate({"'": _LITERAL, '"': _QUOTED}.get(text[0], {}))
        operator, given = match[4], variables.get(name)
        if operator == "+":
            return match[5] if given or (given is not None and not match[3]) else ""
        found = given or (match[5] if operator in ("-", "=") else str(PORT) if name == "PORT" else None)
        if found is None or not _ONE_WORD.fullmatch(found) or "$" in (given or ""):  # a shell expands no value again
            return match[0]
        return found

    for _ in range(_DEEPEST):
        script = _PIECE.sub(value, script)
    lexer = shlex.shlex(script, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError:
        return []
    signs = {mark: sign for sign, mark in _LITERAL.items()}
    return [] if any(map(_NEEDS_SHELL.search, words)) else [word.translate(signs) for word in words]
