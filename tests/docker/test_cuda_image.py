"""Build CUDA libraries into a Debian-slim image in all three ways, and check the content of the image.

No GPU is needed: libcudart returns its version without one. tests/helpers/nvidia_images.py describes the
stand-ins.
"""

import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mlship.engine.base import BuildRequest, Engine
from mlship.errors import BuildError
from mlship.image.context import build_context, wheelhouse
from mlship.image.decide import make_plan
from mlship.image.dockerfile import dockerfile, dockerignore
from mlship.image.plan import GpuPlan
from mlship.lock.check import Lock
from mlship.lock.indexes import read_pip_settings
from mlship.lock.pins import parse_lock
from mlship.lock.record import LockRecord
from mlship.lock.secrets import build_secrets
from mlship.lock.wheelhouse import stage
from mlship.project.base import base_name, base_reference
from mlship.project.git import Revision
from mlship.project.load import load_config
from mlship.resources import cache_folder
from tests.helpers import nvidia_images
from tests.helpers.cuda_packages import CUDART, VERSION, cudart, cudnn
from tests.helpers.nvidia_images import shared_object, wheel
from tests.helpers.patience import limit
from tests.helpers.toy import YAML, toy
from tests.helpers.wheels import pin_line, write_sdist, write_wheel

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc, to make libraries that need CUDA"),
]
ASK = "import ctypes, mlshipkernel as k; print(ctypes.CDLL(k.__file__[:-3] + '_libs/k.so').version())"


@dataclass(frozen=True)
class Image:
    """A built image, inspected as user 1001, read-only, without capabilities and without a network."""

    tag: str

    def run(self, *command: str) -> str:
        confined = ("--read-only", "--cap-drop=ALL", "--network=none", "--env=PYTHONDONTWRITEBYTECODE=1")
        run = ("docker", "run", "--rm", *confined, "--entrypoint", command[0], self.tag, *command[1:])
        done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=limit(60))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def files(self, *names: str) -> list[str]:
        """Paths below /usr, /opt and /app that match one of these patterns of `find -name`."""
        wanted = " -o ".join(f"-name '{name}'" for name in names)
        return self.run("sh", "-c", f"find /usr /opt /app \\( {wanted} \\)").splitlines()

    def cached(self) -> dict[str, str]:
        """CUDA libraries in the loader's cache: paths by name."""
        found = re.findall(r"(lib(?:cu|nccl|nv)\S+) \(.*\) => (\S+)", self.run("/usr/sbin/ldconfig", "-p"))
        return dict(found)


Build = Callable[[list[Path], GpuPlan], Image]


@pytest.fixture
def build(engine: Engine, tmp_path: Path) -> Iterator[Build]:
    """Build the toy repository with a lock of these wheels for this GPU plan."""
    repo = toy(tmp_path, mlship_yaml=YAML + "gpu: {}\n")
    tags: list[str] = []

    def build(wheels: list[Path], gpu: GpuPlan) -> Image:
        tags.append(f"mlship-test-cuda:{uuid.uuid4().hex[:8]}")
        engine.build(_request(engine, repo, wheels, gpu, tags[-1]), lambda _: None)
        return Image(tags[-1])

    yield build
    subprocess.run(("docker", "rmi", "--force", *tags), capture_output=True, check=False, timeout=limit(60))


def _request(engine: Engine, repo: Path, wheels: list[Path], gpu: GpuPlan, tag: str) -> BuildRequest:
    config = load_config(repo)
    text = "".join(map(pin_line, wheels))
    (repo / "requirements.txt").write_text(text)
    digest = engine.resolve(base_reference(config))
    record = LockRecord({}, f"sha256:{'2' * 64}", base_name(config), digest, "by hand")
    lock = Lock(record, parse_lock(text, "lock"), text)
    plan = make_plan(config, lock, (), Revision(), "{}", gpu=gpu)
    settings = read_pip_settings()
    local = replace(settings, find_links=(*settings.find_links, *{str(path.parent) for path in wheels}))
    return BuildRequest(
        dockerfile=dockerfile(plan),
        ignore=dockerignore(plan),
        context=repo,
        platform=plan.platform,
        tag=tag,
        secrets=build_secrets(settings),
        contexts={"wheelhouse": stage(local, wheelhouse(plan, lock), cache_folder())},
        folders={"packages": build_context(plan, lock, config)},
    )


