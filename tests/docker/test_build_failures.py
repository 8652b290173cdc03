"""Real builds that fail or are interrupted: the errors, and that nothing is left behind."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest

from mlship.engine.base import BuildRequest, Engine
from mlship.errors import BuildError, MlshipError, TransientError, UsageError
from mlship.registry.client import digest_of
from tests.helpers.engine_contract import request
from tests.helpers.faulty_registry import Kind, faulty_registry
from tests.helpers.registry_server import RegistryState, registry_server


def fail(engine: Engine, build: BuildRequest) -> MlshipError:
    with pytest.raises(MlshipError) as caught:
        engine.build(build, lambda _: None)
    return caught.value


@pytest.mark.parametrize(
    ("last", "kind", "why"),
    [
        ("COPY nothere.py /", BuildError, "`nothere.py` does not exist"),
        ("RUN sh -c 'kill -9 $$'; exit $?", BuildError, "memory"),
        (
            "RUN --mount=type=tmpfs,target=/t,size=100000 head -c 500000 /dev/zero > /t/x",
            TransientError,
            "disk is full",
        ),
        ("RUN no-such-command", BuildError, "exit code 127"),
        ("RUN --bogus true", MlshipError, "cannot parse"),
    ],
)
def test_steps(engine: Engine, tiny_base: str, tmp_path: Path, last: str, kind: type[MlshipError], why: str) -> None:
    error = fail(engine, request(tiny_base, tmp_path, last))
    assert type(error) is kind
    assert why in error.message.splitlines()[0]


def test_ignored_files_are_not_in_the_build(engine: Engine, tiny_base: str, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").touch()
    build = BuildRequest(f"FROM {tiny_base}\nCOPY secret.txt /\n", "secret.txt\n", tmp_path, "linux/amd64")
    assert "`secret.txt` does not exist" in fail(engine, build).message


def test_unknown_builder(engine: Engine, tmp_path: Path) -> None:
    error = fail(engine, BuildRequest("FROM scratch\n", "", tmp_path, "linux/amd64", builder="no-such-builder"))
    assert isinstance(error, UsageError)
    assert "no-such-builder" in error.message


# A registry whose repository names select its answers ----------------------------------------------------------

ANSWERS = {
    "missing": (404, "MANIFEST_UNKNOWN"),
    "busy": (429, "TOOMANYREQUESTS"),
    "broken": (503, "UNAVAILABLE"),
    "forbidden": (403, "DENIED"),
}


class Registry(BaseHTTPRequestHandler):
    default_request_version = "HTTP/1.1"  # so that the engine, which tries TLS first, sees HTTP and falls back

    def do_GET(self) -> None:
        ping = self.path.rstrip("/") == "/v2"
        status, code = (200, "") if ping else ANSWERS[self.path.split("/")[3]]
        body = json.dumps({"errors": [{"code": code, "message": code}]}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def broken_registry() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.mark.parametrize(
    ("name", "kinds", "why"),
    [
        ("missing", (BuildError, UsageError), "no such image"),
        ("busy", (TransientError, TransientError), "overloaded"),
        ("broken", (TransientError, TransientError), "overloaded or failing"),
        ("forbidden", (BuildError, UsageError), "denied access"),
    ],
)
def test_registries(
    engine: Engine,
    broken_registry: str,
    tmp_path: Path,
    name: str,
    kinds: tuple[type[MlshipError], type[MlshipError]],
    why: str,
) -> None:
    """Check the error of a build, then that of a digest request."""
    reference = f"{broken_registry}/library/{name}:1"
    error = fail(engine, BuildRequest(f"FROM {reference}\n", "", tmp_path, "linux/amd64"))
    assert (type(error), why in error.message) == (kinds[0], True), error.message
    with pytest.raises(kinds[1], match=why) as caught:
        engine.resolve(reference)
    assert broken_registry in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "status", "error", "why"),
    [
        ("status", 401, UsageError, "denied access"),
        ("status", 403, UsageError, "denied access"),
        ("status", 404, UsageError, "no such repository"),
        ("status", 429, TransientError, "overloaded"),
        ("status", 500, TransientError, "overloaded or failing"),
        ("status", 503, TransientError, "overloaded or failing"),
        ("silent", 0, TransientError, "does not respond"),
        ("slow", 0, None, ""),
    ],
)
def test_pushes(
    engine: Engine, tiny_base: str, registry: str, *, kind: Kind, status: int, error: type[MlshipError] | None, why: str
) -> None:
    """A real registry behind a proxy that answers uploads wrongly: the error names it, and the tag is not there."""
    with faulty_registry(registry) as (address, fault):
        tag = f"{address}/mlship-test/{uuid4().hex[:8]}:1"
        engine.tag(tiny_base, tag)
        fault.kind, fault.status, fault.parts = kind, status, ("POST ",)
        try:
            with pytest.raises(error, match=why) if error else nullcontext() as caught:
                assert engine.push(tag).startswith("sha256:")
        finally:
            engine.untag(tag)
        fault.kind = "none"
        if caught:
            assert address in caught.value.message
            with pytest.raises(UsageError, match="no such image"):
                engine.resolve(tag)


def image_of_random_bytes(state: RegistryState) -> str:
    """Store an image that no engine has seen; returns the digest of its only layer."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        entry = tarfile.TarInfo("data")
        entry.size = 1 << 20
        archive.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    layer = gzip.compress(tar.getvalue(), 1)
    rootfs = {"type": "layers", "diff_ids": [digest_of(tar.getvalue())]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
    rows = []
    for kind, data in (("config.v1+json", config), ("layer.v1.tar+gzip", layer)):
        state.blobs[digest_of(data)] = data
        media_type = f"application/vnd.oci.image.{kind}"
        rows.append({"mediaType": media_type, "digest": digest_of(data), "size": len(data)})
    media_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": media_type, "config": rows[0], "layers": rows[1:]}
    state.put(media_type, json.dumps(manifest).encode(), "1")
    return digest_of(layer)


@pytest.mark.parametrize(
    ("kind", "status", "error", "why"),
    [
        ("corrupt", 0, TransientError, "damaged"),
        ("half", 0, TransientError, "does not respond"),
        ("status", 404, BuildError, "not all of its layers"),
        ("status", 503, TransientError, "overloaded or failing"),
        ("slow", 0, None, ""),
    ],
)
def test_layers_of_a_base(
    engine: Engine, tmp_path: Path, kind: Kind, status: int, error: type[MlshipError] | None, why: str
) -> None:
    """The registry serves the manifest of a base image, but not the bytes of its layer as they are."""
    state = RegistryState()
    layer = image_of_random_bytes(state)
    with registry_server(state) as upstream, faulty_registry(upstream) as (address, fault):
        fault.kind, fault.status, fault.parts = kind, status, (f"GET /v2/library/base/blobs/{layer}",)
        text = f"FROM {address}/library/base:1\nCOPY --from={address}/library/base:1 /data /copy\n"
        build = BuildRequest(text, "", tmp_path, "linux/amd64")
        if error is None:
            engine.build(build, lambda _: None)
        else:
            found = fail(engine, build)
            assert (type(found), why in found.message.splitlines()[0]) == (error, True), found
            fault.kind = "none"
            if kind == "corrupt":  # the engine keeps the damaged bytes until it collects its garbage
                command = "docker builder prune --filter until=8760h"
                assert f"`{command}`" in found.hint
                subprocess.run((*command.split(), "--force"), check=True, capture_output=True)
            engine.build(build, lambda _: None)
        assert fault.hits


# Ctrl-C ----------------------------------------------------------------------------------------------------------

BUILDER = """\
import sys
from pathlib import Path
from mlship.engine.base import BuildRequest, StepOutput
from mlship.engine import connect

def watch(event):
    if isinstance(event, StepOutput):
        print(event.text, flush=True)

dockerfile = f"FROM {sys.argv[1]}\\nUSER 0\\nRUN echo {sys.argv[2]} && sleep 60\\n"
request = BuildRequest(dockerfile, "", Path("."), "linux/amd64", secrets={"key": b"canary"})
try:
    connect().build(request, watch)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_ends_the_build_and_leaves_nothing(tiny_base: str, tmp_path: Path) -> None:
    mark = uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", BUILDER, tiny_base, mark],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == mark  # the step runs
        assert list(tmp_path.iterdir())
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert not list(tmp_path.iterdir())
    deadline = time.monotonic() + 20
    while programs_with(mark) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not programs_with(mark)


def programs_with(mark: str) -> list[str]:
    """Command lines on this machine with the mark: of buildx, and of the step if the engine is local."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_text(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if mark in line:
            found.append(line)
    return found
