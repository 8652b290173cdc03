"""No layer holds private data: use planted credentials and certificates in a build, then search the image."""

import base64
import gzip
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlship.lock.indexes import PipSettings
from tests.helpers.command import Command, mlship
from tests.helpers.patience import limit
from tests.helpers.planted import PLANTED, PRIVATE_NAMES, planted
from tests.helpers.private import CANARY, Authority
from tests.helpers.toy import YAML, toy

pytestmark = pytest.mark.docker
TAG = "mlship-test-private:latest"
ZSTD = b"\x28\xb5\x2f\xfd"


@pytest.fixture
def settings(private: PipSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set this machine's pip configuration for one test."""
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", " ".join(private.extra_index_urls))
    monkeypatch.setenv("PIP_FIND_LINKS", " ".join(private.find_links))
    monkeypatch.setenv("NETRC", str(private.netrc))
    for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(private.cert))


def needles(authority: Authority) -> list[bytes]:
    """What the image must not contain: the password, plain and as HTTP sends it, and the private CA certificate."""
    pem = (authority.bundle.parent / "ca.pem").read_text().splitlines()[1]
    encoded = [base64.b64encode(f"{user}:{CANARY}".encode()).rstrip(b"=")[:-1] for user in ("alice", "bob")]
    return [CANARY.encode(), pem.encode(), *encoded]


def blobs(archive: Path) -> Iterator[tuple[str, bytes]]:
    """All unpacked files of a saved image: manifests, configuration and layers."""
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is None:
                continue
            data = file.read()
            yield member.name, unpacked(data)


def unpacked(data: bytes) -> bytes:
    if data.startswith(ZSTD):
        from backports import zstd

        return zstd.ZstdFile(io.BytesIO(data)).read()
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def docker(*arguments: str) -> str:
    return subprocess.run(("docker", *arguments), capture_output=True, text=True, check=True, timeout=limit(120)).stdout


def plant(folder: Path) -> None:
    """Files that are named as tools name those with credentials, each with the password."""
    for name in PRIVATE_NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"password: {CANARY}")
    (folder / "labels.txt").write_text("cat\ndog\n")


def build(repo: Path) -> Command:
    done = mlship("build", "--tag", TAG, "--verbose", "--json", cwd=repo)
    assert done.code == 0, done.stderr
    return done


def test_planted_secrets_are_used_and_not_in_the_image(
    settings: None, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = toy(tmp_path, requirements_in="mlshipone\nmlshiptwo\nmlshipthree\n")
    (repo / "mlship.yaml").write_text(YAML.replace("weights.txt]", "weights.txt, assets]"))
    plant(repo / "assets")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    locked = mlship("lock", cwd=repo)
    assert locked.code == 0, locked.stderr
    built = build(repo)
    # The build used them: these packages need the password, the CA and the local folder.
    import_all = "import mlshipone, mlshiptwo, mlshipthree"
    docker("run", "--rm", "--network=none", TAG, "python", "-c", import_all)

    archive = tmp_path / "image.tar"
    docker("save", "--output", str(archive), TAG)
    texts = {
        "history": docker("history", "--no-trunc", TAG),
        "inspect": docker("inspect", TAG),
        "lock": locked.stdout + locked.stderr,
        "build": built.stdout + built.stderr,
        "plan": mlship("plan", "--json", cwd=repo).stdout,
        "dockerfile": mlship("dockerfile", cwd=repo).stdout,
        **{path.name: path.read_text() for path in repo.iterdir() if path.is_file()},
    }
    found = [name for name, text in texts.items() if any(needle.decode() in text for needle in needles(authority))]
    layers = 0
    for name, data in blobs(archive):
        layers += 1
        found += [name for needle in needles(authority) if needle in data]
    assert layers > 8
    assert found == []
    assert not any((tmp_path / "temporary").iterdir())
    assert [name for name in PRIVATE_NAMES if f"assets/{name.partition('/')[0]}" not in built.stderr] == []


def test_a_credential_in_a_shipped_file_stops_the_build_before_the_engine(tmp_path: Path) -> None:
    repo = toy(tmp_path)
    assert mlship("lock", cwd=repo).code == 0
    (repo / "mlship.yaml").write_text(YAML.replace("weights.txt]", "weights.txt, assets]"))
    (repo / "assets").mkdir()
    for name in PLANTED:
        (repo / "assets" / name).write_text(planted(name, 7))
    done = mlship("build", "--tag", TAG, cwd=repo)
    assert done.code == 2
    assert [name for name in PLANTED if f"`assets/{name}` line" not in done.stderr] == []
    assert [name for name in PLANTED if planted(name, 7) in done.stdout + done.stderr] == []


def test_the_search_finds_planted_secrets(authority: Authority, tmp_path: Path) -> None:
    """The control: the search finds both in an image with the password and the certificate."""
    (tmp_path / "pip.conf").write_text(f"extra-index-url = https://alice:{CANARY}@host/simple")
    (tmp_path / "ca.pem").write_bytes((authority.bundle.parent / "ca.pem").read_bytes())
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY pip.conf ca.pem /etc/\n")
    docker("buildx", "build", "--load", "--provenance=false", "--tag", "mlship-test-canary:latest", str(tmp_path))
    archive = tmp_path / "canary.tar"
    docker("save", "--output", str(archive), "mlship-test-canary:latest")
    docker("rmi", "mlship-test-canary:latest")
    hits = {needle for _, data in blobs(archive) for needle in needles(authority) if needle in data}
    assert set(needles(authority)[:2]) <= hits


def test_a_password_in_requirements_is_refused(tmp_path: Path) -> None:
    repo = toy(tmp_path, requirements_in=f"--extra-index-url https://u:{CANARY}@host/simple\niniconfig\n")
    done = mlship("lock", cwd=repo)
    assert done.code == 2
    assert CANARY not in done.stderr


def test_the_dockerfile_is_the_same_with_and_without(
    settings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = toy(tmp_path)
    assert mlship("lock", cwd=repo).code == 0
    one = mlship("dockerfile", cwd=repo).stdout
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_CERT", "NETRC", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    assert mlship("dockerfile", cwd=repo).stdout == one
    assert json.loads(mlship("plan", "--json", cwd=repo).stdout)["schema"] == 2
