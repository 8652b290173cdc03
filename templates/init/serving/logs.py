"""Logs as JSON, one object a line, on standard error."""

import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class JsonFormatter(logging.Formatter):
    """Time, level, message, what `extra` holds, and the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def log_as_json() -> None:
    """Send all logs through the formatter."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def log_requests(done: Iterable[tuple[str, int, float, str]]) -> None:
    """Write lines for route, status, seconds and request id at once: `logging` would take as long as the rest."""
    start = f'{{"time":"{datetime.now(UTC).isoformat(timespec="milliseconds")}","level":"info","message":"request"'
    lines = [
        f'{start},"request_id":"{request_id}","route":"{route}","status":{status},"ms":{seconds * 1000:.3f}}}\n'
        for route, status, seconds, request_id in done
    ]
    sys.stderr.write("".join(lines))
    sys.stderr.flush()
