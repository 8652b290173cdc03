"""Device nodes, mounts, environment and user of a process here."""

from dataclasses import dataclass

from mlship.doctor.facts.facts import Facts
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.child import run_inside
from mlship.doctor.probes.parts import read_place
from mlship.doctor.probes.where import placed


@dataclass(frozen=True)
class DevicesProbe:
    """Runs in its own process, because opening a node calls the driver.

    A node proves little: for root, NVIDIA's libraries create /dev/nvidiactl even without the module.
    """

    name: str = "devices"
    seconds: float = 4.0

    def read(self, look: Look) -> Facts:
        return placed(look.root, read_place(run_inside("nodes", (str(look.root),), self.seconds - 1)))
