"""What a program of `inside` printed as JSON, as facts: held to the schema like a facts file."""

import json
from collections.abc import Iterable

from mlship.doctor.facts.facts import Facts, adapter
from mlship.doctor.facts.place import Place
from mlship.doctor.probes.child import ChildResult


class NoAnswerError(Exception):
    """The program gave no answer; it says why."""


def read_place(ended: ChildResult) -> Place:
    """A part of a place, from the program's one line.

    Raises:
        NoAnswerError: it did not come to its end.
    """
    plain = read_object(ended)
    text = json.dumps({"host": plain, "schema": 1})
    facts: Facts = adapter().validate_json(text, strict=True)
    return facts.host


def read_object(ended: ChildResult) -> dict[str, object]:
    """The object that a program printed last.

    Raises:
        NoAnswerError: there is none.
    """
    try:
        plain: object = json.loads(_last(ended.lines))
    except ValueError as error:
        why = "no answer in time" if ended.how == "late" else _last(ended.stderr.splitlines()) or "no answer"
        raise NoAnswerError(why) from error
    if not isinstance(plain, dict):
        raise NoAnswerError("an answer that is no object")
    return {str(key): value for key, value in plain.items()}


def _last(lines: Iterable[str]) -> str:
    return next((line.strip() for line in reversed(list(lines)) if line.strip()), "")
