"""The answer of `mlship fits`: what decides on a host, what is not covered, and what helps."""

from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from mlship.cuda.fit.fits import Fits, fit_lock
from mlship.cuda.fit.promise import promise_of_lock
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.cuda.tables.lookup import tables
from mlship.cuda.tables.rows import Release
from mlship.errors import MatchError
from mlship.lock.foreign import read_foreign_lock, read_names

PACKAGE = '[[package]]\nname = "{}"\nversion = "{}"\n'
TORCH = "torch==2.8.0\nnvidia-cuda-runtime-cu12==12.8.90\n"


def answer(folder: Path, lock: str, driver: str, capability: str = "8.0", platform: str = "linux/amd64") -> Fits:
    (folder / "lock").write_text(lock)
    host = HostProfile("h", driver, (HostGpu("GPU", capability),), platform)
    fleet = Fleet((host,), "hosts/", committed=True)
    return fit_lock(read_foreign_lock(folder / "lock", host.platform), fleet, host.platform)


@pytest.mark.parametrize(
    ("lock", "driver", "outcome", "words"),
    [
        (TORCH, "580.95.05", "runs", "driver 580.95.05 supports CUDA 13.0"),
        (TORCH, "470.82.01", "refused", "update the driver: h to >= 525.60.13"),
        (TORCH, "470.82.01", "refused", "lock `torch<2.7`: its build cu118 from PyTorch's wheel index runs"),
        ("faiss-gpu-cu12==9.9\n", "580.95.05", "unknown", "faiss-gpu-cu12 9.9"),
        ("faiss-gpu-cu12==9.9\n", "470.82.01", "refused", "faiss-gpu-cu12 9.9 needs driver >= 525.60.13"),
        (
            "torch>=2\n",
            "580.95.05",
            "unknown",
            "without one version, so not judged: torch",
        ),
        ("mylib @ file:///src\n", "580.95.05", "unknown", "nothing in the lock is known to use CUDA"),
        ("torch==2.8.0+cu128\ntorchvision==0.23.0+cu126\n", "580.95.05", "refused", "builds of two variants"),
        ("onnxruntime-gpu==1.26.0\n", "580.95.05", "unknown", "no locked package brings the CUDA libraries"),
        (f"{TORCH}-r more.txt\n", "580.95.05", "unknown", "includes a file that is not read"),
        ("torch==2.0.0\nnumpy==1.24.0\n", "580.95.05", "runs", "judged as pip installs it"),
        ("torch==2.0.0\nnumpy==1.24.0\n", "440.33.01", "refused", "torch 2.0.0 (cu117) needs driver >= 450"),
        ("-i https://mirror.example.com/simple\ntorch==2.0.0\n", "580.95.05", "unknown", "which build it installs"),
        (
            "-f https://download.pytorch.org/whl/torch_stable.html\ntorch==2.0.0\n",
            "580.95.05",
            "unknown",
            "which build",
        ),
        ("--extra-index-url https://download.pytorch.org/whl/cu118\ntorch==2.6.0\n", "470.82.01", "runs", "(cu118)"),
        (
            "-i https://pypi.org/simple\n-f https://download.pytorch.org/whl/cu121/\ntorch==2.3.1\n",
            "535.161.08",
            "runs",
            "",
        ),
        ("-i https://pypi.org/simple\ntorch==2.3.1\n", "535.161.08", "runs", "(cu121)"),
        (
            "--extra-index-url https://other.example/stable/cu118/\ntorch==2.6.0\n",
            "470.82.01",
            "unknown",
            "which build",
        ),
        ("--extra-index-url https://other.example/whl/cpu\ntorch==2.6.0\n", "580.95.05", "unknown", "which build"),
        ("-f https://mirror.example/pytorch-wheels/cu118/\ntorch==2.6.0\n", "470.82.01", "runs", "(cu118)"),
        ("--index-url=https://download.pytorch.org/whl/cpu\ntorch==2.6.0\n", "580.95.05", "refused", "is a CPU build"),
        ("tensorflow[and-cuda]==2.19.0\n", "550.54.15", "runs", "tensorflow 2.19.0 (cu125)"),
        ("onnxruntime-gpu[cuda,cudnn]==1.26.0\n", "550.54.15", "runs", "onnxruntime-gpu 1.26.0 (cu12)"),
        ("torch==2.8.0\nonnxruntime-gpu==1.22.0\n", "550.54.15", "runs", "onnxruntime-gpu 1.22.0 (cu12)"),
        ("torch==2.8.0\nonnxruntime-gpu==1.29.0\n", "580.95.05", "refused", "two CUDA majors"),
        ("jax[cuda13]==0.10.0\n", "550.54.15", "refused", "jax 0.10.0 (cuda13) needs driver >= 580.65.06"),
        ("jax[cuda12]==0.10.0\n", "550.54.15", "runs", "jax 0.10.0 (cuda12)"),
        ("jax[cuda12_local]==0.4.35\n", "550.54.15", "unknown", "do not list this build of jax"),
        ("jax==0.10.0\n", "550.54.15", "refused", "no CUDA plugin is locked with it"),
        ("vllm==0.20.0\n", "550.54.15", "refused", "torch 2.11.0 (cu130) needs driver >= 580.65.06"),
        ("vllm==0.20.0\n", "580.95.05", "runs", "vllm 0.20.0"),
        ("vllm==0.26.0+cu129\n", "570.86.10", "unknown", "do not say for which GPUs torch 2.11.0 (cu129) has"),
        ("torch==2.13.0+cu129\n", "580.95.05", "unknown", "do not say for which GPUs torch 2.13.0 (cu129) has code"),
        ("torch==2.7.1+cu118\n", "580.95.05", "unknown", "do not say for which GPUs torch 2.7.1 (cu118) has code"),
        ("torch==2.13.0+cu129\n", "470.82.01", "refused", "torch 2.13.0 (cu129) needs driver >= 525.60.13"),
        ("torch==2.9.0\ntorchcodec==0.8.1\n", "550.54.15", "runs", "torch 2.9.0 (cu128)"),
        ("torch==2.11.0\ntorchcodec==0.8.1\n", "580.95.05", "refused", "torchcodec 0.8.1: not built for torch 2.11.0"),
        ("torch==2.11.0\ntorchcodec==0.14.0\n", "580.95.05", "runs", "torchcodec 0.14.0 (cu130)"),
        ("torch==2.11.0+cu126\ntorchcodec==0.14.0\n", "580.95.05", "refused", "two CUDA majors"),
        ("torch==2.11.0\ntorchcodec==0.99.0\n", "580.95.05", "unknown", "torchcodec 0.99.0 is newer than the known"),
        ("torch==2.10.0\ntorchcodec==0.10.0+cu130\n", "550.54.15", "refused", "needs driver >= 580.65.06"),
        ("torch==2.8.0+cu128\ntorchcodec==0.7.0+cu126\n", "580.95.05", "refused", "(torch +cu128, torchcodec +cu126)"),
        ("torch==2.10.0+cu130\ntorchcodec==0.10.0+cu130\n", "580.95.05", "unknown", "do not list this build of torchc"),
        ("torch==2.10.0+cu130\ntorchcodec==0.10.0+cpu\n", "580.95.05", "runs", "torch 2.10.0 (cu130)"),
        ("torch==2.9.0\ntorchcodec==0.12.0\n", "580.95.05", "refused", "torchcodec 0.12.0: not built for torch 2.9.0"),
        ("torch==2.12.0\ntorchcodec==0.12.0\n", "580.95.05", "runs", "torch 2.12.0 (cu130)"),
        ("cudf-cu12==26.2.0\n", "525.147.05", "runs", "is supported with driver >= 535"),
        ("torch==2.0.0+cpu\n", "580.95.05", "refused", "torch 2.0.0+cpu is a CPU build"),
        ('[[package]]\nname = "torch"\nversion = "2.0.0"\n', "580.95.05", "refused", "torch 2.0.0 is a CPU build"),
        ('[[package]]\nname = "torch"\nversion = "1.12.1"\n', "580.95.05", "refused", "(cu102) has no kernels for"),
        ('[[package]]\nname = "torch"\nversion = "1.6.0"\n', "580.95.05", "unknown", "older than the oldest known"),
        ("torch==1.11.0+cu113\ntorchvision==0.12.0+cu113\n", "470.82.01", "runs", "torch 1.11.0 (cu113)"),
        ("torch==1.8.0+cu111\n", "580.95.05", "unknown", "lies in a gap"),
        ("cudf-cu12==25.4.*\n", "470.82.01", "refused", "cudf-cu12 needs driver >= 525.60.13"),
        ("nvidia-cublas-cu12\n", "470.82.01", "refused", "nvidia-cublas-cu12 needs driver >= 525.60.13"),
        ("cudf-cu12==25.4.*\n", "580.95.05", "unknown", "the lock has no single version of cudf-cu12"),
        ("tensorflow==2.17.0\n", "580.95.05", "unknown", "no locked package brings the CUDA libraries"),
        ("tensorflow==2.17.0\n", "470.82.01", "refused", "needs driver >= 525.60.13"),
        (f"{TORCH}ours-gpu @ file:///src\n", "580.95.05", "unknown", "ours-gpu"),
        (f"{TORCH}mamba-ssm==2.2.4\n", "580.95.05", "unknown", "PyPI has no wheel of mamba-ssm"),
        (f"{TORCH}flash-attn==2.6.3\n", "580.95.05", "unknown", "for which GPUs a build of it"),
        ("tensorrt==10.12.0.36\n", "550.54.15", "runs", "tensorrt 10.12.0.36 (cu12)"),
        ("tensorrt==10.14.1.48\n", "550.54.15", "refused", "needs driver >= 580.65.06"),
        ("torch==2.7.1+cu126\nbitsandbytes==0.46.1\n", "550.54.15", "runs", "bitsandbytes 0.46.1 (cu126)"),
        (f"{TORCH}gsplat==1.5.3\n", "580.95.05", "unknown", "the tables do not list gsplat"),
        ("torch==2.3.1+cu121\ntorch-sparse==0.6.18+pt23cu121\n", "535.161.08", "runs", "torch-sparse"),
    ],
)
def test_the_answer_and_why(tmp_path: Path, lock: str, driver: str, outcome: str, words: str) -> None:
    found = answer(tmp_path, lock, driver)
    limits = [(limit.package, *limit.why) for host in found.hosts for limit in host.limits]
    assert found.outcome == outcome
    assert words in str((found.problems, found.notes, found.changes, limits))


