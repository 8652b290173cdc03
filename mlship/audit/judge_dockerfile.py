"""Judge a Dockerfile by the rules. What its text does not decide is unknown. Pure."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from posixpath import basename, dirname
from shlex import quote
from typing import TypeAlias

from mlship.audit.installs import cached, compilers, is_inside, is_known_program, locked, logins, may_be_copied, unread
from mlship.audit.rules import (
    AuditReport,
    AuditSeen,
    KnownBase,
    audit_table,
    decided,
    is_credential,
    judge_all,
    known_base,
    may_hold_credentials,
    split_reference,
)
from mlship.audit.starts import judge_start, starts
from mlship.dockerfile.lexer import DockerfileError
from mlship.dockerfile.shell import started_command
from mlship.dockerfile.stages import BuildStage, ParsedDockerfile, parse_dockerfile
from mlship.dockerfile.words import UNKNOWN, shown_image
from mlship.doctor.nvidia_require import is_disabled
from mlship.errors import UsageError
from mlship.known_texts import first_match
from mlship.project.credentials import find_credentials
from mlship.project.paths import PRIVATE

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_Part: TypeAlias = tuple[int, str, frozenset[str], KnownBase | None, tuple[BuildStage, ...]]
_SETUID = 0o4000  # setgid of a folder is no program, and the text does not say what is a folder
DISABLED = "NVIDIA_DISABLE_REQUIRE turns the requirements off"


def audit_dockerfile(text: str, name: str, target: str = "") -> AuditReport:
    """Judge the image of the stage `target` of a Dockerfile, or of its last one.

    Raises:
        UsageError: BuildKit would refuse it.
    """
    try:
        file = parse_dockerfile(text, target)
    except DockerfileError as error:
        if other := first_match(f"{basename(name)}\n{text}", "dockerfile"):
            raise other.as_error(file=name) from error
        check = f"docker build --check -f {quote(name)} {f'--target {quote(target)} ' if target else ''}."
        hint = error.hint or f"run `{check}`, which names the same problem"
        raise UsageError(f"`{name}`, {error}", hint=hint) from error
    last = (_compilers, _healthcheck, _setuid, _driver_library, _requires)
    judgements = judge_all(file, _user, _glibc, _digest, _tag, _secrets, _exec_form, _locked, _cache, *last)
    return AuditReport(name, "Dockerfile", judgements)


def _user(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    last = file.stages[-1]
    bad = AuditSeen("fail", f"no USER: {shown_image(last.root.image)} runs as root")
    yield judge_user(*last.user) if last.user else _by_base(file, lambda _: bad, "sets the user")


def judge_user(user: str, line: int = 0) -> AuditSeen:
    """The user that an image runs as; an empty name is root."""
    name = user.partition(":")[0]
    if UNKNOWN in name:
        return AuditSeen("unknown", "USER is known to the build only", line)
    if name == "root" or not name.strip("0"):
        return AuditSeen("fail", "runs as root", line)
    is_number, bad = name.isascii() and name.isdigit(), f"the user `{name}` is a name, not a number"
    return decided(is_number, f"runs as user {name}", bad, line)


def _unless(has: bool | None, good: str, bad: str, line: int = 0) -> AuditSeen | None:
    return None if has is None else decided(not has, good, bad, line)


def _by_base(file: ParsedDockerfile, judge: Callable[[KnownBase], AuditSeen | None], what: str) -> AuditSeen:
    """Judge by what is published of the base image; otherwise it is unknown."""
    base = file.stages[-1].root
    known = known_base(base.image)
    unknown = AuditSeen("unknown", f"{shown_image(base.image)}: unknown whether it {what}", base.line)
    return (known and judge(known)) or unknown


def _glibc(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    root = file.stages[-1].root
    good, bad = (f"{shown_image(root.image)} has {library}" for library in ("glibc", "musl"))
    yield _by_base(file, lambda base: _unless(base.musl, good, bad, root.line), "has musl")


def _digest(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    for image in file.images:
        if _DIGEST.search(image.image):
            yield AuditSeen("pass", f"{image.image.partition('@')[0]} has a digest", image.line)
        elif UNKNOWN in image.image:
            yield AuditSeen("unknown", f"{shown_image(image.image)}: the build decides which image", image.line)
        else:
            yield AuditSeen("fail", f"{image.image} has no digest", image.line)


def _tag(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    yield from (judge_tag(one.image, one.line) for one in file.images)


def judge_tag(image: str, line: int = 0) -> AuditSeen:
    """The tag of a base image."""
    tag = split_reference(image)[1]
    if UNKNOWN in image:
        return AuditSeen("unknown", f"{shown_image(image)}: the build decides which image", line)
    words = set(re.split("[-_.]", tag))
    if "@" in image:
        return AuditSeen("pass", f"{image} has a digest", line)
    if "latest" in words or not tag:
        return AuditSeen("fail", f"{image} is whatever is `latest`", line)
    known = any(letter.isdigit() for letter in tag) or words & audit_table().releases
    return decided(bool(known), f"{image} names a version", f"{image} names no version", line)


def _secrets(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    for one in file.settings:
        if one.kind != "LABEL" and is_credential(one.name, one.value):
            yield AuditSeen("fail", f"{one.kind} {one.name} is for a credential", one.line)
        yield from credentials_in(f"{one.name}={one.value or ''}", f"{one.kind} {one.name}", one.line)
    for step in (step for step in file.instructions if step.name not in ("ARG", "ENV", "LABEL")):
        yield from credentials_in("\n".join((step.text, *step.heredocs)), step.name, step.line)
    yield from (seen for stage in file.shipped for run in stage.runs for seen in logins(run))
    for path in (path for path, *_ in file.stages[-1].copied if may_hold_credentials(basename(path), PRIVATE)):
        yield AuditSeen("unknown", f"whether there are credentials in {path}")
    yield AuditSeen("pass", "no credentials in its instructions")


def credentials_in(text: str, where: str, line: int) -> Iterator[AuditSeen]:
    """The credentials in a text, by their published formats."""
    for found in find_credentials(text.encode(errors="replace")):
        yield AuditSeen("fail", f"{where} has {found.what}", line)


def _exec_form(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    last = file.stages[-1]
    entrypoint, cmd = (one and replace(one, exec_form=last.argv(one)) for one in (last.entrypoint, last.cmd))
    steps = "\n".join(run.text for stage in file.shipped for run in stage.runs)
    for name, start in starts(entrypoint, cmd):
        if start.text.strip() not in ("", "[]"):
            program = "".join(started_command(start.exec_form or ())[:1])
            path = program if "/" in program else f"bin/{program}"
            is_strange = not dirname(path).endswith("bin") and not any(stage.parts for stage in file.shipped)
            is_made = is_strange or re.search(rf"(?<![\w.-]){re.escape(path)}(?![\w./-])", steps)
            may_be_script = (is_made and not is_known_program(program)) or may_be_copied(program, last.files)
            yield judge_start(start, name, "" if may_be_script else None)
    if last.entrypoint is None and not known_base(last.root.image):
        yield _by_base(file, lambda _: None, "has an ENTRYPOINT")


def _locked(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    for run in (run for stage in file.stages for run in stage.runs):
        yield from (replace(seen, line=run.line) for command in run.commands for seen in locked(command))
        yield from unread(run)
    for line, copies, paths, base, stages in _parts(file):
        steps = (one for stage in stages for run in stage.runs for one in run.commands)
        are_packages = any(re.fullmatch(audit_table().package_folders, path) for path in paths)
        if not base and are_packages and not any(map(tuple, map(locked, steps))):
            yield AuditSeen("unknown", f"{copies}, where packages without a lock may be", line)
    if not known_base(file.stages[-1].root.image):
        yield _by_base(file, lambda _: None, "has packages without a lock, or ONBUILD steps that install some")


def _parts(file: ParsedDockerfile) -> Iterator[_Part]:
    """What COPY takes of other stages and images: line, text, paths, the base image if it is known, and the stages."""
    for source, rows in (row for stage in file.shipped for row in stage.parts.items()):
        base, paths = known_base(source.root.image) if source else None, frozenset(path for _, path in rows)
        yield rows[0][0], f"copies {', '.join(sorted(paths))[:100]}", paths, base, file.chain(source)


def _cache(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    for stage in file.shipped:
        known = known_base(stage.root.image) is not None
        yield from (seen for run in stage.runs for seen in (*cached(run, known=known), *unread(run)))
    for line, copies, paths, base, stages in _parts(file):
        runs = [run for stage in stages if stage not in file.shipped for run in stage.runs]
        for seen in (seen for run in runs for seen in cached(run, known=base is not None, inside=paths)):
            if seen.verdict != "pass":
                yield replace(seen, text=f"{copies}: {seen.text}", line=line)
        has_folder = any(is_inside(folder, paths) for row in audit_table().filler for folder in row.folders)
        if has_folder and (not base or any(tuple(unread(run)) for run in runs)):
            yield AuditSeen("unknown", f"{copies}, where caches may be", line)
    yield _by_base(file, lambda _: AuditSeen("pass", "no step of the shipped stages leaves a cache"), "has caches")


def _compilers(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    for run in (run for stage in file.shipped for run in stage.runs):
        yield from (*compilers(run), *unread(run))
    for line, copies, paths, base, stages in _parts(file):
        runs = (run for stage in stages for run in stage.runs)
        is_free = base and base.compilers is False and not any((*compilers(run), *unread(run)) for run in runs)
        named = any((found := re.match(audit_table().kinds, path)) and found["compiler"] for path in paths)
        if not is_free and (named or any(re.fullmatch(audit_table().compiler_folders, path) for path in paths)):
            yield AuditSeen("unknown", f"{copies}, where compilers may be", line)
    good, bad = (f"{shown_image(file.stages[-1].root.image)} has {what}" for what in ("no compilers", "compilers"))
    yield _by_base(file, lambda base: _unless(base.compilers, good, bad), "has compilers")


def _healthcheck(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    if check := file.stages[-1].healthcheck:
        yield decided(check.text.strip().upper() != "NONE", "HEALTHCHECK", "HEALTHCHECK NONE", check.line)
    else:
        yield _by_base(file, lambda _base: AuditSeen("fail", "no HEALTHCHECK"), "has a health check")


def _setuid(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    steps = ((run.line, one) for stage in file.shipped for run in stage.runs for one in run.commands)
    for line, one in steps:
        if one.program == "chmod" and any(map(_is_setuid, one.words[1:])):
            yield AuditSeen("fail", f"`{' '.join(one.words)[:60]}` sets the bits", line)
    yield AuditSeen("unknown", "the modes of files are in the image only: audit the image")


def _is_setuid(mode: str) -> bool:
    if mode.isdigit():
        return bool(len(mode) < 6 and set(mode) <= set("01234567") and int(mode, 8) & _SETUID)
    changes = (part.partition("+") for part in mode.split(","))
    return any(plus and set(who) <= set("ugoa") and who != "g" and "s" in bits for who, plus, bits in changes)


def _driver_library(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    yield from judge_library_path(file.stages[-1].env.get("LD_LIBRARY_PATH", ""))
    yield AuditSeen("unknown", "the libraries that steps copy and install are in the image only: audit the image")


def judge_library_path(path: str) -> Iterator[AuditSeen]:
    """Folders of LD_LIBRARY_PATH that have a libcuda which is not the driver's."""
    for folder in path.split(":"):
        if folder.rstrip("/").rpartition("/")[2] in ("stubs", "compat"):
            yield AuditSeen("fail", f"LD_LIBRARY_PATH has {shown_image(folder)}")


def _requires(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    last = file.stages[-1]
    if is_disabled(last.env):
        yield AuditSeen("fail", DISABLED)
    known = known_base(last.root.image)
    values = [value.strip() for name, value in last.env.items() if name.startswith("NVIDIA_REQUIRE_")]
    if UNKNOWN in values or UNKNOWN in last.env.get("NVIDIA_DISABLE_REQUIRE", ""):
        yield AuditSeen("unknown", "NVIDIA_REQUIRE_* or NVIDIA_DISABLE_REQUIRE is known to the build only")
    elif any(values):
        yield _by_base(file, lambda _: AuditSeen("pass", "NVIDIA_REQUIRE_* is set"), "sets NVIDIA_DISABLE_REQUIRE")
    elif values:
        yield AuditSeen("fail", "NVIDIA_REQUIRE_* is empty, which requires nothing")
    elif known and known.cuda:
        yield AuditSeen("pass", f"{shown_image(last.root.image)} sets NVIDIA_REQUIRE_CUDA", last.root.line)
    else:
        yield AuditSeen("unknown", "whether the image has CUDA is not in the Dockerfile")
