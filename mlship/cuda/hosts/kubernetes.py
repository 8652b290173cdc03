"""A cluster's nodes as host profiles, by the labels of GPU Feature Discovery. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TextIO, TypeAlias

from pydantic import BaseModel, JsonValue, ValidationError

from mlship.cuda.hosts.node_list import HINT, list_items
from mlship.cuda.hosts.profile import HostGpu, HostProfile
from mlship.cuda.tables.lookup import offer_of
from mlship.cuda.versions import Driver, driver_in
from mlship.errors import UsageError
from mlship.project.base import PLATFORMS

Labels: TypeAlias = Mapping[str, str]

_GPU = "nvidia.com/gpu"
_DRIVER = "nvidia.com/cuda.driver-version.full"
_MIB = 1 << 20
_PRODUCT = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,62}?)(?:-MIG-(?P<mig>\d+g\.\d+gb[A-Za-z0-9.]*))?(?P<shared>-SHARED)?"
)


class _Meta(BaseModel):
    name: str
    labels: dict[str, str] | None = None


class _Status(BaseModel):
    allocatable: dict[str, JsonValue] | None = None
    capacity: dict[str, JsonValue] | None = None


class _Node(BaseModel):
    kind: str | None = None
    metadata: _Meta
    status: _Status | None = None


class _List(BaseModel):
    kind: str
    items: list[_Node]


class _Kind(BaseModel):
    kind: str


@dataclass(frozen=True)
class Pool:
    """Nodes with the same driver, GPU and processor.

    Attributes:
        host: their profile; its name is unique and safe as a file name.
        nodes: their names, sorted.
    """

    host: HostProfile
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Unlabelled:
    """A node with an NVIDIA GPU that its labels do not describe, and why."""

    node: str
    why: str


@dataclass(frozen=True)
class Nodes:
    """A cluster.

    Attributes:
        without_gpu: the number of nodes without an NVIDIA GPU.
    """

    pools: tuple[Pool, ...]
    unlabelled: tuple[Unlabelled, ...]
    without_gpu: int


@dataclass(frozen=True, order=True)
class _Kinship:
    """What nodes of one pool have in common."""

    product: str
    mig: str
    driver: Driver
    capability: str
    platform: str


@dataclass(frozen=True)
class _Described:
    node: str
    kin: _Kinship
    count: int | None
    memory: int | None
    cuda: str | None
    shared: bool
    suffix: str


def read_nodes(stream: TextIO) -> Nodes:
    """Read the output of `kubectl get nodes -o json`: a list of any length, or a single node.

    Raises:
        UsageError: it is something else.
    """
    described, unlabelled, without = [], [], 0
    for node in _parse(stream):
        labels = node.metadata.labels or {}
        if not _has_gpu(node, labels):
            without += 1
            continue
        try:
            described.append(_describe(node.metadata.name, labels))
        except ValueError as error:
            unlabelled.append(Unlabelled(node.metadata.name, str(error)))
    return Nodes(_pools(described), tuple(sorted(unlabelled, key=lambda each: each.node)), without)


def _parse(stream: TextIO) -> Iterator[_Node]:
    for number, item in enumerate(list_items(stream)):
        nodes = _whole(item) if isinstance(item, str) else [_item(item, number)]
        for node in nodes:
            if node.kind not in {None, "Node"}:
                raise UsageError(f"the input is a list of {node.kind}s, not of nodes", hint=HINT)
            yield node


def _item(item: object, number: int) -> _Node:
    try:
        return _Node.model_validate(item)
    except ValidationError as error:
        raise _not_nodes("{", error, ("items", number)) from error


def _whole(text: str) -> list[_Node]:
    """The nodes of a document that does not begin as kubectl writes a list."""
    try:
        if _Kind.model_validate_json(text).kind == "Node":
            return [_Node.model_validate_json(text)]
        return _List.model_validate_json(text).items
    except ValidationError as error:
        raise _not_nodes(text, error) from error


def _not_nodes(text: str, error: ValidationError, above: tuple[str | int, ...] = ()) -> UsageError:
    if not text.strip():
        return UsageError("the input is empty", hint=HINT)
    if not text.lstrip().startswith(("{", "[")):
        what = "YAML" if re.match(r"\s*(---|apiVersion:|kind:|items:)", text) else "not JSON"
        return UsageError(f"the input is {what}, but nodes must be JSON", hint=HINT)
    first = error.errors()[0]
    where = ".".join(str(part) for part in (*above, *first["loc"]))
    return UsageError(f"the input is not a list of nodes: {f'{where}: ' if where else ''}{first['msg']}", hint=HINT)


def _has_gpu(node: _Node, labels: Labels) -> bool:
    if labels.get(f"{_GPU}.present") == "true" or f"{_GPU}.product" in labels:
        return True
    if any(re.fullmatch(r".*/pci-(?:.*_)?10de(?:_.*)?\.present", label) for label in labels):
        return True
    status = node.status or _Status()
    return any(
        re.match(r"nvidia\.com/(gpu|mig-)", resource) and str(amount) != "0"
        for resource, amount in {**(status.capacity or {}), **(status.allocatable or {})}.items()
    )


def _describe(node: str, labels: Labels) -> _Described:
    """One node by its labels.

    Raises:
        ValueError: a label is missing or wrong.
    """
    raw = labels.get(f"{_GPU}.product", "")
    product = _PRODUCT.fullmatch(raw)
    if product is None:
        raise ValueError(f"label {_GPU}.product is {'not valid' if raw else 'missing'}")
    version = _driver(labels)
    driver, suffix = driver_in(version)
    if driver is None:
        raise ValueError(f"label {_DRIVER} is {version[:60]!r}, not a driver version such as 550.54.15")
    memory = _number(labels.get(f"{_GPU}.memory"))
    kin = _Kinship(product["name"], product["mig"] or "", driver, _capability(labels), _platform(labels))
    return _Described(
        node=node,
        kin=kin,
        count=_number(labels.get(f"{_GPU}.count")),
        memory=None if memory is None else memory * _MIB,
        cuda=_runtime(labels),
        shared=product["shared"] is not None,
        suffix=suffix,
    )


def _driver(labels: Labels) -> str:
    if full := labels.get(_DRIVER):
        return full
    for parts in (
        ("cuda.driver-version.major", "cuda.driver-version.minor", "cuda.driver-version.revision"),
        ("cuda.driver.major", "cuda.driver.minor", "cuda.driver.rev"),
    ):
        values = [labels.get(f"nvidia.com/{part}", "") for part in parts]
        if values[0] and values[1]:
            return ".".join(value for value in values if value)
    raise ValueError(f"label {_DRIVER} and its older forms are missing")


def _capability(labels: Labels) -> str:
    """Compute capability; empty where the labels do not have it."""
    pair = (labels.get(f"{_GPU}.compute.major", ""), labels.get(f"{_GPU}.compute.minor", ""))
    return ".".join(pair) if all(re.fullmatch(r"\d{1,2}", part) for part in pair) else ""


def _runtime(labels: Labels) -> str | None:
    full = labels.get("nvidia.com/cuda.runtime-version.full")
    pair = (labels.get("nvidia.com/cuda.runtime.major", ""), labels.get("nvidia.com/cuda.runtime.minor", ""))
    text = full or ".".join(pair)
    return text if re.fullmatch(r"\d{1,2}\.\d{1,2}", text) else None


def _platform(labels: Labels) -> str:
    arch = labels.get("kubernetes.io/arch") or labels.get("beta.kubernetes.io/arch") or ""
    platform = f"linux/{arch}"
    if platform not in PLATFORMS:
        raise ValueError(f"label kubernetes.io/arch is {arch!r}, but images are for {' or '.join(PLATFORMS)}")
    return platform


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d{1,9}", text) else None


def _pools(described: list[_Described]) -> tuple[Pool, ...]:
    families: dict[_Kinship, list[_Described]] = {}
    for each in sorted(described, key=lambda one: one.node):
        families.setdefault(each.kin, []).append(each)
    names = _names(sorted(families))
    return tuple(
        Pool(_profile(names[kin], kin, families[kin]), tuple(each.node for each in families[kin]))
        for kin in sorted(families, key=lambda kin: names[kin])
    )


def _profile(name: str, kin: _Kinship, family: list[_Described]) -> HostProfile:
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


def _notes(kin: _Kinship, family: list[_Described]) -> list[str]:
    notes = []
    counts = sorted({each.count for each in family if each.count})
    if not counts:
        notes.append("the labels do not give the number of GPUs of a node")
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
        notes.append(f"the labels report CUDA {versions[0]}, but driver {kin.driver} supports {offered.cuda}")
    notes.extend(
        f"the labels report driver {kin.driver}{suffix}; matched as {kin.driver}"
        for suffix in sorted({each.suffix for each in family if each.suffix})
    )
    return notes


def _names(kinships: list[_Kinship]) -> dict[_Kinship, str]:
    """A file name for each: product and driver branch, and more only where two would be equal."""
    names: dict[_Kinship, str] = {}
    for parts in (_short, _with_driver, _with_all):
        open_ = [kin for kin in kinships if kin not in names]
        made = [parts(kin) for kin in open_]
        taken = set(names.values())
        names.update(
            (kin, name) for kin, name in zip(open_, made, strict=True) if made.count(name) == 1 and name not in taken
        )
    for kin in kinships:
        if kin not in names:  # products that differ only in characters that file names leave out
            names[kin] = next(
                name
                for number in range(2, len(kinships) + 2)
                if (name := f"{_with_all(kin)}-{number}") not in names.values()
            )
    return names


def _short(kin: _Kinship) -> str:
    mig = f"-mig-{kin.mig}" if kin.mig else ""
    return f"{_slug(f'{kin.product}{mig}')}-r{kin.driver.branch}"


def _with_driver(kin: _Kinship) -> str:
    return f"{_short(kin)}-{kin.driver}"


def _with_all(kin: _Kinship) -> str:
    return f"{_with_driver(kin)}-{kin.platform.partition('/')[2]}{f'-sm{kin.capability}' if kin.capability else ''}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:80] or "gpu"
