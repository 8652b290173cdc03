"""What a project asks for, read from its requirements as pip would read them for Linux."""

import pytest
from packaging.specifiers import SpecifierSet

from mlship.cuda.fit.choose import PackageRequest, choose, read_requests
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.lock.inputs import InputFile
from tests.helpers.lock_configs import config

CONFIG = config('python: "3.11"\n')


@pytest.mark.parametrize(
    ("lines", "asks"),
    [
        ("Torch>=2.6", ["torch>=2.6"]),
        ("onnxruntime_gpu[cudnn,cuda]", ["onnxruntime-gpu[cuda,cudnn]"]),
        ("torch>=2\ntorch<2.9  # and below", ["torch<2.9,>=2"]),
        ("jax\njax[cuda12]", ["jax[cuda12]"]),
        ('torch; sys_platform == "linux"\nnumpy; sys_platform == "win32"', ["torch"]),
        ('torch==2.6; python_version < "3.12"\ntorch==2.7; python_version >= "3.12"', ["torch==2.6"]),
        ('torch; extra == "gpu"', []),
        ("--index-url https://example.com/simple\n-r more.in\nnot a requirement !!\ntorch", ["torch"]),
        ("torch==2.6 --hash=sha256:00", ["torch==2.6"]),
        ("torch==2.6 \\\n    --hash=sha256:00", ["torch==2.6"]),
        ("torch===2.6.0\nnumpy===letters", ["torch==2.6.0"]),
        ("torch @ https://example.com/torch.whl", ["torch"]),
        ("torch \\\n  ==2.6", ["torch==2.6"]),
        ("torch @ https://example.com/torch-2.6.0%2Bcu124-cp311-cp311-linux_x86_64.whl", ["torch==2.6.0+cu124"]),
        ("https://example.com/cu124/torch-2.6.0-cp311-cp311-linux_x86_64.whl#sha256=0", ["torch==2.6.0"]),
        ('https://example.com/torch-2.6.0-cp311-cp311-win_amd64.whl; sys_platform == "win32"', []),
    ],
)
def test_requests(lines: str, asks: list[str]) -> None:
    assert [str(ask) for ask in read_requests((InputFile("requirements.in", lines),), CONFIG)] == asks


def test_files_are_read_together_and_sorted_by_name() -> None:
    files = (InputFile("a.in", "torch\nscipy"), InputFile("b.in", "torch<3"))
    assert [str(ask) for ask in read_requests(files, CONFIG)] == ["scipy", "torch<3"]


def test_markers_are_of_the_image_and_not_of_this_machine() -> None:
    files = (InputFile("a.in", 'torch; platform_machine == "aarch64"\nscipy; platform_machine == "x86_64"'),)
    assert [str(ask) for ask in read_requests(files, CONFIG)] == ["scipy"]
    arm = CONFIG.model_copy(update={"platform": "linux/arm64"})
    assert [str(ask) for ask in read_requests(files, arm)] == ["torch"]


@pytest.mark.parametrize(
    ("specifier", "driver", "picked"),
    [
        ("==2.5.1", "535.183.01", "torch<2.6 cu124"),  # PyPI's, which was read and is not compressed
        ("==2.5.1", "525.147.05", "torch<2.6 cu124"),
        ("==2.4.1", "535.183.01", "torch<2.5 cu121"),
        ("==2.5.1", "470.82.01", "torch<2.6 cu118 from the wheel index"),
    ],
)
def test_pypi_is_enough_where_the_driver_can_read_its_kernels(specifier: str, driver: str, picked: str) -> None:
    host = HostProfile("t4", driver, (HostGpu("Tesla T4", "7.5"),), "linux/amd64")
    requests = (PackageRequest("torch", SpecifierSet(specifier)),)
    assert choose(requests, Fleet((host,), "hosts/", committed=True), "linux/amd64").key.partition(": ")[2] == picked
