"""Judge a Dockerfile by the rules. What its text does not decide is unknown. Pure."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from posixpath import basename, dirname, join, normpath
from shlex import quote

from mlship.audit.installs import cached, compilers, locked, logins, unread
from mlship.audit.rules import (
    AuditReport,
    AuditSeen,
    KnownBase,
    audit_table,
    by_rule,
    decided,
    is_credential,
    judgement,
    known_base,
    split_reference,
)
from mlship.audit.starts import judge_start, starts
from mlship.dockerfile.lexer import DockerfileError
from mlship.dockerfile.shell import started_command
from mlship.dockerfile.stages import BuildStage, ParsedDockerfile, Start, parse_dockerfile
from mlship.dockerfile.words import UNKNOWN
from mlship.doctor.nvidia_require import is_disabled
from mlship.errors import UsageError
from mlship.project.credentials import find_credentials

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_SETUID_BITS = 0o6000
DISABLED = "NVIDIA_DISABLE_REQUIRE turns the requirements off"


def audit_dockerfile(text: str, name: str, target: str = "") -> AuditReport:
    """Judge the image of the stage `target` of a Dockerfile, or of its last one.

    Raises:
        UsageError: BuildKit would refuse it.
    """
    try:
        file = parse_dockerfile(text, target)
    except DockerfileError as error:
        check = f"docker build --check -f {quote(name)} {f'--target {quote(target)} ' if target else ''}."
        raise UsageError(f"`{name}`, {error}", hint=f"run `{check}`, which names the same problem") from error
    return AuditReport(name, "Dockerfile", tuple(judgement(row, _RULES[row.id](file)) for row in audit_table().rule))


def shown_image(image: str) -> str:
    """An image's name, with what only the build knows as an ellipsis."""
    return image.replace(UNKNOWN, "…") if image.strip(UNKNOWN) else "the base image"


def _user(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    last = file.stages[-1]
    if last.user is not None:
        yield judge_user(*last.user)
    else:
        yield _by_base(file, lambda _: AuditSeen("fail", f"no USER: {last.root.image} runs as root"), "sets the user")


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
    good, bad = f"{root.image} has glibc", f"{root.image} has musl"
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
    words = set(tag.split("-"))
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
    yield AuditSeen("pass", "no credentials in its instructions")


def credentials_in(text: str, where: str, line: int) -> Iterator[AuditSeen]:
    """The credentials in a text, by their published formats."""
    for found in find_credentials(text.encode(errors="replace")):
        yield AuditSeen("fail", f"{where} has {found.what}", line)


def _exec_form(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    last = file.stages[-1]
    entrypoint, cmd = (one and replace(one, exec_form=last.argv(one)) for one in (last.entrypoint, last.cmd))
    for name, start in starts(entrypoint, cmd):
        if start.text.strip() not in ("", "[]"):
            yield judge_start(start, name, "" if _is_copied(last, start) else None)
    if last.entrypoint is None and not known_base(last.root.image):
        base = shown_image(last.root.image)
        yield AuditSeen("unknown", f"{base}: unknown whether it has an ENTRYPOINT", last.root.line)


def _is_copied(stage: BuildStage, start: Start) -> bool:
    """Whether a file of the build context is started, which may be a script."""
    program = "".join(started_command(start.exec_form or ())[:1])
    path = normpath(join(stage.workdir, program))
    if "/" not in program:
        return any(dirname(one).endswith("bin") and fnmatchcase(program, basename(one)) for one, *_ in stage.copied)
    least = path.rpartition("venv/bin/")[0].count("/")  # in a copied folder, a virtual environment comes from a step
    folders = (one.rstrip("/") for one, *_ in stage.copied)
    return any(one.count("/") >= least and fnmatchcase(f"{path}/", f"{one}/*") for one in folders)


def _locked(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    for run in (run for stage in file.stages for run in stage.runs):
        yield from (replace(seen, line=run.line) for command in run.commands for seen in locked(command))
        yield from unread(run)


def _cache(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    for stage in file.shipped:
        for run in stage.runs:
            yield from cached(run, stage.env | {name: "" for name, value in stage.args.items() if value})
            yield from unread(run)
    first = file.shipped[0]
    pattern = first.root.image.lower().replace(UNKNOWN, "*")
    if "*" in pattern and any(fnmatchcase(stage.name, pattern) for stage in file.stages[: file.stages.index(first)]):
        yield AuditSeen("unknown", f"{shown_image(first.root.image)}: the build decides which stage", first.root.line)
    yield AuditSeen("pass", "no step of the shipped stages leaves a cache")


def _compilers(file: ParsedDockerfile) -> Iterator[AuditSeen]:
    yield from (seen for stage in file.shipped for run in stage.runs for seen in (*compilers(run), *unread(run)))
    image = file.stages[-1].root.image
    good, bad = f"{image} has no compilers", f"{image} has compilers"
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
        return bool(len(mode) < 6 and set(mode) <= set("01234567") and int(mode, 8) & _SETUID_BITS)
    changes = (part.partition("+") for part in mode.split(","))
    return any(plus and set(who) <= set("ugoa") and "s" in bits for who, plus, bits in changes)


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
    if any(name.startswith("NVIDIA_REQUIRE_") for name in last.env):
        yield AuditSeen("pass", "NVIDIA_REQUIRE_* is set")
    elif (known := known_base(last.root.image)) and known.cuda:
        yield AuditSeen("pass", f"{shown_image(last.root.image)} sets NVIDIA_REQUIRE_CUDA", last.root.line)
    else:
        yield AuditSeen("unknown", "whether the image has CUDA is not in the Dockerfile")


_RULES = by_rule(
    *(_user, _glibc, _digest, _tag, _secrets, _exec_form, _locked, _cache, _compilers, _healthcheck, _setuid),
    *(_driver_library, _requires),
)
