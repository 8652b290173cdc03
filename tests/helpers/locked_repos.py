"""Locked repositories, made without a package index."""

from pathlib import Path

from mlship.files import sha256_text
from mlship.lock.inputs import collect_inputs
from mlship.lock.record import LockRecord
from mlship.project.load import load_config

DIGEST = f"sha256:{'d' * 64}"


TEXT = f"iniconfig==2.0 --hash=sha256:{'a' * 64}\n"


def locked(repo: Path, text: str = TEXT, cuda: str | None = None) -> Path:
    """The repository with a lock that matches its mlship.yaml."""
    (repo / "requirements.txt").write_text(text)
    inputs = collect_inputs(repo, load_config(repo, {}), cuda)
    LockRecord(inputs, sha256_text(text), "python:3.11-slim-bookworm", DIGEST, "pip-tools 7").write(repo)
    return repo
