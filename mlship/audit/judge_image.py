"""Judge an image by the rules: its configuration, its history and the names and modes of its files."""

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from mlship.audit.image import LOADER, AuditedImage, read_audited
from mlship.audit.installs import locked
from mlship.audit.judge_dockerfile import DISABLED, credentials_in, judge_library_path, judge_tag, judge_user
from mlship.audit.rules import AuditReport, AuditSeen, decided, is_credential, judge_all
from mlship.audit.starts import judge_start, starts
from mlship.build.installed import local_image, read_image
from mlship.dockerfile.shell import SHELLS, commands, started_command
from mlship.dockerfile.stages import Start
from mlship.doctor.nvidia_require import is_disabled, requirements
from mlship.image.labels import OCI, OWN
from mlship.size.layout import read_saved
from mlship.units import first_rows, size

_BASE = f"{OCI}.base"
_BUNDLED = ("pip", "setuptools", "wheel")  # by Python (https://docs.python.org/3.11/library/ensurepip.html)
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # of the container runtime
_DEFAULT_FOLDERS = ("lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib", "usr/local/lib64")


def audit_image(image: str, watch: Callable[[str], None]) -> AuditReport:
    """Judge an image: of the engine, or else of its registry. Nothing is pulled, and nothing runs.

    Args:
        watch: called with what takes long.

    Raises:
        UsageError: there is no image of that name.
        TransientError: the registry does not answer.
        EngineError: a layer cannot be read.
    """
    local = local_image(image)
    watch(f"reading the layers of {image}{f' ({size(local[1].size)})' if local else ', from its registry'}")
    return judge_image(AuditedImage(*read_image(image, local, read_audited)), image)


def audit_archive(chunks: Iterable[bytes], name: str) -> AuditReport:
    """Judge what `docker save` wrote, or an OCI archive.

    Raises:
        EngineError: it is not a complete image.
    """
    hint = "save it again: `docker save --output image.tar IMAGE`; if that fails, pull or build the image again"
    saved = read_saved(chunks, name, read_audited, hint=hint)
    return judge_image(AuditedImage(saved.config, [layer.content for layer in saved.layers]), name)


def judge_image(found: AuditedImage, name: str) -> AuditReport:
    """Judge what was read of an image."""
    last = (_compilers, _healthcheck, _setuid, _driver_library, _requires)
    judgements = judge_all(found, _user, _glibc, _digest, _tag, _secrets, _exec_form, _locked, _cache, *last)
    return AuditReport(name, "image", judgements)


def _user(found: AuditedImage) -> Iterator[AuditSeen]:
    yield judge_user(found.config.running.user or "")


def _glibc(found: AuditedImage) -> Iterator[AuditSeen]:
    musl, glibc = found.of("musl"), found.of("glibc")
    if found.of("musl_python") or (musl and not glibc):
        yield AuditSeen("fail", f"has musl: {_few(found.of('musl_python') or musl)}")
    elif musl and not found.of("glibc_python"):
        yield AuditSeen("unknown", f"has glibc and musl: {_few(glibc | musl)}")
    elif glibc:
        yield AuditSeen("pass", "has glibc")


def _digest(found: AuditedImage) -> Iterator[AuditSeen]:
    digest = found.config.labels.get(f"{_BASE}.digest", "")
    if re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        yield AuditSeen("pass", f"the label {_BASE}.digest is {digest}")
    else:
        yield AuditSeen("unknown", f"no label {_BASE}.digest names the base image: audit the Dockerfile")


def _tag(found: AuditedImage) -> Iterator[AuditSeen]:
    if name := found.config.labels.get(f"{_BASE}.name"):
        yield judge_tag(name)
    else:
        yield AuditSeen("unknown", f"no label {_BASE}.name names the base image: audit the Dockerfile")


def _secrets(found: AuditedImage) -> Iterator[AuditSeen]:
    pairs = [*found.config.running.variables.items(), *(pair for step in found.steps for pair in step.variables)]
    for name, value in dict.fromkeys(pairs):
        if is_credential(name, value):
            yield AuditSeen("fail", f"the variable {name} is for a credential")
        yield from credentials_in(f"{name}={value}", f"the variable {name}", 0)
    for name, value in found.config.labels.items():
        yield from credentials_in(f"{name}={value}", f"LABEL {name}", 0)
    for number, step in enumerate(found.steps, 1):
        yield from credentials_in(step.text, f"step {number} of the history", 0)
    for path, what in sorted({path: file.credential for path, file in found.every if file.credential}.items()):
        yield AuditSeen("fail", f"/{path} has {what}, in a layer")
    if private := {path for path, file in found.every if file.private}:
        yield AuditSeen("unknown", f"whether there are credentials in {_few(private)}")
    cut = {path for path, file in found.every if file.cut}
    read = f"; only the first 4 MiB were read of {_few(cut)}" if cut else ""
    yield AuditSeen("pass", f"no credentials in the environment, the labels, the history and its own files{read}")


