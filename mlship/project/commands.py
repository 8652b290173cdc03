"""Commands that start servers: from a Procfile, a Dockerfile or an app object, and their ports. Pure."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

PORT = 8080
GRACE = 8  # seconds; two less than the default of grace_seconds
_SERVERS = {"uvicorn", "gunicorn", "hypercorn", "daphne", "waitress-serve", "flask", "fastapi", "uwsgi", "granian"}
_RUNNERS = (("poetry", "run"), ("pipenv", "run"), ("uv", "run"), ("exec",))
_SHELLS = {"sh", "bash", "dash", "ash", "zsh"}
_OPERATORS = set("();<>|&")
_EXPANDED = re.compile(r"[`$*?~]")
_PORT_VARIABLE = re.compile(r"\$\{PORT(?::?-(\d+))?\}|\$PORT\b")
_PORT_FLAGS = ("--bind", "-b", "--port", "-p")
_HOST_FLAGS = ("--bind", "-b", "--host", "-h")
_CHDIR = "--chdir="
_EVERYWHERE = "0.0.0.0"  # noqa: S104  a container must listen on all interfaces


@dataclass(frozen=True)
class Dockerfile:
    """The last stage of a Dockerfile.

    Attributes:
        base: the image it starts from.
        command: ENTRYPOINT and CMD as written, each in exec or shell form.
    """

    base: str
    command: tuple[str, ...]
    port: int | None

    @property
    def python(self) -> str | None:
        """The Python version of an official base image, such as 3.11."""
        match = re.search(r"(?:^|/)python:(\d+\.\d+)", self.base)
        return match[1] if match else None


def read_dockerfile(text: str) -> Dockerfile | None:
    """Read the last stage of a Dockerfile; None without FROM."""
    bases: dict[str, str] = {}
    base, entrypoint, command, port = "", "", "", None
    for line in re.sub(r"\\\s*\n", " ", re.sub(r"(?m)^\s*#.*\n?", "", text)).splitlines():
        name, _, rest = line.strip().partition(" ")
        words = [word for word in rest.split() if not word.startswith("--")]
        if name.upper() == "FROM" and words:
            base = bases.get(words[0].lower(), words[0])
            entrypoint, command, port = "", "", None
            if len(words) == 3 and words[1].upper() == "AS":
                bases[words[2].lower()] = base
        elif name.upper() == "ENTRYPOINT":
            entrypoint, command = rest.strip(), ""
        elif name.upper() == "CMD":
            command = rest.strip()
        elif name.upper() == "EXPOSE" and (number := re.match(r"\d+", rest.strip())):
            port = int(number[0])
    return Dockerfile(base, tuple(part for part in (entrypoint, command) if part), port) if base else None


def procfile_web(text: str) -> str | None:
    """The `web` line of a Procfile."""
    match = re.search(r"(?m)^web:[ \t]*(\S.*)$", text)
    return match[1].strip() if match else None


def parse_command(parts: Sequence[str], port: int = PORT) -> tuple[str, ...] | None:
    """Parse command lines into one argument list; None if they need a shell.

    Args:
        port: replaces $PORT, which some platforms set but an image must not depend on.
    """
    words = [word for part in parts for word in (_json(part) or _split(part, port))]
    if is_shell(words) and words[1:2] == ["-c"] and len(words) == 3:
        words = _split(words[2], port)
    for runner in _RUNNERS:
        if tuple(words[: len(runner)]) == runner:
            words = words[len(runner) :]
    if words and re.match(r"/(\S+/)?bin/[\w.-]+$", words[0]):  # of another image's environment; PATH has ours
        words[0] = words[0].rpartition("/")[2]
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
    return program_name(command) in _SHELLS


def is_server(command: Sequence[str]) -> bool:
    """Whether a command starts a known server, directly or as `python -m`."""
    return any(word.rpartition("/")[2] in _SERVERS for word in _started(command)[:3])


def server_module(command: Sequence[str]) -> str | None:
    """The module that a command runs: of `python -m uvicorn`, and of programs that are named after theirs."""
    words = _started(command)
    if program_name(command).startswith("python"):
        return words[2] if len(words) > 2 and words[1] == "-m" else None
    name = program_name(command).removesuffix("-serve")
    return name if is_server(words[:1]) and name != "uwsgi" else None


def app_command(kind: str, app: str, *, factory: bool, port: int = PORT) -> tuple[str, ...]:
    """The command that serves an app object: gunicorn for WSGI, as Flask and Django have it, otherwise uvicorn."""
    if kind in ("flask", "django"):
        return (
            "gunicorn",
            f"{app}()" if factory else app,
            "--bind",
            f"{_EVERYWHERE}:{port}",
            "--graceful-timeout",
            str(GRACE),
        )
    start = ("uvicorn", app, *(["--factory"] if factory else []))
    return (*start, "--host", _EVERYWHERE, "--port", str(port), "--timeout-graceful-shutdown", str(GRACE))


def port_of(command: Sequence[str]) -> int | None:
    """The port in a command; None without one."""
    for index in _values(command, _PORT_FLAGS):
        digits = re.search(r"(\d{1,5})$", command[index])
        if digits:
            return int(digits[1])
    return None


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
    if program_name(words) == "uvicorn":
        words += [] if any(word.startswith(("--host", "--uds")) for word in words) else ["--host", _EVERYWHERE]
        words += [] if addresses else ["--port", str(port)]
    elif program_name(words) == "gunicorn" and not (addresses or {"-c", "--config"} & flags):
        words += ["--bind", f"{_EVERYWHERE}:{port}"]
    return tuple(words)


def _values(command: Sequence[str], flags: tuple[str, ...]) -> list[int]:
    """Indexes of the words that hold the values of some flags: the word after the flag, or the same one."""
    found = []
    for index, word in enumerate(command):
        flag, separator, _ = word.partition("=")
        if flag in flags:
            found += [index] if separator else [index + 1]
    return [index for index in found if index < len(command)]


def _json(text: str) -> list[str]:
    if not text.startswith("["):
        return []
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else []


def _split(text: str, port: int) -> list[str]:
    """Split a shell line into words; empty if it has operators, variables or patterns, which need a shell.

    A shell also starts tests and groups with brackets, and Docker reads an invalid exec form as a shell line.
    """
    if text.startswith(("[", "{")):
        return []
    lexer = shlex.shlex(
        _PORT_VARIABLE.sub(lambda match: match[1] or str(port), text), posix=True, punctuation_chars=True
    )
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError:
        return []
    return [] if any(_EXPANDED.search(word) or set(word) <= _OPERATORS for word in words) else words
