"""The language of the conditions in mlship/data/rules."""

import json
import re
from dataclasses import is_dataclass

import pytest

from mlship.doctor.conditions import NAMED, all_atoms_hold, evidence_of, value_at
from mlship.doctor.facts.fact import UNKNOWN, Unknown
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.replay import parse_facts
from mlship.doctor.finding import Evidence
from mlship.doctor.rule_texts import rule_texts

FACTS: Facts = parse_facts(
    json.dumps(
        {
            "schema": 1,
            "host": {
                "nvml": {"init": 18, "library": {"path": "/lib/libnvidia-ml.so.1"}},
                "cuda": {"library": None, "init": 0},
                "env": {"PATH": "/bin:/opt/bin"},
                "loader": {"conf": {"b": ["/x", "/compat"], "a": ["/compat"], "c": ["/x"]}},
                "wsl": {"drivers": ["intel", "nv_dispi"]},
                "device_nodes": {"/dev/nvidiactl": {"open": "EPERM"}, "/dev/nvidia-uvm": None},
                "toolkit": {"version": "1.17.4-1"},
                "selinux": {"denials": ["avc: a", "avc: b"]},
                "cdi": {"specs": [{"path": "/a", "kind": "x/gpu"}, {"path": "/b"}]},
            },
            "kernel": {"log": ["NVRM: first", "NVRM: last"]},
            "messages": ["driver/library version mismatch"],
        }
    ),
    "facts.json",
)


@pytest.mark.parametrize(
    ("atom", "true"),
    [
        ("host.nvml.init", True),
        ("host.nvml.init = 0, 18", True),
        ("host.nvml.init = 1", False),
        ("host.cuda.init", False),  # 0
        ("host.cuda.init known", True),
        ("host.cuda.library absent", True),
        ("host.cuda.library.path absent", True),
        ("!host.cuda.library", True),
        ("container.nvml.init", False),
        ("!container.nvml.init = 0", True),  # unknown
        ("container.nvml.init absent", False),
        ("host.env[LD_PRELOAD] absent", True),  # the environment is complete
        ("host.device_nodes[/dev/nvidia0] absent", False),  # this node was not looked at
        ("host.device_nodes[/dev/nvidia-uvm] absent", True),
        ("host.device_nodes[/dev/nvidiactl].open = EPERM", True),
        ("host.toolkit.version >= 1.17", True),
        ("host.toolkit.version < 1.17.4", False),
        ("host.docker.version < 99", False),  # unknown
        ("host.env.PATH ~ ^/b", True),
        ("works | host.nvml.init", True),
        ("works & host.nvml.init", False),
        ("given = yes", True),
        ("host.cdi.specs.path = /c, /b", True),  # one of the items
        ("host.cdi.specs.path = /c", False),
        ("host.cdi.specs.kind ~ ^x", True),  # the kind of the other is unknown
        ("host.cdi.specs.mode ~ .", False),
        ("host.selinux.denials ~ ^avc: b", True),
        ("host.toolkit.version newer host.toolkit.version", False),
        ("host.toolkit.version same host.toolkit.version", True),
        ("'2026-07-02T00:00:00Z' after '2026-07-01T06:00:00Z'", True),
        ("'2026-07-01T06:00:00Z' after '2026-07-01T06:00:00Z'", False),
        ("host.docker.daemon_started_at after '2026-07-01T06:00:00Z'", False),  # unknown
        ("host.toolkit.version same host.docker.version", False),  # unknown
        ("!host.toolkit.version same host.docker.version", True),
    ],
)
def test_an_atom(atom: str, *, true: bool) -> None:
    assert all_atoms_hold(FACTS, atom, {"given": "yes"}) is true


def test_a_term() -> None:
    assert value_at(FACTS, "container.nvml.init | host.nvml.init", {}) == 18
    assert value_at(FACTS, "container.nvml.init | 'none here'", {}) == "none here"
    assert value_at(FACTS, "container.nvml.init", {}) == UNKNOWN
    assert value_at(FACTS, "log ~ NVRM", {}) == Evidence("kernel.log", "NVRM: last")
    assert value_at(FACTS, "lines ~ mismatch", {}) == Evidence("messages", "driver/library version mismatch")
    assert value_at(FACTS, "log ~ Xid", {}) is None
    assert value_at(FACTS, "nvml ~ 1.", {}) == (Evidence("host.nvml.init", "18 (driver/library version mismatch)"),)
    assert value_at(FACTS, "nvml ~ 1", {}) is None
    assert value_at(FACTS, "cuda ~ .+", {}) is None  # 0 is no failure
    assert value_at(FACTS, "host.cdi.specs.kind", {}) == ("x/gpu",)
    assert value_at(FACTS, "reported", {"reported": None}) is None  # a value, no line
    assert value_at(FACTS, "host.wsl.drivers ~ ^nv", {}) == "nv_dispi"
    assert value_at(FACTS, "host.loader.conf ~ compat", {}) == ("a", "b")
    assert value_at(FACTS, "host.env.PATH without ^/opt", {}) == "/bin"
    assert value_at(FACTS, "host.env.PATH without bin", {}) is None


def test_evidence() -> None:
    items = ("host.nvml.init", "container.nvml.init", "host.nvml.library", "a = {x}", "b = no if x = z", "c = {*y}!")
    assert [(one.fact, one.value) for one in evidence_of(FACTS, items, {"x": "X", "y": ("{1}", "2")})] == [
        ("host.nvml.init", "18 (driver/library version mismatch)"),
        ("host.nvml.library", "/lib/libnvidia-ml.so.1"),
        ("a", "X"),
        ("c", "{1}!"),
        ("c", "2!"),
    ]


def test_what_is_no_atom_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no atom"):
        all_atoms_hold(FACTS, "host.nvml.init is 0", {})


COMPUTED = {"device", "library"}  # values with parts, which the functions of rules return


@pytest.mark.parametrize("rule_id", [rule_id for rule_id, text in rule_texts().items() if text.when or text.evidence])
def test_every_term_of_a_rule_is_a_fact_or_a_name(rule_id: str) -> None:
    text = rule_texts()[rule_id]
    atoms = [*text.when, *text.certain, *(term[:-2] for term in text.values.values() if term.endswith(" ?"))]
    atoms += [part for item in text.evidence for part in item.partition(" if ")[2:] if part]
    singles = [one for atom in atoms for part in atom.split(" & ") for one in part.split(" | ")]
    terms = {one.removeprefix("!").partition(" ")[0] for one in singles}
    terms |= {
        one for term in text.values.values() if " ~ " not in term and term[-1] != "?" for one in term.split(" | ")
    }
    terms |= {item.partition(" if ")[0] for item in text.evidence if " = " not in item.partition(" if ")[0]}
    for term in terms:
        path = re.sub(r"^place\.", "host.", term)
        head = re.split(r"[.[]", path)[0]
        is_value = path.startswith("'") or head in {*NAMED, *text.values} or "." not in path or head in COMPUTED
        assert is_value or _path_is_valid(path), term


def _path_is_valid(path: str) -> bool:
    """Every group of a fact's path exists, as far as the types of an empty file of facts show."""
    value: object = Facts()
    for part in (key or name for key, name in re.findall(r"\[([^]]+)\]|([\w-]+)", path)):
        if not is_dataclass(value):
            return isinstance(value, Unknown)
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True
