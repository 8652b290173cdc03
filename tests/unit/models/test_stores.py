"""Registered models in a folder, in S3 and in a registry: whole, unchanged, and one per place."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
import requests

from mlship.errors import CheckFailed, MlshipError, UsageError
from mlship.models.register import Registered, find_model, model_of, pull_model, register
from mlship.models.registered import ModelVersion, RegisteredModel, sealed
from mlship.models.stores import BucketStore, FolderStore, RegistryStore, open_store
from mlship.project.load import load_config
from mlship.project.training import TrainedFile
from mlship.registry import s3_upload
from mlship.registry.client import content
from mlship.registry.s3_settings import S3Bucket, s3_bucket
from tests.helpers.patience import limit
from tests.helpers.registry_server import RegistryState, registry_server
from tests.helpers.s3_server import KEYS, s3_server
from tests.helpers.sampling import part
from tests.helpers.trained import COMMIT, trained

SMALL_PART = 100
MLSHIP = """
import sys
import mlship.registry.s3_upload
from mlship.__main__ import main
mlship.registry.s3_upload.PART_BYTES = int(sys.argv.pop(1))
main()
"""
PLACE = f"digits/{COMMIT}/20261129T024409Z"


@dataclass
class Place:
    """A store, and how to read and damage what it has.

    Attributes:
        contents: bytes by a part of their name; change: replaces them.
    """

    address: str
    contents: Callable[[], dict[str, bytes]]
    change: Callable[[str, bytes], None]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@contextmanager
def in_folder(folder: Path, _server: str) -> Iterator[Place]:
    root = folder / "a store"

    def contents() -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def change(name: str, data: bytes) -> None:
        (root / name).chmod(0o644)
        (root / name).write_bytes(data)

    yield Place(str(root), contents, change)


@contextmanager
def in_bucket(folder: Path, server: str) -> Iterator[Place]:
    bucket = s3_bucket("models", {**KEYS, "AWS_ENDPOINT_URL": server})
    prefix = folder.name

    def contents() -> dict[str, bytes]:
        url = f"{server}/models?prefix={prefix}"
        listed = requests.get(url, headers=bucket.signed("GET", url), timeout=5)
        keys = [part.partition("</Key>")[0] for part in listed.text.split("<Key>")[1:]]
        return {key: _get(bucket.url(key), bucket) for key in keys}

    def change(name: str, data: bytes) -> None:
        headers = bucket.signed("PUT", bucket.url(name), sha256=sha256(data).hexdigest())
        requests.put(bucket.url(name), data=data, headers=headers, timeout=5).raise_for_status()

    yield Place(f"s3://models/{prefix}", contents, change)


def _get(url: str, bucket: S3Bucket) -> bytes:
    return requests.get(url, headers=bucket.signed("GET", url), timeout=5).content


@contextmanager
def in_registry(folder: Path, _server: str) -> Iterator[Place]:
    state = RegistryState()

    def contents() -> dict[str, bytes]:
        tagged = {tag: state.manifests[digest][1] for tag, digest in state.tags.items() if ":" not in tag}
        return {**{digest: data for digest, data in state.blobs.items() if data != b"{}"}, **tagged}

    def change(name: str, data: bytes) -> None:
        if name in state.blobs:
            state.blobs[name] = data
        else:
            kind = state.manifests[state.tags[name]][0]
            state.manifests[state.tags[name]] = (kind, data)

    with registry_server(state) as host:
        yield Place(f"oci://{host}/team", contents, change)


@contextmanager
def in_parts(folder: Path, server: str) -> Iterator[Place]:
    """A bucket to which each file is sent in parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlship.registry.s3_upload.PART_BYTES", SMALL_PART)
        with in_bucket(folder, server) as place:
            yield place


