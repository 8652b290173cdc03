"""A GPU model on the command line, from hosts and lock to plan, build and smoke test, on a simulated host.

What is real: pip-tools, uv, the engine, CDI, NVIDIA's CUDA runtime wheel. What is simulated: the driver, its GPUs, and
a torch that does nothing but hold memory on them.
"""

import functools
import http.server
import json
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlship.build.preflight import unproven_name
from mlship.files import sha256_file
from mlship.image.labels import PROOF
from tests.docker.gpus import no_gpus
from tests.helpers import nvidia_images
from tests.helpers.command import Command, mlship
from tests.helpers.cuda_packages import VERSION, cudart, cudnn
from tests.helpers.gpu_toy import gpu_toy
from tests.helpers.nvidia_images import shared_object
from tests.helpers.patience import limit
from tests.helpers.toy import YAML, toy
from tests.helpers.wheels import write_wheel
from tests.simgpu.host import SimHost
from tests.simgpu.scenario import A100_HOST, T4_HOST

pytestmark = pytest.mark.docker
TAG = f"mlship-test-gpu-toy:{uuid.uuid4().hex[:8]}"
UNPROVEN = unproven_name(TAG)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recorded hosts, and the lock for both."""
    folder = tmp_path_factory.mktemp("gpu-build")
    repo = gpu_toy(folder)
    for name, scenario in (("t4", T4_HOST), ("a100", A100_HOST)):
        host = SimHost.make(scenario, folder / name)
        done = mlship("hosts", "record", f"hosts/{name}.json", cwd=repo, env=host.env())
        assert done.code == 0, done.stderr
    done = mlship("lock", cwd=repo)
    assert done.code == 0, done.stderr
    assert "CUDA for a100, t4 (hosts/): 12.6: torch<2.15 cu126 from the wheel index" in done.stderr
    return repo


@pytest.fixture(scope="module", autouse=True)
def _images_go() -> Iterator[None]:
    yield
    subprocess.run(("docker", "rmi", "--force", TAG, UNPROVEN), capture_output=True, check=False, timeout=limit(60))


def inspected(name: str = TAG) -> dict[str, dict[str, str]]:
    said = subprocess.run(
        ("docker", "image", "inspect", name), capture_output=True, check=True, timeout=limit(60)
    ).stdout
    config = json.loads(said)[0]["Config"]
    return {"labels": config["Labels"], "env": dict(entry.split("=", 1) for entry in config["Env"])}


def build(repo: Path, *options: str) -> Command:
    return mlship("build", "--tag", TAG, "--json", *options, cwd=repo)


def test_the_plan_names_cuda_hosts_index_and_each_reason(repo: Path) -> None:
    plan = json.loads(mlship("plan", "--json", cwd=repo).stdout)
    gpu = plan["gpu"]
    assert (gpu["cuda"], gpu["way"], gpu["require"], gpu["hosts"]) == ("12.6", "wheels", "cuda>=12.2", ["a100", "t4"])
    assert gpu["index"].endswith("/whl/cu126")
    assert gpu["runtime"] is None
    text = mlship("plan", cwd=repo).stdout
    assert "minor-version compatibility" in text
    assert "a simulated host" in mlship("plan", cwd=repo).stderr


def test_is_proven_on_the_simulated_gpu_and_labelled_so(repo: Path, tmp_path: Path) -> None:
    with SimHost.make(A100_HOST, tmp_path / "host").in_containers():
        done = build(repo)
    assert done.code == 0, done.stderr + done.stdout
    smoke = json.loads(done.stdout)["smoke"]
    status = {check["id"]: check["status"] for check in smoke["checks"]}
    assert (status["gpu.visible"], status["gpu.used"]) == ("pass", "pass")
    assert (smoke["device"], smoke["simulated"]) == ("simulated gpu", True)
    used = next(check["seen"] for check in smoke["checks"] if check["id"] == "gpu.used")
    assert "NVML lists 1 process with 32 MiB" in used
    assert "torch" in used
    image = inspected()
    assert image["labels"][PROOF] == "simulated gpu"
    assert image["env"]["NVIDIA_REQUIRE_CUDA"] == "cuda>=12.2"
    assert image["env"]["NVIDIA_VISIBLE_DEVICES"] == "all"
    cache = ("docker", "run", "--rm", "--network=none", "--entrypoint=/sbin/ldconfig", TAG, "-p")
    assert (
        "libcudart.so.12" in subprocess.run(cache, capture_output=True, text=True, check=True, timeout=limit(60)).stdout
    )


def test_without_a_gpu_the_label_claims_only_cpu(repo: Path) -> None:
    with no_gpus():
        done = build(repo, "--smoke", "cpu")
    assert done.code == 0, done.stderr + done.stdout
    assert json.loads(done.stdout)["smoke"]["device"] == "cpu"
    assert inspected()["labels"][PROOF] == "cpu"


def test_an_engine_without_gpus_needs_smoke_cpu(repo: Path) -> None:
    with no_gpus():
        done = build(repo)
    assert done.code == 5
    assert "--smoke cpu" in done.stderr


def test_a_silent_fallback_fails_and_is_not_labelled(repo: Path, tmp_path: Path) -> None:
    model = repo / "model.py"
    kept = model.read_text()
    model.write_text(kept.replace("torch.cuda.is_available()", "False"))
    try:
        with SimHost.make(T4_HOST, tmp_path / "host").in_containers():
            done = build(repo)
    finally:
        model.write_text(kept)
    assert done.code == 1
    assert "move the model" in done.stderr, done.stderr
    assert PROOF not in inspected(UNPROVEN)["labels"]


@pytest.mark.parametrize(
    ("driver", "capability", "words", "remedy"),
    [
        ("470.57.02", "8.0", "needs driver >= 525", "update the driver"),
        ("580.65.06", "12.0", "has no kernels for", "run `mlship lock --driver 580.65.06"),
    ],
)
def test_a_host_that_cannot_run_it_is_refused_before_any_pull(
    repo: Path, driver: str, capability: str, words: str, remedy: str
) -> None:
    done = build(repo, "--driver", driver, "--compute-capability", capability)
    assert done.code == 4, done.stderr
    assert words in done.stderr
    assert "building" not in done.stderr
    assert remedy in done.stderr.partition("hint: ")[2]


def test_a_changed_fleet_makes_the_lock_stale(repo: Path, tmp_path: Path) -> None:
    kept = (repo / "hosts" / "t4.json").read_text()
    try:
        for path in (repo / "hosts").iterdir():
            profile = json.loads(path.read_text())
            path.write_text(json.dumps({**profile, "driver": "580.95.05"}))
        done = mlship("plan", cwd=repo)
    finally:
        for path in (repo / "hosts").iterdir():
            profile = json.loads(path.read_text())
            driver = json.loads(kept)["driver"] if path.name == "t4.json" else A100_HOST.driver
            path.write_text(json.dumps({**profile, "driver": driver}))
    assert done.code == 3
    assert "CUDA 12.6: torch<2.15 cu126 from the wheel index -> 13.2: torch<2.15.1 cu132" in done.stderr


def test_the_build_uses_the_index_too(tmp_path: Path) -> None:
    """The index is served over HTTP, like PyTorch's. The build requests only the pages of locked packages."""
    repo = gpu_toy(tmp_path)
    wheel = next((tmp_path / "whl/cu126/torch").glob("*.whl"))
    link = f"{wheel.name.replace('+', '%2B')}#{sha256_file(wheel).replace(':', '=')}"
    (wheel.parent / "index.html").write_text(f'<a href="{link}">{wheel.name}</a>\n')
    with served(tmp_path) as (address, host, asked):
        settings = repo / "mlship.yaml"
        settings.write_text(settings.read_text().replace(f"file://{tmp_path}/whl", f"{address}/whl"))
        env = {"PIP_TRUSTED_HOST": host, "no_proxy": host, "NO_PROXY": host}
        gpu = ("--driver", "550.54.15", "--compute-capability", "8.0")
        locked = mlship("lock", *gpu, cwd=repo, env=env)
        assert locked.code == 0, locked.stderr
        asked.clear()
        done = mlship("build", "--tag", TAG, "--no-smoke", *gpu, cwd=repo, env=env)
    assert done.code == 0, done.stderr
    assert set(asked) <= {"/whl/cu126/torch/", f"/whl/cu126/torch/{link.partition('#')[0]}"}


