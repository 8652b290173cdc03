"""Doctor's reports as people read them. Update them with --update-golden, and read the diff."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from mlship.doctor.chain.link import links
from mlship.doctor.diagnose import diagnose
from mlship.doctor.facts.fact import Unreadable
from mlship.doctor.facts.facts import Facts, ProbeRun
from mlship.doctor.finding import LAYERS, Finding, StackLayer
from mlship.doctor.rule_texts import rule_texts
from mlship.doctor.rules import RULES
from mlship.report.doctor.page import PageHead, diagnosis_page
from mlship.report.doctor.text import diagnosis_text
from tests.conftest import Golden
from tests.helpers.doctor_hosts import found, hosts

BY_ID = {rule.id: rule for rule in RULES}
ROOT = Path(__file__).parents[2]
PROBES = (ProbeRun("kernel", 0.071, None), ProbeRun("nvml", problem="no answer within 5 s"))


def two_causes() -> Facts:
    torch = hosts()["cpu-only-torch"]
    return replace(hosts()["device-node-permission-denied"], container=torch.container, image=torch.image)


def unexplained() -> Facts:
    host = Facts().host
    return Facts(host=replace(host, nvml=replace(host.nvml, init=999)))


def little_could_be_read() -> Facts:
    facts = hosts("healthy")["bare-metal-closed"]
    kernel = replace(facts.kernel, log=Unreadable("permission denied", root=True), dkms=Unreadable("no such program"))
    return replace(facts, kernel=kernel, probes=PROBES)


MADE: dict[str, Callable[[], Facts]] = {
    "two-causes": two_causes,
    "unexplained": unexplained,
    "little-could-be-read": little_could_be_read,
    "nothing-known": Facts,
}
RECORDED = (
    "nouveau-owns-gpu",
    "nvml-lib-kmod-mismatch-after-upgrade",
    "docker-no-nvidia-driver-registered",
    "cdi-spec-stale-after-driver-upgrade",
    "compat-on-geforce-804",
    "nvml-unknown-error-after-daemon-reload",
    "require-cuda-unsatisfied--only-the-message",
    "driver-module-not-loaded--as-a-user",
    "k8s-xid-marks-gpu-unhealthy--log-not-read",
    "wsl-linux-driver-installed",
    "persistence-daemon-socket-mount--of-the-image",
)
HEALTHY = ("bare-metal-open-with-container", "laptop-without-nvidia-gpu")


def facts_of(name: str) -> Facts:
    if name in MADE:
        return MADE[name]()
    return hosts("healthy" if name in HEALTHY else "hosts")[name]


@pytest.mark.parametrize("name", [*RECORDED, *HEALTHY, *MADE])
def test_report(name: str, golden: Golden) -> None:
    golden(f"doctor/{name}.txt", diagnosis_text(diagnose(facts_of(name))))


def test_verbose(golden: Golden) -> None:
    golden("doctor/verbose.txt", diagnosis_text(diagnose(little_could_be_read()), verbose=True))


def test_page(golden: Golden) -> None:
    facts = replace(facts_of("nouveau-owns-gpu"), probes=PROBES)
    golden(
        "doctor/nouveau-owns-gpu.html",
        diagnosis_page(diagnose(facts), PageHead("gpu-1", "2026-07-01 06:00 UTC", "1.0")),
    )


def test_the_documents_list_the_links(request: pytest.FixtureRequest) -> None:
    begin, end = "<!-- chain: written by the tests with --update-golden -->\n", "<!-- chain ends -->"
    rows = [f"| {link.title} | `{link.id}` | {link.expects} |" for link in links()]
    table = "\n".join(["| link | id | expectation |", "| --- | --- | --- |", *rows, ""])
    path = ROOT / "docs/doctor.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    now, _, after = rest.partition(end)
    if request.config.getoption("update_golden"):
        path.write_text(f"{before}{begin}{table}{end}{after}", encoding="utf-8")
    else:
        assert now == table


def test_the_documents_show_a_real_report() -> None:
    text = diagnosis_text(diagnose(facts_of("nvml-lib-kmod-mismatch-after-upgrade")))
    assert f"$ mlship doctor\n{text}```" in (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
    begin = text.partition("  Evidence")[0].rstrip()
    assert f".json\n{begin}\n  ...\n```" in (ROOT / "README.md").read_text(encoding="utf-8")


def lines_of(name: str, finding: Finding) -> Iterator[str]:
    yield f"{name} [{finding.id}, {finding.where}, {finding.certainty}]"
    yield f"  {finding.cause}"
    for step in finding.fix:
        yield f"  {'or' if step.instead else 'do'}: {step.say}"
        yield from (f"      {command}" for command in step.commands)
    yield from (f"  {item.fact} = {item.value}" for item in finding.evidence)
    yield from (f"  ask {item.fact}: {item.command}" for item in finding.decides)


@pytest.mark.slow
def test_what_is_said_about_every_recorded_host(golden: Golden) -> None:
    """One file a layer; one test, so that the mutants of every rule run it."""
    lines: dict[StackLayer, list[str]] = {layer: [] for layer in LAYERS}
    for name in hosts():
        for finding in found(name):
            lines[finding.layer] += lines_of(name, finding)
    for layer, texts in lines.items():
        golden(f"doctor/findings/{layer.replace(' ', '-')}.txt", "\n".join(texts) + "\n")


@cache
def hosts_of() -> dict[str, list[str]]:
    """The recorded hosts on which each rule fires."""
    fired: dict[str, list[str]] = {}
    for name in hosts():
        for finding in found(name):
            fired.setdefault(finding.id, []).append(name)
    return fired


def said_about(rule: str, name: str) -> str:
    finding = BY_ID[rule].look(hosts()[name])
    return "\n".join(lines_of(name, finding)) if finding else ""


@pytest.mark.slow
def test_the_advice_of_another_rule_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Advice is pinned: with the steps of another rule, each rule says something else, or crashes."""
    texts = rule_texts()
    names = sorted(name for name, text in texts.items() if text.fix)
    for rule, other in zip(names, (*names[1:], names[0]), strict=True):
        layer = texts[rule].layer.replace(" ", "-")
        pinned = (ROOT / f"tests/golden/doctor/findings/{layer}.txt").read_text(encoding="utf-8")
        assert all(said_about(rule, name) in pinned for name in hosts_of()[rule])
        with monkeypatch.context() as swapped:
            mixed = {**texts, rule: replace(texts[rule], fix=texts[other].fix)}
            swapped.setattr("mlship.doctor.rules.base.rule_texts", lambda texts=mixed: texts)
            assert any(_differs(rule, name, pinned) for name in hosts_of()[rule]), f"{rule} with the steps of {other}"


def _differs(rule: str, name: str, pinned: str) -> bool:
    try:
        return said_about(rule, name) not in pinned
    except KeyError:  # a value that the other rule's text names
        return True


def test_a_rule_that_crashes_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on, and the report says which rule failed."""

    def crash(_facts: Facts) -> None:
        message = "boom"
        raise ZeroDivisionError(message)

    monkeypatch.setattr(BY_ID["nouveau-owns-gpu"], "look", crash)
    diagnosis = diagnose(two_causes())
    assert diagnosis.bugs == ("a bug in mlship's rule nouveau-owns-gpu: ZeroDivisionError: boom",)
    assert [cause.finding.id for cause in diagnosis.causes] == ["device-node-permission-denied", "cpu-only-torch"]
    assert "a bug in mlship's rule nouveau-owns-gpu" in diagnosis_text(diagnosis)