@pytest.fixture(params=[in_folder, in_bucket, in_parts, in_registry], ids=["folder", "s3", "s3 in parts", "registry"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with request.param(tmp_path, server) as found:
        yield found


def registered(repo: Path, place: Place, *parents: str) -> Registered:
    return register(model_of(repo, load_config(repo), None), open_store(place.address), place.address, parents)


def pulled(place: Place, text: str, folder: Path, cache: Path) -> RegisteredModel:
    return pull_model(
        open_store(place.address), place.address, text, folder, cache, lambda _: nullcontext(lambda *_: None)
    )


def test_a_model_is_registered_once_and_pulled(place: Place, tmp_path: Path) -> None:
    repo = trained(tmp_path / "repo")
    first = registered(repo, place)
    assert (first.version, first.new) == (PLACE, True)
    before = place.contents()
    assert (registered(repo, place).new, place.contents()) == (False, before)
    store = open_store(place.address)
    assert [str(version) for version in store.versions("digits")] == [PLACE]
    for text in ("digits", f"digits/{COMMIT[:7]}", f"digits/{COMMIT}", PLACE):
        assert str(find_model(store, place.address, text).version) == PLACE
    found = pulled(place, "digits", tmp_path / "out", tmp_path / "cache")
    assert found.registration.sample == "sample.json"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "golden.json",
        "metadata.json",
        "model.safetensors",
        "sample.json",
    ]
    assert (tmp_path / "out/model.safetensors").read_bytes() == (repo / "model/model.safetensors").read_bytes()
    again = pulled(place, "digits", tmp_path / "out", tmp_path / "cache")
    assert again == found


def test_another_model_never_takes_the_place(place: Place, tmp_path: Path) -> None:
    registered(trained(tmp_path / "one"), place)
    before = place.contents()
    with pytest.raises(CheckFailed, match=r"has another model as|exists and is not this"):
        registered(trained(tmp_path / "two", seed=1), place)
    with pytest.raises(CheckFailed, match="has another model as"):
        registered(trained(tmp_path / "three", metrics={"accuracy": 0.99}), place)
    assert place.contents() == before


def test_a_flipped_byte_anywhere_is_refused(place: Place, tmp_path: Path) -> None:
    registered(trained(tmp_path / "repo"), place)
    whole = place.contents()
    assert len(whole) >= 4
    for number, (name, data) in enumerate(whole.items()):
        if b"diffIds" in data and b'"modelfs"' in data:
            continue  # the configuration of a ModelPack artifact, which pulls do not read
        step = 41 if b'"registration"' in data else len(data) // 2
        for at in part(sorted({*range(0, len(data), step), len(data) - 1})):
            place.change(name, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            with pytest.raises(MlshipError):
                pulled(place, PLACE, tmp_path / f"out{number}-{at}", tmp_path / f"cache{number}-{at}")
            assert not (tmp_path / f"out{number}-{at}/metadata.json").exists()
        place.change(name, data)
    pulled(place, PLACE, tmp_path / "out", tmp_path / "cache")


def test_a_version_in_the_place_of_another_one(place: Place, tmp_path: Path) -> None:
    """It is whole, and is not what was asked for."""
    registered(trained(tmp_path / "one"), place)
    registered(trained(tmp_path / "two", seed=1, created="2026-11-30T02:44:09+00:00"), place)
    part = "COMMIT" if place.address.startswith("oci://") else "metadata.json"
    old, new = sorted(name for name in place.contents() if part.replace("COMMIT", COMMIT) in name)
    place.change(old, place.contents()[new])
    with pytest.raises(CheckFailed, match="in the place of"):
        find_model(open_store(place.address), place.address, PLACE)


def test_parents_are_registered_models(place: Place, tmp_path: Path) -> None:
    first = registered(trained(tmp_path / "one"), place)
    later = trained(tmp_path / "two", seed=1, created="2026-11-30T02:44:09+02:00")
    with pytest.raises(UsageError, match="has no model `digits/ffff`"):
        registered(later, place, "digits/ffff")
    second = registered(later, place, "digits")
    found = find_model(open_store(place.address), place.address, "digits")
    assert (str(found.version), found.registration.parents[0].checksum) == (second.version, first.checksum)


def test_a_pull_replaces_nothing(place: Place, tmp_path: Path) -> None:
    registered(trained(tmp_path / "repo"), place)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sample.json").write_text("mine")
    with pytest.raises(UsageError, match="is another file than that of"):
        pulled(place, "digits", tmp_path / "out", tmp_path / "cache")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sample.json"]


def test_writers_at_once(place: Place, tmp_path: Path) -> None:
    """Four processes, two models with one place: one model is there, whole, and its writers have success."""
    repos = [trained(tmp_path / f"repo{seed}-{copy}", seed=seed) for seed in (0, 1) for copy in (0, 1)]
    argv = [sys.executable, "-c", MLSHIP, str(s3_upload.PART_BYTES), "register", "--store", place.address]
    runs = [
        subprocess.Popen(argv, cwd=repo, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for repo in repos
    ]
    errors = [run.communicate(timeout=limit(60))[1] for run in runs]
    codes = [run.returncode for run in runs]
    assert not any("Traceback" in error for error in errors), errors
    found = pulled(place, PLACE, tmp_path / "out", tmp_path / "cache")
    seed = json.loads((tmp_path / "out/golden.json").read_text())[0]
    winners = codes[:2] if seed == 0 else codes[2:]
    assert winners == [0, 0], errors
    if not place.address.startswith("oci://"):  # where tags can be moved, another writer may have been first
        assert sorted(codes) == [0, 0, 1, 1], errors
    assert found.files["model.safetensors"].sha256


def test_a_killed_writer_leaves_no_version(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it wrote is no version, and stops no other writer."""
    repo, seen = trained(tmp_path / "repo"), list[str]()

    def killed(_path: Path, name: str, _described: TrainedFile) -> None:
        seen.append(name)
        if len(seen) > 2:
            os._exit(9)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr("mlship.models.stores.check_stored", killed)
        registered(repo, place)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert place.contents()
    assert list(open_store(place.address).versions("digits")) == []
    assert registered(repo, place).new
    pulled(place, "digits", tmp_path / "out", tmp_path / "cache")


def test_names_and_places_of_versions() -> None:
    found = ModelVersion.parse(PLACE)
    assert found is not None
    assert (str(found), found.tag) == (PLACE, f"{COMMIT}-20261129T024409Z")
    for text in ("", "digits", f"../{PLACE}", f"a/b/{PLACE}", PLACE.replace("digits", ".."), f"{PLACE}/", f"{PLACE}\n"):
        assert ModelVersion.parse(text) is None


def test_addresses_of_stores(tmp_path: Path) -> None:
    assert isinstance(open_store("s3://models"), BucketStore)
    assert isinstance(open_store("oci://127.0.0.1:5000/team"), RegistryStore)
    assert isinstance(open_store(str(tmp_path)), FolderStore)
    with pytest.raises(UsageError, match="is not a store of models"):
        open_store("https://models.example.com")
    with pytest.raises(UsageError, match="no folder"):
        list(open_store(str(tmp_path / "none")).versions(None))
    with pytest.raises(UsageError, match="does not list its repositories"):
        list(open_store("oci://127.0.0.1:5000").versions(None))


def test_a_path_that_leads_out_of_the_folder(tmp_path: Path) -> None:
    """Metadata of a store that someone else can write to."""
    repo = trained(tmp_path / "repo")
    store = Place(str(tmp_path / "store"), dict, lambda *_: None)
    registered(repo, store)
    metadata = tmp_path / "store/models" / PLACE / "metadata.json"
    metadata.chmod(0o644)
    document = json.loads(metadata.read_text())
    described = document["files"]["model.safetensors"]
    for name in ("../evil", "/etc/evil", "a b"):
        document["files"] = {name: described}
        metadata.write_bytes(sealed(document))
        with pytest.raises(CheckFailed, match="is damaged"):
            pulled(store, PLACE, tmp_path / "out", tmp_path / "cache")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"git": None}, "has no full git commit"),
        ({"git": {"commit": "0123456"}}, "has no full git commit"),
        ({"created": None}, "does not say when"),
        ({"files": {}}, "describes no files"),
        ({"metrics": {"f1": [1], "\n": 1}}, "cannot be registered"),
    ],
)
def test_records_that_trace_nothing(tmp_path: Path, record: dict[str, object], message: str) -> None:
    repo = trained(tmp_path / "repo", 0, **record)
    with pytest.raises(UsageError, match=message):
        registered(repo, Place(str(tmp_path / "store"), dict, lambda *_: None))
    assert not (tmp_path / "store").exists()


def test_the_artifact_is_one_of_modelpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with in_registry(tmp_path, "") as place:
        registered(trained(tmp_path / "repo"), place)
        found = place.contents()
        manifest = json.loads(found[f"{COMMIT}-20261129T024409Z"])
        assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
        config = json.loads(found[manifest["config"]["digest"]])
        assert config["modelfs"] == {"type": "layers", "diffIds": [row["digest"] for row in manifest["layers"]]}
        assert content("", found[manifest["layers"][-1]["digest"]]).json()["checksum"]
