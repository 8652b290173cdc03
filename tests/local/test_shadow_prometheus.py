"""`mlship shadow` with a real Prometheus, a server and its candidate."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mlship.cli.app import app
from mlship.shadow.figures import shadow_figures
from mlship.shadow.records import read_records
from tests.helpers.generated_server import Running, initialised, served
from tests.helpers.prometheus import asked, prometheus_of, until
from tests.helpers.repos import onnx_bytes

_OUTPUT = {"deciles": [1, 2, 3, 4], "mean": 2.5, "variance": 1}
_FILES: dict[str, str | bytes] = {
    "model.onnx": onnx_bytes(),
    "metadata.json": json.dumps({"statistics": {"outputs": {"y": _OUTPUT}}}),
}


def shadow(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["shadow", *arguments])


@contextmanager
def pair(folder: Path) -> Iterator[tuple[Running, str, Path]]:
    """A server with its candidate, the address of a Prometheus that scrapes both, and the server's records."""
    repo, records = initialised(folder / "repo", _FILES, "shadow"), folder / "shadow.jsonl"
    with served(repo, MODEL_VERSION="2") as candidate:
        settings = {"SHADOW_URL": f"http://127.0.0.1:{candidate.port}", "SHADOW_FILE": str(records)}
        with served(repo, MODEL_VERSION="1", **settings) as server:
            for each in (candidate, server):
                each.wait("/health/ready", 200)
            jobs = {"server": server.port, "candidate": candidate.port}
            with prometheus_of(folder / "prometheus", jobs) as url:
                until(lambda: len(asked(url, "serving_ready == 1")) == 2, "both are scraped")
                yield server, url, records


def request(server: Running, count: int) -> None:
    """Requests at a pace that the shadow can follow."""
    for _ in range(count):
        row = [random.random() * 2 for _ in range(4)]
        assert server.ask("/predict", json.dumps({"x": [row]}).encode())[0] == 200
        time.sleep(0.006)


@pytest.mark.slow
def test_prometheus_says_what_the_records_say(tmp_path: Path) -> None:
    with pair(tmp_path) as (server, url, records):
        ask = ("--prometheus", url, "--hours", "1")
        nothing = shadow("promote", *ask, "--if", "agreement >= 0 or agreement < 0")
        assert (nothing.exit_code, "no copies" in nothing.stdout) == (1, True)
        request(server, 1100)
        until(lambda: records.exists() and len(records.read_bytes().splitlines()) >= 1000, "the copies are compared")
        time.sleep(1)  # the last are scraped
        mine = json.loads(shadow("report", *ask, "--json").stdout)["figures"]
        theirs = shadow_figures(read_records(records.read_bytes().splitlines()))
        good = shadow("promote", *ask, "--if", "agreement >= 0.995 and psi < 0.1 and p50_ratio <= 10 and rows >= 1000")
        narrow = shadow("promote", *ask, "--match", 'job="candidate"', "--if", "agreement >= 0.9")
        broken = shadow("report", *ask, "--match", 'job="candidate')
        short = shadow("promote", *ask, "--if", "agreement >= 0.995 and hours >= 24")
    for name in ("agreement", "error_rate", "dropped_rate", "rows"):
        assert mine[name]["value"] == pytest.approx(theirs[name].value), name
    assert mine["psi"] == {
        "value": pytest.approx(0, abs=0.02),
        "basis": "largest of 1 output, of y, against 2 of job candidate",
    }
    assert mine["hours"]["value"] == pytest.approx(theirs["hours"].value, abs=2 / 3600)
    assert mine["memory_ratio"]["value"] == pytest.approx(1, rel=0.3)
    assert mine["p50_ratio"]["value"] is not None
    assert (good.exit_code, good.stdout.splitlines()[0]) == (0, "PROMOTE: the condition holds"), good.stdout
    assert (short.exit_code, "✗ hours >= 24" in short.stdout) == (1, True)
    assert (narrow.exit_code, "no copies" in narrow.stdout) == (1, True)
    assert (broken.exit_code, "answers with status 400: " in broken.stderr) == (2, True), broken.stderr
