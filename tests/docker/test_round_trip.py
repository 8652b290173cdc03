"""From the training to the same image again: train, convert, register, pull, build, push, inspect, rebuild.

With a real S3 API (moto's server) and a real registry; the model is a file that torch wrote.
"""

import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
import requests

from mlship.registry.s3_settings import s3_bucket
from tests.helpers.command import Command, mlship
from tests.helpers.gits import committed, git
from tests.helpers.patience import limit
from tests.helpers.required import unavailable
from tests.helpers.s3_server import KEYS, s3_server
from tests.helpers.toy import toy

pytestmark = pytest.mark.docker
STATE = Path(__file__).parents[1] / "fixtures/torch/state.pt"
STORE = "s3://models/team"
TRAIN = """\
import shutil
import sys
from training_record import record

shutil.copyfile(sys.argv[1], "state.pt")
record("metadata.json", files=["state.pt"], metrics={"accuracy": 0.9})
"""
MODEL = '''\
"""Reads one number of a safetensors file."""
import json
import struct


def load():
    with open("model/model.safetensors", "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        start, end = json.loads(file.read(length))["number"]["data_offsets"]
        file.seek(8 + length + start)
        weight = struct.unpack("<f", file.read(end - start))[0]
    return lambda payload: [[sum(payload["x"]) * weight]]
'''
YAML = """\
name: toy
model:
  load: model:load
  weights: [model/model.safetensors]
  sources: {model/model.safetensors: SOURCE}
  metadata: model/metadata.json
  sample: sample.json
  golden: golden.json
serve: {command: [python, server.py]}
source: [model.py, server.py]
smoke: {timeout_seconds: 30}
"""


@dataclass
class Trip:
    """What the first half of the trip left.

    Attributes:
        version: of the registered model; source: its address; code: commit of the training.
        env: where S3 is, with an empty cache; commands get it.
    """

    repo: Path
    note: Path
    image: str
    version: str
    source: str
    code: str
    digest: str
    env: dict[str, str]

    def run(self, *arguments: str, cwd: Path, cache: Path | None = None) -> Command:
        return mlship(*arguments, cwd=cwd, env={**self.env, **({"XDG_CACHE_HOME": str(cache)} if cache else {})})


def good(done: Command) -> str:
    assert done.code == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(scope="module")
def trip(server: str, registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trip]:
    folder = tmp_path_factory.mktemp("trip")
    env = {**KEYS, "AWS_ENDPOINT_URL": server, "XDG_CACHE_HOME": str(folder / "cache"), "MLSHIP_STORE": STORE}
    training = folder / "training"
    training.mkdir()
    (training / "training_record.py").write_text(good(mlship("training-record", cwd=folder)))
    (training / "train.py").write_text(TRAIN)
    (training / ".gitignore").write_text("*.pt\n*.json\nout\n__pycache__\n")
    code = committed(training)
    subprocess.run([sys.executable, "train.py", str(STATE)], cwd=training, check=True, timeout=limit(60))
    (training / "out").mkdir()
    options = ("--record", "metadata.json")
    good(mlship("convert", "state.pt", "out/model.safetensors", *options, cwd=training))
    registered = json.loads(
        good(mlship("register", "out/metadata.json", "--name", "toy", "--json", cwd=training, env=env))
    )
    source = registered["sources"]["model.safetensors"]

    repo = toy(folder, model_py=MODEL, golden_json="[[22.5]]\n", mlship_yaml=YAML.replace("SOURCE", source))
    (repo / ".gitignore").write_text("*.safetensors\n")
    good(mlship("models", "pull", "toy", cwd=repo, env=env))
    good(mlship("lock", cwd=repo, env=env))
    committed(repo)
    image, note = f"{registry}/mlship-test/trip-{uuid.uuid4().hex[:8]}:1", folder / "build.json"
    built = mlship(
        "build", "--reproducible", "--push", "--json", "--metadata", str(note), "-t", image, cwd=repo, env=env
    )
    digest = json.loads(good(built))["digest"]
    yield Trip(repo, note, image, registered["version"], source, code, digest, env)
    subprocess.run(["docker", "rmi", "--force", image], capture_output=True, check=False, timeout=limit(60))


def test_the_registry_tells_the_whole_story(trip: Trip, tmp_path: Path) -> None:
    found = json.loads(good(mlship("inspect", trip.image, "--json", cwd=tmp_path)))
    digest = sha256((trip.repo / "model/model.safetensors").read_bytes()).hexdigest()
    assert found["image"].endswith(trip.digest)
    assert found["labels"]["org.opencontainers.image.revision"] == git(trip.repo, "rev-parse", "HEAD")
    assert found["contents"]["machine-learning-model"] == [f"model/model.safetensors sha256:{digest}"]
    training = found["training"]
    assert (training["registration"]["version"], training["git"]["commit"]) == (trip.version, trip.code)
    assert training["git"]["dirty"] is False
    assert training["converted"]["sha256"] == sha256(STATE.read_bytes()).hexdigest()
    assert training["metrics"] == {"accuracy": 0.9}
    shown = json.loads(good(trip.run("models", "show", trip.version, "--json", cwd=tmp_path)))
    assert shown["checksum"] == training["checksum"]


