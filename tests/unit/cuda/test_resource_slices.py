"""GPUs by ResourceSlices, alone and beside labels; and nodes that take no pods or have other GPUs."""

import io
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.cuda.hosts.kubernetes import Nodes, Unlabelled, read_nodes
from mlship.cuda.hosts.profile import HostGpu
from mlship.errors import UsageError
from tests.helpers.cluster_nodes import cluster, device_of, labels, node, resource_slice

MIB = 1 << 20
ARM = {"kubernetes.io/arch": "arm64"}


def read(*items: dict[str, object]) -> Nodes:
    return read_nodes(io.StringIO(cluster(*items)))


def test_nodes_by_their_slices_alone() -> None:
    found = read(
        resource_slice("b", device_of(), device_of()),
        resource_slice("a", device_of(), device_of()),
        resource_slice("a", {"attributes": {"type": {"string": "channel"}}}, driver="compute-domain.nvidia.com"),
    )
    (pool,) = found.pools
    assert pool.nodes == ("a", "b")
    assert pool.host.gpus == (HostGpu("NVIDIA-H100-80GB-HBM3", "9.0", 2, 81559 * MIB),)
    assert (pool.host.driver, pool.host.cuda, pool.host.platform) == ("580.105.08", "13.0", "linux/amd64")
    assert pool.host.notes == (
        "ResourceSlices do not name the processor; amd64 is assumed, unless the import includes the nodes",
    )
    assert (found.unlabelled, found.without_gpu) == ((), 0)


def test_nodes_beside_slices_give_the_processor() -> None:
    (pool,) = read(resource_slice("a", device_of()), node("a", ARM), node("cpu", ARM)).pools
    assert (pool.host.platform, pool.host.notes) == ("linux/arm64", ())


def test_grace_is_arm() -> None:
    assert read(resource_slice("a", device_of("NVIDIA GB200"))).pools[0].host.platform == "linux/arm64"


def test_labels_come_before_slices() -> None:
    found = read(node("a", labels()), resource_slice("a", device_of()))
    assert [pool.host.gpus[0].name for pool in found.pools] == ["NVIDIA-A100-SXM4-80GB"]


def test_each_kind_of_gpu_of_a_node_is_a_host() -> None:
    slices = device_of("NVIDIA A100-SXM4-40GB", type="mig", profile="1g.5gb")
    found = read(resource_slice("a", device_of(), slices, slices, device_of("Tesla T4", type="vfio")))
    assert [(pool.host.name, pool.host.gpus[0].count, pool.host.gpus[0].mig) for pool in found.pools] == [
        ("nvidia-a100-sxm4-40gb-mig-1g.5gb-r580", 2, True),
        ("nvidia-h100-80gb-hbm3-r580", 1, None),
    ]


def test_kubernetes_before_1_34_nests_devices() -> None:
    assert len(read(resource_slice("a", {"name": "gpu-0", "basic": device_of()})).pools) == 1


@pytest.mark.parametrize("lacks", ["productName", "driverVersion"])
def test_a_device_that_says_too_little_is_named(lacks: str) -> None:
    device = device_of()
    attributes = device["attributes"]
    assert isinstance(attributes, dict)
    del attributes[lacks]
    found = read(resource_slice("a", device))
    assert found.unlabelled == (Unlabelled("a", f"a device in its ResourceSlice has no {lacks}"),)
    assert not found.pools


@given(
    st.permutations(
        [node("a", ARM), node("c", None), *(resource_slice(name, device_of(), device_of()) for name in "abd")]
    )
)
def test_the_order_changes_nothing(items: list[dict[str, object]]) -> None:
    found = read(*items)
    assert [(pool.host.platform, pool.nodes) for pool in found.pools] == [
        ("linux/amd64", ("b", "d")),
        ("linux/arm64", ("a",)),
    ]
    assert found.without_gpu == 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["version", "string", "value", "type", "x"]), inner)
        ),
        max_leaves=8,
    )
)
def test_no_attribute_crashes_the_import(value: object) -> None:
    device: dict[str, object] = {
        "attributes": {"type": {"string": "gpu"}, "productName": {"string": value}, "driverVersion": value}
    }
    text = json.dumps({"kind": "List", "items": [resource_slice("a", device)]})
    with suppress(UsageError):
        read_nodes(io.StringIO(text))


def away(name: str, of: dict[str, str], *, ready: str = "True", cordoned: bool = False) -> dict[str, object]:
    made = node(name, of)
    made["spec"] = {"unschedulable": True} if cordoned else {}
    made["status"] = {"conditions": [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": ready}]}
    return made


def test_nodes_that_take_no_pods_are_named_and_count() -> None:
    cpu = {"kubernetes.io/arch": "amd64"}
    found = read(
        away("b", labels(), cordoned=True),
        away("c", labels(), ready="Unknown"),
        away("a", labels()),
        away("d", cpu, cordoned=True),
    )
    assert found.away == (("b", "cordoned"), ("c", "not ready"))
    assert found.pools[0].nodes == ("a", "b", "c")


def test_gpus_of_other_vendors_are_counted() -> None:
    found = read(
        node("a", {"amd.com/gpu.family": "AI"}),
        node("b", {"feature.node.kubernetes.io/pci-0300_1002.present": "true"}),
        node("c", {}, {"amd.com/gpu": "8"}),
        node("d", {}, {"gpu.intel.com/xe": "1"}),
        node("e", {}),
        resource_slice("f", device_of(), driver="gpu.amd.com"),
        node("g", {**labels(), "feature.node.kubernetes.io/pci-0300_1002.present": "true"}),
    )
    assert (found.others, found.without_gpu) == ((("AMD", 4), ("Intel", 1)), 6)


def test_invalid_mig_offers_no_gpu() -> None:
    found = read(node("a", labels("NVIDIA-A100-SXM4-80GB-MIG-INVALID")))
    assert not found.pools
    assert "offers no GPU" in found.unlabelled[0].why


def test_mixed_mig_keeps_the_gpu_and_names_the_slices() -> None:
    mixed = labels(
        mig__strategy="mixed", **{"mig-1g.10gb__count": "2", "mig-3g.40gb__count": "1", "mig-7g.80gb__count": "0"}
    )
    (pool,) = read(node("a", mixed)).pools
    assert pool.host.gpus[0].name == "NVIDIA-A100-SXM4-80GB"
    assert pool.host.notes == (
        "pods can get MIG slices of these GPUs (1g.10gb, 3g.40gb), which have less memory than the whole GPU",
    )
