"""Questions to an engine at a socket of this machine: 5 ms each, where the docker program takes 25 ms to start.

HTTP/1.0, whose answers end with the connection: importing an HTTP client takes longer than the answer.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from mlship.versioned import adapter

_SECONDS = 5.0


def config_folder() -> Path:
    """The folder of docker's settings and plugins."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def settings() -> Mapping[str, object]:
    """Docker's settings; empty if there are none.

    Raises:
        OSError, ValueError: they cannot be read.
    """
    path = config_folder() / "config.json"
    return adapter(dict[str, object]).validate_json(path.read_bytes()) if path.exists() else {}


def uses_tls() -> bool:
    """Whether docker is told to use TLS, with certificates that only it finds."""
    return bool(os.environ.get("DOCKER_TLS") or os.environ.get("DOCKER_TLS_VERIFY"))


def ask(method: str, path: str) -> bytes | None:
    """The engine's answer to a request of its API, without a version: the newest.

    Returns:
        None if there is no answer of success, or the engine is elsewhere: docker finds it, and says what is wrong.
    """
    with suppress(OSError, ValueError, IndexError), closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(_address())
        connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
        return body if head.split()[1].startswith(b"2") else None
    return None


def _address() -> str:
    """The socket that docker would use.

    Raises:
        ValueError: it would use something else.
    """
    host = os.environ.get("DOCKER_HOST")
    context = host or os.environ.get("DOCKER_CONTEXT") or settings().get("currentContext")
    scheme, _, path = (host or "unix:///var/run/docker.sock").partition("://")
    if scheme != "unix" or uses_tls() or context not in {host, None, "", "default"}:
        raise ValueError("not a socket of this machine")
    return path