@pytest.mark.parametrize(
    ("lock", "capability", "outcome", "words"),
    [
        (TORCH, "9.0", "refused", "PyPI's wheels for aarch64 have CUDA since 2.11"),
        ("torch==2.8.0+cu129\n", "9.0", "unknown", "whether torch 2.8.0 (cu129) has a build for aarch64"),
        ("torch==2.14.0\ncuda-toolkit==13.0.3\n", "12.1", "runs", "torch 2.14.0 (cu130)"),
        ("tensorflow[and-cuda]==2.19.0\n", "9.0", "unknown", "whether tensorflow 2.19.0 (cu125) has a build"),
        ("onnxruntime-gpu[cuda,cudnn]==1.26.0\n", "9.0", "unknown", "whether onnxruntime-gpu 1.26.0 (cu12) has"),
        ("jax[cuda13]==0.10.2\n", "12.1", "runs", "jax 0.10.2 (cuda13)"),
        ("torch==2.14.0\n", "9.0", "unknown", "which build it installs is unknown"),
    ],
)
def test_a_build_for_aarch64_is_never_taken_for_granted(
    tmp_path: Path, lock: str, capability: str, outcome: str, words: str
) -> None:
    found = answer(tmp_path, lock, "580.95.05", capability, "linux/arm64")
    assert found.outcome == outcome
    assert words in str((found.problems, found.hosts))


