"""The Dockerfile of an image for GPUs: what each way adds, and that an image for the CPU has none of it."""

import re
from dataclasses import replace

import pytest

from mlship.image.decide import make_plan
from mlship.image.dockerfile import dockerfile
from mlship.image.plan import BuildPlan, CudaImage, GpuPlan
from mlship.image.steps import step_titles
from mlship.lock.check import Lock
from mlship.lock.groups import PackageLayer
from mlship.lock.pins import parse_lock
from mlship.lock.record import LockRecord
from mlship.project.git import Revision
from mlship.project.load import parse_config
from mlship.versioned import adapter
from tests.helpers.dockerfiles import numbered_steps

YAML = """\
name: digits
model: {load: "serving.model:load", sample: sample.json}
serve: {command: [uvicorn, "serving.app:app"]}
source: [serving]
gpu: {}
"""
PINS = f"flash-attn==2.8.3 --hash=sha256:{'a' * 64}\ntorch==2.9.0 --hash=sha256:{'b' * 64}\n"
DIGEST = f"sha256:{'1' * 64}"
RUNTIME = CudaImage("nvidia/cuda:12.6.3-cudnn-runtime-ubuntu22.04", DIGEST)
DEVEL = CudaImage("nvidia/cuda:12.6.3-devel-ubuntu22.04", DIGEST)
WHEELS = GpuPlan("12.6", "wheels", "cuda>=12.0")
IMAGE = GpuPlan("12.6", "image", "cuda>=12.6", runtime=RUNTIME)
COMPAT = replace(IMAGE, compat=IMAGE.runtime)
COMPILED = replace(WHEELS, devel=DEVEL, compiled=("flash-attn",), architectures=("7.5", "8.0"))
EVERY = pytest.mark.parametrize("gpu", [WHEELS, IMAGE, COMPAT, COMPILED], ids=["wheels", "image", "compat", "compiled"])


def plan(gpu: GpuPlan | None, more: str = "") -> BuildPlan:
    record = LockRecord({}, f"sha256:{'2' * 64}", "python:3.11-slim-bookworm", DIGEST, "pip-tools 7")
    lock = Lock(record, parse_lock(PINS, "requirements.txt"), PINS)
    return make_plan(parse_config(YAML + more), lock, (), Revision(), "{}", gpu=gpu)


def text(gpu: GpuPlan | None) -> str:
    return dockerfile(plan(gpu))


def test_an_image_for_the_cpu_has_none_of_it() -> None:
    assert "cuda" not in text(None).lower()
    assert "NVIDIA" not in text(None)


@EVERY
def test_the_plan_is_json_both_ways_and_every_step_has_a_title(gpu: GpuPlan) -> None:
    found = plan(gpu)
    assert adapter(BuildPlan).validate_json(found.to_json()) == found
    written = dockerfile(found)
    titled = {stage: len(titles) for stage, titles in step_titles(found).items() if titles}
    assert {stage: len(steps) for stage, steps in numbered_steps(written).items()} == titled
    froms = [line.split()[1] for line in written.splitlines() if line.startswith("FROM ")]
    stages = {line.split()[3] for line in written.splitlines() if line.startswith("FROM ")}
    assert {name for name in froms if "@sha256:" not in name} <= {"scratch", *stages}


@EVERY
def test_the_loader_is_configured_and_checked_after_all_libraries_are_installed(gpu: GpuPlan) -> None:
    shipped = text(gpu).partition("AS runtime")[2]
    copies = [found.start() for found in re.finditer("COPY --link", shipped)]
    assert copies[-2] < shipped.index("ldconfig -p >") < copies[-1] == shipped.index("COPY --link --from=source")
    assert "LD_LIBRARY_PATH" not in shipped


@EVERY
def test_what_is_copied_comes_before_what_changes_more_often(gpu: GpuPlan) -> None:
    shipped = text(gpu).partition("AS runtime")[2]
    assert ("--from=cuda-libraries /layers/cuda-libraries/ /" in shipped) is (gpu.way == "image")
    assert shipped.find("/layers/cuda-libraries/ /") < shipped.index("--from=python-modules")
    assert not any(f"COPY --link --from={stage}" in shipped for stage in ("cuda ", "cuda-devel", "libraries "))


def test_compat_is_copied_where_it_is_asked_for() -> None:
    assert "from=cuda-compat" not in text(IMAGE)
    assert "--mount=type=bind,from=cuda-compat,source=/usr/local/cuda-12.6/compat,target=/compat" in text(COMPAT)
    assert "COPY --link --from=compat /layers/compat/ /" in text(COMPAT)


def test_nvidias_settings_are_there_and_mlship_yaml_wins() -> None:
    assert plan(WHEELS).env == {
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "NVIDIA_REQUIRE_CUDA": "cuda>=12.0",
        "NVIDIA_VISIBLE_DEVICES": "all",
    }
    assert plan(WHEELS, "env: {NVIDIA_DRIVER_CAPABILITIES: all}\n").env["NVIDIA_DRIVER_CAPABILITIES"] == "all"


def test_the_builder_gets_a_compiler_only_where_something_is_compiled() -> None:
    assert plan(COMPILED).packages.build == ("g++",)
    assert plan(COMPILED).packages.run == ()
    assert plan(WHEELS).packages.build == ()


def test_what_is_compiled_is_installed_last_and_for_the_hosts() -> None:
    written = text(COMPILED)
    titles = step_titles(plan(COMPILED))
    assert titles["install-framework"] == ("install torch from requirements.txt",)
    assert titles["install-compiled"] == (
        "add framework packages",
        "compile flash-attn with nvcc, and check all packages against the lock",
    )
    assert "COPY --from=install-framework /layers/framework/*/ /" in written.partition("AS install-compiled")[2]
    assert "--require-hashes --no-cache --no-build-isolation --no-binary flash-attn && \\\n" in written
    assert 'export TORCH_CUDA_ARCH_LIST="7.5 8.0" CUDAARCHS="75;80"' in written
    assert written.count("uv pip check") == 1
    assert written.count("--no-deps --require-hashes --") == 2


def test_packages_are_compiled_with_nvcc_against_whole_light_ones() -> None:
    """They build with the headers of pybind11, which does not ship them."""
    for gpu, light in ((WHEELS, "install-light"), (COMPILED, "light-packages")):
        found = plan(gpu)
        found = replace(found, layers=(*found.layers, PackageLayer("light", "bucket-0", ("pybind11",))))
        written = dockerfile(found)
        assert f"COPY --link --from={light} /layers/light/bucket-0/ /" in written
        installs = written.partition("AS install-light")[2].partition("FROM ")[0]
        assert ("bytecode.py" in installs) is (gpu is WHEELS)
        titled = {stage for stage, titles in step_titles(found).items() if titles}
        assert numbered_steps(written).keys() == titled


def test_unknown_architectures_are_left_to_the_package() -> None:
    assert "CUDAARCHS" not in text(replace(COMPILED, architectures=()))
