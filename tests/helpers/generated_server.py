"""The server that `mlship init` writes, in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.scaffold import keep_existing, scaffold, write_scaffold
from mlship.project.load import parse_config
from tests.helpers.patience import limit
from tests.helpers.repos import write


@dataclass(frozen=True)
class Running:
    """A server process, and requests to it."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, str]:
        """Status and body; status 0 if the server does not answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body)
        request.add_header("Content-Type", "")
        try:
            with urllib.request.urlopen(request, timeout=limit(10)) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait(self, path: str, status: int, seconds: float = 30) -> set[int]:
        """Request until the status is `wanted`; return every status seen."""
        seen, deadline = set(), time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            seen.add(self.ask(path)[0])
            if status in seen:
                return seen
            time.sleep(0.02)
        pytest.fail(f"{path} never answered {status}, only {seen}: {self.end()}")

    def end(self) -> str:
        """Stop the server; return its log."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> str:
        """Wait until the server has ended; return its log."""
        self.process.wait(timeout=limit(30))
        return self.log.read_text(encoding="utf-8")


def initialised(repo: Path, files: dict[str, str | bytes], *parts: str) -> Path:
    write(repo, files)
    planned = keep_existing(scaffold(detect(repo), frozenset(parts)), repo)
    write_scaffold(repo, planned.files)
    return repo


def offline() -> dict[str, str]:
    """onnxruntime's Linux wheel sends telemetry, and a unit test reaches no network."""
    return {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}


@contextmanager
def served(repo: Path, **settings: str) -> Iterator[Running]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program, *arguments = parse_config((repo / "mlship.yaml").read_text()).serve.command
    assert program == "python"
    environment = {**offline(), "UNREADY_SECONDS": "0", **settings, "PORT": str(port)}
    with tempfile.NamedTemporaryFile() as log:  # a pipe that no test reads would fill, and block the server
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=repo, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        running = Running(process, port, Path(log.name))
        try:
            yield running
        finally:
            running.end()


def records(log: str) -> list[dict[str, object]]:
    """The JSON lines of a log."""
    return [json.loads(line) for line in log.splitlines() if line.startswith('{"time"')]


def run_code(repo: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code with the modules of a server, without the server."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=repo,
        env=offline(),
        capture_output=True,
        text=True,
        check=False,
        timeout=limit(60),
    )
