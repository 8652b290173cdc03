"""The commands of a shell script, as far as its text decides them. Pure.

https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import dropwhile, pairwise, takewhile

from mlship.dockerfile.words import UNKNOWN, VariableLookup, variable_at
from mlship.versioned import TableRow, table_reader

_OPERATORS = ";&|()\n"
RESERVED = {"if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac", "{", "}", "!"}
SHELLS = {"sh", "bash", "dash", "ash", "zsh"}
_USERS = {"su", "runuser"}
_DEEPEST = 8  # shells in shells
_PYTHONS = {"pypy", "python"}
_PYTHON_OPTION = re.compile(r"-(?:[bBdEiIOPqsSuvx]+|[WX].*)")
_MODULE = re.compile(r"-[bBdEiIOPqsSuvx]*m(.*)")
_VERSION = f"0123456789.{UNKNOWN}"
# https://www.gnu.org/software/coreutils/manual/html_node/env-invocation.html
_SPLIT = re.compile(r"(?:-[iv0]*S|--split-string(?:=|$))(.*)", re.DOTALL)


class _Runner(TableRow):
    """A row of data/commands.toml, whose header explains the keys."""

    programs: tuple[str, ...]
    options: frozenset[str] = frozenset()
    operands: int = 0
    becomes: bool = True
    subcommand: str = ""
    appends: bool = False
    modules: frozenset[str] = frozenset()
    installs: bool = False


class _Table(TableRow):
    runner: tuple[_Runner, ...]
    pip_options: frozenset[str]
    global_options: frozenset[str]
    variables: frozenset[str]

    @cached_property
    def runners(self) -> Mapping[str, _Runner]:
        return {program: row for row in self.runner for program in row.programs}


command_table = table_reader(_Table, "commands")


@dataclass(frozen=True)
class Command:
    """One simple command.

    Attributes:
        words: program and arguments, without quotes; UNKNOWN stands for what the text does not decide.
        env: variables that are set for this command only.
    """

    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def program(self) -> str:
        """The program's name, without its folder."""
        return self.words[0].rpartition("/")[2]


@dataclass
class _Reader:
    text: str
    lookup: VariableLookup
    at: int = 0
    inner: list[str] = field(default_factory=list)  # scripts in $(...), backticks and here-documents
    ends: list[str] = field(default_factory=list)  # of the here-documents that follow this line

    def known(self, name: str) -> str:
        return UNKNOWN if (found := self.lookup(name)) is None else found

    def take(self) -> str:
        self.at += 1
        return self.text[self.at - 1 : self.at]

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]


def commands(script: str, lookup: VariableLookup = lambda _: UNKNOWN, depth: int = 0) -> tuple[Command, ...]:
    """The simple commands of a script in order, including those in `$(...)` and in `sh -c`.

    Args:
        lookup: the value of a variable of the environment; None if it is not set.
    """
    reader = _Reader(script, lookup)
    found = [one for words, _ in _simple(reader) for one in _command(words, lookup, depth)]
    if depth < _DEEPEST:
        found += [one for inner in reader.inner for one in commands(inner, lookup, depth + 1)]
    return tuple(found)


def replacement(script: str) -> tuple[str, ...] | None:
    """The command, with `exec` before it, that the shell becomes in its last list; None if the shell may stay.

    A pipeline, a subshell and a list in the background are other processes, so `exec` there replaces only those. Before
    `&&` and `||`, it replaces the shell (measured with dash and bash), but `a && exec b || c` may run c.
    """
    rows = [([], ""), *_joined(_simple(_Reader(script, lambda _: None)))]
    ends = [at for at, (_, after) in enumerate(rows) if after.strip("\n;") not in ("&&", "||", "|", "|&")]
    if len(ends) < 2 or rows[-1][1].strip("\n;"):
        return None
    for (_, before), (words, after) in pairwise(rows[ends[-2] :]):
        starts_list = before.strip("\n;") in ("", "&", "&&") or before.startswith((")\n", ");"))
        may_skip = before.strip("\n;") == "&&" and after.strip("\n;") == "||"
        if words[:1] == ["exec"] and starts_list and after.strip("\n;") in ("", "&&", "||") and not may_skip:
            return tuple(words)
    return None


def words_of(text: str) -> tuple[str, ...]:
    """The words of one command, without quotes."""
    return tuple(word for words, _ in _simple(_Reader(text, lambda _: None)) for word in words)


