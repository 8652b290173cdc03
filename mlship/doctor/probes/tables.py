"""What the probes look for, and what it means."""

from dataclasses import dataclass

from mlship.doctor.facts.host import PackageAction
from mlship.doctor.facts.kubernetes import Role
from mlship.versioned import table_reader


@dataclass(frozen=True)
class ContainerdInstall:
    distribution: str
    config: str
    program: str
    source: str


@dataclass(frozen=True)
class RuntimeTable:
    table: tuple[str, ...]
    runtimes: tuple[str, ...]
    default: tuple[str, ...]
    program: tuple[str, ...]
    source: str
    cdi: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProbeTables:
    """mlship/data/probes.toml, which explains the keys."""

    modules: tuple[str, ...]
    units: tuple[str, ...]
    logged_units: tuple[str, ...]
    kernel_log: str
    kernel_noise: str
    packages: str
    managers: dict[str, str]
    apt: dict[str, PackageAction]
    dnf: dict[str, PackageAction]
    machines: dict[str, str]
    pods: dict[Role, str]
    nvidia_smi: dict[str, int]
    containerd: tuple[ContainerdInstall, ...]
    cri: tuple[RuntimeTable, ...]
    crio: tuple[RuntimeTable, ...]


probe_tables = table_reader(ProbeTables, "probes")
