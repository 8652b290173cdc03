"""`mlship export --as compose`, run: a proven image, itself as candidate in its shadow, and Prometheus.

The image of Prometheus is a stand-in with Debian's program. Grafana is in no Debian release and does not run here, but
every query of its dashboard is put to this Prometheus.
"""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlship.engine.base import Engine
from tests.helpers.command import mlship
from tests.helpers.generated_server import initialised
from tests.helpers.patience import limit
from tests.helpers.prometheus import asked, prometheus_programs, until
from tests.helpers.repos import onnx_bytes
from tests.helpers.required import unavailable
from tests.helpers.smoke_images import built

pytestmark = pytest.mark.docker

_TAG = "mlship-test-stack/sums:1"
_TRAINED = {"deciles": [0.1, 0.2, 0.3, 0.4], "mean": 0.25, "variance": 0.02}
_PROMETHEUS = """\
FROM BASE
COPY prometheus /bin/prometheus
USER 65534:65534
ENTRYPOINT ["/bin/prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/tmp/data"]
"""
_EMPTY = "model_errors"  # nothing failed


@dataclass(frozen=True)
class Stack:
    """The folder of the Compose file, and the addresses of the server and of Prometheus."""

    folder: Path
    server: str
    prometheus: str


def compose(folder: Path, *arguments: str) -> str:
    """Run Compose on the stack."""
    program = shutil.which("docker-compose")
    if program is None:
        unavailable("docker-compose is not installed", "docker")
    environment = {**os.environ, "IMAGE": _TAG, "CANDIDATE": _TAG, "COMPOSE_PROJECT_NAME": "mlship-test-stack"}
    argv = [str(program), *arguments]
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=limit(300)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Stack]:
    """The services of the exported file, with any free ports and without Grafana."""
    folder = tmp_path_factory.mktemp("stack")
    statistics = {"inputs": {"x[0]": _TRAINED}, "outputs": {"y": _TRAINED}, "probabilities": "y"}
    files: dict[str, str | bytes] = {
        "model.onnx": onnx_bytes(),
        "sample.json": '{"x": [[0.1, 0.1, 0.1, 0.1]]}',
        "metadata.json": json.dumps({"statistics": statistics}),
    }
    repo, laptop, program = initialised(folder / "sums", files, "shadow", "workers"), folder / "laptop", folder / "bin"
    for command in (("lock",), ("build", "--tag", _TAG), ("export", str(laptop), "--as", "compose")):
        done = mlship(*command, cwd=repo, seconds=600)
        assert done.code == 0, done.stderr
    program.mkdir()
    shutil.copy(prometheus_programs() / "prometheus", program)
    with built(engine, program, _PROMETHEUS) as image:
        text = (laptop / "compose.yaml").read_text()
        text = text.replace("prom/prometheus:v3.5.0", image)
        text = text.replace("127.0.0.1:8080:", "127.0.0.1::").replace("127.0.0.1:9090:", "127.0.0.1::")
        (laptop / "compose.yaml").write_text(text)
        try:
            compose(laptop, "up", "--detach", "server", "candidate", "prometheus")
            ports = {
                name: compose(laptop, "port", name, port) for name, port in (("server", "8080"), ("prometheus", "9090"))
            }
            yield Stack(laptop, *(f"http://{address}" for address in ports.values()))
        finally:
            print(compose(laptop, "logs", "--no-color"))  # noqa: T201  shown if a test fails
            compose(laptop, "down", "--volumes", "--timeout", "5")
            subprocess.run(["docker", "image", "rm", "--force", _TAG], capture_output=True, check=False, timeout=60)


def answered(url: str, body: bytes | None = None) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=limit(10)) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def state(stack: Stack, path: str) -> dict[str, list[dict[str, object]]]:
    with urllib.request.urlopen(f"{stack.prometheus}/api/v1/{path}", timeout=limit(10)) as answer:
        data: dict[str, list[dict[str, object]]] = json.load(answer)["data"]
    return data


def test_every_query_of_the_dashboard_has_data_and_every_rule_works(stack: Stack) -> None:
    until(lambda: answered(f"{stack.server}/health/ready"), "the server is ready", 60)
    until(lambda: len(state(stack, "targets?state=active")["activeTargets"]) == 2, "Prometheus has its targets")
    until(lambda: all(one["health"] == "up" for one in state(stack, "targets")["activeTargets"]), "they are up", 60)
    for number in range(400):
        row = [0.1, 0.1, 0.1, number % 10 / 100]
        assert answered(f"{stack.server}/predict", json.dumps({"x": [row]}).encode())
        time.sleep(0.02)
    dashboard = json.loads((stack.folder / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    usual = [one for one in queries if _EMPTY not in one]
    assert len(queries) - len(usual) == 1
    until(lambda: all(asked(stack.prometheus, one) for one in usual), "every query has data", 90)
    rules = [rule for group in state(stack, "rules")["groups"] for rule in group["rules"]]  # type: ignore[attr-defined]
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    assert {rule["state"] for rule in rules if rule["type"] == "alerting"} <= {"inactive", "pending"}
    promoted = mlship(
        *("shadow", "promote", "--prometheus", stack.prometheus, "--hours", "1"),
        *("--if", "agreement >= 1 and error_rate <= 0 and rows >= 200 and memory_ratio < 1.5"),
        cwd=stack.folder,
    )
    assert promoted.code == 0, promoted.stdout + promoted.stderr
