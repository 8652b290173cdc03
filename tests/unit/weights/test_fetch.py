"""Model files that are not in git: only the locked bytes are accepted, whatever the server does."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlship.errors import CheckFailed, LockError, MlshipError, TransientError, UsageError
from mlship.project.config import Config
from mlship.project.load import parse_config
from mlship.project.weight_addresses import address_parts, checked, hub_request
from mlship.registry.s3 import opened_bucket
from mlship.registry.s3_settings import s3_bucket
from mlship.weights.fetch import fetch_weights, lock_weights
from mlship.weights.locked import check_fetched, read_weights_lock
from tests.helpers.registry_server import RegistryState, registry_server
from tests.helpers.s3_server import KEYS, s3_server

YAML = """\
name: digits
model: {{load: "serving.model:load", sample: sample.json, weights: [model.onnx], sources: {sources}}}
serve: {{command: [uvicorn]}}
source: [serving]
"""
DATA = bytes(range(256)) * 40


@dataclass
class FileServer:
    """Serves one file, and can be told to fail.

    Attributes:
        most: bytes after which it drops each connection.
        asked, authorized: the headers Range and Authorization of each request.
    """

    data: bytes = DATA
    status: int = 200
    most: int | None = None
    ranges: bool = True
    port: int = 0
    asked: list[str] = field(default_factory=list)
    authorized: list[str | None] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/files/model.onnx"


@contextmanager
def served(state: FileServer) -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.headers.get("Range", ""))
            state.authorized.append(self.headers.get("Authorization"))
            found = re.fullmatch(r"bytes=([0-9]+)-", state.asked[-1])
            start = int(found[1]) if found and state.ranges else 0
            status = (
                state.status if state.status != 200 else 416 if start >= len(state.data) > 0 else 206 if start else 200
            )
            body = state.data[start:] if status < 400 else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if state.most is None else body[: state.most])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_port
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with served(FileServer()) as state:
        yield state


@dataclass
class Repo:
    folder: Path
    cache: Path
    config: Config

    def lock(self, *, again: bool = False) -> tuple[str, ...]:
        return lock_weights(self.folder, self.config, self.cache, lambda _: nullcontext(lambda *_: None), again=again)

    def fetch(self) -> tuple[str, ...]:
        return fetch_weights(self.folder, self.config, self.cache, lambda _: nullcontext(lambda *_: None))

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"


def repo_of(folder: Path, address: str) -> Repo:
    (folder / "repo").mkdir()
    config = parse_config(YAML.format(sources=json.dumps({"model.onnx": address})))
    return Repo(folder / "repo", folder / "cache", config)


@pytest.fixture
def repo(tmp_path: Path, server: FileServer) -> Repo:
    return repo_of(tmp_path, server.address)


def test_a_file_is_locked_and_fetched_once(repo: Repo, server: FileServer) -> None:
    assert repo.lock() == ("model.onnx",)
    assert read_weights_lock(repo.folder).files["model.onnx"].sha256 == sha256(DATA).hexdigest()
    text = (repo.folder / "weights.lock").read_bytes()
    assert (repo.fetch(), repo.model.read_bytes()) == (("model.onnx",), DATA)
    assert (repo.fetch(), repo.lock(), len(server.asked)) == ((), (), 1)
    assert (repo.folder / "weights.lock").read_bytes() == text
    check_fetched(repo.folder, repo.config)


def test_without_the_cache_the_file_is_downloaded_again(repo: Repo, server: FileServer, tmp_path: Path) -> None:
    repo.lock()
    repo.cache = tmp_path / "other"
    assert (repo.fetch(), repo.model.read_bytes(), len(server.asked)) == (("model.onnx",), DATA, 2)


@pytest.mark.parametrize("change", [b"", b"\1" + DATA[1:]])
def test_a_changed_file_in_the_cache_is_downloaded_again(repo: Repo, server: FileServer, change: bytes) -> None:
    repo.lock()
    (cached,) = repo.cache.iterdir()
    cached.write_bytes(change)
    assert (repo.fetch(), repo.model.read_bytes(), len(server.asked)) == (("model.onnx",), DATA, 2)
    assert cached.read_bytes() == DATA


@pytest.mark.parametrize("change", [b"", DATA[:-1], DATA + b"x", b"\1" + DATA[1:], b"<html>sign in</html>"])
def test_another_file_at_the_source_is_refused(repo: Repo, server: FileServer, change: bytes, tmp_path: Path) -> None:
    repo.lock()
    server.data, repo.cache = change, tmp_path / "other"
    for _ in range(2):  # what arrived is no start for the next time
        with pytest.raises(CheckFailed, match="has another file than"):
            repo.fetch()
    assert not repo.model.exists()
    server.data = DATA
    assert repo.fetch() == ("model.onnx",)


def test_an_upgrade_locks_the_new_file_and_replaces_the_old_one(repo: Repo, server: FileServer) -> None:
    repo.lock()
    repo.fetch()
    server.data = b"new"
    assert repo.lock() == ()
    assert (repo.lock(again=True), repo.fetch(), repo.model.read_bytes()) == (("model.onnx",), ("model.onnx",), b"new")


def test_a_file_of_the_user_is_never_overwritten(repo: Repo) -> None:
    repo.model.write_bytes(b"mine")
    repo.lock()
    for act in (repo.fetch, lambda: check_fetched(repo.folder, repo.config)):
        with pytest.raises(UsageError, match=r"`model.onnx` is not the file that `weights.lock` has"):
            act()
    assert repo.model.read_bytes() == b"mine"


@given(cut=st.integers(0, len(DATA) - 1), second=st.integers(0, len(DATA)), ranges=st.booleans(), garbage=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_interrupted_download_ends_with_the_locked_bytes(
    tmp_path_factory: pytest.TempPathFactory, cut: int, second: int, ranges: bool, garbage: bool
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    with served(FileServer()) as server:
        repo = repo_of(folder, server.address)
        repo.lock()
        repo.cache, server.most, server.ranges = folder / "other", cut, ranges
        with pytest.raises(TransientError, match=r"ended after|no answer"):
            repo.fetch()
        (part,) = repo.cache.glob("*.part")
        if garbage:  # a damaged disk
            part.write_bytes(bytes(byte ^ 1 for byte in part.read_bytes()))
        server.most = max(second, 1)
        for _ in range(4):
            try:
                repo.fetch()
                break
            except (TransientError, CheckFailed):
                server.most = None
        assert repo.model.read_bytes() == DATA
        assert not list(repo.cache.glob("*.part"))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, UsageError), (403, UsageError), (404, UsageError), (429, TransientError), (503, TransientError)],
)
def test_servers_that_refuse(repo: Repo, server: FileServer, status: int, kind: type[MlshipError]) -> None:
    server.status = status
    with pytest.raises(kind, match=f"HTTP {status}"):
        repo.lock()
    assert not (repo.folder / "weights.lock").exists()


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="cannot download"):
        repo_of(tmp_path, "http://127.0.0.1:9/model.onnx").lock()


def test_sources_and_lock_have_to_agree(repo: Repo, tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"`weights.lock` is stale: `model.sources` has changed for model.onnx"):
        check_fetched(repo.folder, repo.config)
    repo.lock()
    with pytest.raises(UsageError, match="is not here"):
        check_fetched(repo.folder, repo.config)
    other = parse_config(YAML.format(sources="{}"))
    with pytest.raises(LockError):
        check_fetched(repo.folder, other)
    (repo.folder / "weights.lock").write_text("{")
    with pytest.raises(UsageError, match="is not a lock of model files"):
        check_fetched(repo.folder, repo.config)


def test_a_file_of_a_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `oras push` stores it: a layer with a title."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    state = RegistryState()
    with registry_server(state) as host:
        digest = f"sha256:{sha256(DATA).hexdigest()}"
        state.blobs[digest] = DATA
        layer = {"digest": digest, "size": len(DATA), "annotations": {"org.opencontainers.image.title": "model.onnx"}}
        manifest = state.put(
            "application/vnd.oci.image.manifest.v1+json", json.dumps({"layers": [layer]}).encode(), "1"
        )
        repo = repo_of(tmp_path, f"oci://{host}/models/digits@{manifest}#model.onnx")
        repo.lock()
        assert (repo.fetch(), repo.model.read_bytes()) == (("model.onnx",), DATA)
        other = repo_of(tmp_path / "cache", f"oci://{host}/models/digits@{manifest}#other.onnx")
        with pytest.raises(UsageError, match=r"has model.onnx"):
            other.lock()


def test_a_file_of_a_folder(tmp_path: Path) -> None:
    shared = tmp_path / "shared/model.onnx"
    shared.parent.mkdir()
    shared.write_bytes(DATA)
    repo = repo_of(tmp_path, f"file://{shared}")
    repo.lock()
    assert (repo.fetch(), repo.model.read_bytes()) == (("model.onnx",), DATA)
    repo.model.unlink()
    repo.cache = tmp_path / "other"
    shared.write_bytes(b"\1" + DATA[1:])
    with pytest.raises(CheckFailed, match="has another file than"):
        repo.fetch()
    shared.unlink()
    with pytest.raises(UsageError, match="is not a file"):
        repo.fetch()


def test_an_object_of_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with s3_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server)
        with opened_bucket("models") as bucket:
            bucket.put_new("digits/model.onnx", DATA)
        repo = repo_of(tmp_path, "s3://models/digits/model.onnx")
        repo.lock()
        repo.cache = tmp_path / "other"
        repo.cache.mkdir()
        (repo.cache / f"{sha256(DATA).hexdigest()}.part").write_bytes(DATA[:1000])
        assert (repo.fetch(), repo.model.read_bytes()) == (("model.onnx",), DATA)
        repo.model.unlink()
        repo.cache = tmp_path / "third"
        changed, bucket_of = b"\1" + DATA[1:], s3_bucket("models")
        url = bucket_of.url("digits/model.onnx")
        headers = bucket_of.signed("PUT", url, sha256=sha256(changed).hexdigest())
        requests.put(url, data=changed, headers=headers, timeout=5).raise_for_status()
        with pytest.raises(CheckFailed, match="has another file than"):
            repo.fetch()
        with pytest.raises(UsageError, match=r"s3://models/other: no such file \(HTTP 404\)"):
            repo_of(tmp_path / "third", "s3://models/other").lock()


@pytest.mark.parametrize(("status", "kind"), [(403, UsageError), (503, TransientError)])
def test_s3_refuses(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[MlshipError]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
    server.status = status
    with pytest.raises(kind, match=f"s3://models/digits: .*HTTP {status}"):
        repo_of(tmp_path, "s3://models/digits").lock()


def test_passwords_of_netrc(tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are for addresses without a token of their own."""
    (tmp_path / "netrc").write_text("default login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "secret")
    for number, address in enumerate((server.address, "hf://team/digits@1a2b3c/model.onnx")):
        folder = tmp_path / str(number)
        folder.mkdir()
        repo_of(folder, address).lock()
    assert server.authorized == ["Basic bWU6aHVudGVyMg==", "Bearer secret"]


def test_addresses_of_hugging_face() -> None:
    parts = address_parts("hf://team/digits@1a2b3c/onnx/model_1.onnx")
    assert hub_request(parts, {}) == ("https://huggingface.co/team/digits/resolve/1a2b3c/onnx/model_1.onnx", {})
    url, headers = hub_request(parts, {"HF_TOKEN": "secret", "HF_ENDPOINT": "https://hf.example.com/"})
    assert (url[:28], headers) == ("https://hf.example.com/team/", {"Authorization": "Bearer secret"})


def test_addresses_of_registries() -> None:
    image = f"registry.example.com:5000/models/digits@sha256:{'a' * 64}"
    assert address_parts(f"oci://{image}#model.onnx") == {"image": image, "file": "model.onnx"}
    assert address_parts(f"oci://{image}") == {"image": image, "file": ""}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model.onnx",
        "http://models.example.com/model.onnx",
        "https://models.example.com",
        "https://user:password@models.example.com/model.onnx",
        "hf://digits@main/model.onnx",
        "hf://team/digits/model.onnx",
        "oci://registry.example.com/models/digits:latest",
        "s3://bucket",
        "s3://bucket/models/",
        "file://models/model.onnx",
        "file:///models/",
        "https://models.example.com/\x1b[2J",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|printable|character"):
        checked(text)
