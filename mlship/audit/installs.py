"""Judge the commands that install packages: locked or not, and what they leave behind. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from mlship.audit.rules import AuditSeen, Filler, audit_table, decided, verb
from mlship.dockerfile.shell import SHELLS, Command, pip_value_options, program_and_arguments
from mlship.dockerfile.stages import Run
from mlship.dockerfile.words import UNKNOWN

_CONDAS = {"conda", "mamba", "micromamba"}
_DELETES_ALL = re.compile(r"(?:\S*/)?find(?: [^-(!\s]\S*)+(?: -depth| -xdev| -mindepth 1| -type f)* -delete")
_LEAN = re.compile("(?i)no-install-recommends|apt::install-recommends=")
_ROOT = {"", "0", "root", UNKNOWN}
_LOCKS = {"pass": "installs its lock", "fail": "has no lock", "unknown": "uses a lock only if there is one"}


def locked(command: Command) -> Iterator[AuditSeen]:
    """Whether an install takes every version from a lock; nothing for other commands."""
    program, arguments = program_and_arguments(command)
    shown = f"`{' '.join((program, *arguments)).replace(UNKNOWN, '…')[:100]}`"
    if UNKNOWN in program:
        yield AuditSeen("unknown", f"{shown}: the build decides which program")
    if program == "uv" and verb(arguments) == "pip":
        program, arguments = "pip", arguments[arguments.index("pip") + 1 :]
    action = verb(arguments)
    named = _operands(arguments[arguments.index(action) + 1 :] if action else ())
    actions = {action, " ".join((action, *named[:1]))}
    if program in ("pip", "pipx") and action in ("install", "sync", "wheel", "download"):
        yield _pip(arguments, action, named, shown)
    elif program in _CONDAS:
        yield from _conda(arguments, action, named, shown)
    for row in audit_table().locker:
        if program == row.program and actions & row.verbs and not row.without & set(arguments):
            verdict = "pass" if row.options & set(arguments) else row.verdict
            yield AuditSeen(verdict, f"{shown} {_LOCKS[verdict]}")


def _pip(arguments: tuple[str, ...], action: str, named: list[str], shown: str) -> AuditSeen:
    if "--require-hashes" in arguments:
        return AuditSeen("pass", f"{shown} requires hashes")
    if "--no-verify-hashes" in arguments:
        return AuditSeen("fail", f"{shown} does not check hashes")
    if (named or any(word.startswith(("-e", "--editable")) for word in arguments)) and action != "sync":
        alone = "--no-deps" in arguments and all(word.startswith((".", "/")) for word in named)
        return decided(alone, f"{shown} installs local code only", f"{shown} has no lock")
    return AuditSeen("unknown", f"{shown}: whether the file has hashes is not in the Dockerfile")


def _operands(arguments: Sequence[str]) -> list[str]:
    """The arguments that are neither options nor the values of options."""
    return [two for one, two in pairwise(("", *arguments)) if not two.startswith("-") and not _takes_value(one)]


def _takes_value(option: str) -> bool:
    """Whether an option takes the next argument, also as the last of joined ones: `-qyn env`."""
    *before, last = (f"-{letter}" in pip_value_options() for letter in option.removeprefix("-") or " ")
    return option in pip_value_options() or (option[:1] == "-" != option[1:2] and last and not any(before))


def _conda(arguments: tuple[str, ...], action: str, named: list[str], shown: str) -> Iterator[AuditSeen]:
    if action == "env":
        yield AuditSeen("unknown", f"{shown}: whether the file pins every build is not in the Dockerfile")
    elif action in ("install", "create", "update"):
        if any(word.startswith(("-f", "--file")) for word in arguments):
            yield AuditSeen("unknown", f"{shown}: whether the file is an explicit lock is not in the Dockerfile")
        elif action != "create" or named:
            yield AuditSeen("fail", f"{shown} has no lock")


def cached(run: Run, env: Mapping[str, str]) -> Iterator[AuditSeen]:
    """What each command that fills a cache leaves in the layer."""
    for at, command in enumerate(run.commands):
        program, arguments = program_and_arguments(command)
        if UNKNOWN in program:
            yield AuditSeen("unknown", "the build decides which program the step runs", run.line)
        for row in (one for one in audit_table().filler if program in one.programs and verb(arguments) in one.verbs):
            shown = f"`{program} {verb(arguments)}`"
            if _kept_out(row, command, run, at, env):
                yield AuditSeen("pass", f"{shown} leaves no cache", run.line)
            elif any(mount.get("type") == "cache" and UNKNOWN in mount["target"] for mount in run.mounts):
                yield AuditSeen("unknown", f"{shown}: the build decides which folder is mounted", run.line)
            else:
                yield AuditSeen("fail", f"{shown} leaves its cache in the layer", run.line)


def _kept_out(row: Filler, command: Command, run: Run, at: int, env: Mapping[str, str]) -> bool:
    later = run.commands[at + 1 :]
    exported = {word.partition("=")[0] for one in run.commands[:at] if one.program == "export" for word in one.words}
    mounts = [
        one["target"].rstrip("/")
        for one in run.mounts  # the cache of another user is not in root's folder
        if one.get("type") in ("cache", "tmpfs") and (one["user"] in _ROOT or not one["target"].startswith("/root/"))
    ]
    return (
        bool(set(row.options) & set(command.words))
        or any(name in env or name in command.env or name in exported for name in row.variables)
        or any(mount.endswith(folder) for mount in mounts for folder in row.mounted)
        or any(_cleans(one, row) for one in later)
    )


def _cleans(command: Command, row: Filler) -> bool:
    program, arguments = program_and_arguments(command)
    if program == "rm" or _DELETES_ALL.fullmatch(" ".join(command.words)):
        return any(word.rstrip("*").rstrip("/").endswith(row.removed) for word in arguments)
    return program in row.programs and verb(arguments) in row.cleaned


def unread(run: Run) -> Iterator[AuditSeen]:
    """Programs and scripts that a step runs: what they install and leave behind is not in the Dockerfile."""
    for one in run.commands:
        is_sourced = one.program in (".", "source")
        file = "".join(one.words[is_sourced : is_sourced + 1])
        is_known = f"bin/{file}".rstrip("0123456789.").endswith(audit_table().known)
        if one.program in SHELLS or one.program.endswith(".sh") or ((is_sourced or "/" in file) and not is_known):
            shown = " ".join(one.words[:2]).replace(UNKNOWN, "…")[:100]
            yield AuditSeen("unknown", f"`{shown}` runs a program that the Dockerfile does not show", run.line)
    if not run.known:
        yield AuditSeen("unknown", "a step is not a shell script", run.line)


def logins(run: Run) -> Iterator[AuditSeen]:
    """Credentials that a step writes into its layer, unless a mount or a later command may take them away."""
    removed = [word for one in run.commands if one.program == "rm" for word in one.words if "/." in word]
    if removed or any(mount.get("type") in ("cache", "tmpfs") for mount in run.mounts) or "logout" in run.text:
        return
    for command in run.commands:
        text = " ".join((command.program, *command.words[1:], ""))
        for login in (one for one in audit_table().logins if text.startswith(f"{one} ")):
            yield AuditSeen("fail", f"`{login}` leaves a credential in the layer", run.line)


def compilers(run: Run) -> Iterator[AuditSeen]:
    """Compilers that a step installs and does not remove."""
    table, unknown, hidden = audit_table().compilers, False, False
    installed = set[tuple[str, str]]()  # what removes a package, its own name or that of a virtual one, and its name
    swept = any({"autoremove", "--auto-remove", "--autoremove"} & {*command.words} for command in run.commands)
    for command in run.commands:
        program, arguments = program_and_arguments(command)
        unknown |= UNKNOWN in program
        words = [part for word in arguments for part in re.split("[=:~@]", word)]
        if verb(arguments) in ("install", "add") and program in table.installers:
            of = next((two for one, two in pairwise(words) if program == "apk" and one in ("-t", "--virtual")), "")
            installed |= {(of or name, name) for name in words if _is_compiler(name, table.packages)}
            unknown |= any(UNKNOWN in word and not word.startswith("-") for word in arguments)
            hidden |= program in {"apt", "apt-get"} and not _LEAN.search(" ".join(arguments))
        elif verb(arguments) in ("purge", "remove", "del"):
            removed = {one for one in installed if one[0] in words}
            hidden |= program in {"apt", "apt-get"} and bool(removed) and not swept
            installed -= removed
    if installed:
        yield AuditSeen("fail", f"installs {', '.join(sorted({name for _, name in installed}))}", run.line)
    elif unknown:
        yield AuditSeen("unknown", "may install packages that only the build knows", run.line)
    elif hidden:
        why = "may leave compilers that packages recommend or require: `--no-install-recommends`, `purge --auto-remove`"
        yield AuditSeen("unknown", why, run.line)


def _is_compiler(name: str, known: frozenset[str]) -> bool:
    """`gcc-12` and `clang-16` are versions of packages."""
    return name in known or name.rstrip("0123456789.").removesuffix("-") in known
