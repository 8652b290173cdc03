"""The Docker engine fulfils the contract and confines its containers."""

import subprocess
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest

from mlship.console import clean
from mlship.engine import connect
from mlship.engine.base import BuildRequest, Engine, RunRequest, started
from mlship.engine.buildx import direct
from mlship.engine.local import ask
from mlship.errors import BuildError, EngineError, TransientError, UsageError
from tests.docker.gpus import no_gpus
from tests.helpers.engine_contract import (
    CONTRACT,
    MEMORY,
    REPRODUCIBLE,
    SLEEP,
    Check,
    a_missing_gpu_is_an_error_and_leaves_no_container,
    request,
)
from tests.helpers.patience import limit
from tests.simgpu.host import SimHost
from tests.simgpu.scenario import T4_HOST


def docker(*arguments: str) -> str:
    return subprocess.run(("docker", *arguments), capture_output=True, text=True, check=True, timeout=limit(60)).stdout


def test_the_buildx_that_is_started_is_the_one_of_docker() -> None:
    path = '{{range .ClientInfo.Plugins}}{{if eq .Name "buildx"}}{{.Path}}{{end}}{{end}}'
    command = direct(["docker", "buildx", "build"])
    assert command[0] in (docker("info", "--format", path).strip(), "docker")


def say(engine: Engine, run: RunRequest) -> list[str]:
    with started(engine, run) as container:
        return list(engine.output(container))


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_contract(check: Check, engine: Engine, tiny_base: str, tmp_path: Path) -> None:
    try:
        with no_gpus() if check is a_missing_gpu_is_an_error_and_leaves_no_container else nullcontext():
            check(engine, tiny_base, tmp_path)
    finally:
        docker("image", "rm", "--force", REPRODUCIBLE)


