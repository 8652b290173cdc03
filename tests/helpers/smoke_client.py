"""The smoke test's client in a process of its own, for servers of this process."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mlship.smoke.events import Event, parse_event
from mlship.smoke.run import inside as inside_command
from mlship.smoke.spec import SmokeSpec
from tests.helpers.smoke_events import SPEC


@contextmanager
def client(
    repo: Path, port: int, seconds: float = 10, spec: SmokeSpec | None = None
) -> Iterator[subprocess.Popen[str]]:
    asked = replace(spec or SPEC, port=port, live="/live", ready="/ready", startup_seconds=seconds, grace_seconds=0.4)
    command = [sys.executable, *inside_command("client", asked)[1:]]
    with subprocess.Popen(command, cwd=repo, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def listen(process: subprocess.Popen[str], until: Callable[[Event], bool]) -> tuple[Event, ...]:
    seen: list[Event] = []
    assert process.stdout is not None
    for line in process.stdout:
        event = parse_event(line)
        assert event is not None, line
        seen.append(event)
        if until(event):
            break
    return tuple(seen)
