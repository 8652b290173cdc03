"""What `make test-fast` leaves out: cases of the big banks, and examples of properties. `--whole` leaves nothing out.

A bank is a test with hundreds of recorded cases, marked `@pytest.mark.bank(kind=function)`. The function takes the
parameters of a case and returns its kind. A sample keeps the first case of each kind, so it is the same in every run.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import pytest
from hypothesis import settings

SAMPLED_EXAMPLES = 15
EXAMPLES = 100
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
    """Every third case of a list that one test goes through; with `--whole`, every case."""
    return cases if settings().max_examples == EXAMPLES else cases[::3]


def split(items: Iterable[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The tests to keep, and the cases of banks to leave out."""
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    seen: set[tuple[str, object]] = set()
    for item in items:
        kind = _kind(item)
        (left_out if kind in seen else kept).append(item)
        if kind is not None:
            seen.add(kind)
    return kept, left_out


def _kind(item: pytest.Item) -> tuple[str, object] | None:
    mark = item.get_closest_marker("bank")
    if mark is None or not isinstance(item, pytest.Function):
        return None
    kind: _KindOf = mark.kwargs["kind"]
    return item.nodeid.partition("[")[0], kind(**item.callspec.params)
