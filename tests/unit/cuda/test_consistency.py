"""Properties of the match: it judges whatever it is given, and what is chosen is not refused afterwards."""

import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from mlship.cuda.fit.choose import Choice, PackageRequest, Pick, choose
from mlship.cuda.fit.explain import choice_error, match_error
from mlship.cuda.fit.judge import ReasonKind, Stack, judge_stack, offered_by
from mlship.cuda.fit.match import match_needs
from mlship.cuda.fit.needs import read_needs
from mlship.cuda.hosts.fleet import fleet_cuda
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.cuda.tables.lookup import tables
from mlship.cuda.versions import Capability, Cuda, Driver
from mlship.lock.pins import Pin
from tests.helpers.cuda_cases import TABLE, Case, fleet, kind, matched
from tests.helpers.sampling import part

AMD, ARM = "linux/amd64", "linux/arm64"
HOSTS = sorted(name for name, host in TABLE.hosts.items() if host.platform == AMD)
ARMS = sorted(name for name, host in TABLE.hosts.items() if host.platform == ARM)[:2]
FLEETS = [(name,) for name in HOSTS[::2]] + list(combinations(HOSTS[::9], 2))
ASKS = {
    "torch": PackageRequest("torch", SpecifierSet()),
    "torch<2.9": PackageRequest("torch", SpecifierSet("<2.9")),
    "torch==2.6.*": PackageRequest("torch", SpecifierSet("==2.6.*")),
    "onnxruntime-gpu[cuda,cudnn]": PackageRequest("onnxruntime-gpu", SpecifierSet(), ("cuda", "cudnn")),
    "onnxruntime-gpu": PackageRequest("onnxruntime-gpu", SpecifierSet()),
    "tensorflow[and-cuda]": PackageRequest("tensorflow", SpecifierSet(), ("and-cuda",)),
}
CASES = [case for case in TABLE.case if TABLE.locks[case.lock].gpu]
# How each remedy begins: with an action, or with the command that takes it.
REMEDY = re.compile(
    r"update the driver: \S+ to >= \d"
    r"|remove \S+.* from "
    r"|ship NVIDIA's forward-compatibility libraries: `gpu: "
    r"|build (two|three|\d+) images, each "
    r"|build for these hosts: `platform: "
    r"|(allow|require) `\S+`( instead of `\S+`)? in \S+ and run `mlship lock`"
    r"|match other hosts; `mlship hosts` "
)
BY_MINOR: set[ReasonKind] = {"minor-version", "forward-compat"}

cudas = st.builds(Cuda, st.integers(9, 14), st.integers(0, 9))
capabilities = st.builds(Capability, st.integers(3, 14), st.integers(0, 9))
drivers = st.one_of(
    st.text(max_size=12),
    st.builds("{}.{}".format, st.integers(300, 1100), st.integers(0, 999)),
    st.sampled_from(["", "open", "550.54.15-grid", "535.183.01", "580.65.06", "999.10"]),
)
gpus = st.builds(HostGpu, st.text(max_size=20), st.one_of(st.none(), st.text(max_size=5), capabilities.map(str)))
hosts = st.builds(
    HostProfile, st.just("h"), drivers, st.lists(gpus, max_size=3).map(tuple), st.sampled_from([AMD, ARM, ""])
)
stacks = st.builds(
    Stack,
    name=st.just("a stack"),
    cuda=cudas,
    built=cudas,
    platform=st.sampled_from([AMD, ARM]),
    source=st.just("somewhere"),
    exact=st.booleans(),
    architectures=st.one_of(st.none(), st.lists(capabilities, min_size=1, max_size=4).map(sorted).map(tuple)),
    ptx=st.one_of(st.none(), capabilities),
    least=st.one_of(st.none(), capabilities),
    floor=st.one_of(st.none(), st.builds(Driver, st.integers(400, 700), st.integers(0, 200))),
    unknown=st.sampled_from(["", "a reason"]),
)


@given(stacks, hosts, st.booleans())
def test_whatever_it_is_it_is_judged(stack: Stack, host: HostProfile, compat: bool) -> None:
    verdict = judge_stack(stack, host, compat=compat)
    assert verdict.reasons
    assert verdict.outcome == verdict.reasons[0].outcome  # what decides comes first
    assert all(reason.text for reason in verdict.reasons)


def lowest(pick: Pick) -> str:
    """The oldest version of the band that was picked."""
    bands = (band.versions for band in tables().packages.by_package[pick.package] if band.versions)
    band = next(text for text in bands if f"{pick.package}<{text.partition('<')[2]}" == pick.limit)
    return str(Version(band.partition(",")[0].lstrip(">=")))


