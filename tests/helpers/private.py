"""A company's setup: a private CA, and two private indexes, one with its password in the URL, one in netrc."""

import base64
import functools
import http.server
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mlship import process
from mlship.lock.indexes import PipSettings, read_pip_settings
from tests.helpers.wheels import write_index, write_wheel

CANARY = "c4n4ry-s3cret"


class Guarded(http.server.SimpleHTTPRequestHandler):
    """Serve files with a password."""

    password = b""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") == "Basic " + base64.b64encode(self.password).decode():
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="private"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Authority:
    """A private CA, and its server certificate for `host`."""

    bundle: Path
    server: Path
    host: str


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A certificate for the address at which a build's container reaches this machine."""
    shown = process.run(["docker", "network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}"])
    host = shown.stdout.strip()
    folder = tmp_path / "ca"
    folder.mkdir()
    (folder / "ext").write_text(f"subjectAltName=IP:{host}\nauthorityKeyIdentifier=keyid\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=mlship-ca -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=mlship-test -keyout key.pem -out server.csr",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem",
    ):
        done = process.run(["openssl", *command.split()], process.Options(cwd=folder))
        assert done.ok, done.stderr
    (folder / "server.pem").write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    known = read_pip_settings().cert
    (folder / "bundle.pem").write_text((known.read_text() if known else "") + (folder / "ca.pem").read_text())
    return Authority(folder / "bundle.pem", folder / "server.pem", host)


@pytest.fixture
def private(tmp_path: Path, authority: Authority) -> Iterator[PipSettings]:
    """This machine's settings, and two private indexes: one has its password in the URL, the other in netrc."""
    servers = []
    urls = []
    for name, user in (("mlshipone", "alice"), ("mlshiptwo", "bob")):
        root = tmp_path / name
        write_index(root / "simple", [write_wheel(root / "files", name)])
        password = f"{user}:{CANARY}".encode()
        handler = type("Handler", (Guarded,), {"password": password})
        server = http.server.ThreadingHTTPServer((authority.host, 0), functools.partial(handler, directory=str(root)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.server)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        login = f"alice:{CANARY}@" if user == "alice" else ""
        urls.append(f"https://{login}{authority.host}:{server.server_port}/simple")
    (tmp_path / "netrc").write_text(f"machine {authority.host} login bob password {CANARY}\n")
    write_wheel(tmp_path / "local", "mlshipthree")
    mine = read_pip_settings()
    yield replace(
        mine,
        extra_index_urls=(*mine.extra_index_urls, *urls),
        find_links=(*mine.find_links, str(tmp_path / "local")),
        cert=authority.bundle,
        netrc=tmp_path / "netrc",
    )
    for server in servers:
        server.shutdown()
        server.server_close()