@pytest.mark.parametrize(
    ("lock", "capability", "outcome", "words"),
    [
        ("torch==2.8.0\ntorchao==0.13.0\n", "8.6", "runs", "torchao 0.13.0 (cu12)"),
        ("torch==2.8.0\ntorchao==0.13.0\n", "7.5", "unknown", "torchao 0.13.0 (cu12) has no kernels for GPU"),
        ("torch==2.14.0\ntorchao==0.13.0\n", "8.0", "runs", "torch 2.14.0 (cu130)"),
        ("torch==2.14.0\ntorchao==0.18.0\n", "7.5", "runs", "torch 2.14.0 (cu130)"),
        ("tensorflow[and-cuda]==2.15.1\n", "8.9", "runs", "tensorflow 2.15.1 (cu122)"),
        ("tensorflow[and-cuda]==2.15.1\n", "9.0", "runs", "tensorflow 2.15.1 (cu122)"),
        ("tensorflow[and-cuda]==2.15.1\n", "12.0", "refused", "the libraries of CUDA 12.2 do not support it"),
        ("tensorflow[and-cuda]==2.15.0\n", "8.0", "unknown", "no locked package brings the CUDA libraries"),
        (
            "onnxruntime-gpu==1.16.3\nnvidia-cublas-cu11==11.11.3.6\nnvidia-cudnn-cu11==8.9.6.50\n",
            "3.7",
            "refused",
            "5.2",
        ),
    ],
)
def test_gpus_that_a_build_has_code_for(tmp_path: Path, lock: str, capability: str, outcome: str, words: str) -> None:
    found = answer(tmp_path, lock, "470.82.01" if capability == "3.7" else "580.95.05", capability)
    assert found.outcome == outcome
    assert words in str((found.problems, found.hosts))


@pytest.mark.parametrize("row", [row for row in tables().packages.releases if row.follows], ids=lambda row: row.package)
def test_a_build_for_another_cuda_is_never_judged_as_the_package_it_follows(tmp_path: Path, row: Release) -> None:
    version = f"{row.band[0] if row.versions else Version('1.0')}+cu139"
    found = answer(tmp_path, f"{TORCH}{row.package}=={version}\n", "560.35.05")
    assert found.outcome != "runs", found


