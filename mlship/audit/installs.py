"""Judge the commands that install packages: locked or not, and what they leave behind. Pure."""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import PurePosixPath
from posixpath import dirname, join, normpath

from mlship.audit.rules import AuditSeen, Filler, audit_table, decided
from mlship.dockerfile.shell import SHELLS, Command, command_table, installer_and_arguments, program_and_arguments, verb
from mlship.dockerfile.stages import CopiedFiles, Run
from mlship.dockerfile.words import UNKNOWN

_CONDAS = {"conda", "mamba", "micromamba"}
_DELETES_ALL = re.compile(r"(?:\S*/)?find(?: [^-(!\s]\S*)+(?: -depth| -xdev| -mindepth 1| -type f)* -delete")
_LEAN = re.compile("(?i)no-install-recommends|apt::install-recommends=")
_INSTALLS = {"install", "inject", "add", "in", "create", "group", "groups", "groupinstall", "build-dep", "builddep"}
_REMOVALS = {"purge", "remove", "del", "uninstall"}
_READS_STDIN = re.compile(r"(?:\S*/)?(?:pypy|python)[\d.]*(?: -u)?(?: -(?: .*)?)?", re.DOTALL)
_MOST_COPIED = 1000  # paths; with more of them, any program may be one
_ROOT = {"", "0", "root", UNKNOWN}
_LOCKS = {"pass": "installs its lock", "fail": "has no lock", "unknown": "uses a lock only if there is one"}


def locked(command: Command) -> Iterator[AuditSeen]:
    """Whether an install takes every version from a lock; nothing for other commands."""
    program, arguments = program_and_arguments(command)
    shown = f"`{' '.join((program, *arguments)).replace(UNKNOWN, '…')[:100]}`"
    program, arguments = installer_and_arguments(command)
    action = verb(arguments)
    named = _operands(arguments[arguments.index(action) + 1 :] if action else ())
    actions, options = {action, " ".join((action, *named[:1]))}, {word.partition("=")[0] for word in arguments}
    if program in ("pip", "pipx") and action in ("install", "sync", "wheel", "download", "run", "inject"):
        yield _pip(arguments, action, named, shown)
    elif program in _CONDAS:
        yield from _conda(arguments, action, named, shown)
    for row in audit_table().locker:
        is_of_row = program == row.program and (not row.verbs or actions & row.verbs)
        if is_of_row and not row.without & options and (not row.needs or row.needs & options):
            verdict = "pass" if row.options & options else row.verdict
            yield AuditSeen(verdict, f"{shown} {_LOCKS[verdict]}")


def _pip(arguments: tuple[str, ...], action: str, named: list[str], shown: str) -> AuditSeen:
    if "--require-hashes" in arguments:
        return AuditSeen("pass", f"{shown} requires hashes")
    if "--no-verify-hashes" in arguments:
        return AuditSeen("fail", f"{shown} does not check hashes")
    has_file = any(word.startswith(("-c", "--constraint")) for word in arguments) or action == "sync"
    named = [word for word in named if word.strip(UNKNOWN)]  # a variable may hold options
    named += [found[1] for word in arguments if (found := re.fullmatch("(?:-e|--editable=)(.+)", word))]
    alone = "--no-deps" in arguments and all(word.startswith((".", "/")) for word in named)
    if named and not has_file and not (alone and any(word.startswith(("-r", "--requirement")) for word in arguments)):
        return decided(alone, f"{shown} installs local code only", f"{shown} has no lock")
    return AuditSeen("unknown", f"{shown}: whether each package has a hash is not in the Dockerfile")


def _operands(arguments: Sequence[str]) -> list[str]:
    """The arguments that are neither options nor the values of options."""
    return [two for one, two in pairwise(("", *arguments)) if not two.startswith("-") and not _takes_value(one)]


def _takes_value(option: str) -> bool:
    """Whether an option takes the next argument, also as the last of joined ones: `-qyn env`."""
    *before, last = (f"-{letter}" in command_table().pip_options for letter in option.removeprefix("-") or " ")
    return option in command_table().pip_options or (option[:1] == "-" != option[1:2] and last and not any(before))


