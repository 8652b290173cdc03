"""Close connections that only hold on: their number is limited, and probes need them, too."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def within(seconds: float) -> type[H11Protocol]:
    """A protocol for clients that send a request, and read the response, without a pause as long as this."""

    class Protocol(H11Protocol):
        """h11 limits the size of headers, and ignores requests to upgrade to HTTP/2, such as those of Java."""

        _seen: tuple[object, int] | None = None
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            """Start to watch."""
            super().connection_made(transport)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            """Stop to watch."""
            super().connection_lost(exc)
            if self._timer:
                self._timer.cancel()

        def _watch(self) -> None:
            """Close the connection if nothing has moved since the last look, and the server waits for the client."""
            cycle: Any = self.cycle
            seen = (cycle, self.transport.get_write_buffer_size())
            waits = cycle is None or cycle.response_complete or self.flow.write_paused
            if waits and seen == self._seen:
                self.transport.abort()
                return
            self._seen = seen
            self._timer = self.loop.call_later(seconds, self._watch)

    return Protocol
