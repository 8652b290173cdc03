"""Requests of other kinds than JSON against a real container: a page, a form, an upload, audio with a token."""

from collections.abc import Iterator

import pytest

from mlship.engine.base import Engine
from mlship.project.request import SampleRequest
from mlship.smoke.result import SmokeReport
from mlship.smoke.run import Bench, smoke
from mlship.smoke.spec import SmokeSpec
from tests.helpers.smoke_images import built, quiet

pytestmark = pytest.mark.docker

DOCKERFILE = 'FROM BASE\nWORKDIR /app\nCOPY . .\nUSER 1001:1001\nCMD ["python", "server.py"]\n'
# Answers an uploaded image with a PNG of its size, as rembg does; a form with a page; audio with its length in JSON.
SERVER = """\
import email, email.policy, json, os, signal, struct, threading, zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

TOKEN = os.environ["TOKEN"]  # required, as by servers that call another service

def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\\0" + bytes(3 * width) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(200, "text/html", b"<h1>Iris</h1><form method=post>" if self.path == "/" else b"ok")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            self.answer(body)
        except (KeyError, IndexError, ValueError, StopIteration, struct.error):
            self.reply(400, "text/plain", b"bad request")

    def answer(self, body):
        if self.path == "/remove?alpha=1":
            head = b"Content-Type: " + self.headers["Content-Type"].encode() + b"\\r\\n\\r\\n"
            parts = email.message_from_bytes(head + body, policy=email.policy.HTTP).iter_parts()
            image = next(part for part in parts if part.get_filename() == "cat.gif").get_payload(decode=True)
            if not image.startswith(b"GIF8"):
                raise ValueError("not an image")
            self.reply(200, "image/png", png(*struct.unpack("<HH", image[6:10])))
        elif self.path == "/iris":
            length = float(parse_qs(body.decode())["petal"][0])
            self.reply(200, "text/html", b"<p>virginica</p>" if length > 5 else b"<p>setosa</p>")
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.reply(401, "application/json", b"{}")
        else:
            print("heard with", self.headers["Authorization"], flush=True)
            seconds = struct.unpack("<I", body[40:44])[0] / 16000
            self.reply(200, "application/json", json.dumps({"text": "hello", "segments": [{"end": seconds}]}).encode())

    def reply(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = ThreadingHTTPServer(("0.0.0.0", 8080), Handler)
server.daemon_threads = False
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
"""
AUDIO = SampleRequest(
    "POST",
    "/asr",
    "hello.wav",
    headers={"Authorization": "Bearer ${TOKEN}"},
    type="application/json",
    values={"$.text": "hello", "$.segments[0].end": 0.25},
)
REQUESTS = {
    "page": SampleRequest("GET", "/", contains=("<form",), type="text/html"),
    "form": SampleRequest("POST", "/iris", form={"petal": "6.1"}, contains=("virginica",)),
    "upload": SampleRequest("POST", "/remove", query={"alpha": "1"}, files={"file": "cat.gif"}, image=True),
    "audio": AUDIO,
}
VALUES = {"TOKEN": "t0ken-of-the-test"}


@pytest.fixture(scope="module")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("requests")
    (folder / "server.py").write_text(SERVER)
    (folder / "cat.gif").write_bytes(b"GIF89a" + (7).to_bytes(2, "little") + (5).to_bytes(2, "little") + b"\r\n--;")
    (folder / "hello.wav").write_bytes(b"RIFF" + bytes(36) + (4000).to_bytes(4, "little") + bytes(4000))
    with built(engine, folder, DOCKERFILE) as tag:
        yield tag


def proven(engine: Engine, image: str, asked: SampleRequest, lines: list[str] | None = None) -> SmokeReport:
    spec = SmokeSpec(
        load=None,
        weights=(),
        sample=None,
        golden=None,
        rtol=1e-3,
        atol=1e-5,
        output_shape=None,
        port=8080,
        live="/live",
        ready="/ready",
        predict="/predict",
        startup_seconds=20,
        grace_seconds=5,
        load_seconds=20,
        memory=128 << 20,
        request=asked,
        env=("TOKEN",),
    )
    return smoke(Bench(engine, image, spec, quiet, env=VALUES, listen=(lines if lines is not None else []).append))


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_server_of_its_kind_is_proven(engine: Engine, image: str, kind: str) -> None:
    lines: list[str] = []
    report = proven(engine, image, REQUESTS[kind], lines)
    status = {check.id: check.status for check in report.checks}
    assert report.passed, report.failure
    assert {status[check] for check in ("serve.ready", "serve.predict", "serve.sigterm")} == {"pass"}, report.checks
    assert {status["serve.malformed"], status["serve.inflight"]} == ({"skip"} if kind == "page" else {"pass"})
    assert "t0ken" not in f"{report} {lines}"


def test_another_answer_is_not_proven(engine: Engine, image: str) -> None:
    wrong = SampleRequest("POST", "/iris", form={"petal": "1"}, contains=("virginica",))
    failure = proven(engine, image, wrong).failure
    assert failure is not None
    assert (failure.id, failure.seen.splitlines()[0]) == ("serve.predict", "the answer does not contain 'virginica'")