def kernel(folder: Path, *needed: Path, code: str = VERSION) -> Path:
    """A wheel with a library that needs these libraries."""
    library = shared_object(folder / "k.so", code, needed=needed)
    return write_wheel(folder / "kernel", "mlshipkernel", more={"mlshipkernel_libs/k.so": library.read_bytes()})


def fail(build: Build, wheels: list[Path], gpu: GpuPlan) -> BuildError:
    with pytest.raises(BuildError) as caught:
        build(wheels, gpu)
    return caught.value


WHEELS = GpuPlan(cuda="12.9", way="wheels", require="cuda>=12.0")


def test_libraries_in_wheels_are_found(build: Build, tmp_path: Path) -> None:
    image = build([wheel(CUDART), kernel(tmp_path, cudart(tmp_path))], WHEELS)
    folder = "/opt/venv/lib/python3.11/site-packages/nvidia/cuda_runtime/lib"
    assert image.cached() == {"libcudart.so.12": f"{folder}/libcudart.so.12"}
    assert image.run("cat", "/etc/ld.so.conf.d/mlship-cuda.conf") == f"{folder}\n"
    assert image.run("python", "-c", ASK) == "12090\n"
    assert image.files("libraries.py", "aux-cache") == []
    env = image.run("env")
    assert "NVIDIA_VISIBLE_DEVICES=all\n" in env
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility\n" in env
    assert "NVIDIA_REQUIRE_CUDA=cuda>=12.0\n" in env
    assert "LD_LIBRARY_PATH" not in env


def test_a_missing_library_fails_the_build_and_is_named(build: Build, tmp_path: Path) -> None:
    error = fail(build, [wheel(CUDART), kernel(tmp_path, cudart(tmp_path), cudnn(tmp_path))], WHEELS)
    assert (
        "mlshipkernel_libs/k.so needs libcudnn.so.9, and nothing in the image has it" in error.message.splitlines()[0]
    )
    assert "nvidia-cudnn-cu12" in error.hint


def test_a_driver_in_the_image_fails_the_build(build: Build, tmp_path: Path) -> None:
    """The image's Debian packages or wheels may contain a driver, which would not match the host's kernel module."""
    library = shared_object(tmp_path / "libcuda.so.1", soname="libcuda.so.1").read_bytes()
    brings = write_wheel(tmp_path / "bad", "mlshipkernel", more={"mlshipkernel_libs/libcuda.so.1": library})
    error = fail(build, [brings], WHEELS)
    assert "mlshipkernel_libs/libcuda.so.1 is of a driver" in error.message


@pytest.mark.parametrize("compat", [False, True])
def test_only_libraries_are_copied_from_nvidias_image(
    build: Build, registry: str, tmp_path: Path, compat: bool
) -> None:
    gpu = GpuPlan(
        "12.9",
        "image",
        "cuda>=12.9",
        runtime=nvidia_images.runtime(registry),
        compat=nvidia_images.runtime(registry) if compat else None,
    )
    image = build([kernel(tmp_path, cudart(tmp_path), cudnn(tmp_path))], gpu)
    folder = "/usr/local/cuda-12.9/lib64"
    names = ("libcudart.so.12", "libcudnn.so.9", "libnccl.so.2")
    assert image.cached() == {name: f"{folder}/{name}" for name in names}
    assert image.run("python", "-c", ASK) == "12090\n"
    long = {"libcudart.so.12.9.79", "libcudnn.so.9.10.2", "libnccl.so.2.27.3"}
    assert set(image.run("ls", folder).split()) == {*names, *long}  # the links are still links, as the size shows
    assert image.run("readlink", f"{folder}/libcudart.so.12", "/usr/local/cuda") == "libcudart.so.12.9.79\ncuda-12.9\n"
    assert image.files("stubs", "*.a", "cuda_runtime.h", "targets") == []
    assert ("/usr/local/cuda-12.9/compat/libcuda.so.1" in image.files("libcuda.so*")) is compat
    assert layer(image, "/layers/cuda-libraries/ / # buildkit") < 2_000_000


