"""Shell scripts that start a server, such as `./entrypoint.sh`. Their lines are read, never run.

A shell between the container and its server receives the signals, and hides the port. A script is read if it is a list
of simple commands that ends with the server; nothing is concluded from any other.
"""

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mlship.dockerfile.shell import RESERVED, script_of
from mlship.init.tree import Tree
from mlship.project.commands import is_server, is_shell, parse_command, program_name, run_in
from mlship.redact import redact

# Commands that change what the shell does next, so that the lines after them are not simply what they say.
_CONTROL = {*RESERVED, "function", "select", "trap", ".", "source", "eval", "exit", "return", "shift", "unset", "wait"}
_QUIET = {"set", "echo", "printf", ":", "true", "umask", "ulimit"}  # the server can do without
_ASSIGNS = re.compile(r"(export\s+)?[A-Za-z_]\w*=")
_ARGUMENTS = re.compile(r"\"\$[@*]\"|\$[@*]")
_ENDS = (".sh", ".bash")


@dataclass(frozen=True)
class StartScript:
    """A script that starts a server with its last command.

    Attributes:
        path: in the repository.
        command: the server's argument list, with the defaults of the script's variables.
        before: other commands, which `command` leaves out, without the values of variables.
    """

    path: str
    command: tuple[str, ...]
    before: tuple[str, ...] = ()


def script_path(tree: Tree, command: Sequence[str]) -> str | None:
    """The shell script of the repository that a command runs; None if it runs none."""
    named = _script_word(_unwrapped(command))
    if named is None:
        return None
    parts = PurePosixPath(named).parts
    ends = ("/".join(parts[at:]) for at in range(len(parts)))  # the folder in an image may be another
    found = [path for path in tree.files if PurePosixPath(path).name == parts[-1]]
    return next((end for end in ends if end in tree), found[0] if len(found) == 1 else None)


def read_start_script(tree: Tree, command: Sequence[str], variables: Mapping[str, str]) -> StartScript | None:
    """The server that the script of a command starts; None without a script, or if its text does not decide it.

    Args:
        variables: those of the image's environment.
    """
    path, asked = script_path(tree, command), _unwrapped(command)
    given = shlex.join(asked[asked.index(named) + 1 :]) if (named := _script_word(asked)) else ""
    lines = list(_lines((tree.text(path) if path else None) or "", given))
    known, folder, before = dict(variables), "", list[str]()
    for at, line in enumerate(lines, 1):
        words = _words(line, known)
        if not path or not words or words[0] in _CONTROL:
            return None
        if words[0] == "export":
            known |= {name: value for name, equals, value in (word.partition("=") for word in words[1:]) if equals}
            names = (word.partition("=")[0] for word in words[1:])
            before += [shlex.join(["export", *names])] * line.startswith("export")
        elif words[0] == "cd" and len(words) == 2:
            folder = posixpath.normpath(posixpath.join(folder, words[1])).removeprefix(".")
        elif is_server(words) or _runs_python(tree, words, folder):
            inside = not folder or folder in tree.folders
            return StartScript(path, run_in(folder, words), tuple(before)) if at == len(lines) and inside else None
        elif words[0] not in _QUIET:
            before.append(redact(shlex.join(words)))
    return None


def _unwrapped(command: Sequence[str]) -> list[str]:
    """The words of a command, also of one in `sh -c`."""
    script = script_of(command) if is_shell(command) else None
    try:
        return shlex.split(script) if script is not None else list(command)
    except ValueError:
        return []


def _script_word(words: Sequence[str]) -> str | None:
    """`start.sh` of `start.sh`, `bash -e start.sh` and `exec ./start.sh`."""
    shell = is_shell(words) or [*words[:1]] == ["exec"]
    word = next((word for word in words[shell:] if not (shell and word.startswith("-"))), "")
    return word if word.endswith(_ENDS) else None


def _lines(text: str, given: str) -> Iterator[str]:
    """The lines with commands, with the script's arguments in place."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            code = line if {"'", '"'} & {*line} else re.sub(r"\s#.*", "", line)
            yield _ARGUMENTS.sub(lambda _: given, code.strip())


def _words(line: str, known: Mapping[str, str]) -> tuple[str, ...] | None:
    """The words of a simple command, an assignment as one of `export`; None if it needs a shell."""
    assigns = _ASSIGNS.match(line)
    words = parse_command(("sh", "-c", f"export {line}" if assigns and not assigns[1] else line), known)
    return None if assigns and words and len(words) > 2 else words  # a shell does not split the value of a variable


def _runs_python(tree: Tree, words: Sequence[str], folder: str) -> bool:
    """Whether Python runs a file or a module of the repository."""
    if not program_name(words).startswith("python"):
        return False
    module = words[2].replace(".", "/") if words[1:2] == ("-m",) and len(words) > 2 else None
    names = [f"{module}.py", f"{module}/__main__.py"] if module else [word.removeprefix("./") for word in words[1:2]]
    return any(f"{folder}/{name}".lstrip("/") in tree for name in names)
