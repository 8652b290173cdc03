"""HTTP connections: heads are limited, requests to upgrade are ignored, and clients that only hold on are cut off."""

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD_BYTES = 1 << 16
_CHUNK_BYTES = 16  # around a part of a body
_UPGRADE = (b"connection", b"upgrade", b"http2-settings")


class Connection(HttpToolsProtocol):
    """The parser in C, and what it lacks."""

    pause: float  # in seconds, without a byte, that a client may make before it has the response
    _seen: tuple[object, int] | None = None
    _timer: asyncio.TimerHandle | None = None
    _head = 0  # bytes since the last request that were not of its body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to watch."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to watch."""
        super().connection_lost(exc)
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived."""
        self._unset_keepalive_if_required()
        self._head += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.parser.get_method() != b"CONNECT":
                self.data_received(self._without_upgrade() + data[upgrade.args[0] :])
                return
            self._head = _HEAD_BYTES + 1
        except httptools.HttpParserError:
            self._head = _HEAD_BYTES + 1
        if self._head > _HEAD_BYTES:
            self.send_400_response("Invalid HTTP request received.")

    def _should_upgrade(self) -> bool:
        return True  # so that uvicorn waits for the same request without it

    def _without_upgrade(self) -> bytes:
        """The head of this request for a new parser, without what asks for another protocol."""
        lines = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)]
        lines += [b"%s: %s" % pair for pair in self.headers if pair[0] not in _UPGRADE]
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join((*lines, b"", b""))

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        self._head -= len(body) + _CHUNK_BYTES
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._head = 0
        super().on_message_complete()

    def _watch(self) -> None:
        """Close the connection if nothing has moved since the last look, and the server waits for the client."""
        cycle = self.cycle
        seen = (cycle, self.transport.get_write_buffer_size())
        idle = cycle is None or cycle.response_complete or (cycle.more_body and not cycle.body)
        if (idle or self.flow.write_paused) and seen == self._seen:
            self.transport.abort()
            return
        self._seen = seen
        self._timer = self.loop.call_later(self.pause, self._watch)
