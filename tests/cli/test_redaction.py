"""A password in each kind of text from outside reaches no output: the console and the JSON reports hide it."""

import base64
import json
import math
import os
from pathlib import Path

import pytest

from mlship.doctor.facts.facts import Facts
from mlship.doctor.mask import mask
from mlship.doctor.probes.inspected import image_of
from mlship.versioned import to_json
from tests.helpers.command import mlship_in_process
from tests.helpers.locked_repos import locked
from tests.helpers.toy import toy

CANARY = "c4nary"
ADDRESS = f"https://user:{CANARY}@host/simple"
TIMES = {"started": "2026-01-01T00:00:00Z", "completed": "2026-01-01T00:00:01Z"}
STEP = {"digest": "v", "name": f"RUN pip install {ADDRESS}"}
# What buildx may print: the name of a step, its output with and without an end of line, its error, and plain text.
PRINTED = {
    "step": {"vertexes": [{**STEP, **TIMES, "error": "exit code: 1"}]},
    "output": {"vertexes": [{**STEP, **TIMES}], "logs": [{"vertex": "v", "data": f"GET {ADDRESS}\n"}]},
    "unfinished": {"vertexes": [{**STEP, **TIMES, "error": "no"}], "logs": [{"vertex": "v", "data": ADDRESS}]},
    "error": {"vertexes": [{**STEP, **TIMES, "error": f"cannot fetch {ADDRESS}"}]},
    "text": f"ERROR: {ADDRESS}: denied",
    "damaged": '{"vertexes": "' + ADDRESS + '"}',
}


def fake_docker(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: object, code: int = 1) -> None:
    """A docker program whose build prints this and fails; its other commands print the password too."""
    if isinstance(lines, dict) and "logs" in lines:
        logs = [{**log, "data": base64.b64encode(log["data"].encode()).decode()} for log in lines["logs"]]
        lines = {**lines, "logs": logs}
    folder.mkdir()
    (folder / "printed").write_text(f"{lines if isinstance(lines, str) else json.dumps(lines)}\n")
    (folder / "docker").write_text(f'#!/bin/sh\ncat "{folder}/printed" >&2\nexit {code}\n')
    (folder / "docker").chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")


@pytest.mark.parametrize("command", [("build", "--verbose"), ("build", "--json"), ("smoke", "toy:dev")])
@pytest.mark.parametrize("source", PRINTED)
def test_what_docker_prints(
    source: str, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = locked(toy(tmp_path))
    fake_docker(tmp_path / "bin", monkeypatch, PRINTED[source])
    done = mlship_in_process(*command, cwd=repo)
    assert done.code in {5, 6, 75}
    assert CANARY not in done.stdout + done.stderr


def test_the_failing_step_is_shown_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlship.engine.base import BuildRequest
    from mlship.engine.buildx import run_buildx
    from mlship.errors import BuildError

    fake_docker(tmp_path / "bin", monkeypatch, PRINTED["step"])
    with pytest.raises(BuildError) as caught:
        run_buildx(BuildRequest("FROM x", "", tmp_path, "linux/amd64", tag="x"), lambda _event: None)
    assert CANARY in caught.value.message  # so only the way out hides it


@pytest.mark.parametrize("text", [ADDRESS, f'a "{ADDRESS}?token={CANARY}"\\', f"https://h/?token={CANARY}\\"])
def test_reports_in_json(text: str) -> None:
    printed = to_json({"seen": text, "more": [{"deep": (text, 1, None, True)}]})
    assert CANARY not in printed
    assert json.loads(printed)["more"][0]["deep"][1:] == [1, None, True]


def test_what_an_image_holds() -> None:
    found = {"Id": "x", "Config": {"Env": [f"A={ADDRESS}", f"API_TOKEN={CANARY}"], "Labels": {"source": ADDRESS}}}
    image = image_of(found, "x")
    assert CANARY not in str(image)
    assert CANARY not in mask(Facts(), ()).to_json()


def test_numbers_that_json_lacks_are_null() -> None:
    """As in the record of a training, which may hold anything: other programs could not read the whole result."""
    found = to_json({"loss": math.nan, "all": [1.5, math.inf, {"least": -math.inf}]})
    assert json.loads(found, parse_constant=str) == {"loss": None, "all": [1.5, None, {"least": None}]}
