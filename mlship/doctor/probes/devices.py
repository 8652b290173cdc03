"""Device nodes, mounts, environment, user: what a process is given here."""

from dataclasses import dataclass

from mlship.doctor.facts.facts import Facts
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.child import run_inside
from mlship.doctor.probes.parts import read_place
from mlship.doctor.probes.where import placed


@dataclass(frozen=True)
class DevicesProbe:
    """In a process of its own, since opening a node asks the driver.

    A node says little of the driver: NVIDIA's libraries make /dev/nvidiactl when root asks them, module or no module.
    """

    name: str = "devices"
    seconds: float = 4.0

    def read(self, look: Look) -> Facts:
        return placed(look.root, read_place(run_inside("nodes", (str(look.root),), self.seconds - 1)))
