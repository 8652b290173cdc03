"""The BuildKit of an engine as a builder of buildx's `remote` driver, which knows nothing of that engine's images."""

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from tests.helpers.patience import limit


@contextmanager
def remote_builder(folder: Path, engine: Mapping[str, str]) -> Iterator[str]:
    """Serve an engine's BuildKit on a socket, and give the name of a builder that uses it.

    Args:
        engine: environment that selects the engine.
    """
    name = f"far-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "buildkit.sock"))
        listening.listen()
        Thread(target=_serve, args=(listening, {**os.environ, **engine}), daemon=True).start()
        create = ("create", "--name", name, "--driver", "remote", f"unix://{folder}/buildkit.sock")
        _buildx(*create)
        try:
            yield name
        finally:
            _buildx("rm", "--force", name)
            listening.shutdown(socket.SHUT_RDWR)


def _serve(listening: socket.socket, env: Mapping[str, str]) -> None:
    """Connect each client to the engine's BuildKit; ends when the socket does."""
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        Thread(target=_connect, args=(client, env), daemon=True).start()


def _connect(client: socket.socket, env: Mapping[str, str]) -> None:
    argv = ("docker", "buildx", "dial-stdio", "--builder", "default", "--progress", "quiet")
    with client:
        subprocess.run(
            argv, stdin=client.fileno(), stdout=client.fileno(), stderr=subprocess.DEVNULL, env=env, check=False
        )


def _buildx(*arguments: str) -> None:
    subprocess.run(("docker", "buildx", *arguments), check=True, capture_output=True, timeout=limit(60))
