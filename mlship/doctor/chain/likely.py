"""A broken link that no rule explains: its likely causes, and the commands that tell them apart here. Pure."""

import re
from dataclasses import fields, is_dataclass, replace

from mlship.doctor.chain.link import Link, Symptom, link_of, matches_any
from mlship.doctor.chain.messages import Message, is_error, message_of, rows
from mlship.doctor.commands import engine
from mlship.doctor.conditions import all_atoms_hold
from mlship.doctor.facts.fact import Unknown, Unreadable, each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Decider, Where
from mlship.doctor.queries import fact_at, pods

_LAST_LINES = 50  # of the kernel log
_CLIENTS = {"lxd": "lxc", "incus": "incus"}


def likely_causes(facts: Facts, link: Link, seen: tuple[Symptom, ...]) -> tuple[str, ...]:
    """The likely causes of what was seen: by facts, by known lines, by words, by symptoms; all, if none fits."""
    logs = (line for pod in pods(facts) if known(pod.ready) is False for line in each(pod.log))
    lines = (*each(facts.messages), *logs, known(facts.container.error) or "")
    said = "\n".join((*(one.seen for one in seen), *lines))
    reported = [message_of(line) for one in seen for line in one.seen.splitlines() if not one.id.startswith("node.")]
    reported += _rows_of(link, lines)
    general = {row for _, row in rows("general")}
    logged = _rows_of(link, tuple(filter(is_error, each(facts.kernel.log)[:-_LAST_LINES:-1])))
    fitting = [
        cause
        for cause in link.causes
        if re.search(f"(?i){cause.text}", said)
        and (not cause.when or all_atoms_hold(facts, cause.when, {}))
        and (not cause.seen or any(matches_any(cause.seen, item.id) for item in seen))
    ]
    usual = [cause for cause in link.causes if not (cause.text or cause.when)]
    special = [cause for cause in fitting if cause.text or cause.when]
    by_facts, own = [cause for cause in special if cause.when], [row for row in reported if row not in general]
    rest = sorted(fitting or usual, key=lambda cause: not cause.seen)
    causes = (*by_facts, *own, *special, *reported, *logged, *rest)
    return tuple(dict.fromkeys(one.say for one in causes if one and one.say))


def _rows_of(link: Link, lines: tuple[str, ...]) -> list[Message]:
    """The known lines that break this link, on the host or in a container."""
    found = (row for line in lines if (row := message_of(line)))
    return [row for row in found if link.id in {link_of(row.symptom, "host"), link_of(row.symptom, "container")}]


def deciders(facts: Facts, link: Link, where: Where) -> tuple[Decider, ...]:
    """The unknown facts that tell the causes of a broken link apart; what is known is not asked for."""
    groups, words = {field.name for field in fields(facts)}, _words(facts)
    has_docker = words["inspect"].startswith("docker ") and not is_absent(facts.host.docker.binary)
    unknown = (
        item
        for item in link.deciders
        if not _is_there(fact_at(facts, item.fact if item.fact.partition(".")[0] in groups else f"{where}.{item.fact}"))
    )
    return tuple(
        replace(item, command=re.sub(r"\{(inside|inspect|engine)\}", lambda found: words[found[1]], item.command))
        for item in unknown
        if has_docker or not item.fact.startswith("host.docker")
    )


def _words(facts: Facts) -> dict[str, str]:
    """How to run a command inside, and to describe, the container, the pod or the system container in question."""
    client, lxc = engine(facts), known(facts.container.lxc)
    inside, inspect = f"{client} exec CONTAINER ", f"{client} inspect CONTAINER"
    if known(facts.kubernetes) is not None and known(facts.container.engine) != "docker":
        inside, inspect = "kubectl exec POD -- ", "kubectl describe pod POD"
    elif lxc is not None or known(facts.container.engine) == "lxc":
        tool = _CLIENTS.get((known(lxc.manager) if lxc else None) or "", "lxc")
        inside, inspect = f"{tool} exec CONTAINER -- ", f"{tool} config show CONTAINER"
    return {"inside": inside, "inspect": inspect, "engine": client}


def _is_there(value: object) -> bool:
    """The fact is known; of a group, at least one."""
    if is_dataclass(value) and not isinstance(value, type):
        return any(_is_there(getattr(value, field.name)) for field in fields(value))
    return not isinstance(value, Unreadable | Unknown)
