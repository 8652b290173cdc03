"""Images with the layout of nvidia/cuda, made from NVIDIA's wheels on PyPI, in a local registry.

Real: the CUDA runtime, nvcc and what it needs. Stand-ins, made here by gcc: cuDNN, NCCL, the stubs and the driver's
library in compat/. Registries keep them, so they are made once; what lies there under their names and was not made
here is used as it is.
"""

import json
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlship.files import sha256_text
from mlship.image.plan import CudaImage
from mlship.resources import cache_folder
from tests.helpers.patience import limit

MACHINE = platform.machine()
MULTIARCH = f"usr/lib/{MACHINE}-linux-gnu"
TARGET = f"targets/{'x86_64' if MACHINE == 'x86_64' else 'sbsa'}-linux"
RECIPE = "dev.mlship.stand-in"
ENV = {
    "NVIDIA_VISIBLE_DEVICES": "all",
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    "LD_LIBRARY_PATH": "/usr/local/cuda/lib64",
    "PATH": "/usr/local/nvidia/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}


@dataclass(frozen=True)
class Kind:
    """One image: its tag, its wheels, and further files."""

    tag: str
    cuda: str
    wheels: tuple[str, ...]
    more: Callable[[Path, str], None]

    @property
    def recipe(self) -> str:
        """Changes with this file."""
        return sha256_text(f"{self.tag} {Path(__file__).read_text(encoding='utf-8')}")


def wheel(requirement: str) -> Path:
    """Download a wheel for this machine from PyPI; cached between runs."""
    name, _, version = requirement.partition("==")
    folder = cache_folder() / "test-wheels"
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not any(folder.glob(pattern)):
        download = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:")
        run(*download, "--dest", str(folder), requirement)
    return next(folder.glob(pattern))


def shared_object(path: Path, code: str = "", soname: str = "", needed: tuple[Path, ...] = ()) -> Path:
    """A library that gcc compiles; `needed` are the libraries it links to, used or not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = (f"-Wl,-soname,{soname}",) if soname else ()
    libraries = ("-Wl,--no-as-needed", *map(str, needed))
    source = ("-x", "c", "-", "-x", "none")
    run("gcc", "-shared", "-fPIC", "-o", str(path), *name, *source, *libraries, given=code)
    return path


def run(*command: str, given: str = "") -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit(300), input=given)
    assert done.returncode == 0, done.stderr
    return done.stdout


def runtime(registry: str) -> CudaImage:
    """CUDA 12.9 with cuDNN and NCCL, for a server."""
    kind = Kind("12.9.2-cudnn-runtime-ubuntu22.04", "12.9", ("nvidia-cuda-runtime-cu12==12.9.79",), _runtime)
    return _published(kind, registry)


def devel(registry: str) -> CudaImage:
    """CUDA 13.0 with a working compiler."""
    wheels = ("nvidia-cuda-nvcc==13.0.88", "nvidia-cuda-crt==13.0.88", "nvidia-nvvm==13.0.88")
    kind = Kind("13.0.2-devel-ubuntu22.04", "13.0", (*wheels, "nvidia-cuda-runtime==13.0.96"), _devel)
    return _published(kind, registry)


def _published(kind: Kind, registry: str) -> CudaImage:
    reference = f"{registry}/nvidia/cuda:{kind.tag}"
    found = _labels(reference)
    if found is None or (RECIPE in found and found[RECIPE] != kind.recipe):
        with tempfile.TemporaryDirectory() as folder:
            _write(kind, Path(folder))
            build = ("docker", "buildx", "build", "--provenance=false", "--push", "--tag", reference, folder)
            run(*build)
    manifest = json.loads(run("docker", "buildx", "imagetools", "inspect", "--format", "{{json .}}", reference))
    return CudaImage(reference, manifest["manifest"]["digest"])


def _labels(reference: str) -> dict[str, str] | None:
    """None if the registry has no such image."""
    command = ("docker", "buildx", "imagetools", "inspect", "--format", "{{json .Image}}", reference)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit(60))
    if done.returncode:
        return None
    labels: dict[str, str] = json.loads(done.stdout).get("config", {}).get("Labels") or {}
    return labels


def _write(kind: Kind, folder: Path) -> None:
    """A build context: NVIDIA's layout as a tree, and a Dockerfile with NVIDIA's environment."""
    tree = folder / "tree"
    cuda = tree / f"usr/local/cuda-{kind.cuda}"
    for requirement in kind.wheels:
        _unpack(wheel(requirement), cuda)
    for name, target in (("lib64", f"{TARGET}/lib"), ("include", f"{TARGET}/include")):
        (cuda / name).symlink_to(target)
    (tree / "etc/alternatives").mkdir(parents=True)
    (tree / "etc/alternatives/cuda").symlink_to(f"/usr/local/cuda-{kind.cuda}")
    (tree / "usr/local/cuda").symlink_to("/etc/alternatives/cuda")
    driver = shared_object(cuda / "compat/libcuda.so.575.57.08", soname="libcuda.so.1")
    (driver.parent / "libcuda.so.1").symlink_to(driver.name)
    (tree / MULTIARCH).mkdir(parents=True)
    kind.more(tree, kind.cuda)
    env = {**ENV, "CUDA_VERSION": kind.tag.partition("-")[0], "NVIDIA_REQUIRE_CUDA": f"cuda>={kind.cuda}"}
    lines = ("FROM scratch", "COPY tree /", *(f"ENV {name}={json.dumps(value)}" for name, value in env.items()))
    (folder / "Dockerfile").write_text("\n".join((*lines, f"LABEL {RECIPE}={kind.recipe}", "")))


def _unpack(path: Path, cuda: Path) -> None:
    """A wheel's files (nvidia/<part>/...) where NVIDIA's packages put them; a library gets its long name and a link."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            rest = "/".join(name.split("/")[2:])
            if not name.startswith("nvidia/") or not rest or name.endswith("/"):
                continue
            folder, _, file = rest.partition("/")
            target = cuda / (f"{TARGET}/{rest}" if folder in {"lib", "include"} else rest)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            target.chmod(0o755 if folder in {"bin", "nvvm"} else 0o644)
            if ".so." in file:
                _with_link(target, path.name.split("-")[1])


def _with_link(library: Path, version: str) -> None:
    """libcudart.so.12 becomes a link to libcudart.so.12.9.79."""
    name = library.name
    library.rename(library.with_name(f"{name.partition('.so')[0]}.so.{version}"))
    library.symlink_to(f"{name.partition('.so')[0]}.so.{version}")


def _runtime(tree: Path, cuda: str) -> None:
    for name, version in (("libcudnn", "9.10.2"), ("libnccl", "2.27.3")):
        major = version.partition(".")[0]
        library = shared_object(
            tree / MULTIARCH / f"{name}.so.{version}", "int stand_in(void) { return 1; }", f"{name}.so.{major}"
        )
        (library.parent / f"{name}.so.{major}").symlink_to(library.name)


def _devel(tree: Path, cuda: str) -> None:
    root = tree / f"usr/local/cuda-{cuda}"
    lib = root / TARGET / "lib"
    (lib / "libcudart.so").symlink_to("libcudart.so.13")
    shared_object(lib / "stubs/libcuda.so", "int cuInit(unsigned flags) { return 34; }", "libcuda.so.1")
    for library in lib.glob("libnvvm.so*"):  # 70 MB that nvcc does not need
        library.unlink()
    profile = root / "bin/nvcc.profile"
    profile.write_text(profile.read_text().replace("$(TOP)/lib", "$(TOP)/lib64"))
