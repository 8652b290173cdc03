"""A package index in which single pages and files fail as real ones do."""

import functools
import http.server
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from mlship import process
from tests.helpers.wheels import write_index, write_wheel

Fault: TypeAlias = Literal[
    "400", "401", "403", "404", "407", "429", "500", "502", "503", "reset", "hang", "cut", "text", "loop"
]
_HANG_SECONDS = 20  # longer than the tests' timeout of pip
_SPLIT = b"\r\n\r\n"


@dataclass
class FailingIndex:
    """An index with the pages of `root`/simple.

    Attributes:
        faults: by the beginning of a path, such as `/simple/alpha/` or `/files/alpha`.
    """

    root: Path
    address: str = ""
    faults: dict[str, Fault] = field(default_factory=dict)

    @property
    def simple(self) -> str:
        return f"{self.address}/simple"

    def sell(self, name: str, version: str = "1.0", requires: tuple[str, ...] = (), extra: str = "") -> Path:
        """Add a wheel; `extra` are attributes of its link."""
        wheel = write_wheel(self.root / "files", name, version, requires)
        write_index(self.root / "simple", [wheel])
        if extra:
            page = self.root / "simple" / name / "index.html"
            page.write_text(page.read_text().replace(f'">{wheel.name}', f'" {extra}>{wheel.name}'))
        return wheel

    def sell_file(self, name: str, file: Path) -> None:
        """Add a file as it is, without a hash."""
        page = self.root / "simple" / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        with page.open("a", encoding="utf-8") as text:
            text.write(f'<a href="../../files/{file.name}">{file.name}</a>\n')


@contextmanager
def failing_index(root: Path, certificate: Path | None = None) -> Iterator[FailingIndex]:
    """Serve such an index from the folder, with TLS if there is a certificate."""
    (root / "simple").mkdir(parents=True)
    index = FailingIndex(root)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            found = [fault for path, fault in index.faults.items() if self.path.startswith(path)]
            if found:
                _fail(self, found[0])
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the client went away
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        index.address = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield index
        finally:
            server.shutdown()


def _fail(handler: http.server.SimpleHTTPRequestHandler, fault: Fault) -> None:
    match fault:
        case "hang":
            time.sleep(_HANG_SECONDS)
        case "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
        case "cut":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000" + _SPLIT + b"<a")
        case "text":
            handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain" + _SPLIT + b"Welcome to the hotel")
        case "loop":
            handler.wfile.write(f"HTTP/1.0 302 Found\r\nLocation: {handler.path}\r\n\r\n".encode())
        case _:
            handler.wfile.write(f"HTTP/1.0 {fault} Fault\r\nContent-Length: 0\r\n\r\n".encode())


def self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that no one trusts, with its key."""
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -addext subjectAltName=IP:127.0.0.1"
    done = process.run(["openssl", *command.split(), "-keyout", "key.pem", "-out", "cert.pem"], process.Options(folder))
    assert done.ok, done.stderr
    (folder / "both.pem").write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return folder / "both.pem"


def closed_port() -> int:
    """A port of this machine at which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
