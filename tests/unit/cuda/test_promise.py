"""What an image promises to clusters: each form means exactly what the match says."""

from functools import cache
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlship.cuda.fit.cluster import ClusterForm, Terms, cluster_document, cluster_yaml
from mlship.cuda.fit.judge import judge_stack, worst
from mlship.cuda.fit.needs import Needs, read_needs
from mlship.cuda.fit.promise import DriverSpan, Promise, Reach, promise_of
from mlship.cuda.hosts.profile import HostGpu, HostProfile
from mlship.cuda.tables.lookup import tables
from mlship.cuda.versions import Capability, Driver
from mlship.errors import MatchError
from tests.helpers.cluster_rules import affinity_matches, claim_matches, labels, nfd_matches
from tests.helpers.cuda_cases import TABLE, fleet, pin

FORMS: tuple[ClusterForm, ...] = get_args(ClusterForm)
KINDS = [Capability.parse(text) for text in ("6.1", "7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0", "12.1")]
DRIVERS = st.builds(Driver, st.integers(440, 640), st.integers(0, 220), st.integers(0, 99))


@cache
def needs_of(lock: str) -> Needs:
    row = TABLE.locks[lock]
    return read_needs(tuple(pin(text) for text in row.pins), row.platform, gpu=row.gpu)


@cache
def promised(lock: str) -> tuple[Promise, dict[ClusterForm, Terms]] | None:
    try:
        promise = promise_of(needs_of(lock), TABLE.locks[lock].platform)
    except MatchError:
        return None
    return promise, {form: cluster_document(promise, form) for form in FORMS}


def covers(promise: Promise, driver: Driver, capability: Capability) -> bool:
    """Whether a host with this GPU and driver is promised."""
    return any(
        capability in reach.capabilities
        and reach.drivers.first <= driver
        and (reach.drivers.below is None or driver.branch < reach.drivers.below)
        for reach in promise.reaches
    )


def says(texts: dict[ClusterForm, Terms], driver: Driver, capability: Capability, platform: str) -> set[bool]:
    """The answers of all forms; no device is claimed, and no NFD artifact read, on another platform."""
    node = labels(driver, capability, platform)
    return {
        nfd_matches(texts["nfd"], node),
        affinity_matches(texts["affinity"], node),
        claim_matches(texts["claim"], driver, capability),
    }


def on(host: HostProfile, needs: Needs) -> str:
    return worst(judge_stack(stack, host).outcome for stack in needs.stacks)


@pytest.mark.parametrize("lock", TABLE.locks)
def test_every_form_agrees_with_the_match_on_every_host(lock: str) -> None:
    found, needs, platform = promised(lock), needs_of(lock), TABLE.locks[lock].platform
    for host in fleet(tuple(TABLE.hosts)).hosts:
        for gpu in host.gpus:
            driver, capability = Driver.parse(host.driver), gpu.capability
            assert driver
            runs = on(HostProfile(host.name, host.driver, (gpu,), host.platform), needs) == "runs"
            if found is None or capability is None:  # GPU Feature Discovery and NVIDIA's driver always know it
                assert not runs or needs.problems or needs.unjudged or not needs.stacks
            elif host.platform == platform:
                assert says(found[1], driver, Capability.parse(capability), platform) == {runs}, (host, gpu)
            else:
                assert not runs
                assert not affinity_matches(
                    found[1]["affinity"], labels(driver, Capability.parse(capability), host.platform)
                )


@given(st.sampled_from(sorted(TABLE.locks)), DRIVERS, st.sampled_from(KINDS))
def test_every_form_agrees_with_the_match_on_any_driver(lock: str, driver: Driver, capability: Capability) -> None:
    found = promised(lock)
    if found is None:
        return
    platform = TABLE.locks[lock].platform
    host = HostProfile("any", str(driver), (HostGpu("a GPU", str(capability)),), platform)
    runs = on(host, needs_of(lock)) == "runs"
    assert covers(found[0], driver, capability) == runs
    assert says(found[1], driver, capability, platform) == {runs}


@given(
    st.builds(DriverSpan, DRIVERS, st.none() | st.integers(641, 700)),
    st.sets(st.sampled_from(KINDS), min_size=1),
    DRIVERS,
    st.sampled_from(KINDS),
)
def test_every_form_means_the_promise(
    span: DriverSpan, kinds: set[Capability], driver: Driver, capability: Capability
) -> None:
    branch = span.first.major
    for reached in (span, DriverSpan(Driver(branch, 0), span.below)):
        promise = Promise("linux/amd64", ("torch",), (Reach(reached, tuple(sorted(kinds))),))
        texts = {form: cluster_document(promise, form) for form in FORMS}
        near = (span.first, Driver(branch, span.first.minor), Driver(branch, 999), Driver(branch - 1, 999))
        for each in (driver, *near):
            assert says(texts, each, capability, "linux/amd64") == {covers(promise, each, capability)}


@pytest.mark.parametrize("form", FORMS)
def test_the_yaml_is_the_document(form: ClusterForm) -> None:
    promise, texts = promised("t280") or pytest.fail("nothing promised")
    assert yaml.safe_load(cluster_yaml(promise, form)) == texts[form]
    assert "&" not in cluster_yaml(promise, form).replace("&&", "")  # no aliases


@pytest.mark.parametrize(
    ("require", "first"),
    [
        ("", Driver(525, 60, 13)),
        ("cuda>=12.4", Driver(550, 0)),
        ("cuda>=12.8 driver>=535,driver<536", Driver(535, 0)),
        ("cuda>=12.8 driver>=535.54,driver<535.104", Driver(570, 0)),
        ("cuda>=12.8 brand=tesla,driver>=470,driver<471", Driver(570, 0)),
    ],
)
def test_a_host_that_the_image_refuses_is_not_promised(require: str, first: Driver) -> None:
    found = promise_of(needs_of("t280"), "linux/amd64", require)
    assert min(reach.drivers.first for reach in found.reaches) == first
    assert not covers(found, Driver(first.major - 1, 999), Capability(8, 0))


def test_a_node_without_labels_is_never_promised() -> None:
    _, texts = promised("t280") or pytest.fail("nothing promised")
    assert not nfd_matches(texts["nfd"], {})
    assert not affinity_matches(texts["affinity"], {"kubernetes.io/arch": "amd64"})
    assert not claim_matches(texts["claim"], None, Capability(8, 0))


@pytest.mark.parametrize(
    ("pins", "why"),
    [
        (("torch==2.8.0", "nvidia-cuda-runtime-cu12==12.8.90", "faiss-gpu-cu12==1.99"), "faiss-gpu-cu12"),
        (("requests==2.32.0",), "no package is known to use CUDA"),
        (("torch==99.0", "nvidia-cuda-runtime-cu12==12.8.90"), "torch 99.0"),
        (("torch==2.9.1+cpu",), "CPU build"),
    ],
)
def test_what_cannot_be_judged_is_never_promised(pins: tuple[str, ...], why: str) -> None:
    with pytest.raises(MatchError, match=why):
        promise_of(read_needs(tuple(map(pin, pins)), "linux/amd64", gpu=True), "linux/amd64")


def test_no_jetson_is_promised() -> None:
    boards = {each for row in tables().gpus.architectures for each in row.tegra}
    found, _ = promised("t2141") or pytest.fail("nothing promised")
    assert boards
    assert not boards & {each for reach in found.reaches for each in reach.capabilities}
