"""What doctor suggests to install runs on that host, and makes nothing worse."""

import re

import pytest

from mlship.cuda.hosts.profile import HostGpu, HostProfile
from mlship.cuda.tables.lookup import nvidia_image
from mlship.cuda.versions import Cuda, Driver
from mlship.doctor import advice
from mlship.doctor.diagnose import diagnose
from mlship.doctor.facts.facts import Facts
from tests.helpers.doctor_hosts import hosts

A100 = ("NVIDIA A100-SXM4-40GB", "8.0")
PASCAL = ("NVIDIA GeForce GTX 1080 Ti", "6.1")
BLACKWELL = ("NVIDIA GeForce RTX 5090", "12.0")


def host(driver: str, gpu: tuple[str, str] = A100) -> HostProfile:
    return HostProfile("this host", driver, (HostGpu(*gpu),))


@pytest.mark.parametrize(
    ("package", "version", "on", "command"),
    [
        ("torch", "2.11.0+cu130", host("580.95.05", PASCAL), r"torch==2\.11\.0 --index-url \S+/cu126$"),
        ("torch", "2.6.0+cu124", host("570.133.07", BLACKWELL), r"'torch<2\.12' --index-url \S+/cu128$"),
        ("torch", "2.9.0+cpu", host("580.95.05"), r"torch==2\.9\.0 --index-url \S+/cu130$"),
        ("onnxruntime-gpu", "1.30.0", host("550.54.15"), r"'onnxruntime-gpu\[cuda,cudnn\]<1\.27'$"),
        ("jax-cuda13-plugin", "0.8.0", host("550.54.15"), r"'jax\[cuda12\]==0\.8\.0'$"),
        ("cupy-cuda13x", "14.1.0", host("550.54.15"), r"'cupy-cuda12x<14\.3'$"),
        ("tensorflow", "2.21.0", host("550.54.15"), r"'tensorflow\[and-cuda\]==2\.21\.0'$"),
    ],
)
def test_installs_what_runs_here(package: str, version: str, on: HostProfile, command: str) -> None:
    step = advice.install_step(package, version, on, "host", {})
    assert step
    assert re.search(command, step.commands[0]), step.commands


@pytest.mark.parametrize("on", [host("470.256.02", BLACKWELL), host("not a driver")])
def test_suggests_nothing_if_nothing_is_known_to_run(on: HostProfile) -> None:
    assert advice.install_step("torch", "2.11.0", on, "host", {}) is None


@pytest.mark.parametrize(
    ("on", "needs", "suggested"),
    [
        (host("550.54.15"), "580.65.06", True),
        (host("580.95.05"), "580.65.06", False),  # new enough
        (host("570.133.20", PASCAL), "595.45.04", False),  # R580 is the last one that drives it
        (host("570.133.20", PASCAL), "580.65.06", True),
    ],
)
def test_a_driver_update_only_if_it_helps(on: HostProfile, needs: str, *, suggested: bool) -> None:
    assert bool(advice.driver(Facts(), on, Driver.parse(needs))) is suggested


def test_no_base_image_whose_libraries_have_dropped_the_gpu() -> None:
    newest = nvidia_image(Cuda(12, 9), "runtime", "ubuntu22.04")
    assert newest
    assert advice.base_image(host("580.95.05", PASCAL)) == f"nvidia/cuda:{newest.tag('runtime')}"


@pytest.mark.parametrize("name", [name for name in hosts() if name.startswith("pascal-volta")])
def test_a_dropped_gpu_gets_no_driver_update(name: str) -> None:
    steps = [step.say for cause in diagnose(hosts()[name]).causes for step in cause.finding.fix]
    assert steps
    assert not [say for say in steps if "driver to" in say]
