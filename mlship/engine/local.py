"""Questions to an engine at a socket of this machine: 5 ms each, where the docker program takes 25 ms to start.

HTTP/1.0, whose answers end with the connection: importing an HTTP client takes longer than the answer.
"""

import hashlib
import os
import re
import socket
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from mlship import plain
from mlship.versioned import adapter

DEFAULT_HOST = "unix:///var/run/docker.sock"
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
    """Whether the environment asks for TLS; docker knows where the certificates are."""
    return bool(os.environ.get("DOCKER_TLS") or os.environ.get("DOCKER_TLS_VERIFY"))


def context_host(name: str) -> str:
    """The address of the engine of a docker context; empty if there is none of this name, or it cannot be read."""
    path = config_folder() / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
    with suppress(OSError):
        return plain.text(plain.json_of(path.read_bytes()), "Endpoints", "docker", "Host") or ""
    return ""


def ask(method: str, path: str) -> bytes | None:
    """The engine's answer to a request of its API, without a version: the newest.

    Returns:
        None if there is no whole answer of success, or the engine is elsewhere: docker finds it, and says why.
    """
    with suppress(OSError, ValueError, RuntimeError), closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(_address())
        connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            head, end, body = answer.read().partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
        whole = int(length[1]) == len(body) if length else b"chunked" not in head.lower()
        return body if end and whole and re.match(rb"HTTP/1\.\d 2\d\d ", head) else None
    return None


def _address() -> str:
    """The socket that docker would use.

    Raises:
        OSError, ValueError, RuntimeError: it would use something else, or its settings cannot be read.
    """
    host = os.environ.get("DOCKER_HOST")
    if not host:
        name = os.environ.get("DOCKER_CONTEXT") or settings().get("currentContext") or "default"
        host = DEFAULT_HOST if name == "default" else context_host(str(name))
    scheme, _, path = host.partition("://")
    if scheme != "unix" or uses_tls():
        raise ValueError("not a socket of this machine")
    return path
