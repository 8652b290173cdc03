"""Completes an mlship.yaml that `mlship init` left open in places, and nothing that a person wrote."""

import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher

import yaml

from mlship.init.known import init_table
from mlship.project.load import OPEN_MARK

# As templates/init/mlship.yaml.j2 writes it.
_OWN_REQUIREMENTS = init_table().patterns["own_requirements"]
_ASKED = init_table().patterns["asked_pickles"].pattern
_WEIGHTS = re.compile(rf"^  weights: .*\n{_ASKED}?", re.MULTILINE)
_OPEN_WEIGHTS = re.compile(rf"^  weights: (?:\[\]\n|\[.*\]\n{_ASKED})", re.MULTILINE)


def complete(text: str, rendered: str, rendered_open: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Replace the open lines whose value is known now.

    Args:
        text: mlship.yaml as it is.
        rendered: mlship.yaml as it would be written now; `rendered_open`: the same with one key left open, by key.

    Returns:
        The text and the keys that were filled in. An open place is replaced only if its lines are exactly as written.
    """
    lines, filled = text.splitlines(keepends=True), list[str]()
    for key, unfinished in rendered_open.items():
        for before, after in _differences(unfinished.splitlines(keepends=True), rendered.splitlines(keepends=True)):
            places = [n for n in range(len(lines)) if lines[n : n + len(before)] == before]
            if len(places) == 1:
                lines[places[0] : places[0] + len(before)] = after
                filled.append(key)
    return "".join(lines), tuple(filled)


def _differences(before: list[str], after: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """The open places of one text, with their lines in the other."""
    for kind, start, end, new_start, new_end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind != "equal" and any(OPEN_MARK in line for line in before[start:end]):
            yield before[start:end], after[new_start:new_end]


def with_requirements(text: str, rendered: str) -> str:
    """Set the section `requirements` of the rendered text, which the new server needs, unless a person wrote it."""
    section = re.search(r"^requirements:\n(?:  .*\n)+", rendered, re.MULTILINE)
    if section is None:
        return text
    if "requirements" in keys_of(text):
        return _OWN_REQUIREMENTS.sub(lambda _: section[0], text, count=1)
    return re.sub(r"^python: .*\n", lambda line: f"{line[0]}\n{section[0]}", text, count=1, flags=re.MULTILINE)


def with_weights(text: str, rendered: str) -> str:
    """Name the model files of the rendered text, which a new loader reads, if mlship.yaml names none that it may load.

    That are none at all, or pickles with the question whether to allow them as `mlship init` left it.
    """
    now = _WEIGHTS.search(rendered)
    return _OPEN_WEIGHTS.sub(lambda _: now[0], text, count=1) if now else text


def keys_of(text: str) -> frozenset[str]:
    """The dotted keys that have a value; none if the text is not a mapping."""
    try:
        return frozenset(_keys(yaml.safe_load(text), ""))
    except (yaml.YAMLError, ValueError, RecursionError):
        return frozenset()


def _keys(value: object, prefix: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if inner is not None or key == "gpu":  # which needs no value
                yield f"{prefix}{key}"
                yield from _keys(inner, f"{prefix}{key}.")


def open_line(text: str, keys: tuple[str, ...]) -> int | None:
    """Number of the line where one of the keys is left open, as a comment."""
    names = tuple(f"{key.rpartition('.')[2]}:" for key in keys)
    comments = ((n, line.strip()) for n, line in enumerate(text.splitlines(), 1) if line.strip().startswith("#"))
    return next((n for n, line in comments if line.lstrip("# ").startswith(names)), None) if names else None