def _joined(found: Iterable[tuple[list[str], str]]) -> Iterator[tuple[list[str], str]]:
    """Commands that have words, with all operators up to the next one, such as `&&` and a line's end."""
    words, operators = list[str](), ""
    for more, operator in found:
        if more and (words or operators):
            yield words, operators
            operators = ""
        words, operators = more or words, operators + operator
    if words:
        yield words, operators


def _simple(reader: _Reader) -> Iterator[tuple[list[str], str]]:
    """The words of each simple command, without redirections, and the character of an operator that ends it."""
    words = list[str]()
    while letter := reader.peek():
        if letter == "(" and words and words[-1].endswith("="):  # an array of bash
            reader.take()
            _inner(reader, ")")
            reader.inner.pop()
        elif letter in _OPERATORS:
            reader.take()
            if letter == "\n":
                _read_documents(reader, is_script=not words or words[0].rpartition("/")[2] in SHELLS)
            yield words, letter
            words = []
        elif letter.isspace() or reader.text.startswith("\\\n", reader.at):
            reader.at += 1 + (letter == "\\")
        elif letter == "#":
            while reader.peek() not in ("", "\n"):
                reader.take()
        elif letter in "<>":
            _skip_redirection(reader)
        else:
            word = _word(reader)
            if not (word.isdigit() and reader.peek() in ("<", ">") and reader.peek()):  # 2>/dev/null
                words.append(word)
    yield words, ""


def _read_documents(reader: _Reader, *, is_script: bool) -> None:
    """Skip the here-documents that follow a line; keep them for later if a shell reads them."""
    for end in reader.ends:
        lines = list[str]()
        while reader.at < len(reader.text):
            stop = reader.text.find("\n", reader.at)
            lines.append(reader.text[reader.at : stop if stop >= 0 else None])
            reader.at += len(lines[-1]) + 1
            if lines[-1].lstrip("\t") == end:
                break
        reader.inner += ["\n".join(lines[:-1])] if is_script else []
    reader.ends.clear()


def _skip_redirection(reader: _Reader) -> None:
    is_document = reader.text.startswith("<<", reader.at) and not reader.text.startswith("<<<", reader.at)
    for letters in ("<>&|-", " \t"):
        while reader.peek() and reader.peek() in letters:
            reader.take()
    if reader.peek() and reader.peek() not in f"{_OPERATORS}<>":
        word = _word(reader)
        reader.ends += [word] if is_document else []


def _word(reader: _Reader) -> str:
    """One word, without its quotes."""
    made, quote = list[str](), ""
    while letter := reader.peek():
        if not quote and (letter.isspace() or letter in f"{_OPERATORS}<>"):
            break
        reader.take()
        if letter == quote:
            quote = ""
        elif letter in "\"'" and not quote:
            quote = letter
        elif letter == "\\" and quote != "'":
            after = reader.take()
            made.append("" if after == "\n" else f"\\{after}" if quote and after not in '"$`\\' else after)
        elif letter == "$" and quote != "'":
            made.append(_dollar(reader))
        elif letter == "`" and quote != "'":
            made.append(_inner(reader, "`"))
        else:
            made.append(letter)
    return "".join(made)


def _dollar(reader: _Reader) -> str:
    """What follows a `$`: the value of a variable of the environment, or UNKNOWN."""
    if reader.peek() == "(":
        reader.take()
        return _inner(reader, ")")
    value, reader.at = variable_at(reader.text, reader.at, "\\", reader.known)
    return value


def _inner(reader: _Reader, end: str) -> str:
    """Keep the script up to its end for later; its output is unknown."""
    start, depth = reader.at, 0
    while letter := reader.take():
        if letter == "\\":
            reader.take()
        elif letter == end and depth == 0:
            break
        elif end == ")":
            depth += (letter == "(") - (letter == ")")
    reader.inner.append(reader.text[start : reader.at - 1])
    return UNKNOWN


def _command(words: list[str], lookup: VariableLookup, depth: int) -> Iterator[Command]:
    """The command without reserved words, assignments and programs that only run it."""
    words, env = list(words), dict[str, str]()
    while words:
        name, equals, value = words[0].partition("=")
        if equals and name.replace("_", "a").isalnum() and not name[0].isdigit():
            env[name] = value
            words.pop(0)
        elif words[0] in RESERVED - {"case", "for"}:
            words.pop(0)
        elif (run := run_by(words)) is not None:
            if command_table().runners[words[0].rpartition("/")[2]].installs:
                yield Command(tuple(words), env)
            words = list(run)
        else:
            break
    if not words or words[0] in ("case", "for"):
        return
    found = Command(tuple(words), env)
    if found.program in SHELLS | _USERS | {"eval"} and depth < _DEEPEST and (script := script_of(words)) is not None:
        yield from commands(script, lookup, depth + 1)
        return
    yield found
    rest = iter(words if found.program == "find" and depth < _DEEPEST else ())
    for word in rest:
        if word in ("-exec", "-execdir", "-ok", "-okdir"):
            run = tuple(takewhile(lambda one: one not in (";", "+"), rest))
            yield from _command([one.replace("{}", UNKNOWN) for one in run], lookup, depth + 1)


