"""The command line of a build, and a build run against a `docker` that is a script: real pipes, real exit codes."""

import os
import stat
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from mlship.engine.base import BuildEvent, BuildRequest, StepFinished
from mlship.engine.buildx import BuildFiles, argv, direct, run_buildx, write_files
from mlship.errors import BuildError, EngineError, MlshipError

RECORDED = Path(__file__).parents[2] / "fixtures" / "buildx"
FILES = BuildFiles(Path("/t/Dockerfile"), {}, {})
PLAIN = BuildRequest(dockerfile="FROM x\n", ignore="*\n", context=Path("/repo"), platform="linux/amd64", tag="toy:1")


def options(request: BuildRequest, files: BuildFiles = FILES) -> list[tuple[str, str]]:
    line = argv(request, files)
    return list(pairwise(line))


def test_a_plain_build() -> None:
    assert argv(PLAIN, FILES) == [
        *("docker", "buildx", "build", "--progress=rawjson", "--provenance=false", "--sbom=false"),
        *("--file", "/t/Dockerfile", "--platform", "linux/amd64", "--tag", "toy:1"),
        *("--output", "type=docker,compression=zstd,oci-mediatypes=true", "/repo"),
    ]


def test_a_path_with_comma_and_quote_is_one_csv_field() -> None:
    request = replace(PLAIN, tag=None, export=Path('/out put/a,b"c'))
    assert ("--output", 'type=local,"dest=/out put/a,b""c"') in options(request)


def test_without_tag_and_export_nothing_is_kept() -> None:
    line = options(replace(PLAIN, tag=None))
    assert ("--output", "type=cacheonly") in line
    assert argv(replace(PLAIN, tag=None), FILES).count("--output") == 1


def test_layers_are_compressed_as_asked() -> None:
    assert ("--output", "type=docker,compression=gzip,oci-mediatypes=true,force-compression=true") in options(
        replace(PLAIN, compression="gzip")
    )


def test_secrets_are_files_not_values() -> None:
    request = replace(PLAIN, secrets={"netrc": b"hunter2"})
    line = options(request, BuildFiles(FILES.dockerfile, {"netrc": Path("/t/secret-0")}, {}))
    assert ("--secret", "id=netrc,src=/t/secret-0") in line
    assert "hunter2" not in repr(line) + repr(request)


@pytest.mark.parametrize(
    ("given", "source", "target"),
    [
        (
            "reg.example/c:1",
            "type=registry,ref=reg.example/c:1",
            "type=registry,ref=reg.example/c:1,mode=max,compression=zstd,oci-mediatypes=true",
        ),
        ("type=gha,scope=a", "type=gha,scope=a", "type=gha,scope=a"),
    ],
)
def test_caches(given: str, source: str, target: str) -> None:
    line = options(replace(PLAIN, cache_from=(given,), cache_to=(given,)))
    assert ("--cache-from", source) in line
    assert ("--cache-to", target) in line


def test_target_builder_and_contexts() -> None:
    files = replace(FILES, contexts={"wheelhouse": Path("/w h")})
    line = options(replace(PLAIN, target="final", builder="far"), files)
    assert {("--target", "final"), ("--builder", "far"), ("--build-context", "wheelhouse=/w h")} <= set(line)


COMMAND = ["docker", "buildx", "build", "--progress=rawjson", "."]


def program(path: Path, content: bytes = b"\x7fELF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(stat.S_IRWXU)
    return path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with docker, and buildx in two of the folders where it looks; returns the system's folder."""
    program(tmp_path / "bin/docker")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "user"))
    for name in ("DOCKER_TLS", "DOCKER_TLS_VERIFY"):
        monkeypatch.delenv(name, raising=False)
    program(tmp_path / "system/docker-buildx")
    return tmp_path / "system"


def test_buildx_is_started_where_docker_would_find_it(installed: Path, tmp_path: Path) -> None:
    folders = [str(tmp_path / "none"), str(installed)]
    assert direct(COMMAND, folders) == [str(installed / "docker-buildx"), "build", "--progress=rawjson", "."]
    own = program(tmp_path / "user/cli-plugins/docker-buildx")
    assert direct(COMMAND, folders)[0] == str(own)  # the user's comes first
    own.unlink()
    own.symlink_to(tmp_path / "gone")
    assert direct(COMMAND, folders)[0] == str(installed / "docker-buildx")


def podman(tmp_path: Path) -> None:
    program(tmp_path / "bin/docker", b"#!/bin/sh\nexec podman")


def no_docker(tmp_path: Path) -> None:
    (tmp_path / "bin/docker").unlink()


def other_folders(tmp_path: Path) -> None:
    program(tmp_path / "user/config.json", b'{"cliPluginsExtraDirs": ["/opt/plugins"]}')


def unreadable(tmp_path: Path) -> None:
    (tmp_path / "user/config.json").mkdir(parents=True)


def no_text(tmp_path: Path) -> None:
    program(tmp_path / "user/config.json", b"\xff\xfe{")


def no_buildx(tmp_path: Path) -> None:
    (tmp_path / "system/docker-buildx").unlink()


