"""A cluster's nodes as host profiles, by the labels of GPU Feature Discovery or by ResourceSlices. Pure."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TextIO, TypeAlias

from pydantic import BaseModel, JsonValue, ValidationError

from mlship import plain
from mlship.cuda.hosts.node_list import HINT, list_items
from mlship.cuda.hosts.pools import Described, Kinship, Pool, pools_of
from mlship.cuda.hosts.slices import NVIDIA, Slice, gpus_of, on_platform
from mlship.cuda.versions import driver_in
from mlship.errors import UsageError
from mlship.project.base import PLATFORMS

Labels: TypeAlias = Mapping[str, str]

_GPU = "nvidia.com/gpu"
_DRIVER = "nvidia.com/cuda.driver-version.full"
_DRIVER_LABELS = (  # the newest form first
    ("cuda.driver-version.full",),
    ("cuda.driver-version.major", "cuda.driver-version.minor", "cuda.driver-version.revision"),
    ("cuda.driver.major", "cuda.driver.minor", "cuda.driver.rev"),
)
_MIB = 1 << 20
_MIXED = re.compile(r"nvidia\.com/mig-(\d+g\.\d+gb[A-Za-z0-9.]*)\.count")
_VENDORS = {
    "AMD": re.compile(
        r"(?:beta\.)?amd\.com/|feature\.node\.kubernetes\.io/(?:amd-gpu|pci-(?:.*_)?1002(?:_.*)?\.present)"
    ),
    "Intel": re.compile(r"gpu\.intel\.com/|feature\.node\.kubernetes\.io/intel\.gpu"),
}
_PRODUCT = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,62}?)(?:-MIG-(?P<mig>\d+g\.\d+gb[A-Za-z0-9.]*))?(?P<shared>-SHARED)?"
)
_DRIVERS = {"gpu.amd.com": "AMD", "gpu.intel.com": "Intel"}


class _Meta(BaseModel):
    name: str
    labels: dict[str, str] | None = None


class _Condition(BaseModel):
    type: str
    status: str


class _Status(BaseModel):
    allocatable: dict[str, JsonValue] | None = None
    capacity: dict[str, JsonValue] | None = None
    conditions: list[_Condition] | None = None


class _NodeSpec(BaseModel):
    unschedulable: bool | None = None


class _Node(BaseModel):
    kind: str | None = None
    metadata: _Meta
    spec: _NodeSpec | None = None
    status: _Status | None = None

    @property
    def resources(self) -> Mapping[str, JsonValue]:
        status = self.status or _Status()
        return {**(status.capacity or {}), **(status.allocatable or {})}

    @property
    def state(self) -> str:
        """Why it takes no pods now; empty where it does."""
        conditions = (self.status and self.status.conditions) or []
        if any(condition.type == "Ready" and condition.status != "True" for condition in conditions):
            return "not ready"
        return "cordoned" if self.spec and self.spec.unschedulable else ""


class _List(BaseModel):
    kind: str
    items: list[JsonValue]


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
        away: GPU nodes that take no pods now, and why; they count as any other.
        others: the number of nodes with GPUs of another vendor, among those without one of NVIDIA's.
    """

    pools: tuple[Pool, ...]
    unlabelled: tuple[Unlabelled, ...]
    without_gpu: int
    away: tuple[tuple[str, str], ...] = ()
    others: tuple[tuple[str, int], ...] = ()


def read_nodes(stream: TextIO) -> Nodes:
    """Read the output of `kubectl get nodes -o json`, of `resourceslices`, or of both: of any length.

    Raises:
        UsageError: it is something else.
    """
    seen = _Seen()
    for item in _parse(stream):
        if isinstance(item, Slice):
            seen.add_slice(item)
        else:
            seen.add_node(item)
    return seen.result()


@dataclass
class _Seen:
    """What a cluster's objects say about each node; only what is needed of them is kept.

    Attributes:
        vendors: every node, with the vendor of a GPU that is not NVIDIA's, or an empty text.
    """

    labelled: dict[str, Described] = field(default_factory=dict)
    published: dict[str, list[Described | str]] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    platforms: dict[str, str] = field(default_factory=dict)
    vendors: dict[str, str] = field(default_factory=dict)
    away: dict[str, str] = field(default_factory=dict)

    def add_node(self, node: _Node) -> None:
        name, labels = node.metadata.name, node.metadata.labels or {}
        if name in self.platforms:
            raise UsageError(f"node `{name}` is listed twice", hint="import one cluster at a time")
        keys = (*labels, *node.resources)
        others = (vendor for key in keys for vendor, pattern in _VENDORS.items() if pattern.match(key))
        self.vendors[name] = self.vendors.get(name) or next(others, "")
        self.platforms[name] = _platform_of(labels)
        self.away[name] = node.state
        if _has_gpu(node, labels):
            try:
                self.labelled[name] = _describe(name, labels)
            except ValueError as error:
                self.why[name] = str(error)

    def add_slice(self, item: Slice) -> None:
        name = item.node
        self.vendors[name] = self.vendors.get(name) or _DRIVERS.get(item.spec.driver, "")
        if item.spec.driver == NVIDIA:
            self.published.setdefault(name, []).extend(gpus_of(item))

    def result(self) -> Nodes:
        """Labels come first; ResourceSlices describe the nodes whose labels do not."""
        described, why = [*self.labelled.values()], dict(self.why)
        for name in self.published.keys() - self.labelled.keys():
            found = self.published[name]
            gpus = [on_platform(gpu, self.platforms.get(name)) for gpu in found if isinstance(gpu, Described)]
            described += gpus
            if gpus:
                why.pop(name, None)
            why.update((name, each) for each in found if isinstance(each, str))
        gpu_nodes = {*why, *(each.node for each in described)}
        others = Counter(vendor for name, vendor in self.vendors.items() if vendor and name not in gpu_nodes)
        return Nodes(
            pools_of(described),
            tuple(Unlabelled(node, why[node]) for node in sorted(why)),
            len(self.vendors.keys() - gpu_nodes),
            tuple((name, state) for name, state in sorted(self.away.items()) if state and name in gpu_nodes),
            tuple(sorted(others.items())),
        )


