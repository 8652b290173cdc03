"""The command that starts an existing server: from a Procfile, a Dockerfile or the kind of its app object. Pure."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

PORT = 8080
GRACE = 8  # seconds; mlship.yaml's grace_seconds leaves two more
_SERVERS = {"uvicorn", "gunicorn", "hypercorn", "daphne", "waitress-serve", "flask", "fastapi", "uwsgi", "granian"}
_RUNNERS = (("poetry", "run"), ("pipenv", "run"), ("uv", "run"), ("exec",))
_SHELLS = {"sh", "bash", "dash", "ash", "zsh"}
_OPERATORS = set("();<>|&")
_EXPANDED = re.compile(r"[`$*?~]")
_PORT_VARIABLE = re.compile(r"\$\{PORT(?::?-(\d+))?\}|\$PORT\b")
_PORT_FLAGS = ("--bind", "-b", "--port", "-p")
_HOST_FLAGS = ("--bind", "-b", "--host", "-h")
_EVERYWHERE = "0.0.0.0"  # noqa: S104  what a container must listen on


@dataclass(frozen=True)
class Dockerfile:
    """What mlship reads of a Dockerfile: its last stage.

    Attributes:
        base: the image it starts from.
        command: entrypoint and command as they are written, each in exec or shell form.
    """

    base: str
    command: tuple[str, ...]
    port: int | None

    @property
    def python(self) -> str | None:
        """The Python of an official base image, such as 3.11."""
        match = re.search(r"(?:^|/)python:(\d+\.\d+)", self.base)
        return match[1] if match else None


def read_dockerfile(text: str) -> Dockerfile | None:
    """The last stage of a Dockerfile; None where no FROM is in it."""
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


def exec_form(parts: Sequence[str], port: int = PORT) -> tuple[str, ...] | None:
    """Command lines as one argument list; None where only a shell could run them.

    Args:
        port: stands in for $PORT, which platforms set and an image must not depend on.
    """
    words = [word for part in parts for word in (_json(part) or _split(part, port))]
    if is_shell(words) and words[1:2] == ["-c"] and len(words) == 3:
        words = _split(words[2], port)
    for runner in _RUNNERS:
        if tuple(words[: len(runner)]) == runner:
            words = words[len(runner) :]
    usable = words and "=" not in words[0] and not is_shell(words) and all(w and w.isprintable() for w in words)
    return tuple(words) if usable else None


def program(command: Sequence[str]) -> str:
    """The name of the program that a command runs, without its folder; empty for an empty command."""
    return command[0].rpartition("/")[2] if command else ""


def is_shell(command: Sequence[str]) -> bool:
    """Whether a command runs a shell, which as the first process would keep SIGTERM to itself."""
    return program(command) in _SHELLS


def is_server(command: Sequence[str]) -> bool:
    """Whether a command starts a server that mlship knows, directly or as `python -m`."""
    return any(word.rpartition("/")[2] in _SERVERS for word in command[:3])


def for_app(kind: str, app: str, *, factory: bool, port: int = PORT) -> tuple[str, ...]:
    """How to start an app object: uvicorn for FastAPI, gunicorn for Flask."""
    if kind == "flask":
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
    """The port that a command names."""
    for index in _values(command, _PORT_FLAGS):
        digits = re.search(r"(\d{1,5})$", command[index])
        if digits:
            return int(digits[1])
    return None


def listening(command: Sequence[str], port: int) -> tuple[str, ...]:
    """The same command on `port` and on all interfaces, where it named another or none.

    uvicorn and gunicorn listen on 127.0.0.1 by default, which nothing outside the container can reach.
    """
    words = list(command)
    for index in _values(words, _HOST_FLAGS):
        words[index] = re.sub(r"^(.*=)?(127\.0\.0\.1|localhost)(?=:|$)", r"\g<1>" + _EVERYWHERE, words[index])
    addresses = _values(words, _PORT_FLAGS)
    for index in addresses:
        words[index] = re.sub(r"\d{1,5}$", str(port), words[index])
    if program(words) == "uvicorn":
        words += [] if any(word.startswith(("--host", "--uds")) for word in words) else ["--host", _EVERYWHERE]
        words += [] if addresses else ["--port", str(port)]
    elif (
        program(words) == "gunicorn" and not addresses and not {"-c", "--config"} & {w.partition("=")[0] for w in words}
    ):
        words += ["--bind", f"{_EVERYWHERE}:{port}"]
    return tuple(words)


def _values(command: Sequence[str], flags: tuple[str, ...]) -> list[int]:
    """Where in a command the values of some flags stand: in the word after the flag, or in the same one."""
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
    """A shell line as words; none where it needs a shell: operators, variables, patterns."""
    lexer = shlex.shlex(
        _PORT_VARIABLE.sub(lambda match: match[1] or str(port), text), posix=True, punctuation_chars=True
    )
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError:
        return []
    return [] if any(_EXPANDED.search(word) or set(word) <= _OPERATORS for word in words) else words
