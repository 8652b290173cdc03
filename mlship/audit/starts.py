"""Whether what CMD and ENTRYPOINT start gets SIGTERM, and not a shell before it. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from mlship.audit.installs import CONDAS
from mlship.audit.rules import AuditSeen
from mlship.dockerfile.shell import SHELLS, replacement, script_of, words_of
from mlship.dockerfile.stages import Start

# Programs that run their arguments and become them, or pass signals on: their options that take a value, and how many
# words come before the command. Measured with Debian's packages. A shell behind an init fails, too: it ends at once,
# and then the init ends with the server, which `tini -g` and dumb-init have stopped.
_RUNNERS: Mapping[str, tuple[frozenset[str], int]] = {
    **dict.fromkeys(("catatonit", "docker-init", "nohup"), (frozenset[str](), 0)),
    **dict.fromkeys(("tini", "tini-static"), (frozenset({"-p", "-e"}), 0)),
    **dict.fromkeys(("gosu", "su-exec"), (frozenset[str](), 1)),
    "dumb-init": (frozenset({"-r", "--rewrite"}), 0),
    "exec": (frozenset({"-a"}), 0),  # of a shell
    "env": (frozenset({"-u", "-C", "--unset", "--chdir"}), 0),
    "nice": (frozenset({"-n", "--adjustment"}), 0),
    "setpriv": (frozenset({"--reuid", "--regid", "--groups", "--inh-caps", "--bounding-set", "--ambient-caps"}), 0),
    "stdbuf": (frozenset({"-i", "-o", "-e"}), 0),
    "timeout": (frozenset({"-k", "-s", "--kill-after", "--signal"}), 1),
}
# https://www.gnu.org/software/coreutils/manual/html_node/env-invocation.html
_SPLIT = re.compile(r"(?:-[iv0]*S|--split-string(?:=|$))(.*)", re.DOTALL)


def started_command(words: Sequence[str]) -> tuple[str, ...]:
    """The program and arguments that a command ends up with, such as `python -m a` of `tini -- python -m a`."""
    rest = tuple(words)
    while rest and rest[0].rpartition("/")[2] in _RUNNERS:
        program = rest[0].rpartition("/")[2]
        values, operands = _RUNNERS[program]
        rest = rest[1:]
        while rest and (rest[0].startswith("-") or (program == "env" and "=" in rest[0])):
            option, rest = rest[0], rest[1:]
            if option == "--":
                break
            if program == "env" and (split := _SPLIT.fullmatch(option)):
                rest = (*words_of(split[1] or "".join(rest[:1])), *(rest if split[1] else rest[1:]))
                continue
            rest = rest[option in values :]
        rest = rest[operands:]
    return rest


def starts(entrypoint: Start | None, cmd: Start | None) -> Iterator[tuple[str, Start]]:
    """ENTRYPOINT and CMD, by name. They are one if ENTRYPOINT only runs its arguments, as `tini --` and `sh -c` do."""
    if entrypoint and entrypoint.exec_form and cmd and _takes_command(entrypoint.exec_form):
        words = cmd.exec_form if cmd.exec_form is not None else ("/bin/sh", "-c", cmd.text)
        yield "CMD", replace(cmd, exec_form=(*entrypoint.exec_form, *words))
    else:
        yield from ((name, start) for name, start in (("ENTRYPOINT", entrypoint), ("CMD", cmd)) if start)


def _takes_command(words: Sequence[str]) -> bool:
    program = started_command(words)
    return not program or (program[0].rpartition("/")[2] in SHELLS and bool(re.fullmatch(r"-\w*c", program[-1])))


def judge_start(start: Start, name: str, file: str | None = None) -> AuditSeen:
    """CMD or ENTRYPOINT: without a shell, or with one that replaces itself.

    Args:
        file: the shell script that it starts, if it can be read. What others do is unknown.
    """
    words = None if start.exec_form is None else started_command(start.exec_form)
    program = words[0].rpartition("/")[2] if words else ""
    script = start.text if words is None else script_of(words) if program in SHELLS else None
    if script is None:
        return _judge_program(start, name, program, file)
    if becomes := replacement(script):
        return _judge_exec(
            becomes, AuditSeen("pass", f"{name} replaces its shell with `exec`", start.line), start, name
        )
    if program == "bash" and not set("|&(") & set(re.sub(r"&&|&>|>&", "", script)):
        return AuditSeen("unknown", f"whether this bash replaces itself with the last command of {name}", start.line)
    return AuditSeen("fail", f"{name} runs in a shell that does not forward signals", start.line)


def _judge_program(start: Start, name: str, program: str, file: str | None) -> AuditSeen:
    if file is not None and (becomes := replacement(file)):
        seen = AuditSeen("pass", f"the script that {name} starts replaces its shell with `exec`", start.line)
        return _judge_exec(becomes, seen, start, name)
    if file is not None or program.endswith(".sh") or program in SHELLS:
        return AuditSeen("unknown", f"whether the script that {name} starts ends with `exec`", start.line)
    if program in CONDAS and "run" in (start.exec_form or ()):
        return AuditSeen("unknown", f"whether `{program} run` of {name} passes SIGTERM on", start.line)
    return AuditSeen("pass", f"{name} is in exec form", start.line)


def _judge_exec(becomes: tuple[str, ...], seen: AuditSeen, start: Start, name: str) -> AuditSeen:
    """`seen`, unless what replaces the shell does not pass: another shell, or nothing (`exec > log`)."""
    if not started_command(becomes):
        return AuditSeen("fail", f"{name} runs in a shell that does not forward signals", start.line)
    found = judge_start(replace(start, exec_form=becomes), name)
    return seen if found.verdict == "pass" else found
