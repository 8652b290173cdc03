"""Start the server: `python -m serving`."""

import asyncio
import os
import signal
import sys
import threading
from types import FrameType

import uvicorn

from serving.logs import log_as_json
from serving.settings import Settings, cap_threads, read_settings

_LAST_SECONDS = 1.0  # for the threads and exit handlers of libraries


def main() -> None:
    """Serve until SIGTERM, then end with exit code 0."""
    settings = read_settings()
    cap_threads()
    log_as_json()
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn repeats the signal at its end, with these handlers
        signal.signal(number, _exit)
    _server(settings).run()


def _exit(*_: object) -> None:
    """End the process, even if threads of the model never end."""
    last = threading.Timer(_LAST_SECONDS, os._exit, (0,))
    last.daemon = True
    last.start()
    sys.exit(0)


def _server(settings: Settings) -> uvicorn.Server:
    from serving.app import create_app
    from serving.connections import within
    from serving.runtime import Runtime

    runtime = Runtime(settings)

    class Server(uvicorn.Server):
        """On SIGTERM it is unready for a moment before it stops listening, then answers what is in flight."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if runtime.state == "draining":  # a second signal
                super().handle_exit(sig, frame)
                return
            runtime.drain()
            asyncio.get_running_loop().call_later(settings.unready_seconds, super().handle_exit, sig, frame)

    config = uvicorn.Config(
        create_app(runtime),
        host=settings.host,
        port=settings.port,
        http=within(settings.body_seconds),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    return Server(config)


if __name__ == "__main__":
    main()
