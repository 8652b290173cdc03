"""The facts: JSON both ways, three ways of not knowing, several probes put together, and the page that describes it."""

import json
import re
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlship.doctor.diagnose import diagnose
from mlship.doctor.facts.fact import UNKNOWN, Unreadable, is_absent, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts, merge
from mlship.doctor.facts.kernel import Kernel, LoadedModule
from mlship.doctor.facts.replay import parse_facts
from mlship.doctor.facts.schema import facts_schema
from mlship.doctor.mask import mask
from mlship.doctor.probes.base import Look, Probe
from mlship.doctor.probes.run import look
from mlship.doctor.versions import same
from mlship.errors import UsageError
from mlship.report.doctor.text import diagnosis_text
from mlship.resources import read_package_file
from tests.helpers.doctor_hosts import hosts, mixed
from tests.helpers.facts_tables import markdown_tables
from tests.helpers.patience import limit
from tests.helpers.sampling import examples

PAGE = Path(__file__).parents[3] / "docs" / "doctor-facts.md"
MARKS = ("<!-- made by tests: begin -->\n", "<!-- made by tests: end -->\n")


def test_absent_unreadable_and_unknown_are_three_things() -> None:
    text = '{"schema": 1, "host": {"shm": null, "mps": {"unreadable": "permission denied", "root": true}}}'
    facts = parse_facts(text, "x")
    assert is_absent(facts.host.shm)
    assert facts.host.mps == Unreadable("permission denied", root=True)
    assert facts.host.binfmt == UNKNOWN
    assert [is_known(fact) for fact in (facts.host.shm, facts.host.mps, facts.host.binfmt)] == [True, False, False]
    assert parse_facts(facts.to_json(), "x") == facts


def test_a_table_that_could_not_be_read_is_no_table() -> None:
    facts = parse_facts('{"schema": 1, "host": {"env": {"unreadable": "no /proc"}}}', "x")
    assert known(facts.host.env) is None


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(mixed())
def test_json_both_ways(facts: Facts) -> None:
    text = facts.to_json()
    assert parse_facts(text, "x") == facts
    assert parse_facts(text, "x").to_json() == text


def test_parts_are_put_together() -> None:
    one = Facts(kernel=Kernel(release="6.1", modules={"nvidia": LoadedModule(version="550.54.15")}))
    other = Facts(
        kernel=Kernel(release="9", cgroup_version=2, modules={"nvidia": LoadedModule(refcnt=3), "nouveau": None})
    )
    whole = merge((one, other)).kernel
    assert (whole.release, whole.cgroup_version) == ("6.1", 2)
    assert looked_up(whole.modules, "nvidia") == LoadedModule(version="550.54.15", refcnt=3)
    assert is_absent(looked_up(whole.modules, "nouveau"))
    assert looked_up(whole.modules, "nvidia_uvm") == UNKNOWN
    assert merge(tuple(hosts().values())[:1]) == next(iter(hosts().values()))


def scripted(name: str, answer: Facts | Exception | float, seconds: float = 5.0) -> Probe:
    """A probe with a scripted answer."""

    def read(_look: Look) -> Facts:
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            time.sleep(answer)
            return Facts(kernel=Kernel(release="too late"))
        return answer

    return Probe(name, seconds, read)


def test_probes_that_crash_or_hang_are_facts_with_a_reason() -> None:
    started = time.monotonic()
    facts = look(
        Look(),
        (
            scripted("good", Facts(kernel=Kernel(release="6.1"))),
            scripted("crashes", OSError(13, "Permission denied")),
            scripted("hangs", 30.0, seconds=0.2),
        ),
    )
    assert time.monotonic() - started < limit(10)
    assert known(facts.kernel.release) == "6.1"
    runs = known(facts.probes)
    assert runs is not None
    assert [(run.name, run.problem) for run in runs] == [
        ("good", None),
        ("crashes", "PermissionError: [Errno 13] Permission denied"),
        ("hangs", "no answer within 0.2 s"),
    ]
    assert parse_facts(facts.to_json(), "x") == replace(facts)


def test_every_group_has_a_table() -> None:
    assert "unknown" not in str(facts_schema().get("default"))
    headings = re.findall(r"^### (\w+)$", markdown_tables(), re.MULTILINE)
    assert {"Facts", "Kernel", "Docker", "CdiSpec", "Torch"} <= set(headings)
    assert headings == ["Facts", *sorted(set(headings) - {"Facts"})]


def test_every_description_has_its_key() -> None:
    texts: dict[str, dict[str, str]] = tomllib.loads(read_package_file("data/facts.toml"))
    groups = {"Facts": facts_schema(), **facts_schema()["$defs"]}  # type: ignore[dict-item]  # a table of tables
    place = groups["Host"]["properties"].keys() & groups["Container"]["properties"].keys()  # type: ignore[attr-defined]
    assert texts.keys() - {"Place"} == groups.keys()
    for name, rows in texts.items():
        assert rows.pop("about"), name
        assert rows.keys() <= (place if name == "Place" else groups[name]["properties"].keys()), name  # type: ignore[attr-defined]


