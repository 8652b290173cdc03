"""Nodes that are alike as one host profile. Pure."""

import re
from collections import Counter
from dataclasses import dataclass

from mlship.cuda.hosts.profile import HostGpu, HostProfile
from mlship.cuda.tables.lookup import offer_of
from mlship.cuda.versions import Driver


@dataclass(frozen=True)
class Pool:
    """Nodes with the same driver, GPU and processor.

    Attributes:
        host: their profile; its name is unique and safe as a file name.
        nodes: their names, sorted.
    """

    host: HostProfile
    nodes: tuple[str, ...]


@dataclass(frozen=True, order=True)
class Kinship:
    """What nodes of one pool have in common."""

    product: str
    mig: str
    driver: Driver
    capability: str
    platform: str


@dataclass(frozen=True)
class Described:
    """One kind of GPU on a node.

    Attributes:
        suffix: what follows the driver's version, such as "-grid".
    """

    node: str
    kin: Kinship
    count: int | None
    memory: int | None
    cuda: str | None
    shared: bool
    suffix: str
    notes: tuple[str, ...] = ()


def pools_of(described: list[Described]) -> tuple[Pool, ...]:
    families: dict[Kinship, list[Described]] = {}
    for each in sorted(described, key=lambda one: one.node):
        families.setdefault(each.kin, []).append(each)
    names = _names(sorted(families))
    return tuple(
        Pool(_profile(names[kin], kin, families[kin]), tuple(each.node for each in families[kin]))
        for kin in sorted(families, key=lambda kin: names[kin])
    )


def _profile(name: str, kin: Kinship, family: list[Described]) -> HostProfile:
    gpu = HostGpu(
        name=kin.product,
        capability=kin.capability or None,
        count=min((each.count for each in family if each.count), default=1),
        memory=min((each.memory for each in family if each.memory), default=None),
        mig=True if kin.mig else None,
    )
    versions = {each.cuda for each in family}
    return HostProfile(
        name=name,
        driver=str(kin.driver),
        gpus=(gpu,),
        platform=kin.platform,
        cuda=versions.pop() if len(versions) == 1 else None,
        source="labels",
        notes=tuple(_notes(kin, family)),
    )


def _notes(kin: Kinship, family: list[Described]) -> list[str]:
    notes = []
    counts = sorted({each.count for each in family if each.count})
    if not counts:
        notes.append("nothing gives the number of GPUs of a node")
    elif len(counts) > 1:
        notes.append(f"nodes have {counts[0]} to {counts[-1]} of these GPUs; this file has the smallest number")
    if kin.mig:
        notes.append(f"the GPUs are split into MIG slices {kin.mig}; count and memory are those of the slices")
    if any(each.shared for each in family):
        notes.append("the GPUs are shared by time-slicing")
    versions = sorted({each.cuda for each in family if each.cuda})
    if len(versions) > 1:
        notes.append(f"nodes with this driver report different CUDA versions: {', '.join(versions)}")
    offered = offer_of(kin.driver)
    if len(versions) == 1 and offered.cuda and not offered.at_least and versions[0] != str(offered.cuda):
        notes.append(f"the nodes report CUDA {versions[0]}, but driver {kin.driver} supports {offered.cuda}")
    notes.extend(
        f"the nodes report driver {kin.driver}{suffix}; matched as {kin.driver}"
        for suffix in sorted({each.suffix for each in family if each.suffix})
    )
    notes.extend(sorted({note for each in family for note in each.notes}))
    return notes


def _names(kinships: list[Kinship]) -> dict[Kinship, str]:
    """A file name for each: product and driver branch, and more only where two would be equal."""
    made = {kin: [_name(kin, detail) for detail in (1, 2, 3)] for kin in kinships}
    counts = Counter(name for each in made.values() for name in each)
    names: dict[Kinship, str] = {}
    for kin, each in made.items():
        # products that differ only in characters that file names leave out
        numbered = (f"{each[-1]}-{number}" for number in range(2, 2 * len(kinships) + 2))
        free = (name for name in numbered if name not in counts and name not in names.values())
        names[kin] = next((name for name in each if counts[name] == 1), "") or next(free)
    return names


def _name(kin: Kinship, detail: int) -> str:
    mig = f"-mig-{kin.mig}" if kin.mig else ""
    product = re.sub(r"[^a-z0-9.]+", "-", f"{kin.product}{mig}".lower()).strip("-.")[:80] or "gpu"
    capability = f"-sm{kin.capability}" if kin.capability else ""
    parts = (f"{product}-r{kin.driver.branch}", str(kin.driver), f"{kin.platform.partition('/')[2]}{capability}")
    return "-".join(parts[:detail])
