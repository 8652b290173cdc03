"""The whole smoke test in one container, for Kubernetes: a text that runs inside the tested image through `python -c`.

Runs the model's part, then the client's part beside the server, and prints JSON lines, each with the `part` it is
about: what the part printed (`out`, `err`) or how it ended. `mlship.smoke.pod_log` reads them. What the tested code
prints goes through pipes, so it cannot forge them. Standard library only, valid for Python 3.8.

The exit code is 0 if the model answered, on the GPU if there is one, and the server answered and stopped. It is for
init containers; only `mlship smoke` judges every check.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_SECONDS = 0.02
OVERHEAD_SECONDS = 15.0
HELLO_SECONDS = 60.0
EXIT_SLACK_SECONDS = 0.5
LINES, LAST_LINES, LINE_LIMIT = 1000, 40, 4000
NOT_STARTED = 127
OOM_KILLS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
INITS = ("tini", "tini-static", "dumb-init", "catatonit", "docker-init")
GPU = re.compile(r"(?i)cuda|gpu|tensorrt")


class Log:
    """JSON lines on stdout, without the values of credentials."""

    def __init__(self, hidden: dict[str, int]) -> None:
        """`hidden` maps names of variables to the length from which their values are hidden."""
        values = {
            os.environ.get(name, "") for name, length in hidden.items() if len(os.environ.get(name, "")) >= length
        }
        written = {form for value in values for form in (value, quote(value, ""), quote_plus(value))}
        self._hidden = sorted(filter(None, written), key=len, reverse=True)
        self._lock = threading.Lock()

    def send(self, part: str, **fields: object) -> None:
        for name in ("out", "err"):
            if name in fields:
                fields[name] = self._hide(str(fields[name]))
        with self._lock:
            print(json.dumps({"part": part, **fields}), flush=True)  # noqa: T201

    def _hide(self, text: str) -> str:
        for value in self._hidden:
            text = text.replace(value, "***")
        return text


class PodPart:
    """A running program, whose output goes to the log.

    Attributes:
        events: by name, the last one of each that it printed.
    """

    def __init__(self, log: Log, name: str, command: list[str]) -> None:
        self.events: dict[str, dict[str, object]] = {}
        self._log, self._name, self._kills = log, name, oom_kills()
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self._process.stdout, "out"), (self._process.stderr, "err"))
        ]
        for reader in self._readers:
            reader.start()

    def code(self, seconds: float = 0.0) -> int | None:
        """The exit code as engines report it; None if it still runs after `seconds`."""
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(seconds)
            return code if code >= 0 else 128 - code
        return None

    def signal(self, number: int) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def end(self) -> bool:
        """Kill it with its children, and wait for its output; returns whether the kernel killed one for memory."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for reader in self._readers:
            reader.join(OVERHEAD_SECONDS)
        return oom_kills() > self._kills

    def _read(self, stream: IO[bytes], kind: str) -> None:
        rest: deque[str] = deque(maxlen=LAST_LINES)
        sent = 0
        for line in stream:
            text = line.decode("utf-8", "replace").rstrip("\n")
            event = event_of(text) if kind == "out" and self._name != "server" else None
            if event:
                self.events[str(event["event"])] = event
            elif sent >= LINES:
                rest.append(text[:LINE_LIMIT])
                continue
            self._log.send(self._name, **{kind: text if event else text[:LINE_LIMIT]})
            sent += 1
        for text in rest:
            self._log.send(self._name, **{kind: text})


def event_of(line: str) -> dict[str, object] | None:
    with suppress(ValueError):
        found = json.loads(line)
        return found if isinstance(found, dict) and "event" in found else None
    return None


def oom_kills() -> int:
    """Processes of this container that the kernel has killed for memory."""
    for path in OOM_KILLS:
        with suppress(OSError):
            lines = Path(path).read_text(encoding="ascii").splitlines()
            return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return 0


