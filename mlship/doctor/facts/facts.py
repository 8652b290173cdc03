"""All facts as one frozen value with JSON both ways."""

from mlship.doctor.facts.container import Container, Image
from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup
from mlship.doctor.facts.host import Host
from mlship.doctor.facts.kernel import Kernel
from mlship.doctor.facts.kubernetes import Kubernetes
from mlship.versioned import adapter

SCHEMA = 1


class ProbeRun(FactGroup):
    name: str
    seconds: Fact[float] = UNKNOWN
    problem: Fact[str] = UNKNOWN


class Facts(FactGroup):
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
        """The text of a facts file without unknown facts; the same facts give the same bytes."""
        import json

        plain: object = adapter(Facts).dump_python(self, mode="json", exclude_defaults=True)
        assert isinstance(plain, dict)  # noqa: S101  for mypy: a dataclass dumps to a dict
        return json.dumps({"schema": self.schema, **plain}, indent=2, ensure_ascii=False) + "\n"
