"""Doctor's report as text and as a page stays readable and harmless, whatever the facts are."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mlship.doctor.chain.link import links
from mlship.doctor.diagnose import Diagnosis, diagnose
from mlship.doctor.facts.fact import Unreadable
from mlship.doctor.facts.facts import Facts, ProbeRun
from mlship.doctor.facts.place import User
from mlship.doctor.finding import LAYERS, Evidence, Finding, Step
from mlship.doctor.queries import passed_on
from mlship.doctor.rules import RULES
from mlship.report.doctor.page import PageHead, diagnosis_page
from mlship.report.doctor.text import WIDTH, diagnosis_text, stories_text, story_text
from mlship.report.doctor.words import numbered, stands_for
from tests.helpers.doctor_hosts import hosts, rule_of

HOSTILE = '<script>alert(1)</script><img src=x onerror="a()">\'"&\x1b[31m\u202e'
HEAD = PageHead("gpu-1", "2026-07-01 06:00 UTC")
NAMES = sorted(hosts())
ORDER = ("  Fix", "  Evidence", "  Consequences", "  What would confirm it", "  More")
COMMAND = re.compile(r" {8}\S")
LAYER = {rule.id: rule.text.layer for rule in RULES}


def hostile(diagnosis: Diagnosis) -> Diagnosis:
    """Every text that facts can reach contains markup and escapes."""
    cause = diagnosis.causes[0]
    finding = replace(
        cause.finding,
        cause=HOSTILE,
        fix=(Step(HOSTILE, (HOSTILE, f"two\n{HOSTILE}")),),
        evidence=(Evidence(HOSTILE, HOSTILE),),
    )
    return replace(
        diagnosis,
        causes=(replace(cause, finding=finding),),
        limits=tuple(replace(limit, why=HOSTILE, fact=HOSTILE) for limit in diagnosis.limits),
        probes=tuple(replace(probe, name=HOSTILE, problem=HOSTILE) for probe in diagnosis.probes),
        chain=tuple(replace(rung, say=HOSTILE) for rung in diagnosis.chain),
        bugs=(HOSTILE,),
    )


@pytest.fixture(scope="module")
def of_nouveau() -> Diagnosis:
    facts = hosts()["nouveau-owns-gpu"]
    kernel = replace(facts.kernel, dkms=Unreadable("permission denied", root=True))
    return diagnose(replace(facts, kernel=kernel, probes=(ProbeRun("nvml", 0.2, None),)))


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))


@pytest.mark.bank(kind=lambda name: LAYER[rule_of(name)])
@pytest.mark.parametrize("name", NAMES)
def test_every_report_fits_the_screen_and_keeps_its_order(name: str) -> None:
    lines = diagnosis_text(diagnose(hosts()[name])).splitlines()
    assert lines[0].startswith("PROBLEM")
    assert len(lines[0]) <= WIDTH
    assert lines[1] == ""  # the verdict is one line
    for line in lines:
        one_word = " " not in line.strip()
        assert len(line) <= WIDTH or COMMAND.match(line) or one_word, line
    for cause in "\n".join(lines).split("\nCause")[1:]:  # each cause has its own fix and evidence, in the same order
        heads = [line for line in cause.splitlines() if line in ORDER]
        assert heads == [head for head in ORDER if head in heads]
        assert {"  Fix", "  Evidence", "  More"} <= set(heads)


@pytest.mark.bank(kind=lambda name: LAYER[rule_of(name)])
@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_a_line_of_its_own(name: str) -> None:
    diagnosis = diagnose(hosts()[name])
    lines = diagnosis_text(diagnosis).splitlines()
    for cause in diagnosis.causes:
        for step in cause.finding.fix:
            assert not step.commands or step.say.endswith(":"), step.say
            assert all(f"        {command}" in lines for command in step.commands)
        assert all(f"        {item.command}" in lines for item in cause.finding.decides)


def test_titles_fit_the_first_line() -> None:
    for rule in RULES:
        assert len(f"PROBLEM: {rule.text.title}") <= WIDTH, rule.id


def test_hostile_facts_are_neither_markup_nor_obeyed(of_nouveau: Diagnosis) -> None:
    plain, bad = (
        diagnosis_page(of_nouveau, HEAD),
        diagnosis_page(hostile(of_nouveau), PageHead(HOSTILE, HOSTILE, HOSTILE)),
    )
    assert HOSTILE.split("\x1b", 1)[0] not in bad
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in bad
    assert {tag for tag, _ in Tags(bad).tags} == {tag for tag, _ in Tags(plain).tags}
    assert {names for _, names in Tags(bad).tags} == {names for _, names in Tags(plain).tags}
    for text in (bad, diagnosis_text(hostile(of_nouveau), verbose=True)):
        assert all(character.isprintable() for character in text.replace("\n", ""))


def test_a_page_needs_nothing_else(of_nouveau: Diagnosis) -> None:
    page = diagnosis_page(of_nouveau, HEAD)
    assert not {tag for tag, _ in Tags(page).tags} & {"script", "img", "link", "iframe", "object"}
    assert not {name for _, names in Tags(page).tags for name in names} & {"src", "href", "style", "onclick"}
    assert "@import" not in page
    assert "url(" not in page


def test_the_ladder_shows_the_break_and_what_follows(of_nouveau: Diagnosis) -> None:
    rungs = {rung.link: rung for rung in of_nouveau.chain}
    assert tuple(rungs) == tuple(link.id for link in links())
    assert (rungs["gpu-on-bus"].state, rungs["gpu-bound"].state) == ("holds", "broken")
    assert (rungs["nvml-answers"].state, rungs["nvml-answers"].say) == ("unknown", "follows from: GPU bound to nvidia")
    text, page = diagnosis_text(of_nouveau), diagnosis_page(of_nouveau, HEAD)
    assert "  ✗ GPU bound to nvidia  " in text
    assert "  – NVML on the host        follows from: GPU bound to nvidia" in text  # noqa: RUF001  an en dash is meant
    assert '<li class="broken"><span aria-label="broken">✗</span> <span>GPU bound to nvidia</span>' in page


def test_a_probe_without_an_answer_is_listed() -> None:
    diagnosis = diagnose(Facts(probes=(ProbeRun("nvml", problem="no answer within 5 s"),)))
    assert "  probe nvml: no answer within 5 s" in diagnosis_text(diagnosis).splitlines()
    assert "  nvml: no answer within 5 s" in diagnosis_text(diagnosis, verbose=True).splitlines()


@pytest.mark.parametrize("name", [name for name in hosts("healthy") if "without-nvidia-gpu" in name])
def test_a_gpu_for_virtual_machines_is_not_missing(name: str) -> None:
    facts = hosts("healthy")[name]
    says = " ".join(diagnosis_text(diagnose(facts)).split())
    assert ("is set aside for virtual machines" in says) is bool(passed_on(facts))
    assert ("this host has no NVIDIA GPU" in says) is not bool(passed_on(facts))


def test_a_single_likely_cause_is_not_called_unknown() -> None:
    """A likely cause that fits stands above the request to report what is none of these."""
    facts = hosts()["nvidia-uvm-node-missing"]
    host = replace(facts.host, nvml=replace(facts.host.nvml, init=12, library=None), user=User(uid=0, groups=(0,)))
    text = diagnosis_text(diagnose(replace(facts, host=host)))
    assert "If it is none of these" in text
    assert "fit no known cause" not in text


def test_several_steps_are_numbered_but_alternatives_are_not() -> None:
    steps = (Step("Stop it."), Step("Start it."), Step("Or reboot.", instead=True))
    assert [number for number, _ in numbered(steps)] == ["1. ", "2. ", ""]
    assert [number for number, _ in numbered(steps[1:])] == ["", ""]


def test_words_in_capitals_are_explained(of_nouveau: Diagnosis) -> None:
    def said(command: str) -> str | None:
        finding: Finding = replace(of_nouveau.causes[0].finding, fix=(Step("Do:", (command,)),))
        return stands_for(finding)

    assert said("docker run IMAGE") == "IMAGE stands for your image."
    assert said("nvidia-smi -i N") == "N stands for the GPU's number."
    assert said("echo $IMAGE; IMAGE_NAME=x; docker run app:1") is None


def test_stories() -> None:
    text = stories_text(RULES)
    assert [line.strip() for line in text.splitlines() if re.fullmatch(r"  [\w-]+", line)] == [
        rule.id for layer in LAYERS for rule in sorted(RULES, key=lambda rule: rule.id) if rule.text.layer == layer
    ]
    for rule in RULES:
        lines = story_text(rule).splitlines()
        assert lines[0] == f"{rule.id}: {rule.text.title}"
        assert "Sources" in lines
