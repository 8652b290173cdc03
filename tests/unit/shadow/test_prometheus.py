"""Prometheus over HTTP: whatever answers, the result is samples or an error that says what to do."""

import json
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs

import pytest

from mlship.errors import MlshipError, TransientError, UsageError
from mlship.shadow import prometheus
from mlship.shadow.prometheus import Series, scraped
from tests.helpers.local_http import served_by


@dataclass
class State:
    """What a server answers after its time, and what it was asked: path, form and login."""

    body: bytes
    status: int = 200
    drip: bool = False
    time: bytes = b'{"status":"success","data":{"resultType":"scalar","result":[1000.5,"1000.5"]}}'
    asked: list[tuple[str, dict[str, list[str]], str | None]] = field(default_factory=list)


class Server(BaseHTTPRequestHandler):
    """Answers as its state says."""

    protocol_version = "HTTP/1.1"
    state: State

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        first = not self.state.asked
        self.state.asked.append((self.path, form, self.headers["Authorization"]))
        body = self.state.time if first else self.state.body
        self.send_response(200 if first else self.state.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for part in [bytes([one]) for one in body] if self.state.drip else [body]:
            self.wfile.write(part)
            time.sleep(0.05 if self.state.drip else 0)

    def log_message(self, *_: object) -> None:
        pass


ROW = {"metric": {"job": "a"}, "values": [[1000, "3"], [990.5, "2"]]}


def matrix(*rows: object) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": rows}}).encode()


def test_samples_are_read_in_order_and_the_address_is_kept() -> None:
    state = State(matrix(ROW))
    with served_by(Server, state) as host:
        found = scraped(f"http://user:pa%20ss@{host}/prom/", ["up"], 'job="a"', 0.01)
    assert (found.start, found.metrics) == (964.5, {"up": [Series({"job": "a"}, [(990.5, 2.0), (1000.0, 3.0)])]})
    (path, _, login), (_, asked, _) = state.asked
    assert (path, login) == ("/prom/api/v1/query", "Basic dXNlcjpwYSBzcw==")
    assert asked == {"query": ['up{job="a"}[336s]'], "time": ["1000.500"]}


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (200, b"<html>Grafana</html>", UsageError, "does not answer like Prometheus: Invalid JSON"),
        (200, b"", UsageError, "does not answer like Prometheus"),
        (200, b"[" * 100_000, UsageError, "does not answer like Prometheus"),
        (200, b'{"status":"error","error":"x"}', UsageError, "does not answer like Prometheus"),
        (200, b'{"status":"success","data":{"resultType":"vector","result":[]}}', UsageError, "like Prometheus: data"),
        (200, matrix({**ROW, "values": [[1, "NaN"]]}), UsageError, "finite number"),
        (200, matrix({**ROW, "values": [[1, "x\x1b"]]}), UsageError, "valid number"),
        (200, matrix({**ROW, "values": [["x", "1"]]}), UsageError, "does not answer like Prometheus"),
        (200, b'{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}', UsageError, "is no matrix"),
        (400, b'{"status":"error","error":"parse error"}', UsageError, "status 400: parse error"),
        (404, b"nothing", UsageError, "answers with status 404"),
        (401, b"{}", UsageError, "answers with status 401"),
        (503, b'{"error":"starting"}', TransientError, "answers with status 503: starting"),
        (422, b'{"error":"too many samples"}', UsageError, "too many samples"),
        (200, b" " * 3_000_000, UsageError, "more than 2 MiB"),
    ],
)
def test_other_answers_are_errors(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, kind: type[MlshipError], message: str
) -> None:
    monkeypatch.setattr(prometheus, "_MOST_BYTES", 2 << 20)
    with served_by(Server, State(body, status)) as host, pytest.raises(kind) as caught:
        scraped(f"http://{host}", ["up"], "", 1)
    assert message in caught.value.message
    assert caught.value.hint


def test_a_slow_answer_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "_SECONDS", 0.5)
    began = time.monotonic()
    with (
        served_by(Server, State(matrix(ROW), drip=True)) as host,
        pytest.raises(TransientError, match="did not answer within"),
    ):
        scraped(f"http://{host}", ["up"], "", 1)
    assert time.monotonic() - began < 10


def test_a_time_that_is_none_is_no_prometheus() -> None:
    with served_by(Server, State(b"", time=matrix())) as host, pytest.raises(UsageError, match="its time is no number"):
        scraped(f"http://{host}", ["up"], "", 1)


@pytest.mark.parametrize("url", ["prometheus:9090", "file:///etc/passwd", "http://", "http://[", "http://a:b", ""])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is no address of a Prometheus server"):
        scraped(url, ["up"], "", 1)


def test_no_server_is_an_error_without_the_password() -> None:
    with pytest.raises(TransientError, match=r"cannot ask http://\*\*\*@127.0.0.1:9") as caught:
        scraped("http://user:secret@127.0.0.1:9", ["up"], "", 1)
    assert "secret" not in caught.value.message
