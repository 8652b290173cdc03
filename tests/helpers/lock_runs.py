"""Runs of the resolver without an engine."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from mlship.engine.base import BuildRequest, BuildWatcher, Engine, EngineInfo, StepOutput
from mlship.errors import BuildError, UsageError
from mlship.lock.compile import Upgrade
from mlship.lock.resolve import Resolved, resolve
from mlship.project.config import Config
from tests.helpers.lock_configs import config as config_of
from tests.helpers.wheels import write_wheel

OLD, NEW = ("sha256:" + digit * 64 for digit in "12")


HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass
class DigestEngine:
    """Resolves the tag to a digest; a build returns a lock like pip-compile's, or fails."""

    tag: str = OLD
    python: str = f"{HERE}.99"
    dropped: bool = False
    answer: Callable[[BuildRequest], str] | None = None
    references: list[str] = field(default_factory=list)
    requests: list[BuildRequest] = field(default_factory=list)

    def info(self) -> EngineInfo:
        return EngineInfo("26.1.5", "0.13.1", "linux/amd64", rootless=False)

    def resolve(self, reference: str) -> str:
        self.references.append(reference)
        if "@" in reference and self.dropped:
            raise UsageError("no such image", hint="x")
        return reference.partition("@")[2] or self.tag

    def image_environment(self, _reference: str, _platform: str) -> dict[str, str]:
        return {"PYTHON_VERSION": self.python}

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


def make_repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that requires `alpha`, with pip set to a folder of wheels."""
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
