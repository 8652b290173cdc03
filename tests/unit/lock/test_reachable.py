"""Whether every index answered about a package."""

import pytest

from mlship.errors import MlshipError, TransientError, UsageError
from mlship.lock.index import index_fault
from mlship.lock.indexes import PipSettings
from tests.helpers.failing_index import closed_port
from tests.helpers.pages import served_pages

PAGE = ("text/html", "<a>none</a>")


def test_indexes_that_answer_have_no_fault() -> None:
    with served_pages({"/simple/alpha-beta/": PAGE}) as (address, asked):
        settings = PipSettings(index_url=f"{address}/simple", extra_index_urls=("file:///nowhere",))
        assert index_fault(settings, ["Alpha_Beta", "missing"]) is None
    assert asked == ["/simple/alpha-beta/", "/simple/missing/"]


def test_without_a_package_no_index_is_asked() -> None:
    assert index_fault(PipSettings(index_url=f"http://127.0.0.1:{closed_port()}/simple"), []) is None


@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        ("http://bob:hunter2@127.0.0.1:9/simple", TransientError, "http://***@127.0.0.1:9/simple: no connection"),
        ("gopher://host/simple", UsageError, "`gopher://host/simple` is not an address"),
        ("http://[/simple", UsageError, "is not an address"),
    ],
)
def test_the_index_that_does_not_answer_is_named(address: str, kind: type[MlshipError], said: str) -> None:
    error = index_fault(PipSettings(index_url=address), ["alpha"])
    assert type(error) is kind
    assert said in error.message
    assert "hunter2" not in error.message


def test_a_page_that_is_no_page_is_reported() -> None:
    with served_pages({"/simple/alpha/": ("text/plain", "Welcome to the hotel")}) as (address, _):
        error = index_fault(PipSettings(index_url=f"{address}/simple"), ["alpha"])
    assert isinstance(error, TransientError)
    assert "answers with `text/plain`, not a list of files" in error.message
