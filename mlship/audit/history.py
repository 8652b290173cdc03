"""The steps that built an image, by the texts of its history. Pure.

BuildKit writes `RUN |1 A=b /bin/sh -c x # buildkit`, Docker's former builder and buildah `|1 A=b /bin/sh -c x` and
`/bin/sh -c #(nop) ENV A=b`, kaniko `RUN x`, and `docker commit` the command of the container.
https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md (`created_by`)
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlship.dockerfile.lexer import INSTRUCTIONS

_NO_COMMAND = "/bin/sh -c #(nop)"
_ASSIGNMENT = re.compile(r"(?:^|(?<=\s))([A-Za-z_]\w*)=")


@dataclass(frozen=True)
class HistoryStep:
    """One step.

    Attributes:
        text: all of it.
        instruction: such as "COPY"; "RUN" for a command without one.
        script: the shell script of a RUN step, or its command.
        variables: names and values of ARG and ENV, and of the build arguments of a RUN step.
        has_layer: whether it added a layer.
    """

    text: str
    instruction: str
    script: str
    variables: tuple[tuple[str, str], ...]
    has_layer: bool


def history_steps(history: Iterable[tuple[str, bool]]) -> tuple[HistoryStep, ...]:
    """Read the texts of a history, each with whether it added no layer."""
    steps, shell = list[HistoryStep](), "/bin/sh -c"
    for text, is_empty in history:
        first, _, rest = text.removeprefix(_NO_COMMAND).strip().partition(" ")
        instruction = first if first in INSTRUCTIONS else "RUN"
        script, variables = "", tuple[tuple[str, str], ...]()
        if instruction == "RUN":
            variables, script = _run(rest if first == "RUN" else text, shell)
        elif instruction in ("ARG", "ENV"):
            variables = tuple(_assignments(rest))
        elif instruction == "SHELL":
            shell = rest.strip().removeprefix("[").removesuffix("]")
        steps.append(HistoryStep(text, instruction, script, variables, not is_empty))
    return tuple(steps)


def _run(text: str, shell: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """The build arguments and the script of a RUN step."""
    text = text.removesuffix("# buildkit").strip()
    arguments, found, script = text.partition(f"{shell} ")
    if not text.startswith("|"):
        return (), script if found and not arguments.strip() else text
    return tuple(_assignments(arguments)), script if found else text


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """`A=b c D=e` as (A, b c) and (D, e): a history does not quote values."""
    parts = _ASSIGNMENT.split(text)
    yield from zip(parts[1::2], map(str.strip, parts[2::2]), strict=True)