def script_of(words: Sequence[str]) -> str | None:
    """The script of `sh -c SCRIPT`; options may be joined, as in `bash -lc`, or have a value: `-o pipefail`."""
    program = words[0].rpartition("/")[2]
    if program == "eval":
        return " ".join(words[1:])
    if program in _USERS:
        return next((two for one, two in pairwise(words) if one in ("-c", "--command")), None)
    for at, word in enumerate(words[1:], 1):
        if word.startswith("-") and not word.startswith("--") and word.endswith("c"):
            return words[at + 1] if at + 1 < len(words) else None
        if not word.startswith(("-", "+")) and not re.fullmatch(r"[-+]\w*o", words[at - 1]):
            return None
    return None


def run_by(words: Sequence[str], *, becomes: bool = False) -> tuple[str, ...] | None:
    """The command that a program such as `env` or `tini` runs; None for other programs.

    Args:
        becomes: only for a program that becomes the command or passes signals on.
    """
    program, rest = words[0].rpartition("/")[2], tuple(words[1:])
    row = command_table().runners.get(program)
    if row is None or (becomes and not row.becomes):
        return None
    if row.subcommand:  # before it are options, which no program reads as its own
        if row.subcommand not in rest:
            return None
        rest = rest[rest.index(row.subcommand) + 1 :]
    while rest and rest[0].startswith("-"):
        option, rest = rest[0], rest[1:]
        if option == "--":
            break
        if option in row.modules:
            return ("python", "-m", *rest)
        if program == "env" and (split := _SPLIT.fullmatch(option)):
            rest = (*words_of(split[1] or "".join(rest[:1])), *(rest if split[1] else rest[1:]))
        else:
            rest = rest[option in row.options :]
    python = ("python",) * (bool(row.modules) and "".join(rest[:1]).endswith(".py"))
    return (*python, *rest[row.operands :], *((UNKNOWN,) if row.appends and rest else ()))


def started_command(words: Sequence[str]) -> tuple[str, ...]:
    """The program and arguments that a command ends up with, such as `python -m a` of `tini -- python -m a`."""
    rest = tuple(words)
    while rest and (run := run_by(rest, becomes=True)) is not None:
        is_env = rest[0].rpartition("/")[2] == "env"
        rest = tuple(dropwhile(lambda word: "=" in word, run)) if is_env else run
    return rest


def program_and_arguments(command: Command) -> tuple[str, tuple[str, ...]]:
    """A command as its package manager sees it: `python3.11 -m pip`, `pip3` and `pip3.11` are pip."""
    program, arguments = command.program, command.words[1:]
    if program.rstrip(_VERSION) in _PYTHONS:
        at = 0
        while at < len(arguments) and _PYTHON_OPTION.fullmatch(arguments[at]):
            at += 1 + (arguments[at] in ("-W", "-X"))
        rest = arguments[at:]
        if module := _MODULE.fullmatch("".join(rest[:1])):
            rest = (*filter(None, [module[1]]), *rest[1:])
        if module or "".join(rest[:1]).endswith(".py"):
            program, arguments = "".join(rest[:1]).rpartition("/")[2], rest[1:]
    is_pip = program.startswith("pip") and not program.removeprefix("pip").strip(_VERSION)
    return ("pip" if is_pip else program), arguments


def installer_and_arguments(command: Command) -> tuple[str, tuple[str, ...]]:
    """As `program_and_arguments`, with `uv pip` as pip."""
    program, arguments = program_and_arguments(command)
    is_uv_pip = program == "uv" and verb(arguments) == "pip"
    return ("pip", arguments[arguments.index("pip") + 1 :]) if is_uv_pip else (program, arguments)


def verb(arguments: Sequence[str]) -> str:
    """The first argument that is neither an option nor the value of one (`apt-get -o Acquire::Retries=3 update`)."""
    words = (word for before, word in pairwise(("", *arguments)) if before not in command_table().global_options)
    return next((word for word in words if not word.startswith("-")), "")
