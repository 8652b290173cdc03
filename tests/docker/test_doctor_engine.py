"""`mlship doctor` with a real engine: containers with a simulated GPU, and images that break it."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest

from mlship.doctor.facts.fact import UNKNOWN, Unknown, Unreadable, entry, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Libc, Nvml
from mlship.doctor.probes.base import INSIDE_SECONDS, Look
from mlship.doctor.probes.run import look
from mlship.engine import connect_read_only
from mlship.engine.look import Trial
from tests.helpers.command import mlship
from tests.helpers.patience import limit
from tests.helpers.required import unavailable
from tests.simgpu.host import LIBRARY_FOLDER, SimHost
from tests.simgpu.scenario import A100_HOST, T4_HOST

CDI = ("--device", "nvidia.com/gpu=all")
IDLE = "import time; time.sleep(60)"
STUB = "int cuInit(unsigned f) { return 34; } int cuDriverGetVersion(int *v) { *v = 12040; return 0; }"
# A compat library with an ELF note like NVIDIA's, and the error that it returns with a newer driver.
COMPAT = r"""
int cuInit(unsigned f) { return 803; }
int cuDriverGetVersion(int *v) { *v = 12090; return 0; }
__asm__(".section .note.cuda.fwd_compatibility, \"a\", %note\n .balign 4\n .long 19\n .long 2f-1f\n .long 1\n"
        ".asciz \"NVIDIA Corporation\"\n .balign 4\n"
        "1: .ascii \"{\\\"Format\\\":1,\"\n"
        " .ascii \"\\\"CUDA Version\\\":\\\"12.9\\\",\\\"Driver\\\":[535,550,575]}\"\n2: .balign 4\n .previous\n");
