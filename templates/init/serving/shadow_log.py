"""The file of what a shadow saw, one JSON object a line: `mlship shadow report` reads it."""

import logging
import os
import secrets
import time
from collections.abc import Mapping
from io import FileIO
from pathlib import Path

import msgspec

_MOST_BYTES = 64 << 20  # then no more lines are written
log = logging.getLogger("serving")


class ShadowLog:
    """Appends lines to SHADOW_FILE. A full disk ends that, and nothing else."""

    def __init__(self, path: str, version: str, url: str) -> None:
        self._about = {"run": secrets.token_hex(4), "url": url.rpartition("@")[2], "primary_version": version}
        self._file: FileIO | None
        try:
            self._file = FileIO(path, "a")
        except OSError as error:
            raise SystemExit(f"error: cannot write SHADOW_FILE: {error}") from None

    def write(self, record: Mapping[str, object]) -> None:
        """Append a line; NaN and infinity become null."""
        if self._file is None:
            return
        line = {"time": time.time(), **self._about, "primary_bytes": _memory(), **record}
        try:
            if self._file.tell() < _MOST_BYTES:
                self._file.write(msgspec.json.encode(line) + b"\n")
            else:
                log.warning("SHADOW_FILE is full")
                self._file = None
        except OSError as error:
            log.error("cannot write SHADOW_FILE: %s", error)
            self._file = None


def _memory() -> int | None:
    """Resident bytes of this process."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        return None