def _parse(stream: TextIO) -> Iterator[_Node | Slice]:
    for number, item in enumerate(list_items(stream)):
        if isinstance(item, str):
            yield from _whole(item)
        else:
            yield _item(item, ("items", number))


def _item(item: object, where: tuple[str | int, ...] = ()) -> _Node | Slice:
    kind = item.get("kind") if isinstance(item, dict) else None
    try:
        found = Slice.model_validate(item) if kind == "ResourceSlice" else _Node.model_validate(item)
    except ValidationError as error:
        raise _not_nodes("{", error, where) from error
    if kind not in {None, "Node", "ResourceSlice"}:
        raise UsageError(f"the input is a list of {kind}s, not of nodes", hint=HINT)
    return found


def _whole(text: str) -> list[_Node | Slice]:
    """The objects of a document that does not begin as kubectl writes a list."""
    found = plain.json_of(text)
    if plain.text(found, "kind") in {"Node", "ResourceSlice"}:
        return [_item(found)]
    try:
        items = _List.model_validate_json(text).items
    except ValidationError as error:
        raise _not_nodes(text, error) from error
    return [_item(item, ("items", number)) for number, item in enumerate(items)]


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
    labelled = labels.get(f"{_GPU}.present") == "true" or f"{_GPU}.product" in labels
    on_bus = any(re.fullmatch(r".*/pci-(?:.*_)?10de(?:_.*)?\.present", label) for label in labels)
    offered = (str(amount) for name, amount in node.resources.items() if re.match(r"nvidia\.com/(gpu|mig-)", name))
    return labelled or on_bus or any(amount != "0" for amount in offered)


def _describe(node: str, labels: Labels) -> Described:
    """One node by its labels.

    Raises:
        ValueError: a label is missing or wrong.
    """
    raw = labels.get(f"{_GPU}.product", "")
    product = _PRODUCT.fullmatch(raw)
    if product is None:
        raise ValueError(f"label {_GPU}.product is {'not valid' if raw else 'missing'}")
    if product["name"].endswith("-MIG-INVALID"):
        raise ValueError(
            "its MIG slices differ or are missing, so it offers no GPU (set `nvidia.com/mig.config` again)"
        )
    version = next(filter(None, (_joined(labels, *names) for names in _DRIVER_LABELS)), None)
    if version is None:
        raise ValueError(f"label {_DRIVER} and its older forms are missing")
    driver, suffix = driver_in(version)
    if driver is None:
        raise ValueError(f"label {_DRIVER} is {version[:60]!r}, not a driver version such as 550.54.15")
    memory = _number(labels.get(f"{_GPU}.memory"))
    capability = _two_numbers(_joined(labels, "gpu.compute.major", "gpu.compute.minor"))
    kin = Kinship(product["name"], product["mig"] or "", driver, capability, _platform(labels))
    runtime = _joined(labels, "cuda.runtime-version.full")
    return Described(
        node=node,
        kin=kin,
        count=_number(labels.get(f"{_GPU}.count")),
        memory=None if memory is None else memory * _MIB,
        cuda=_two_numbers(runtime or _joined(labels, "cuda.runtime.major", "cuda.runtime.minor")) or None,
        shared=product["shared"] is not None,
        suffix=suffix,
        notes=_mixed(labels),
    )


def _mixed(labels: Labels) -> tuple[str, ...]:
    """With MIG's strategy "mixed", the product is the whole GPU, and slices are resources of their own."""
    found = sorted(slice_[1] for label in labels if (slice_ := _MIXED.fullmatch(label)) and labels[label] != "0")
    if not found:
        return ()
    return (f"pods can get MIG slices of these GPUs ({', '.join(found)}), which have less memory than the whole GPU",)


def _joined(labels: Labels, *names: str) -> str:
    """A version that is one label or several; empty where its label, or one of the first two, is missing."""
    values = [labels.get(f"nvidia.com/{name}", "") for name in names]
    return ".".join(filter(None, values)) if all(values[:2]) else ""


def _two_numbers(text: str) -> str:
    return text if re.fullmatch(r"\d{1,2}\.\d{1,2}", text) else ""


def _platform_of(labels: Labels) -> str:
    """The platform; empty where the labels do not have it."""
    arch = labels.get("kubernetes.io/arch") or labels.get("beta.kubernetes.io/arch") or ""
    return f"linux/{arch}" if arch else ""


def _platform(labels: Labels) -> str:
    platform = _platform_of(labels)
    if platform not in PLATFORMS:
        arch = platform.removeprefix("linux/")
        raise ValueError(f"label kubernetes.io/arch is {arch!r}, but images are for {' or '.join(PLATFORMS)}")
    return platform


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d{1,9}", text) else None
