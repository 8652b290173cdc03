"""Device nodes, mounts, environment and user of a process here."""

from dataclasses import dataclass

from mlship.doctor.facts.facts import Facts
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.inside import INSIDE
from mlship.doctor.probes.parts import read_place
from mlship.doctor.probes.where import placed
from mlship.driver.child import run_script


@dataclass(frozen=True)
class DevicesProbe:
    """Runs in its own process, because opening a node calls the driver.

    A node proves little: for root, NVIDIA's libraries create /dev/nvidiactl even without the module.
    """

    name: str = "devices"
    seconds: float = 4.0

    def read(self, look: Look) -> Facts:
        return placed(look.root, read_place(run_script(INSIDE / "nodes.py", (str(look.root),), self.seconds - 1)))
