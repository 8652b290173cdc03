"""Resolving for real, from a folder of tiny wheels: no network, and an engine that only knows digests."""

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from mlship.engine.base import BuildRequest, BuildWatcher, Engine, EngineInfo, StepOutput
from mlship.errors import BuildError, EngineError, UsageError
from mlship.files import sha256_file
from mlship.lock.check import check_lock
from mlship.lock.compile import Upgrade, choose_place
from mlship.lock.resolve import Resolved, resolve
from mlship.project.config import Config
from tests.unit.test_lock_check import config as config_of
from tests.wheels import write_wheel

OLD, NEW = ("sha256:" + digit * 64 for digit in "12")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER = "3.14" if HERE != "3.14" else "3.13"


@dataclass
class DigestEngine:
    """Knows the digest of the tag; a build is answered with a lock that pip-compile might have written, or fails."""

    tag: str = OLD
    dropped: bool = False
    answer: Callable[[BuildRequest], str] | None = None
    asked: list[str] = field(default_factory=list)
    requests: list[BuildRequest] = field(default_factory=list)

    def info(self) -> EngineInfo:
        return EngineInfo("26.1.5", "0.13.1", "linux/amd64", rootless=False)

    def resolve(self, reference: str) -> str:
        self.asked.append(reference)
        if "@" in reference and self.dropped:
            raise UsageError("no such image", hint="x")
        return reference.partition("@")[2] or self.tag

    def build(self, request: BuildRequest, watch: BuildWatcher) -> None:
        self.requests.append(request)
        if self.answer is None:
            watch(
                StepOutput(
                    "1", "  ERROR: Could not find a version that satisfies the requirement x (from versions: none)"
                )
            )
            raise BuildError("step failed", hint="x")
        assert request.export is not None
        (request.export / "requirements.txt").write_text(self.answer(request))


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (name for name in os.environ if name.startswith("PIP_")):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    write_wheel(tmp_path / "wheels", "alpha", "1.0", requires=("beta",))
    write_wheel(tmp_path / "wheels", "beta", "1.0")
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/requirements.in").write_text("alpha\n")
    return tmp_path / "repo"


def config(python: str = HERE) -> Config:
    return config_of(f'python: "{python}"\nbase: {{distro: trixie}}\n')


def run(repo: Path, engine: DigestEngine, upgrade: Upgrade = Upgrade(), python: str = HERE) -> Resolved:  # noqa: B008
    return resolve(repo, config(python), lambda: cast("Engine", engine), upgrade, repo.parent / "cache")


def versions(resolved: Resolved) -> dict[str, str]:
    return {pin.name: pin.version for pin in resolved.pins}


local = pytest.mark.skipif(
    not choose_place(config_of(f'python: "{HERE}"\nbase: {{distro: trixie}}\n')).local,
    reason="this machine is not like any image, so nothing is resolved on it",
)


@local
def test_resolves_here_and_keeps_pins_unless_asked(repo: Path) -> None:
    first = run(repo, DigestEngine())
    assert versions(first) == {"alpha": "1.0", "beta": "1.0"}
    text = (repo / "requirements.txt").read_text()
    assert str(repo.parent) not in text
    assert "mlship lock" in text
    assert check_lock(repo, config()).pins == first.pins
    write_wheel(repo.parent / "wheels", "beta", "2.0")
    write_wheel(repo.parent / "wheels", "alpha", "2.0", requires=("beta",))
    assert versions(run(repo, DigestEngine())) == {"alpha": "1.0", "beta": "1.0"}
    assert (repo / "requirements.txt").read_text() == text
    assert versions(run(repo, DigestEngine(), Upgrade(packages=("beta",)))) == {"alpha": "1.0", "beta": "2.0"}
    upgraded = run(repo, DigestEngine(), Upgrade(all=True))
    assert versions(upgraded) == {"alpha": "2.0", "beta": "2.0"}
    assert {pin.version for pin in upgraded.previous} == {"1.0", "2.0"}


