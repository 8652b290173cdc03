"""The client of the smoke test against servers of other kinds than JSON, and hostile ones."""

import base64
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlship.image.inside import request as requests
from mlship.image.inside.request import HttpRequest
from mlship.project.request import SampleRequest
from mlship.smoke.events import ServerResponse, Stop
from mlship.smoke.inside import client
from mlship.smoke.inside.client import Server
from mlship.smoke.seen import all_of
from tests.helpers.smoke_client import client as started_client
from tests.helpers.smoke_client import listen
from tests.helpers.smoke_events import SPEC

GIF = base64.b64decode("R0lGODdhAQABAIAAAAAAAAAAACwAAAAAAQABAAACAkQBADs=")


class Pages(BaseHTTPRequestHandler):
    """A tutorial: an HTML form; an upload that answers with the image; a token for what it answers in JSON."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.reply(200, "text/html; charset=utf-8", b"<form>hello</form>")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.headers["Content-Type"]
        if self.headers["Authorization"]:
            right = self.headers["Authorization"] == "Bearer s3cret"
            self.reply(200 if right else 401, "application/json", json.dumps({"text": kind, "n": len(body)}).encode())
        elif kind.startswith("multipart/form-data") and b"GIF8" in body:
            self.reply(200, "image/gif", body[body.index(b"GIF8") :].partition(b"\r\n--")[0])
        elif kind == "application/x-www-form-urlencoded" and body == b"name=a+b%26c":
            self.reply(302, "text/html", b"")
        else:
            self.reply(500, "text/html", b"error")

    def reply(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("0.0.0.0", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(folder: Path, asked: SampleRequest) -> dict[str, ServerResponse]:
    with running(Pages) as port, started_client(folder, port, spec=replace(SPEC, request=asked)) as process:
        events = listen(process, lambda event: isinstance(event, Stop))
        process.send_signal(signal.SIGUSR1)
        events += listen(process, lambda _event: False)
        assert process.wait(10) == 0
    return {event.what: event for event in all_of(ServerResponse, events)}


def test_a_page_is_asked_for_by_get(tmp_path: Path) -> None:
    found = ask(tmp_path, SampleRequest("GET", "/", contains=("<form>", "absent")))
    assert list(found) == ["first", "after"]
    assert (found["first"].type, found["first"].lacks, found["first"].size) == ("text/html", ("absent",), 18)
    assert found["first"].text == "<form>hello</form>"


def test_an_upload_is_answered_by_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(GIF)
    found = ask(tmp_path, SampleRequest("POST", "/", files={"image": "a.gif"}, form={"size": "3"}))
    image = found["first"].image
    assert image is not None
    assert (image.format, image.width, image.height, image.problem) == ("GIF", 1, 1, "")
    assert {what: one.status for what, one in found.items()} == {
        "first": 200,
        "garbage": 500,
        "nothing": 500,
        "after": 200,
        "inflight": 200,
    }


def test_a_form_may_be_answered_by_a_redirection(tmp_path: Path) -> None:
    found = ask(tmp_path, SampleRequest("POST", "/", form={"name": "a b&c"}, status=302))
    assert [found[what].status for what in ("first", "after", "inflight")] == [302, 302, 302]


def test_audio_is_sent_with_a_token_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    found = ask(tmp_path, SampleRequest("POST", "/", "a.wav", headers={"Authorization": "Bearer ${TOKEN}"}))
    assert found["first"].output == ({"text": "audio/wav", "n": 4},)


def test_a_file_that_the_image_lacks_is_said(tmp_path: Path) -> None:
    with running(Pages) as port, started_client(tmp_path, port, spec=replace(SPEC, request=None)) as process:
        events = listen(process, lambda _event: False)
    (first,) = all_of(ServerResponse, events)
    assert (first.status, "No such file or directory: 'sample.json'" in first.text) == (0, True)


# Hostile answers


@contextmanager
def hostile(act: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does this with each connection, once it has read the request: unread bytes would reset it."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                read = part = connection.recv(1000)
                while part and not read.endswith(b"\r\n\r\n{}"):
                    part = connection.recv(1000)
                    read += part
                with suppress(OSError):
                    act(connection)

    with socket.create_server(("0.0.0.0", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def drip(head: bytes, part: bytes) -> Callable[[socket.socket], None]:
    def act(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(part)
            over.wait(0.02)

    over = threading.Event()
    return act


def flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(bytes(1 << 16))


def close_early(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}")


@pytest.mark.parametrize(
    ("act", "problem"),
    [
        (drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "), "no complete answer within 0.5 s"),
        (drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), "no complete answer within"),
        (drip(b"HTTP/1.1 200 OK\r\nX-A: ", b"x"), "no complete answer within 0.5 s"),
        (drip(b"", b"H"), ""),
        (lambda connection: connection.sendall(b"\x00\xff nonsense\r\n\r\n"), "BadStatusLine"),
        (lambda connection: connection.sendall(b"HTTP/1.1 -1 X\r\n\r\n"), "BadStatusLine"),
        (lambda _connection: None, "RemoteDisconnected"),
        (close_early, "missing"),
        (flood, "the answer has more than 1 MiB"),
    ],
)
def test_an_endless_or_broken_answer_is_bounded_in_bytes_and_time(
    act: Callable[[socket.socket], None], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BODY_LIMIT", 1 << 20)
    with hostile(act) as port:
        reply = Server(port, 0.5, requests).send(HttpRequest("POST", "/", (), b"{}"))
    assert reply.status == 0
    assert problem in reply.problem or "IncompleteRead" in reply.problem
    assert reply.problem
    assert reply.seconds < 5
