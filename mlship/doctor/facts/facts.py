"""Everything that doctor saw, as one frozen value with JSON both ways."""

from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter

from mlship.doctor.facts.container import Container, Image
from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup
from mlship.doctor.facts.host import Host
from mlship.doctor.facts.kernel import Kernel
from mlship.doctor.facts.kubernetes import Kubernetes

SCHEMA = 1


@dataclass(frozen=True)
class ProbeRun(FactGroup):
    """How one probe went; `problem` says why it has no answer, and is absent where it has one."""

    name: str
    seconds: Fact[float] = UNKNOWN
    problem: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class Facts(FactGroup):
    """What was seen, or written by hand.

    Attributes:
        mlship: version of the mlship that recorded it.
        simulated: the libraries that answered say that they are a simulation.
        host: seen from the host.
        container: seen from inside the container in question.
        kubernetes: the node that this host is; absent where it is none.
        messages: lines that a user saw: of the engine, of a framework, of a pod.
        probes: how the probes went.
    """

    mlship: Fact[str] = UNKNOWN
    simulated: Fact[bool] = UNKNOWN
    kernel: Kernel = Kernel()
    host: Host = Host()
    container: Container = Container()
    image: Image = Image()
    kubernetes: Fact[Kubernetes] = UNKNOWN
    messages: Fact[tuple[str, ...]] = UNKNOWN
    probes: Fact[tuple[ProbeRun, ...]] = UNKNOWN
    schema: int = SCHEMA

    def to_json(self) -> str:
        """The text of a facts file: what is unknown is left out; the same facts give the same bytes."""
        import json

        plain: object = adapter().dump_python(self, mode="json", exclude_defaults=True)
        assert isinstance(plain, dict)  # noqa: S101  for mypy: it is made from a dataclass
        return json.dumps({"schema": self.schema, **plain}, indent=2, ensure_ascii=False) + "\n"


@cache
def adapter() -> TypeAdapter[Facts]:
    """Validates and writes facts; costly to make."""
    return TypeAdapter(Facts)
