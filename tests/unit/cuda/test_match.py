"""mlship's verdicts on locks and hosts agree with cases.toml, which quotes NVIDIA's and the frameworks' documents."""

from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mlship.cuda.fit.choose import PackageRequest, choose
from mlship.cuda.fit.judge import Stack, judge_stack
from mlship.cuda.fit.match import Match, _image
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.cuda.tables.lookup import first_driver, tables
from mlship.cuda.versions import Cuda
from tests.helpers.cuda_cases import (
    TABLE,
    Case,
    ChoiceCase,
    fleet,
    kind,
    matched,
)

WARNINGS = {"minor-version", "compressed-fatbin"}


def keywords(match: Match) -> Iterator[str]:
    """The kind of every problem, warning and reason."""
    yield from (problem.kind for problem in (*match.needs.problems, *match.needs.warnings))
    yield from (reason.kind for verdict in match.verdicts for reason in verdict.reasons)


@pytest.mark.bank(kind=kind)
@pytest.mark.parametrize("case", TABLE.case, ids=lambda case: f"{case.lock} on {','.join(case.hosts)}")
def test_case(case: Case) -> None:
    match = matched(case)
    if not TABLE.locks[case.lock].gpu:
        assert not match.needs.problems  # nothing is matched for the CPU
        assert {problem.kind for problem in match.needs.warnings} == {case.because} - {"cpu-only"}
        return
    kinds = set(keywords(match))
    assert match.outcome == case.outcome, (kinds, match.verdicts)
    assert kinds & {case.because, *case.also}, kinds
    if case.source_way is not None:
        assert match.needs.way == case.source_way
    if case.warn is not None:
        assert kinds & WARNINGS == set(case.warn)
    if case.blocked:
        assert {verdict.host for verdict in match.verdicts if verdict.outcome == case.outcome} == set(case.blocked)


@pytest.mark.bank(kind=lambda case: (case.asks, case.outcome))
@pytest.mark.parametrize("case", TABLE.choice, ids=lambda case: f"{','.join(case.asks)} on {','.join(case.hosts)}")
def test_choice(case: ChoiceCase) -> None:
    requirements = [Requirement(text) for text in case.asks]
    requests = tuple(PackageRequest(r.name, r.specifier, tuple(sorted(r.extras))) for r in requirements)
    choice = choose(requests, fleet(case.hosts), TABLE.hosts[case.hosts[0]].platform)
    if case.outcome == "refused":
        assert not choice.picks
        assert {v.host for pick in choice.refused for v in pick.blocked} >= set(case.blocked)
        return
    torch = next((pick for pick in choice.picks if pick.package == "torch"), None)
    assert choice.picks, choice.refused
    if case.variant:
        assert torch is not None
        assert torch.variant in {case.variant, *case.also}
    if case.limit:
        assert case.limit in choice.limits


@pytest.mark.parametrize(
    ("specifier", "variant"), [("==2.9.1", "cu130"), ("==2.9.*", "cu130"), ("==2.9.1+cu126", "cu126")]
)
def test_a_local_version_names_the_build(specifier: str, variant: str) -> None:
    host = HostProfile("h", "580.95.05", (HostGpu("NVIDIA H100", "9.0"),), "linux/amd64")
    request = PackageRequest("torch", SpecifierSet(specifier))
    (pick,) = choose((request,), Fleet((host,), "h", committed=False), host.platform).picks
    assert (pick.variant, pick.outcome) == (variant, "runs")


def test_the_image_is_the_newest_whose_cuda_the_driver_offers() -> None:
    """Each driver here is the first one for its CUDA."""
    for cuda in {image.cuda for image in tables().images if image.cuda >= Cuda(12, 0) and not image.gone}:
        if driver := first_driver(cuda):
            fleet_of_one = Fleet((HostProfile("h", str(driver), (), "linux/amd64"),), "h", committed=False)
            takes = (Cuda(cuda.major, 0), Cuda(cuda.major + 1, 0))
            found = _image(takes, "runtime", None, fleet_of_one, "bookworm")
            assert found
            assert found[0] == cuda


def test_a_driver_before_the_tables_is_unknown_with_its_reason() -> None:
    host = HostProfile("h", "304.125", (), "linux/amd64")
    verdict = judge_stack(Stack("old", Cuda(8, 0), Cuda(8, 0), host.platform, ""), host)
    assert [reason.kind for reason in verdict.reasons] == ["unknown-driver"]
    assert "driver 304.125 is older than R" in verdict.reasons[0].text
