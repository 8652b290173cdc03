"""What kubectl prints is the answer; a failure is an error with kubectl's own words."""

from pathlib import Path

import pytest

from mlship.errors import MlshipError
from mlship.smoke.cluster.kubectl import Cluster

LINES = {
    "prints": "echo '{}'",
    "fails": "echo 'error: a new reason' >&2; exit 1",
    "says nothing": "exit 3",
    "has no cluster": "echo 'error: no configuration has been provided' >&2; exit 1",
}


def asked(how: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (folder / "kubectl").write_text(f"#!/bin/sh\n{LINES[how]}\n")
    (folder / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return Cluster().call("version")


def test_output_is_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked("prints", tmp_path, monkeypatch) == "{}\n"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("fails", "the cluster reports: a new reason"),
        ("says nothing", "the cluster reports: kubectl ended with code 3"),
        ("has no cluster", "kubectl has no cluster"),
    ],
)
def test_a_failure_is_an_error(how: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MlshipError) as caught:
        asked(how, tmp_path, monkeypatch)
    assert words in caught.value.message