def _conda(arguments: tuple[str, ...], action: str, named: list[str], shown: str) -> Iterator[AuditSeen]:
    if action == "env":
        yield AuditSeen("unknown", f"{shown}: whether the file pins every build is not in the Dockerfile")
    elif action in ("install", "create", "update", "upgrade"):
        if any(word.startswith(("-f", "--file")) for word in arguments):
            yield AuditSeen("unknown", f"{shown}: whether the file is an explicit lock is not in the Dockerfile")
        elif action != "create" or named:
            yield AuditSeen("fail", f"{shown} has no lock")


def cached(run: Run, *, known: bool, inside: frozenset[str] = frozenset("/")) -> Iterator[AuditSeen]:
    """What commands leave in caches in the folders `inside`; `known`: what the base image sets is published."""
    for at, command in enumerate(run.commands):
        program, arguments = program_and_arguments(command)
        action = verb(arguments).partition(":")[0]  # as in `ppa:deadsnakes/ppa`
        rows = [row for row in audit_table().filler if program in row.programs and action in row.verbs]
        for row in (row for row in rows if any(is_inside(folder, inside) for folder in row.folders)):
            shown = f"`{program} {verb(arguments)}`"
            if _kept_out(row, command, run, at):
                yield AuditSeen("pass", f"{shown} leaves no cache", run.line)
            elif any(mount.get("type") == "cache" and UNKNOWN in mount["target"] for mount in run.mounts):
                yield AuditSeen("unknown", f"{shown}: the build decides which folder is mounted", run.line)
            elif row.variables and not known:
                yield AuditSeen("unknown", f"{shown}: the base image may set {row.variables[0]}", run.line)
            else:
                yield AuditSeen("fail", f"{shown} leaves its cache in the layer", run.line)


def is_inside(folder: str, copied: frozenset[str]) -> bool:
    """Whether a folder, or one of root's home, is in what COPY names."""
    path = PurePosixPath(f"/root{folder}" if folder.startswith("/.") else folder)
    return bool({str(path), *map(str, path.parents)} & copied)


def _kept_out(row: Filler, command: Command, run: Run, at: int) -> bool:
    exports = (word.partition("=") for one in run.commands[:at] if one.program == "export" for word in one.words)
    env = {**run.env, **{name: value for name, _, value in exports}, **command.env}
    options = dict((*pairwise(command.words), *(word.rpartition("=")[::2] for word in command.words)))
    moved = [options.get(name) or env.get(name) for name in row.moved_by]
    folders = [one.rstrip("/") for one in moved if one][:1] or row.folders
    mounts = [
        one["target"].rstrip("/")
        for one in run.mounts  # the cache of another user is not in root's folder
        if one.get("type") in ("cache", "tmpfs") and (one["user"] in _ROOT or not one["target"].startswith("/root/"))
    ]
    return (
        bool(set(row.options) & set(command.words))
        or any(env.get(name) for name in row.variables)
        or any(mount.endswith(folder) for mount in mounts for folder in folders if UNKNOWN not in folder)
        or any(_cleans(one, row, folders) for one in run.commands[at + 1 :])
    )


def _cleans(command: Command, row: Filler, folders: Sequence[str]) -> bool:
    program, arguments = program_and_arguments(command)
    text = " ".join(arguments)
    if program == "rm" or _DELETES_ALL.fullmatch(f"{program} {text}"):
        return any(word.rstrip("*").rstrip("/").endswith(folder) for word in arguments for folder in folders)
    return program in row.programs and bool(row.cleaned and re.search(rf"(?:^|\s)(?:{row.cleaned})(?:\s|$)", text))


