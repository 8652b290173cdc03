"""BuildKit's steps in words: what the Dockerfile's own titles say. Its bookkeeping stays in the background."""

import re
from collections.abc import Mapping
from dataclasses import replace

from mlship.engine.base import BuildEvent, BuildWatcher, Manifest, StepFinished, StepStarted

# Numbers below ten are set right where there are ten steps and more.
_STEP = re.compile(r"\[(\S+) +(\d+)/\d+\] ")
_BOOKKEEPING = re.compile(r"\[context |\[\S+ +\d+/\d+\] (FROM|LINK) ")
_LINK = re.compile(r"\[\S+ +\d+/\d+\] LINK ")


def retitled(watch: BuildWatcher, titles: Mapping[str, str]) -> BuildWatcher:
    """A watcher that hears of steps by their titles.

    Args:
        titles: by the start of BuildKit's name, such as `[builder 3/`.
    """

    def hear(event: BuildEvent) -> None:
        if isinstance(event, StepStarted | StepFinished):
            event = replace(event, name=in_words(event.name, titles))
        watch(event)

    return hear


def in_words(name: str, titles: Mapping[str, str]) -> str:
    """The name of one step; `[internal]` in front marks what nobody needs to see unless it takes its time."""
    found = _STEP.match(name)
    title = titles.get(f"[{found[1]} {found[2]}/") if found else None
    if _BOOKKEEPING.match(name):
        linked = f"{found[1]}: {title}, linked" if found and title and _LINK.match(name) else name
        return f"[internal] {linked}"
    if found is None or title is None:
        return name
    return f"{found[1]}: {title}"


def named_layers(built: Manifest, titles: Mapping[str, str]) -> Manifest:
    """The same, where each layer that a step of the shipped stages made is called as that step: the uppermost ones."""
    own = [title for start, title in titles.items() if start.startswith(("[system ", "[runtime "))]
    first = len(built.layers) - len(own)
    if first < 0:
        return built
    layers = (replace(layer, what=what) for layer, what in zip(built.layers[first:], own, strict=True))
    return replace(built, layers=(*built.layers[:first], *layers))
