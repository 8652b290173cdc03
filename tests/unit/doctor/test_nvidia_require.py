"""NVIDIA_REQUIRE_*: read and decided as NVIDIA's own evaluator does."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlship.cuda.versions import Cuda
from mlship.doctor.nvidia_require import Condition, Offer, Requirement, holds, is_disabled, parse_require, requirements

# As nvidia/cuda:12.8.1 has it, shortened.
REAL = (
    "cuda>=12.8 brand=unknown,driver>=470,driver<471 brand=nvidiartx,driver>=470,driver<471 "
    "brand=tesla,driver>=550,driver<551 brand=quadrortx,driver>=565,driver<566"
)
versions = st.builds(lambda major, minor: f"{major}.{minor}", st.integers(9, 14), st.integers(0, 9))
drivers = st.builds(lambda branch, minor: f"{branch}.{minor}", st.integers(450, 620), st.integers(0, 200))
brands = st.sampled_from(("GeForce", "Tesla", "Quadro RTX", "NVIDIA RTX", "NVIDIA"))
order = st.sampled_from(("=", "!=", "<", "<=", ">", ">="))
conditions = st.one_of(
    st.builds(Condition, st.just("cuda"), order, versions),
    st.builds(Condition, st.just("driver"), order, drivers),
    st.builds(Condition, st.just("arch"), order, versions),
    st.builds(Condition, st.just("brand"), st.sampled_from(("=", "!=")), st.sampled_from(("geforce", "tesla"))),
)
wanted = st.builds(
    lambda groups: Requirement(tuple(map(tuple, groups))),
    st.lists(st.lists(conditions, min_size=1, max_size=3), max_size=4),
)
cudas = st.builds(Cuda, st.integers(9, 14), st.integers(0, 9))
offers = st.builds(
    Offer, st.none() | cudas, st.booleans(), st.none() | drivers, st.none() | versions, st.none() | brands
)
whole = st.builds(Offer, cudas, st.just(value=False), drivers, versions, brands)


@pytest.mark.parametrize(
    ("text", "offer", "want"),
    [
        (REAL, Offer(Cuda(12, 4), driver="550.144.03", brand="GeForce"), False),
        (REAL, Offer(Cuda(12, 4), driver="550.144.03", brand="Tesla"), True),
        (REAL, Offer(Cuda(12, 4), driver="551.23", brand="Tesla"), False),
        (REAL, Offer(Cuda(11, 4), driver="470.82.01", brand="NVIDIA RTX"), True),
        (REAL, Offer(Cuda(12, 7), driver="565.57.01", brand="Quadro RTX"), True),
        (REAL, Offer(Cuda(12, 8), driver="570.26", brand="GeForce"), True),
        (REAL, Offer(Cuda(13, 0), driver="580.65.06"), True),
        (REAL, Offer(Cuda(12, 4), driver="550.144.03"), None),
        (REAL, Offer(brand="GeForce"), None),
        (REAL, Offer(Cuda(12, 4), at_least=True, driver="552.1", brand="GeForce"), None),
        ("", Offer(), True),
        ("cuda>=12", Offer(Cuda(12, 0)), True),
        ("cuda>=12.0.1", Offer(Cuda(12, 0)), False),
        ("driver<551", Offer(driver="551.0"), False),
        ("driver=550", Offer(driver="550.0"), True),
        ("driver>=535", Offer(driver="535.10-grid"), None),
        ("brand!=geforce", Offer(brand="GeForce"), False),
        ("arch>=8.0", Offer(arch="7.5"), False),
    ],
)
def test_decided_as_nvidia_decides(text: str, offer: Offer, want: bool | None) -> None:
    assert holds(parse_require(text), offer) is want


@pytest.mark.parametrize(
    "text", ["cuda", "cuda>=", ">=12", "cuda=>12", "speed>=3", "cuda>=twelve", "brand>=tesla", "a=b=c"]
)
def test_what_nvidia_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"condition|comparison"):
        parse_require(text)


@given(wanted)
def test_written_and_read_again(requirement: Requirement) -> None:
    assert parse_require(str(requirement)) == requirement
    assert parse_require(f"  {str(requirement).replace(' ', '  ')} ") == requirement


@given(wanted, st.lists(conditions, min_size=1, max_size=2), offers)
def test_another_alternative_never_asks_for_more(requirement: Requirement, more: list[Condition], offer: Offer) -> None:
    wider = Requirement((*requirement.alternatives, tuple(more)))
    if requirement.alternatives and holds(requirement, offer):
        assert holds(wider, offer)
    if holds(wider, offer) is False:
        assert holds(requirement, offer) is not True or not requirement.alternatives


@given(st.lists(conditions, min_size=1, max_size=3), conditions, offers)
def test_another_condition_never_asks_for_less(before: list[Condition], more: Condition, offer: Offer) -> None:
    if holds(Requirement(((*before, more),)), offer):
        assert holds(Requirement((tuple(before),)), offer)


@given(wanted, whole, st.sets(st.sampled_from(("cuda", "driver", "arch", "brand"))))
def test_what_is_decided_without_a_fact_stays_so_with_it(
    requirement: Requirement, offer: Offer, lost: set[str]
) -> None:
    known = {"cuda": offer.cuda, "driver": offer.driver, "arch": offer.arch, "brand": offer.brand}
    kept = {name: None if name in lost else value for name, value in known.items()}
    less = holds(requirement, Offer(**kept))  # type: ignore[arg-type]  # the values of an Offer
    assert less in {None, holds(requirement, offer)}


@given(wanted, whole, st.integers(0, 3), st.integers(0, 9))
def test_of_a_cuda_at_least_only_what_holds_for_newer_ones_too(
    requirement: Requirement, offer: Offer, major: int, minor: int
) -> None:
    loose = Offer(offer.cuda, at_least=True, driver=offer.driver, arch=offer.arch, brand=offer.brand)
    assert offer.cuda
    newer = max(offer.cuda, Cuda(offer.cuda.major + major, minor))
    real = Offer(newer, driver=offer.driver, arch=offer.arch, brand=offer.brand)
    assert holds(requirement, loose) in {None, holds(requirement, real)}


@pytest.mark.parametrize(
    ("env", "want"),
    [
        ({}, ()),
        ({"CUDA_VERSION": "10.0.130"}, ("cuda>=10.0",)),
        ({"CUDA_VERSION": "12.8.1", "NVIDIA_REQUIRE_CUDA": "cuda>=12.8"}, ("cuda>=12.8",)),
        ({"NVIDIA_REQUIRE_ARCH": "arch>=8.0", "NVIDIA_REQUIRE_CUDA": "cuda>=12"}, ("arch>=8.0", "cuda>=12")),
    ],
)
def test_what_an_image_requires(env: dict[str, str], want: tuple[str, ...]) -> None:
    assert requirements(env) == want


def test_the_check_can_be_off() -> None:
    assert [is_disabled({"NVIDIA_DISABLE_REQUIRE": value}) for value in ("1", "true", "0", "yes", "")] == [
        *(True, True, False, False, False)
    ]
    assert not is_disabled({})


@given(drivers | versions, drivers | versions)
@example("550.54", "550.54")
@example("550.54", "550.53")
@example("535.1", "550.54")
def test_a_comparison_is_that_of_the_numbers(has: str, bound: str) -> None:
    one, other = (tuple(map(int, text.split("."))) for text in (has, bound))
    answers = {"=": one == other, "!=": one != other, "<": one < other, "<=": one <= other}
    for operator, answer in {**answers, ">": one > other, ">=": one >= other}.items():
        assert holds(parse_require(f"driver{operator}{bound}"), Offer(driver=has)) is answer
