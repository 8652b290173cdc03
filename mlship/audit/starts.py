"""Whether what CMD and ENTRYPOINT start gets SIGTERM, and not a shell before it. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlship.audit.rules import AuditSeen, audit_table
from mlship.dockerfile.shell import SHELLS, replacement, run_by, script_of, started_command
from mlship.dockerfile.stages import Start


def starts(entrypoint: Start | None, cmd: Start | None) -> Iterator[tuple[str, Start]]:
    """ENTRYPOINT and CMD, by name. They are one if ENTRYPOINT only runs its arguments, as `tini --` and `sh -c` do."""
    if entrypoint and entrypoint.exec_form and cmd and _takes_command(entrypoint.exec_form):
        yield "CMD", replace(cmd, exec_form=(*entrypoint.exec_form, *(cmd.exec_form or ())))
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
    words = started_command(start.exec_form or ())
    program = words[0].rpartition("/")[2] if words else ""
    script = script_of(words) if program in SHELLS else None
    if script is None:
        return _judge_program(start, name, program, file)
    if becomes := replacement(script):
        seen = AuditSeen("pass", f"{name} replaces its shell with `exec`", start.line)
        return _judge_exec(becomes, seen, start, name)
    if program == "bash" and not set("|&(") & set(re.sub(r"&&|&>|>&", "", script)):
        return AuditSeen("unknown", f"whether this bash replaces itself with the last command of {name}", start.line)
    return AuditSeen("fail", f"{name} runs in a shell that does not forward signals", start.line)


def _judge_program(start: Start, name: str, program: str, file: str | None) -> AuditSeen:
    if file is not None and (becomes := replacement(file)):
        seen = AuditSeen("pass", f"the script that {name} starts replaces its shell with `exec`", start.line)
        return _judge_exec(becomes, seen, start, name)
    if file is not None or program.endswith(".sh") or program in SHELLS:
        return AuditSeen("unknown", f"whether {name} starts a script that does not end with `exec`", start.line)
    words = started_command(start.exec_form or ())
    if words and (run_by(words) is not None or program in {*audit_table().recipes, *audit_table().starters}):
        return AuditSeen("unknown", f"whether `{program}` of {name} passes SIGTERM on", start.line)
    return AuditSeen("pass", f"{name} is in exec form", start.line)


def _judge_exec(becomes: tuple[str, ...], seen: AuditSeen, start: Start, name: str) -> AuditSeen:
    """`seen`, unless what replaces the shell does not pass: another shell, or nothing (`exec > log`)."""
    if not started_command(becomes):
        return AuditSeen("fail", f"{name} runs in a shell that does not forward signals", start.line)
    found = judge_start(replace(start, exec_form=becomes), name)
    return seen if found.verdict == "pass" else found