def _exec_form(found: AuditedImage) -> Iterator[AuditSeen]:
    config = found.config.running
    entrypoint, cmd = (Start(0, "", tuple(one)) if one else None for one in (config.entrypoint, config.cmd))
    for name, start in starts(entrypoint, cmd):
        yield judge_start(start, name, _script_of(found, start.exec_form or ()))


def _script_of(found: AuditedImage, words: Sequence[str]) -> str | None:
    """The text of the shell script that a command starts; None if it starts none."""
    names = [word for word in started_command(words) if not word.startswith("-")]
    if len(names) > 1 and posixpath.basename(names[0]) in SHELLS:
        names = names[1:]
    searched = found.config.running.variables.get("PATH", _DEFAULT_PATH).split(":")
    folders = [""] if "/" in "".join(names[:1]) else searched
    paths = [_merged(posixpath.join(folder, name)) for name in names[:1] for folder in folders]
    scripts = {_merged(path): file.text for path, (_, file) in found.seen.items() if file.text is not None}
    relative = [path for path in scripts if names and names[0].startswith("./") and path.endswith(f"/{names[0][2:]}")]
    return next((scripts[path] for path in (*paths, *relative) if path in scripts), None)


def _merged(path: str) -> str:
    """A path without the root and without `usr`, which are the same folders on systems of today."""
    return posixpath.normpath(path).strip("/").removeprefix("usr/")


def _locked(found: AuditedImage) -> Iterator[AuditSeen]:
    lock = found.config.labels.get(f"{OWN}.lock")
    if lock:
        yield AuditSeen("pass", f"the label {OWN}.lock names the lock: {lock}")
    judged = {step: tuple(seen for one in commands(step.script) for seen in locked(one)) for step in found.steps}
    yield from (seen for step in found.steps for seen in judged[step])
    with_layer = [step for step in found.steps if step.has_layer]
    unknown = set[str]()
    for path, (layer, file) in found.seen.items():
        if not file.package:
            continue
        step = with_layer[layer] if len(with_layer) == len(found.layers) else None
        is_copied = step is None or step.instruction == "COPY"
        name = posixpath.basename(posixpath.dirname(path)).partition("-")[0]
        if not (name in _BUNDLED or (lock and is_copied) or (step and judged[step])):
            unknown.add(posixpath.dirname(path))
    if unknown:
        yield AuditSeen("unknown", f"how these were installed is not in its history: {_few(unknown)}")


def _cache(found: AuditedImage) -> Iterator[AuditSeen]:
    caches = {path: file.cache for path, file in found.every if file.cache}
    folders = {"/".join(path.split("/")[:4]) for path in caches}
    what = f"{size(sum(caches.values()))} of caches: {_few(folders)}"
    yield decided(not caches, "no layer has a cache of a package manager", what)


def _compilers(found: AuditedImage) -> Iterator[AuditSeen]:
    compilers = found.of("compiler")
    yield decided(not compilers, "has no compilers in its `bin` folders", f"has {_few(compilers)}")


def _healthcheck(found: AuditedImage) -> Iterator[AuditSeen]:
    health = found.config.running.healthcheck
    has_check = bool(health and health.test and health.test[0] != "NONE")
    yield decided(has_check, "has a health check", "has no health check")


def _setuid(found: AuditedImage) -> Iterator[AuditSeen]:
    programs = found.of("setuid")
    yield decided(not programs, "has no setuid or setgid programs", f"{len(programs)} programs: {_few(programs)}")


def _driver_library(found: AuditedImage) -> Iterator[AuditSeen]:
    path = found.config.running.variables.get("LD_LIBRARY_PATH", "")
    yield from judge_library_path(path)
    loader = [file.text or "" for name, (_, file) in found.seen.items() if name.startswith(LOADER)]
    searched = [line.strip().strip("/") for text in loader for line in text.splitlines()]
    for library in sorted(found.of("driver")):
        folder = posixpath.dirname(library)
        in_default = folder in _DEFAULT_FOLDERS or posixpath.dirname(folder) in _DEFAULT_FOLDERS[:4]
        if folder in searched or in_default or folder in (one.strip("/") for one in path.split(":")):
            yield AuditSeen("fail", f"the loader finds /{library}")
    if found.of("cuda") or found.of("driver"):
        yield AuditSeen("pass", "the loader finds no libcuda in the image")


def _requires(found: AuditedImage) -> Iterator[AuditSeen]:
    env = found.config.running.variables
    if is_disabled(env):
        yield AuditSeen("fail", DISABLED)
    elif needs := requirements(env):
        yield AuditSeen("pass", f"requires {', '.join(needs)[:100]}")
    elif found.of("cuda"):
        yield AuditSeen("fail", f"has CUDA ({_few(found.of('cuda'))}) and requires no driver")


def _few(paths: set[str]) -> str:
    return ", ".join(first_rows((f"/{path}" for path in sorted(paths)), 12))