@contextmanager
def served(root: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Serve a folder over HTTP to build containers: address, host, and the requested paths."""
    gateway = ("docker", "network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}")
    host = subprocess.run(gateway, capture_output=True, text=True, check=True, timeout=limit(60)).stdout.strip()
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((host, 0), functools.partial(Handler, directory=root)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{host}:{server.server_port}", host, asked
        server.shutdown()


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc, to make a library that needs CUDA")
def test_libraries_missing_from_wheels_come_from_nvidias_image(tmp_path: Path, registry: str) -> None:
    """A stand-in for onnxruntime-gpu without extras: it needs CUDA 12 and cuDNN 9, and its wheel contains neither."""
    image = nvidia_images.runtime(registry)
    library = shared_object(tmp_path / "k.so", VERSION, needed=(cudart(tmp_path), cudnn(tmp_path)))
    write_wheel(tmp_path / "w", "onnxruntime_gpu", "1.22.0.post1", more={"onnxruntime_libs/k.so": library.read_bytes()})
    wanted = f"--find-links file://{tmp_path}/w\nonnxruntime-gpu==1.22.0.post1\n"
    repo = toy(tmp_path, requirements_in=wanted, mlship_yaml=f"{YAML}gpu: {{}}\nbase: {{mirror: '{registry}'}}\n")
    host = ("--driver", "580.95.05", "--compute-capability", "9.0")
    locked = mlship("lock", *host, cwd=repo)
    assert locked.code == 0, locked.stderr
    images = json.loads((repo / "mlship.lock").read_text())["images"]
    assert images == {"nvidia/cuda:12.9.2-cudnn-runtime-ubuntu22.04": image.digest}
    plan = json.loads(mlship("plan", "--json", *host, cwd=repo).stdout)["gpu"]
    assert (plan["way"], plan["cuda"], plan["runtime"]["digest"]) == ("image", "12.9", image.digest)
    done = mlship("build", "--tag", TAG, "--no-smoke", *host, cwd=repo)
    assert done.code == 0, done.stderr
    cache = ("docker", "run", "--rm", "--network=none", "--entrypoint=/sbin/ldconfig", UNPROVEN, "-p")
    found = subprocess.run(cache, capture_output=True, text=True, check=True, timeout=limit(60)).stdout
    for name in ("libcudart.so.12", "libcudnn.so.9"):
        assert f"=> /usr/local/cuda-12.9/lib64/{name}" in found
    older = mlship("plan", "--driver", "535.183.01", "--compute-capability", "7.5", cwd=repo)
    assert older.code == 3  # another CUDA version, whose image is not pinned
    assert "pins no digest for `nvidia/cuda:12.3.2-cudnn9-runtime-ubuntu22.04`" in older.stderr
