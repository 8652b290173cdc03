"""A pytest plugin of `scripts/mutants`: measure which lines each test runs, or run chosen tests in a given order.

MUTANTS_TIMES names the file for the seconds of each test; MUTANTS_CHOSEN the file with the chosen tests, one a line.
"""

import json
import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from coverage import Coverage

_TIMES: dict[str, float] = {}


def pytest_configure() -> None:
    """Run the slow tests, all cases of tests without kinds and twice as many examples, too."""
    from tests.helpers import sampling

    sampling.SAMPLED_CASES, sampling.SLOW = 1_000_000, ""
    sampling.SAMPLED_EXAMPLES *= 2
    sampling.choose_profile(whole=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if (measured := Coverage.current()) is None:
        return (yield)
    measured.switch_context(item.nodeid)
    started = time.monotonic()
    result = yield
    _TIMES[item.nodeid] = time.monotonic() - started
    measured.switch_context("")
    return result


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if path := os.environ.get("MUTANTS_CHOSEN"):
        chosen = Path(path).read_text(encoding="utf-8").splitlines()
        found = {item.nodeid: item for item in items}
        items[:] = [found[name] for name in chosen if name in found]


def pytest_sessionfinish() -> None:
    if path := os.environ.get("MUTANTS_TIMES"):
        Path(path).write_text(json.dumps(_TIMES), encoding="utf-8")
