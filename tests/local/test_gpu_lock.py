"""Locking for GPUs, for real: pip-tools, an index like PyPI and one like PyTorch's, with small wheels."""

import functools
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from mlship.cuda.fit.target import cpu_target, lock_target
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.errors import MatchError, TransientError
from mlship.files import sha256_file
from mlship.lock.compile import Upgrade
from mlship.lock.inputs import read_inputs
from mlship.lock.resolve import Resolved, resolve
from mlship.project.config import Config
from tests.helpers.lock_configs import config as config_of
from tests.helpers.lock_runs import HERE, DigestEngine, versions
from tests.helpers.wheels import write_index, write_wheel

if TYPE_CHECKING:
    from mlship.engine.base import Engine

T4 = HostProfile("t4", "535.183.01", (HostGpu("Tesla T4", "7.5"),))
A100 = HostProfile("a100", "550.54.15", (HostGpu("NVIDIA A100-SXM4-80GB", "8.0"),))
H100 = HostProfile("h100", "580.95.05", (HostGpu("NVIDIA H100 80GB HBM3", "9.0"),))
CUDA_13 = ("nvidia-cuda-runtime==13.0.96",)
CUDA_126 = ("nvidia-cuda-runtime-cu12==12.6.77",)


@dataclass
class Shop:
    """Two indexes on 127.0.0.1.

    Attributes:
        requests: paths that were fetched.
    """

    root: Path
    address: str
    requests: list[str] = field(default_factory=list)

    def sell(self, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
        """On the index like PyPI."""
        wheel = write_wheel(self.root / "files", name, version, requires)
        write_index(self.root / "simple", [wheel])
        canonical = self.root / "simple" / name.replace("_", "-")
        if not canonical.exists():
            canonical.symlink_to(name)

    def sell_variant(self, name: str, version: str, variant: str, requires: tuple[str, ...] = ()) -> None:
        """On the index like PyTorch's, with a wheel of another Python beside it that cannot be fetched."""
        wheel = write_wheel(self.root / "files", name, f"{version}+{variant}", requires)
        page = self.root / "whl" / variant / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        other = f"{name}-{version}+{variant}-cp399-cp399-manylinux_2_28_x86_64.whl"
        digest = sha256_file(wheel).replace(":", "=")
        page.write_text(
            f'<a href="/files/{wheel.name.replace("+", "%2B")}#{digest}">{wheel.name}</a>\n'
            f'<a href="/files/{other.replace("+", "%2B")}#sha256={"7" * 64}">{other}</a>\n'
        )


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_CERT", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    shop = Shop(tmp_path / "shop", "")
    shop.root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            shop.requests.append(self.path)
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=shop.root))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shop.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("PIP_INDEX_URL", f"{shop.address}/simple")
    try:
        yield shop
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "requirements.in").write_text("torch\nsmall\n")
    return repo


def config(shop: Shop) -> Config:
    gpu = f"gpu: {{wheel_index: {json.dumps(shop.address + '/whl')}}}\n"
    return config_of(f'python: "{HERE}"\nbase: {{distro: trixie}}\n{gpu}')


def lock(repo: Path, shop: Shop, *hosts: HostProfile) -> Resolved:
    fleet = Fleet(hosts, "hosts/", committed=True)
    target = lock_target(config(shop), read_inputs(repo, config(shop)), fleet)
    engine = cast("Engine", DigestEngine())
    return resolve(repo, config(shop), lambda: engine, Upgrade(), repo.parent / "cache", target)


def stock(shop: Shop) -> None:
    shop.sell("small", "1.0")
    shop.sell("torch", "2.14.1", CUDA_13)
    shop.sell("nvidia_cuda_runtime", "13.0.96")
    shop.sell("nvidia_cuda_runtime_cu12", "12.6.77")
    shop.sell_variant("torch", "2.14.1", "cu126", CUDA_126)
    shop.sell_variant("small", "9.0", "cu126")  # such an index has copies of other packages too


