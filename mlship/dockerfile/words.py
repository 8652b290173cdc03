"""Words of a Dockerfile's arguments, and the variables in them. What the text does not decide is UNKNOWN. Pure.

https://docs.docker.com/reference/dockerfile/#environment-replacement
"""

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

UNKNOWN = "\0"  # stands for a part of a value that the text does not decide; no value of a Dockerfile can hold it
VariableLookup: TypeAlias = Callable[[str], str | None]
_DEEPEST = 10  # variables in defaults of variables
_NAME = re.compile(r"[0-9@*#?$!-]|\w+", re.ASCII)


def shown_image(image: str) -> str:
    """An image's name, with what only the build knows as an ellipsis."""
    return image.replace(UNKNOWN, "…") if image.strip(UNKNOWN) else "the base image"


def split_words(text: str, escape: str) -> list[str]:
    """Split at spaces that are neither quoted nor escaped; quotes and escapes stay."""
    sign = re.escape(escape)
    quoted = (rf"{quote}(?:{sign}.|[^{quote}{sign}])*(?:{quote}|{sign}?$)" for quote in "\"'")
    return re.findall(rf"(?:{sign}.?|{'|'.join(quoted)}|[^\s])+", text, re.DOTALL)


def expand(text: str, escape: str, lookup: VariableLookup, depth: int = 0) -> str:
    """A word without its quotes and escapes, and with its variables.

    Args:
        lookup: the value of a variable, which may hold UNKNOWN; None if it is not set.
    """
    made, at, quote = list[str](), 0, ""
    while at < len(text):
        letter, after = text[at], text[at + 1 : at + 2]
        at += 1
        if letter == quote:
            quote = ""
        elif letter in "\"'" and not quote:
            quote = letter
        elif letter == escape and quote != "'":
            if quote and after not in ('"', "$", escape):
                made.append(letter)
            made.append(after)
            at += 1
        elif letter == "$" and quote != "'":
            value, at = variable_at(text, at, escape, lookup, depth)
            made.append(value)
        else:
            made.append(letter)
    return "".join(made)


def variable_at(text: str, at: int, escape: str, lookup: VariableLookup, depth: int = 0) -> tuple[str, int]:
    """The value of the variable whose `$` is before `at`, and the position behind it."""
    if text[at : at + 1] != "{":
        end = _name_end(text, at)
        return ((lookup(text[at:end]) or "") if end > at else "$"), end
    end = _name_end(text, at + 1)
    name, close = text[at + 1 : end], _closing(text, end)
    if close < 0 or depth > _DEEPEST:
        return UNKNOWN, len(text)
    return _modified(lookup(name), text[end:close], escape, lookup, depth), close + 1


def _modified(value: str | None, modifier: str, escape: str, lookup: VariableLookup, depth: int) -> str:
    if value and UNKNOWN in value and modifier:
        return UNKNOWN
    colon, rest = modifier.startswith(":"), modifier.removeprefix(":")
    is_set = bool(value) if colon else value is not None
    kind = rest[:1]
    if kind in ("-", "+") and is_set == (kind == "+"):
        return expand(rest[1:], escape, lookup, depth + 1)
    is_kept = not modifier or kind == "-" or (kind == "?" and is_set)
    return value or "" if is_kept else "" if kind == "+" else UNKNOWN  # ${name#pattern}


def _name_end(text: str, at: int) -> int:
    found = _NAME.match(text, at)
    return found.end() if found else at


def _closing(text: str, at: int) -> int:
    """The position of the brace that closes a variable; -1 without one."""
    depth = 0
    for position in range(at, len(text)):
        if text[position] == "}" and depth == 0:
            return position
        depth += (text[position] == "{") - (text[position] == "}")
    return -1


def pairs(
    text: str, escape: str, lookup: VariableLookup, *, arguments: bool = False
) -> Iterator[tuple[str, str | None]]:
    """The names and values of ENV and LABEL, or of ARG, where a name may have no value: None.

    `ENV name value` is the old form: everything behind the name is its value. ARG has no such form.
    """
    words = split_words(text, escape)
    if words and "=" not in words[0] and not arguments:
        rest = text.strip()[len(words[0]) :].strip()
        yield expand(words[0], escape, lookup), expand(rest, escape, lookup) if rest else None
        return
    for word in words:
        name, equals, value = word.partition("=")
        yield expand(name, escape, lookup), expand(value, escape, lookup) if equals else None
