"""Stand-ins that answer HTTP on 127.0.0.1, and programs on PATH that ask them."""

import http.server
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served_by(
    handler: type[http.server.BaseHTTPRequestHandler], state: object, certificate: Path | None = None
) -> Iterator[str]:
    """Serve with handlers that share `state`, with TLS if there is a certificate; gives host and port."""
    own = type("Handler", (handler,), {"state": state})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), own) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def fake_program(folder: Path, name: str, text: str, server: str) -> Path:
    """Write a program that asks a stand-in; returns its folder, for PATH."""
    place = folder / "fake-bin"
    place.mkdir()
    program = place / name
    program.write_text(text.format(python=sys.executable, server=server))
    program.chmod(0o755)
    return place
