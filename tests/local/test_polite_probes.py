"""The requests of the trace and the health check read whole responses, so that the server logs no error."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlship.image.inside.request import HttpRequest
from mlship.image.inside.trace import status
from mlship.image.plan import Health


class Server(ThreadingHTTPServer):
    """Answer in two parts, and keep all errors."""

    daemon_threads = False  # server_close() waits for requests in flight

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.errors: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        self.errors.append(repr(sys.exc_info()[1]))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"x" * 1_000_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        time.sleep(0.2)
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_the_trace_reads_to_the_end(server: Server) -> None:
    assert status(server.server_port, HttpRequest("GET", "/", (), None)) == 200
    server.server_close()
    assert server.errors == []


def test_the_health_check_reads_to_the_end(server: Server) -> None:
    code = Health(f"http://127.0.0.1:{server.server_port}/", 1).code
    subprocess.run((sys.executable, "-ISc", code), check=True, timeout=30)
    server.server_close()
    assert server.errors == []
