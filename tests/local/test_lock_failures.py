"""Every way in which resolving fails, with the real pip-compile and an index that fails on demand.

The error names the package or the index and the remedy. Its exit code is 2 if the user has to change something, and 75
if the same command may work later: never the reverse.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from mlship.errors import MlshipError, TransientError, UsageError
from mlship.lock.compile import compile_here
from mlship.lock.doubts import warned_of
from mlship.lock.pins import Pin
from tests.helpers.failing_index import FailingIndex, Fault, closed_port, failing_index, self_signed
from tests.helpers.lock_failures import CASES, SECRET, asked, failure, resolved

REFUSALS = {"400", "401", "403", "407"}


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (name for name in os.environ if name.startswith("PIP_")):
        monkeypatch.delenv(name)
    for name, value in {"CONFIG_FILE": os.devnull, "TIMEOUT": "1", "RETRIES": "0", "NO_CACHE_DIR": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingIndex]:
    with failing_index(tmp_path / "shop") as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.simple.replace("http://", f"http://bob:{SECRET}@"))
        yield index


def of_page(fault: Fault, package: str = "") -> str:
    return fault


def test_an_extra_that_a_package_lacks_is_remembered(index: FailingIndex, tmp_path: Path) -> None:
    index.sell("alpha", requires=("beta[fast]",))
    index.sell("beta")
    question = asked("alpha[typo]\n")
    compile_here(question, tmp_path / "work")
    alpha, beta = warned_of(question.said, [Pin("alpha", "1.0", ()), Pin("beta", "1.0", ())])
    assert alpha.startswith("alpha 1.0 has no extra `typo`")
    assert beta.startswith("beta 1.0 has no extra `fast`")


@pytest.mark.bank(kind=of_page)
@pytest.mark.parametrize("fault", get_args(Fault))
@pytest.mark.parametrize("package", ["alpha", "beta"])
def test_a_page_that_fails(fault: Fault, package: str, index: FailingIndex, tmp_path: Path) -> None:
    index.sell("alpha", requires=("beta",))
    index.sell("beta")
    index.faults[f"/simple/{package}/"] = fault
    error = failure(tmp_path, "alpha\n")
    wrong = fault in REFUSALS or fault == "404"
    assert type(error) is (UsageError if wrong else TransientError), error
    named = package if fault == "404" else index.address.removeprefix("http://")
    assert named in error.message


@pytest.mark.bank(kind=of_page)
@pytest.mark.parametrize("fault", get_args(Fault))
def test_a_file_that_fails(fault: Fault, index: FailingIndex, tmp_path: Path) -> None:
    index.sell("alpha")
    index.faults["/files/"] = fault
    error = failure(tmp_path, "alpha\n")
    assert type(error) is (UsageError if fault in {"401", "403", "407"} else TransientError), error
    assert index.address.removeprefix("http://") in error.message or "`alpha`" in error.message


@pytest.mark.parametrize("case", CASES)
def test_a_requirement_that_cannot_be_resolved(case: str, index: FailingIndex, tmp_path: Path) -> None:
    prepare, requirements, kind, said = CASES[case]
    prepare(index)
    error = failure(tmp_path, requirements)
    assert type(error) is kind
    assert all(text in error.message for text in said), error.message


def test_versions_that_pip_ignores_are_explained(index: FailingIndex, tmp_path: Path) -> None:
    index.sell("alpha", extra='data-yanked="broken"')
    assert "alpha" in failure(tmp_path, "alpha>=1\n").message
    assert "alpha==1.0" in resolved(tmp_path / "pinned", "alpha==1.0\n")


@pytest.mark.parametrize("names", ["alpha\n", "alpha\nbeta\n"])
@pytest.mark.parametrize(("retries", "extra"), [("0", False), ("1", False), ("0", True), ("1", True)])
def test_an_index_that_cannot_be_reached(
    names: str, retries: str, extra: bool, index: FailingIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CASES["conflict"][0](index)
    closed = f"127.0.0.1:{closed_port()}"
    monkeypatch.setenv("PIP_RETRIES", retries)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL" if extra else "PIP_INDEX_URL", f"http://bob:{SECRET}@{closed}/simple")
    if extra and names == "alpha\n":  # the other index has all that is needed
        assert "alpha==1.0" in resolved(tmp_path, names)
        return
    error = failure(tmp_path, names)
    assert type(error) is TransientError, error
    assert closed in error.message


@pytest.mark.parametrize(
    ("address", "proxy", "kind", "said"),
    [
        ("https://packages.invalid/simple", None, TransientError, "packages.invalid cannot be resolved"),
        ("https://packages.invalid/simple", "http://127.0.0.1:9", TransientError, "the proxy does not answer"),
        ("http://packages.invalid/simple", None, UsageError, "packages.invalid, because its address is not https"),
    ],
)
def test_an_address_that_leads_nowhere(
    address: str, proxy: str | None, kind: type[MlshipError], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", address)
    if proxy:
        monkeypatch.setenv("PIP_PROXY", proxy)
    error = failure(tmp_path, "alpha\n")
    assert type(error) is kind
    assert said in error.message


def test_a_certificate_that_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with failing_index(tmp_path / "shop", self_signed(tmp_path)) as index:
        index.sell("alpha")
        monkeypatch.setenv("PIP_INDEX_URL", index.simple)
        error = failure(tmp_path, "alpha\n")
        assert isinstance(error, UsageError)
        assert f"certificate of the package index {index.simple} is not trusted" in error.message
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_CERT", str(tmp_path / "cert.pem"))
        assert "alpha==1.0" in resolved(tmp_path / "trusted", "alpha\n")
