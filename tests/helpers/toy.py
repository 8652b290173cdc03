"""A minimal model repository: a three-line model, a standard-library server, one small package."""

from pathlib import Path

SERVER = '''\
"""A server that uses only the standard library."""
import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import model

ready = threading.Event()
predict = None


def prepare():
    global predict
    predict = model.load()
    predict({"x": [1.0]})
    ready.set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        up = self.path == "/health/live" or ready.is_set()
        self.answer(200 if up else 503, {})

    def do_POST(self):
        try:
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(200, {"outputs": predict(payload)})
        except (ValueError, KeyError, TypeError) as error:
            self.answer(422, {"error": str(error)})

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close() waits for requests in flight


server = Server(("0.0.0.0", 8080), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
threading.Thread(target=prepare, daemon=True).start()
server.serve_forever()
server.server_close()
'''

MODEL = '''\
"""A model of three lines."""


def load():
    weights = [float(line) for line in open("weights.txt")]
    return lambda payload: [[sum(payload["x"]) * w for w in weights]]
'''

YAML = """\
name: toy
model:
  load: model:load
  sample: sample.json
  golden: golden.json
  output_shape: [1, 2]
serve:
  command: [python, server.py]
source: [model.py, server.py, weights.txt]
smoke: {timeout_seconds: 30}
"""

FILES = {
    "model.py": MODEL,
    "server.py": SERVER,
    "weights.txt": "2.0\n3.0\n",
    "sample.json": '{"x": [1.0, 2.0]}\n',
    "golden.json": "[[6.0, 9.0]]\n",
    "requirements.in": "iniconfig\n",
    "mlship.yaml": YAML,
}


def toy(folder: Path, **changed: str) -> Path:
    """Write the repository; `changed` replaces files, named with `_` for `.`."""
    repo = folder / "toy"
    repo.mkdir()
    for name, text in {**FILES, **{key.replace("_", "."): value for key, value in changed.items()}}.items():
        (repo / name).write_text(text)
    return repo