@pytest.mark.parametrize(("form", "outcome"), [("{}=={}\n", "refused"), (PACKAGE, "unknown")])
def test_packages_of_different_extras_may_never_be_installed_together(tmp_path: Path, form: str, outcome: str) -> None:
    pins = {"onnxruntime-gpu": "1.26.0", "onnxruntime": "1.26.0", "nvidia-cublas-cu12": "12.9.1.4"}
    found = answer(tmp_path, "".join(form.format(*pin) for pin in pins.items()), "580.95.05")
    assert found.outcome == outcome
    assert "are both locked" in str(found.problems or found.hosts[0].limits)


def test_an_image_of_mlship_has_the_libraries_that_its_packages_lack() -> None:
    host = HostProfile("h", "580.95.05", (HostGpu("GPU", "8.0"),), "linux/amd64")
    fleet = Fleet((host,), "hosts/", committed=True)
    assert fit_lock(read_names("onnxruntime-gpu==1.26.0 numpy==2.1.0"), fleet, host.platform).outcome == "runs"


def test_no_driver_helps_where_code_is_missing(tmp_path: Path) -> None:
    found = answer(tmp_path, TORCH, "470.82.01", "6.1")
    assert [limit.needs for host in found.hosts for limit in host.limits] == [None]
    assert not any("driver" in change for change in found.changes)


@pytest.mark.parametrize(
    ("lock", "old"), [("vllm==0.8.5\ntorch==2.6.0\n", "6.0"), ("flash-attn==2.8.3\ntorch==2.8.0\n", "7.5")]
)
def test_a_gpu_that_a_project_does_not_support_is_refused_whatever_the_build(
    tmp_path: Path, lock: str, old: str
) -> None:
    """And no release of another package is said to help."""
    found = answer(tmp_path, lock, "535.161.08", old)
    assert (found.outcome, found.changes) == ("refused", ())
    assert "or newer" in found.hosts[0].limits[0].why[0]
    others = answer(tmp_path, lock, "535.161.08", "8.6").outcome
    assert others == "runs"


def test_libraries_from_elsewhere_are_not_taken_for_the_oldest(tmp_path: Path) -> None:
    found = answer(tmp_path, "onnxruntime-gpu==1.20.1\n", "580.95.05", "12.0")
    assert found.outcome == "unknown"
    assert "12.0 do not support" not in str(found)


def test_the_minor_of_libraries_from_another_index_is_open(tmp_path: Path) -> None:
    lock = "ctranslate2==4.6.0\nnvidia-cublas-cu12==12.8.4.1\nnvidia-cudnn-cu12==9.10.2.21\n"
    outcomes = [answer(tmp_path, lock, driver, "10.0").outcome for driver in ("570.124.06", "580.95.05")]
    assert outcomes == ["unknown", "runs"]  # its PTX may be newer than the first driver's CUDA


def test_conda_packages_are_never_taken_for_judged(tmp_path: Path) -> None:
    conda = "# packages in environment at /x:\ntorch 2.8.0+cu128 pypi_0 pypi\ncudatoolkit 11.8 0 nvidia\n"
    found = answer(tmp_path, conda, "580.95.05")
    assert found.outcome == "unknown"
    assert any("cudatoolkit 11.8" in why for limit in found.hosts[0].limits for why in limit.why)
    with pytest.raises(MatchError, match="so nothing can be promised: conda"):
        promise_of_lock(read_foreign_lock(tmp_path / "lock", "linux/amd64"), "linux/amd64")


def test_conda_packages_that_may_use_cuda_are_named_first(tmp_path: Path) -> None:
    rows = [*(f"a{number} 1.0 0 conda-forge" for number in range(9)), "cuda-cudart 12.4.99 0 nvidia"]
    found = answer(tmp_path, "# packages in environment at /x:\n" + "".join(f"{row}\n" for row in rows), "580.95.05")
    assert "so not judged: cuda-cudart 12.4.99, a0 1.0, a1 1.0" in found.hosts[0].limits[0].why[0]


def test_device_code_of_no_package_is_never_taken_for_judged() -> None:
    fleet = Fleet((HostProfile("h", "580.95.05", (HostGpu("GPU", "8.0"),), "linux/amd64"),), "hosts/", committed=True)
    lock = replace(read_names("torch==2.8.0 nvidia-cuda-runtime-cu12==12.8.90"), stray=("app/ours.so",))
    assert fit_lock(replace(lock, stray=()), fleet, "linux/amd64").outcome == "runs"
    assert fit_lock(lock, fleet, "linux/amd64").outcome == "unknown"
