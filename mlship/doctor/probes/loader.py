"""The dynamic loader's search path, the C library and the distribution."""

from dataclasses import dataclass

from mlship.doctor.facts.facts import Facts
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.inside import INSIDE
from mlship.doctor.probes.parts import read_place
from mlship.doctor.probes.where import placed
from mlship.driver.child import run_script


@dataclass(frozen=True)
class LoaderProbe:
    """Reads files only, in its own process, because a folder may be on a network that does not answer."""

    name: str = "loader"
    seconds: float = 4.0

    def read(self, look: Look) -> Facts:
        return placed(look.root, read_place(run_script(INSIDE / "loader.py", (str(look.root),), self.seconds - 1)))