def unread(run: Run) -> Iterator[AuditSeen]:
    """Programs and scripts that a step runs: what they install and leave behind is not in the Dockerfile."""
    for one in run.commands:
        is_sourced = one.program in (".", "source")
        file = "".join(one.words[is_sourced : is_sourced + 1])
        is_shown = is_known_program(file) if is_sourced or "/" in file else not one.program.endswith(".sh")
        is_shown &= not {one.program} & (SHELLS | audit_table().recipes) and UNKNOWN not in one.program
        is_shown &= "<<" in run.text or not _READS_STDIN.fullmatch(" ".join(one.words))
        if not is_shown or len(run.files.places) > _MOST_COPIED or may_be_copied(file, run.files):
            shown = " ".join(one.words[:2]).replace(UNKNOWN, "…")[:100]
            yield AuditSeen("unknown", f"`{shown}` runs a program that the Dockerfile does not show", run.line)
    if not run.known:
        yield AuditSeen("unknown", "a step is not a shell script", run.line)


def is_known_program(program: str) -> bool:
    """Whether a path or a name is that of a program, or of a file for `.`, of which the table says what it does."""
    return f"bin/{program}".rstrip("0123456789.").endswith(audit_table().known)


def may_be_copied(program: str, files: CopiedFiles) -> bool:
    """Whether a program may be a file of the build context, which may be a script."""
    copied = [place.rstrip("/") for place, *_ in files.places]
    if "/" not in program:
        in_folder = not is_known_program(program) and any(one.endswith(("/bin", "/sbin")) for one in copied)
        return in_folder or any(_is_at(join(dirname(one), program), one) for one in copied if "bin/" in one)
    path = normpath(join(files.workdir, program))
    least = path.rpartition("venv/bin/")[0].count("/")  # in a copied folder, a virtual environment comes from a step
    return any(one.count("/") >= least and _is_at(path, one) for one in copied)


def _is_at(path: str, copied: str) -> bool:
    is_pattern = "*" in copied or "?" in copied or "[" in copied
    return f"{path}/".startswith(f"{copied}/") or (is_pattern and fnmatchcase(f"{path}/", f"{copied}/*"))


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
    table, unknown, hidden = audit_table(), False, False
    installed = set[tuple[str, str]]()  # what removes a package, its own name or that of a virtual one, and its name
    swept = any({"autoremove", "--auto-remove", "--autoremove"} & {*command.words} for command in run.commands)
    for command in run.commands:
        program, arguments = installer_and_arguments(command)
        names = [_package(word) for word in _operands(arguments)]
        changes = program in table.installers and verb(arguments) in _INSTALLS | _REMOVALS
        is_file = any(word.startswith(("-f", "--file")) for word in arguments) or verb(arguments) == "env"
        unknown |= (changes and any(UNKNOWN in name for name in names)) or (program in _CONDAS and is_file)
        if changes and verb(arguments) in _INSTALLS:
            words = [part for word in arguments for part in word.split("=")]
            of = next((two for one, two in pairwise(words) if program == "apk" and one in ("-t", "--virtual")), "")
            installed |= {(of or name, name) for name in names if name.rstrip("-_.0123456789") in table.compilers}
            hidden |= program in {"apt", "apt-get"} and not _LEAN.search(" ".join(arguments))
        elif changes:
            removed = {one for one in installed if one[0] in names}
            hidden |= program in {"apt", "apt-get"} and bool(removed) and not swept
            installed -= removed
    if installed:
        yield AuditSeen("fail", f"installs {', '.join(sorted({name for _, name in installed}))}", run.line)
    elif unknown:
        yield AuditSeen("unknown", "may install packages that only the build knows", run.line)
    elif hidden:
        why = "may leave compilers that packages recommend or require: `--no-install-recommends`, `purge --auto-remove`"
        yield AuditSeen("unknown", why, run.line)


def _package(word: str) -> str:
    """The name in `conda-forge::gcc=12`, `gcc:amd64`, `cmake>=3`, `@development` and `gcc-toolset-13-gcc`."""
    name = re.split("[=~@<>![:]", word.rpartition("::")[2].lstrip("@"))[0].lower()
    return re.sub(r"^(?:gcc-|dev)toolset-\d+-(?=.)", "", name)
