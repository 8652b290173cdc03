"""`mlship lock`: resolve requirements to exact versions with hashes, for the image rather than this machine."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mlship.engine.base import Engine
from mlship.errors import EngineError, LockError, UsageError
from mlship.files import sha256_text, write_atomic
from mlship.leftovers import temporary_folder
from mlship.lock.check import read_lock_text
from mlship.lock.compile import (
    CompileRequest,
    ResolverPlace,
    Upgrade,
    choose_place,
    compile_here,
    compile_in_image,
    resolver_version,
)
from mlship.lock.doubts import built_from_source, left_behind, warned_of, without_cpu_builds, written_by_another
from mlship.lock.gpu import FOR_CPU, LockTarget, can_reach, with_pages, without_cuda
from mlship.lock.hashes import Hashed, own_wheels, pinned_names, with_hashes
from mlship.lock.index import check_pages, project_files
from mlship.lock.indexes import read_pip_settings, with_declared
from mlship.lock.inputs import collect_inputs, read_inputs
from mlship.lock.measured import CodeCache, known_code, locked_wheels
from mlship.lock.pins import Pin, parse_lock, with_code
from mlship.lock.record import LockRecord, Trace, earlier_record
from mlship.lock.served_imports import unprovided_imports
from mlship.lock.trace import carry_over
from mlship.lock.wheel_modules import absent_modules, wheel_files
from mlship.lock.wheelhouse import Hashes
from mlship.project.base import base_name, base_reference, cuda_reference, record_name
from mlship.project.config import Config
from mlship.project.paths import leads_outside

_RETRIES = "2"  # pip's default of 5 takes minutes if the server of the pages does not respond
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[\w,.-]+\])?(==[\w.!+-]+)?")


@dataclass(frozen=True)
class Resolved:
    """A lock that was resolved and written.

    Attributes:
        previous: the pins before; empty for the first lock.
        traced: the earlier trace of packages that did not move; None without one. The record has it if none moved.
        doubts: sentences about packages that are locked, and may not be what the model needs.
    """

    record: LockRecord
    pins: tuple[Pin, ...]
    previous: tuple[Pin, ...]
    place: ResolverPlace
    traced: Trace | None = None
    doubts: tuple[str, ...] = ()


def resolve(
    repo: Path,
    config: Config,
    engine_factory: Callable[[], Engine],
    upgrade: Upgrade,
    cache: Path,
    target: LockTarget = FOR_CPU,
) -> Resolved:
    """Resolve, then write the requirements lock and `mlship.lock`. A failure leaves both as they were.

    Args:
        cache: mlship's cache folder, for hashes of local wheels.
        target: the CUDA to resolve for, which also judges the resolved pins.

    Raises:
        UsageError: the requirements conflict, do not exist or cannot be locked; or mlship did not write the lock file.
        TransientError: an index, a registry or the disk failed.
        EngineError, BuildError: from the engine.
        MatchError: the resolved pins do not run on the hosts.
    """
    if wrong := [name for name in upgrade.packages if not _PACKAGE.fullmatch(name)]:
        raise UsageError(f"--upgrade-package: {wrong[0]!r} is not a package", hint="give a name or name==version")
    inputs, files = collect_inputs(repo, config, target.key or None), read_inputs(repo, config)
    (previous, before), earlier = _previous(repo, config), earlier_record(repo, record_name(config))
    if target.key and earlier and earlier.inputs.get("cuda") != target.key:
        previous = without_cuda(before, target)
    engine = _engine(engine_factory, config)
    digest = _digest(config, engine, None if upgrade.all else earlier)
    settings = with_declared(read_pip_settings(), repo, files)
    pages = target.pages if target.key or can_reach(settings, target.pages) else ()
    if pages:
        settings = replace(with_pages(settings, pages), retries=settings.retries or _RETRIES)
    if target.key:
        check_pages(settings, pages, target.alone)
    question = CompileRequest(config, files, settings, upgrade, previous, target.limits)
    base = ResolvedBase(engine, f"{base_reference(config)}@{digest}", config.platform)
    place, hashed = _compile(question, base, before, cache)
    text, pins = hashed.text, _checked(hashed.text, config)
    measured = CodeCache(cache, config.platform)
    wheels = locked_wheels(hashed.pins, measured) if target.key else {}
    code = known_code(wheels, earlier, measured)
    images = {name: engine.resolve(cuda_reference(config, name)) for name in target.judge(with_code(pins, code))}
    resolver = f"pip-tools {resolver_version(place)}"
    traced, kept = carry_over(earlier.trace if earlier else None, before, pins)
    record = LockRecord(inputs, sha256_text(text), base_name(config), digest, resolver, images, hashed.sizes, kept)
    record = replace(record, wheels=wheels, code=code)
    write_atomic(repo / config.requirements.lock, text)
    record.write(repo, record_name(config))
    doubts = (*without_cpu_builds(pins, () if pages else target.pages), *_doubts(repo, question, hashed, pins))
    return Resolved(record, pins, before, place, traced, doubts)


def _doubts(repo: Path, question: CompileRequest, hashed: Hashed, pins: tuple[Pin, ...]) -> Iterator[str]:
    """Sentences about packages that are locked, and may not be what the model needs."""
    files, config, names_in = question.files, question.config, partial(wheel_files, question.settings)
    yield from absent_modules(files, hashed.pins, names_in)
    yield from unprovided_imports(repo, config, hashed.pins, names_in)
    yield from written_by_another(repo, config, pins)
    yield from warned_of(question.said, pins)
    yield from built_from_source(hashed.pins, config)
    yield from left_behind(files, pins, config, hashed.offered)


@dataclass(frozen=True)
class ResolvedBase:
    """The base image that a lock is made for; `reference` has its digest."""

    engine: Engine
    reference: str
    platform: str

    def python(self) -> str | None:
        """Full version of its Python, which official images declare; None if unknown."""
        environment = self.engine.image_environment(self.reference, self.platform) or {}
        return environment.get("PYTHON_VERSION")


def _compile(
    question: CompileRequest, base: ResolvedBase, before: tuple[Pin, ...], cache: Path
) -> tuple[ResolverPlace, Hashed]:
    """Resolve on this machine if it is like the base image, else in the base image; then add hashes."""
    place = choose_place(question.config)
    if place.local:
        hashed = _compile_at(place, question, base, before, cache)
        python = base.python()
        needs = hashed.needing_another(python) if python else {}
        if not needs:
            return place, hashed
        listed = ", ".join(f"{name} needs Python {need}" for name, need in sorted(needs.items()))
        place = ResolverPlace(local=False, reason=f"the base image has Python {python}, and {listed}")
    return place, _compile_at(place, question, base, before, cache)


def _compile_at(
    place: ResolverPlace, question: CompileRequest, base: ResolvedBase, before: tuple[Pin, ...], cache: Path
) -> Hashed:
    def run(question: CompileRequest) -> str:
        with temporary_folder("lock") as work:
            if place.local:
                return compile_here(question, work)
            return compile_in_image(question, base.engine, base.reference, work, cache)

    with ThreadPoolExecutor(1) as pool:  # most pins stay, so their pages can be read in the meantime
        early = pool.submit(project_files, question.settings, {pin.name for pin in before})
        text = run(question)
        files = early.result()
    files |= project_files(question.settings, {*pinned_names(text)} - files.keys())
    files |= own_wheels(question.files, files)
    hashes = Hashes(cache / "hashes.json")
    hashed = with_hashes(text, files, before, question.config, hashes.of)
    hashes.save()
    if hashed.missing:  # an index reports no hashes, or an address was required: pip-compile downloads what it must
        hashed = hashed.completed(run(replace(question, previous=text, upgrade=Upgrade(), hashes=True)))
    return hashed


def _previous(repo: Path, config: Config) -> tuple[str, tuple[Pin, ...]]:
    """The existing lock as text and pins; only files that `mlship lock` or pip-compile wrote are overwritten."""
    name = config.requirements.lock
    if leads_outside(repo, repo / name):
        raise UsageError(f"`{name}` is outside the repository", hint="correct `requirements.lock` in mlship.yaml")
    text = read_lock_text(repo / name) or ""
    if not text.strip():
        return "", ()
    if "autogenerated by pip-compile" not in text or "--hash=" not in text:
        raise UsageError(
            f"`{name}` was not written by `mlship lock`, so it is not overwritten",
            hint="set `requirements: {lock: requirements.lock.txt}` in mlship.yaml, or another unused name; "
            f"to lock the packages in `{name}`, set it as `requirements.input`",
        )
    try:
        return text, parse_lock(text, name)
    except LockError:
        return text, ()  # pip-compile keeps the pins that it can read


def _engine(engine_factory: Callable[[], Engine], config: Config) -> Engine:
    try:
        engine = engine_factory()
        engine.info()
    except EngineError as error:
        why = f"`mlship lock` needs the engine to look up the digest of the base image {base_reference(config)}"
        raise EngineError(f"{error.message}\n({why})", hint=error.hint) from error
    return engine


def _digest(config: Config, engine: Engine, earlier: LockRecord | None) -> str:
    """The base image's digest: kept like a pin while the registry has it, so that a small change rebuilds little."""
    reference = base_reference(config)
    if earlier and earlier.base == base_name(config):
        with suppress(UsageError, EngineError):  # the registry no longer has the image
            return engine.resolve(f"{reference}@{earlier.digest}")
    return engine.resolve(reference)


def _checked(text: str, config: Config) -> tuple[Pin, ...]:
    try:
        return parse_lock(text, config.requirements.lock)
    except LockError as error:
        why = f"the resolved packages cannot be installed with hash checking:\n{error.message}"
        hint = f"require packages from an index in `{config.requirements.input}`, then run `mlship lock` again"
        raise UsageError(why, hint=hint) from error