def test_the_page_is_current(request: pytest.FixtureRequest) -> None:
    """--update-golden rewrites its tables."""
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(MARKS[0])
    written, _, tail = rest.partition(MARKS[1])
    if request.config.getoption("--update-golden"):
        PAGE.write_text(f"{head}{MARKS[0]}\n{markdown_tables()}\n{MARKS[1]}{tail}", encoding="utf-8")
        return
    assert written.strip() == markdown_tables().strip(), "run pytest --update-golden"


def test_null_for_a_group_says_that_none_of_it_is_there() -> None:
    facts = parse_facts('{"schema": 1, "kernel": {"nvidia": null}, "host": {"docker": null}, "container": null}', "f")
    assert (facts.kernel.nvidia.version, facts.host.docker.binary) == (None, None)
    assert facts.container == Facts().container


@pytest.mark.parametrize(
    ("cmdline", "masked"),
    [
        ("BOOT_IMAGE=/vmlinuz root=UUID=1-2 ro quiet", "BOOT_IMAGE=masked root=masked ro quiet"),
        ("ip=10.0.0.7::gw:host7 ds=nocloud;h=acme nokaslr", "ip=masked ds=masked nokaslr"),
        ("nvidia-drm.modeset=0 rd.driver.blacklist=nouveau", "nvidia-drm.modeset=0 rd.driver.blacklist=nouveau"),
        ("intel_iommu=on vfio-pci.ids=10de:20b5 init=/corp/start", "intel_iommu=on vfio-pci.ids=10de:20b5 init=masked"),
    ],
)
def test_the_kernel_command_line_keeps_only_what_a_diagnosis_needs(cmdline: str, masked: str) -> None:
    assert mask(Facts(kernel=Kernel(cmdline=cmdline))).kernel.cmdline == masked


ABSURD: tuple[object, ...] = (
    -1,
    10**12,
    2**70,
    0.5,
    True,
    "",
    "banana",
    "\x00",
    "9" * 400,
    [],
    {},
    [[]],
    {"a": None},
    {"unreadable": "x"},
)


def _paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inside in items:
        yield (*path, key)
        yield from _paths(inside, (*path, key))


def _with(value: object, path: tuple[str | int, ...], new: object) -> object:
    if not path:
        return new
    if isinstance(value, list):
        return [_with(item, path[1:], new) if place == path[0] else item for place, item in enumerate(value)]
    assert isinstance(value, dict)
    return {**value, path[0]: _with(value[path[0]], path[1:], new)}


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_an_absurd_value_is_one_error_or_is_judged_without_a_crash(data: st.DataObject) -> None:
    pool = [*hosts().values(), *hosts("healthy").values()]
    plain = json.loads(data.draw(st.sampled_from(pool)).to_json())
    path = data.draw(st.sampled_from(list(_paths(plain))))
    text = json.dumps(_with(plain, path, data.draw(st.sampled_from(ABSURD))))
    try:
        facts = parse_facts(text, "x")
    except UsageError:
        return
    diagnosis = diagnose(facts)
    assert diagnosis.bugs == ()
    assert diagnosis_text(diagnosis)


@pytest.mark.parametrize(
    ("host", "path"),
    [
        (
            "device-node-permission-denied--judge-100-nodes-of-a-group",
            ("host", "device_nodes", "/dev/nvidiactl", "mode"),
        ),
        ("jax-cpu-only-jaxlib--plugin-of-another-release", ("host", "pythons", 0, "distributions", "jax-cuda12-pjrt")),
    ],
)
def test_an_empty_text_is_judged_without_a_crash(host: str, path: tuple[str | int, ...]) -> None:
    plain = json.loads(hosts()[host].to_json())
    assert diagnose(parse_facts(json.dumps(_with(plain, path, "")), "x")).bugs == ()


@pytest.mark.parametrize(
    ("fact", "value"),
    [("nvml.device_count", -1), ("nvml.init", -3), ("nvml.driver_version", "banana"), ("cuda.device_count", -2)],
)
def test_a_value_that_cannot_be_is_an_error_at_its_key(fact: str, value: object) -> None:
    group, key = fact.split(".")
    with pytest.raises(UsageError, match=f"host.{fact}: "):
        parse_facts(json.dumps({"schema": 1, "host": {group: {key: value}}}), "x")


@pytest.mark.parametrize(
    ("one", "other", "agree"), [("banana", "570.1", False), ("570", "570.1", True), ("a", "a", True)]
)
def test_what_is_no_version_agrees_with_no_version(one: str, other: str, agree: bool) -> None:
    assert same(one, other) is agree is same(other, one)
