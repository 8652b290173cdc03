"""The probe of an image: its time limit, what it leaves, and questions without an answer."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import pytest

from mlship.doctor.facts.container import Container, Image
from mlship.doctor.facts.facts import Facts, ProbeRun
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.container import image_probe
from mlship.doctor.probes.run import look, open_question
from mlship.engine.look import EngineLook, LookResult, Ran, Trial

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class SlowEngine(EngineLook):
    """An engine whose containers start late, or never answer."""

    start_seconds: float = 0.0
    there: set[str] = field(default_factory=set)
    lives: list[int] = field(default_factory=list)

    def about(self) -> LookResult:
        return LookResult({})

    def endpoint(self) -> LookResult:
        return LookResult({})

    def image(self, reference: str) -> LookResult:
        return LookResult({"Architecture": "amd64", "Config": {}})

    def container(self, name: str) -> LookResult:
        return LookResult({}, "not there")

    def registry(self, reference: str) -> LookResult:
        return LookResult({}, "not there")

    def execute(self, container: str, argv: tuple[str, ...], seconds: float, env: Mapping[str, str] = NOTHING) -> Ran:
        _ = (container, argv, seconds, env)
        return Ran(None)

    def start(self, trial: Trial) -> Ran:
        time.sleep(self.start_seconds)
        self.there.add(trial.name)
        self.lives.append(int(trial.command[-1].split()[-1]))
        return Ran(0)

    def remove(self, container: str) -> None:
        self.there.discard(container)


def test_nothing_is_left_and_the_probe_says_that_there_was_no_answer() -> None:
    engine = SlowEngine()
    facts = look(Look(image="a", seconds=2), (image_probe(engine),))
    assert engine.there == set()
    assert open_question(Look(image="a", seconds=2), facts) == (
        "image a was not examined: nothing in it answered within 2 s"
    )
    assert engine.lives == [6]  # a container that is left anyway ends by itself


def test_a_container_that_starts_after_the_limit_is_removed_too() -> None:
    engine = SlowEngine(start_seconds=0.5)
    what = Look(image="a", seconds=0.1)
    facts = look(what, (image_probe(engine),))
    assert open_question(what, facts) == "image a was not examined: no answer within 0.1 s"
    deadline = time.monotonic() + 5
    while not engine.lives or engine.there:  # the abandoned thread removes what it started
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("container", "image", "has_answer"),
    [
        (Container(error="refused"), Image(), True),
        (Container(device_nodes={}), Image(), True),
        (Container(status="exited"), Image(), True),
        (Container(), Image(registry_status=404), True),
        (Container(status="running"), Image(), False),
        (Container(), Image(), False),
    ],
)
def test_what_counts_as_an_answer(container: Container, image: Image, has_answer: bool) -> None:
    facts = Facts(container=container, image=image, probes=(ProbeRun("image", 1.0, None),))
    assert (open_question(Look(image="a"), facts) is None) is has_answer
    assert open_question(Look(), facts) is None
    failed = replace(facts, probes=(ProbeRun("container", problem="ValueError: x"),))
    said = open_question(Look(container="b"), failed)
    assert said == (None if has_answer else "container b was not examined: ValueError: x")
