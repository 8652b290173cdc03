"""Split a Dockerfile into instructions, as BuildKit does. Pure.

https://docs.docker.com/reference/dockerfile/
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from mlship import plain
from mlship.dockerfile.words import split_words

INSTRUCTIONS = {
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"),
    *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
}
_FLAGS = {"ADD", "COPY", "FROM", "HEALTHCHECK", "RUN"}
_HEREDOCS = {"ADD", "COPY", "RUN"}
_DIRECTIVES = {"syntax", "escape", "check"}
_Lines: TypeAlias = Iterator[tuple[int, str]]  # with their numbers, from 1


class DockerfileError(Exception):
    """BuildKit would refuse the file, for `what` at `line`; `hint` is the next step, if it is known."""

    def __init__(self, line: int, what: str, hint: str = "") -> None:
        super().__init__(f"line {line}: {what}")
        self.hint = hint


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        line: its first line, from 1.
        name: in upper case.
        flags: options such as `--mount=type=cache,target=/root/.cache`, in order.
        text: the arguments, without flags, on one line.
        exec_form: the arguments of the JSON form; None in the shell form.
        heredocs: the text of each here-document.
        trigger: of ONBUILD, the instruction that runs in images built from this one.
    """

    line: int
    name: str
    text: str
    flags: tuple[str, ...] = ()
    exec_form: tuple[str, ...] | None = None
    heredocs: tuple[str, ...] = ()
    trigger: "Instruction | None" = None

    def values(self, flag: str) -> tuple[str, ...]:
        """Every value of a flag."""
        return tuple(one.partition("=")[2] for one in self.flags if one.partition("=")[0] == f"--{flag}")


def lex(text: str) -> tuple[tuple[Instruction, ...], str]:
    """The instructions of a Dockerfile, and its escape character.

    Raises:
        DockerfileError: BuildKit would refuse it: an unknown instruction, or a here-document without an end.
    """
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    escape, count = _directives(lines)
    rows = iter(enumerate(lines[count:], count + 1))
    starts = ((number, line.lstrip()) for number, line in rows if line.strip() and not line.lstrip().startswith("#"))
    return tuple(_instruction(_joined(rows, escape, line), number, rows, escape) for number, line in starts), escape


def _directives(lines: list[str]) -> tuple[str, int]:
    """The escape character, and the number of directives, which end at the first line that is none."""
    escape, seen = "\\", set[str]()
    for line in lines:
        name, equals, value = line.strip().removeprefix("#").partition("=")
        name = name.strip().lower()
        if not line.strip().startswith("#") or not equals or name not in _DIRECTIVES or name in seen:
            break
        seen.add(name)
        escape = value.strip() if name == "escape" else escape
    if escape not in ("\\", "`"):
        raise DockerfileError(len(seen), f"the escape character is `{escape}`, not a backslash or a backtick")
    return escape, len(seen)


def _joined(lines: _Lines, escape: str, first: str) -> str:
    """A logical line: comments and empty lines between continued lines are left out."""
    part, more = _continued(first, escape)
    parts = [part]
    for _, line in lines if more else ():
        if line.strip() and not line.lstrip().startswith("#"):
            part, more = _continued(line, escape)
            parts.append(part)
            if not more:
                break
    return "".join(parts)


def _continued(line: str, escape: str) -> tuple[str, bool]:
    """The line without its escape character at the end, and whether it had one; two of them continue nothing."""
    text = line.rstrip(" \t")
    is_continued = text.endswith(escape) and not text.endswith(escape * 2)
    return (text[:-1] if is_continued else line), is_continued


def _instruction(text: str, line: int, lines: _Lines, escape: str, *, nested: bool = False) -> Instruction:
    name, rest = _head(text)
    name = name.upper()
    if name not in INSTRUCTIONS:
        raise DockerfileError(line, f"unknown instruction `{name[:40]}`")
    if name == "ONBUILD":
        if nested:
            raise DockerfileError(line, "ONBUILD cannot be in ONBUILD")
        return Instruction(line, name, rest, trigger=_instruction(rest, line, lines, escape, nested=True))
    flags: list[str] = []
    while name in _FLAGS and rest.startswith("--"):
        flag, rest = _head(rest)
        flags.append(flag)
    heredocs = tuple(_heredocs(rest, line, lines, escape)) if name in _HEREDOCS else ()
    if name == "SHELL" and not _json(rest):
        raise DockerfileError(line, "SHELL needs a list in JSON")
    return Instruction(line, name, rest, tuple(flags), _json(rest), heredocs)


def _head(text: str) -> tuple[str, str]:
    """The first word, and the rest."""
    parts = text.split(maxsplit=1)
    return (parts[0] if parts else "", parts[1].strip() if len(parts) > 1 else "")


def _json(text: str) -> tuple[str, ...] | None:
    found = plain.json_of(text) if text.startswith("[") else None
    words = plain.texts(found)
    return words if isinstance(found, list) and len(found) == len(words or ()) else None


def _heredocs(text: str, line: int, lines: _Lines, escape: str) -> Iterator[str]:
    if "<<" not in text:
        return
    for word in split_words(text, escape):
        start = word.lstrip("0123456789")
        name = start.removeprefix("<<").removeprefix("-")
        if not start.startswith("<<") or not name or "<" in name:
            continue
        yield _heredoc(name.replace('"', "").replace("'", ""), line, lines, strips=start.startswith("<<-"))


def _heredoc(name: str, line: int, lines: _Lines, *, strips: bool) -> str:
    body: list[str] = []
    for _, each in lines:
        content = each.lstrip("\t") if strips else each
        if content == name:
            return "\n".join(body)
        body.append(content)
    raise DockerfileError(line, f"the here-document `{name[:40]}` has no end")
