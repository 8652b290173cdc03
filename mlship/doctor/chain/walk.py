"""The walk along the chain: what each link answers, the lowest first. Pure.

A link that its own look does not break is broken by what a user or an engine reported, if the link claims it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType

from mlship.doctor.chain import delivery, host, inside
from mlship.doctor.chain.delivery import asks_for_gpu
from mlship.doctor.chain.host import LinkLook
from mlship.doctor.chain.link import Answer, Link, Symptom, link_of, links, lower_links, not_applicable, unknown
from mlship.doctor.chain.messages import is_error, message_of
from mlship.doctor.chain.pod import look_of_pod
from mlship.doctor.container import has_started
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.queries import gpu_is_known_absent, offers_passed_gpus, passed_on

_OF_THE_DRIVER = lower_links("cuda-starts") - {"gpu-on-bus"} | {"cuda-starts"}
# Each look has the name of its link.
_LOOKS: MappingProxyType[str, Callable[[Facts], LinkLook]] = MappingProxyType(
    {
        look.__name__.replace("_", "-"): look
        for look in (
            *(host.gpu_on_bus, host.gpu_bound, host.module_loaded, host.device_nodes, host.nvml_answers),
            *(host.gpus_counted, host.gpu_modes, host.cuda_starts),
            *(delivery.toolkit_ready, delivery.engine_configured, delivery.kubelet_offers),
            *(delivery.gpu_requested, delivery.image_available, delivery.container_created),
            *(inside.nodes_inside, inside.libraries_inside, inside.nvml_inside, inside.cuda_inside),
            *(inside.image_fits, inside.libraries_resolve, inside.framework_works, inside.resources),
        )
    }
)
_LAST = "framework-works"
_NO_GPU = """this host has no NVIDIA GPU. If it should have one, the GPU is not plugged in, has no power, or was not \
given to this virtual machine"""
_PASSED_ON = """every NVIDIA GPU of this host is set aside for virtual machines, and nothing asks for one here. \
`mlship doctor explain gpu-passed-to-virtual-machines` says how this host can use it"""


@dataclass(frozen=True)
class Looked:
    """One link and its answer.

    Attributes:
        symptoms: they break it.
        bug: the exception that ended the look, if any.
    """

    link: Link
    answer: Answer
    symptoms: tuple[Symptom, ...] = ()
    bug: str = ""


def walk_chain(facts: Facts) -> tuple[Looked, ...]:
    """Every link. None applies if there is no NVIDIA GPU and nothing asks for one."""
    reported = tuple(_reported(facts))
    asked = asks_for_gpu(facts) or bool(each(facts.messages)) or bool(known(facts.container.error) or known(facts.pod))
    if gpu_is_known_absent(facts) and not asked:
        none = not_applicable(_PASSED_ON if passed_on(facts) else _NO_GPU)
        return tuple(Looked(link, none) for link in links())
    seen = [_look(link, facts) for link in links()]
    if each(facts.messages) and not reported:
        nothing_known = unknown("what the reported lines mean")  # whether the program that they are about works
        seen = [replace(looked, answer=nothing_known) if looked.link.id == _LAST else looked for looked in seen]
    measured = [symptom for looked in seen for symptom in looked.symptoms]
    ids = {symptom.id for symptom in measured}
    everything = (*measured, *(symptom for symptom in reported if symptom.id not in ids))
    by_link: dict[str, dict[tuple[str, str], Symptom]] = {}
    for symptom in everything:  # each kind once
        of_link = by_link.setdefault(link_of(symptom.id, symptom.where), {})
        of_link.setdefault((symptom.id, symptom.where), symptom)
    return tuple(_broken(looked, tuple(by_link.get(looked.link.id, {}).values())) for looked in seen)


def _look(link: Link, facts: Facts) -> Looked:
    """What one look yields; its first answer ends it, and without one the link is unknown."""
    symptoms: list[Symptom] = []
    if link.id in _OF_THE_DRIVER and offers_passed_gpus(facts):
        return Looked(link, not_applicable("the GPUs are for virtual machines, and the node offers them"))
    try:
        for item in look_of_pod(facts, link) or _LOOKS[link.id](facts):
            if isinstance(item, Answer):
                return Looked(link, item, tuple(symptoms))
            symptoms.append(item)
    except Exception as error:  # noqa: BLE001  one link's bug must not hide the other links
        bug = f"a bug in mlship's link {link.id}: {type(error).__name__}: {error}"
        return Looked(link, unknown("a bug in mlship"), tuple(symptoms), bug)
    return Looked(link, unknown(link.shows), tuple(symptoms))


def _broken(looked: Looked, symptoms: tuple[Symptom, ...]) -> Looked:
    """The link, with the symptoms that it claims; those of its own look may be another link's."""
    answer = Answer("broken", symptoms[0].seen) if symptoms else looked.answer
    return replace(looked, answer=answer, symptoms=symptoms)


def _reported(facts: Facts) -> Iterator[Symptom]:
    """What a user or the engine reported; seen in the container, unless the same was measured on the host.

    An error that no pattern knows is a program's if the container started, or if another line says what failed.
    """
    error = known(facts.container.error)
    lines = (*each(facts.messages), *((error,) if error else ()))
    found = [message_of(line) for line in lines]
    vague = "framework.reported" if has_started(facts) or any(found) else "container.reported"
    for line, message in zip(lines, found, strict=True):
        if line == error and (message is None or message.symptom.endswith(".message")):
            continue  # it breaks the start, whatever causes it
        if message or is_error(line):
            speaker = message or message_of(line, "programs")
            name = speaker.symptom if speaker else vague
            of_host = message and name.endswith(".reported")
            yield Symptom(name, "host" if of_host else "container", f"reported: {line.strip()}")
