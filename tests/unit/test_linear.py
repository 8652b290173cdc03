"""Text from outside costs time in proportion to its length: four times the text may not take sixteen times as long."""

import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlship.audit.history import history_steps
from mlship.audit.judge_dockerfile import audit_dockerfile
from mlship.console import clean
from mlship.engine.failures import FailedBuild, build_failure
from mlship.engine.rawjson import Progress
from mlship.engine.sdk import _lines
from mlship.errors import MlshipError
from mlship.known_texts import TextContext, first_match
from mlship.lock.failures import explain
from mlship.lock.pins import parse_lock
from mlship.project.credentials import find_credentials
from mlship.project.load import parse_config
from mlship.redact import redact
from mlship.smoke.events import parse_event
from tests.helpers.toy import YAML

SMALL = 10_000  # characters
TIMES = 4
MOST = 10  # linear is 4, quadratic 16
LEAST_SECONDS = 0.01  # what a busy machine adds by chance
CONFIG = parse_config(YAML)


def _known(text: str) -> None:
    contexts: tuple[TextContext, ...] = ("build", "lock", "smoke")  # those with most rows
    for context in contexts:
        first_match(text, context)


def _progress(text: str) -> None:
    progress = Progress()
    for line in text.split("\n"):
        progress.feed(line)


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "redact": redact,
    "clean": clean,
    "credentials": lambda text: list(find_credentials(text.encode())),
    "known texts": _known,
    "failed build": lambda text: build_failure(FailedBuild("step", tuple(text.split("\n")), text)),
    "failed lock": lambda text: explain(text, CONFIG),
    "lock file": lambda text: parse_lock(text, "requirements.txt"),
    "build output": _progress,
    "container output": lambda text: list(_lines(text[at : at + 100].encode() for at in range(0, len(text), 100))),
    "smoke event": parse_event,
    "dockerfile": lambda text: audit_dockerfile("FROM scratch\nRUN " + text.replace("\n", "\nENV A="), ""),
    "history": lambda text: history_steps((step, False) for step in ("RUN " + text, "ENV " + text, "SHELL " + text)),
}
# Parts that the patterns start with, continue with or end with.
PARTS = st.sampled_from(
    ["//", "://", ":", "@", "/", "?", "&", "token=", "authorization: ", " ", "\n", "a", "8", "=", '"', "\\", "-", "_",
     "sk-", "eyJ", ".eyJ", "machine ", " login ", "users:", "-----BEGIN PRIVATE KEY-----", '"auth": "', "ERROR: ", "==",
     "--hash=sha256:", "a==1 ", "; ", "[", "{", "error: ", "\x1b[2J", "é", "Traceback", "exit code: ", "> ", "E: ",
     "<<"]
)  # fmt: skip


def seconds(function: Callable[[str], object], text: str) -> float:
    best = float("inf")
    for _ in range(2):
        started = time.thread_time()
        with suppress(MlshipError):
            function(text)
        best = min(best, time.thread_time() - started)
    return best


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(parts=st.lists(PARTS, min_size=1, max_size=4), end=PARTS)
def test_time_grows_with_the_length(name: str, parts: list[str], end: str) -> None:
    unit = "".join(parts)
    short, long = (unit * (size // len(unit)) + end for size in (SMALL, SMALL * TIMES))
    assert seconds(FUNCTIONS[name], long) <= MOST * max(seconds(FUNCTIONS[name], short), LEAST_SECONDS)
