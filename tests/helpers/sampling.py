"""What `make test-fast` leaves out: cases, slow tests, and examples of properties. `--whole` leaves nothing out.

A bank is a test with hundreds of recorded cases, marked `@pytest.mark.bank(kind=function)`. The function takes the
parameters of a case and returns its kind. A sample keeps the first case of each kind, and two cases, spread evenly, of
a test without kinds. It is the same in every run.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Protocol, TypeVar

import pytest
from hypothesis import settings

SAMPLED_EXAMPLES = 5
EXAMPLES = 100
SAMPLED_CASES = 2
SLOW = "slow"
T = TypeVar("T")


class _KindOf(Protocol):
    def __call__(self, **parameters: object) -> object: ...


def choose_profile(*, whole: bool) -> None:
    """Set how many examples a property runs; call it before test modules are imported."""
    # How long an example takes depends on the machine, so there is no deadline.
    settings.register_profile("sample", deadline=None, max_examples=SAMPLED_EXAMPLES)
    settings.register_profile("whole", deadline=None, max_examples=EXAMPLES)
    settings.load_profile("whole" if whole else "sample")


def examples(whole: int) -> int:
    """The number of examples for a property that runs `whole` of them with `--whole`."""
    return max(5, whole * settings().max_examples // EXAMPLES)


def part(cases: Sequence[T]) -> Sequence[T]:
    """Every sixth case of a list that one test goes through; with `--whole`, every case."""
    return cases if settings().max_examples == EXAMPLES else cases[::6]


def first_of_each(cases: Iterable[T], kind: Callable[[T], object]) -> list[T]:
    """The first case of each kind, for a test that goes through all cases; with `--whole`, every case."""
    found = list(cases)
    return (
        found if settings().max_examples == EXAMPLES else list({kind(case): case for case in reversed(found)}.values())
    )


def split(items: Iterable[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The tests to keep, and those to leave out: slow tests and cases of a kind that another case has."""
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for _, cases in groupby(items, lambda item: item.nodeid.partition("[")[0]):
        group = list(cases)
        seen: set[object] = set()
        for at, item in enumerate(group):
            kind = _kind(item, at * SAMPLED_CASES // max(len(group), SAMPLED_CASES))
            (left_out if kind in seen or item.get_closest_marker(SLOW) else kept).append(item)
            seen.add(kind)
    return kept, left_out


def _kind(item: pytest.Item, place: int) -> object:
    mark = item.get_closest_marker("bank")
    if mark is None or not isinstance(item, pytest.Function):
        return place
    kind: _KindOf = mark.kwargs["kind"]
    return kind(**item.callspec.params)
