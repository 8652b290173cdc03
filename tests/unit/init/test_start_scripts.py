"""Start scripts: what is read of one is what a shell does with it, and the rest is unknown."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlship.init.detect import detect
from mlship.init.scaffold import scaffold
from mlship.init.start_scripts import read_start_script
from mlship.init.tree import read_tree
from tests.helpers.repos import write

FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n@app.post('/predict')\ndef predict(x: int): return x\n"
DOCKERFILE = 'FROM python:3.12\nCOPY . .\nEXPOSE 19000 19001\nCMD ["./start.sh"]\n'
# A program in place of the server, which prints what it was started with.
_PRINTS = "#!/bin/sh\npython3 -c 'import json,os,sys; print(json.dumps([os.getcwd(), sys.argv[1:]]))' \"$@\" >&3\n"

_texts = st.text(alphabet="ab ./:=-_8$'\"\\#;&|*~{}()", max_size=7)
_names = st.sampled_from(["BIND", "HOST", "LOG_LEVEL", "A1"])
_values = st.one_of(
    st.integers(1025, 65535).map(str),
    _texts,
    _texts.map(lambda text: f'"{text}"'),
    st.builds("${{{0}:-{1}}}".format, _names, st.sampled_from(["debug", "9000", "x y"])),
    _names.map("${}".format),
)
_lines = st.one_of(
    st.sampled_from(["", "# a comment", "set -e", "set -euo pipefail", "echo 'starts'", "mkdir -p made", "cd svc"]),
    st.builds("{}={}".format, _names, _values),
    st.builds("export {}={}".format, _names, _values),
    st.sampled_from(
        ["if true; then", "fi", "exit 0", "cd /", "for x in 1 2; do", "done", "true && false", "f() {", "}"]
    ),
)
_servers = st.builds(
    "{0}uvicorn main:app \\\n  --port {1} --log-level {2}".format, st.sampled_from(["", "exec "]), _values, _values
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(_lines, max_size=5), _servers, st.lists(_lines, max_size=1), st.lists(st.sampled_from("ab"), max_size=2)
)
def test_what_is_read_is_what_a_shell_starts(
    tmp_path: Path, before: list[str], server: str, after: list[str], given_: list[str]
) -> None:
    text = "\n".join(["#!/bin/bash", *before, f'{server} "$@"', *after]) + "\n"
    repo = write(tmp_path / "repo", {"start.sh": text, "main.py": FASTAPI, "svc/main.py": FASTAPI})
    found = read_start_script(read_tree(repo), ("bash", "start.sh", *given_), {})
    if found is None:
        return
    program = write(tmp_path / "bin", {"uvicorn": _PRINTS}) / "uvicorn"
    program.chmod(0o755)
    place = repo / found.command[1].removeprefix("--chdir=") if found.command[0] == "env" else repo
    assert _started(repo, tmp_path / "bin", given_) == [
        [str(place), list(found.command[found.command.index("uvicorn") + 1 :])]
    ]


def _started(repo: Path, programs: Path, given_: list[str]) -> list[object]:
    """What bash starts."""
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    script = f"exec 3>&1 >/dev/null 2>&1; bash start.sh {' '.join(given_)}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=repo, env=environment, capture_output=True, timeout=30, check=False
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_server_of_a_script_is_started_without_it(tmp_path: Path) -> None:
    script = (
        "#!/usr/bin/env bash\nset -e\nLEVEL=${LEVEL:-info}\nexport TOKEN=abc\nmkdir -p logs\n"
        'exec gunicorn main:app --bind 0.0.0.0:19000 \\\n  --log-level "$LEVEL"\n'
    )
    found = detect(write(tmp_path, {"main.py": FASTAPI, "start.sh": script, "Dockerfile": DOCKERFILE})).server
    assert found is not None
    assert found.command == ("gunicorn", "main:app", "--bind", "0.0.0.0:19000", "--log-level", "info")
    assert (found.port, found.why) == (19000, "the last command in start.sh")
    assert "`export TOKEN`, `mkdir -p logs`" in found.steps[0]


@pytest.mark.parametrize(
    "command", ['ENTRYPOINT ["bash", "/app/docker/start.sh"]', "CMD sh start.sh", 'ENTRYPOINT ["/start.sh"]']
)
def test_a_script_is_found_where_the_image_has_it(tmp_path: Path, command: str) -> None:
    files: dict[str, str | bytes] = {"Dockerfile": f"FROM python:3.12\n{command}\n", "main.py": FASTAPI}
    found = detect(write(tmp_path, {**files, "docker/start.sh": "uvicorn main:app --port 9000\n"}))
    assert found.server is not None
    assert found.server.command == ("uvicorn", "main:app", "--port", "9000", "--host", "0.0.0.0")
    assert not any("requires a shell" in note for note in found.notes)


@pytest.mark.parametrize("after", ["celery -A jobs worker", "wait", "gunicorn main:app"])
def test_a_script_with_more_after_the_server_is_not_read(tmp_path: Path, after: str) -> None:
    tree = read_tree(write(tmp_path, {"start.sh": f"uvicorn main:app --port 9000\n{after}\n", "main.py": FASTAPI}))
    assert read_start_script(tree, ("./start.sh",), {}) is None


def test_the_arguments_of_a_script_are_those_of_its_server(tmp_path: Path) -> None:
    docker = 'FROM python:3.12\nENTRYPOINT ["./start.sh"]\nCMD ["uvicorn", "main:app", "--port", "9000"]\n'
    files: dict[str, str | bytes] = {"Dockerfile": docker, "main.py": FASTAPI, "start.sh": 'set -e\nexec "$@"\n'}
    found = detect(write(tmp_path, files)).server
    assert found is not None
    assert found.command[:4] == ("uvicorn", "main:app", "--port", "9000")


def test_a_script_that_decides_at_run_time_is_shipped_and_its_port_is_unknown(tmp_path: Path) -> None:
    script = 'if [ -n "$DEV" ]; then\n  uvicorn main:app --port 9000\nelse\n  gunicorn main:app -b :9001\nfi\n'
    found = detect(write(tmp_path, {"main.py": FASTAPI, "start.sh": script, "Dockerfile": DOCKERFILE}))
    assert found.server is not None
    assert (found.server.command, found.server.port_known) == (("./start.sh",), False)
    assert "start.sh" in found.source
    assert any("`start.sh` starts the server" in note and "did not read it" in note for note in found.notes)


@pytest.mark.parametrize("word", ["/app/ops/run.sh", "/run.sh", "/srv/ops/run.sh"])
def test_a_script_at_another_place_of_an_image_is_run_from_its_place_here(tmp_path: Path, word: str) -> None:
    docker = f'FROM python:3.12\nENTRYPOINT ["{word}", "uvicorn", "main:app"]\n'
    script = 'if [ -n "$DEV" ]; then\n  exec "$@" --reload\nfi\nexec "$@"\n'
    found = detect(write(tmp_path, {"main.py": FASTAPI, "ops/run.sh": script, "Dockerfile": docker}))
    assert found.server is not None
    assert found.server.command == ("/app/ops/run.sh", "uvicorn", "main:app")
    assert found.source == ("main.py", "ops/run.sh")


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("entrypoint.sh", 'cat > c.ini <<EOF\nx=1\nEOF\nexec "$@"\n'),
        ("start.sh", "if true; then uvicorn main:app; fi\n"),
        ("start", "exec uvicorn main:app --port 9001\n"),
    ],
)
def test_what_is_said_of_an_unread_script_is_consistent(tmp_path: Path, name: str, script: str) -> None:
    docker = f'FROM python:3.12\nEXPOSE 9000\nENTRYPOINT ["./{name}"]\nCMD ["uvicorn", "main:app", "--port", "9000"]\n'
    files: dict[str, str | bytes] = {"main.py": FASTAPI, "Dockerfile": docker, name: f"#!/bin/sh\n{script}"}
    plan = scaffold(found := detect(write(tmp_path, files)))
    assert found.server is not None
    assert "uvicorn" in found.server.needs
    text = next(file.text for file in plan.files if file.path == "mlship.yaml")
    assert f'  command: [./{name}, uvicorn, main:app, --port, "9000"]\n' in text
    assert "# FILL IN: the port that the server listens on; unknown.\n  # port: 8080\n" in text
    assert "\n  port:" not in text
    assert "without a shell" not in text
    assert any("`serve.port`" in step for step in plan.todo)
