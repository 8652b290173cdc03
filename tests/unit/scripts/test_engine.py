"""scripts/engine without an engine: a fake `docker` on PATH prints what a real one would."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

SCRIPTS = Path(__file__).parents[3] / "scripts"

ANSWERING = """
case "$1" in
    version) echo 26.1.5+dfsg1 ;;
    buildx) echo github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3 ;;
    image) test -e "$PULLED" ;;
    pull) echo "$2: Pulling from library/python"; touch "$PULLED" ;;
esac
"""


@pytest.fixture(name="engine")
def _engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("PULLED", str(tmp_path / "pulled"))
    for name in ("MLSHIP_BASE_MIRROR", "DOCKER_HOST"):
        monkeypatch.delenv(name, raising=False)
    loader = SourceFileLoader("scripts_engine", str(SCRIPTS / "engine"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, loader.name, module)  # dataclasses look up their module
    loader.exec_module(module)
    monkeypatch.setattr(module._debian, "can_install", lambda: False)  # a test installs nothing
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    return module


def _docker(tmp_path: Path, script: str) -> None:
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}")
    program.chmod(0o755)


def _remember(tmp_path: Path, **values: object) -> None:
    folder = tmp_path / "state" / "mlship-engine"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("26.1.5+dfsg1", (26, 1)),
        ("v0.13.0-desktop.2", (0, 13)),
        ("Docker version 20.10.24+dfsg1, build 297e128", (20, 10)),
        ("0.9.1", (0, 9)),
        ("", (0, 0)),
        ("unknown", (0, 0)),
    ],
)
def test_versions_are_parsed_from_the_output_of_programs(
    engine: ModuleType, text: str, version: tuple[int, int]
) -> None:
    assert engine.parse_version(text) == version


def test_a_reachable_engine_is_used_and_its_images_pulled_once(
    engine: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _docker(tmp_path, ANSWERING)
    assert engine.main(["up"]) == 0
    assert "pulling python:3.11-slim-bookworm" in capsys.readouterr().err
    assert engine.main(["up"]) == 0
    assert "pulling" not in capsys.readouterr().err
    assert engine.main(["status"]) == 0
    assert "already running" in capsys.readouterr().out
    assert engine.main(["env"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("script", ["sleep 60", "echo no such host >&2; exit 1"])
def test_a_registry_that_does_not_answer_times_out(
    engine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    _docker(tmp_path, ANSWERING.replace('echo "$2: Pulling from library/python"; touch "$PULLED"', script))
    monkeypatch.setattr(engine, "REGISTRY_LIMIT", 0.1)
    assert engine._pull("python:3.11-slim-bookworm") is False
    assert engine.main(["up"]) == 75  # stand-ins would need Debian and root


@pytest.mark.parametrize("script", ["echo Pulling from x; exit 1", "echo toomanyrequests: slow down >&2; exit 1"])
def test_a_registry_that_answers_and_then_fails_means_try_again(
    engine: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], script: str
) -> None:
    _docker(tmp_path, ANSWERING.replace('echo "$2: Pulling from library/python"; touch "$PULLED"', script))
    assert engine.main(["up"]) == 75
    assert "cannot pull `python:3.11-slim-bookworm`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("permission denied while trying to connect to the Docker daemon socket", "usermod -aG docker"),
        ("Cannot connect to the Docker daemon", "install Docker Engine 23"),
    ],
)
def test_without_an_engine_the_hint_says_how_to_get_one(
    engine: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, hint: str
) -> None:
    _docker(tmp_path, f'[ "$1" = context ] || {{ echo {shlex.quote(output)} >&2; exit 1; }}')
    assert engine.main(["up"]) == 5
    assert hint in capsys.readouterr().err
    assert engine.main(["status"]) == 5


def test_a_remote_engine_is_not_replaced_by_a_local_one(
    engine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _docker(tmp_path, "exit 1")
    monkeypatch.setenv("DOCKER_HOST", "tcp://far:2375")
    assert engine.main(["up"]) == 5
    assert "`tcp://far:2375` does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("26.1.5+dfsg1", "20.10.24+dfsg1", "Docker Engine 20.10.24+dfsg1 is too old"),
        ("0.13.1+ds1", "v0.12.0", "buildx 0.13 or newer"),
    ],
)
def test_versions_that_are_too_old_are_named(
    engine: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    _docker(tmp_path, ANSWERING.replace(old, new))
    assert engine.main(["up"]) == 5
    assert message in capsys.readouterr().err


def test_env_names_the_stand_ins_unless_the_user_has_a_mirror(
    engine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _remember(tmp_path, base="stand-ins", port=5790, unknown="from a later version")
    for mirror in ("", "127.0.0.1:5790"):
        monkeypatch.setenv("MLSHIP_BASE_MIRROR", mirror)
        assert engine.main(["env"]) == 0
        assert capsys.readouterr().out == "export MLSHIP_BASE_MIRROR=127.0.0.1:5790\n"
    monkeypatch.setenv("MLSHIP_BASE_MIRROR", "mirror.example")
    assert engine.main(["env"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text", ["", "{", "[]", '{"installed": 3}'])
def test_a_broken_state_file_counts_as_empty(engine: ModuleType, tmp_path: Path, text: str) -> None:
    _remember(tmp_path)
    (tmp_path / "state" / "mlship-engine" / "state.json").write_text(text)
    assert engine.load_state() == engine.State()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_reused_pid_is_not_mistaken_for_ours(engine: ModuleType, tmp_path: Path) -> None:
    config = tmp_path / "config"
    service = engine.Background("sleep", ("sleep", "60", str(config)), config)
    with subprocess.Popen(["tail", "-f", "/dev/null", str(config)], stderr=subprocess.DEVNULL) as other:
        try:
            while b"tail" not in Path(f"/proc/{other.pid}/cmdline").read_bytes():
                time.sleep(0.01)  # between fork and exec, it still has our name
            assert not service.is_alive(other.pid)
            assert not engine._stop(service, other.pid)
            assert engine.is_stale(str(other.pid), "dockerd")
            assert not engine.is_stale(str(other.pid), "tail")
        finally:
            other.kill()
    assert not service.is_alive(other.pid)
    assert not service.is_alive(None)
    assert not service.is_alive(os.getpid())


def test_daemon_settings_of_the_machine_win(engine: ModuleType) -> None:
    config = engine.daemon_config({"log-driver": "local", "features": {"cdi": False}})
    assert config == {"log-driver": "local", "features": {"cdi": False, "containerd-snapshotter": True}}


def test_debian_sources_are_parsed_in_both_formats(engine: ModuleType) -> None:
    deb822 = """Types: deb
