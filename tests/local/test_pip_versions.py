"""The oldest and the newest pip and pip-tools that mlship allows, fetched from PyPI. mlship changes neither of them."""

import os
import re
import shutil
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mlship import process
from mlship.lock.compile import Upgrade
from tests.helpers.failing_index import FailingIndex, failing_index
from tests.helpers.lock_failures import CASES, failure
from tests.helpers.lock_runs import DigestEngine, run, versions
from tests.helpers.patience import limit

BOUNDS = {
    found.name: found.specifier
    for text in tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
    if (found := Requirement(text)).name in {"pip", "pip-tools"}
}


def oldest(name: str) -> str:
    (version,) = (one.version for one in BOUNDS[name] if one.operator == ">=")
    return f"{name}=={version}"


@pytest.fixture(scope="module", params=["oldest", "newest"])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with these versions, and nothing of mlship."""
    folder = tmp_path_factory.mktemp(request.param)
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    for name, bound in BOUNDS.items():
        wanted = oldest(name) if request.param == "oldest" else f"{name}{bound}"
        argv = [str(python), "-m", "pip", "install", "--quiet", "--upgrade", wanted]
        done = process.run(argv, process.Options(timeout=limit(120)))
        if not done.ok:
            pytest.skip(f"no {wanted} from the package index: {done.stderr[-200:]}")
    return python


@pytest.fixture
def index(tmp_path: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingIndex]:
    for name in (name for name in os.environ if name.startswith("PIP_")):
        monkeypatch.delenv(name)
    for name, value in {"CONFIG_FILE": os.devnull, "TIMEOUT": "1", "RETRIES": "0", "NO_CACHE_DIR": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setattr(sys, "executable", str(python))
    with failing_index(tmp_path / "shop") as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.simple)
        yield index


def test_locks_upgrades_and_keeps(index: FailingIndex, tmp_path: Path) -> None:
    index.sell("alpha", "1.0", ("beta ; python_version >= '3.9'", "absent ; sys_platform == 'win32'"))
    index.sell("beta")
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "requirements.in").write_text("alpha[extra]>=1 ; python_version >= '3.8'\n")
    engine = DigestEngine()
    assert versions(run(repo, engine)) == {"alpha": "1.0", "beta": "1.0"}
    first = (repo / "requirements.txt").read_text()
    assert len(re.findall("--hash=sha256:", first)) == 2
    index.sell("beta", "2.0")
    index.sell("alpha", "2.0", ("beta",))
    run(repo, engine)
    assert (repo / "requirements.txt").read_text() == first
    assert versions(run(repo, engine, Upgrade(packages=("beta",)))) == {"alpha": "1.0", "beta": "2.0"}
    assert versions(run(repo, engine, Upgrade(all=True))) == {"alpha": "2.0", "beta": "2.0"}


def test_an_index_without_hashes_is_downloaded(index: FailingIndex, tmp_path: Path) -> None:
    wheel = index.sell("alpha")
    shutil.rmtree(index.root / "simple/alpha")
    index.sell_file("alpha", wheel)
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "requirements.in").write_text("alpha\n")
    (pin,) = run(repo, DigestEngine()).pins
    assert pin.hashes[0].startswith("sha256:")


@pytest.mark.parametrize("case", CASES)
def test_failures_are_explained(case: str, index: FailingIndex, tmp_path: Path) -> None:
    prepare, requirements, kind, said = CASES[case]
    prepare(index)
    error = failure(tmp_path, requirements)
    assert type(error) is kind
    assert all(text in error.message for text in said), error.message


def test_a_page_that_breaks_is_the_indexs_fault(index: FailingIndex, tmp_path: Path) -> None:
    index.sell("alpha")
    for fault in ("401", "500", "cut"):
        index.faults["/simple/alpha/"] = fault
        error = failure(tmp_path / fault, "alpha\n")
        assert error.exit_code == (2 if fault == "401" else 75)
        assert index.address in error.message
