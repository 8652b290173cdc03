"""A cluster's nodes by their labels: pools, nodes with missing labels, and input that is not a list of nodes."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.cuda.hosts.kubernetes import Nodes, read_nodes
from mlship.cuda.hosts.node_list import list_items
from mlship.cuda.hosts.pools import Pool
from mlship.cuda.hosts.profile import HostGpu
from mlship.errors import UsageError
from tests.helpers.cluster_nodes import cluster, labels, node

GIB = 1 << 30


class Counted(io.StringIO):
    """A text that remembers the largest piece that was read."""

    largest = 0

    def read(self, size: int | None = -1, /) -> str:
        part = super().read(size)
        self.largest = max(self.largest, len(part))
        return part


def read(text: str) -> Nodes:
    return read_nodes(io.StringIO(text))


def only(nodes: Nodes) -> Pool:
    assert len(nodes.pools) == 1, nodes
    return nodes.pools[0]


def without(of: dict[str, str], *endings: str) -> dict[str, str]:
    return {key: value for key, value in of.items() if not any(ending in key for ending in endings)}


def test_nodes_that_are_alike_are_one_host() -> None:
    found = read(cluster(node("b", labels()), node("a", labels()), node("cpu", {"kubernetes.io/arch": "amd64"})))
    pool = only(found)
    assert pool.nodes == ("a", "b")
    assert (pool.host.name, pool.host.driver) == ("nvidia-a100-sxm4-80gb-r550", "550.54.15")
    assert pool.host.gpus == (HostGpu("NVIDIA-A100-SXM4-80GB", "8.0", 8, 80 * GIB),)
    assert (pool.host.platform, pool.host.cuda, pool.host.source, pool.host.notes) == (
        "linux/amd64",
        "12.4",
        "labels",
        (),
    )
    assert (found.unlabelled, found.without_gpu) == ((), 1)


def test_a_single_node_is_read_too() -> None:
    assert only(read(json.dumps(node("a", labels())))).nodes == ("a",)


def test_the_order_of_nodes_changes_nothing() -> None:
    nodes = [
        node(f"n{number}", labels(product, driver, gpu__count=str(count)))
        for number, (product, driver, count) in enumerate(
            [("Tesla-T4", "535.104.05", 1), ("Tesla-T4", "535.161.07", 4), ("NVIDIA-L4", "550.54.15", 2)] * 2
        )
    ]
    assert read(cluster(*nodes)) == read(cluster(*reversed(nodes)))


def test_older_labels_alone_are_enough() -> None:
    old = {
        **without(labels(), "driver-version", "runtime-version"),
        "nvidia.com/cuda.driver.major": "470",
        "nvidia.com/cuda.driver.minor": "82",
        "nvidia.com/cuda.driver.rev": "01",
        "nvidia.com/cuda.runtime.major": "11",
        "nvidia.com/cuda.runtime.minor": "4",
    }
    host = only(read(cluster(node("a", old)))).host
    assert (host.name, host.driver, host.cuda) == ("nvidia-a100-sxm4-80gb-r470", "470.82.01", "11.4")


def test_parts_of_the_driver_version_without_the_whole() -> None:
    assert only(read(cluster(node("a", without(labels(), "version.full"))))).host.driver == "550.54.15"


def test_a_driver_version_of_two_parts() -> None:
    host = only(read(cluster(node("a", without(labels(driver="570.26"), "version.full"))))).host
    assert host.driver == "570.26"


def test_mig_slices_are_called_so() -> None:
    mig = labels("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", mig__strategy="single", gpu__count="56", gpu__memory="9728")
    host = only(read(cluster(node("a", mig)))).host
    assert host.name == "nvidia-a100-sxm4-80gb-mig-1g.10gb-r550"
    assert host.gpus == (HostGpu("NVIDIA-A100-SXM4-80GB", "8.0", 56, 9728 << 20, mig=True),)
    assert host.notes == ("the GPUs are split into MIG slices 1g.10gb; count and memory are those of the slices",)


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("NVIDIA-A100-SXM4-80GB-SHARED", "nvidia-a100-sxm4-80gb-r550"),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb-SHARED", "nvidia-a100-sxm4-80gb-mig-1g.10gb-r550"),
        ("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb.me", "nvidia-h100-80gb-hbm3-mig-1g.10gb.me-r550"),
        ("NVIDIA-GeForce-RTX-4090", "nvidia-geforce-rtx-4090-r550"),
    ],
)
def test_names_of_products(product: str, name: str) -> None:
    host = only(read(cluster(node("a", labels(product))))).host
    assert host.name == name
    assert any("time-slicing" in note for note in host.notes) == product.endswith("-SHARED")
    assert "SHARED" not in host.gpus[0].name


def test_shared_and_unshared_nodes_are_alike() -> None:
    pool = only(read(cluster(node("a", labels()), node("b", labels("NVIDIA-A100-SXM4-80GB-SHARED")))))
    assert pool.nodes == ("a", "b")


def test_the_least_node_stands_for_its_kind() -> None:
    host = only(read(cluster(node("a", labels()), node("b", labels(gpu__count="4"))))).host
    assert host.gpus[0].count == 4
    assert host.notes == ("nodes have 4 to 8 of these GPUs; this file has the smallest number",)


def test_names_grow_only_where_they_must() -> None:
    found = read(
        cluster(
            node("a", labels("Tesla-T4", "535.104.05", "7.5")),
            node("b", labels("Tesla-T4", "535.161.07", "7.5")),
            node("c", labels("NVIDIA-GH200", "550.54.15", "9.0", "arm64")),
            node("d", labels("NVIDIA-GH200", "550.54.15", "9.0", "amd64")),
            node("e", labels("NVIDIA-L4", "550.54.15", "8.9")),
            node("f", labels("NVIDIA_L4", "550.54.15", "8.9")),
        )
    )
    assert {pool.nodes[0]: pool.host.name for pool in found.pools} == {
        "a": "tesla-t4-r535-535.104.05",
        "b": "tesla-t4-r535-535.161.07",
        "c": "nvidia-gh200-r550-550.54.15-arm64-sm9.0",
        "d": "nvidia-gh200-r550-550.54.15-amd64-sm9.0",
        "e": "nvidia-l4-r550-550.54.15-amd64-sm8.9-2",
        "f": "nvidia-l4-r550-550.54.15-amd64-sm8.9-3",
    }


def test_a_suffix_of_the_driver_is_noted() -> None:
    host = only(read(cluster(node("a", labels(driver="550.54.15-grid"))))).host
    assert host.driver == "550.54.15"
    assert host.notes == ("the nodes report driver 550.54.15-grid; matched as 550.54.15",)


def test_cuda_that_does_not_fit_the_driver_is_noted() -> None:
    host = only(read(cluster(node("a", labels(driver="535.161.07"))))).host
    assert host.notes == ("the nodes report CUDA 12.4, but driver 535.161.07 supports 12.2",)


def test_cuda_on_which_nodes_differ_is_noted_and_not_taken() -> None:
    nodes = [node("a", labels()), node("b", {**labels(), "nvidia.com/cuda.runtime-version.full": "12.8"})]
    host = only(read(cluster(*nodes))).host
    assert host.cuda is None
    assert host.notes == ("nodes with this driver report different CUDA versions: 12.4, 12.8",)


@pytest.mark.parametrize(
    ("of", "why"),
    [
        ({"kubernetes.io/arch": "amd64", "nvidia.com/gpu.present": "true"}, "gpu.product"),
        ({"feature.node.kubernetes.io/pci-10de.present": "true"}, "gpu.product"),
        ({"feature.node.kubernetes.io/pci-0302_10de.present": "true"}, "gpu.product"),
        (without(labels(), "driver"), "cuda.driver-version.full"),
        (labels(driver="open.0"), "'open.0', not a driver version"),
        (labels(arch="ppc64le"), "'ppc64le'"),
        (without(labels(), "/arch"), "kubernetes.io/arch"),
        (labels("../../etc/passwd"), "gpu.product is not valid"),
        (labels("A100\x1b[31m"), "gpu.product is not valid"),
    ],
)
def test_gpu_nodes_that_say_too_little_are_named(of: dict[str, str], why: str) -> None:
    found = read(cluster(node("a", of)))
    assert (found.pools, found.without_gpu) == ((), 0)
    assert found.unlabelled[0].node == "a"
    assert why in found.unlabelled[0].why


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.5gb"])
def test_a_gpu_that_only_the_device_plugin_reports(resource: str) -> None:
    assert read(cluster(node("a", None, {resource: "1"}))).unlabelled
    assert read(cluster(node("a", None, {resource: "0"}))).without_gpu == 1


def test_what_the_labels_do_not_say_stays_unknown() -> None:
    bare = without(labels(), "compute", "gpu.count", "gpu.memory", "runtime")
    host = only(read(cluster(node("a", bare)))).host
    assert host.gpus == (HostGpu("NVIDIA-A100-SXM4-80GB", None, 1, None),)
    assert (host.cuda, host.notes) == (None, ("nothing gives the number of GPUs of a node",))


@pytest.mark.parametrize(("key", "value"), [("compute.major", "eight"), ("gpu.memory", "-1"), ("gpu.count", "8GPUs")])
def test_numbers_that_are_none_stay_unknown(key: str, value: str) -> None:
    broken = {**labels(), **{name: value for name in labels() if name.endswith(key)}}
    host = only(read(cluster(node("a", broken)))).host
    assert None in (host.gpus[0].capability, host.gpus[0].memory) or host.notes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the input is empty"),
        (" \n", "the input is empty"),
        ("apiVersion: v1\nitems: []\n", "the input is YAML"),
        ("---\nkind: List\n", "the input is YAML"),
        ("NAME   STATUS   ROLES\n", "the input is not JSON"),
        ('{"kind": "List", "items": [', "incomplete"),
        ('{"kind": "List", "items": [{"metadata": {"name": "a"}} {', "incomplete"),
        ('{"kind": "List", "items": []', "incomplete"),
        ('{"kind": "List", "items": []} {"kind": "List", "items": []}', "something follows it"),
        ('{"kind": "List", "items": [], "metadata": {"resourceVersion": ""', "incomplete"),
        ("[]", "should be an object"),
        ('{"kind": "List"}', "items"),
        ('{"kind": "Status", "message": "Unauthorized"}', "items"),
        ('{"kind": "List", "items": [{"metadata": {}}]}', "items.0.metadata.name"),
        ('{"kind": "List", "items": [{"metadata": {"name": "a", "labels": {"x": 1}}}]}', "items.0.metadata.labels.x"),
        ('{"kind": "List", "items": [{"kind": "Pod", "metadata": {"name": "a"}}]}', "a list of Pods"),
        ("[" * 200_000, "recursion limit"),
        ('{"kind": "List", "items": [{"metadata": {"name": "a"}, "x": ' + "[" * 200_000, "not JSON"),
    ],
)
def test_what_is_no_list_of_nodes_says_why_and_how_to_make_one(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text)
    assert words in caught.value.message
    assert "kubectl get nodes -o json" in caught.value.hint


def test_nodes_of_two_clusters_are_not_mixed() -> None:
    """One name can be in both, and one of the two nodes would be lost."""
    with pytest.raises(UsageError, match="node `a` is listed twice"):
        read(cluster(node("a", labels(driver="550.54.15")), node("a", labels(driver="535.183.01"))))


def test_a_large_cluster_is_read_in_parts() -> None:
    """Items are decoded one at a time, so that memory does not grow with the cluster."""
    images = [{"names": [f"registry.example/image-{number}@sha256:{'0' * 64}"], "sizeBytes": 1} for number in range(50)]
    nodes = [node(f"n{number:04}", labels(driver=f"550.{number % 7}.15")) for number in range(400)]
    text = cluster(*({**each, "status": {"images": images}} for each in nodes))
    stream = Counted(text)
    found = read_nodes(stream)
    assert (len(found.pools), sum(len(pool.nodes) for pool in found.pools)) == (7, 400)
    assert stream.largest <= 1 << 20 < len(text)


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), max_size=8), st.booleans())
def test_items_are_those_of_the_whole_document(items: list[dict[str, str]], first: bool) -> None:
    """The same items as json.loads, wherever the keys of the list are, and whatever the indent."""
    rest = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}}
    document = {"items": items, **rest} if first else {**rest, "items": items}
    for indent in (None, 4):
        assert [*list_items(io.StringIO(json.dumps(document, indent=indent)))] == items
