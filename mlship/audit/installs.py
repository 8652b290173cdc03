"""Judge the commands that install packages: locked or not, and what they leave behind. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from mlship.audit.rules import AuditSeen, Filler, audit_table, decided, verb
from mlship.dockerfile.shell import Command, pip_value_options, program_and_arguments
from mlship.dockerfile.stages import Run
from mlship.dockerfile.words import UNKNOWN

_CONDAS = {"conda", "mamba", "micromamba"}


def locked(command: Command) -> Iterator[AuditSeen]:
    """Whether an install takes every version from a lock; nothing for other commands."""
    program, arguments = program_and_arguments(command)
    shown = f"`{' '.join((program, *arguments)).replace(UNKNOWN, '…')[:100]}`"
    action = verb(arguments)
    if UNKNOWN in program:
        yield AuditSeen("unknown", f"{shown}: the build decides which program")
    if program == "uv" and action == "pip":
        program, arguments = "pip", arguments[arguments.index("pip") + 1 :]
        action = verb(arguments)
    if program in ("pip", "pipx") and action in ("install", "sync", "wheel", "download"):
        yield _pip(arguments, action, shown)
    elif program in _CONDAS:
        yield from _conda(arguments, action, shown)
    for row in audit_table().locker:
        if program == row.program and action in row.verbs:
            is_locked = row.always or bool(row.options & set(arguments))
            text = "installs its lock" if is_locked else "uses a lock only if there is one"
            yield AuditSeen("pass" if is_locked else "unknown", f"{shown} {text}")


def _pip(arguments: tuple[str, ...], action: str, shown: str) -> AuditSeen:
    if "--require-hashes" in arguments:
        return AuditSeen("pass", f"{shown} requires hashes")
    rest, wanted = list(arguments[arguments.index(action) + 1 :]), False
    named = [word for word in rest if not word.startswith("-")]
    while rest:
        word = rest.pop(0)
        if word in pip_value_options():
            rest = rest[1:]
        elif word.startswith(("-e", "--editable")) or not word.startswith("-"):
            wanted = True
    if wanted and action != "sync":
        alone = "--no-deps" in arguments and all(word.startswith((".", "/")) for word in named)
        return decided(alone, f"{shown} installs local code only", f"{shown} has no lock")
    return AuditSeen("unknown", f"{shown}: whether the file has hashes is not in the Dockerfile")


def _conda(arguments: tuple[str, ...], action: str, shown: str) -> Iterator[AuditSeen]:
    if action == "env":
        yield AuditSeen("unknown", f"{shown}: whether the file pins every build is not in the Dockerfile")
    elif action in ("install", "create", "update"):
        if any(word.startswith(("-f", "--file")) for word in arguments):
            yield AuditSeen("unknown", f"{shown}: whether the file is an explicit lock is not in the Dockerfile")
        elif action != "create" or any("=" in word for word in arguments if not word.startswith("-")):
            yield AuditSeen("fail", f"{shown} has no lock")


def cached(run: Run, env: Mapping[str, str]) -> Iterator[AuditSeen]:
    """What each command that fills a cache leaves in the layer."""
    for at, command in enumerate(run.commands):
        program, arguments = program_and_arguments(command)
        if UNKNOWN in program:
            yield AuditSeen("unknown", "the build decides which program the step runs", run.line)
        for row in audit_table().filler:
            if program not in row.programs or verb(arguments) not in row.verbs:
                continue
            shown = f"`{program} {verb(arguments)}`"
            if _kept_out(row, command, run, at, env):
                yield AuditSeen("pass", f"{shown} leaves no cache", run.line)
            elif any(mount.get("type") == "cache" and UNKNOWN in mount["target"] for mount in run.mounts):
                yield AuditSeen("unknown", f"{shown}: the build decides which folder is mounted", run.line)
            else:
                yield AuditSeen("fail", f"{shown} leaves its cache in the layer", run.line)


def _kept_out(row: Filler, command: Command, run: Run, at: int, env: Mapping[str, str]) -> bool:
    later = run.commands[at + 1 :]
    mounts = [mount["target"].rstrip("/") for mount in run.mounts if mount.get("type") in ("cache", "tmpfs")]
    return (
        bool(set(row.options) & set(command.words))
        or any(name in env or name in command.env for name in row.variables)
        or any(mount.endswith(folder) for mount in mounts for folder in row.mounted)
        or any(one.program == "rm" and _removes(one.words[1:], row.removed) for one in later)
        or any(_cleans(row, one) for one in later)
    )


def _cleans(row: Filler, command: Command) -> bool:
    program, arguments = program_and_arguments(command)
    return bool(row.cleaned) and program in row.programs and verb(arguments) == row.cleaned


def _removes(words: Sequence[str], folders: Sequence[str]) -> bool:
    plain = [word.rstrip("*").rstrip("/") for word in words]
    return any(word.endswith(folder) for word in plain for folder in folders)


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
    table, installed, unknown, hidden = audit_table().compilers, set[str](), False, False
    swept = any({"autoremove", "--auto-remove", "--autoremove"} & {*command.words} for command in run.commands)
    for command in run.commands:
        program, arguments = program_and_arguments(command)
        names = {word.partition("=")[0].partition(":")[0] for word in arguments}
        if verb(arguments) in ("install", "add") and program in table.installers:
            installed |= {name for name in names if _is_compiler(name, table.packages)}
            unknown = unknown or any(UNKNOWN in word and not word.startswith("-") for word in arguments)
            hidden = hidden or (program in {"apt", "apt-get"} and not _without_recommended(arguments))
        elif verb(arguments) in ("purge", "remove", "del"):
            hidden = hidden or bool(program in {"apt", "apt-get"} and installed & names and not swept)
            installed -= names
    if installed:
        yield AuditSeen("fail", f"installs {', '.join(sorted(installed))}", run.line)
    elif unknown:
        yield AuditSeen("unknown", "installs packages that only the build knows", run.line)
    elif hidden:
        why = "may leave compilers that packages recommend or require: `--no-install-recommends`, `purge --auto-remove`"
        yield AuditSeen("unknown", why, run.line)


def _without_recommended(arguments: Sequence[str]) -> bool:
    return any("--no-install-recommends" in word or "apt::install-recommends=" in word.lower() for word in arguments)


def _is_compiler(name: str, known: frozenset[str]) -> bool:
    """`gcc-12` and `clang-16` are versions of packages."""
    return name in known or name.rstrip("0123456789.").removesuffix("-") in known