def pins_of(choice: Choice, asks: tuple[PackageRequest, ...]) -> tuple[Pin, ...]:
    """What a resolver would lock: each package at the beginning of its band, with the libraries that wheels bring."""
    found: dict[str, str] = {}
    for pick in choice.picks:
        local = f"+{pick.variant}" if pick.package == "torch" else ""
        found[pick.package] = f"{lowest(pick)}{local}"
        brings = pick.package == "torch" or any(ask.extras for ask in asks if ask.name == pick.package)
        newest = {12: Cuda(12, 9), 13: Cuda(13, 0)}.get(pick.built.major, pick.built)
        cuda = newest if pick.open else pick.built
        suffix = f"-cu{cuda.major}" if cuda.major < 13 else ""
        if brings:
            found[f"nvidia-cuda-runtime{suffix}"] = f"{cuda}.10"
            found[f"nvidia-cublas{suffix}"] = f"{cuda}.10"
            variant = pick.release.variant(pick.variant)
            found[f"nvidia-cudnn-cu{cuda.major}"] = f"{(variant and variant.cudnn) or 9}.0"
    return tuple(Pin(name, version, (f"sha256:{'0' * 64}",)) for name, version in sorted(found.items()))


@pytest.mark.parametrize("ask", ASKS)
def test_what_is_chosen_is_not_refused_afterwards(ask: str) -> None:
    asks = (ASKS[ask],)
    chosen = 0
    fleets = part(FLEETS)
    for names in fleets:
        of = fleet(names)
        choice = choose(asks, of, AMD)
        if not choice.picks:
            continue
        match = match_needs(read_needs(pins_of(choice, asks), AMD, gpu=True), of, "bookworm")
        assert match.outcome != "refused", (names, choice.key, match.needs.problems, match.missing, match.blocked)
        chosen += 1
    assert chosen > len(fleets) // 7, chosen


def remedies(hint: str) -> list[str]:
    """The remedies of a hint: one, or a list."""
    head, _, rest = hint.partition(":\n- ")
    return rest.split("\n- ") if rest and head == "do one of these" else [hint]


@pytest.mark.parametrize("ask", ASKS)
def test_a_refusal_says_who_and_what_to_do(ask: str) -> None:
    asks = (ASKS[ask],)
    refused = 0
    for names in (*part(FLEETS[::3]), *((name,) for name in ARMS)):
        of = fleet(names)
        choice = choose(asks, of, AMD)
        if not choice.refused:
            continue
        error = choice_error(choice, asks, of, AMD)
        assert any(f"\n- {name}: " in error.message for name in names), error.message
        assert all(REMEDY.match(remedy) for remedy in remedies(error.hint)), error.hint
        refused += 1
    assert refused


@pytest.mark.bank(kind=kind)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.lock} on {','.join(case.hosts)}")
def test_what_the_image_requires_is_offered_by_every_matched_host(case: Case) -> None:
    match = matched(case)
    of = fleet(case.hosts)
    if match.outcome == "refused":
        error = match_error(match.needs, match.missing, match.blocked, (), of, TABLE.locks[case.lock].platform)
        assert error.message.strip()
        assert not error.hint.endswith("one of these:")
        return
    required = re.match(r"cuda>=(\d+\.\d+)", match.require)
    for host in of.hosts if required else ():
        offered = offered_by(host)
        assert required
        assert offered is None or Cuda.parse(required[1]) <= offered, (match.require, host)


@pytest.mark.parametrize("name", HOSTS)
def test_the_fleets_cuda_is_what_match_says(name: str) -> None:
    """The summary of `mlship hosts` and the verdict of the build cannot differ."""
    of = fleet((name,))
    found = fleet_cuda(of)
    assert not set(found.outright) & set(found.by_minor_version)
    for text in (*found.outright, *found.by_minor_version):
        cuda = Cuda.parse(text)
        verdict = judge_stack(Stack("a program", cuda, cuda, AMD, ""), of.hosts[0])
        assert verdict.outcome != "refused"
        assert (text in found.by_minor_version) == any(reason.kind in BY_MINOR for reason in verdict.reasons)


@pytest.mark.slow
def test_a_large_fleet_is_not_listed_whole() -> None:
    gpu = HostGpu("NVIDIA GeForce GTX 1080 Ti", "6.1")
    of = Fleet(
        tuple(HostProfile(f"h{number:02}", "470.82.01", (gpu,)) for number in range(50)), "hosts/", committed=True
    )
    asks = (PackageRequest("torch", SpecifierSet(">=2.9")),)
    error = choice_error(choose(asks, of, AMD), asks, of, AMD)
    assert "and 40 more" in error.message
    assert len(error.message.splitlines()) < 20
    assert len(error.hint) < 800