def test_a_clone_gives_the_same_digest(trip: Trip, tmp_path: Path) -> None:
    git(trip.repo, "clone", "--quiet", str(trip.repo), str(tmp_path / "clone"))
    good(trip.run("fetch", cwd=tmp_path / "clone", cache=tmp_path / "cache"))
    tag = f"mlship-test-trip-{uuid.uuid4().hex[:8]}:again"
    done = trip.run("rebuild", str(trip.note), "--json", "--tag", tag, cwd=tmp_path / "clone")
    subprocess.run(["docker", "rmi", "--force", tag], capture_output=True, check=False, timeout=limit(60))
    assert json.loads(good(done))["rebuilt"] == trip.digest


def test_a_real_registry_is_a_store(trip: Trip, registry: str, tmp_path: Path) -> None:
    """Another program for artifacts reads what was registered, and `model.sources` takes its address."""
    if not shutil.which("oras"):
        unavailable("`oras` is not on PATH; on Debian, scripts/engine up installs it", "docker")
    store = f"oci://{registry}/mlship-test/{uuid.uuid4().hex[:8]}"
    argv = ("register", "model/metadata.json", "--name", "toy", "--store", store, "--json")
    first, second = (json.loads(good(mlship(*argv, cwd=trip.repo))) for _ in range(2))
    assert (first["new"], second["new"], first["version"]) == (True, False, trip.version)
    listed = json.loads(good(mlship("models", "ls", "toy", "--store", store, "--json", cwd=tmp_path)))
    assert listed == [trip.version]
    good(mlship("models", "pull", "toy", "--store", store, "--into", "a", cwd=tmp_path))
    image = first["sources"]["model.safetensors"].removeprefix("oci://").partition("#")[0]
    subprocess.run(
        ["oras", "pull", "--plain-http", "-o", tmp_path / "b", image],
        capture_output=True,
        check=True,
        timeout=limit(60),
    )
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["metadata.json", "model.safetensors"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a/model.safetensors").read_bytes() == (trip.repo / "model/model.safetensors").read_bytes()


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def put(url: str, data: bytes, server: str) -> None:
    bucket = s3_bucket("models", {**KEYS, "AWS_ENDPOINT_URL": server})
    headers = bucket.signed("PUT", url, sha256=sha256(data).hexdigest())
    requests.put(url, data=data, headers=headers, timeout=limit(10)).raise_for_status()


def test_a_flipped_byte_in_the_store_is_refused(trip: Trip, server: str, tmp_path: Path) -> None:
    url, clone = trip.source.replace("s3://", f"{server}/"), tmp_path / "clone"
    data = (trip.repo / "model/model.safetensors").read_bytes()
    git(trip.repo, "clone", "--quiet", str(trip.repo), str(clone))
    put(url, flipped(data), server)
    try:
        fetched = trip.run("fetch", cwd=clone, cache=tmp_path / "cache")
        pulled = trip.run("models", "pull", "toy", "--into", "x", cwd=clone, cache=tmp_path / "cache")
    finally:
        put(url, data, server)
    for done in (fetched, pulled):
        assert (done.code, "has another file than locked" in done.stderr) == (1, True)


def _weights(repo: Path) -> None:
    path = repo / "model/model.safetensors"
    path.write_bytes(flipped(path.read_bytes()))


def _locked(repo: Path) -> None:
    text = (repo / "weights.lock").read_text()
    at = text.index('"sha256": "') + 11
    (repo / "weights.lock").write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])


def _recorded(repo: Path) -> None:
    path = repo / "model/metadata.json"
    digest = sha256((repo / "model/model.safetensors").read_bytes()).hexdigest()
    path.write_text(path.read_text().replace(digest, digest[::-1]))


@pytest.mark.parametrize("change", [_weights, _locked, _recorded])
def test_a_change_in_the_repository_is_refused(trip: Trip, tmp_path: Path, change: Callable[[Path], None]) -> None:
    repo = tmp_path / "repo"
    shutil.copytree(trip.repo, repo)
    change(repo)
    done = trip.run("build", "--no-smoke", "-t", f"mlship-test-trip-{uuid.uuid4().hex[:8]}:1", cwd=repo)
    assert done.code in {1, 2}, done.stderr
    assert "is not the file that" in done.stderr