"""


class Build(Protocol):
    def __call__(self, dockerfile: str, **files: Path) -> str: ...


class Start(Protocol):
    def __call__(self, *options: str, command: tuple[str, ...] = ("python", "-c", IDLE)) -> str: ...


def base() -> str:
    mirror = os.environ.get("MLSHIP_BASE_MIRROR")
    return f"{mirror}/library/python:3.11-slim-bookworm" if mirror else "python:3.11-slim-bookworm"


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(("docker", *arguments), capture_output=True, text=True, check=check, timeout=limit(300))


def library(source: str, path: Path) -> Path:
    """Compile a shared library from C source."""
    compiler = shutil.which("gcc")
    if compiler is None:
        unavailable("no C compiler makes libraries for the image", "docker")
    argv = [compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-x", "c", "-", "-o", str(path)]
    subprocess.run(argv, input=source, text=True, check=True, timeout=limit(60))
    return path


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Build an image from a Dockerfile and files, and remove it afterwards."""
    made: list[str] = []

    def run(dockerfile: str, **files: Path) -> str:
        folder = tmp_path / f"context-{len(made)}"
        folder.mkdir()
        for name, path in files.items():
            shutil.copy(path, folder / name)
        (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8")
        made.append(f"mlship-doctor-test:{uuid4().hex}")
        docker("buildx", "build", "--load", "--tag", made[-1], str(folder))
        return made[-1]

    yield run
    for tag in made:
        docker("image", "rm", "--force", tag, check=False)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start containers, and remove them afterwards."""
    made: list[str] = []

    def run(*options: str, command: tuple[str, ...] = ("python", "-c", IDLE)) -> str:
        made.append(f"mlship-doctor-test-{uuid4().hex}")
        docker("run", "--detach", "--name", made[-1], "--network", "none", *options, base(), *command)
        return made[-1]

    yield run
    for name in made:
        docker("rm", "--force", "--volumes", name, check=False)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimHost]:
    made = SimHost.make(A100_HOST, tmp_path / "host")
    with made.in_containers():
        yield made


def seen(*, image: str | None = None, container: str | None = None, seconds: float = INSIDE_SECONDS) -> Facts:
    facts = look(Look(image=image, container=container, seconds=seconds))
    ours = {"docker", "podman", "toolkit", "cdi", "containerd", "kubernetes", "container", "image", "nvml", "cuda"}
    assert not [probe for probe in known(facts.probes) or () if probe.problem is not None and probe.name in ours]
    return facts


@pytest.fixture(scope="module", autouse=True)
def pulled() -> None:
    if docker("image", "inspect", base(), check=False).returncode:
        docker("pull", base())


def ours() -> list[str]:
    names = docker("ps", "--all", "--filter", "name=^mlship-doctor-[0-9a-f]{32}$", "--format", "{{.Names}}").stdout
    return names.split()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = set(ours())
    yield
    assert set(ours()) <= before


@pytest.mark.usefixtures("host")
def test_a_container_with_the_gpu(start: Start) -> None:
    box = seen(container=start(*CDI, "--shm-size", "1g", "--user", "1001:1002")).container
    assert (box.status, box.error, box.injection, box.engine) == ("running", None, "cdi", "docker")
    assert box.host_config.cdi_devices == ("nvidia.com/gpu=all",)
    assert (box.host_config.gpus, box.host_config.runtime, box.host_config.shm_size) == ((), "runc", 2**30)
    assert (box.nvml.init, box.nvml.driver_version, box.nvml.device_count) == (0, "550.54.15", 2)
    assert (box.cuda.init, box.cuda.driver_version, box.cuda.device_count) == (0, 12040, 2)
    libcuda = known(box.cuda.library)
    assert libcuda is not None
    assert libcuda.path in {f"{LIBRARY_FOLDER}/libcuda.so.1", f"{LIBRARY_FOLDER}/libcuda.so.550.54.15"}
    assert libcuda.mounted is True
    assert entry(box.env, "NVIDIA_VISIBLE_DEVICES") == "void"
    assert (box.user.uid, box.user.gid, box.shm) == (1001, 1002, 2**30)
    assert (box.libc.family, box.os.id) == ("glibc", "debian")
    assert looked_up(box.device_nodes, "/dev/nvidiactl") is None


@pytest.mark.usefixtures("host")
def test_a_simulated_driver_is_reported_as_simulated(start: Start) -> None:
    facts = seen(container=start(*CDI))
    assert facts.simulated is True
    assert facts.image.driver_libraries == ()
    assert facts.image.reference == base()


def test_a_container_without_the_gpu(start: Start) -> None:
    box = seen(container=start()).container
    assert (box.injection, box.nvml.init, box.nvml.library, box.cuda.library) == ("none", 12, None, None)
    assert (box.shm, box.host_config.shm_size) == (64 * 2**20, 64 * 2**20)


@pytest.mark.usefixtures("host")
def test_the_devices_that_a_variable_hides(start: Start) -> None:
    box = seen(container=start(*CDI, "--env", "CUDA_VISIBLE_DEVICES=-1")).container
    assert entry(box.env, "CUDA_VISIBLE_DEVICES") == "-1"


def test_the_variable_that_requests_no_gpu(start: Start) -> None:
    box = seen(container=start("--env", "NVIDIA_VISIBLE_DEVICES=none")).container
    assert (entry(box.env, "NVIDIA_VISIBLE_DEVICES"), box.cuda.library) == ("none", None)


def test_secrets_are_not_recorded(start: Start) -> None:
    facts = seen(container=start("--env", "HF_TOKEN=hf_secret", "--env", "INDEX=https://me:secret@example.org/"))
    assert "secret" not in facts.to_json()


def test_an_exited_container(start: Start) -> None:
    name = start(command=("true",))
    docker("wait", name)
    box = seen(container=name).container
    assert (box.status, box.error, box.nvml) == ("exited", None, Nvml())


def test_a_call_that_hangs_ends_in_time(start: Start, tmp_path: Path) -> None:
    with SimHost.make(T4_HOST.but("hang cuInit"), tmp_path / "host").in_containers():
        name = start(*CDI)
        box = seen(container=name, seconds=limit(15)).container
        assert (box.nvml.init, box.cuda.hangs_at) == (0, "cuInit")
        assert isinstance(box.cuda.init, Unreadable)
        left = docker("top", name, "-eo", "pid,args").stdout
        assert left.count("python") == 1  # the container's own; none of doctor's processes is left


def test_an_image_with_a_gpu_from_the_engine(host: SimHost) -> None:
    facts = seen(image=base())
    assert (facts.container.error, facts.container.injection, facts.messages) == (None, "cdi", UNKNOWN)
    assert (facts.container.nvml.init, facts.container.cuda.init) == (0, 0)
    assert (facts.image.architecture, facts.image.driver_libraries, facts.image.loader.compat) == ("amd64", (), ())


def test_an_engine_without_gpu_support() -> None:
    facts = seen(image=base())
    said = known(facts.container.error) or ""
    assert "could not select device driver" in said
    assert facts.messages == (said,)
    assert known(facts.host.docker.daemon_hooks) == {"nvidia-container-runtime-hook": None, "nvidia-cdi-hook": None}
    assert (facts.image.libc.family, facts.container.libc.family) == ("glibc", UNKNOWN)


def test_a_specification_with_missing_files(host: SimHost) -> None:
    spec = next(path for path in Path("/etc/cdi").glob("mlship-simgpu-*.json"))
    tree = json.loads(spec.read_text())
    gone = "/usr/lib/x86_64-linux-gnu/libnvidia-gone.so.535.161.07"
    tree["containerEdits"]["mounts"].append({"hostPath": gone, "containerPath": gone, "options": ["ro", "bind"]})
    spec.write_text(json.dumps(tree))
    facts = seen(image=base())
    (found,) = (one for one in known(facts.host.cdi.specs) or () if one.path == str(spec))
    assert (found.missing, found.driver_versions) == ((gone,), ("535.161.07", "550.54.15"))
    assert (found.kind, found.cdi_version, found.readable) == ("nvidia.com/gpu", "0.5.0", True)
    assert gone in (known(facts.container.error) or "")


def test_a_specification_without_a_uvm_node(host: SimHost) -> None:
    (found,) = known(seen().host.cdi.specs) or ()
    assert (found.device_nodes, found.devices[:2]) == ((), ("all", "0"))  # type: ignore[index]


@pytest.mark.usefixtures("host")
def test_a_stub_that_comes_first(build: Build, tmp_path: Path) -> None:
    image = build(
        f"FROM {base()}\nCOPY stub /usr/local/cuda/lib64/stubs/libcuda.so.1\n"
        "ENV LD_LIBRARY_PATH=/usr/local/cuda/lib64/stubs\n",
        stub=library(STUB, tmp_path / "stub.so"),
    )
    facts = seen(image=image)
    libcuda = known(facts.container.cuda.library)
    assert libcuda is not None
    assert (libcuda.path, libcuda.mounted) == ("/usr/local/cuda/lib64/stubs/libcuda.so.1", False)
    assert (facts.container.cuda.init, facts.container.nvml.init) == (34, 0)
    assert facts.image.loader.stubs == ("/usr/local/cuda/lib64/stubs",)
    assert facts.image.driver_libraries == ()


@pytest.mark.usefixtures("host")
def test_a_compat_library_that_comes_first(build: Build, tmp_path: Path) -> None:
    image = build(
        f"FROM {base()}\nCOPY compat /usr/local/cuda-12.9/compat/libcuda.so.575.57.08\n"
        "RUN ln -s libcuda.so.575.57.08 /usr/local/cuda-12.9/compat/libcuda.so.1\n"
        "ENV CUDA_VERSION=12.9.1 LD_LIBRARY_PATH=/usr/local/cuda-12.9/compat NVIDIA_REQUIRE_CUDA=cuda>=12.9\n",
        compat=library(COMPAT, tmp_path / "compat.so"),
    )
    facts = seen(image=image)
    libcuda = known(facts.container.cuda.library)
    assert libcuda is not None
    assert (libcuda.path, libcuda.version) == ("/usr/local/cuda-12.9/compat/libcuda.so.575.57.08", "575.57.08")
    assert facts.container.cuda.init == 803
    (folder,) = known(facts.image.loader.compat) or ()
    assert (folder.version, folder.driver_branches) == ("575.57.08", ("535", "550", "575"))
    assert (facts.image.cuda_version, entry(facts.image.env, "NVIDIA_REQUIRE_CUDA")) == ("12.9", "cuda>=12.9")


@pytest.mark.usefixtures("host")
def test_an_image_with_its_own_driver(build: Build, tmp_path: Path) -> None:
    path = f"{LIBRARY_FOLDER}/libnvidia-ml.so.565.57.01"
    image = build(
        f"FROM {base()}\nCOPY lib {path}\n", lib=library("int nvmlInit_v2(void) { return 18; }", tmp_path / "l")
    )
    (found,) = known(seen(image=image).image.driver_libraries) or ()
    assert (found.path, found.version, found.mounted) == (path, "565.57.01", False)


@pytest.mark.usefixtures("host")
def test_a_musl_image_without_python(build: Build) -> None:
    image = build(
        f"FROM {base()} AS tools\nRUN apt-get update -q && apt-get install -qy --no-install-recommends busybox-static\n"
        "FROM scratch\nCOPY --from=tools /bin/busybox /bin/busybox\n"
        "COPY --from=tools /bin/busybox /lib/ld-musl-x86_64.so.1\n"
        'RUN ["/bin/busybox", "--install", "-s", "/bin"]\nRUN mkdir -p /etc && echo ID=alpine > /etc/os-release\n'
    )
    facts = seen(image=image)
    assert (facts.container.libc.family, facts.container.libc.glibc_loader) == ("musl", None)
    assert facts.image.libc.musl_loader == "/lib/ld-musl-x86_64.so.1"
    assert (facts.container.os.id, facts.container.user.uid) == ("alpine", 0)
    assert entry(facts.container.env, "NVIDIA_VISIBLE_DEVICES") == "void"
    assert looked_up(facts.container.device_nodes, "/dev/nvidiactl") is None


@pytest.mark.usefixtures("host")
def test_an_image_with_a_shell_and_no_python(build: Build) -> None:
    box = seen(image=build(f"FROM {base()}\nRUN rm -f /usr/bin/python3* /usr/local/bin/python*\n")).container
    libcuda, nvml = known(box.cuda.library), known(box.nvml.library)
    assert libcuda is not None
    assert nvml is not None
    assert (libcuda.path, libcuda.mounted) == (f"{LIBRARY_FOLDER}/libcuda.so.1", True)
    assert (box.libc.family, box.user.uid, nvml.mounted) == ("glibc", 0, True)
    assert isinstance(box.cuda.init, Unknown)  # a shell cannot call libraries


def test_an_image_with_nothing_to_run(build: Build, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("nothing\n")
    facts = seen(image=build("FROM scratch\nCOPY note /\nENV CUDA_VERSION=12.4.1\n", note=tmp_path / "note"))
    assert (facts.image.cuda_version, facts.image.libc) == ("12.4", Libc())


def test_an_image_for_another_processor(tmp_path: Path) -> None:
    image = f"mlship-doctor-test:{uuid4().hex}"
    (tmp_path / "note").write_text("nothing\n")
    archive = subprocess.run(("tar", "-C", tmp_path, "-c", "note"), capture_output=True, check=True).stdout
    argv = ("docker", "import", "--platform", "linux/arm64", "-", image)
    subprocess.run(argv, input=archive, check=True, capture_output=True)
    try:
        facts = seen(image=image)
    finally:
        docker("image", "rm", "--force", image)
    assert (facts.image.architecture, facts.container.platform) == ("arm64", "linux/arm64")


def test_an_abandoned_container_ends_by_itself() -> None:
    engine = connect_read_only()
    trial = Trial(base(), ("sh", "-c", "sleep 1"))
    try:
        assert engine.start(trial).code == 0
        until = time.monotonic() + 20
        while engine.container(trial.name).lack is None and time.monotonic() < until:
            time.sleep(0.2)
        assert engine.container(trial.name).lack == "not there"
    finally:
        engine.remove(trial.name)


def causes(host: SimHost, tmp_path: Path, *arguments: str) -> list[str]:
    """The diagnosis on a host whose NVML is the simulated one."""
    done = mlship("doctor", *arguments, "--json", cwd=tmp_path, env=host.env())
    assert done.code == 1, done.stdout + done.stderr
    return [cause["finding"]["id"] for cause in json.loads(done.stdout)["causes"]]


def test_no_toolkit_is_named(tmp_path: Path) -> None:
    host = SimHost.make(A100_HOST, tmp_path / "host")
    assert causes(host, tmp_path, "--image", base()) == ["docker-no-nvidia-driver-registered"]


def test_a_stale_specification_is_named(host: SimHost, tmp_path: Path) -> None:
    spec = next(path for path in Path("/etc/cdi").glob("mlship-simgpu-*.json"))
    tree = json.loads(spec.read_text())
    gone = "/usr/lib/x86_64-linux-gnu/libnvidia-gone.so.535.161.07"
    tree["containerEdits"]["mounts"].append({"hostPath": gone, "containerPath": gone, "options": ["ro", "bind"]})
    spec.write_text(json.dumps(tree))
    assert causes(host, tmp_path, "--image", base()) == ["cdi-spec-stale-after-driver-upgrade"]


def test_a_stub_is_named(host: SimHost, build: Build, tmp_path: Path) -> None:
    image = build(
        f"FROM {base()}\nCOPY stub /usr/local/cuda/lib64/stubs/libcuda.so.1\n"
        "ENV LD_LIBRARY_PATH=/usr/local/cuda/lib64/stubs\n",
        stub=library(STUB, tmp_path / "stub.so"),
    )
    assert causes(host, tmp_path, "--image", image) == ["stub-libcuda-on-path"]


def test_a_container_started_without_the_gpu_is_named(host: SimHost, start: Start, tmp_path: Path) -> None:
    assert causes(host, tmp_path, "--container", start()) == ["runtime-35-no-libcuda"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--image", "mlship-no-such-image:1"), "the engine has no image mlship-no-such-image:1"),
        (("--container", "mlship-no-such-container"), "the engine has no container mlship-no-such-container"),
        (("--image", "a", "--container", "b"), "cannot be combined"),
        (("--image", "--privileged"), "the engine has no image --privileged"),
    ],
)
def test_a_missing_image_or_container_is_an_error(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = mlship("doctor", *arguments, cwd=tmp_path)
    assert done.code == 2
    assert said in " ".join(done.stderr.split())
