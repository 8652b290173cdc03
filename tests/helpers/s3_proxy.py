"""A proxy in front of moto's server, which checks what moto does not: each signature, and the hash of each body.

It breaks the requests that a test chooses.
"""

import hashlib
import http.client
import http.server
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.helpers.local_http import served_by
from tests.helpers.s3_server import KEYS

_HOP = {"connection", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class S3Request:
    """A request as S3 sees it.

    Attributes:
        verb: its name in the API of S3, with the number of a part: `UploadPart 2`.
        query: its parameters.
        token: of the session that signed it; empty without one.
        nth: how often this verb was seen before, from 0.
    """

    verb: str
    query: Mapping[str, str]
    nth: int
    size: int
    token: str = ""


@dataclass(frozen=True)
class S3Fault:
    """What happens to a request.

    Attributes:
        status, body: the answer, without asking S3; 0 asks.
        flip: a bit of the body changes on its way.
        lost: S3 does what was asked, and the connection is reset before its answer.
        reset: the connection is reset before S3 sees the request.
        seconds: time before S3 sees the request.
        location: the header of a redirect.
        spaces: what S3 sends before its answer while it works on it.
    """

    status: int = 0
    body: str = ""
    flip: bool = False
    lost: bool = False
    reset: bool = False
    seconds: float = 0.0
    location: str = ""
    spaces: str = ""


@dataclass
class S3Faults:
    """What a proxy has seen, and the fault of each request; it is the test's to set.

    Attributes:
        pause: seconds before the next MiB of a body is read.
    """

    fault: Callable[[S3Request], S3Fault | None] = lambda _request: None
    pause: float = 0.0
    seen: list[S3Request] = field(default_factory=list)

    def verbs(self, start: str = "") -> list[str]:
        return [request.verb for request in self.seen if request.verb.startswith(start)]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ClassVar[tuple[S3Faults, str]]

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(OSError):  # a client may go away
            super().handle()

    def forward(self) -> None:
        faults, upstream = self.state
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        verb, size = self._verb(query), int(self.headers.get("Content-Length") or 0)
        request = S3Request(verb, query, faults.verbs().count(verb), size, self.headers.get("x-amz-security-token", ""))
        faults.seen.append(request)
        fault = faults.fault(request) or S3Fault()
        body = b"".join(self._blocks(size, faults.pause))
        time.sleep(fault.seconds)
        if fault.flip:
            body = bytes([body[0] ^ 1]) + body[1:]
        if fault.reset:
            self._reset()
        elif code := self._refusal(body):
            self._answer(403 if code.startswith("Sig") else 400, f"<Error><Code>{code}</Code></Error>".encode(), {})
        elif fault.status:
            self._answer(fault.status, fault.body.encode(), {"Location": fault.location} if fault.location else {})
        else:
            self._relay(upstream, body, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = forward  # noqa: N815  the names that http.server calls

    def _blocks(self, size: int, pause: float) -> Iterator[bytes]:
        for start in range(0, size, 1 << 20):
            time.sleep(pause)
            yield self.rfile.read(min(1 << 20, size - start))

    def _verb(self, query: Mapping[str, str]) -> str:
        if "uploads" in query:
            return "CreateMultipartUpload" if self.command == "POST" else "ListMultipartUploads"
        if "partNumber" in query:
            return f"UploadPart {query['partNumber']}"
        if "uploadId" in query:
            return {"POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}[self.command]
        return f"{self.command.title()}Object"

    def _refusal(self, body: bytes) -> str:
        """What S3 would refuse; empty if nothing."""
        if hashlib.sha256(body).hexdigest() != self.headers.get("x-amz-content-sha256"):
            return "XAmzContentSHA256Mismatch"
        found = dict(part.split("=", 1) for part in self.headers["Authorization"].split(" ", 1)[1].split(", "))
        names = found["SignedHeaders"].split(";")
        signed = {name: self.headers[name] for name in names if name != "host"}
        request = AWSRequest(self.command, f"http://{self.headers['Host']}{self.path}", headers=signed)
        request.context["timestamp"] = self.headers["x-amz-date"]
        signer = S3SigV4Auth(Credentials(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"]), "s3", "us-east-1")
        text = signer.string_to_sign(request, signer.canonical_request(request))
        right = "host" in names and signer.signature(text, request) == found["Signature"]
        return "" if right else "SignatureDoesNotMatch"

    def _relay(self, upstream: str, body: bytes, fault: S3Fault) -> None:
        connection = http.client.HTTPConnection(upstream, timeout=60)
        kept = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        connection.request(self.command, self.path, body, kept)
        answer = connection.getresponse()
        data = fault.spaces.encode() + answer.read()
        connection.close()
        if fault.lost:
            self._reset()
            return
        size = answer.getheader("Content-Length") if self.command == "HEAD" else None
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
        self._answer(answer.status, data, headers, size)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _answer(self, status: int, data: bytes, headers: dict[str, str], size: str | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", size or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def s3_proxy(server: str) -> Iterator[tuple[str, S3Faults]]:
    """The address of a proxy in front of the server at an address, and its faults."""
    faults = S3Faults()
    with served_by(_Handler, (faults, urlsplit(server).netloc)) as host:
        yield f"http://{host}", faults
