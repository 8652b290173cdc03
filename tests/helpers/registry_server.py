"""A stand-in registry in memory: the parts of the distribution specification that mlship uses, with faults on request.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

import base64
import http.server
import json
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from mlship.registry.client import OCI_INDEX, digest_of
from tests.helpers.local_http import served_by

_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|referrers|tags)/(?P<version>[^/]*)(?P<rest>/.*)?")


@dataclass
class RegistryState:
    """What a stand-in stores, and how it behaves.

    Attributes:
        lists_referrers: it has the referrers API.
        token: what a client must present; the token server is the registry itself.
        fails: HTTP status for every request, by a part of its path.
    """

    lists_referrers: bool = True
    token: str = ""
    fails: dict[str, int] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)

    def put(self, media_type: str, data: bytes, tag: str = "") -> str:
        """Store a manifest; returns its digest."""
        digest = digest_of(data)
        self.manifests[digest] = (media_type, data)
        self.tags[tag or digest] = digest
        return digest


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ClassVar[RegistryState]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/token":
            self.state.authorizations.append(self.headers.get("Authorization", ""))
            self._answer(200, json.dumps({"token": self.state.token, "query": parse_qs(url.query)}).encode())
        elif self._allowed() and (match := _PATH.fullmatch(url.path)):
            self._read(match["kind"], match["version"])

    do_HEAD = do_GET  # noqa: N815  the name that http.server calls

    def do_POST(self) -> None:
        data = self._body()
        if self._allowed():
            self._answer(202, b"", Location=f"{self.path}1?state=x")
        del data

    def do_PUT(self) -> None:
        data = self._body()
        match = _PATH.fullmatch(urlsplit(self.path).path)
        if not self._allowed() or match is None:
            return
        if match["kind"] == "blobs":
            digest = parse_qs(urlsplit(self.path).query)["digest"][0]
            self.state.blobs[digest] = data
            self._answer(201 if digest_of(data) == digest else 400, b"")
            return
        self.state.put(self.headers["Content-Type"], data, match["version"])
        subject = json.loads(data).get("subject")
        answer = {"OCI-Subject": subject["digest"]} if subject and self.state.lists_referrers else {}
        self._answer(201, b"", **answer)

    def _read(self, kind: str, version: str) -> None:
        if kind == "blobs":
            data = self.state.blobs.get(version)
            self._answer(404 if data is None else 200, data or b"", **{"Content-Type": "application/octet-stream"})
        elif kind == "manifests":
            media_type, data = self.state.manifests.get(self.state.tags.get(version, version), ("", b""))
            self._answer(200 if data else 404, data, **{"Content-Type": media_type})
        elif kind == "tags":
            names = [tag for tag in self.state.tags if ":" not in tag]
            self._answer(200 if names else 404, json.dumps({"tags": names}).encode())
        elif self.state.lists_referrers:
            listed = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self._referrers(version)}
            self._answer(200, json.dumps(listed).encode(), **{"Content-Type": OCI_INDEX})
        else:
            self._answer(404, b"404 page not found", **{"Content-Type": "text/plain"})

    def _referrers(self, digest: str) -> list[dict[str, object]]:
        rows = []
        for name, (media_type, data) in self.state.manifests.items():
            found = json.loads(data)
            if (found.get("subject") or {}).get("digest") == digest:
                rows.append(
                    {"mediaType": media_type, "digest": name, "size": len(data), "artifactType": found["artifactType"]}
                )
        return rows

    def _allowed(self) -> bool:
        self.state.asked.append(f"{self.command} {self.path}")
        for part, status in self.state.fails.items():
            if part in self.path:
                # What servers in Go answer to plain HTTP where they expect TLS.
                self._answer(status, b"Client sent an HTTP request to an HTTPS server." if status == 400 else b"")
                return False
        if self.state.token and self.headers.get("Authorization") != f"Bearer {self.state.token}":
            address = f"http://{self.headers['Host']}/token"
            challenge = f'Bearer realm="{address}",service="stand-in",scope="repository:toy:pull,push"'
            self._answer(401, b"", **{"WWW-Authenticate": challenge})
            return False
        return True

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def registry_server(state: RegistryState, certificate: Path | None = None) -> AbstractContextManager[str]:
    """Serve a stand-in on 127.0.0.1, with TLS if there is a certificate; gives its host and port."""
    return served_by(_Handler, state, certificate)


def basic(user: str, password: str) -> str:
    """The header of basic authentication."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
