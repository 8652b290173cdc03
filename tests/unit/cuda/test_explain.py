"""Refusals name the hosts, the reasons and the remedies."""

from itertools import product

import pytest
from packaging.specifiers import SpecifierSet

from mlship.cuda.fit.choose import PackageRequest, choose, cuda_extras, limits_without_index, read_requests
from mlship.cuda.fit.explain import choice_error
from mlship.cuda.fit.judge import Reason, Verdict, newer_drivers
from mlship.cuda.fit.target import lock_target
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile, named_fleet
from mlship.cuda.tables.lookup import tables
from mlship.cuda.versions import Driver
from mlship.errors import MatchError
from mlship.lock.inputs import InputFile
from mlship.lock.pins import Pin
from mlship.project.load import parse_config
from tests.helpers.toy import YAML

AMD, ARM = "linux/amd64", "linux/arm64"
A100 = HostProfile("a100", "550.54.15", (HostGpu("NVIDIA A100", "8.0"),))
GH200 = HostProfile("gh200", "580.95.05", (HostGpu("NVIDIA GH200", "9.0"),), ARM)
GTX = HostProfile("gtx", "580.95.05", (HostGpu("NVIDIA GeForce GTX 1080 Ti", "6.1"),))
RTX = HostProfile("rtx5090", "570.86.15", (HostGpu("NVIDIA GeForce RTX 5090", "12.0"),))
CPU_TORCH = (Pin("torch", "2.9.1+cpu", (f"sha256:{'0' * 64}",)),)


def refused(*hosts: HostProfile, ask: str = "", platform: str = AMD) -> MatchError:
    return _refused(Fleet(hosts, "hosts/", committed=True), ask, platform)


def _refused(fleet: Fleet, ask: str, platform: str) -> MatchError:
    asks = (PackageRequest("torch", SpecifierSet(ask)),)
    choice = choose(asks, fleet, platform)
    assert choice.refused
    return choice_error(choice, asks, fleet, platform)


@pytest.mark.parametrize(
    ("hosts", "hint"),
    [
        ((GH200,), "build for these hosts: `platform: linux/arm64` in mlship.yaml"),
        ((A100, GH200), "for linux/amd64, remove gh200 from hosts/"),
    ],
)
def test_hosts_of_another_platform(hosts: tuple[HostProfile, ...], hint: str) -> None:
    error = refused(*hosts)
    assert "- gh200: gh200 is linux/arm64, but the image is linux/amd64" in error.message
    assert "the others:" not in error.message  # no other release changes the platform
    assert hint in error.hint


def test_every_kind_of_candidate_is_named() -> None:
    """cu126 has no kernels for the one and cu128 none for the other: both are named."""
    error = refused(GTX, RTX)
    assert "- rtx5090: torch" in error.message
    assert "cu128" in error.message
    assert ": does not run on gtx\n" in f"{error.message}\n"
    assert "for gtx (torch" in error.hint
    assert "for rtx5090 (torch" in error.hint


def test_commands_in_hints_name_the_same_host() -> None:
    fleet = named_fleet("550.54.15", ("8.0", "9.0"), AMD)
    assert fleet.options == " --driver 550.54.15 --compute-capability 8.0 --compute-capability 9.0"
    hint = _refused(named_fleet("570.86.15", ("12.0",), AMD), "<2.6", AMD).hint
    assert "in requirements.in and run `mlship lock --driver 570.86.15 --compute-capability 12.0`, which takes" in hint


@pytest.mark.parametrize(
    ("requirement", "key"),
    [
        ("onnxruntime-gpu[cuda,cudnn]", "12: onnxruntime-gpu"),  # the lock decides which 12
        ("onnxruntime-gpu", "12.4: onnxruntime-gpu"),  # NVIDIA's image is chosen by what the host offers
        ("torch", "12.6: torch"),
    ],
)
def test_the_key_says_no_more_than_is_decided(requirement: str, key: str) -> None:
    config = parse_config(f"{YAML}gpu: {{}}\n")
    fleet = Fleet((A100,), "hosts/", committed=True)
    assert lock_target(config, (InputFile("requirements.in", requirement),), fleet).key.startswith(key)


