"""The links of one pod, which the cluster shows; those of its node show only on that machine, or in the container."""

import re
from collections.abc import Callable
from types import MappingProxyType

from mlship.doctor.chain.delivery import container_is_examined, kubelet_offers
from mlship.doctor.chain.host import LinkLook
from mlship.doctor.chain.link import Link, Symptom, it_holds, links, unknown
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.kubernetes import CheckedPod
from mlship.doctor.queries import SAYS_WHY

_NO_DEVICE = re.compile(r"(?i)insufficient nvidia\.com/|resource ?claim|allocate all claims")
_NOT_PULLED = re.compile(r": (ImagePull|ErrImage|InvalidImageName|ImageInspect|RegistryUnavailable)")
_STARTS = re.compile(r": (ContainerCreating|PodInitializing)")


def _offered(facts: Facts, pod: CheckedPod) -> LinkLook:
    said = known(pod.unscheduled) or ""
    for node in each(pod.nodes) if known(pod.node) else ():
        if known(node.ready) is False:
            yield Symptom("offer.node", "host", f"node {known(node.node)}: {', '.join(each(node.conditions))}")
    if _NO_DEVICE.search(said):
        yield Symptom("offer.unscheduled", "host", said)
    if known(pod.node) and (known(pod.runs) or each(pod.ended)):
        yield it_holds(f"node {known(pod.node)} admitted the pod")
    yield from kubelet_offers(facts)


def _requested(_facts: Facts, pod: CheckedPod) -> LinkLook:
    claims, asks = known(pod.claims) or {}, known(pod.requests) or {}
    if asks or claims:
        listed = (*(f"{name}: {count}" for name, count in sorted(asks.items())), *(f"claim {name}" for name in claims))
        yield it_holds(", ".join(listed))
    if pod.other_ways == () and known(pod.requests) is not None and known(pod.claims) is not None:
        yield Symptom("request.none", "container", "the pod requests no GPU and has no resource claim")
    yield unknown(f"no request, but perhaps given by: {', '.join(each(pod.other_ways)) or 'unknown'}")


def _pulled(_facts: Facts, pod: CheckedPod) -> LinkLook:
    yield from (Symptom("image.pull", "container", one) for one in each(pod.not_started) if _NOT_PULLED.search(one))
    if known(pod.runs) or each(pod.ended) or known(pod.phase) == "Succeeded":
        yield it_holds("pulled")
    yield unknown("the image has not been pulled yet")


def _started(facts: Facts, pod: CheckedPod) -> LinkLook:
    said, cluster = known(pod.unscheduled), known(facts.kubernetes)
    if said and not _NO_DEVICE.search(said):
        yield Symptom("pod.unscheduled", "container", said)
    events = [line for line in (each(cluster.events) if cluster else ()) if SAYS_WHY.search(line)]
    for one in each(pod.not_started):
        if not _NOT_PULLED.search(one) and (events or not _STARTS.search(one)):
            yield Symptom("pod.failed", "container", ": ".join((one, *events[-1:])))
    if known(pod.phase) == "Failed" and not each(pod.ended):
        yield Symptom("pod.failed", "container", known(pod.reason) or "the pod failed")
    if known(pod.runs) or each(pod.ended) or known(pod.phase) == "Succeeded":
        yield it_holds("started")
    yield unknown(f"the pod is {known(pod.phase) or 'in an unknown phase'}")


def _worked(_facts: Facts, pod: CheckedPod) -> LinkLook:
    yield from (Symptom("framework.ended", "container", one) for one in each(pod.ended))
    yield unknown(_where_to_look(pod, inside=True))


_LOOKS: MappingProxyType[str, Callable[[Facts, CheckedPod], LinkLook]] = MappingProxyType(
    {
        "kubelet-offers": _offered,
        "gpu-requested": _requested,
        "image-available": _pulled,
        "container-created": _started,
        "framework-works": _worked,
    }
)


def _where_to_look(pod: CheckedPod, *, inside: bool) -> str:
    running = next(iter((known(pod.containers) or {}).values()), "")[:12]
    option = f" --container {running}" if inside and running else ""
    node = known(pod.node)
    return f"unknown: run `mlship doctor{option}` on node {node}" if node else "unknown: the pod has no node yet"


def look_of_pod(facts: Facts, link: Link) -> LinkLook | None:
    """What the pod in question shows of a link; None without a pod, or if the link's own look can tell."""
    pod, order = known(facts.pod), [one.id for one in links()]
    if pod is None or container_is_examined(facts):
        return None
    if link.id in _LOOKS:
        return _LOOKS[link.id](facts, pod)
    inside = order.index(link.id) > order.index("container-created")
    return iter((unknown(_where_to_look(pod, inside=inside)),)) if inside or known(pod.here) is not True else None
