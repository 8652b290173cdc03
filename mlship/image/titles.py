"""Names BuildKit's steps by the plan's titles, and marks its bookkeeping."""

import re
from collections.abc import Mapping
from dataclasses import replace

from mlship.engine.base import BuildEvent, BuildWatcher, Manifest, StepFinished, StepStarted

# BuildKit right-aligns step numbers below ten if there are ten steps or more.
_STEP = re.compile(r"\[(\S+) +(\d+)/\d+\] ")
_BOOKKEEPING = re.compile(r"\[context |\[\S+ +\d+/\d+\] (FROM|LINK) ")
_LINK = re.compile(r"\[\S+ +\d+/\d+\] LINK ")

Titles = Mapping[str, tuple[str, ...]]  # by stage; see mlship.image.steps.step_titles


def retitled(watch: BuildWatcher, titles: Titles) -> BuildWatcher:
    """A watcher that passes events on with their steps' titles."""

    def hear(event: BuildEvent) -> None:
        if isinstance(event, StepStarted | StepFinished):
            event = replace(event, name=in_words(event.name, titles))
        watch(event)

    return hear


def in_words(name: str, titles: Titles) -> str:
    """The title of a step; `[internal]` marks what matters only if it is slow."""
    found = _STEP.match(name)
    step = titles.get(found[1], ())[int(found[2]) - 1 : int(found[2])] if found else ()  # BuildKit counts from 1
    title = f"{found[1]}: {step[0]}" if found and step else None
    if _BOOKKEEPING.match(name):
        return f"[internal] {title}, linked" if title and _LINK.match(name) else f"[internal] {name}"
    return title or name


def named_layers(built: Manifest, titles: Titles) -> Manifest:
    """The manifest with the topmost layers, which the shipped stages' steps made, named by their titles."""
    own = (*titles["system"], *titles["runtime"])
    first = len(built.layers) - len(own)
    if first < 0:
        return built
    layers = (replace(layer, what=what) for layer, what in zip(built.layers[first:], own, strict=True))
    return replace(built, layers=(*built.layers[:first], *layers))
