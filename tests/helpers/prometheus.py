"""Debian's Prometheus, scraping servers of a test."""

import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.debian_files import debian_files
from tests.helpers.patience import limit


def prometheus_programs() -> Path:
    """The folder of `prometheus` and `promtool`."""
    return debian_files("prometheus", ["prometheus"], "bookworm main", "usr/bin")


@contextmanager
def prometheus_of(folder: Path, jobs: Mapping[str, int], rules: Path | None = None) -> Iterator[str]:
    """The address of a Prometheus that scrapes these ports by job, five times a second, until the test ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scrapes = [
        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]} for job, target in jobs.items()
    ]
    config = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "1s"},
        "scrape_configs": scrapes,
        "rule_files": [str(rules)] if rules else [],
    }
    folder.mkdir()
    (folder / "prometheus.yml").write_text(json.dumps(config))
    options = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "log.level": "warn",
    }
    argv = [str(prometheus_programs() / "prometheus"), *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: process.poll() is not None or _ready(url), "Prometheus is ready")
            assert process.poll() is None, (folder / "log").read_text()
            yield url
        finally:
            process.terminate()
            process.wait(timeout=limit(30))


def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + limit(seconds)
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.1)


def asked(url: str, query: str) -> list[dict[str, object]]:
    """What an instant query finds."""
    body = urllib.parse.urlencode({"query": query}).encode()
    with urllib.request.urlopen(f"{url}/api/v1/query", body, timeout=limit(10)) as answer:
        found: list[dict[str, object]] = json.load(answer)["data"]["result"]
    return found


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=limit(5)) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
