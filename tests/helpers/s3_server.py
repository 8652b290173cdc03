"""moto's server: the API of S3, over HTTP on this machine."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.helpers.patience import limit

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}
_START = "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"
# Parts may be small, unlike those of S3.
_SETTINGS = {"S3_UPLOAD_PART_MIN_SIZE": "1", "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": "1000000"}


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of a server with an empty bucket `models`."""
    argv, environment = [sys.executable, "-c", _START], {**os.environ, **_SETTINGS}
    with tempfile.NamedTemporaryFile("w+") as log, subprocess.Popen(argv, stderr=log, env=environment) as moto:
        try:
            address = _address(Path(log.name))
            requests.put(f"{address}/models", timeout=limit(10)).raise_for_status()
            yield address
        finally:
            moto.terminate()


def _address(log: Path) -> str:
    """What werkzeug writes once it listens."""
    deadline = time.monotonic() + limit(30)
    while time.monotonic() < deadline:
        if found := [line.split()[-1] for line in log.read_text().splitlines() if "Running on http" in line]:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(log.read_text())