def first_process(log: Log, command: list[str]) -> PodPart:
    """Start the server so that SIGTERM does what it does to the first process of a container.

    There the kernel drops a signal that has no handler, also one that a server sends itself at its end, as uvicorn
    does; an ignored signal, which a program inherits, is dropped likewise. An init program takes every signal.
    """
    if Path(command[0]).name in INITS:
        os.environ["TINI_SUBREAPER"] = ""
        return PodPart(log, "server", command)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        return PodPart(log, "server", command)
    finally:
        signal.signal(signal.SIGTERM, before)


def until(met: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not met() and time.monotonic() < end:
        time.sleep(POLL_SECONDS)


def try_model(log: Log, command: list[str], seconds: float, gpu: bool) -> tuple[bool, bool]:
    """Run the model's part; returns whether the model answered, and whether that is all that was wanted."""
    model = PodPart(log, "model", command)
    code = model.code(2 * seconds + OVERHEAD_SECONDS)
    oom = model.end()
    log.send("model", ended={"code": code, "out_of_memory": oom} if code is not None else None)
    answered = "output" in model.events
    return answered, answered and code == 0 and (not gpu or on_gpu(model.events.get("gpu_after", {})))


def on_gpu(after: dict[str, object]) -> bool:
    """Whether the process has CUDA's driver mapped, and no framework reports that it uses only the CPU."""
    libraries, words = after.get("libraries"), after.get("words")
    if not isinstance(libraries, list) or not any("/libcuda.so" in str(path) for path in libraries):
        return False
    uses = [word for word in words if isinstance(word, dict) and word.get("uses")] if isinstance(words, list) else []
    return not uses or any(word.get("peak") or any(map(GPU.search, word["uses"])) for word in uses)


def try_server(log: Log, commands: dict[str, list[str]], startup: float, grace: float) -> bool:
    """Run the server beside its client; returns whether it answered and stopped."""
    client = PodPart(log, "client", commands["client"])
    until(lambda: "hello" in client.events or client.code() is not None, HELLO_SECONDS)
    said_at = time.monotonic()
    try:
        server = first_process(log, commands["server"])
    except OSError as error:
        client.end()
        log.send("server", err=str(error))
        log.send("server", start_at=0.0, died={"code": NOT_STARTED, "out_of_memory": False}, ended=None, exit_s=None)
        return False
    start_at = time.monotonic() - said_at
    over = 3 * startup + OVERHEAD_SECONDS
    until(lambda: "stop" in client.events or client.code() is not None or server.code() is not None, over)
    died, ended, since = server.code(), None, time.monotonic()
    if died is None:
        log.send("server", stopping=True)
        since = time.monotonic()
        server.signal(signal.SIGTERM)
        client.signal(signal.SIGUSR1)
        ended = server.code(grace + EXIT_SLACK_SECONDS)
    exit_s = time.monotonic() - since if ended is not None else None
    if died is None:
        client.code(startup + OVERHEAD_SECONDS)
    oom = server.end()
    client.end()
    codes = {
        name: None if code is None else {"code": code, "out_of_memory": oom}
        for name, code in (("died", died), ("ended", ended))
    }
    log.send("server", start_at=start_at, exit_s=exit_s, **codes)
    return ended == 0 and client.events.get("stop", {}).get("inflight") is True


def main(options: dict[str, object], texts: list[str]) -> None:
    log = Log({str(name): int(str(length)) for name, length in dict(options["hidden"]).items()})  # type: ignore[call-overload]
    given = options["commands"]
    commands = {
        str(name): [texts[word] if isinstance(word, int) else str(word) for word in words]
        for name, words in (given.items() if isinstance(given, dict) else ())
    }
    testable = sound = True
    if "model" in commands:
        testable, sound = try_model(log, commands["model"], float(str(options["load_seconds"])), bool(options["gpu"]))
    if testable and "server" in commands:
        served = try_server(log, commands, float(str(options["startup_seconds"])), float(str(options["grace_seconds"])))
        sound = sound and served
    log.send("pod", sound=sound, image=options["image"])
    sys.stdout.flush()
    os._exit(0 if sound else 1)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