def test_the_wheel_of_the_chosen_cuda_is_locked_and_others_keep_their_index(repo: Path, shop: Shop) -> None:
    stock(shop)
    resolved = lock(repo, shop, T4, A100)
    assert versions(resolved) == {"torch": "2.14.1+cu126", "nvidia-cuda-runtime-cu12": "12.6.77", "small": "1.0"}
    assert resolved.record.inputs["cuda"] == "12.6: torch<2.15 cu126 from the wheel index"
    text = (repo / "requirements.txt").read_text()
    assert f"--hash=sha256:{'7' * 64}" in text  # of the page, since that file cannot be fetched
    assert not any("cp399" in path for path in shop.requests)
    assert "via -c mlship.lock" in text
    assert shop.address not in text


def test_where_pypis_own_wheel_runs_no_other_index_is_asked(repo: Path, shop: Shop) -> None:
    stock(shop)
    resolved = lock(repo, shop, H100)
    assert versions(resolved) == {"torch": "2.14.1", "nvidia-cuda-runtime": "13.0.96", "small": "1.0"}
    assert not any(path.startswith("/whl") for path in shop.requests)


def test_another_fleet_moves_cuda_and_nothing_else(repo: Path, shop: Shop) -> None:
    stock(shop)
    lock(repo, shop, T4)
    shop.sell("small", "2.0")
    moved = lock(repo, shop, H100)
    assert versions(moved) == {"torch": "2.14.1", "nvidia-cuda-runtime": "13.0.96", "small": "1.0"}


def test_a_newer_wheel_of_another_index_does_not_slip_in(repo: Path, shop: Shop) -> None:
    stock(shop)
    shop.sell("torch", "2.14.2", CUDA_13)
    with pytest.raises(MatchError, match=r"`torch` 2\.14\.2 is not a build for the chosen CUDA") as caught:
        lock(repo, shop, T4)
    assert "torch<2.14.2" in caught.value.hint
    assert not (repo / "requirements.txt").exists()
    assert not (repo / "mlship.lock").exists()


def test_a_wheel_index_that_does_not_answer_is_named_at_once(repo: Path, shop: Shop) -> None:
    """Else pip asks for each package again, and takes PyPI's torch, of another CUDA."""
    stock(shop)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/whl"
    gpu = f"gpu: {{wheel_index: {json.dumps(address)}}}\n"
    elsewhere = config_of(f'python: "{HERE}"\nbase: {{distro: trixie}}\n{gpu}')
    target = lock_target(elsewhere, read_inputs(repo, elsewhere), Fleet((T4,), "hosts/", committed=True))
    engine = cast("Engine", DigestEngine())
    with pytest.raises(TransientError, match=f"CUDA version: {address}/cu126/torch/") as caught:
        resolve(repo, elsewhere, lambda: engine, Upgrade(), repo.parent / "cache", target)
    assert "gpu.wheel_index" in caught.value.hint
    assert not [path for path in shop.requests if "torch" in path]
    assert not (repo / "requirements.txt").exists()


def test_a_cpu_image_locks_the_cpu_build(repo: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    stock(shop)
    shop.sell_variant("torch", "2.14.1", "cpu")
    engine, plain = cast("Engine", DigestEngine()), config_of(f'python: "{HERE}"\nbase: {{distro: trixie}}\n')
    for index, expected in ((f"{shop.address}/whl", "2.14.1+cpu"), ("http://127.0.0.1:9/whl", "2.14.1")):
        monkeypatch.setenv("MLSHIP_WHEEL_INDEX", index)
        target = cpu_target(plain, read_inputs(repo, plain))
        resolved = resolve(repo, plain, lambda: engine, Upgrade(all=True), repo.parent / "cache", target)
        assert versions(resolved)["torch"] == expected
        assert any("PyPI's torch 2.14.1 is locked" in doubt for doubt in resolved.doubts) is (expected == "2.14.1")