# a comment
URIs: http://near.example/debian/
Suites: bookworm bookworm-updates
Signed-By: /usr/share/keyrings/own.gpg

Types: deb-src
URIs: http://near.example/debian
Suites: bookworm

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
"""
    one_line = """# deb http://comment.example bookworm main
deb [arch=amd64 signed-by=/k.gpg] https://near.example/debian bookworm main contrib
deb http://near.example/security bookworm-security main
"""
    found = engine._debian.parse_deb822(deb822)
    assert [(source.uri, source.suites, source.keyring) for source in found] == [
        ("http://near.example/debian", ("bookworm", "bookworm-updates"), "/usr/share/keyrings/own.gpg")
    ]
    found = engine._debian.parse_one_line(one_line)
    assert [(source.uri, source.suites) for source in found] == [
        ("https://near.example/debian", ("bookworm",)),
        ("http://near.example/security", ("bookworm-security",)),
    ]
    assert found[0].keyring == "/k.gpg"


def test_an_interruption_exits_with_130_and_no_traceback(
    engine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _docker(tmp_path, ANSWERING)

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "_pull", interrupted)
    assert engine.main(["up"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")  # dockerd outlives the script
@pytest.mark.parametrize(("failures", "starts"), [(1, 2), (9, 2)])
def test_dockerd_that_exits_is_started_a_second_time(
    engine: ModuleType,
    tmp_path: Path,
    failures: int,
    starts: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "_clear_stale_pid_files", lambda: None)  # this machine's engine may run
    counted = tmp_path / "starts"
    counted.touch()
    _docker(tmp_path, f"[ $(wc -l < {counted}) -gt {failures} ] && echo 26.1.5 || exit 1\n")
    dockerd = tmp_path / "bin" / "dockerd"
    dockerd.write_text(f'#!/bin/sh\necho >> {counted}\necho "context deadline exceeded"\nexit 1\n')
    dockerd.chmod(0o755)
    state = engine.State()
    if failures < starts:
        engine._start_dockerd(state)
    else:
        with pytest.raises(engine.Problem, match="dockerd` exited with code 1"):
            engine._start_dockerd(state)
    assert len(counted.read_text().splitlines()) == starts
    assert "dockerd exited with code 1; starting it again" in capsys.readouterr().err