@local
def test_the_base_is_a_pin_too(repo: Path) -> None:
    run(repo, DigestEngine(tag=OLD))
    assert run(repo, DigestEngine(tag=NEW)).record.digest == OLD
    assert run(repo, DigestEngine(tag=NEW, dropped=True)).record.digest == NEW
    run(repo, DigestEngine(tag=OLD), Upgrade(all=True))
    assert run(repo, DigestEngine(tag=NEW), Upgrade(all=True)).record.digest == NEW


@local
def test_pips_constraints_hold_and_their_place_is_not_told(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(repo.parent / "wheels", "beta", "2.0")
    (repo.parent / "limits.txt").write_text("beta<2\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(repo.parent / "limits.txt"))
    assert versions(run(repo, DigestEngine())) == {"alpha": "1.0", "beta": "1.0"}
    text = (repo / "requirements.txt").read_text()
    assert "-c pip.conf" in text
    assert "/" not in text


@local
def test_a_failed_resolve_leaves_everything_as_it_was(repo: Path) -> None:
    run(repo, DigestEngine())
    before = {path.name: path.read_bytes() for path in repo.iterdir()}
    (repo / "requirements.in").write_text("alpha\nbeta>7\n")
    with pytest.raises(UsageError, match="no version of beta>7"):
        run(repo, DigestEngine())
    (repo / "requirements.in").write_text("alpha\n")
    assert {path.name: path.read_bytes() for path in repo.iterdir()} == before


@pytest.mark.parametrize("text", ["numpy==1.0\n", "# autogenerated by pip-compile\nnumpy==1.0\n"])
def test_a_file_of_somebody_else_is_never_overwritten(repo: Path, text: str) -> None:
    (repo / "requirements.txt").write_text(text)
    with pytest.raises(UsageError, match="not written by `mlship lock`") as caught:
        run(repo, DigestEngine())
    assert "lock: requirements.lock.txt" in caught.value.hint
    assert (repo / "requirements.txt").read_text() == text


def test_without_an_engine_it_says_what_it_is_needed_for(repo: Path) -> None:
    def none() -> Engine:
        raise EngineError("no engine answers", hint="start it")

    with pytest.raises(EngineError, match="digest of the base image python:") as caught:
        resolve(repo, config(), none, Upgrade(), repo.parent / "cache")
    assert caught.value.hint == "start it"


@pytest.mark.parametrize("name", ["a; rm -rf /", "-e", "$(x)", "", "a b"])
def test_odd_package_names_are_refused(repo: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no package"):
        run(repo, DigestEngine(), Upgrade(packages=(name,)))


def test_another_python_is_resolved_in_the_image(repo: Path) -> None:
    def answer(request: BuildRequest) -> str:
        stub = request.contexts["candidates"] / "beta-1.0-py3-none-any.whl"
        assert (request.context / "repo/requirements.in").read_text() == "alpha\n"
        return f"# autogenerated by pip-compile\nbeta==1.0 \\\n    --hash={sha256_file(stub)}\n    # via alpha\n"

    engine = DigestEngine(answer=answer)
    resolved = run(repo, engine, python=OTHER)
    assert not resolved.place.local
    assert resolved.pins[0].hashes == (sha256_file(repo.parent / "wheels/beta-1.0-py3-none-any.whl"),)
    (request,) = engine.requests
    assert f"FROM python:{OTHER}-slim-trixie@{OLD} AS resolver" in request.dockerfile
    assert b"PIP_NO_INDEX" in request.secrets["mlship-env"]


def test_pips_reason_comes_out_of_the_image(repo: Path) -> None:
    with pytest.raises(UsageError, match="no index has x for Python"):
        run(repo, DigestEngine(), python=OTHER)
    assert not (repo / "requirements.txt").exists()
    assert not (repo / "mlship.lock").exists()


def test_what_cannot_be_hash_checked_is_refused_before_it_is_written(repo: Path) -> None:
    with pytest.raises(UsageError, match="cannot be installed hash-checked"):
        run(repo, DigestEngine(answer=lambda _: "x @ git+https://host/x\n"), python=OTHER)
    assert not (repo / "requirements.txt").exists()


def test_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the image has" in choose_place(config(OTHER)).reason
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert choose_place(config()).reason == "this machine is no Linux with glibc"
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.99"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert "newer than trixie's" in choose_place(config()).reason
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "aarch64" in choose_place(config()).reason