def layer(image: Image, created_by: str) -> int:
    """Size in bytes of the layer from this instruction."""
    command = ("docker", "history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image.tag)
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=limit(60)).stdout
    return next(int(line.split()[0]) for line in said.splitlines() if created_by in line)


def test_cuda_twice_fails_the_build(build: Build, registry: str, tmp_path: Path) -> None:
    gpu = GpuPlan("12.9", "image", "cuda>=12.9", runtime=nvidia_images.runtime(registry))
    error = fail(build, [wheel(CUDART), kernel(tmp_path, cudart(tmp_path))], gpu)
    assert "CUDA is in the image twice: libcudart is in " in error.message.splitlines()[0]


SETUP = """\
import os
import subprocess

import mlshipbase
from setuptools import setup

nvcc = os.environ["CUDA_HOME"] + "/bin/nvcc"
flags = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in os.environ["CUDAARCHS"].split(";")]
flags += ["-shared", "-Xcompiler=-fPIC", "-cudart=shared", "-lcuda"]
subprocess.run([nvcc, *flags, "-o", "mlshipkernel.so", "k.cu"], check=True)
with open("mlshipkernel.py", "w") as file:
    file.write(f"ARCHITECTURES = {os.environ['TORCH_CUDA_ARCH_LIST']!r}")
setup(name="mlshipkernel", version="1.0", py_modules=["mlshipkernel"], data_files=[("lib/mlship", ["mlshipkernel.so"])])
"""
KERNEL = """\
#include <cuda.h>
#include <cuda_runtime.h>
__global__ void twice(float *x) { x[threadIdx.x] *= 2; }
extern "C" int version() { int found = 0; cudaRuntimeGetVersion(&found); return found; }
extern "C" int launch(float *x) { twice<<<1, 32>>>(x); return cudaGetLastError(); }
"""


def test_compiled_packages_do_not_need_the_compiler(build: Build, registry: str, tmp_path: Path) -> None:
    """Like flash-attn, the source archive needs another locked package and setuptools to build."""
    setuptools = wheel("setuptools==80.9.0")
    base = write_wheel(tmp_path / "base", "mlshipbase")
    sdist = write_sdist(tmp_path / "sdist", "mlshipkernel", {"setup.py": SETUP, "k.cu": KERNEL})
    gpu = GpuPlan(
        cuda="13.0",
        way="wheels",
        require="cuda>=13.0",
        devel=nvidia_images.devel(registry),
        compiled=("mlshipkernel",),
        devices=("H100 (9.0)", "T4 (7.5)"),
        architectures=("7.5", "9.0"),
    )
    image = build([wheel("nvidia-cuda-runtime==13.0.96"), setuptools, base, sdist], gpu)
    folder = "/opt/venv/lib/python3.11/site-packages/nvidia/cu13/lib"
    assert image.cached() == {"libcudart.so.13": f"{folder}/libcudart.so.13"}
    ask = "import ctypes; print(ctypes.CDLL('/opt/venv/lib/mlship/mlshipkernel.so').version())"
    assert image.run("python", "-c", f"import mlshipkernel as k; print(k.ARCHITECTURES); {ask}") == "7.5 9.0\n13000\n"
    assert image.files("nvcc", "ptxas", "cicc", "g++*", "cc1plus", "stubs", "libcuda.so*", "compiled.txt") == []
    assert image.run("ls", "/usr/local") == "bin\netc\ngames\ninclude\nlib\nman\nsbin\nshare\nsrc\n"


def test_a_real_package_without_its_cuda_fails_the_build(build: Build, tmp_path: Path) -> None:
    """The package has 290 MB and is downloaded once. Its Python dependencies are stand-ins, since nothing runs."""
    needs = ("coloredlogs", "flatbuffers", "numpy", "packaging", "protobuf", "sympy")
    others = [write_wheel(tmp_path / "others", name, "2.0") for name in needs]
    error = fail(build, [wheel("onnxruntime-gpu==1.22.0"), *others], WHEELS)
    first = error.message.splitlines()[0]
    assert "onnxruntime/capi/libonnxruntime_providers_cuda.so needs libcublasLt.so.12, " in first
    assert "libcudnn.so.9" in first
    assert "onnxruntime-gpu[cuda,cudnn]" in error.hint
    assert "libonnxruntime_providers_tensorrt.so is not looked at: it also needs libnvinfer.so.10" in error.message
