"""What pip-compile cannot resolve, and running it for a test."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mlship.errors import MlshipError, TransientError, UsageError
from mlship.lock.compile import CompileRequest, Upgrade, compile_here
from mlship.lock.indexes import read_pip_settings
from mlship.lock.inputs import InputFile
from tests.helpers.failing_index import FailingIndex
from tests.helpers.lock_configs import config
from tests.helpers.wheels import write_sdist, write_wheel

SECRET = "hunter2"


def asked(requirements: str) -> CompileRequest:
    return CompileRequest(config(), (InputFile("requirements.in", requirements),), read_pip_settings(), Upgrade(), "")


def resolved(folder: Path, requirements: str) -> str:
    return compile_here(asked(requirements), folder / "work")


def failure(folder: Path, requirements: str) -> MlshipError:
    with pytest.raises(MlshipError) as caught:
        resolved(folder, requirements)
    error = caught.value
    assert isinstance(error, UsageError | TransientError)
    assert error.hint
    assert not any(text in error.message for text in (SECRET, "Traceback", "Looking in indexes", "\x1b"))
    assert len(error.message) < 700
    return error


Prepare = Callable[[FailingIndex], object]


def conflict(index: FailingIndex) -> None:
    index.sell("alpha", requires=("gamma<2",))
    index.sell("beta", requires=("gamma>=2",))
    index.sell("gamma", "1.0")
    index.sell("gamma", "2.0")


def sdist(index: FailingIndex, files: dict[str, str]) -> None:
    index.sell_file("alpha", write_sdist(index.root / "files", "alpha", files))


def broken(index: FailingIndex) -> None:
    wheel = index.sell("alpha")
    wheel.write_bytes(wheel.read_bytes() + b"x")


def no_archive(index: FailingIndex) -> None:
    (index.root / "files").mkdir()
    wheel = index.root / "files/alpha-1.0-py3-none-any.whl"
    wheel.write_bytes(b"no zip archive")
    index.sell_file("alpha", wheel)


def renamed(index: FailingIndex, name: str, version: str) -> None:
    wheel = write_wheel(index.root / "files", name, version)
    index.sell_file("alpha", wheel.rename(wheel.with_name("alpha-1.0-py3-none-any.whl")))


BACKEND = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
RAISES = {"pyproject.toml": BACKEND, "backend.py": "raise RuntimeError('pg_config executable not found')\n"}
NEEDS = {"pyproject.toml": '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'}
CASES: dict[str, tuple[Prepare, str, type[MlshipError], tuple[str, ...]]] = {
    "conflict": (conflict, "alpha\nbeta\n", UsageError, ("alpha 1.0 depends on gamma<2", "beta 1.0 depends on gamma")),
    "two pins": (lambda i: i.sell("alpha"), "alpha==1.0\nalpha==2.0\n", UsageError, ("alpha==1.0", "alpha==2.0")),
    "no package": (lambda i: i.sell("beta"), "alpha\n", UsageError, ("no package index has `alpha`",)),
    "no dependency": (lambda i: i.sell("alpha", requires=("beta>1",)), "alpha\n", UsageError, ("beta>1 (from alpha)",)),
    "no version": (lambda i: i.sell("alpha"), "alpha==9\n", UsageError, ("`alpha==9`", "available: 1.0")),
    "other Python": (
        lambda i: i.sell("alpha", extra='data-requires-python="&gt;=3.99"'),
        *("alpha\n", UsageError, ("`alpha`", "they need another Python")),
    ),
    "invalid": (lambda i: i.sell("alpha"), "alpha\n!!bad\n", UsageError, ("invalid requirement: '!!bad'",)),
    "invalid version": (lambda i: i.sell("alpha"), "alpha>=1.x\n", UsageError, ("alpha>=1.x",)),
    "invalid option": (lambda i: i.sell("alpha"), "alpha\n--foo x\n", UsageError, ("invalid requirement: --foo x",)),
    "source": (lambda i: sdist(i, RAISES), "alpha\n", UsageError, ("`alpha` has no wheel", "pg_config executable")),
    "source needs": (lambda i: sdist(i, NEEDS), "alpha\n", UsageError, ("`alpha` has no wheel", "`hatchling`")),
    "hash": (broken, "alpha\n", TransientError, ("`alpha` does not have the hash",)),
    "no archive": (no_archive, "alpha\n", UsageError, ("broken file of `alpha`",)),
    "other name": (lambda i: renamed(i, "beta", "1.0"), "alpha\n", UsageError, ("broken file of `alpha`",)),
    "other version": (lambda i: renamed(i, "alpha", "2.0"), "alpha\n", UsageError, ("broken file of `alpha`", "2.0")),
    "invalid metadata": (
        lambda i: i.sell("alpha", requires=("beta (>=1.x",)),
        *("alpha\n", UsageError, ("broken file of `alpha`",)),
    ),
}