@pytest.mark.parametrize("change", [podman, no_docker, other_folders, unreadable, no_text, no_buildx])
def test_docker_starts_buildx_wherever_that_is_uncertain(
    change: Callable[[Path], None], installed: Path, tmp_path: Path
) -> None:
    change(tmp_path)
    assert direct(COMMAND, [str(installed)]) == COMMAND


@pytest.mark.parametrize("variable", ["DOCKER_TLS_VERIFY", "DOCKER_TLS"])
def test_docker_starts_buildx_for_an_engine_behind_tls(
    variable: str, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in GitLab's jobs with docker:dind. buildx alone ignores these variables and connects without TLS."""
    monkeypatch.setenv(variable, "1")
    assert direct(COMMAND, [str(installed)]) == COMMAND
    monkeypatch.setenv(variable, "")
    assert direct(COMMAND, [str(installed)])[0] == str(installed / "docker-buildx")


# Against a script named docker -----------------------------------------------------------------------------------


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that notes what it was given, says what was recorded, and ends with the code that is asked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(
        f"""#!{sys.executable}
import os, pathlib, sys
seen = pathlib.Path({str(tmp_path)!r})
dockerfile = pathlib.Path(sys.argv[sys.argv.index("--file") + 1])
rows = [f"{{oct(p.stat().st_mode & 0o777)}} {{p.name}} {{p.read_text().strip()}}"
        for p in sorted(dockerfile.parent.iterdir())]
secrets = [word.partition("src=")[2] for word in sys.argv if word.startswith("id=")]
rows += [f"{{path.rsplit('/', 1)[0]}} {{open(path).read()}}" for path in secrets]
rows.append(f"{{oct(dockerfile.parent.stat().st_mode & 0o777)}} {{dockerfile.parent}}")
rows.append(f"epoch {{os.environ.get('SOURCE_DATE_EPOCH')}}")
(seen / "seen").write_text("\\n".join(rows))
sys.stderr.write(open(os.environ["FAKE_LOG"]).read())
sys.exit(int(os.environ["FAKE_CODE"]))
"""
    )
    (folder / "docker").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_LOG", str(RECORDED / "success.jsonl"))
    monkeypatch.setenv("FAKE_CODE", "0")
    return tmp_path / "seen"


def test_build_hands_over_private_files_and_leaves_none(docker: Path) -> None:
    events: list[BuildEvent] = []
    run_buildx(replace(PLAIN, secrets={"netrc": b"hunter2"}, epoch=1700000000), events.append)
    dockerfile, ignore, secret, folder, epoch = docker.read_text().splitlines()
    assert dockerfile.endswith("Dockerfile FROM x")
    assert ignore.endswith("Dockerfile.dockerignore *")
    assert secret == f"/proc/{os.getpid()}/fd hunter2"  # it ends with this process
    assert epoch == "epoch 1700000000"
    mode, path = folder.split()
    assert mode == "0o700"
    assert not Path(path).exists()
    assert any(isinstance(event, StepFinished) and "COPY" in event.name for event in events)


def test_folders_are_written_for_the_build_beside_other_contexts(tmp_path: Path) -> None:
    files = {"light/install/requirements.txt": b"a==1\n", "pins.json": b"[]"}
    request = replace(PLAIN, contexts={"wheelhouse": tmp_path}, folders={"packages": files})
    contexts = write_files(request, tmp_path, {}).contexts
    assert contexts["wheelhouse"] == tmp_path
    assert (contexts["packages"] / "light/install/requirements.txt").read_bytes() == b"a==1\n"
    assert sorted(path.name for path in contexts["packages"].iterdir()) == ["light", "pins.json"]


def test_a_failing_build_names_its_step_and_its_lines(docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_LOG", str(RECORDED / "failing.jsonl"))
    monkeypatch.setenv("FAKE_CODE", "1")
    with pytest.raises(BuildError) as caught:
        run_buildx(PLAIN, lambda _: None)
    assert "step: [2/2] RUN echo out" in caught.value.message
    assert "| boom happened" in caught.value.message
    assert not Path(docker.read_text().splitlines()[-2].split()[1]).exists()


@pytest.mark.parametrize(
    ("failures", "error", "runs"),
    [
        (1, "failed to get edge: inconsistent graph state", 2),
        (9, "failed to get edge: inconsistent graph state", 2),
        (1, "connection reset by peer", 1),
        (1, "process did not complete successfully: exit code: 1", 1),
    ],
)
def test_a_build_runs_again_only_if_buildkit_lost_its_state(
    failures: int, error: str, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"""#!/bin/sh
echo >> {tmp_path}/runs
[ $(wc -l < {tmp_path}/runs) -gt {failures} ] && exit 0
echo "ERROR: failed to solve: {error}" >&2
exit 1
"""
    (tmp_path / "docker").write_text(script)
    (tmp_path / "docker").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with nullcontext() if failures < runs else pytest.raises(MlshipError, match="the image build failed"):
        run_buildx(PLAIN, lambda _: None)
    assert len((tmp_path / "runs").read_text().splitlines()) == runs


def test_a_crashing_builder_is_no_failed_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\nkill -ABRT $$\n")
    (tmp_path / "docker").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(EngineError, match="`docker buildx build` was ended by SIGABRT"):
        run_buildx(PLAIN, lambda _: None)


def test_no_docker_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="`docker` is not on PATH"):
        run_buildx(PLAIN, lambda _: None)
