"""Lines that programs wrote and people saw, searched: what is recorded counts as measured, what was told does not."""

import re
from collections.abc import Iterator

from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence


def recorded(facts: Facts, pattern: str) -> Evidence | None:
    """The last line that fits of the engine's error, of pods' logs, of Kubernetes events and of the toolkit's log."""
    return _last(_recorded(facts), pattern)


def told(facts: Facts, pattern: str) -> Evidence | None:
    """The last line that fits of what a user saw."""
    return _last((("messages", line) for line in each(facts.messages)), pattern)


def said(facts: Facts, pattern: str) -> Evidence | None:
    """Either of them, the recorded one first."""
    return recorded(facts, pattern) or told(facts, pattern)


def _last(lines: Iterator[tuple[str, str]], pattern: str) -> Evidence | None:
    fits = [Evidence(fact, line.strip()) for fact, line in lines if re.search(pattern, line)]
    return fits[-1] if fits else None


def _recorded(facts: Facts) -> Iterator[tuple[str, str]]:
    yield from (("host.toolkit.log", line) for line in each(facts.host.toolkit.log))
    node = known(facts.kubernetes)
    for pod in each(node.pods) if node else ():
        yield from ((f"kubernetes.pods {known(pod.name) or ''}".strip(), line) for line in each(pod.log))
    yield from (("kubernetes.events", line) for line in (each(node.events) if node else ()))
    if error := known(facts.container.error):
        yield "container.error", error
