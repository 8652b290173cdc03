"""Nodes of a Kubernetes cluster."""

import json


def labels(
    product: str = "NVIDIA-A100-SXM4-80GB",
    driver: str = "550.54.15",
    capability: str = "8.0",
    arch: str = "amd64",
    **more: str,
) -> dict[str, str]:
    """The labels of GPU Feature Discovery 0.17."""
    major, minor, *revision = driver.split(".")
    return {
        "kubernetes.io/arch": arch,
        "kubernetes.io/hostname": "a-node",
        "feature.node.kubernetes.io/pci-10de.present": "true",
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.count": "8",
        "nvidia.com/gpu.memory": "81920",
        "nvidia.com/gpu.family": "ampere",
        "nvidia.com/gpu.compute.major": capability.partition(".")[0],
        "nvidia.com/gpu.compute.minor": capability.partition(".")[2],
        "nvidia.com/cuda.driver-version.major": major,
        "nvidia.com/cuda.driver-version.minor": minor,
        "nvidia.com/cuda.driver-version.revision": "".join(revision),
        "nvidia.com/cuda.driver-version.full": driver,
        "nvidia.com/cuda.runtime-version.full": "12.4",
        "nvidia.com/mig.capable": "true",
        "nvidia.com/mig.strategy": "none",
        **{f"nvidia.com/{key.replace('__', '.')}": value for key, value in more.items()},
    }


def node(name: str, of: dict[str, str] | None, allocatable: dict[str, str] | None = None) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": of, "uid": "3f0c", "annotations": {"a": "b"}},
        "spec": {"providerID": "x"},
        "status": {"allocatable": {"cpu": "96", **(allocatable or {})}, "capacity": {"cpu": "96"}},
    }


def cluster(*nodes: dict[str, object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(nodes), "metadata": {"resourceVersion": ""}})


def device_of(product: str = "NVIDIA H100 80GB HBM3", driver: str = "580.105.8", **more: str) -> dict[str, object]:
    """A device as NVIDIA's DRA driver publishes it; a version is a semantic one, without leading zeros."""
    texts = {"type": "gpu", "productName": product, "architecture": "Hopper", **more}
    versions = {"driverVersion": driver, "cudaComputeCapability": "9.0.0", "cudaDriverVersion": "13.0.0"}
    attributes = {
        **{name: {"string": text} for name, text in texts.items()},
        **{name: {"version": text} for name, text in versions.items()},
    }
    return {"name": "gpu-0", "attributes": attributes, "capacity": {"memory": {"value": "81559Mi"}}}


def resource_slice(node: str, *devices: dict[str, object], driver: str = "gpu.nvidia.com") -> dict[str, object]:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{node}-{driver}-7cbz2"},
        "spec": {"driver": driver, "nodeName": node, "pool": {"name": node}, "devices": list(devices)},
    }
