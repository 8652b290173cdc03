"""The device code of packages against GPUs: a package passes only by code that a GPU runs."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.cuda.fit.judge import Stack, judge_stack
from mlship.cuda.hosts.profile import HostGpu, HostProfile
from mlship.cuda.versions import Capability, Cuda
from mlship.driver.device_code import DeviceCode
from mlship.smoke.events import InstalledCode, PackageCode
from mlship.smoke.judge.code import gpu_code
from mlship.smoke.result import Check
from mlship.smoke.seen import Observed
from tests.helpers.smoke_events import GOOD, MODEL, SPEC
from tests.helpers.smoke_gpu_events import observed

KNOWN = st.sampled_from([(7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (10, 7), (12, 0), (12, 1)])
SETS = st.lists(KNOWN, max_size=4, unique=True).map(sorted).map(tuple)


def on_cpu(code: InstalledCode | None, *capabilities: str) -> Observed:
    events = (*MODEL.events, *((code,) if code else ()))
    spec = replace(SPEC, gpu=True, capabilities=capabilities)
    return replace(GOOD, model=replace(MODEL, events=events), spec=spec)


def package(*parts: DeviceCode, loaded: bool = True) -> InstalledCode:
    return InstalledCode((PackageCode("faiss-gpu-cu12", "1.14.1", loaded, parts),), unread=0)


def check(found: Observed) -> Check:
    (one,) = gpu_code(found)
    return one


@given(SETS, SETS, SETS, KNOWN)
def test_it_agrees_with_the_match(
    cubins: tuple[tuple[int, int], ...],
    specific: tuple[tuple[int, int], ...],
    ptx: tuple[tuple[int, int], ...],
    gpu: tuple[int, int],
) -> None:
    """The match judges the same code by the tables; its driver here can compile every PTX."""
    capability = Capability(*gpu)
    stack = Stack(
        "p", Cuda(13, 4), Cuda(12, 0), "linux/amd64", "",
        architectures=tuple(Capability(*one) for one in cubins),
        specific=tuple(Capability(*one) for one in specific),
        ptx=Capability(*min(ptx)) if ptx else None,
    )  # fmt: skip
    driver = "615.10.05" if gpu == (10, 7) else "580.95.05"  # the first branch for Rubin, the last one for Volta
    host = HostProfile("h", driver, (HostGpu("GPU", str(capability)),), "linux/amd64")
    status = check(on_cpu(package(DeviceCode(cubins, specific, ptx)), str(capability))).status
    reasons = [reason.kind for reason in judge_stack(stack, host).reasons]
    assert (status == "pass") == (not {"arch-dropped", "arch-too-new", "unknown-gpu"} & set(reasons))
    assert (status == "skip") == ("unknown-gpu" in reasons)


def test_a_loaded_package_without_code_fails_and_another_is_a_warning() -> None:
    only = DeviceCode(((7, 0), (8, 0)), (), ())
    bad = check(on_cpu(package(only), "8.0", "12.0"))
    assert (bad.status, bad.seen) == ("fail", "faiss-gpu-cu12 1.14.1 has no code for 12.0, only for 7.0, 8.0")
    assert check(on_cpu(package(only, loaded=False), "8.0", "12.0")).status == "warn"
    assert check(on_cpu(package(only), "8.9")).seen == "faiss-gpu-cu12 1.14.1: for 8.9"


def test_code_for_an_older_gpu_proves_nothing_where_no_document_says_that_it_runs() -> None:
    older = package(DeviceCode(((10, 0),), (), ()))
    unknown = check(on_cpu(older, "10.0", "10.7"))
    assert (unknown.status, check(on_cpu(older, "10.3")).status) == ("skip", "pass")
    assert unknown.seen == "no document says that faiss-gpu-cu12 1.14.1, built for older GPUs, runs on 10.7"
    assert check(on_cpu(older, "10.7", "12.0")).status == "fail"
    assert check(on_cpu(package(DeviceCode(((10, 0), (10, 7)), (), ())), "10.7")).status == "pass"
    assert check(on_cpu(older, "10.9")).status == "skip"  # a GPU that no table lists


def test_ptx_is_named_as_what_a_driver_must_compile() -> None:
    part = DeviceCode(((8, 0),), (), ((9, 0),))
    seen = check(on_cpu(package(part), "8.0", "12.0")).seen
    assert seen.endswith("for 8.0, 12.0; as PTX, which the driver must compile: faiss-gpu-cu12 for 12.0")


@pytest.mark.parametrize("text", ["x", "8", "8.0.1", "-1.0", ""])
def test_a_label_that_holds_anything_is_unknown(text: str) -> None:
    assert check(on_cpu(package(DeviceCode(((8, 0),), (), ())), "8.0", text)).status == "skip"


def test_one_library_of_a_package_with_code_is_enough() -> None:
    hopper = DeviceCode((), ((9, 0),), ())
    assert check(on_cpu(package(hopper, DeviceCode(((7, 5),), (), ())), "7.5")).status == "pass"
    assert check(on_cpu(package(hopper), "7.5")).status == "fail"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (on_cpu(None, "8.0"), "not reached"),
        (on_cpu(InstalledCode((), 0)), "not known"),
        (on_cpu(InstalledCode((), 0), "8.0"), "no installed package"),
        (on_cpu(InstalledCode((), 3), "8.0"), "3 libraries could not be read"),
    ],
)
def test_what_is_not_known_is_skipped(found: Observed, words: str) -> None:
    assert check(found).status == "skip"
    assert words in check(found).seen


def test_the_tested_gpu_counts_where_no_host_is_named() -> None:
    assert check(observed()).seen == "torch 2.6.0: for 8.0"
    assert gpu_code(GOOD) == ()