def test_docker_says_what_the_engine_says_itself(
    engine: Engine, tiny_base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers() -> tuple[object, ...]:
        name = f"mlship-test-{uuid4().hex[:12]}:1"
        engine.tag(tiny_base, name)
        tagged = engine.image(name)
        engine.untag(name)
        assert tagged is not None
        assert engine.image(name) is None
        return tagged.id, engine.image(tiny_base), engine.history(tiny_base)

    asked: list[bool] = []

    def spied(method: str, path: str) -> bytes | None:
        asked.append((found := ask(method, path)) is not None)
        return found

    monkeypatch.setattr("mlship.engine.client.ask", spied)
    itself = answers()
    assert any(asked) == (ask("GET", "/_ping") is not None)
    monkeypatch.setattr("mlship.engine.client.ask", lambda _method, _path: None)
    assert answers() == itself


def test_a_container_with_gpus_stays_confined(engine: Engine, tiny_base: str, tmp_path: Path) -> None:
    look = (
        "ls /usr/lib/*/libcuda.so.1; id -u; touch /x 2>&1; grep -E 'CapEff|NoNew' /proc/self/status; ls /sys/class/net"
    )
    with SimHost.make(T4_HOST, tmp_path / "host").in_containers():
        lines = say(engine, RunRequest(tiny_base, command=("sh", "-c", look), gpu=True))
        plain = say(engine, RunRequest(tiny_base, command=("sh", "-c", look)))
    assert lines[0].endswith("/libcuda.so.1")
    assert lines[1] == "1001"
    assert "Read-only file system" in lines[2]
    assert [line.split() for line in lines[3:]] == [["CapEff:", "0000000000000000"], ["NoNewPrivs:", "1"], ["lo"]]
    assert plain[0] == "1001"


def test_container_is_confined(engine: Engine, tiny_base: str) -> None:
    script = (
        "id -u; touch /x 2>&1; touch /tmp/x && echo tmp; grep -E 'Cap|NoNewPrivs' /proc/self/status; ls /sys/class/net"
    )
    lines = say(engine, RunRequest(tiny_base, command=("sh", "-c", script)))
    assert lines[0] == "1001"
    assert "Read-only file system" in lines[1]
    assert lines[2] == "tmp"
    capabilities = {line.split()[0]: line.split()[1] for line in lines[3:-1]}
    assert capabilities.pop("NoNewPrivs:") == "1"
    assert set(capabilities.values()) == {"0" * 16}
    assert lines[-1] == "lo"


def test_interrupted_as_the_thread_that_starts_it_starts(
    engine: Engine, tiny_base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Thread.start

    def interrupted(self: Thread) -> None:
        begin(self)
        raise KeyboardInterrupt

    run = RunRequest(tiny_base, SLEEP)
    monkeypatch.setattr(Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), started(engine, run):
        pytest.fail("it was not interrupted")
    monkeypatch.undo()
    time.sleep(1)
    left = docker("ps", "--all", "--quiet", "--filter", f"name={run.name}")
    engine.remove(run.name)
    assert left == ""


def test_container_has_its_label_and_limit(engine: Engine, tiny_base: str) -> None:
    run = RunRequest(tiny_base, command=SLEEP, memory=MEMORY, env={"A": "b c"})
    with started(engine, run):
        seen = docker("inspect", "--format", "{{.Config.Labels}} {{.HostConfig.MemorySwap}} {{.Config.Env}}", run.name)
    assert f"dev.mlship.run:{run.name}" in seen
    assert f" {MEMORY} " in seen
    assert "A=b c" in seen


def test_a_second_container_shares_the_network(engine: Engine, tiny_base: str) -> None:
    look = ("readlink", "/proc/self/ns/net")
    with started(engine, RunRequest(tiny_base, command=("sh", "-c", "readlink /proc/self/ns/net; sleep 60"))) as first:
        shared = say(engine, RunRequest(tiny_base, command=look, network=f"container:{first}"))
        own = say(engine, RunRequest(tiny_base, command=look))
        assert next(engine.output(first)) == shared[0]  # the generator is closed with the container still running
    assert own != shared


def test_a_missing_program(engine: Engine, tiny_base: str) -> None:
    run = RunRequest(tiny_base, command=("no-such-program",))
    with pytest.raises(UsageError, match="no-such-program"):
        engine.start(run)
    assert run.name not in docker("ps", "--all", "--format", "{{.Names}}")


def test_secrets_reach_the_step_and_no_layer(engine: Engine, tiny_base: str, tmp_path: Path) -> None:
    tag, canary = f"mlship-test-{uuid4().hex[:12]}:1", f"canary-{uuid4().hex}"
    step = f"RUN --mount=type=secret,id=key grep -c canary /run/secrets/key && echo {uuid4()}"
    build = replace(request(tiny_base, tmp_path, step, tag=tag), secrets={"key": canary.encode()})
    lines: list[str] = []
    try:
        engine.build(build, lambda event: lines.append(getattr(event, "text", "")))
        saved = subprocess.run(("docker", "save", tag), capture_output=True, check=True, timeout=limit(60)).stdout
        assert canary.encode() not in saved
        assert canary not in docker("image", "inspect", tag)
    finally:
        docker("image", "rm", "--force", tag)
    assert "1" in lines


def test_named_context_replaces_a_stage(engine: Engine, tmp_path: Path) -> None:
    wheels, out = tmp_path / "my wheels", tmp_path / "out"
    wheels.mkdir()
    out.mkdir()
    (wheels / "a.whl").write_text("wheel")
    dockerfile = "FROM scratch AS wheelhouse\nFROM scratch\nCOPY --from=wheelhouse a.whl /\n"
    engine.build(
        BuildRequest(dockerfile, "", tmp_path, "linux/amd64", export=out, contexts={"wheelhouse": wheels}), print
    )
    assert (out / "a.whl").read_text() == "wheel"


def test_the_engines_own_builder_sees_local_images_whatever_is_selected(
    engine: Engine, tiny_base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = f"mlship-test-{uuid4().hex[:12]}:1"
    try:
        engine.build(request(tiny_base, tmp_path, "RUN true", tag=tag), print)
        monkeypatch.setenv("BUILDX_BUILDER", "no-such-builder")
        labelled = request(tag, tmp_path, "LABEL a=b", tag=tag)
        with pytest.raises(UsageError, match="no builder named"):
            engine.build(labelled, print)
        engine.build(replace(labelled, own_builder=True), print)
        info = engine.image(tag)
        assert info is not None
        assert info.labels["a"] == "b"
    finally:
        docker("image", "rm", "--force", tag)


def test_a_context_outside_the_usual_folder_is_found(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The SDK looks for contexts beside config.json, and `docker context create` makes none."""
    host = docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}").strip()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    docker("context", "create", "second", "--docker", f"host={host}")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONTEXT", "second")
    assert connect().info().version == engine.info().version
    with pytest.raises(UsageError, match="invalid image name"):
        connect().resolve("Not A Name")


def test_build_times_follow_the_epoch(engine: Engine, tiny_base: str, tmp_path: Path) -> None:
    tag = f"mlship-test-{uuid4().hex[:12]}:1"
    try:
        engine.build(replace(request(tiny_base, tmp_path, "RUN true", tag=tag), epoch=1700000000), print)
        assert docker("image", "inspect", "--format", "{{.Created}}", tag).startswith("2023-11-14T22:13:20")
    finally:
        docker("image", "rm", "--force", tag)


def test_no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    engine = connect()
    with pytest.raises(EngineError, match="cannot connect to a Docker Engine"):
        engine.image("x")
    with pytest.raises(EngineError, match="cannot connect to a Docker Engine"):
        engine.info()
    with pytest.raises(EngineError, match="cannot connect to a Docker Engine"):
        engine.build(BuildRequest("FROM scratch\n", "", tmp_path, "linux/amd64"), print)


def test_unknown_context_and_ssh_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://me@far")
    with pytest.raises(EngineError) as caught:
        connect().image("x")
    assert "ssh -fNL" in caught.value.hint
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setenv("DOCKER_CONTEXT", "no-such-context")
    with pytest.raises(EngineError, match="no-such-context"):
        connect().image("x")


def test_a_registry_that_does_not_answer_is_transient(engine: Engine) -> None:
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:1"):
        engine.resolve("127.0.0.1:1/library/python:3.11")


def test_a_bad_name_is_a_usage_error(engine: Engine) -> None:
    with pytest.raises(UsageError, match="invalid image name"):
        engine.resolve("Not A Name")


def test_waiting_is_prompt(engine: Engine, tiny_base: str) -> None:
    with started(engine, RunRequest(tiny_base, command=("sleep", "0.3"))) as container:
        begun = time.monotonic()
        assert engine.wait(container, 30) is not None
        assert time.monotonic() - begun < limit(5)


def test_errors_are_shown_without_anything_private(engine: Engine, tiny_base: str, tmp_path: Path) -> None:
    build = request(tiny_base, tmp_path, "RUN echo https://me:hunter2@index.example/ && exit 1")
    with pytest.raises(BuildError) as caught:
        engine.build(build, lambda _: None)
    shown = clean(f"{caught.value.message} {caught.value.hint}")  # as the console and reports do with every text
    assert "| https://***@index.example/" in shown
    assert "hunter2" not in shown