def test_a_cpu_build_of_torch_is_reported() -> None:
    config = parse_config(f"{YAML}gpu: {{}}\n")
    target = lock_target(
        config, (InputFile("requirements.in", "torch==2.9.1+cpu"),), Fleet((A100,), "hosts/", committed=True)
    )
    with pytest.raises(MatchError, match=r"torch 2\.9\.1\+cpu is a CPU build") as caught:
        target.judge(CPU_TORCH)
    assert "`+cpu`" in caught.value.hint


@pytest.mark.parametrize(
    ("driver", "capability", "limits"),
    [
        ("535.183.01", "7.5", ("torch<2.11",)),
        ("580.95.05", "6.1", ("torch<2.8",)),
        ("580.95.05", "8.0", ()),  # the wheel index is not needed
        ("470.82.01", "8.0", ("torch<2.1",)),  # cu117, although the wheel index has cu118
    ],
)
def test_the_limits_that_need_no_wheel_index(driver: str, capability: str, limits: tuple[str, ...]) -> None:
    hosts = named_fleet(driver, (capability,), "linux/amd64")
    requests = (PackageRequest("torch", SpecifierSet()),)
    choice = choose(requests, hosts, "linux/amd64")
    assert limits_without_index(choice, requests, hosts, "linux/amd64") == limits


@pytest.mark.parametrize(
    ("request_", "driver", "step"),
    [
        ("jax[cuda13]", "535.183.01", "require `jax[cuda12]<0.12.1` instead of `jax[cuda13]`"),
        ("jax[cuda13,k8s]", "550.54.15", "require `jax[cuda12,k8s]<0.12.1` instead of `jax[cuda13,k8s]`"),
        ("tensorflow[and-cuda]", "470.82.01", "require `tensorflow<2.15` instead of `tensorflow[and-cuda]`"),
        ("onnxruntime-gpu[cuda,cudnn]", "470.82.01", "require `onnxruntime-gpu<1.19` instead of `onnxruntime-gpu["),
        ("onnxruntime-gpu[cuda,cudnn]>=1.29", "535.183.01", "allow `onnxruntime-gpu<1.27`"),
    ],
)
def test_an_extra_that_brings_no_cuda_for_the_host_is_not_dropped(request_: str, driver: str, step: str) -> None:
    """pip would ignore an extra that a release lacks, or go back to a release that no table knows."""
    asks = read_requests((InputFile("requirements.in", request_),), parse_config(YAML))
    fleet = named_fleet(driver, ("8.0",), AMD)
    choice = choose(asks, fleet, AMD)
    assert choice.refused
    assert choice_error(choice, asks, fleet, AMD).hint.startswith(f"do one of these:\n- {step}")


@pytest.mark.parametrize("name", ["bitsandbytes", "xformers", "dgl", "gpytorch"])
def test_torch_is_chosen_for_what_requires_it(name: str) -> None:
    """Without a limit, pip takes the newest torch of PyPI, whose CUDA 13 needs another driver."""
    chosen = choose((PackageRequest(name, SpecifierSet()),), named_fleet("550.54.15", ("8.0",), AMD), AMD)
    assert "torch<2.15" in chosen.limits


def test_every_chosen_build_brings_cuda_by_the_extras_that_were_asked_for() -> None:
    for package in tables().packages.by_package:
        for extra, driver in product(cuda_extras(package), ("470.82.01", "535.183.01", "580.95.05")):
            asks = (PackageRequest(package, SpecifierSet(), (extra,)),)
            for pick in choose(asks, named_fleet(driver, ("8.0",), AMD), AMD).picks:
                assert extra in pick.extras


def test_the_driver_that_helps_is_the_newest_that_a_package_needs() -> None:
    old, new = Driver(525, 60, 13), Driver(580, 65, 6)
    blocked = [Verdict("a", name, (Reason("driver-floor", "", "", needs),)) for name, needs in (("x", new), ("y", old))]
    assert newer_drivers(blocked) == {"a": new}
    dropped = Verdict("b", "x", (Reason("arch-dropped", "", ""), Reason("driver-floor", "", "", new)))
    assert newer_drivers([*blocked, dropped]) == {}
