"""Containers that print recorded events."""

import json
from dataclasses import asdict, dataclass

from mlship.engine.base import ExitState
from mlship.smoke.events import Event
from tests.helpers.fakes import FakeEngine, Script


def lines_of(*events: Event) -> tuple[str, ...]:
    return tuple(json.dumps(asdict(event)) for event in events)


@dataclass
class Served(FakeEngine):
    """Its server exits cleanly on SIGTERM."""

    def signal(self, container: str, name: str) -> None:
        super().signal(container, name)
        if name == "SIGTERM":
            self.running[container] = (Script(), ExitState(0, out_of_memory=False))
