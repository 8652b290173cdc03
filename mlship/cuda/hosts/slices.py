"""The GPUs that NVIDIA's DRA driver publishes as ResourceSlices. Pure.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/resource-slice-v1/
https://github.com/NVIDIA/k8s-dra-driver-gpu
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

from pydantic import BaseModel, JsonValue

from mlship.cuda.hosts.pools import Described, Kinship
from mlship.cuda.versions import Driver

NVIDIA = "gpu.nvidia.com"
_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_ARM = re.compile(r"\bG[HB][0-9]{2,3}\b")  # Grace with Hopper or Blackwell: GH200, GB200, GB300, GB10
_ASSUMED = "ResourceSlices do not name the processor; {} is assumed, unless the import includes the nodes"

Values: TypeAlias = Mapping[str, Mapping[str, JsonValue]]


class _Device(BaseModel):
    """A device; Kubernetes 1.31 to 1.33 put its parts under `basic`."""

    attributes: dict[str, dict[str, JsonValue]] = {}
    capacity: dict[str, JsonValue] = {}
    basic: "_Device | None" = None


class _Pool(BaseModel):
    name: str = ""


class _Spec(BaseModel):
    driver: str
    nodeName: str = ""  # noqa: N815  Kubernetes' name
    pool: _Pool = _Pool()
    devices: list[_Device] | None = None


class Slice(BaseModel):
    """Devices of one node."""

    spec: _Spec

    @property
    def node(self) -> str:
        return self.spec.nodeName or self.spec.pool.name


def gpus_of(each: Slice) -> Iterator[Described | str]:
    """Each kind of GPU in a slice, or why a device is not described.

    The platform is assumed; `on_platform` replaces it.
    """
    found = [_describe(each.node, device.basic or device) for device in each.spec.devices or ()]
    yield from sorted({why for why in found if isinstance(why, str) and why})
    gpus = [gpu for gpu in found if isinstance(gpu, Described)]
    counts = Counter(gpu.kin for gpu in gpus)
    yield from (replace(gpu, count=counts[gpu.kin]) for gpu in {gpu.kin: gpu for gpu in gpus}.values())


def on_platform(gpu: Described, platform: str | None) -> Described:
    """The same GPU on the platform that its node's labels give."""
    return replace(gpu, kin=replace(gpu.kin, platform=platform), notes=()) if platform else gpu


def _describe(node: str, device: _Device) -> Described | str:
    """A device as a GPU of a node; why it is none, or an empty text for a device that is no GPU."""
    kind = _text(device.attributes, "type")
    if kind not in {"gpu", "mig"}:
        return ""  # such as a GPU that is passed to a virtual machine
    product = _text(device.attributes, "productName")
    driver = Driver.parse(_text(device.attributes, "driverVersion"))
    if not product or driver is None:
        return f"a device in its ResourceSlice has no {'driverVersion' if product else 'productName'}"
    platform = "linux/arm64" if _ARM.search(product) else "linux/amd64"
    return Described(
        node=node,
        kin=Kinship(
            product=re.sub(r"\s+", "-", product),
            mig=_text(device.attributes, "profile") if kind == "mig" else "",
            driver=driver,
            capability=_two(device.attributes, "cudaComputeCapability") or "",
            platform=platform,
        ),
        count=1,
        memory=_bytes(device.capacity.get("memory")),
        cuda=_two(device.attributes, "cudaDriverVersion"),
        shared=False,
        suffix="",
        notes=(_ASSUMED.format(platform.partition("/")[2]),),
    )


def _two(attributes: Values, name: str) -> str | None:
    """The first two numbers of a semantic version."""
    found = re.fullmatch(r"([0-9]{1,2}\.[0-9]{1,2})\.0", _text(attributes, name))
    return found[1] if found else None


def _text(attributes: Values, name: str) -> str:
    """An attribute, which may be named with its driver's domain."""
    value = attributes.get(name) or attributes.get(f"{NVIDIA}/{name}") or {}
    return next((text for text in (value.get("version"), value.get("string")) if isinstance(text, str)), "")


def _bytes(quantity: JsonValue) -> int | None:
    text = quantity.get("value") if isinstance(quantity, dict) else quantity
    found = re.fullmatch(r"([0-9]{1,18})([KMGT]i|)", text) if isinstance(text, str) else None
    return int(found[1]) * _UNITS[found[2]] if found else None
