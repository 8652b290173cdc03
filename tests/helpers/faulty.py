"""A small image whose variable FAULT selects a fault of its model or server."""

MODEL = '''\
"""A model of two numbers; FAULT selects its fault."""

import json
import os
import sys
import time
from pathlib import Path

FAULT = os.environ.get("FAULT", "")

if FAULT == "import-missing":
    import sklearn
if FAULT == "import-exits":
    sys.exit("no licence")


def load():
    weights = json.loads(Path("weights.json").read_text())
    if FAULT == "load-raises":
        raise RuntimeError("the weights are truncated")
    if FAULT == "load-hangs":
        time.sleep(1000)
    if FAULT == "load-hogs":
        weights = [bytearray(b"x" * (16 << 20)) for _ in range(1000)]
    if FAULT == "load-asks-for-user":
        import getpass
        getpass.getuser()
    if FAULT == "load-looks-up-user":
        import pwd
        pwd.getpwuid(os.getuid())
    if FAULT == "load-shares":
        from multiprocessing.shared_memory import SharedMemory
        shared = SharedMemory(create=True, size=100 << 20)
        shared.buf[:] = bytes(100 << 20)
        shared.close()
        shared.unlink()
    if FAULT == "load-writes":
        Path("cache.bin").write_text("x")
    if FAULT == "load-fetches":
        import urllib.request

        urllib.request.urlopen("https://huggingface.co/model.bin")
    if FAULT == "load-crashes":
        os.abort()
    if FAULT == "prints":
        print('{"event": "stage", "stage": "load"}\\n\\x1b[31mgarbage', "x" * 100_000)
        os.write(1, b'{"event": "output", "value": [NaN], "golden": []}\\n')
    return Predictor(weights)


class Predictor:
    def __init__(self, weights):
        self.weights = weights

    def predict(self, payload):
        if FAULT == "predict-raises":
            raise KeyError("pixels")
        if FAULT == "output-unknown":
            return {"scores": object()}
        scores = [sum(payload["x"]) * weight for weight in self.weights]
        if FAULT == "nan":
            scores[1] = float("nan")
        return {"label": [scores.index(max(scores))], "scores": [scores]}
'''

SERVER = '''\
"""A standard-library server; FAULT selects its fault."""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import model

FAULT = os.environ.get("FAULT", "")
SLOW = 1.5
ready = threading.Event()
predictor = None
cold = FAULT == "server-cold"


def prepare():
    global predictor
    if FAULT != "server-never-ready":
        predictor = model.load()
        time.sleep(0.3)
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
        if self.path not in ("/health/live", "/health/ready", "/healthz"):
            self.answer(404, {})
        elif self.path == "/health/live" or ready.is_set():
            self.answer(200, {})
        else:
            self.answer(503, {})

    def do_POST(self):
        global cold
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if cold:
            cold = False
            time.sleep(SLOW)
        try:
            self.answer(200, predictor.predict(json.loads(body)))
        except (ValueError, KeyError, TypeError) as error:
            self.answer(500 if FAULT == "server-500" else 200 if FAULT == "server-200" else 422, {"error": str(error)})


class Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close() waits for requests in flight


def stop(*_):
    if FAULT == "server-drops":
        os._exit(0)
    threading.Thread(target=server.shutdown).start()


if FAULT == "server-dies":
    raise SystemExit("configuration is missing")
if FAULT == "server-blocks":
    time.sleep(6)
    prepare()
server = Server(("127.0.0.1" if FAULT == "server-local" else "0.0.0.0", 8080), Handler)
signal.signal(signal.SIGTERM, signal.SIG_IGN if FAULT == "server-ignores" else stop)
if FAULT != "server-blocks":
    threading.Thread(target=prepare, daemon=True).start()
server.serve_forever()
server.server_close()
sys.exit(3 if FAULT == "server-code" else 0)
'''

DOCKERFILE = """\
# One image; FAULT, given when it runs, chooses what is wrong with it.
FROM BASE
WORKDIR /app
COPY *.py *.json ./
USER 1001:1001
CMD ["python", "server.py"]
"""

FILES = {
    "model.py": MODEL,
    "server.py": SERVER,
    "weights.json": "[1.0, 2.0]\n",
    "sample.json": '{"x": [1.0, 2.0]}\n',
    "golden.json": '{"label": [1], "scores": [[3.0, 6.0]]}\n',
    "other.json": '{"label": [1], "scores": [[3.0, 6.1]]}\n',
}
