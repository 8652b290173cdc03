"""A proxy on 127.0.0.1 in front of a real registry, which answers chosen requests wrongly."""

import http.client
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar, Literal

Kind = Literal["none", "status", "slow", "half", "corrupt", "silent"]
_HOP = {"connection", "transfer-encoding", "content-length", "host", "keep-alive"}


@dataclass
class Fault:
    """What happens to the requests whose method and path contain one of `parts`.

    Attributes:
        seconds: how long a slow answer takes; a silent one never comes.
        sent: bytes of all bodies that were answered.
    """

    kind: Kind = "none"
    status: int = 0
    parts: tuple[str, ...] = ("",)
    seconds: float = 1.0
    hits: int = 0
    sent: int = 0

    def fits(self, request: str) -> bool:
        return self.kind != "none" and any(part in request for part in self.parts)


class _Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = default_request_version = "HTTP/1.1"  # so that a TLS client sees that this is no TLS
    fault: ClassVar[Fault]
    upstream: ClassVar[str]

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(OSError):  # a client may go away
            super().handle()

    def forward(self) -> None:
        body = self._body()
        fits = self.fault.fits(f"{self.command} {self.path}")
        self.fault.hits += fits
        if fits and self.fault.kind == "status":
            self._answer(self.fault.status, b'{"errors":[{"code":"FAULT","message":"made for a test"}]}', {})
        elif fits and self.fault.kind == "silent":
            time.sleep(self.fault.seconds)
            self.close_connection = True
        else:
            if fits and self.fault.kind == "slow":
                time.sleep(self.fault.seconds)
            self._relay(body, fits)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815  the names that http.server calls

    def _relay(self, body: bytes, fits: bool) -> None:
        upstream = http.client.HTTPConnection(self.upstream, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():  # Accept may be there more than once
            if name.lower() not in _HOP - {"host"}:
                upstream.putheader(name, value)
        upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(body)
        found = upstream.getresponse()
        data = found.read()
        kept = {name: value for name, value in found.getheaders() if name.lower() not in _HOP}
        size = found.getheader("Content-Length") if self.command == "HEAD" else None
        if fits and data and self.fault.kind == "corrupt":
            data = data[:-1] + bytes([data[-1] ^ 1])
        cut = fits and self.fault.kind == "half"
        self._answer(found.status, data, kept, size, len(data) // 2 if cut else None)
        upstream.close()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(
        self, status: int, data: bytes, headers: dict[str, str], size: str | None = None, cut: int | None = None
    ) -> None:
        with suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", size or str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.fault.sent += len(data[:cut])
                self.wfile.write(data[:cut])
            self.close_connection = self.close_connection or cut is not None


@contextmanager
def faulty_registry(upstream: str) -> Iterator[tuple[str, Fault]]:
    """A registry that forwards to `upstream` (host:port); gives its address, and the fault that a test may change."""
    fault = Fault()
    handler = type("Handler", (_Proxy,), {"fault": fault, "upstream": upstream})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}", fault
        finally:
            server.shutdown()
