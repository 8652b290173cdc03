"""Short texts that a regular expression matches: one for each alternative, with a space for ".*"."""

import re
from collections.abc import Iterator
from itertools import product

# Python's own parser; it has no public name.
from re import _constants as constants  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]

_CLASSES = {
    constants.CATEGORY_DIGIT: "1",
    constants.CATEGORY_WORD: "x",
    constants.CATEGORY_SPACE: " ",
    constants.CATEGORY_NOT_SPACE: "x",
    constants.CATEGORY_NOT_DIGIT: "x",
    constants.CATEGORY_NOT_WORD: " ",
}


def texts_of(pattern: str) -> list[str]:
    """The texts; those that a look-around rules out are left out."""
    return [text for text in _of(parser.parse(pattern)) if re.search(f"(?i){pattern}", text)]


def _of(tree: object) -> Iterator[str]:
    parts = [list(_item(kind, value)) for kind, value in tree]  # type: ignore[attr-defined]
    longest = max(map(len, parts), default=1)
    if sum(len(part) > 1 for part in parts) > 1:  # every alternative of each part, not every combination
        yield from ("".join(part[number % len(part)] for part in parts) for number in range(longest))
    else:
        yield from map("".join, product(*parts))


def _item(kind: object, value: object) -> Iterator[str]:
    if kind is constants.LITERAL:
        yield chr(value)  # type: ignore[arg-type]
    elif kind in (constants.ANY, constants.NOT_LITERAL):
        yield " "
    elif kind is constants.IN:
        yield _one_of(value)
    elif kind in (constants.MAX_REPEAT, constants.MIN_REPEAT):
        least, inside = value[0], value[2]  # type: ignore[index]
        between = " " if inside[0][0] is constants.ANY else ""
        yield from ("".join([text] * least) for text in _of(inside)) if least else iter([between])
    elif kind is constants.SUBPATTERN:
        yield from _of(value[-1])  # type: ignore[index]
    elif kind is constants.BRANCH:
        for branch in value[1]:  # type: ignore[index]
            yield from _of(branch)
    else:  # a position or a look-around
        yield ""


def _one_of(options: object) -> str:
    kind, value = next(iter(options))  # type: ignore[call-overload]
    if kind is constants.NEGATE:
        return "x"
    if kind is constants.RANGE:
        return chr(value[0])
    return _CLASSES[value] if kind is constants.CATEGORY else chr(value)
