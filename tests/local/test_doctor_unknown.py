"""Doctor with missing facts, one by one, and on combined hosts: no errors and no false causes.

Thousands of diagnoses, so it is not among the fast tests.
"""

import itertools
from fnmatch import fnmatchcase
from functools import cache, reduce

import pytest
from hypothesis import HealthCheck, given, settings

from mlship.doctor.diagnose import diagnose
from mlship.doctor.facts.fact import is_known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.queries import fact_at
from mlship.doctor.rules import RULES
from mlship.doctor.rules.base import Rule
from mlship.report.doctor.text import diagnosis_text
from mlship.versioned import to_json
from tests.helpers.doctor_hosts import expected, hosts, leaves, mixed, put, without
from tests.helpers.sampling import examples, part

BY_ID = {rule.id: rule for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_is_silent_without_each_fact_that_it_needs(rule: Rule) -> None:
    fired = [name for name, entry in expected().items() if rule.id in (*entry.causes, *entry.follows)]
    for name, path in itertools.product(fired, rule.text.needs):
        facts = hosts()[name]
        for one, where in itertools.product(path.split(" | "), ("host", "container")):
            facts = without(facts, one.replace("place.", f"{where}.", 1))
        assert rule.look(facts) is None, f"{rule.id} fires on {name} without {path}"


@pytest.mark.parametrize("name", hosts())
def test_unknown_facts_cause_no_error_and_no_new_cause(name: str) -> None:
    """With fewer facts, doctor finds the same causes, fewer, or less certain ones, but no other certain cause."""
    want = {*expected()[name].causes, *expected()[name].follows, *expected()[name].less}
    for path in leaves(hosts()[name]):
        diagnosis = diagnose(without(hosts()[name], path))
        assert not diagnosis.bugs, path
        new = {c.finding.id for c in diagnosis.causes if c.finding.certainty == "certain"} - want
        assert not new, f"without {path}: {new}"


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(mixed())
def test_no_host_causes_an_error_or_two_contradictory_causes(facts: Facts) -> None:
    diagnosis = diagnose(facts)
    assert not diagnosis.bugs
    found = {finding.id for cause in diagnosis.causes for finding in (cause.finding, *cause.findings)}
    for name in found:
        assert not found & set(BY_ID[name].text.excludes), f"{name} beside a rule that it excludes"
    assert (diagnosis.verdict == "problem") is bool(diagnosis.causes or diagnosis.unexplained)
    assert diagnosis_text(diagnosis, verbose=True)
    assert to_json(diagnosis)


# Facts that one look shows together: all of them are unknown, or none.
TOGETHER = (
    ("container.host_config", "container.injection", "container.env", "image.env", "container.engine"),
    ("host.docker.rootless", "host.docker.security_options"),
    ("host.docker.binary", "host.docker.root_dir", "host.docker.operating_system"),
    (
        *("host.wsl", "host.tegra", "host.virtualization", "kernel.nvidia.version", "kernel.modules"),
        *("host.device_nodes", "kernel.module_files"),
    ),
    (
        "host.cuda.devices",
        "container.cuda.devices",
        "host.nvml.devices",
        "container.nvml.devices",
        "kernel.pci",
        "host.os.arch",
    ),
)
# What these answer decides which failure comes first, not whether this one is there.
PRECEDENCE = ("container.engine", "*.init", "*.device_count", "*.libc.family")
# The installed engine decides, unless the container says otherwise.
# GPUs on the PCI bus contradict WSL and Jetson. A module of another driver contradicts the version that NVML reports.
CONTRADICTED = ("host.wsl", "host.tegra", "kernel.modules", "kernel.nvidia.version")
# The message or code itself proves the cause; another value of this fact would contradict it.
PROVEN = {
    ("apt-signed-by-conflict", "host.packages.manager"),
    ("apt-signed-by-conflict", "host.os.id"),
    ("nvml-unknown-error-after-daemon-reload", "host.docker.rootless"),
    ("ldcache-not-updated-debian-ldconfig", "host.paths"),
    ("k8s-ldconfig-killed-signal-9", "host.toolkit.cli_version"),
    ("toolkit-older-than-cgroup-v2", "host.toolkit.cli_version"),
    ("nvml-lib-kmod-mismatch-after-upgrade", "host.nvml.library"),
    ("cdi-spec-stale-after-driver-upgrade", "container.error"),
    ("require-not-enforced-cdi", "container.cuda.driver_version"),
    ("require-not-enforced-cdi", "container.cuda.library"),
    ("nvml-unknown-error-after-daemon-reload", "container.device_nodes"),
    ("nvml-unknown-error-after-daemon-reload", "container.started_at"),
    ("nvml-unknown-error-after-daemon-reload", "host.systemd_reloaded_at"),
    ("rootless-docker-no-cgroups", "host.tegra"),
    ("shm-exhausted", "container.host_config.ipc_mode"),
    ("docker-no-nvidia-driver-registered", "container.host_config.cdi_devices"),
    ("docker-no-nvidia-driver-registered", "host.docker.daemon_hooks"),
    ("nvml-unknown-error-after-daemon-reload", "host.docker.security_options"),
    ("toolkit-libnvidia-container-version-skew", "container.injection"),
    ("toolkit-libnvidia-container-version-skew", "container.host_config.cdi_devices"),
    ("pascal-volta-cuda13-wheel", "container.os.arch"),
    ("wrong-arch-image", "image.architecture"),
    ("k8s-no-runtime-nvidia", "host.containerd"),
    ("driver-not-installed", "host.packages.installed"),
    ("driver-not-installed", "kernel.dkms"),
}


def together(path: str) -> tuple[str, ...]:
    return next((group for group in TOGETHER if any(path.startswith(one) for one in group)), (path,))


@cache
def values_of(path: str) -> tuple[object, ...]:
    """Absent, and what recorded hosts have there."""
    found: list[object] = [None]
    for facts in (*hosts().values(), *hosts("healthy").values()):
        value = fact_at(facts, path)
        if is_known(value) and value not in found:
            found.append(value)
    return tuple(found[:12])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_finding_is_only_likely_without_a_fact_that_could_rule_it_out(rule: Rule) -> None:
    """If some value of a fact silences the rule, the rule is not certain while that fact is unknown."""
    sure = [facts for facts in hosts().values() if (one := rule.look(facts)) and one.certainty == "certain"]
    for facts, path in ((one, path) for one in part(sure)[:3] for path in leaves(one)):
        if (rule.id, path) in PROVEN or any(fnmatchcase(path, pattern) for pattern in (*PRECEDENCE, *CONTRADICTED)):
            continue
        unknown = reduce(without, together(path), facts)
        finding = rule.look(unknown)
        if finding and finding.certainty == "certain":
            ruled_out = [value for value in values_of(path) if rule.look(put(unknown, path, value)) is None]
            assert not ruled_out, f"{rule.id} is certain without {path}, but silent if it is {ruled_out[0]!r}"
